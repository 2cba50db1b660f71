/* Wrappers around NEON that the kernels of this folder share; for little-endian 64-bit Arm, where
 * NEON is part of the baseline. Everything is in an anonymous namespace, and the files of this folder
 * include nothing but intrinsics and C headers: the rule of every instruction set's folder. */
#ifndef MESHD_NEON_SIMD_H
#define MESHD_NEON_SIMD_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

namespace {

constexpr size_t width = 4; // floats in a register

inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

// NEON has no masked load or store: what is left of a row goes through the stack, element by
// element, with zeros behind it, and nothing outside the array is touched.
inline float32x4_t load(const float *p, size_t lanes) {
    if (lanes >= width) return vld1q_f32(p);
    float part[width] = {0, 0, 0, 0};
    for (size_t i = 0; i < lanes; ++i) part[i] = p[i];
    return vld1q_f32(part);
}

inline void store(float *p, size_t lanes, float32x4_t x) {
    if (lanes >= width) return vst1q_f32(p, x);
    float part[width];
    vst1q_f32(part, x);
    for (size_t i = 0; i < lanes; ++i) p[i] = part[i];
}

// All ones in the first `lanes` lanes.
inline uint32x4_t first_lanes(size_t lanes) {
    static const uint32_t number[width] = {0, 1, 2, 3};
    return vcltq_u32(vld1q_u32(number), vdupq_n_u32((uint32_t)lanes));
}

// The first `lanes` lanes of x, zeros behind them.
inline float32x4_t first_of(size_t lanes, float32x4_t x) {
    if (lanes >= width) return x;
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), first_lanes(lanes)));
}

// Bits i .. i+3 of a packed row in the low bits; those from `lanes` on are arbitrary. Reads only
// words that hold one of the first `lanes` bits. i need not be a multiple of 4.
inline uint32_t bits_at(const uint64_t *words, size_t i, size_t lanes) {
    const size_t shift = i % 64;
    uint64_t bits = words[i / 64] >> shift;
    if (shift + lanes > 64) bits |= words[i / 64 + 1] << (64 - shift);
    return (uint32_t)bits & 0xf;
}

// Bit j of the low four to lane j: all ones where it is set.
inline uint32x4_t lanes_of(uint32_t bits) {
    static const uint32_t select[width] = {1, 2, 4, 8};
    return vtstq_u32(vdupq_n_u32(bits), vld1q_u32(select));
}

// x in the lanes that are set (all ones), -x in the others.
inline float32x4_t signed_like(float32x4_t x, uint32x4_t set) {
    const uint32x4_t negative = vbicq_u32(vdupq_n_u32((uint32_t)1 << 31), set);
    return vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x), negative));
}

// x where the bit is 1, -x where it is 0.
inline float32x4_t signed_by(float32x4_t x, uint32_t bits) {
    return signed_like(x, lanes_of(bits));
}

// Cuts elements 0..n-1 into segments, and these into groups of at most 4: calls
// body(first element, lanes, segment) for each group in order.
template <class Body> inline void each_group(size_t n, size_t beta, Body body) {
    for (size_t begin = 0, segment = 0; begin < n; begin += beta, ++segment) {
        const size_t end = begin + smaller(beta, n - begin);
        for (size_t i = begin; i < end; i += width) body(i, smaller(width, end - i), segment);
    }
}

} // namespace

#endif
