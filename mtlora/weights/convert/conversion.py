"""The conversion of a published MTLoRA checkpoint: same numbers, the project's names, no code of it run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from mtlora.model.backbone import Backbone
from mtlora.vocabulary.adapted_linears import adapted_linears
from mtlora.vocabulary.errors import BackboneError, ConversionError
from mtlora.vocabulary.model_shapes import Shapes, adapter_shapes, model_shapes
from mtlora.vocabulary.shown import shown
from mtlora.vocabulary.spec import AdapterSpec, SharedMode
from mtlora.vocabulary.tasks import Task
from mtlora.vocabulary.trainable import is_decoder, is_lora
from mtlora.weights.adapter_file.manifest import METADATA_KEY
from mtlora.weights.checkpoint.choice import Tell, choose, no_word
from mtlora.weights.checkpoint.container import Checkpoint, open_checkpoint
from mtlora.weights.checkpoint.globals_allowed import TensorRef
from mtlora.weights.checkpoint.other_methods import refuse_other_methods
from mtlora.weights.convert.config import Config, load_config, merged
from mtlora.weights.convert.describe import Evidence, describe
from mtlora.weights.convert.names import rename

_LISTED = 6  # unknown tensors, each with a line of its own
_EXAMPLES = 3


@dataclass(frozen=True, slots=True, eq=False)
class Converted:
    """What a checkpoint amounts to.

    tensors: those of the adapter file, float32
    backbone: all encoder tensors, the trained ones as the checkpoint has them
    """

    spec: AdapterSpec
    tensors: dict[str, Tensor]
    backbone: Backbone
    provenance: dict[str, str | int | float | bool]


@dataclass(frozen=True, slots=True)
class _Source:
    """Tensors of a checkpoint under our names, and what else it says."""

    tensors: dict[str, TensorRef]
    keys: dict[str, str]  # our name -> the published one
    problems: list[str]


def convert_checkpoint(
    path: str | Path,
    *,
    config: str | Path | None = None,
    tasks: Sequence[Task] | None = None,
    weights: str = "",
    tell: Tell = no_word,
) -> Converted:
    """Convert a published `.pth`; `ConversionError.problems` lists everything that stands in the way.

    config:  a YAML file that adds to, or replaces, what the configuration in the checkpoint says
    tasks:   keep only these; None: all
    weights: which of several sets of weights; empty: the model's own
    tell:    gets a line where there are several
    """
    checkpoint = open_checkpoint(path)
    if METADATA_KEY in checkpoint.metadata:
        raise ConversionError(
            f"{checkpoint.path.name} is an adapter set already; `mtlora remote push` takes it as it is"
        )
    choice = choose(checkpoint, weights, tell)
    state, said = choice.taken.model(), choice.config
    refuse_other_methods(checkpoint.path.name, state)
    if not Config(said).has("MODEL.MTLORA"):
        _refuse_plain(checkpoint.path.name, state)
    source = _renamed(state)
    evidence = Evidence(
        Config(merged(said, load_config(config)) if config else said),
        {name: ref.shape for name, ref in source.tensors.items()},
    )
    if not evidence.config.root:
        raise ConversionError(f"{checkpoint.path.name} holds no configuration; give one with --config")
    spec = describe(evidence)
    problems = source.problems + evidence.config.problems
    absent: set[str] = set()
    if spec is not None:
        _drop_empty_pairs(source)
        _drop_unused_scalings(spec, source)
        absent = _never_made(spec, source)
        problems += _differences(spec, source, absent)
    if problems or spec is None:
        raise ConversionError(f"{checkpoint.path.name} cannot be converted", problems)
    converted = _converted(checkpoint, source, _with_tasks(spec, tasks), absent)
    if choice.others:
        converted.provenance["weights"] = choice.taken.name
    return converted


def _refuse_plain(file: str, state: Mapping[str, TensorRef]) -> None:
    """`ConversionError` for a Swin without adapters and decoders."""
    if not any("lora_" in key or key.startswith(("decoders.", "downsampler.")) for key in state):
        raise ConversionError(
            f"{file} holds neither adapters nor decoders of MTLoRA; `mtlora backbone` reads a plain Swin, "
            f"and these are its names: {', '.join(shown(key, 80) for key in list(state)[:_EXAMPLES])}, …"
        )


def _renamed(state: Mapping[str, TensorRef]) -> _Source:
    source, unknown = _Source({}, {}, []), list[str]()
    for key, ref in state.items():
        renamed = rename(key)
        if renamed is None:
            unknown.append(key)
        elif renamed.name in source.tensors:
            source.problems.append(f"{key} and {source.keys[renamed.name]} are the same tensor {renamed.name}")
        elif renamed.name:
            is_scaling = renamed.name.endswith(".scaling") and ref.shape == ()
            source.tensors[renamed.name] = _as_vector(ref) if is_scaling else ref
            source.keys[renamed.name] = key
    source.problems.extend(unknown_tensors(unknown))
    return source


def unknown_tensors(keys: Sequence[str]) -> list[str]:
    """A line for each tensor that nobody knows, or one for many: then the checkpoint is of something else."""
    if len(keys) <= _LISTED:
        return [f"unknown tensor {key[:200]!r}" for key in keys]
    examples = ", ".join(shown(key, 120) for key in keys[:_EXAMPLES])
    return [f"{len(keys)} unknown tensors, such as {examples}: the checkpoint is not of MTLoRA alone"]


def _as_vector(ref: TensorRef) -> TensorRef:
    """A learned scaling that was saved as a bare number."""
    return TensorRef(ref.storage, ref.offset, (1,), (1,))


def _drop_empty_pairs(source: _Source) -> None:
    """Pairs of rank 0, saved as tensors without a number."""
    for name, ref in list(source.tensors.items()):
        if is_lora(name) and 0 in ref.shape:
            del source.tensors[name]


def _drop_unused_scalings(spec: AdapterSpec, source: _Source) -> None:
    """In mode `addition` the published code makes shared scalings that no output depends on."""
    for linear in adapted_linears(spec):
        if linear.norm:
            source.tensors.pop(f"{linear.prefix}.shared.scaling", None)


def _never_made(spec: AdapterSpec, source: _Source) -> set[str]:
    """Shared pairs that the spec calls for but an early version of the published code did not make.

    It left a stage's earlier blocks without pairs: their linears are plain (no `.linear.` in their names), or the
    whole block has no pair. A pair of zeros computes the same there; where tasks have streams it would not.
    """
    made = {name.rpartition(".shared.")[0] for name in source.tensors}
    made_blocks = {_block_of(name) for name in source.tensors if is_lora(name)}
    absent: set[str] = set()
    for linear in adapted_linears(spec):
        if linear.shared is None or linear.block is None or linear.specialised or linear.prefix in made:
            continue
        key = source.keys.get(f"{linear.prefix}.weight", "")
        plain = bool(key) and not key.endswith(".linear.weight")
        if plain or _block_of(linear.prefix) not in made_blocks:
            absent.update(tensor for tensor, _ in linear.shared.tensors())
    return absent


def _block_of(name: str) -> str:
    """`backbone.layers.I.blocks.J` of a tensor in a block."""
    return ".".join(name.split(".")[:5])


def _differences(spec: AdapterSpec, source: _Source, absent: set[str]) -> list[str]:
    """Every tensor that the spec calls for and the checkpoint lacks, and the other way round."""
    expected: Shapes = model_shapes(spec)
    problems = [f"missing tensor {name}" for name in expected.keys() - source.tensors.keys() - absent]
    return sorted(problems) + misplaced(expected, source.tensors, source.keys)


def misplaced(expected: Shapes, tensors: Mapping[str, TensorRef], keys: Mapping[str, str]) -> list[str]:
    """What of a checkpoint has no place, another shape or other numbers than are expected; keys: published names."""
    problems = []
    for name, ref in tensors.items():
        key = keys[name]
        if name not in expected:
            problems.append(f"left over: {key} (the configuration has no place for it)")
        elif ref.shape != expected[name]:
            problems.append(f"{key}: shape {list(ref.shape)}, expected {list(expected[name])}")
        elif not is_floating(ref):
            problems.append(f"{key}: numbers of type {ref.storage.dtype}, expected floating point")
    return problems


def is_floating(ref: TensorRef) -> bool:
    """Whether a tensor's numbers are of a floating point type."""
    return ref.storage.dtype.endswith(("float32", "float16", "float64"))


