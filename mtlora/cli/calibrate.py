"""The command `mtlora calibrate`; see docs/training.md."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mtlora.cli import options as o
from mtlora.cli.option_groups import with_options
from mtlora.cli.say import say
from mtlora.vocabulary.errors import TrainingError

if TYPE_CHECKING:
    from mtlora.data.records import PhotoDataset
    from mtlora.vocabulary.policy import CalibrationPoint
    from mtlora.weights.adapter_file import AdapterSet
    from mtlora.weights.backbone import Backbone


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrateOptions:
    """What is calibrated, on which photos."""

    adapter: Annotated[
        str, typer.Argument(help="Adapter file with a policy (with --fixed: any), or a bundled set's name.")
    ]
    data: Annotated[Path, typer.Option(help="Dataset folder, or a folder of photos without labels.")]
    out: Annotated[Path, typer.Option(help="Adapter file to write: the same set, calibrated.")]
    backbone: o.BackboneOption = None
    split: o.SplitOption = "val"
    photos: Annotated[int, typer.Option(help="So many photos, evenly from the list; 0: all.")] = 300
    budgets: Annotated[str, typer.Option(help="Shares of the compute, with commas.")] = "0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"
    scores: Annotated[bool, typer.Option(help="Score each budget where there are labels.")] = True
    default: Annotated[
        float, typer.Option(help="Share that servers compute of requests that say nothing; 0: as the set has it.")
    ] = 0.0
    fixed: Annotated[
        bool,
        typer.Option(help="Make the policy: the same blocks for all photos, in the order that does the least harm."),
    ] = False
    fixed_photos: Annotated[int, typer.Option(help="Photos that --fixed looks at.")] = 24
    device: o.DeviceOption = "auto"


@with_options
def calibrate(options: CalibrateOptions) -> None:
    """Find the thresholds at which a set's policy keeps a budget on average, and store them in a new file."""
    from mtlora.cli.progress import bar
    from mtlora.evaluation.calibrate import calibrate as run
    from mtlora.prediction.gated import build_plain
    from mtlora.weights.adapter_file import AdapterManifest, load_adapter, write_adapter
    from mtlora.weights.backbone import load_backbone
    from mtlora.weights.bundled import find_adapter, find_backbone

    loaded = load_adapter(find_adapter(options.adapter))
    backbone = load_backbone(find_backbone(options.backbone)).to(o.device_name(options.device))
    budgets = _budgets(options.budgets)
    if options.default and not min(budgets) <= options.default <= 1:  # before photos are looked at for minutes
        raise TrainingError(f"--default must be within --budgets, {min(budgets):g} to 1, got {options.default:g}")
    dataset = _photos(options).spread(options.photos)
    if options.fixed:
        loaded = _fixed(backbone, loaded, dataset.spread(options.fixed_photos))
    model, policy = build_plain(backbone, loaded)
    scored = [task for task in model.spec.task_names if dataset.count(task)] if options.scores else []
    with bar("calibrate") as progress:
        found = run(model, policy.usually(None), dataset, budgets, scored=scored, progress=progress)
    found = found.usually(options.default or policy.default_compute)
    manifest = AdapterManifest(**{**dict(loaded.manifest), "policy": found})
    dtype = next(iter(loaded.tensors.values())).dtype
    digest = write_adapter(options.out, manifest, loaded.tensors | loaded.policy_tensors, dtype)
    say(*(_line(point) for point in found.calibration))
    say(f"{options.out}: calibrated on {len(dataset)} photos, digest {digest}")


def _fixed(backbone: "Backbone", loaded: "AdapterSet", photos: "PhotoDataset") -> "AdapterSet":
    """The set with a policy that leaves out the same blocks of all photos."""
    from mtlora.cli.progress import bar
    from mtlora.evaluation.block_order import order_of_blocks
    from mtlora.model.policy.fixed import FIXED, fixed_policy
    from mtlora.vocabulary.policy import Policy
    from mtlora.weights.adapter_file import AdapterManifest, needed_version

    spec = loaded.manifest.spec
    with bar("measure") as progress:
        order = order_of_blocks(backbone, loaded, photos, progress=progress)
    say("left out first: " + ", ".join(f"stage {stage} block {index}" for stage, index in order))
    policy = Policy(**FIXED.model_dump())
    manifest = {**dict(loaded.manifest), "policy": policy, "format_version": needed_version(spec, policy)}
    return replace(loaded, manifest=AdapterManifest(**manifest), policy_tensors=fixed_policy(spec, order))


def _photos(options: CalibrateOptions) -> "PhotoDataset":
    from mtlora.data.layout import LAYOUTS, open_dataset, open_photos

    is_dataset = any((options.data / layout.SPLITS).is_dir() for layout in LAYOUTS)
    return open_dataset(options.data, options.split) if is_dataset else open_photos(options.data)


def _budgets(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise TrainingError(f"--budgets needs numbers with commas such as 0.4,0.6,1, got {text!r}") from None


def _line(point: "CalibrationPoint") -> str:
    scores = "".join(f", {task} {score:.4g}" for task, score in point.scores.items())
    shares = f"shares {point.share_p5:.2f} {point.share_p50:.2f} {point.share_p95:.2f}"
    return f"compute {point.compute:g}: threshold {point.threshold:.3f}, {shares} (5th, 50th, 95th percentile){scores}"
