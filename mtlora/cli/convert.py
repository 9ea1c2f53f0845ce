"""The command `mtlora convert`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from mtlora.cli.adamtl import convert_model, refuse_model
from mtlora.cli.backbone import StorageType, WeightsOption
from mtlora.cli.hub import fetch, is_hub
from mtlora.cli.option_groups import with_options
from mtlora.cli.say import say
from mtlora.vocabulary.errors import ConversionError


@dataclass(frozen=True, slots=True, kw_only=True)
class ConvertOptions:
    """Options of `mtlora convert`."""

    checkpoint: Annotated[
        str,
        typer.Argument(help="Published checkpoint; its pickle is never run. Or hf://ORG/REPO/FILE.safetensors."),
    ]
    adapter_out: Annotated[Path | None, typer.Option(help="MTLoRA: adapter file to write (.safetensors).")] = None
    backbone_out: Annotated[Path | None, typer.Option(help="MTLoRA: backbone file to write (.safetensors).")] = None
    model_out: Annotated[Path | None, typer.Option(help="AdaMTL: model file to write (.safetensors).")] = None
    config: Annotated[Path | None, typer.Option(help="YAML that adds to or replaces the checkpoint's config.")] = None
    tasks: Annotated[str, typer.Option(help="Comma list of tasks; default: all.")] = ""
    name: Annotated[str, typer.Option(help="Name the set carries, such as street-scenes.")] = ""
    dtype: Annotated[StorageType, typer.Option(help="Storage type of the adapter or model file.")] = StorageType.FLOAT32
    weights: WeightsOption = ""


@with_options
def convert(options: ConvertOptions) -> None:
    """Turn a published MTLoRA checkpoint into a backbone and an adapter file, or AdaMTL's into a model file."""
    from mtlora.vocabulary.tasks import parse_tasks

    sets = options.adapter_out is not None and options.backbone_out is not None and options.model_out is None
    model = options.adapter_out is None and options.backbone_out is None and options.model_out is not None
    if not sets and not model:
        raise ConversionError("give --adapter-out and --backbone-out (MTLoRA), or --model-out alone (AdaMTL)")
    wanted = parse_tasks(options.tasks)
    origin: dict[str, str] = {}
    checkpoint = Path(options.checkpoint)
    if is_hub(options.checkpoint):
        fetched = fetch(options.checkpoint)
        checkpoint, origin = fetched.path, {"hub": fetched.source, "sha256": fetched.digest}
        say(f"{fetched.source}: sha256 {fetched.digest}")
    if options.model_out is not None:
        config, dtype, weights = options.config, options.dtype, options.weights
        convert_model(checkpoint, options.model_out, config, wanted, options.name, dtype, weights)
    elif options.adapter_out is not None and options.backbone_out is not None:
        _convert_set(checkpoint, options.adapter_out, options.backbone_out, options, origin)


def _convert_set(
    checkpoint: Path, adapter_out: Path, backbone_out: Path, options: ConvertOptions, origin: dict[str, str]
) -> None:
    """Write both files, and say what is in them; origin: more for the set's provenance."""
    import torch

    from mtlora.vocabulary.tasks import parse_tasks
    from mtlora.weights.adapter_file import parameter_counts, save_adapter
    from mtlora.weights.backbone import save_backbone
    from mtlora.weights.convert import convert_checkpoint

    refuse_model(checkpoint, options.weights)
    tasks = parse_tasks(options.tasks)
    converted = convert_checkpoint(checkpoint, config=options.config, tasks=tasks, weights=options.weights, tell=say)
    save_backbone(converted.backbone, backbone_out)
    digest = save_adapter(
        adapter_out,
        converted.spec,
        converted.tensors,
        backbone_name=converted.spec.backbone.name,
        backbone_fingerprint=converted.backbone.fingerprint(converted.spec),
        name=options.name,
        provenance=converted.provenance | origin,
        dtype=getattr(torch, options.dtype.value),
    )
    counts = parameter_counts(converted.spec)._asdict()
    say(f"{backbone_out}: {converted.spec.backbone.name}, {backbone_out.stat().st_size / 1e6:.1f} MB")
    say(f"{adapter_out}: {', '.join(converted.spec.task_names)}, {adapter_out.stat().st_size / 1e6:.1f} MB")
    say("counts: " + ", ".join(f"{name} {number:,}" for name, number in counts.items()))
    say(f"digest {digest}")
