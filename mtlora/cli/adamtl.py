"""What `mtlora convert`, `forward` and `info` do with AdaMTL models."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlora.cli.arrays import INPUT, checked_input, read_archive
from mtlora.cli.backbone import StorageType
from mtlora.cli.option_groups import Needs
from mtlora.cli.say import say
from mtlora.vocabulary.errors import ConversionError, MTLoRAError
from mtlora.vocabulary.shown import shown

if TYPE_CHECKING:
    from mtlora.adamtl.model import AdaModel, AdaOutput
    from mtlora.adamtl.noise import GivenNoise, Noise
    from mtlora.adamtl.spec import AdaSpec
    from mtlora.vocabulary.tasks import Task

_NOISE_PREFIXES = ("noise/", "block_noise/", "token_noise/")
_NOISE = re.compile(r"(?:noise/)?(?P<kind>block|token)_noise/(?P<owner>[a-z_]+)/s(?P<stage>[0-3])")
MAX_SEED = 2**31 - 1
_SELECTORS = {"blocks": "ada_blocks", "tokens": "ada_tokens"}


class Gating(StrEnum):
    """What is added to the logits of gates."""

    AUTO = "auto"  # given where the input has noise, else deterministic
    DETERMINISTIC = "deterministic"  # nothing
    SAMPLED = "sampled"  # noise, drawn with the seed
    GIVEN = "given"  # noise of the input file


@dataclass(frozen=True, slots=True, kw_only=True)
class GatingOptions:
    """How an AdaMTL model's gates are run, and whether they are told."""

    gates: Annotated[bool, typer.Option("--gates", help="AdaMTL: write gates, features and multiply-adds too.")] = False
    gating: Annotated[Gating, typer.Option(help="AdaMTL: auto takes the input's noise, or else none.")] = Gating.AUTO
    seed: Annotated[
        int,
        typer.Option(min=0, max=MAX_SEED, help="AdaMTL: of the noise of --gating sampled."),
        Needs(("gating",), Gating.SAMPLED),
    ] = 0
    without: Annotated[str, typer.Option(help="AdaMTL: selectors to leave out: blocks, tokens or both.")] = ""
    dense: Annotated[bool, typer.Option("--dense", help="AdaMTL: compute everything, whatever the gates say.")] = False


def convert_model(
    checkpoint: Path,
    out: Path,
    config: Path | None,
    tasks: "tuple[Task, ...]",
    name: str,
    dtype: StorageType,
    weights: str = "",
) -> None:
    """Convert an AdaMTL checkpoint to a model file, and say what it is."""
    import torch

    from mtlora.adamtl.conversion import convert_adamtl, is_adamtl
    from mtlora.adamtl.file import save_ada_file
    from mtlora.weights.checkpoint.container import open_checkpoint

    if not is_adamtl(open_checkpoint(checkpoint), weights):
        raise ConversionError(
            f"{shown(checkpoint.name)} has none of AdaMTL's decoders; "
            "for an MTLoRA checkpoint give --adapter-out and --backbone-out instead of --model-out"
        )
    converted = convert_adamtl(checkpoint, config=config, tasks=tasks, name=name, weights=weights, tell=say)
    save_ada_file(out, converted.manifest, converted.tensors, getattr(torch, dtype.value))
    spec = converted.manifest.spec
    say(f"{out}: {spec.backbone.name}, {', '.join(spec.task_names)}, {out.stat().st_size / 1e6:.1f} MB")
    say(f"gates: {_gates_line(spec)}")


def refuse_model(checkpoint: Path, weights: str = "") -> None:
    """`ConversionError` if a checkpoint that shall become an adapter set is AdaMTL's."""
    from mtlora.adamtl.conversion import is_adamtl
    from mtlora.weights.checkpoint.container import open_checkpoint

    if is_adamtl(open_checkpoint(checkpoint), weights):
        raise ConversionError(
            f"{shown(checkpoint.name)} is an AdaMTL checkpoint: give --model-out instead of "
            "--adapter-out and --backbone-out"
        )


def forward_model(path: Path, input_file: Path, tasks: "tuple[Task, ...]", options: GatingOptions) -> dict[str, Any]:
    """Arrays of a forward pass, one image at a time, so that none depends on the others: logits, and gates if asked."""
    import torch

    from mtlora.adamtl.file import load_ada_file

    loaded = load_ada_file(path)
    spec = _switched(loaded.manifest.spec, options)
    arrays = read_archive(input_file, _NOISE_PREFIXES)
    x = torch.from_numpy(checked_input(arrays[INPUT], spec.image_size))
    given = _given_noise(spec, arrays, len(x)) if options.gating in (Gating.AUTO, Gating.GIVEN) else None
    if options.gating is Gating.GIVEN and given is None:
        raise MTLoRAError(f"--gating given needs arrays such as noise/block_noise/OWNER/s0 in {input_file}")
    model = _built(spec, loaded.tensors)
    wanted = spec.select(tasks)
    with torch.inference_mode():
        outputs = [model(x[i : i + 1], wanted, noise=_noise(options, given, i)) for i in range(len(x))]
    results = {f"logits_{task}": torch.cat([o.logits[task] for o in outputs]).numpy() for task in wanted}
    return results | _gate_arrays(spec, outputs) if options.gates else results


