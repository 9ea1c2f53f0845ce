"""The command `mtlora compare`: the paper's table at one's own scale; see docs/results.md."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlora.cli import options as o
from mtlora.cli.option_groups import with_options
from mtlora.cli.say import say
from mtlora.cli.train_options import LossOptions, ScheduleOptions, SetOptions, ShapeOptions, TrainOptions
from mtlora.training.adapters.recipe import PUBLISHED_EPOCHS
from mtlora.vocabulary.errors import TrainingError

if TYPE_CHECKING:
    from mtlora.training.adapters.config import TrainConfig

METHODS = "single,full,decoders,bitfit,lora,mtlora,mtlora+"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsOptions:
    """Which runs are compared."""

    data: o.DataOption
    out: o.OutOption
    backbone: o.BackboneOption = None
    methods: Annotated[str, typer.Option(help="Comma list of methods; see `mtlora train --method`.")] = METHODS
    ranks: Annotated[str, typer.Option(help="Comma list of ranks of the shared pairs.")] = "4,8,16"
    task_rank: Annotated[int, typer.Option(help="Rank of the task pairs.")] = 4
    seeds: Annotated[str, typer.Option(help="Comma list of seeds; more than one gives the spread.")] = "0"
    tasks: o.TasksOption = "semseg,human_parts,saliency,normals"


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions:
    """What all runs see, and with which shapes."""

    split: o.SplitOption = "train"
    photos: Annotated[int, typer.Option(help="Train on so many photos, evenly from the list; 0: all.")] = 0
    val_split: Annotated[str, typer.Option(help="Split that is scored.")] = "val"
    val_photos: Annotated[int, typer.Option(help="Score so many photos, evenly from the list; 0: all.")] = 0
    image_size: Annotated[int, typer.Option(help="Input side in pixels, in scoring.")] = 224
    image_side: Annotated[int, typer.Option(help="Input side in training; 0: --image-size.")] = 0
    scaling: Annotated[float, typer.Option(help="Multiplier of B A x.")] = 4.0
    decoder: Annotated[str, typer.Option(help="hrnet, segformer or aspp.")] = "hrnet"
    decoder_channels: o.ChannelsOption = "18,36,72,144"


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsOptions:
    """How long each run is, and what a step does to the weights."""

    steps: o.StepsOption = 0
    epochs: o.EpochsOption = float(PUBLISHED_EPOCHS)
    batch: o.BatchOption = 16
    lr: o.LrOption = 0.0
    ema: o.EmaOption = 0.0
    drop_path: o.DropPathOption = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineOptions:
    """Where the runs compute."""

    processes: o.ProcessesOption = 1
    device: o.DeviceOption = "auto"
    precision: o.PrecisionOption = "auto"
    cache: o.CacheOption = Path("runs/cache")


@dataclass(frozen=True, slots=True, kw_only=True)
class CompareOptions:
    """All of them, in the order in which the help lists them."""

    runs: RunsOptions
    input: InputOptions
    steps: StepsOptions
    loss: LossOptions
    machine: MachineOptions
    page: Annotated[Path | None, typer.Option(help="Also put the table between the marks of this page.")] = None
    report_only: Annotated[bool, typer.Option("--report-only", help="Train nothing: report what is finished.")] = False


@with_options
def compare(options: CompareOptions) -> None:
    """Train and score the methods of the paper alike; writes OUT/results.md and pareto.svg. Run it again to go on."""
    from mtlora.comparison.cells import plan, read_result, run_cells
    from mtlora.comparison.page import PICTURE_FILE, fill_page, write_report
    from mtlora.training.adapters.methods import Method
    from mtlora.vocabulary.tasks import parse_tasks

    runs, seen = options.runs, options.input
    base = _base(options)
    wanted = [o.member(Method, name, "method") for name in _names(runs.methods)]
    cells = plan(wanted, _numbers(runs.ranks, "ranks"), _numbers(runs.seeds, "seeds"), base.spec.task_names)
    if not options.report_only:
        run_cells(cells, base, runs.out, val_split=seen.val_split, val_photos=seen.val_photos, say=say)
    results = [result for cell in cells if (result := read_result(cell, runs.out)) is not None]
    if not results:
        raise TrainingError(f"nothing is finished in {runs.out}")
    steps = f"each {base.loop.steps} steps of {options.steps.batch} photos at {base.side} px"
    facts = [f"{len(results)} of {len(cells)} runs, {steps}"]
    tasks = ", ".join(parse_tasks(runs.tasks))
    facts.append(f"scored on {seen.val_split} at {seen.image_size} px; seeds {runs.seeds}; tasks {tasks}")
    text = write_report(results, base.spec.task_names, runs.out, facts)
    if options.page is not None:
        fill_page(options.page, text, runs.out / PICTURE_FILE)
    say(*text.splitlines())


def _base(options: CompareOptions) -> "TrainConfig":
    """Settings that all runs share; what is not an option here is as `mtlora train` has it."""
    from mtlora.cli.train import make_config

    runs, seen, steps, machine = options.runs, options.input, options.steps, options.machine
    return make_config(
        TrainOptions(
            set=SetOptions(data=runs.data, out=runs.out, backbone=runs.backbone, tasks=runs.tasks, split=seen.split),
            shape=ShapeOptions(
                image_size=seen.image_size,
                image_side=seen.image_side,
                ranks=",".join([str(max(_numbers(runs.ranks, "ranks"), default=4))] * 4),
                task_ranks=",".join([str(runs.task_rank)] * 4),
                scaling=seen.scaling,
                decoder=seen.decoder,
                decoder_channels=seen.decoder_channels,
            ),
            schedule=ScheduleOptions(
                recipe="paper",
                photos=seen.photos,
                steps=steps.steps,
                epochs=steps.epochs,
                batch=steps.batch,
                lr=steps.lr,
                ema=steps.ema,
                drop_path=steps.drop_path,
            ),
            loss=options.loss,
            run=o.RunOptions(
                processes=machine.processes,
                device=machine.device,
                precision=machine.precision,
                cache=machine.cache,
                save_every=50,
                tensorboard=False,
            ),
        )
    )


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str, what: str) -> list[int]:
    try:
        return [int(part) for part in _names(text)]
    except ValueError:
        raise TrainingError(f"{what}: whole numbers with commas are needed, got {text!r}") from None
