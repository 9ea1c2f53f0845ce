// Sums over the cells of an image: what policies read of its patch embedding, whichever windows they ask for.
#pragma once

#include "interface.hpp"
#include "parallel.hpp"
#include "vec.hpp"

// See `ops.cell_sums`: patches [images, side, side, channels], starts [cells + 1] along a side, ascending from 0 to
// side; sums [images, cells, cells, 2, channels], of values and of their squares.
EXPORT void mtlora_cell_sums(const float* patches, const int32_t* starts, float* sums, long images, long side, long cells,
                             long channels, int threads) {
    parallel_for(images * cells, 1, threads, [&](long row_of_cells, long) {
        const long image = row_of_cells / cells, down = row_of_cells % cells;
        const float* own = patches + image * side * side * channels;
        for (long across = 0; across < cells; ++across) {
            float* out = sums + (row_of_cells * cells + across) * 2 * channels;
            for (long c = 0; c < channels; c += kLanes) {
                const int valid = static_cast<int>(channels - c < kLanes ? channels - c : kLanes);
                vf sum{}, squares{};
                for (long y = starts[down]; y < starts[down + 1]; ++y) {
                    for (long x = starts[across]; x < starts[across + 1]; ++x) {
                        const vf value = load_up_to(own + (y * side + x) * channels + c, valid);
                        sum += value;
                        squares += value * value;
                    }
                }
                store_up_to(out + c, sum, valid);
                store_up_to(out + channels + c, squares, valid);
            }
        }
    });
}
