// What stands before and after the inner products of the backward pass: eight elements at a time,
// bit for bit what scalar/backward.cpp does.
#include "backward.h"
#include "simd.h"

namespace {

// v[c .. c + 7]; +0 from n on, which are not touched.
inline __m256 scaled(const float *g, const float *alpha, size_t c, size_t n) {
    if (c >= n) return _mm256_setzero_ps();
    const size_t lanes = smaller(width, n - c);
    return _mm256_mul_ps(load(g + c, lanes), load(alpha + c, lanes));
}

// 16 random bits of each of eight counters.
inline __m256i random_bits(__m256i counter, __m256i second) {
    __m256i x = _mm256_xor_si256(counter, _mm256_srli_epi32(counter, 16));
    x = _mm256_mullo_epi32(x, _mm256_set1_epi32(0x7feb352d));
    x = _mm256_xor_si256(x, _mm256_srli_epi32(x, 15));
    x = _mm256_xor_si256(x, second);
    return _mm256_srli_epi32(_mm256_mullo_epi32(x, _mm256_set1_epi32((int)0x846ca68b)), 16);
}

inline __m256i counters(uint32_t first) {
    return _mm256_add_epi32(_mm256_set1_epi32((int)first),
                            _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

inline __m256i kept(const uint64_t *keep, size_t i) {
    return lanes_of((uint32_t)(keep[i / 64] >> i % 64) & 0xff);
}

inline int32_t total(__m256i x) {
    alignas(32) int32_t lane[width];
    _mm256_store_si256((__m256i *)lane, x);
    int32_t sum = 0;
    for (int32_t one : lane) sum += one;
    return sum;
}

inline void put(float *out, size_t lanes, int past_caches, __m256 x) {
    if (past_caches)
        _mm256_stream_ps(out, x);
    else
        store(out, lanes, x);
}

} // namespace

extern "C" void meshd_scale_avx2(const float *g, const float *alpha, size_t n, float *v) {
    for (size_t c = 0; c < n; c += width)
        store(v + c, smaller(width, n - c), scaled(g, alpha, c, n));
}

extern "C" uint32_t meshd_largest_avx2(const float *g, const float *alpha, size_t n) {
    __m256i largest = _mm256_setzero_si256();
    for (size_t c = 0; c < n; c += width)
        largest = _mm256_max_epu32(largest,
                                   _mm256_castps_si256(magnitude(scaled(g, alpha, c, n))));
    alignas(32) uint32_t lane[width];
    _mm256_store_si256((__m256i *)lane, largest);
    uint32_t result = 0;
    for (uint32_t one : lane) result = one > result ? one : result;
    return result;
}

extern "C" int32_t meshd_round_int8_avx2(const float *g, const float *alpha, size_t n,
                                         float inverse, uint32_t first, uint32_t second,
                                         int8_t *values) {
    const __m256i key = _mm256_set1_epi32((int)second);
    const __m256 to_fixed = _mm256_set1_ps(inverse);
    __m256i counter = counters(first);
    __m256i sum = _mm256_setzero_si256();
    for (size_t c = 0; c < n; c += width) {
        const size_t lanes = smaller(width, n - c);
        const __m256i fixed =
            _mm256_cvttps_epi32(_mm256_mul_ps(scaled(g, alpha, c, n), to_fixed));
        __m256i q = _mm256_srai_epi32(_mm256_add_epi32(fixed, random_bits(counter, key)), 16);
        q = _mm256_min_epi32(q, _mm256_set1_epi32(127));
        q = _mm256_and_si256(q, first_lanes(lanes));
        sum = _mm256_add_epi32(sum, q);
        const __m256i words = _mm256_packs_epi32(q, q), bytes = _mm256_packs_epi16(words, words);
        const uint64_t packed =
            (uint32_t)_mm256_extract_epi32(bytes, 0) |
            (uint64_t)(uint32_t)_mm256_extract_epi32(bytes, 4) << 32;
        __builtin_memcpy(values + c, &packed, lanes);
        counter = _mm256_add_epi32(counter, _mm256_set1_epi32(width));
    }
    return total(sum);
}

extern "C" int32_t meshd_digits_planes_avx2(const float *g, const float *alpha, size_t n,
                                            size_t groups, float inverse, size_t planes,
                                            const uint16_t *carry, uint16_t *keys,
                                            size_t pair_stride) {
    const __m256 to_fixed = _mm256_set1_ps(inverse);
    const __m256i middle = _mm256_set1_epi32(32768 * meshd_largest_digit(planes));
    const __m256i fraction = _mm256_set1_epi32(0xffff);
    __m256i chains[2]; // the carries, with the middle that is due to the next
    for (size_t i = 0; i < 2; ++i)
        chains[i] = _mm256_add_epi32(
            middle,
            _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)(carry + i * width))));
    __m256i sum = _mm256_setzero_si256();
    for (size_t group = 0; group < groups; group += width) {
        __m256i low = _mm256_setzero_si256(), high = low, &chain = chains[group / width % 2];
        for (size_t j = 0; j < MESHD_PLANES_GROUP; ++j) {
            const size_t c = j * groups + group, end = smaller(n, (j + 1) * groups);
            if (c >= end) break;
            const __m256i fixed =
                _mm256_cvtps_epi32(_mm256_mul_ps(scaled(g, alpha, c, end), to_fixed));
            const __m256i lanes = first_lanes(smaller(width, end - c));
            const __m256i t = _mm256_add_epi32(fixed, chain);
            const __m256i digit = _mm256_and_si256(_mm256_srli_epi32(t, 16), lanes);
            const __m256i left = _mm256_add_epi32(_mm256_and_si256(t, fraction), middle);
            chain = _mm256_blendv_epi8(chain, left, lanes);
            sum = _mm256_add_epi32(sum, digit);
            const __m128i shift = _mm_cvtsi32_si128(2 * (int)j);
            const __m256i pair = _mm256_and_si256(digit, _mm256_set1_epi32(3));
            low = _mm256_or_si256(low, _mm256_sll_epi32(pair, shift));
            high = _mm256_or_si256(high, _mm256_sll_epi32(_mm256_srli_epi32(digit, 2), shift));
        }
        alignas(32) uint16_t packed[16]; // low keys, then high ones
        const __m256i both = _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xd8);
        _mm256_store_si256((__m256i *)packed, both);
        const size_t bytes = smaller(width, groups - group) * sizeof *keys;
        __builtin_memcpy(keys + group, packed, bytes);
        if (planes > 2) __builtin_memcpy(keys + pair_stride + group, packed + width, bytes);
    }
    return total(sum);
}

