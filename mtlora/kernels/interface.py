"""What Python and the kernels both know: constants, structures and functions, each of them here alone.

src/interface.hpp is made from this table (`make generated`), and so are the types that ctypes calls with. A library
says at loading which table it was built from (see `library`), so one of another table is never called.

Declarations are C: `members` of a structure, and the text beside each function. Only this module and `declarations`
read them; there are few rules: a type, then names with commas between them; each pointer is declared by itself.
"""

import ctypes
import enum
from collections.abc import Callable
from typing import Annotated, ClassVar, TypeVar

from mtlora.kernels.declarations import Structures, fields

REVISION: Annotated[int, "int", "raise it where a meaning changes and no declaration does, as of a packed matrix"] = 1

MAX_TOKENS: Annotated[int, "int", "of a window that attention takes"] = 256
MAX_HEAD_DIM: Annotated[int, "int", "of such a window"] = 64
MAX_RANK: Annotated[int, "int", "of a task's pair"] = 128
MAX_DOTS: Annotated[int, "int", "largest rank of a task's A that is read by rows; of more it is read by columns"] = 15
MAX_WIDTH: Annotated[int, "int", "of a layer norm with a task's A behind it"] = 2048
MAX_CLASSES: Annotated[int, "int", "of a class map"] = 255
BYTE_ZERO: Annotated[int, "int", "what zero is as an unsigned byte, in products of integers"] = 128
BAND_BYTES: Annotated[int, "long", "of a PNG's rows, filtered and packed at once: stays in the cache"] = 1 << 18
BLOCK_ROOM_BYTES: Annotated[int, "long", "that packed rows may take beside twice what they are"] = 256
PIXEL_BYTES: Annotated[int, "long", "of a photo's row when it is shrunk: three colours and one of no meaning"] = 4
CUBIC: Annotated[float, "float", "torch's coefficient of the cubic kernel without antialiasing"] = -0.75
CUBIC_TAPS: Annotated[int, "int", "positions that this kernel covers"] = 4


class MoveKind(enum.IntEnum):
    """What a move of `fold` does."""

    COPY = 0  # as it is
    TRANSPOSED = 1  # [rows][columns] -> [columns][inputs >= rows], zeros where there is nothing
    ZEROS = 2  # rows x columns of them, from no tensor
    PACKED = 3  # a matrix [rows][columns] as `mtlora_pack` does
    MERGED = 4  # frozen + factor * tensor other, packed
    POSITION = 5  # a table [rows][columns heads] -> [kinds][columns][inputs]


class NumberType(enum.IntEnum):
    """What the numbers of a set's tensor are."""

    FLOAT32 = 0
    FLOAT16 = 1
    BFLOAT16 = 2


ENUMS: dict[type[enum.IntEnum], str] = {MoveKind: "long", NumberType: "int32_t"}
"""With the type that their values have in C."""

STRUCTURES: Structures = {}
"""By their names in C; an earlier one may be a member of a later one."""

_L = TypeVar("_L", bound=type["Layout"])


class Layout(ctypes.Structure):
    """A structure of the table."""

    members: ClassVar[str]


def _structure(made: _L) -> _L:
    """Give a structure its fields, and put it into the table."""
    name = f"Mtlora{made.__name__.removesuffix('Layout')}"
    made._fields_ = fields(made.members, STRUCTURES)
    STRUCTURES[name] = made
    return made


@_structure
class LinearLayout(Layout):
    """y = W x + bias + B A x; W as floats, or else as `Integers` with scale and offset."""

    members = """
        const float* weight;  // packed, as down (A) and up (B) are: `mtlora_pack`
        const float* bias;
        const float* down;
        const float* up;
        const int8_t* integers;  // `mtlora_pack_integers`; null: weight
        const float* scale;
        const int32_t* offset;
        long inputs, outputs, rank;  // rank 0: no A and B
    """


