"""The conversion of a published AdaMTL checkpoint: same numbers, our names, no code of it run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from mtlora.adamtl.describe import describe_adamtl
from mtlora.adamtl.file import AdaManifest
from mtlora.adamtl.names import SIGN, rename
from mtlora.adamtl.shapes import adamtl_shapes, is_policy
from mtlora.adamtl.spec import AdaSpec, Policy
from mtlora.vocabulary.errors import ConversionError
from mtlora.vocabulary.tasks import Task
from mtlora.weights.adapter_file.load import not_finite
from mtlora.weights.checkpoint.choice import Tell, choose, no_word
from mtlora.weights.checkpoint.container import Checkpoint, open_checkpoint
from mtlora.weights.checkpoint.globals_allowed import TensorRef
from mtlora.weights.convert.config import Config, load_config, merged
from mtlora.weights.convert.conversion import misplaced, notes_of, unknown_tensors
from mtlora.weights.convert.describe import Evidence


@dataclass(frozen=True, slots=True, eq=False)
class ConvertedAda:
    """What a checkpoint amounts to: the manifest of its file, and the tensors, float32."""

    manifest: AdaManifest
    tensors: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class _Source:
    """Tensors of a checkpoint under our names, and the published name of each."""

    tensors: dict[str, TensorRef]
    keys: dict[str, str]


def is_adamtl(checkpoint: Checkpoint, weights: str = "") -> bool:
    """Whether a checkpoint has AdaMTL's decoders, whatever its configuration says."""
    state = choose(checkpoint, weights).taken.model()
    return any(SIGN.match(key) for key in state)


def convert_adamtl(
    path: str | Path,
    *,
    config: str | Path | None = None,
    tasks: Sequence[Task] | None = None,
    name: str = "",
    weights: str = "",
    tell: Tell = no_word,
) -> ConvertedAda:
    """Convert a published `.pth` of any training stage; `ConversionError.problems` lists all that stands in the way.

    config: a YAML file that adds to, or replaces, what the configuration in the checkpoint says
    tasks:  keep only these; None: all
    name:   what the model is called
    weights, tell: which of several sets of weights, and what gets a line where there are several; see `choose`
    """
    checkpoint = open_checkpoint(path)
    choice = choose(checkpoint, weights, tell)
    state, said = choice.taken.model(), choice.config
    source, problems = _renamed(state)
    evidence = Evidence(
        Config(merged(said, load_config(config)) if config else said),
        {name: ref.shape for name, ref in source.tensors.items()},
    )
    if not evidence.config.root:
        raise ConversionError(f"{checkpoint.path.name} holds no configuration; give one with --config")
    spec = describe_adamtl(evidence)
    problems += evidence.config.problems
    unused = [] if spec is None else _drop_unused_selectors(spec, source)
    if spec is not None:
        problems += _differences(spec, source)
    if problems or spec is None:
        raise ConversionError(f"{checkpoint.path.name} cannot be converted", problems)
    return _converted(checkpoint, source, _with_tasks(spec, tasks), unused, name)


def _renamed(state: Mapping[str, TensorRef]) -> tuple[_Source, list[str]]:
    source, unknown = _Source({}, {}), list[str]()
    for key, ref in state.items():
        ours = rename(key)
        if ours is None:
            unknown.append(key)
        elif ours:
            source.tensors[ours] = ref
            source.keys[ours] = key
    return source, unknown_tensors(unknown)


def _drop_unused_selectors(spec: AdaSpec, source: _Source) -> list[str]:
    """Selectors that the configuration switches off: the published code leaves them in the file. Their names."""
    kinds = {"blocks": spec.ada_blocks, "tokens": spec.ada_tokens}
    unused = [name for name in source.tensors if is_policy(name) and not kinds[name.split(".")[1]]]
    for name in unused:
        del source.tensors[name]
    return unused


def _differences(spec: AdaSpec, source: _Source) -> list[str]:
    """Every tensor that the spec calls for and the checkpoint lacks, and the other way round."""
    expected = adamtl_shapes(spec)
    missing = sorted(expected.keys() - source.tensors.keys())
    problems = [f"missing tensor {name}" for name in missing]
    if any(map(is_policy, missing)):
        problems.append(
            f"the configuration has policy {spec.policy}, block selectors {spec.ada_blocks} and token selectors "
            f"{spec.ada_tokens}, and not all of them are in the checkpoint; the published code would run random ones"
        )
    return problems + misplaced(expected, source.tensors, source.keys)


def _with_tasks(spec: AdaSpec, tasks: Sequence[Task] | None) -> AdaSpec:
    """The spec with only some of its tasks, in the spec's order."""
    if not tasks:
        return spec
    wanted = spec.select(tuple(tasks))
    selects = spec.ada_blocks or spec.ada_tokens
    if spec.policy is Policy.PER_TASK and selects and set(wanted) != set(spec.task_names):
        raise ConversionError(
            f"with policy per_task all tasks ({', '.join(spec.task_names)}) decide together what is computed; "
            f"none can be left out, got {', '.join(wanted)}"
        )
    return spec.switched(tasks=tuple(task for task in spec.tasks if task.task in wanted))


def _converted(checkpoint: Checkpoint, source: _Source, spec: AdaSpec, unused: list[str], name: str) -> ConvertedAda:
    tensors = checkpoint.read({name: source.tensors[name] for name in adamtl_shapes(spec)})
    if bad := not_finite(tensors):
        raise ConversionError(f"{checkpoint.path.name} cannot be converted", bad)
    provenance = notes_of(checkpoint)
    if unused:
        provenance["selector_tensors_left_out"] = len(unused)
    return ConvertedAda(AdaManifest(name=name, spec=spec, provenance=provenance), tensors)
