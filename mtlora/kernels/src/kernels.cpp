// All kernels in one translation unit, compiled once per instruction set; see mtlora/kernels/__init__.py.
#include "antialias.hpp"
#include "attention.hpp"
#include "block.hpp"
#include "cells.hpp"
#include "class_edges.hpp"
#include "fold.hpp"
#include "heads.hpp"
#include "int8.hpp"
#include "interface.hpp"
#include "maps.hpp"
#include "photo.hpp"
#include "png.hpp"
#include "products.hpp"
#include "streams.hpp"
#include "tasks.hpp"

// Tells the kernels the GOMP_parallel of the pool to share; null: single-threaded.
EXPORT void mtlora_use_pool(void* gomp_parallel) { pool = reinterpret_cast<Parallel>(gomp_parallel); }

// What `Kernels` asks before it calls anything else.
EXPORT uint64_t mtlora_abi() { return kAbi; }
EXPORT long mtlora_structure_bytes(int number) {
    constexpr int kStructures = sizeof kStructureBytes / sizeof *kStructureBytes;
    return number >= 0 && number < kStructures ? kStructureBytes[number] : -1;
}