@_structure
class PairsLayout(Layout):
    """A and B of all tasks."""

    members = """
        const float* a;  // [tasks][rank][inputs], or by_columns [tasks][inputs][rank]
        const float* b;  // [tasks][rank][outputs]
        long inputs, outputs, rank, by_columns;  // rank 0: the linear has no task pairs
    """


@_structure
class BlockLayout(Layout):
    """A Swin block."""

    members = """
        const float* norm1_weight;
        const float* norm1_bias;
        const float* norm2_weight;
        const float* norm2_bias;
        const float* position;  // [kinds][heads][tokens][tokens]
        MtloraLinear qkv, proj, fc1, fc2;
        MtloraPairs proj_tasks, fc1_tasks, fc2_tasks;
        long heads, base_has_pair;  // base_has_pair: the tasks' base is the shared output
        float eps;
    """


@_structure
class RegionLayout(Layout):
    """What a block computes of images whose tokens lie one image after the other. Windows count over all images."""

    members = """
        const int32_t* which;  // [period], which position bias each window of an image has
        const int64_t* order;  // [period * tokens], where in x an image's tokens are, window by window; null: there
        const int32_t* open;   // [windows], ascending, which windows are computed; null: the first so many
        long period;   // windows of an image
        long windows;  // that are computed
        long tokens;   // of a window
    """


@_structure
class MoveLayout(Layout):
    """One move of `fold`. Tensors are numbers of the set's; rows and columns are those of `tensor` as stored."""

    members = """
        long kind;     // a `MoveKind`
        long tensor, other;  // other: kMerged: A of the pair, [columns][inputs], where `tensor` is B
        long learned;  // tensor with one factor more, or -1
        long to;       // floats from the beginning of the result
        long rows, columns;
        long inputs;   // kTransposed: of a row of the result; kMerged: of the linear; kPosition: of `index`
        const float* frozen;   // kMerged: the packed weight; kPosition: masks [kinds][inputs]
        const int64_t* index;  // kPosition: row of the table for each value of a head
        long kinds;    // kPosition
        float factor;
    """


@_structure
class MixHeadLayout(Layout):
    """See `ops.mix_head`. Maps have their channels last: [images][height][width][channels], the finest first."""

    members = """
        const float* maps[3];
        const float* mix[3];  // [channels][hidden]
        const float* bias;    // [hidden]
        const float* classify;  // [outputs][hidden], or by_columns [hidden][outputs]
        const float* classify_bias;  // [outputs]
        long heights[3], widths[3], channels[3];
        long images, hidden, outputs, by_columns;
    """


@_structure
class LevelsLayout(Layout):
    """What becomes of a colour: times scale and plus shift."""

    members = """
        float scale[3], shift[3];
    """


Procedure = Callable[..., None]
Fallible = Callable[..., int]
"""Gives 0, or 1 where there was no memory."""
Size = Callable[..., int]