def describe_model(path: Path) -> dict[str, Any]:
    """What an AdaMTL model's file holds, as a JSON object; the whole file is checked."""
    from mtlora.adamtl.cost import encoder_multiply_adds, static_multiply_adds
    from mtlora.adamtl.file import load_ada_file
    from mtlora.adamtl.shapes import is_policy
    from mtlora.vocabulary.model_shapes import is_statistic

    loaded = load_ada_file(path)
    manifest, spec = loaded.manifest, loaded.manifest.spec
    sizes = {name: tensor.numel() for name, tensor in loaded.tensors.items() if not is_statistic(name)}
    return {
        "kind": manifest.kind,
        "file": str(path),
        "name": manifest.name,
        "bytes": path.stat().st_size,
        "format_version": manifest.format_version,
        "image_size": spec.image_size,
        "tasks": [{"task": task.task.value, "outputs": task.outputs} for task in spec.tasks],
        "gates": _gates_line(spec),
        "backbone": spec.backbone.model_dump(mode="json"),
        "quirks": [name for name, on in spec.quirks.model_dump().items() if on],
        "counts": {
            "total": sum(sizes.values()),
            "policy": sum(size for name, size in sizes.items() if is_policy(name)),
            "decoder": sum(size for name, size in sizes.items() if name.startswith("decoders.")),
        },
        "multiply_adds": {"all": int(static_multiply_adds(spec)), "encoder": int(encoder_multiply_adds(spec))},
        "provenance": dict(manifest.provenance),
        "spec": spec.model_dump(mode="json"),
    }


def _gates_line(spec: "AdaSpec") -> str:
    kinds = [kind for kind, on in (("blocks", spec.ada_blocks), ("tokens", spec.ada_tokens)) if on]
    if not kinds:
        return "none"
    acting = "" if spec.adaptive else ", computed only: every block runs in full"
    return f"{' and '.join(kinds)}, policy {spec.policy.value}{acting}"


def _switched(spec: "AdaSpec", options: GatingOptions) -> "AdaSpec":
    """The spec with what the options switch off."""
    changes: dict[str, object] = {}
    for kind in filter(None, (part.strip() for part in options.without.split(","))):
        if kind not in _SELECTORS:
            raise MTLoRAError(f"--without takes {' and '.join(_SELECTORS)}, with a comma between, got {kind!r}")
        changes[_SELECTORS[kind]] = False
    return spec.switched(**changes, **({"adaptive": False} if options.dense else {}))


def _built(spec: "AdaSpec", tensors: Mapping[str, Any]) -> "AdaModel":
    from mtlora.adamtl.model import build_ada_model
    from mtlora.adamtl.shapes import adamtl_shapes

    return build_ada_model(spec, {name: tensors[name] for name in adamtl_shapes(spec)})


def _noise(options: GatingOptions, given: "GivenNoise | None", image: int) -> "Noise":
    """The noise of one image."""
    from mtlora.adamtl.noise import ImageNoise, NoNoise

    if given is not None:
        return given.images(image, image + 1)
    if options.gating is Gating.SAMPLED:
        return ImageNoise.seeded(options.seed, range(image, image + 1))
    return NoNoise()


def _given_noise(spec: "AdaSpec", arrays: Mapping[str, Any], images: int) -> "GivenNoise | None":
    """The noise among an archive's arrays; None if there is none."""
    import numpy as np
    import torch

    from mtlora.adamtl.noise import GivenNoise

    noise: dict[str, dict[tuple[str, int], Any]] = {"block": {}, "token": {}}
    for name, array in arrays.items():
        match = _NOISE.fullmatch(name)
        if match is None:
            if name.startswith("noise/"):
                raise MTLoRAError(
                    f"{shown(name)}: noise is called noise/block_noise/OWNER/s0, or token_noise, s0 to s3"
                )
            continue
        stage = int(match["stage"])
        depth = spec.backbone.depths[stage]
        shape = (images, depth) if match["kind"] == "block" else (images, depth, spec.stage_tokens[stage])
        if array.shape != shape or array.dtype.kind != "f":
            raise MTLoRAError(f"{name} must be float {list(shape)}, got {array.dtype} {list(array.shape)}")
        noise[match["kind"]][_owner(spec, match["owner"], name), stage] = torch.from_numpy(array.astype(np.float32))
    return GivenNoise(noise["block"], noise["token"]) if any(noise.values()) else None


def _owner(spec: "AdaSpec", text: str, name: str) -> str:
    """The owner of a selector by our name or the published one."""
    from mtlora.adamtl.spec import SHARED
    from mtlora.vocabulary.errors import TaskError
    from mtlora.vocabulary.tasks import parse_task

    try:
        owner = text if text == SHARED else parse_task(text).value
    except TaskError:
        owner = ""
    if owner not in spec.owners:
        raise MTLoRAError(f"{name}: selectors of this model belong to {', '.join(spec.owners)}, not to {text!r}")
    return owner


def _gate_arrays(spec: "AdaSpec", outputs: "list[AdaOutput]") -> dict[str, Any]:
    """Gates as used, features, and multiply-adds of all images."""
    import torch

    from mtlora.adamtl.cost import multiply_adds

    arrays: dict[str, Any] = {}
    for stage in range(4):
        arrays[f"block_gate/s{stage}"] = torch.cat([o.decisions[stage].blocks for o in outputs]).numpy()
        arrays[f"token_gate/s{stage}"] = torch.cat([o.decisions[stage].tokens for o in outputs]).numpy()
        arrays[f"features/s{stage}"] = torch.cat([o.features[stage] for o in outputs]).numpy()
    arrays["multiply_adds"] = torch.cat([multiply_adds(spec, o.decisions) for o in outputs]).numpy()
    return arrays
