"""The command `mtlora compare`: the paper's table at one's own scale; see docs/results.md."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlora.cli import options as o
from mtlora.cli.say import say
from mtlora.vocabulary.errors import TrainingError

if TYPE_CHECKING:
    from mtlora.training.adapters.config import TrainConfig

METHODS = "single,full,decoders,bitfit,lora,mtlora,mtlora+"


def compare(  # noqa: PLR0913 (a command's options)
    data: o.DataOption,
    out: o.OutOption,
    backbone: o.BackboneOption = None,
    methods: Annotated[str, typer.Option(help="Comma list of methods; see `mtlora train --method`.")] = METHODS,
    ranks: Annotated[str, typer.Option(help="Comma list of ranks of the shared pairs.")] = "4,8,16",
    task_rank: Annotated[int, typer.Option(help="Rank of the task pairs.")] = 4,
    seeds: Annotated[str, typer.Option(help="Comma list of seeds; more than one gives the spread.")] = "0",
    tasks: o.TasksOption = "semseg,human_parts,saliency,normals",
    split: o.SplitOption = "train",
    photos: Annotated[int, typer.Option(help="Train on so many photos, evenly from the list; 0: all.")] = 0,
    val_split: Annotated[str, typer.Option(help="Split that is scored.")] = "val",
    val_photos: Annotated[int, typer.Option(help="Score so many photos, evenly from the list; 0: all.")] = 0,
    image_size: Annotated[int, typer.Option(help="Input side in pixels, in scoring.")] = 224,
    image_side: Annotated[int, typer.Option(help="Input side in training; 0: --image-size.")] = 0,
    scaling: Annotated[float, typer.Option(help="Multiplier of B A x.")] = 4.0,
    decoder: Annotated[str, typer.Option(help="hrnet, segformer or aspp.")] = "hrnet",
    decoder_channels: o.ChannelsOption = "18,36,72,144",
    steps: o.StepsOption = 0,
    epochs: o.EpochsOption = float(o.PUBLISHED_EPOCHS),
    batch: o.BatchOption = 16,
    lr: o.LrOption = 0.0,
    ema: o.EmaOption = 0.0,
    drop_path: o.DropPathOption = 0.2,
    label_stride: Annotated[int, typer.Option(help="Take losses at 1/N of the input's side (faster).")] = 1,
    loss_weights: o.WeightsOption = "",
    class_balance: o.ClassBalanceOption = 0.0,
    processes: o.ProcessesOption = 1,
    device: o.DeviceOption = "auto",
    precision: o.PrecisionOption = "auto",
    cache: o.CacheOption = Path("runs/cache"),
    page: Annotated[Path | None, typer.Option(help="Also put the table between the marks of this page.")] = None,
    report_only: Annotated[bool, typer.Option("--report-only", help="Train nothing: report what is finished.")] = False,
) -> None:
    """Train and score the methods of the paper alike; writes OUT/results.md and pareto.svg. Run it again to go on."""
    from mtlora.comparison.cells import plan, read_result, run_cells
    from mtlora.comparison.page import PICTURE_FILE, fill_page, write_report
    from mtlora.training.adapters.methods import Method
    from mtlora.vocabulary.tasks import parse_tasks

    base = _base(locals())
    wanted = [o.member(Method, name, "method") for name in _names(methods)]
    cells = plan(wanted, _numbers(ranks, "ranks"), _numbers(seeds, "seeds"), base.spec.task_names)
    if not report_only:
        run_cells(cells, base, out, val_split=val_split, val_photos=val_photos, say=say)
    results = [result for cell in cells if (result := read_result(cell, out)) is not None]
    if not results:
        raise TrainingError(f"nothing is finished in {out}")
    facts = [f"{len(results)} of {len(cells)} runs, each {base.loop.steps} steps of {batch} photos at {base.side} px"]
    facts.append(f"scored on {val_split} at {image_size} px; seeds {seeds}; tasks {', '.join(parse_tasks(tasks))}")
    text = write_report(results, base.spec.task_names, out, facts)
    if page is not None:
        fill_page(page, text, out / PICTURE_FILE)
    say(*text.splitlines())


def _base(given: dict[str, Any]) -> "TrainConfig":
    """Settings that all runs share."""
    from mtlora.cli.train import make_config

    same = {"method": "mtlora", "seed": 0, "name": "", "semseg_classes": "", "antialias": True, "init": None}
    same |= {"ranks": ",".join([str(max(_numbers(given["ranks"], "ranks"), default=4))] * 4)}
    same |= {"task_ranks": ",".join([str(given["task_rank"])] * 4), "accumulate": 1, "recompute": False}
    same |= {"warmup": -1, "hold": 0.0, "final_lr": 0.01, "weight_decay": 0.05, "jitter": 0.0}
    same |= {"rotate": 20.0, "zoom": "0.75,1.25"}
    same |= {"val_every": 0, "patience": 0, "teacher": None, "teacher_backbone": None, "soft_labels": None}
    same |= {"distill": 1.0, "temperature": 2.0, "save_every": 50, "log_every": 10, "tensorboard": False}
    return make_config(given | same)


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _numbers(text: str, what: str) -> list[int]:
    try:
        return [int(part) for part in _names(text)]
    except ValueError:
        raise TrainingError(f"{what}: whole numbers with commas are needed, got {text!r}") from None
