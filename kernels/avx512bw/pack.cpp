// Floats to bits and scales, and back, sixteen elements at a time.
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
            store(out + i, lanes,
                  element(_mm512_set1_ps(scales[segment]), bits_at(words, i, lanes)));
        });
        words += (k + 63) / 64;
        scales += (k + m->beta - 1) / m->beta;
        out += k;
    }
}

} // namespace

extern "C" void meshd_pack_signed_f32_avx512bw(const float *x, size_t rows, size_t k, size_t beta,
                                               uint64_t *words, float *scales) {
    pack<is_set_signed>(x, rows, k, beta, words, scales);
}

extern "C" void meshd_pack_unipolar_f32_avx512bw(const float *x, size_t rows, size_t k,
                                                 size_t beta, uint64_t *words, float *scales) {
    pack<is_set_unipolar>(x, rows, k, beta, words, scales);
}

extern "C" void meshd_segment_means_f32_avx512bw(const float *x, size_t rows, size_t k,
                                                 size_t beta, float *means) {
    for (size_t r = 0; r < rows; ++r, x += k)
        for (size_t begin = 0; begin < k; begin += beta)
            *means++ = mean_abs(x + begin, smaller(beta, k - begin));
}

extern "C" void meshd_unpack_signed_f32_avx512bw(const packed_matrix *m, size_t k, float *out) {
    unpack(m, k, out, [](__m512 scale, __mmask16 bits) { return signed_by(scale, bits); });
}

extern "C" void meshd_unpack_unipolar_f32_avx512bw(const packed_matrix *m, size_t k, float *out) {
    unpack(m, k, out, [](__m512 scale, __mmask16 bits) { return _mm512_maskz_mov_ps(bits, scale); });
}

// Lanes that are cut off hold +0, which lies within: hence the mask.
extern "C" void meshd_within_f32_avx512bw(const float *x, size_t rows, size_t k, float cut,
                                          uint64_t *words) {
    const __m512 most = _mm512_set1_ps(cut);
    const auto bits_of = [most](__m512 x) {
        return (uint64_t)_mm512_cmp_ps_mask(_mm512_abs_ps(x), most, _CMP_LE_OQ);
    };
    for (size_t r = 0; r < rows; ++r, x += k)
        for (size_t begin = 0; begin < k; begin += 64) {
            uint64_t word = 0;
            for (size_t i = begin; i < smaller(begin + 64, k); i += width) {
                const size_t lanes = smaller(width, k - i);
                const uint64_t bits = bits_of(load(x + i, lanes)) & first_lanes(lanes);
                word |= bits << (i % 64);
            }
            *words++ = word;
        }
}
