/* Segments of any length in nibbles: two rows to a look-up, chains of bytes, sums of chains in 16
 * bits, of those in 32.
 *
 * A count of four elements takes three bits, and a look-up gives eight. So two rows of A share it:
 * of 256 tables the rows' nibbles a, b choose
 *     table[w] = count_a[w] + 16 count_b[w]
 * Three of them are added before a half overflows (12 < 16): x = l + 16 h, l, h <= 12. What is
 * accumulated in bytes is x itself, mod 2^8, and h, exactly. With L, H the sums of all l and h,
 * below 2^8 both:
 *     total = L + 16 H mod 2^8   so   L = total - 16 H mod 2^8
 * Nine operations for six counts instead of twelve, and half of the look-ups, which go to fewer pipes
 * than sums.
 *
 * A chain's bytes are added to words of two neighbouring columns, and their high halves to words of
 * their own. With e, o the sums of the even and of the odd column, below 2^16 both:
 *     total = e + 2^8 o mod 2^16,   high = o,   so   e = total - 2^8 high mod 2^16
 * three operations a chain instead of four. */
#ifndef MESHD_GENERIC_NIBBLE_ANY_H
#define MESHD_GENERIC_NIBBLE_ANY_H

#include "generic/nibble_tile.h"

// What is called once a chain and once a tile: calls cost 15 % (measured at k = 1024).
#define MESHD_IN_PLACE inline __attribute__((always_inline))

namespace {

constexpr size_t chain_units = 15;                // 60 nibbles of counts <= 4: 240
constexpr size_t block_units = 273 * chain_units; // 273 * 240 = 65520 < 2^16
constexpr int tile_pairs = tile_rows / 2;
static_assert(tile_pairs == 2, "count_pairs takes two");

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

struct alignas(64) pair_tables {
    uint8_t entry[256][16];

    template <class Value> constexpr explicit pair_tables(Value value) : entry() {
        for (int ab = 0; ab < 256; ++ab)
            for (int w = 0; w < 16; ++w)
                entry[ab][w] = (uint8_t)(value(ab & 15, w) + 16 * value(ab >> 4, w));
    }
};

struct alignas(64) counts {
    int32_t of[tile_rows][tile_columns];
};

struct alignas(64) word_sums {
    uint16_t total[tile_rows * tile_columns / 2], high[tile_rows * tile_columns / 2];
};

inline void add_bytes(bytes sum, int r, int g, word_sums *to) {
    const int i = (r * tile_columns + g * byte_lanes) / 2;
    uint16_t *total = to->total + i, *high = to->high + i;
    store(total, add_words(load(total), sum));
    store(high, add_words(load(high), high_bytes(sum)));
}

// The same where nothing is summed yet: nothing has to be zeroed.
inline void put_bytes(bytes sum, int r, int g, word_sums *to) {
    const int i = (r * tile_columns + g * byte_lanes) / 2;
    store(to->total + i, sum);
    store(to->high + i, high_bytes(sum));
}

/* Where the tables' offsets of a tile's pairs are: nibbles 0 and 1 of a unit in the place of the even
 * row's unit, 2 and 3 in that of the odd one. */
struct pair_offsets {
    const uint8_t *tables, *a;
    size_t stride; // bytes from a row to the next

