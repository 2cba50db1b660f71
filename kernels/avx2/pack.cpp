// Floats to bits and scales, and back, eight elements at a time.
#include "stream.h"
#include "pack_row.h"

namespace {

template <class Coding>
void pack(const float *x, size_t rows, size_t k, size_t beta, uint64_t *words, float *scales) {
    for (size_t r = 0; r < rows; ++r) {
        pack_row<Coding>(x, k, beta, words, scales,
                         [=](size_t i, size_t lanes) { return load(x + i, lanes); });
        x += k;
        words += (k + 63) / 64;
        scales += (k + beta - 1) / beta;
    }
}

template <class Element>
void unpack(const packed_matrix *m, size_t k, float *out, Element element) {
    const uint64_t *words = m->words;
    const float *scales = m->scales;
    for (size_t r = 0; r < m->rows; ++r) {
        each_group(k, m->beta, [=](size_t i, size_t lanes, size_t segment) {
            const __m256 scale = _mm256_broadcast_ss(scales + segment);
            store(out + i, lanes, element(scale, bits_at(words, i, lanes)));
        });
        words += (k + 63) / 64;
        scales += (k + m->beta - 1) / m->beta;
        out += k;
    }
}

} // namespace

extern "C" void meshd_pack_signed_f32_avx2(const float *x, size_t rows, size_t k, size_t beta,
                                           uint64_t *words, float *scales) {
    pack<is_set_signed>(x, rows, k, beta, words, scales);
}

extern "C" void meshd_pack_unipolar_f32_avx2(const float *x, size_t rows, size_t k, size_t beta,
                                             uint64_t *words, float *scales) {
    pack<is_set_unipolar>(x, rows, k, beta, words, scales);
}

extern "C" void meshd_segment_means_f32_avx2(const float *x, size_t rows, size_t k, size_t beta,
                                             float *means) {
    for (size_t r = 0; r < rows; ++r, x += k)
        for (size_t begin = 0; begin < k; begin += beta)
            *means++ = mean_abs(x + begin, smaller(beta, k - begin));
}

extern "C" void meshd_unpack_signed_f32_avx2(const packed_matrix *m, size_t k, float *out) {
    unpack(m, k, out, [](__m256 scale, uint32_t bits) { return signed_by(scale, bits); });
}

extern "C" void meshd_unpack_unipolar_f32_avx2(const packed_matrix *m, size_t k, float *out) {
    unpack(m, k, out, [](__m256 scale, uint32_t bits) {
        return _mm256_and_ps(scale, _mm256_castsi256_ps(lanes_of(bits)));
    });
}

// Lanes that are cut off hold +0, which lies within: hence the mask.
extern "C" void meshd_within_f32_avx2(const float *x, size_t rows, size_t k, float cut,
                                      uint64_t *words) {
    const __m256 most = _mm256_set1_ps(cut);
    const auto bits_of = [most](__m256 x) {
        return (uint64_t)(uint32_t)_mm256_movemask_ps(_mm256_cmp_ps(magnitude(x), most, _CMP_LE_OQ));
    };
    for (size_t r = 0; r < rows; ++r, x += k)
        for (size_t begin = 0; begin < k; begin += 64) {
            uint64_t word = 0;
            for (size_t i = begin; i < smaller(begin + 64, k); i += width) {
                const size_t lanes = smaller(width, k - i);
                const uint64_t bits = bits_of(load(x + i, lanes)) & ((1u << lanes) - 1);
                word |= bits << (i % 64);
            }
            *words++ = word;
        }
}
