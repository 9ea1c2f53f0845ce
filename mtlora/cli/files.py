"""The commands that work on files: `mtlora forward`, `info` and `predict`."""

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtlora.cli.adamtl import GatingOptions, describe_model, forward_model
from mtlora.cli.arrays import input_array, save_arrays
from mtlora.cli.option_groups import with_options
from mtlora.cli.options import ComputeOption, SpendingOption, TilesOption, gated
from mtlora.cli.prelabels import AsOption, check_tool, write_for_tool
from mtlora.cli.say import say, say_json, say_text
from mtlora.vocabulary.errors import ImageError, MTLoRAError, OptionError
from mtlora.vocabulary.shown import shown

if TYPE_CHECKING:
    from mtlora.prediction.adapted import Adapted
    from mtlora.prediction.gated import Gated
    from mtlora.vocabulary.policy import Policy
    from mtlora.vocabulary.tasks import Task
    from mtlora.weights.adapter_file import AdapterSet
    from mtlora.weights.backbone import Backbone

TasksOption = Annotated[str, typer.Option(help="Comma list of tasks; default: all.")]
AdapterOption = Annotated[str, typer.Option(help="Bundled adapter set's name, or a .safetensors file.")]
BackboneOption = Annotated[Path | None, typer.Option(help="Backbone file; default: the bundled one.")]
UNSAID_SPENDING = "each"


@dataclass(frozen=True, slots=True, kw_only=True)
class ForwardOptions:
    """Options of `mtlora forward`."""

    backbone: Annotated[Path | None, typer.Option(help="Backbone file (.safetensors), with --adapter.")] = None
    adapter: Annotated[Path | None, typer.Option(help="Adapter file (.safetensors), with --backbone.")] = None
    model: Annotated[Path | None, typer.Option(help="AdaMTL model file (.safetensors), alone.")] = None
    input_file: Annotated[Path, typer.Option("--input", help=".npz with `input`, float32 [N, 3, S, S], normalised.")]
    output: Annotated[Path, typer.Option(help=".npz to write: `logits_{task}`, float32 [N, K, S, S].")]
    tasks: TasksOption = ""
    compute: ComputeOption = 0.0
    spending: SpendingOption = UNSAID_SPENDING
    gating: GatingOptions


@with_options
def forward(options: ForwardOptions) -> None:
    """Run the model on a prepared array, to check a conversion number by number."""
    from mtlora.vocabulary.tasks import parse_tasks

    wanted = parse_tasks(options.tasks)
    if options.model is not None and options.backbone is None and options.adapter is None:
        if options.compute:
            raise MTLoRAError("--compute is of adapter sets with a policy; an AdaMTL model has --gating")
        arrays = forward_model(options.model, options.input_file, wanted, options.gating)
    elif options.backbone is None or options.adapter is None or options.model is not None:
        raise MTLoRAError("give --backbone and --adapter, or --model alone (AdaMTL)")
    elif options.gating != GatingOptions():
        raise MTLoRAError("an adapter set has no gates: --gates, --gating, --seed, --without and --dense need --model")
    else:
        arrays = _forward_set(
            _model(options.backbone, options.adapter, options.compute, options.spending), options.input_file, wanted
        )
    save_arrays(options.output, arrays)
    for key, array in arrays.items():
        say(f"{key} {list(array.shape)}: {array.min():.5g} to {array.max():.5g}")


def _forward_set(model: "Adapted | Gated", input_file: Path, tasks: "tuple[Task, ...]") -> dict[str, Any]:
    import torch

    x = torch.from_numpy(input_array(input_file, model.spec.image_size))
    wanted = model.spec.select(tasks)
    with torch.inference_mode():
        results = [model(sample[None], wanted) for sample in x]
    return {f"logits_{task}": torch.cat([result[task] for result in results]).numpy() for task in wanted}


