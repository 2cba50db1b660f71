// Floats to bits and segment scales, and back: the definition of H_beta.
#include "stream.h"

#include <math.h>
#include "bits.h"

namespace {

// mean |x[i]|, 0 <= i < n, in the order that meshd_layout.h prescribes.
float mean_abs(const float *x, size_t n) {
    float lane[16] = {0};
    for (size_t i = 0; i < n; ++i) lane[i % 16] += __builtin_fabsf(x[i]);
    for (size_t half = 8; half > 0; half /= 2)
        for (size_t j = 0; j < half; ++j) lane[j] += lane[j + half];
    return lane[0] / (float)n;
}

bool is_set_signed(float x) { return x >= 0.0f; }
bool is_set_unipolar(float x) { return x > 0.0f; }

template <bool (*is_set)(float)>
void pack(const float *x, size_t rows, size_t k, size_t beta, uint64_t *words, float *scales) {
    for (size_t r = 0; r < rows; ++r, x += k) {
        for (size_t begin = 0; begin < k; begin += 64) {
            uint64_t word = 0;
            for (size_t i = begin; i < smaller(begin + 64, k); ++i)
                word |= (uint64_t)is_set(x[i]) << (i % 64);
            *words++ = word;
        }
        for (size_t begin = 0; begin < k; begin += beta)
            *scales++ = mean_abs(x + begin, smaller(beta, k - begin));
    }
}

template <bool is_signed> void unpack(const packed_matrix *m, size_t k, float *out) {
    const uint64_t *words = m->words;
    const float *scale = m->scales;
    for (size_t r = 0; r < m->rows; ++r, words += (k + 63) / 64)
        for (size_t begin = 0; begin < k; begin += m->beta, ++scale)
            for (size_t i = begin; i < begin + smaller(m->beta, k - begin); ++i)
                *out++ = bit_at(words, i) ? *scale : is_signed ? -*scale : 0.0f;
}

} // namespace

extern "C" void meshd_pack_signed_f32_scalar(const float *x, size_t rows, size_t k, size_t beta,
                                             uint64_t *words, float *scales) {
    pack<is_set_signed>(x, rows, k, beta, words, scales);
}

extern "C" void meshd_pack_unipolar_f32_scalar(const float *x, size_t rows, size_t k, size_t beta,
                                               uint64_t *words, float *scales) {
    pack<is_set_unipolar>(x, rows, k, beta, words, scales);
}

extern "C" void meshd_unpack_signed_f32_scalar(const packed_matrix *m, size_t k, float *out) {
    unpack<true>(m, k, out);
}

extern "C" void meshd_unpack_unipolar_f32_scalar(const packed_matrix *m, size_t k, float *out) {
    unpack<false>(m, k, out);
}

extern "C" void meshd_segment_means_f32_scalar(const float *x, size_t rows, size_t k, size_t beta,
                                               float *means) {
    for (size_t r = 0; r < rows; ++r, x += k)
        for (size_t begin = 0; begin < k; begin += beta)
            *means++ = mean_abs(x + begin, smaller(beta, k - begin));
}

extern "C" void meshd_within_f32_scalar(const float *x, size_t rows, size_t k, float cut,
                                        uint64_t *words) {
    for (size_t r = 0; r < rows; ++r, x += k)
        for (size_t begin = 0; begin < k; begin += 64) {
            uint64_t word = 0;
            for (size_t i = begin; i < smaller(begin + 64, k); ++i)
                word |= (uint64_t)(fabsf(x[i]) <= cut) << (i % 64);
            *words++ = word;
        }
}
