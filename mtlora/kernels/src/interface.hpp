// What Python and the kernels both know. Made from mtlora/kernels/interface.py by `make generated`: change it there.
#pragma once

#include <cstdint>

#define EXPORT extern "C" __attribute__((visibility("default")))

inline constexpr int kRevision = 1;  // raise it where a meaning changes and no declaration does, as of a packed matrix
inline constexpr int kMaxTokens = 256;  // of a window that attention takes
inline constexpr int kMaxHeadDim = 64;  // of such a window
inline constexpr int kMaxRank = 128;  // of a task's pair
inline constexpr int kMaxDots = 15;  // largest rank of a task's A that is read by rows; of more it is read by columns
inline constexpr int kMaxWidth = 2048;  // of a layer norm with a task's A behind it
inline constexpr int kMaxClasses = 255;  // of a class map
inline constexpr int kByteZero = 128;  // what zero is as an unsigned byte, in products of integers
inline constexpr long kBandBytes = 262144;  // of a PNG's rows, filtered and packed at once: stays in the cache
inline constexpr long kBlockRoomBytes = 256;  // that packed rows may take beside twice what they are
inline constexpr long kPixelBytes = 4;  // of a photo's row when it is shrunk: three colours and one of no meaning
inline constexpr float kCubic = -0.75f;  // torch's coefficient of the cubic kernel without antialiasing
inline constexpr int kCubicTaps = 4;  // positions that this kernel covers

enum MoveKind : long {kCopy = 0, kTransposed = 1, kZeros = 2, kPacked = 3, kMerged = 4, kPosition = 5};
enum NumberType : int32_t {kFloat32 = 0, kFloat16 = 1, kBfloat16 = 2};

// Of this table: a library is called only where it has the same.
inline constexpr uint64_t kAbi = 0x03b66050c88e7f71;

extern "C" {

// y = W x + bias + B A x; W as floats, or else as `Integers` with scale and offset.
struct MtloraLinear {
    const float* weight;  // packed, as down (A) and up (B) are: `mtlora_pack`
    const float* bias;
    const float* down;
    const float* up;
    const int8_t* integers;  // `mtlora_pack_integers`; null: weight
    const float* scale;
    const int32_t* offset;
    long inputs, outputs, rank;  // rank 0: no A and B
};

// A and B of all tasks.
struct MtloraPairs {
    const float* a;  // [tasks][rank][inputs], or by_columns [tasks][inputs][rank]
    const float* b;  // [tasks][rank][outputs]
    long inputs, outputs, rank, by_columns;  // rank 0: the linear has no task pairs
};

// A Swin block.
struct MtloraBlock {
    const float* norm1_weight;
    const float* norm1_bias;
    const float* norm2_weight;
    const float* norm2_bias;
    const float* position;  // [kinds][heads][tokens][tokens]
    MtloraLinear qkv, proj, fc1, fc2;
    MtloraPairs proj_tasks, fc1_tasks, fc2_tasks;
    long heads, base_has_pair;  // base_has_pair: the tasks' base is the shared output
    float eps;
};

// What a block computes of images whose tokens lie one image after the other. Windows count over all images.
struct MtloraRegion {
    const int32_t* which;  // [period], which position bias each window of an image has
    const int64_t* order;  // [period * tokens], where in x an image's tokens are, window by window; null: there
    const int32_t* open;   // [windows], ascending, which windows are computed; null: the first so many
    long period;   // windows of an image
    long windows;  // that are computed
    long tokens;   // of a window
};

// One move of `fold`. Tensors are numbers of the set's; rows and columns are those of `tensor` as stored.
struct MtloraMove {
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
};

// See `ops.mix_head`. Maps have their channels last: [images][height][width][channels], the finest first.
struct MtloraMixHead {
    const float* maps[3];
    const float* mix[3];  // [channels][hidden]
    const float* bias;    // [hidden]
    const float* classify;  // [outputs][hidden], or by_columns [hidden][outputs]
    const float* classify_bias;  // [outputs]
    long heights[3], widths[3], channels[3];
    long images, hidden, outputs, by_columns;
};

// What becomes of a colour: times scale and plus shift.
struct MtloraLevels {
    float scale[3], shift[3];
};
}