def info(
    file: Annotated[
        str, typer.Argument(help="Adapter file or bundled name, or backbone file; none: the installation.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what is in an adapter file or a backbone file, and what it takes of memory; the whole file is checked.

    Without a file: versions, threads, and which native kernels run here, if any.
    """
    described = _describe(file) if file else _installation()
    if as_json:
        say_json(described)
        return
    described.pop("spec", None)
    for key, value in described.items():
        if key in ("counts", "device_bytes"):
            say(_numbers_line(key, value))
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            say(f"{key}:")
            for item in value:
                say(f"  {_plain(item)}")
        else:
            say(f"{key}: {_plain(value)}")


def _installation() -> dict[str, Any]:
    import torch

    from mtlora.kernels import status
    from mtlora.version import __version__

    return {
        "mtlora": __version__,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "native_kernels": status().instruction_set or "none",
        "why": status().reason,
    }


def predict(  # noqa: PLR0913 (a command's options)
    photos: Annotated[list[Path], typer.Argument(help="Photos: JPEG, PNG, WebP, BMP, TIFF, GIF.")],
    adapter: AdapterOption,
    out: Annotated[Path, typer.Option(help="Folder for the maps, written as PHOTO.TASK.png.")],
    tasks: TasksOption = "",
    backbone: BackboneOption = None,
    compute: ComputeOption = 0.0,
    spending: SpendingOption = UNSAID_SPENDING,
    tiles: TilesOption = "",
    tool: AsOption = "",
) -> None:
    """Predict the maps of photos, offline, as PNG files of the photos' size."""
    from mtlora.annotations.prelabels import MapFile
    from mtlora.prediction.predict import tiling_of
    from mtlora.vocabulary.tasks import parse_tasks
    from mtlora.weights.bundled import find_adapter, find_backbone

    if spending != UNSAID_SPENDING and not compute:
        raise OptionError(f"--spending {spending} says nothing without --compute: give both, or leave it away")
    check_tool(tool)
    tiling_of(tiles or None)
    model = _model(find_backbone(backbone), find_adapter(adapter), compute, spending)
    wanted = model.spec.select(parse_tasks(tasks))
    out.mkdir(parents=True, exist_ok=True)
    stems = [photo.stem for photo in photos]
    failed = 0
    maps: dict[Task, list[MapFile]] = {}
    for photo in photos:
        base = photo.stem if stems.count(photo.stem) == 1 else photo.name
        try:
            for task, path in _predict_one(model, photo, wanted, out / base, tiles).items():
                say(str(path))
                names = {index: known.name for index, known in enumerate(model.spec.task(task).classes)}
                maps.setdefault(task, []).append(MapFile(photo, photo.name, path, names))
        except ImageError as error:
            failed += 1
            say_text(f"{shown(photo)}: {error}", err=True)
    if tool and maps:
        write_for_tool(tool, maps, out)
    if failed:
        raise ImageError(f"{failed} of {len(photos)} photos could not be read")


def _predict_one(
    model: "Adapted | Gated", photo: Path, tasks: "tuple[Task, ...]", base: Path, tiles: str
) -> "dict[Task, Path]":
    """Write the maps of one photo; the paths written."""
    from mtlora.maps.map_png import encode_map
    from mtlora.prediction.predict import predict as predict_maps

    paths = {}
    maps = predict_maps(model, photo, [task.value for task in tasks], tiles or None)
    for task in tasks:
        path = base.with_name(f"{base.name}.{task.value}.png")
        path.write_bytes(encode_map(maps[task], model.spec.task(task)).png)
        paths[task] = path
    return paths


def _model(backbone: Path, adapter: Path, compute: float, spending: str) -> "Adapted | Gated":
    from mtlora.prediction.adapted import build_adapted
    from mtlora.weights.adapter_file import load_adapter
    from mtlora.weights.backbone import load_backbone

    frozen, loaded = load_backbone(backbone), load_adapter(adapter)
    return gated(frozen, loaded, compute, spending) if compute else build_adapted(frozen, loaded)


def _describe(file: str) -> dict[str, Any]:
    """What a file holds, as a JSON object: an adapter set, an AdaMTL model, or else a backbone."""
    from mtlora.adamtl.file import has_ada_manifest
    from mtlora.vocabulary.errors import AdapterFileError
    from mtlora.weights.adapter_file.announced import has_manifest
    from mtlora.weights.bundled import find_adapter

    path = find_adapter(file)
    is_adapter, is_model = None, False
    with suppress(AdapterFileError):
        is_adapter = has_manifest(path)
        is_model = has_ada_manifest(path)
    if is_model:
        return describe_model(path)
    if is_adapter is False or (is_adapter is None and _is_backbone(path)):
        return _describe_backbone(path)
    return _describe_adapter(path)


def _is_backbone(path: Path) -> bool:
    """Backbones may be larger, or of another origin, than an adapter file's header rules allow."""
    from mtlora.weights.backbone import load_backbone

    try:
        load_backbone(path)
    except MTLoRAError:
        return False
    return True


def _describe_adapter(path: Path) -> dict[str, Any]:
    from mtlora.inference import device_bytes, forward_bytes
    from mtlora.weights.adapter_file import load_adapter, parameter_counts

    adapter = load_adapter(path)
    manifest, spec = adapter.manifest, adapter.manifest.spec
    return {
        "kind": "adapter",
        "file": str(path),
        "name": manifest.name,
        "digest": adapter.digest,
        "bytes": adapter.bytes,
        "format_version": manifest.format_version,
        "dtypes": sorted({str(tensor.dtype).removeprefix("torch.") for tensor in adapter.tensors.values()}),
        "image_size": spec.image_size,
        "mode": spec.mode.value,
        "ranks": list(spec.ranks),
        "tasks": [
            {
                "task": task.task.value,
                "outputs": task.outputs,
                "ranks": list(task.ranks),
                "decoder": task.decoder.value,
            }
            for task in spec.tasks
        ],
        "backbone": spec.backbone.model_dump(mode="json"),
        "backbone_fingerprint": manifest.backbone_fingerprint,
        "counts": parameter_counts(spec)._asdict(),
        **({} if manifest.policy is None else _describe_policy(manifest.policy, adapter)),
        "device_bytes": device_bytes(spec),
        "forward_bytes": forward_bytes(spec, spec.task_names),
        "provenance": dict(manifest.provenance),
        "spec": spec.model_dump(mode="json"),
    }


def _describe_policy(policy: "Policy", adapter: "AdapterSet") -> dict[str, Any]:
    from mtlora.model.policy.fixed import is_fixed

    tensors = adapter.policy_tensors.values()
    size = {"parameters": sum(t.numel() for t in tensors), "bytes": sum(t.nbytes for t in tensors)}
    points = [point.model_dump(mode="json", exclude_none=True) for point in policy.calibration]
    alike = {"fixed": True} if is_fixed(policy, adapter.policy_tensors) else {}
    return {"policy": policy.shape.model_dump(mode="json") | size | alike, "calibration": points}


def _describe_backbone(path: Path) -> dict[str, Any]:
    from mtlora.weights.backbone import load_backbone

    loaded = load_backbone(path)
    return {
        "kind": "backbone",
        "file": str(path),
        "bytes": path.stat().st_size,
        "fingerprints": _fingerprints(loaded),
        "backbone": loaded.spec.model_dump(mode="json"),
        "counts": {"total": sum(tensor.numel() for tensor in loaded.tensors.values())},
        "device_bytes": {"shared": loaded.nbytes},
    }


def _fingerprints(backbone: "Backbone") -> dict[str, str]:
    """What sets trained on this backbone record: MTLoRA leaves attention and MLP frozen, MTLoRA+ patch merging too."""
    from mtlora.vocabulary.spec import AdapterSpec, TaskSpec
    from mtlora.vocabulary.tasks import Task

    smallest = 32 * backbone.spec.window_size  # any input side and task will do: they do not count
    spec = AdapterSpec(
        backbone=backbone.spec, image_size=smallest, tasks=(TaskSpec.make(Task.DEPTH),), ranks=(1, 1, 1, 1)
    )
    plus = spec.model_copy(update={"adapt_reduction": True})
    return {"mtlora": backbone.fingerprint(spec), "mtlora_plus": backbone.fingerprint(plus)}


def _plain(value: Any) -> str:
    """A value as people write it: `name value` for each entry, what is listed with blanks."""
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    return " ".join(map(_plain, value)) if isinstance(value, list | tuple) else str(value)


def _numbers_line(key: str, numbers: dict[str, int]) -> str:
    return f"{key}: " + ", ".join(f"{name} {number:,}" for name, number in numbers.items())
