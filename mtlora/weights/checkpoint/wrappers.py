"""Names of tensors without what wrapped the model: compilation, data parallelism, sharding, recomputation."""

from collections.abc import Mapping
from typing import TypeVar

from mtlora.vocabulary.errors import ConversionError

T = TypeVar("T")

WRAPPERS = frozenset(
    {
        "_orig_mod",  # torch.compile
        "module",  # DataParallel, DistributedDataParallel, AveragedModel
        "_fsdp_wrapped_module",  # FullyShardedDataParallel
        "_fpw_module",  # the same, as it was called first
        "_checkpoint_wrapped_module",  # checkpoint_wrapper
        "_forward_module",  # Lightning Fabric
    }
)
"""Parts of a name that say nothing but that a module was wrapped."""

_LISTED = 5
_COUNTER = "n_averaged"  # of AveragedModel, beside the model's own tensors


def unwrapped(state: Mapping[str, T]) -> dict[str, T]:
    """The same tensors under names without wrappers' parts, wherever these stand.

    `ConversionError` lists the names that become one.
    """
    found: dict[str, T] = {}
    origin: dict[str, str] = {}
    problems = []
    for key, value in state.items():
        name = ".".join(part for part in key.split(".") if part not in WRAPPERS)
        if name in found:
            problems.append(f"{origin[name]} and {key} are both {name}")
        elif name != _COUNTER:
            found[name], origin[name] = value, key
    if problems:
        raise ConversionError(
            f"{len(problems)} tensors are there twice once the names of wrappers ({', '.join(sorted(WRAPPERS))}) "
            "are dropped; leave out one of each",
            [*problems[:_LISTED], *([f"and {len(problems) - _LISTED} more"] if len(problems) > _LISTED else [])],
        )
    return found
