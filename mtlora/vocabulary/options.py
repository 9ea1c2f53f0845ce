"""The options of running sets. Pure: no torch here, so that settings and the command line stay light."""

from enum import StrEnum


class FormKind(StrEnum):
    """How sets are kept on the device (`mtlora.inference`)."""

    AUTO = "auto"
    MERGED = "merged"  # pairs added to weights of the set's own: fastest on a CPU, large
    LOWRANK = "lowrank"  # pairs beside frozen weights that sets share: small, and sets mix in a batch
    PLAIN = "plain"  # the training model: slow, the reference


class Precision(StrEnum):
    """Numbers that the linear layers of blocks are computed with."""

    FLOAT32 = "float32"
    INT8 = "int8"  # on a CPU: faster and smaller, maps differ a little (docs/performance.md)
    BFLOAT16 = "bfloat16"  # on a GPU: the same
