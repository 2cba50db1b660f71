#include "strips.h"

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

void transpose(const float *from, size_t rows, size_t columns, size_t from_stride, float *to) {
    constexpr size_t tile = 16; // a cache line of floats
    for (size_t r = 0; r < rows; r += tile)
        for (size_t c = 0; c < columns; c += tile) {
            const size_t r_end = rows - r < tile ? rows : r + tile;
            const size_t c_end = columns - c < tile ? columns : c + tile;
            for (size_t j = c; j < c_end; ++j)
                for (size_t i = r; i < r_end; ++i) to[j * rows + i] = from[i * from_stride + j];
        }
}

row_block::row_block(const backward_operands &x, size_t first, size_t count)
    : copy_(x.transposed ? count * x.b.rows : 0), data_(x.g + first * x.b.rows), first_(first),
      stride_(x.b.rows) {
    if (!x.transposed) return;
    transpose(x.g + first, x.b.rows, count, x.rows, copy_.data());
    data_ = copy_.data();
}

} // namespace meshd
