/* Wrappers around AVX2 that the kernels of this folder share. Everything is in an anonymous
 * namespace: an inline function that another object file also had could be merged by the linker
 * into either body, and the baseline would then run AVX2 instructions. For the same reason the
 * files of this folder include nothing but intrinsics and C headers. */
#ifndef MESHD_AVX2_SIMD_H
#define MESHD_AVX2_SIMD_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

/* For a body that is called once with constants, in the loop, and once for what is left over. */
#define ALWAYS_INLINE __attribute__((always_inline))

namespace {

constexpr size_t width = 8; // floats in a register

inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

// All ones in the first `lanes` lanes, 0 <= lanes <= 8.
inline __m256i first_lanes(size_t lanes) {
    static const int32_t window[16] = {-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(window + width - lanes));
}

// Masked loads and stores do not touch, and cannot fault on, what lies behind the last lane.
inline __m256 load(const float *p, size_t lanes) {
    return lanes == width ? _mm256_loadu_ps(p) : _mm256_maskload_ps(p, first_lanes(lanes));
}

inline void store(float *p, size_t lanes, __m256 x) {
    if (lanes == width)
        _mm256_storeu_ps(p, x);
    else
        _mm256_maskstore_ps(p, first_lanes(lanes), x);
}

// x with zeros behind the first lanes.
inline __m256 first_of(size_t lanes, __m256 x) {
    return lanes == width ? x : _mm256_and_ps(x, _mm256_castsi256_ps(first_lanes(lanes)));
}

// All ones in the first `lanes` of four words.
inline __m256i first_words(size_t lanes) {
    static const int64_t window[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
    return _mm256_loadu_si256((const __m256i *)(window + 4 - lanes));
}

// Four words, or the first of them.
inline __m256i load_words(const uint64_t *p, size_t lanes) {
    return lanes == 4 ? _mm256_loadu_si256((const __m256i *)p)
                      : _mm256_maskload_epi64((const long long *)p, first_words(lanes));
}

inline void store_words(uint64_t *p, size_t lanes, __m256i x) {
    if (lanes == 4)
        _mm256_storeu_si256((__m256i *)p, x);
    else
        _mm256_maskstore_epi64((long long *)p, first_words(lanes), x);
}

inline __m256 magnitude(__m256 x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }

// Bits i, i+1, .. i+7 of a packed row in the low byte; those from `lanes` on are arbitrary. Reads
// only words that hold one of the first `lanes` bits. i need not be a multiple of 8.
inline uint32_t bits_at(const uint64_t *words, size_t i, size_t lanes) {
    const size_t shift = i % 64;
    uint64_t bits = words[i / 64] >> shift;
    if (shift + lanes > 64) bits |= words[i / 64 + 1] << (64 - shift);
    return (uint32_t)bits & 0xff;
}

// Bit j of a byte to lane j: all ones where it is set.
inline __m256i lanes_of(uint32_t byte) {
    const __m256i select = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32((int)byte), select), select);
}

// x where the lane is all ones, -x where it is all zeros.
inline __m256 signed_like(__m256 x, __m256 lanes) {
    return _mm256_xor_ps(x, _mm256_andnot_ps(lanes, _mm256_set1_ps(-0.0f)));
}

// x where the bit is 1, -x where it is 0.
inline __m256 signed_by(__m256 x, uint32_t byte) {
    return signed_like(x, _mm256_castsi256_ps(lanes_of(byte)));
}

// Cuts elements 0..n-1 into segments, and these into groups of at most 8: calls
// body(first element, lanes, segment) for each group in order.
template <class Body> inline void each_group(size_t n, size_t beta, Body body) {
    for (size_t begin = 0, segment = 0; begin < n; begin += beta, ++segment) {
        const size_t end = begin + smaller(beta, n - begin);
        size_t i = begin;
        for (; i + width <= end; i += width) body(i, width, segment);
        if (i < end) body(i, end - i, segment);
    }
}

} // namespace

#endif