extern "C" void meshd_finish_exact_avx2(const float *sums, size_t n, const uint64_t *keep,
                                        int past_caches, float *out) {
    for (size_t i = 0; i < n; i += width) {
        const size_t lanes = smaller(width, n - i);
        put(out + i, lanes, past_caches,
            _mm256_and_ps(load(sums + i, lanes), _mm256_castsi256_ps(kept(keep, i))));
    }
}

extern "C" void meshd_finish_integer_avx2(const int32_t *sums, size_t n, int32_t factor,
                                          const int32_t *offset, int32_t constant, float step,
                                          const uint64_t *keep, int past_caches, float *out) {
    const __m256i times = _mm256_set1_epi32(factor), plus = _mm256_set1_epi32(constant);
    for (size_t i = 0; i < n; i += width) {
        const size_t lanes = smaller(width, n - i);
        __m256i sum = _mm256_castps_si256(load((const float *)(sums + i), lanes));
        sum = _mm256_add_epi32(_mm256_mullo_epi32(sum, times), plus);
        sum = _mm256_add_epi32(sum,
                               _mm256_castps_si256(load((const float *)(offset + i), lanes)));
        const __m256 x = _mm256_mul_ps(_mm256_set1_ps(step), _mm256_cvtepi32_ps(sum));
        put(out + i, lanes, past_caches, _mm256_and_ps(x, _mm256_castsi256_ps(kept(keep, i))));
    }
}
