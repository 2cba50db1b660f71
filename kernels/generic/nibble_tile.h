/* Tile kernels for LAYOUT_NIBBLES, for instruction sets that look bytes up in a table of 16 (pshufb).
 *
 * A nibble a of a row of A meets the nibbles w of many columns, one in each byte of a register. What
 * the two say together is a function of w alone once a is known: of 16 tables of 16 bytes, a chooses
 * one, which is loaded and looked up by all columns at once:
 *     count_a[w] = popcount(a ^ w)  or  popcount(a & w)
 * One look-up and one addition of bytes are 4 multiplications in each column.
 *
 * (Segments of any length look two rows up at once: generic/nibble_any.h.)
 *
 * A chain is what can be summed before a byte overflows. Counts are <= 4: 63 nibbles of an unsigned
 * byte. Chains of segments whose length is known use tables of what is wanted in the end:
 *     signed:   dot / 2 = 2 - popcount(a ^ w)               <= 2 in magnitude: 63 nibbles
 *     unipolar: dot = 2 popcount(a & w) - popcount(a)       <= 4: 31 nibbles
 * so that a sign extension of the sum is all that is left to do.
 *
 * Included after the set's tile.h, which says what a register is. */
#ifndef MESHD_GENERIC_NIBBLE_TILE_H
#define MESHD_GENERIC_NIBBLE_TILE_H

#include <stddef.h>
#include <stdint.h>

#include "meshd_product.h"

#define MESHD_UNROLL _Pragma("GCC unroll 16")

namespace {

constexpr int tile_columns = tile_registers * byte_lanes;

constexpr int ones_of(int nibble) {
    return (nibble & 1) + (nibble >> 1 & 1) + (nibble >> 2 & 1) + (nibble >> 3 & 1);
}

struct alignas(64) nibble_tables {
    uint8_t entry[16][16];

    template <class Value> constexpr explicit nibble_tables(Value value) : entry() {
        for (int a = 0; a < 16; ++a)
            for (int w = 0; w < 16; ++w) entry[a][w] = (uint8_t)value(a, w);
    }
};

struct alignas(64) byte_sums {
    uint8_t of[tile_rows][tile_columns];
};

/* What p points at is in memory now, and is read from there again. Without this g++ takes a tile's sums,
 * which are several times the registers there are, for its registers' business, and moves them all
 * to and fro on the stack (measured: half the speed). */
inline void settle(void *p) { asm volatile("" : : "r"(p) : "memory"); }

/* Sums of steps * `step` nibbles. a: offsets of tables, a row `stride` bytes behind the other. (Local
 * arrays that are not part of a struct: those g++ keeps in registers.) */
template <int step>
inline void chain(const nibble_tables &tables, const uint8_t *a, size_t stride, const uint8_t *w,
                  size_t steps, byte_sums *to) {
    bytes sum[tile_rows][tile_registers];
    MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
        MESHD_UNROLL for (int g = 0; g < tile_registers; ++g) sum[r][g] = zero();
    for (; steps > 0; --steps, a += step, w += step * tile_columns)
        MESHD_UNROLL for (int i = 0; i < step; ++i) {
            bytes column[tile_registers];
            MESHD_UNROLL for (int g = 0; g < tile_registers; ++g)
                column[g] = load(w + i * tile_columns + g * byte_lanes);
            MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
                count(sum[r], column, &tables.entry[0][0] + a[(size_t)r * stride + i]);
        }
    MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
        MESHD_UNROLL for (int g = 0; g < tile_registers; ++g)
            store(to->of[r] + g * byte_lanes, sum[r][g]);
    settle(to);
}

} // namespace

#endif
