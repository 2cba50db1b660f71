// The inner products of the backward pass, without the tables that make them fast: what is looked
// up elsewhere is added up here, in the same order.
#include "backward.h"

namespace {

// Bit j of lane i of the index is bit i of window j: a matrix of bits, transposed.
template <class Word>
void columns(const uint64_t *windows, size_t step, size_t bits, Word *index) {
    for (size_t lane = 0; lane < MESHD_PANEL; ++lane) {
        Word word = 0;
        for (size_t j = 0; j < bits; ++j)
            word |= (Word)((Word)(windows[j * step] >> lane & 1) << j);
        index[lane] = word;
    }
}

} // namespace

extern "C" void meshd_columns_exact_scalar(const uint64_t *windows, size_t words, uint32_t *index,
                                           size_t stride) {
    for (size_t w = 0; w < words; ++w)
        columns(windows + w * MESHD_EXACT_WORD, 1, MESHD_EXACT_WORD, index + w * stride);
}

extern "C" void meshd_columns_int8_scalar(const uint64_t *windows, size_t words, uint16_t *index,
                                          size_t stride) {
    for (size_t w = 0; w < words; ++w)
        columns(windows + w * MESHD_INT8_WORD, 1, MESHD_INT8_WORD, index + w * stride);
}

extern "C" void meshd_columns_planes_scalar(const uint64_t *windows, size_t groups, uint8_t *index,
                                            size_t stride) {
    for (size_t g = 0; g < groups; ++g)
        columns(windows + g, groups, MESHD_PLANES_GROUP, index + g * stride);
}

extern "C" void meshd_sums_exact_scalar(const float *values, size_t words, const uint32_t *index,
                                        size_t panels, float zero, float *sums) {
    const size_t lanes = panels * MESHD_PANEL;
    for (size_t r = 0; r < MESHD_EXACT_ROWS; ++r)
        for (size_t lane = 0; lane < lanes; ++lane) {
            const float *v = values + r * MESHD_EXACT_BLOCK * MESHD_EXACT_WORD;
            float sum = sums[r * MESHD_STRIP + lane];
            for (size_t w = 0; w < words; ++w) {
                uint32_t bits = index[w * lanes + lane];
                for (size_t group = 0; group < 6; ++group, v += 5, bits >>= 5) {
                    float x = v[0] * (bits & 1 ? 1.0f : zero);
                    for (size_t j = 1; j < 5; ++j) x = x + v[j] * (bits >> j & 1 ? 1.0f : zero);
                    sum = sum + x;
                }
            }
            sums[r * MESHD_STRIP + lane] = sum;
        }
}

extern "C" void meshd_sums_int8_scalar(const int8_t *values, size_t row_stride, size_t words,
                                       const uint16_t *index, size_t panels, int32_t *sums) {
    const size_t lanes = panels * MESHD_PANEL;
    for (size_t r = 0; r < MESHD_INT8_ROWS; ++r)
        for (size_t lane = 0; lane < lanes; ++lane) {
            const int8_t *v = values + r * row_stride;
            int32_t sum = 0;
            for (size_t w = 0; w < words; ++w)
                for (size_t j = 0; j < MESHD_INT8_WORD; ++j)
                    sum += (index[w * lanes + lane] >> j & 1) * *v++;
            sums[r * MESHD_STRIP + lane] += sum;
        }
}

extern "C" void meshd_sums_planes_scalar(const uint16_t *keys, size_t row_stride,
                                         size_t pair_stride, size_t groups, size_t planes,
                                         const uint8_t *index, size_t panels, int32_t *sums) {
    const size_t lanes = panels * MESHD_PANEL, pairs = (planes + 1) / 2;
    for (size_t r = 0; r < MESHD_PLANES_ROWS; ++r)
        for (size_t lane = 0; lane < lanes; ++lane) {
            int32_t sum = 0;
            for (size_t p = 0; p < pairs; ++p)
                for (size_t g = 0; g < groups; ++g) {
                    const uint16_t key = keys[r * row_stride + p * pair_stride + g];
                    for (size_t j = 0; j < MESHD_PLANES_GROUP; ++j)
                        sum += (index[g * lanes + lane] >> j & 1) * (key >> 2 * j & 3) << 2 * p;
                }
            sums[r * MESHD_STRIP + lane] += sum;
        }
}
