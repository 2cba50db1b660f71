#include "strips.h"

#include <string.h>

namespace meshd {

std::vector<strip> cut(size_t k, size_t beta) {
    std::vector<strip> strips;
    for (size_t s = 0, begin = 0; begin < k; ++s) {
        const size_t end = k - begin < beta ? k : begin + beta;
        while (begin < end) {
            const size_t lanes = end - begin < MESHD_STRIP ? end - begin : (size_t)MESHD_STRIP;
            strips.push_back({s, begin, lanes});
            begin += lanes;
        }
    }
    return strips;
}

uint64_t window(const uint64_t *row, size_t words, size_t begin, size_t lanes) {
    const size_t word = begin / 64, shift = begin % 64;
    uint64_t bits = row[word] >> shift;
    if (shift && word + 1 < words) bits |= row[word + 1] << (64 - shift);
    return lanes < 64 ? bits & (((uint64_t)1 << lanes) - 1) : bits;
}

void windows(const uint64_t *row, size_t words, const strip &of, uint64_t *to) {
    for (size_t done = 0; done < of.lanes; done += MESHD_PANEL)
        *to++ = row ? window(row, words, of.begin + done, of.lanes - done) : ~(uint64_t)0;
}

void windows_down(const packed_matrix &b, size_t k, const strip &of, size_t panel, size_t first,
                  size_t step, size_t count, uint64_t *to) {
    const size_t words = ceiling(k, 64), done = panel * MESHD_PANEL;
    for (size_t i = 0, c = first; i < count; ++i, c += step)
        to[i] = c < b.rows ? window(b.words + c * words, words, of.begin + done, of.lanes - done)
                           : 0;
}

// Four rows of four floats at a time, turned in registers; what is left, one by one.
void transpose(const float *from, size_t rows, size_t columns, size_t from_stride, float *to,
               size_t to_stride) {
    typedef float four __attribute__((vector_size(16)));
    constexpr size_t side = 4;
    const size_t whole_rows = rows / side * side, whole_columns = columns / side * side;
    constexpr size_t ahead = 16; // rows may be pages apart, where no processor guesses the next
    for (size_t r = 0; r < whole_rows; r += side) {
        if (r + ahead + side <= rows)
            for (size_t i = r + ahead; i < r + ahead + side; ++i)
                for (size_t c = 0; c < columns; c += 16)
                    __builtin_prefetch(from + i * from_stride + c);
        for (size_t c = 0; c < whole_columns; c += side) {
            four a[side];
            for (size_t i = 0; i < side; ++i)
                memcpy(&a[i], from + (r + i) * from_stride + c, sizeof a[i]);
            const four low01 = __builtin_shufflevector(a[0], a[1], 0, 4, 1, 5);
            const four high01 = __builtin_shufflevector(a[0], a[1], 2, 6, 3, 7);
            const four low23 = __builtin_shufflevector(a[2], a[3], 0, 4, 1, 5);
            const four high23 = __builtin_shufflevector(a[2], a[3], 2, 6, 3, 7);
            a[0] = __builtin_shufflevector(low01, low23, 0, 1, 4, 5);
            a[1] = __builtin_shufflevector(low01, low23, 2, 3, 6, 7);
            a[2] = __builtin_shufflevector(high01, high23, 0, 1, 4, 5);
            a[3] = __builtin_shufflevector(high01, high23, 2, 3, 6, 7);
            for (size_t i = 0; i < side; ++i)
                memcpy(to + (c + i) * to_stride + r, &a[i], sizeof a[i]);
        }
    }
    for (size_t r = 0; r < rows; ++r)
        for (size_t c = r < whole_rows ? whole_columns : 0; c < columns; ++c)
            to[c * to_stride + r] = from[r * from_stride + c];
}

size_t rows_of_task(const backward_operands &x, size_t unit) {
    constexpr size_t copied_floats = 100000; // well within a second cache of 1 MB
    size_t units = 1;
    while (x.transposed && units < 4 && 2 * units * unit * x.b.rows <= copied_floats &&
           x.rows / (2 * units * unit) >= 4 * x.threads)
        units *= 2;
    return units * unit;
}

bool stores_past_caches(const backward_operands &x) {
    constexpr size_t cached_bytes = 8 << 20, line_bytes = 64, line = line_bytes / sizeof *x.out;
    const bool strips_aligned = x.k % line == 0 && (x.b.beta % line == 0 || x.b.beta >= x.k);
    return x.rows * x.k * sizeof *x.out > cached_bytes && strips_aligned &&
           (uintptr_t)x.out % line_bytes == 0;
}

// The rows of a copy lie an odd number of cache lines apart: at a power of two they would all want
// the same place in the first cache.
row_block::row_block(const backward_operands &x, size_t first, size_t count)
    : first_(first), stride_(x.transposed ? (ceiling(x.b.rows, 16) | 1) * 16 : x.b.rows),
      copy_(x.transposed ? count * stride_ : 0),
      data_(x.transposed ? copy_.data() : x.g + first * stride_) {
    if (x.transposed) transpose(x.g + first, x.b.rows, count, x.rows, copy_.data(), stride_);
}

} // namespace meshd