class Functions:
    """The kernels, each with its C declaration: in src/ they are called `mtlora_…`, and described where they are.

    abi:             of the table that the library was built from
    structure_bytes: what the compiler makes of a structure of the table, by its place there; -1 behind the last
    """

    abi: Annotated[Callable[..., int], "uint64_t()"]
    structure_bytes: Annotated[Size, "long(int number)"]
    use_pool: Annotated[Procedure, "void(void* gomp_parallel)"]
    window_attention: Annotated[
        Procedure,
        "void(const float* qkv, const float* bias, const int32_t* which, float* out, long windows, long tokens,"
        " long heads, long head_dim, long period, float scale, int threads)",
    ]
    gelu: Annotated[Procedure, "void(float* x, const float* bias, long rows, long width, int threads)"]
    lowrank_add: Annotated[
        Procedure,
        "void(const float* base, const float* residual, const float* u, const float* b, float* out, long tasks,"
        " long tokens, long width, long rank, int threads)",
    ]
    task_mlp: Annotated[
        Procedure,
        "void(const float* frozen, const float* u, const float* b1, const float* a2, float* out, long tasks,"
        " long tokens, long width, long rank, long rank2, int by_columns, int threads)",
    ]
    layer_norm_tasks: Annotated[
        Procedure,
        "void(const float* x, const float* weight, const float* bias, float eps, const float* a, float* out,"
        " long tasks, long tokens, long width, long rank, int by_columns, int threads)",
    ]
    packed_floats: Annotated[Size, "long(long inputs, long outputs)"]
    pack: Annotated[Procedure, "void(const float* weight, float* packed, long inputs, long outputs)"]
    packed_bytes: Annotated[Size, "long(long inputs, long outputs)"]
    pack_integers: Annotated[Procedure, "void(const int8_t* weight, int8_t* packed, long inputs, long outputs)"]
    fold: Annotated[
        Fallible,
        "int(const MtloraMove* moves, long count, const void* const* tensors, const int32_t* types, float* result)",
    ]
    merged_projection: Annotated[
        Fallible,
        "int(const float* streams, const float* instead, const uint8_t* written, const int64_t* gather,"
        " const float* weight, const float* bias, float eps, const float* projection, float* out, long tasks,"
        " long tokens, long width, long merged, long channels, int threads)",
    ]
    mix_head_floats: Annotated[Size, "long(const MtloraMixHead* head)"]
    mix_head: Annotated[Fallible, "int(const MtloraMixHead* head, float* mixed, float* out, int threads)"]
    block: Annotated[
        Fallible,
        "int(const MtloraBlock* block, const MtloraRegion* region, float* x, const int32_t* tasks, long count,"
        " float* streams, int threads)",
    ]
    cell_sums: Annotated[
        Procedure,
        "void(const float* patches, const int32_t* starts, float* sums, long images, long side, long cells,"
        " long channels, int threads)",
    ]
    upsample_argmax: Annotated[
        Fallible,
        "int(const float* logits, uint8_t* out, long classes, long h, long w, long height, long width, int threads)",
    ]
    decide_classes: Annotated[
        Fallible,
        "int(const float* logits, const uint8_t* decided, uint8_t* out, int64_t* counts, long classes, long h, long w,"
        " long rows, long columns, long height, long width, long top, long bottom, int threads)",
    ]
    quantise_normals: Annotated[
        Fallible,
        "int(const float* normals, uint8_t* out, long h, long w, long height, long width, long top, long bottom,"
        " int threads)",
    ]
    saliency_to_gray: Annotated[
        Fallible,
        "int(const float* probability, uint8_t* out, long h, long w, long height, long width, long top, long bottom,"
        " int threads)",
    ]
    unit_normals: Annotated[
        Fallible, "int(const float* normals, float* out, long h, long w, long height, long width, int threads)"
    ]
    enlarge_sigmoid: Annotated[
        Fallible, "int(const float* logits, float* out, long h, long w, long height, long width, int threads)"
    ]
    enlarge_classes: Annotated[
        Procedure,
        "void(const uint8_t* map, uint8_t* out, int64_t* counts, long h, long w, long height, long width)",
    ]
    resize_cubic: Annotated[
        Fallible,
        "int(const uint8_t* photo, float* out, const MtloraLevels* levels, long h, long w, long step, long side,"
        " long top, long begin, long end)",
    ]
    antialias_rows: Annotated[
        Fallible,
        "int(const uint8_t* rows, int32_t* sums, long width, long height, long step, long side, long top, long count)",
    ]
    antialias_finish: Annotated[
        Fallible, "int(const int32_t* sums, const float* table, float* out, long height, long side)"
    ]
    pack_rows: Annotated[
        Size,
        "long(const uint8_t* pixels, uint8_t* out, uint32_t* checksum, long top, long bottom, long bytes, long step,"
        " int last)",
    ]
    pack_normals: Annotated[
        Size,
        "long(const float* coarse, uint8_t* out, uint32_t* checksum, long h, long w, long rows, long columns,"
        " long height, long width, long top, long bottom)",
    ]