inline constexpr long kStructureBytes[] = {sizeof(MtloraLinear), sizeof(MtloraPairs), sizeof(MtloraBlock),
    sizeof(MtloraRegion), sizeof(MtloraMove), sizeof(MtloraMixHead), sizeof(MtloraLevels)};

EXPORT uint64_t mtlora_abi();
EXPORT long mtlora_structure_bytes(int number);
EXPORT void mtlora_use_pool(void* gomp_parallel);
EXPORT void mtlora_window_attention(const float* qkv, const float* bias, const int32_t* which, float* out, long windows,
    long tokens, long heads, long head_dim, long period, float scale, int threads);
EXPORT void mtlora_gelu(float* x, const float* bias, long rows, long width, int threads);
EXPORT void mtlora_lowrank_add(const float* base, const float* residual, const float* u, const float* b, float* out,
    long tasks, long tokens, long width, long rank, int threads);
EXPORT void mtlora_task_mlp(const float* frozen, const float* u, const float* b1, const float* a2, float* out,
    long tasks, long tokens, long width, long rank, long rank2, int by_columns, int threads);
EXPORT void mtlora_layer_norm_tasks(const float* x, const float* weight, const float* bias, float eps, const float* a,
    float* out, long tasks, long tokens, long width, long rank, int by_columns, int threads);
EXPORT long mtlora_packed_floats(long inputs, long outputs);
EXPORT void mtlora_pack(const float* weight, float* packed, long inputs, long outputs);
EXPORT long mtlora_packed_bytes(long inputs, long outputs);
EXPORT void mtlora_pack_integers(const int8_t* weight, int8_t* packed, long inputs, long outputs);
EXPORT int mtlora_fold(const MtloraMove* moves, long count, const void* const* tensors, const int32_t* types,
    float* result);
EXPORT int mtlora_merged_projection(const float* streams, const float* instead, const uint8_t* written,
    const int64_t* gather, const float* weight, const float* bias, float eps, const float* projection, float* out,
    long tasks, long tokens, long width, long merged, long channels, int threads);
EXPORT long mtlora_mix_head_floats(const MtloraMixHead* head);
EXPORT int mtlora_mix_head(const MtloraMixHead* head, float* mixed, float* out, int threads);
EXPORT int mtlora_block(const MtloraBlock* block, const MtloraRegion* region, float* x, const int32_t* tasks,
    long count, float* streams, int threads);
EXPORT void mtlora_cell_sums(const float* patches, const int32_t* starts, float* sums, long images, long side,
    long cells, long channels, int threads);
EXPORT int mtlora_upsample_argmax(const float* logits, uint8_t* out, long classes, long h, long w, long height,
    long width, int threads);
EXPORT int mtlora_decide_classes(const float* logits, const uint8_t* decided, uint8_t* out, int64_t* counts,
    long classes, long h, long w, long rows, long columns, long height, long width, long top, long bottom, int threads);
EXPORT int mtlora_quantise_normals(const float* normals, uint8_t* out, long h, long w, long height, long width,
    long top, long bottom, int threads);
EXPORT int mtlora_saliency_to_gray(const float* probability, uint8_t* out, long h, long w, long height, long width,
    long top, long bottom, int threads);
EXPORT int mtlora_unit_normals(const float* normals, float* out, long h, long w, long height, long width, int threads);
EXPORT int mtlora_enlarge_sigmoid(const float* logits, float* out, long h, long w, long height, long width,
    int threads);
EXPORT void mtlora_enlarge_classes(const uint8_t* map, uint8_t* out, int64_t* counts, long h, long w, long height,
    long width);
EXPORT int mtlora_resize_cubic(const uint8_t* photo, float* out, const MtloraLevels* levels, long h, long w, long step,
    long side, long top, long begin, long end);
EXPORT int mtlora_antialias_rows(const uint8_t* rows, int32_t* sums, long width, long height, long step, long side,
    long top, long count);
EXPORT int mtlora_antialias_finish(const int32_t* sums, const float* table, float* out, long height, long side);
EXPORT long mtlora_pack_rows(const uint8_t* pixels, uint8_t* out, uint32_t* checksum, long top, long bottom, long bytes,
    long step, int last);
EXPORT long mtlora_pack_normals(const float* coarse, uint8_t* out, uint32_t* checksum, long h, long w, long rows,
    long columns, long height, long width, long top, long bottom);
