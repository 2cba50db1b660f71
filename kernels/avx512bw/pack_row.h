/* One row of floats to bits and segment scales: what pack, carry and the updates of latents share.
 *
 * The bits go by words, the scales by segments, and both from one reading of the row where segments
 * start on words, or on halves or quarters of them. Where they start anywhere, those that end in a
 * word are summed right after it, from the first cache level.
 *
 * The sixteen partial sums of a mean are the sixteen lanes of one register. A group that is cut off
 * at the segment's end has zeros behind it, and x + 0 = x for every x >= 0: the sums are those of
 * the definition, bit for bit. */
#ifndef MESHD_AVX512BW_PACK_ROW_H
#define MESHD_AVX512BW_PACK_ROW_H

#include "simd.h"

namespace {

struct is_set_signed {
    static __mmask16 test(__m512 x) {
        return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ);
    }
};
struct is_set_unipolar {
    static __mmask16 test(__m512 x) {
        return _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GT_OQ);
    }
};

// lane[j] += lane[j + 8], then += lane[j + 4], += lane[j + 2], += lane[1]; over n.
inline float mean_of_lanes(__m512 lanes, size_t n) {
    const __m256 eight =
        _mm256_add_ps(_mm512_castps512_ps256(lanes), _mm512_extractf32x8_ps(lanes, 1));
    __m128 sum = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum));
    sum = _mm_add_ss(sum, _mm_movehdup_ps(sum));
    return _mm_cvtss_f32(sum) / (float)n;
}

inline __m512 add_magnitude(__m512 sums, __m512 x) {
    return _mm512_add_ps(sums, _mm512_abs_ps(x));
}

inline float mean_abs(const float *x, size_t n) {
    __m512 sums = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + width <= n; i += width) sums = add_magnitude(sums, _mm512_loadu_ps(x + i));
    if (i < n) sums = add_magnitude(sums, load(x + i, n - i));
    return mean_of_lanes(sums, n);
}

// The means of four registers of sums at once, each in mean_of_lanes' order: every step adds two
// halves of what is left of each, and closes the gap with the next one's.
inline __m128 means_of_four(__m512 a, __m512 b, __m512 c, __m512 d, size_t n) {
    const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
    const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
    __m512 sum = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
    sum = _mm512_add_ps(sum, _mm512_permute_ps(sum, 0x0e)); // lane[j] += lane[j + 2] of each four
    sum = _mm512_add_ps(sum, _mm512_movehdup_ps(sum));
    const __m512i firsts = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);
    const __m128 sums = _mm512_castps512_ps128(_mm512_permutexvar_ps(firsts, sum));
    return _mm_div_ps(sums, _mm_set1_ps((float)n));
}

// Whoever packs a row says where its elements come from: values(i, lanes) gives elements i ..
// i+lanes-1, zeros behind them; called once for each, in order. Then they stand in x, too.

// The word of elements i .. i+count-1, 1 <= count <= 64; adds their magnitudes to `sums`. Lanes that
// are cut off hold +0, which `signed` would count as a set bit: hence the mask at the end.
template <class Coding, class Values>
inline uint64_t take_word(size_t i, size_t count, __m512 *sums, Values &values) {
    uint64_t word = 0;
    if (count == 64) {
        for (size_t at = 0; at < 64; at += width) {
            const __m512 x = values(i + at, width);
            *sums = add_magnitude(*sums, x);
            word |= (uint64_t)Coding::test(x) << at;
        }
        return word;
    }
    for (size_t at = 0; at < count; at += width) {
        const __m512 x = values(i + at, smaller(width, count - at));
        *sums = add_magnitude(*sums, x);
        word |= (uint64_t)Coding::test(x) << at;
    }
    return word & ~(uint64_t)0 >> (64 - count);
}

// The same for a whole word of segments of 16 or 32; stores their means.
template <class Coding, class Values>
inline uint64_t take_short_segments(size_t i, size_t beta, float *scales, Values &values) {
    __m512 x[4];
    uint64_t word = 0;
    for (size_t g = 0; g < 4; ++g) {
        x[g] = values(i + g * width, width);
        word |= (uint64_t)Coding::test(x[g]) << (g * width);
        x[g] = _mm512_abs_ps(x[g]);
    }
    if (beta == 16) {
        _mm_storeu_ps(scales, means_of_four(x[0], x[1], x[2], x[3], 16));
        return word;
    }
    const __m512 a = _mm512_add_ps(x[0], x[1]), b = _mm512_add_ps(x[2], x[3]);
    _mm_mask_storeu_ps(scales, 3, means_of_four(a, b, a, b, 32));
    return word;
}

// Segments of whole words. A mean is taken when the word after its segment is under way: it waits
// for a chain of additions, and would hold that word up.
template <class Coding, class Values>
inline void pack_long_segments(size_t k, size_t beta, uint64_t *words, float *scales,
                               Values &values) {
    __m512 before = _mm512_setzero_ps();
    for (size_t begin = 0; begin < k; begin += beta) {
        const size_t end = begin + smaller(beta, k - begin);
        __m512 sums = _mm512_setzero_ps();
        *words++ = take_word<Coding>(begin, smaller(64, end - begin), &sums, values);
        if (begin > 0) *scales++ = mean_of_lanes(before, beta);
        for (size_t i = begin + 64; i < end; i += 64)
            *words++ = take_word<Coding>(i, smaller(64, end - i), &sums, values);
        before = sums;
    }
    if (k > 0) *scales = mean_of_lanes(before, k - (k - 1) / beta * beta);
}

// Any segments, from element `first` on, where a word and a segment start.
template <class Coding, class Values>
inline void pack_any_segments(const float *x, size_t first, size_t k, size_t beta, uint64_t *words,
                              float *scales, Values &values) {
    size_t begin = first, length = smaller(beta, k - first);
    for (size_t i = first; i < k; i += 64) {
        const size_t count = smaller(64, k - i);
        __m512 unused = _mm512_setzero_ps();
        *words++ = take_word<Coding>(i, count, &unused, values);
        while (begin < k && begin + length <= i + count) {
            *scales++ = mean_abs(x + begin, length);
            begin += length;
            length = smaller(beta, k - begin);
        }
    }
}

template <class Coding, class Values>
inline void pack_row(const float *x, size_t k, size_t beta, uint64_t *words, float *scales,
                     Values values) {
    if (beta % 64 == 0 || beta >= k)
        return pack_long_segments<Coding>(k, beta, words, scales, values);
    size_t i = 0;
    if (beta == 16 || beta == 32)
        for (; i + 64 <= k; i += 64, scales += 64 / beta)
            *words++ = take_short_segments<Coding>(i, beta, scales, values);
    pack_any_segments<Coding>(x, i, k, beta, words, scales, values);
}

} // namespace

#endif
