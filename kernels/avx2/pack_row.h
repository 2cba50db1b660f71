/* One row of floats to bits and segment scales: what pack, carry and the updates of latents
 * share.
 *
 * The bits go by words, the scales by segments, and both from one reading of the row where a
 * segment starts on a word. Where segments start inside words, the segments that end in a word are
 * summed right after it, from the first cache level.
 *
 * The sixteen partial sums of a mean are two registers: lane j of `low` is sum j, lane j of `high`
 * sum j + 8. A group that is cut off at the segment's end is loaded with zeros behind it, and
 * x + 0 = x for every x >= 0: the sums are those of the definition, bit for bit. */
#ifndef MESHD_AVX2_PACK_ROW_H
#define MESHD_AVX2_PACK_ROW_H

#include "simd.h"

namespace {

struct is_set_signed {
    static __m256 test(__m256 x) { return _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GE_OQ); }
};
struct is_set_unipolar {
    static __m256 test(__m256 x) { return _mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_GT_OQ); }
};

struct lane_sums {
    __m256 low = _mm256_setzero_ps(), high = _mm256_setzero_ps();

    float mean(size_t n) const {
        const __m256 eight = _mm256_add_ps(low, high); // lane[j] += lane[j + 8]
        __m128 sum = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        sum = _mm_add_ps(sum, _mm_movehl_ps(sum, sum)); // += lane[j + 2]
        sum = _mm_add_ss(sum, _mm_movehdup_ps(sum));    // += lane[1]
        return _mm_cvtss_f32(sum) / (float)n;
    }
};

inline float mean_abs(const float *x, size_t n) {
    lane_sums sums;
    size_t i = 0;
    for (; i + 2 * width <= n; i += 2 * width) {
        sums.low = _mm256_add_ps(sums.low, magnitude(_mm256_loadu_ps(x + i)));
        sums.high = _mm256_add_ps(sums.high, magnitude(_mm256_loadu_ps(x + i + width)));
    }
    if (i < n) sums.low = _mm256_add_ps(sums.low, magnitude(load(x + i, smaller(width, n - i))));
    if (i + width < n)
        sums.high = _mm256_add_ps(sums.high, magnitude(load(x + i + width, n - i - width)));
    return sums.mean(n);
}

// Eight elements: returns their bits, adds their magnitudes to `sum`.
template <class Coding> inline uint64_t take(__m256 x, __m256 *sum) {
    *sum = _mm256_add_ps(*sum, magnitude(x));
    return (uint64_t)(uint32_t)_mm256_movemask_ps(Coding::test(x));
}

// The word of elements i .. i+count-1, 1 <= count <= 64, i a multiple of 64; adds their magnitudes to
// the segment's sums. Lanes that are cut off hold +0, which `signed` would count as a set bit: hence
// the mask at the end.
template <class Coding, class Values>
inline uint64_t take_word(size_t i, size_t count, lane_sums *sums, Values &values) {
    uint64_t word = 0;
    if (count == 64) {
        for (size_t at = 0; at < 64; at += 2 * width) {
            word |= take<Coding>(values(i + at, width), &sums->low) << at;
            word |= take<Coding>(values(i + at + width, width), &sums->high) << (at + width);
        }
        return word;
    }
    for (size_t at = 0; at < count; at += width) {
        __m256 *sum = at / width % 2 ? &sums->high : &sums->low;
        word |= take<Coding>(values(i + at, smaller(width, count - at)), sum) << at;
    }
    return word & ~(uint64_t)0 >> (64 - count);
}

// values(i, lanes) gives the elements i .. i+lanes-1 of the row, zeros behind them; it is called
// once for each group, in order, and when it returns they stand in x, too.
template <class Coding, class Values>
inline void pack_row(const float *x, size_t k, size_t beta, uint64_t *words, float *scales,
                     Values values) {
    const bool by_words = beta % 64 == 0 || beta >= k;
    lane_sums sums;
    size_t begin = 0; // of the segment that is being summed
    size_t length = smaller(beta, k);
    for (size_t i = 0; i < k; i += 64) {
        const size_t count = smaller(64, k - i);
        *words++ = take_word<Coding>(i, count, &sums, values);
        while (begin < k && begin + length <= i + count) {
            *scales++ = by_words ? sums.mean(length) : mean_abs(x + begin, length);
            sums = lane_sums();
            begin += length;
            length = smaller(beta, k - begin);
        }
    }
}

} // namespace

#endif