def notes_of(checkpoint: Checkpoint) -> dict[str, str | int | float | bool]:
    """Provenance: where a conversion comes from, and what the checkpoint says of its training."""
    notes: dict[str, str | int | float | bool] = {"source": "published checkpoint", "file": checkpoint.path.name}
    for key in ("epoch", "max_accuracy"):
        value = checkpoint.document.get(key)
        if isinstance(value, int | float) and math.isfinite(value):
            notes[key] = value
    return notes


def _with_tasks(spec: AdapterSpec, tasks: Sequence[Task] | None) -> AdapterSpec:
    """The spec with only some of its tasks, in the spec's order."""
    if not tasks:
        return spec
    wanted = spec.select(tuple(tasks))
    if spec.mode is SharedMode.ADDITION and set(wanted) != set(spec.task_names):
        raise ConversionError(
            f"mode addition sums the outputs of all its tasks ({', '.join(spec.task_names)}); none can be left out"
        )
    return AdapterSpec(**{**dict(spec), "tasks": tuple(t for t in spec.tasks if t.task in wanted)})


def _converted(checkpoint: Checkpoint, source: _Source, spec: AdapterSpec, absent: set[str]) -> Converted:
    shapes = model_shapes(spec)
    tensors = checkpoint.read({name: source.tensors[name] for name in shapes if name not in absent})
    tensors |= {name: torch.zeros(shapes[name]) for name in absent}
    encoder = {
        name.removeprefix("backbone."): tensor
        for name, tensor in tensors.items()
        if not is_decoder(name) and not is_lora(name)
    }
    try:
        backbone = Backbone(spec.backbone, encoder)
    except BackboneError as error:
        raise ConversionError(error.summary, error.problems) from error
    provenance = notes_of(checkpoint)
    if absent:
        provenance["pairs_of_zeros"] = sum(name.endswith(".lora_a") for name in absent)
    return Converted(spec, {name: tensors[name] for name in adapter_shapes(spec)}, backbone, provenance)
