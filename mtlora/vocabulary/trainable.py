"""The tensors that an adapter set trains, and so holds (paper, section 3.2): said in this one place.

Names are those of `MTLoRAModel.state_dict()`: `backbone.…` (timm's names), `projections.…`, `decoders.…`.
Pure: no torch here, so that a file can be checked without building anything.
"""

from collections.abc import Mapping
from typing import NamedTuple, Self

from mtlora.vocabulary.encoder_shapes import BLOCK_LINEARS, MERGING_LINEAR
from mtlora.vocabulary.spec import AdapterSpec

PAIR_PARTS = frozenset({"shared", "tasks"})
POLICY_PREFIX = "policy."
"""What the names of a policy's tensors begin with, in a model and in an adapter file."""

_LINEARS = frozenset(linear.rpartition(".")[2] for linear in (*BLOCK_LINEARS, MERGING_LINEAR))


def is_lora(name: str) -> bool:
    """Whether a tensor belongs to a low-rank pair, its learned scaling, or the norm of mode `addition`."""
    parts = name.split(".")
    if parts[0] != "backbone" or len(parts) < 3:
        return False
    return any(parts[i] in _LINEARS and parts[i + 1] in PAIR_PARTS | {"norm"} for i in range(len(parts) - 1))


def is_decoder(name: str) -> bool:
    """Whether a tensor belongs to a task's projections or decoder."""
    return name.startswith(("projections.", "decoders."))


def is_policy(name: str) -> bool:
    """Whether a tensor belongs to a policy, which decides what is computed."""
    return name.startswith(POLICY_PREFIX)


def is_trainable(name: str, spec: AdapterSpec) -> bool:
    """Whether `name` is trained under `spec`; everything else stays as the backbone has it."""
    if is_decoder(name) or is_lora(name) or is_policy(name):
        return True
    parts = name.split(".")
    if parts[1] == "patch_embed":
        return spec.train_patch_embed
    if parts[-1] == "relative_position_bias_table":
        return spec.train_position_bias
    if parts[-2] in {"norm1", "norm2", "norm"}:
        return spec.train_layer_norm
    if parts[-2] == "reduction":
        return spec.train_reduction and not spec.adapt_reduction
    return False


class ParameterCounts(NamedTuple):
    """Numbers of parameters as the paper counts them; BatchNorm statistics are none.

    `trainable` = `lora` + `decoder` (with projections) + `extra` (norms, biases, merging, patches);
    `total` is all of that and what is frozen.
    """

    trainable: int
    lora: int
    decoder: int
    extra: int
    total: int

    @classmethod
    def of(cls, sizes: Mapping[str, int], spec: AdapterSpec) -> Self:
        """Counts from the number of elements of every parameter of a model, by name."""
        trainable = sum(size for name, size in sizes.items() if is_trainable(name, spec))
        lora = sum(size for name, size in sizes.items() if is_lora(name))
        decoder = sum(size for name, size in sizes.items() if is_decoder(name))
        return cls(trainable, lora, decoder, trainable - lora - decoder, sum(sizes.values()))