    const uint8_t *table(int pair, int nibble) const {
        const uint8_t *at = a + (size_t)(2 * pair + nibble % 4 / 2) * stride;
        return tables + ((const uint16_t *)at)[nibble / 4 * 2 + nibble % 2];
    }
};

// `some` <= 3 nibbles, the first of them `nibble`.
template <int some>
inline void count_some(const pair_offsets &a, int nibble, const uint8_t *w, bytes (*total)[2],
                       bytes (*high)[2]) {
    bytes sum[tile_pairs][tile_registers];
    look_up(sum, w + nibble * tile_columns, a.table(0, nibble), a.table(1, nibble));
    MESHD_UNROLL for (int i = nibble + 1; i < nibble + some; ++i)
        look_up_and_add(sum, w + i * tile_columns, a.table(0, i), a.table(1, i));
    MESHD_UNROLL for (int p = 0; p < tile_pairs; ++p)
        MESHD_UNROLL for (int g = 0; g < tile_registers; ++g)
            add_halves(sum[p][g], &total[p][g], &high[p][g]);
}

/* A chain of `units` <= chain_units, added to `to`, or put there. (Local arrays that are not part of a
 * struct: those g++ keeps in registers.) */
MESHD_IN_PLACE void count_chain(pair_offsets a, const uint8_t *w, size_t units, bool first,
                                word_sums *to) {
    bytes total[tile_pairs][tile_registers], high[tile_pairs][tile_registers];
    MESHD_UNROLL for (int p = 0; p < tile_pairs; ++p)
        MESHD_UNROLL for (int g = 0; g < tile_registers; ++g) total[p][g] = high[p][g] = zero();
    for (; units >= 3; units -= 3, a.a += 12, w += 12 * tile_columns)
        MESHD_UNROLL for (int i = 0; i < 12; i += 3) count_some<3>(a, i, w, total, high);
    for (; units > 0; --units, a.a += 4, w += 4 * tile_columns) {
        count_some<3>(a, 0, w, total, high);
        count_some<1>(a, 3, w, total, high);
    }
    MESHD_UNROLL for (int p = 0; p < tile_pairs; ++p)
        MESHD_UNROLL for (int g = 0; g < tile_registers; ++g) {
            const bytes low = without_high(total[p][g], high[p][g]);
            if (first) {
                put_bytes(low, 2 * p, g, to);
                put_bytes(high[p][g], 2 * p + 1, g, to);
            } else {
                add_bytes(low, 2 * p, g, to);
                add_bytes(high[p][g], 2 * p + 1, g, to);
            }
        }
    settle(to);
}

// The sums of byte_lanes columns in order.
inline void columns_in_order(const word_sums &block, int r, int c, uint16_t *words) {
    const int i = (r * tile_columns + c) / 2;
    const bytes high = load(block.high + i);
    store_in_order(words, subtract_words(load(block.total + i), to_high_bytes(high)), high);
}

// (Out of line: there is a second block from 65520 elements on.)
__attribute__((noinline)) void add_block(const word_sums &block, bool first, counts *to) {
    for (int r = 0; r < tile_rows; ++r)
        for (int c = 0; c < tile_columns; c += byte_lanes) {
            alignas(64) uint16_t words[byte_lanes];
            columns_in_order(block, r, c, words);
            for (int i = 0; i < byte_lanes; i += lanes) {
                int32_t *count = to->of[r] + c + i;
                const integers more = widen_words(words + i);
                store(count, first ? more : add(load_integers(count), more));
            }
        }
}

/* The counts of a segment: those of its last block in `last`, those of the blocks before it in
 * `before`, if there are any (returned). */
MESHD_IN_PLACE bool count_segment(pair_offsets a, const uint8_t *w, size_t units, word_sums *last,
                                  counts *before) {
    if (units == 0) count_chain(a, w, 0, true, last);
    bool any_before = false;
    for (size_t in_block = 0; units > 0;) {
        if (in_block == block_units) {
            add_block(*last, !any_before, before);
            any_before = true;
            in_block = 0;
        }
        const size_t some = units < chain_units ? units : chain_units;
        count_chain(a, w, some, in_block == 0, last);
        in_block += some;
        units -= some;
        a.a += 4 * some;
        w += 4 * some * tile_columns;
    }
    return any_before;
}

template <class Coding> void tile_any(const tile_job *job) {
    alignas(64) static constexpr pair_tables tables(Coding::value);
    const size_t a_size = job->units + 1 + Coding::extra, w_size = (job->units + 1) * tile_columns;
    const uint32_t *a = job->a, *w = job->w;
    for (size_t s = 0; s < job->groups; ++s, a += tile_rows * a_size, w += w_size) {
        counts before;
        word_sums last;
        const bool any_before =
            count_segment({&tables.entry[0][0], (const uint8_t *)a, 4 * a_size},
                          (const uint8_t *)w, job->units, &last, &before);
        const uint32_t *alpha_w = w + job->units * tile_columns;
        for (int r = 0; r < tile_rows; ++r) {
            const uint32_t *alpha_a = a + (size_t)r * a_size + job->units;
            const integers minus = broadcast_integer(Coding::subtrahend(job, alpha_a + 1));
            const floats alpha = broadcast_float(alpha_a);
            float *out = job->out + (size_t)r * job->stride;
            const bool past_caches = job->past_caches && job->groups == 1; // else it is read again
            const float *from = s ? out : job->start + (size_t)r * job->start_stride;
            alignas(64) uint16_t words[tile_columns];
            for (int c = 0; c < tile_columns; c += byte_lanes)
                columns_in_order(last, r, c, words + c);
            for (int c = 0; c < tile_columns; c += lanes) {
                integers n = widen_words(words + c);
                if (any_before) n = add(n, load_integers(before.of[r] + c));
                const floats dot = as_floats(subtract(add(n, n), minus));
                const floats scaled = multiply(load_floats(alpha_w + c), dot);
                const floats sum = multiply_add(alpha, scaled, load_out(from + c));
                past_caches ? stream_out(out + c, sum) : store_out(out + c, sum);
            }
        }
    }
}

} // namespace

#endif
