// All kernels in one translation unit, compiled once per instruction set; see mtlora/kernels/__init__.py.
#include "antialias.hpp"
#include "attention.hpp"
#include "block.hpp"
#include "fold.hpp"
#include "heads.hpp"
#include "int8.hpp"
#include "maps.hpp"
#include "photo.hpp"
#include "png.hpp"
#include "streams.hpp"
#include "tasks.hpp"

// Tells the kernels the GOMP_parallel of the pool to share; null: single-threaded.
EXPORT void mtlora_use_pool(void* gomp_parallel) { pool = reinterpret_cast<Parallel>(gomp_parallel); }
