/* Wrappers around AVX-512 that the kernels of this folder share. Everything is in an anonymous
 * namespace, and the files of this folder include nothing but intrinsics and C headers: see
 * avx2/simd.h for why. */
#ifndef MESHD_AVX512BW_SIMD_H
#define MESHD_AVX512BW_SIMD_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

/* For a body that is called once with constants, in the loop, and once for what is left over. */
#define ALWAYS_INLINE __attribute__((always_inline))

namespace {

constexpr size_t width = 16; // floats in a register

inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

// Ones for the first `lanes` lanes, 0 <= lanes <= 16.
inline __mmask16 first_lanes(size_t lanes) { return (__mmask16)((1u << lanes) - 1); }

// Masked loads and stores do not touch, and cannot fault on, what lies behind the last lane.
inline __m512 load(const float *p, size_t lanes) {
    return lanes == width ? _mm512_loadu_ps(p) : _mm512_maskz_loadu_ps(first_lanes(lanes), p);
}

inline void store(float *p, size_t lanes, __m512 x) {
    if (lanes == width)
        _mm512_storeu_ps(p, x);
    else
        _mm512_mask_storeu_ps(p, first_lanes(lanes), x);
}

// x with zeros behind the first lanes.
inline __m512 first_of(size_t lanes, __m512 x) {
    return lanes == width ? x : _mm512_maskz_mov_ps(first_lanes(lanes), x);
}

// Eight words, or the first of them.
inline __m512i load_words(const uint64_t *p, size_t lanes) {
    return lanes == 8 ? _mm512_loadu_si512(p)
                      : _mm512_maskz_loadu_epi64((__mmask8)first_lanes(lanes), p);
}

inline void store_words(uint64_t *p, size_t lanes, __m512i x) {
    if (lanes == 8)
        _mm512_storeu_si512(p, x);
    else
        _mm512_mask_storeu_epi64(p, (__mmask8)first_lanes(lanes), x);
}

// Bits i, i+1, .. i+15 of a packed row; those from `lanes` on are arbitrary. Reads only words that
// hold one of the first `lanes` bits. i need not be a multiple of 16.
inline __mmask16 bits_at(const uint64_t *words, size_t i, size_t lanes) {
    const size_t shift = i % 64;
    uint64_t bits = words[i / 64] >> shift;
    if (shift + lanes > 64) bits |= words[i / 64 + 1] << (64 - shift);
    return (__mmask16)bits;
}

// x where the bit is 1, -x where it is 0.
inline __m512 signed_by(__m512 x, __mmask16 bits) {
    return _mm512_mask_xor_ps(x, _knot_mask16(bits), x, _mm512_set1_ps(-0.0f));
}

// Cuts elements 0..n-1 into segments, and these into groups of at most 16: calls
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
