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

struct alignas(64) word_sums {
    uint16_t total[tile_rows * tile_columns / 2], high[tile_rows * tile_columns / 2];
};

inline void clear(word_sums *sums) {
    MESHD_UNROLL for (int i = 0; i < tile_rows * tile_columns / 2; i += byte_lanes / 2) {
        store(sums->total + i, zero());
        store(sums->high + i, zero());
    }
    settle(sums);
}

inline void add_chain(const byte_sums &chain, word_sums *to) {
    MESHD_UNROLL for (int i = 0; i < tile_rows * tile_columns; i += byte_lanes) {
        const bytes sum = load(&chain.of[0][0] + i);
        uint16_t *total = to->total + i / 2, *high = to->high + i / 2;
        store(total, add_words(load(total), sum));
        store(high, add_words(load(high), high_bytes(sum)));
    }
    settle(to);
}

// Counts of the first block are stored: nothing has to be zeroed.
inline void add_block(const word_sums &block, bool first, counts *to) {
    MESHD_UNROLL for (int i = 0; i < tile_rows * tile_columns; i += byte_lanes) {
        alignas(64) uint16_t words[byte_lanes];
        const bytes high = load(block.high + i / 2);
        store_in_order(words, subtract_words(load(block.total + i / 2), to_high_bytes(high)), high);
        int32_t *count = &to->of[0][0] + i;
        for (int c = 0; c < byte_lanes; c += lanes) {
            const integers more = widen_words(words + c);
            store(count + c, first ? more : add(load_integers(count + c), more));
        }
    }
}

/* The counts of a segment. */
inline void count_segment(const nibble_tables &tables, const uint8_t *a, size_t stride,
                          const uint8_t *w, size_t units, counts *to) {
    for (size_t done = 0; done < units;) {
        word_sums block;
        clear(&block);
        const size_t first = done, end = units - done < block_units ? units : done + block_units;
        while (done < end) {
            const size_t some = end - done < chain_units ? end - done : chain_units;
            byte_sums sum;
            chain<4>(tables, a + done * 4, stride, w + done * 4 * tile_columns, some, &sum);
            add_chain(sum, &block);
            done += some;
        }
        add_block(block, first == 0, to);
    }
}

template <class Coding> void tile_any(const tile_job *job) {
    alignas(64) static constexpr nibble_tables tables(Coding::value);
    const size_t a_size = job->units + 1 + Coding::extra, w_size = (job->units + 1) * tile_columns;
    const uint32_t *a = job->a, *w = job->w;
    for (size_t s = 0; s < job->groups; ++s, a += tile_rows * a_size, w += w_size) {
        counts count;
        count_segment(tables, (const uint8_t *)a, 4 * a_size, (const uint8_t *)w, job->units,
                      &count);
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
