/* Segments of any length in nibbles: chains of bytes, sums of chains in 16 bits, of those in 32.
 *
 * A chain's bytes are added to words of two neighbouring columns, and their high halves to words of
 * their own. With e, o the sums of the even and of the odd column, below 2^16 both:
 *     total = e + 2^8 o mod 2^16,   high = o,   so   e = total - 2^8 high mod 2^16
 * three operations a chain instead of four. */
#ifndef MESHD_GENERIC_NIBBLE_ANY_H
#define MESHD_GENERIC_NIBBLE_ANY_H

#include "generic/nibble_tile.h"

namespace {

constexpr size_t chain_units = 15;                // 60 nibbles of counts <= 4: 240
constexpr size_t block_units = 273 * chain_units; // 273 * 240 = 65520 < 2^16

struct any_signed {
    static constexpr size_t extra = 0;
    static constexpr int value(int a, int w) { return ones_of(a ^ w); }
    // -dot = 2 popcount(a ^ w) - length
    static int32_t subtrahend(const tile_job *job, const uint32_t *) {
        return (int32_t)job->units * 16 - job->padding;
    }
};
struct any_unipolar {
    static constexpr size_t extra = 1;
    static constexpr int value(int a, int w) { return ones_of(a & w); }
    static int32_t subtrahend(const tile_job *, const uint32_t *ones) { return (int32_t)*ones; }
};

struct alignas(64) counts {
    int32_t of[tile_rows][tile_columns];
};

/* Adds the counts of at most block_units units. */
inline void count_block(const nibble_tables &tables, const uint8_t *a, size_t stride,
                        const uint8_t *w, size_t units, counts *to) {
    bytes total[tile_rows][tile_registers], high[tile_rows][tile_registers];
    for (int r = 0; r < tile_rows; ++r)
        for (int g = 0; g < tile_registers; ++g) total[r][g] = high[r][g] = zero();
    while (units > 0) {
        const size_t some = units < chain_units ? units : chain_units;
        const byte_sums sum = chain(tables, a, stride, w, some);
        MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
            MESHD_UNROLL for (int g = 0; g < tile_registers; ++g) {
                total[r][g] = add_words(total[r][g], sum.of[r][g]);
                high[r][g] = add_words(high[r][g], high_bytes(sum.of[r][g]));
            }
        a += some * 4;
        w += some * 4 * tile_columns;
        units -= some;
    }
    for (int r = 0; r < tile_rows; ++r)
        for (int g = 0; g < tile_registers; ++g) {
            alignas(64) uint16_t words[byte_lanes];
            const bytes even = subtract_words(total[r][g], to_high_bytes(high[r][g]));
            store_in_order(words, even, high[r][g]);
            int32_t *count = to->of[r] + g * byte_lanes;
            for (int c = 0; c < byte_lanes; c += lanes)
                store(count + c, add(load_integers(count + c), widen_words(words + c)));
        }
}

template <class Coding> void tile_any(const tile_job *job) {
    alignas(64) static constexpr nibble_tables tables(Coding::value);
    const size_t a_size = job->units + 1 + Coding::extra, w_size = (job->units + 1) * tile_columns;
    const uint32_t *a = job->a, *w = job->w;
    for (size_t s = 0; s < job->groups; ++s, a += tile_rows * a_size, w += w_size) {
        counts count = {};
        for (size_t done = 0; done < job->units; done += block_units) {
            const size_t left = job->units - done, some = left < block_units ? left : block_units;
            count_block(tables, (const uint8_t *)(a + done), 4 * a_size,
                        (const uint8_t *)(w + done * tile_columns), some, &count);
        }
        const uint32_t *alpha_w = w + job->units * tile_columns;
        for (int r = 0; r < tile_rows; ++r) {
            const uint32_t *alpha_a = a + (size_t)r * a_size + job->units;
            const integers minus = broadcast_integer(Coding::subtrahend(job, alpha_a + 1));
            const floats alpha = broadcast_float(alpha_a);
            float *out = job->out + (size_t)r * job->stride;
            const float *from = s ? out : job->start + (size_t)r * job->start_stride;
            for (int c = 0; c < tile_columns; c += lanes) {
                const integers n = load_integers(count.of[r] + c);
                const floats dot = as_floats(subtract(add(n, n), minus));
                const floats scaled = multiply(load_floats(alpha_w + c), dot);
                store_out(out + c, multiply_add(alpha, scaled, load_out(from + c)));
            }
        }
    }
}

} // namespace

#endif
