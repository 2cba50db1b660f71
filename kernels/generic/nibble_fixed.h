/* Segments of 8 to 256 elements in nibbles: chains of bytes that start from tables of what is wanted
 * (generic/nibble_tile.h), so that a segment ends with a sign extension, a conversion, and the scales.
 * There are more columns than registers of floats: the tile's sums wait in the first-level cache. */
#ifndef MESHD_GENERIC_NIBBLE_FIXED_H
#define MESHD_GENERIC_NIBBLE_FIXED_H

#include "generic/nibble_tile.h"

namespace {

struct fixed_signed {
    static constexpr int ones = 0, chain_nibbles = 32; // <= 64 in magnitude
    static constexpr int value(int a, int w) { return 2 - ones_of(a ^ w); }
};
// The ones that come with A are in the tables already.
struct fixed_unipolar {
    static constexpr int ones = 1, chain_nibbles = 16; // the same
    static constexpr int value(int a, int w) { return 2 * ones_of(a & w) - ones_of(a); }
};

struct alignas(64) tile_sums {
    float of[tile_rows][tile_columns];
};

inline void load_tile(const tile_job *job, tile_sums *to) {
    for (int r = 0; r < tile_rows; ++r)
        for (int c = 0; c < tile_columns; c += lanes)
            store_floats(to->of[r] + c, load_out(job->start + (size_t)r * job->start_stride + c));
    settle(to);
}

inline void store_tile(const tile_sums &sums, const tile_job *job) {
    for (int r = 0; r < tile_rows; ++r)
        for (int c = 0; c < tile_columns; c += lanes) {
            const floats sum = load_floats(sums.of[r] + c);
            float *out = job->out + (size_t)r * job->stride + c;
            job->past_caches ? stream_out(out, sum) : store_out(out, sum);
        }
}

/* sums = fma(alpha_a, alpha_w * (float)dot, sums), dot being the sum of the segment's chains. */
template <int chains>
inline void add_segment(const byte_sums *chain, const uint32_t *alpha_a, size_t stride,
                        const uint32_t *alpha_w, tile_sums *sums) {
    floats a[tile_rows];
    MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) a[r] = broadcast_float(alpha_a + r * stride);
    MESHD_UNROLL for (int c = 0; c < tile_columns; c += lanes) {
        const floats w = load_floats(alpha_w + c);
        MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) {
            integers dot = widen_bytes((const int8_t *)chain[0].of[r] + c);
            MESHD_UNROLL for (int i = 1; i < chains; ++i)
                dot = add(dot, widen_bytes((const int8_t *)chain[i].of[r] + c));
            float *sum = sums->of[r] + c;
            store_floats(sum, multiply_add(a[r], multiply(w, as_floats(dot)), load_floats(sum)));
        }
    }
    settle(sums);
}

template <class Coding, int beta> void tile_fixed(const tile_job *job) {
    alignas(64) static constexpr nibble_tables tables(Coding::value);
    constexpr int nibbles = beta / 4, segments = beta < 16 ? 16 / beta : 1;
    constexpr int chains = nibbles > Coding::chain_nibbles ? nibbles / Coding::chain_nibbles : 1;
    constexpr int step = nibbles < 4 ? nibbles : 4, steps = nibbles / chains / step;
    constexpr int units = nibbles * segments / 4;
    constexpr size_t a_size = units + segments * (1 + Coding::ones);
    constexpr size_t w_size = (units + segments) * tile_columns;
    tile_sums sums;
    load_tile(job, &sums);
    const uint32_t *a = job->a, *w = job->w;
    for (size_t left = job->groups; left > 0; --left, a += tile_rows * a_size, w += w_size)
        MESHD_UNROLL for (int s = 0; s < segments; ++s) {
            byte_sums part[chains];
            MESHD_UNROLL for (int i = 0; i < chains; ++i) {
                const int first = (s * chains + i) * steps * step;
                chain<step>(tables, (const uint8_t *)a + first, 4 * a_size,
                            (const uint8_t *)w + first * tile_columns, steps, &part[i]);
            }
            add_segment<chains>(part, a + units + s, a_size, w + (units + s) * tile_columns, &sums);
        }
    store_tile(sums, job);
}

} // namespace

#endif
