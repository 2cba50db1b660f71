// What stands before and after the inner products of the backward pass: sixteen elements at a time,
// bit for bit what scalar/backward.cpp does.
#include <immintrin.h>

#include "backward.h"

namespace {

constexpr size_t width = 16;

inline __mmask16 first_lanes(size_t n) { return (__mmask16)(n < width ? (1u << n) - 1 : 0xffff); }

// v[c .. c + 15]; +0 from n on, which are not touched.
inline __m512 scaled(const float *g, const float *alpha, size_t c, size_t n) {
    if (c + width <= n) return _mm512_mul_ps(_mm512_loadu_ps(g + c), _mm512_loadu_ps(alpha + c));
    if (c >= n) return _mm512_setzero_ps();
    const __mmask16 exist = first_lanes(n - c);
    return _mm512_mul_ps(_mm512_maskz_loadu_ps(exist, g + c),
                         _mm512_maskz_loadu_ps(exist, alpha + c));
}

// 16 random bits of each of sixteen counters.
inline __m512i random_bits(__m512i counter, __m512i second) {
    __m512i x = _mm512_xor_si512(counter, _mm512_srli_epi32(counter, 16));
    x = _mm512_mullo_epi32(x, _mm512_set1_epi32(0x7feb352d));
    x = _mm512_ternarylogic_epi32(x, _mm512_srli_epi32(x, 15), second, 0x96); // exclusive or
    return _mm512_srli_epi32(_mm512_mullo_epi32(x, _mm512_set1_epi32((int)0x846ca68b)), 16);
}

inline __m512i counters(uint32_t first) {
    return _mm512_add_epi32(
        _mm512_set1_epi32((int)first),
        _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

inline uint32_t kept(const uint64_t *keep, size_t i) {
    return (uint32_t)(keep[i / 64] >> i % 64) & 0xffff;
}

inline void put(float *out, __mmask16 exist, int past_caches, __m512 x) {
    if (past_caches)
        _mm512_stream_ps(out, x);
    else
        _mm512_mask_storeu_ps(out, exist, x);
}

} // namespace

extern "C" void meshd_scale_avx512bw(const float *g, const float *alpha, size_t n, float *v) {
    for (size_t c = 0; c < n; c += width)
        _mm512_mask_storeu_ps(v + c, first_lanes(n - c), scaled(g, alpha, c, n));
}

extern "C" uint32_t meshd_largest_avx512bw(const float *g, const float *alpha, size_t n) {
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (size_t c = 0; c < n; c += 2 * width) {
        const __m512i first = _mm512_castps_si512(scaled(g, alpha, c, n));
        const __m512i second = _mm512_castps_si512(scaled(g, alpha, c + width, n));
        even = _mm512_max_epu32(even, _mm512_and_si512(first, magnitude));
        odd = _mm512_max_epu32(odd, _mm512_and_si512(second, magnitude));
    }
    return _mm512_reduce_max_epu32(_mm512_max_epu32(even, odd));
}

extern "C" int32_t meshd_round_int8_avx512bw(const float *g, const float *alpha, size_t n,
                                             float inverse, uint32_t first, uint32_t second,
                                             int8_t *values) {
    const __m512i key = _mm512_set1_epi32((int)second), step = _mm512_set1_epi32(width);
    const __m512 to_fixed = _mm512_set1_ps(inverse);
    __m512i counter = counters(first);
    __m512i sum = _mm512_setzero_si512();
    for (size_t c = 0; c < n; c += width, counter = _mm512_add_epi32(counter, step)) {
        const __m512i fixed =
            _mm512_cvttps_epi32(_mm512_mul_ps(scaled(g, alpha, c, n), to_fixed));
        __m512i q = _mm512_srai_epi32(_mm512_add_epi32(fixed, random_bits(counter, key)), 16);
        q = _mm512_min_epi32(q, _mm512_set1_epi32(127));
        const __mmask16 exist = first_lanes(n - c);
        sum = _mm512_mask_add_epi32(sum, exist, sum, q);
        _mm512_mask_cvtepi32_storeu_epi8(values + c, exist, q);
    }
    return _mm512_reduce_add_epi32(sum);
}

extern "C" int32_t meshd_digits_planes_avx512bw(const float *g, const float *alpha, size_t n,
                                                size_t groups, float inverse, size_t planes,
                                                const uint16_t *carry, uint16_t *keys,
                                                size_t pair_stride) {
    const __m512 to_fixed = _mm512_set1_ps(inverse);
    const __m512i middle = _mm512_set1_epi32(32768 * meshd_largest_digit(planes));
    const __m512i pair = _mm512_set1_epi32(3), fraction = _mm512_set1_epi32(0xffff);
    __m512i chain = _mm512_add_epi32( // the carries, with the middle that is due to the next
        middle, _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)carry)));
    __m512i sum = _mm512_setzero_si512();
    for (size_t group = 0; group < groups; group += width) {
        const __mmask16 exist = first_lanes(groups - group);
        __m512i low = _mm512_setzero_si512(), high = low;
        for (size_t j = 0; j < MESHD_PLANES_GROUP; ++j) {
            const size_t c = j * groups + group;
            if (c >= n) break;
            const size_t end = n < (j + 1) * groups ? n : (j + 1) * groups;
            const __m512i fixed =
                _mm512_cvtps_epi32(_mm512_mul_ps(scaled(g, alpha, c, end), to_fixed));
            const __mmask16 lanes = first_lanes(end - c);
            const __m512i t = _mm512_add_epi32(fixed, chain);
            const __m512i digit = _mm512_maskz_srli_epi32(lanes, t, 16);
            chain = _mm512_mask_add_epi32(chain, lanes, _mm512_and_si512(t, fraction), middle);
            sum = _mm512_add_epi32(sum, digit);
            const __m128i shift = _mm_cvtsi32_si128(2 * (int)j);
            if (planes > 2) {
                low = _mm512_or_si512(low, _mm512_sll_epi32(_mm512_and_si512(digit, pair), shift));
                high = _mm512_or_si512(high, _mm512_sll_epi32(_mm512_srli_epi32(digit, 2), shift));
            } else {
                low = _mm512_or_si512(low, _mm512_sll_epi32(digit, shift));
            }
        }
        _mm512_mask_cvtepi32_storeu_epi16(keys + group, exist, low);
        if (planes > 2) _mm512_mask_cvtepi32_storeu_epi16(keys + pair_stride + group, exist, high);
    }
    return _mm512_reduce_add_epi32(sum);
}

extern "C" void meshd_finish_exact_avx512bw(const float *sums, size_t n, const uint64_t *keep,
                                            int past_caches, float *out) {
    for (size_t i = 0; i < n; i += width)
        put(out + i, first_lanes(n - i), past_caches,
            _mm512_maskz_loadu_ps((__mmask16)kept(keep, i), sums + i));
}

extern "C" void meshd_finish_integer_avx512bw(const int32_t *sums, size_t n, int32_t factor,
                                              const int32_t *offset, int32_t constant, float step,
                                              const uint64_t *keep, int past_caches, float *out) {
    const __m512i times = _mm512_set1_epi32(factor), plus = _mm512_set1_epi32(constant);
    for (size_t i = 0; i < n; i += width) {
        __m512i sum = _mm512_mullo_epi32(_mm512_loadu_si512(sums + i), times);
        sum = _mm512_add_epi32(sum, _mm512_add_epi32(_mm512_loadu_si512(offset + i), plus));
        put(out + i, first_lanes(n - i), past_caches,
            _mm512_maskz_mul_ps((__mmask16)kept(keep, i), _mm512_set1_ps(step),
                                _mm512_cvtepi32_ps(sum)));
    }
}
