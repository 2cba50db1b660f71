// What stands before and after the inner products of the backward pass: scaling, rounding to few
// bits, and the way back to float32. The definitions stand in include/meshd_backward.h.
#include <math.h>
#include <string.h>

#include "backward.h"

namespace {

uint32_t magnitude_bits(float x) {
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits & 0x7fffffff;
}

// 16 random bits of a counter.
uint32_t random_bits(uint32_t counter, uint32_t second) {
    uint32_t x = counter;
    x ^= x >> 16;
    x *= 0x7feb352d;
    x ^= x >> 15;
    x ^= second;
    return x * 0x846ca68b >> 16;
}

bool bit(const uint64_t *words, size_t i) { return words[i / 64] >> i % 64 & 1; }

} // namespace

extern "C" void meshd_scale_scalar(const float *g, const float *alpha, size_t n, float *v) {
    for (size_t c = 0; c < n; ++c) v[c] = g[c] * alpha[c];
}

// Among magnitudes the order of the bits is that of the numbers, then infinity, then NaN.
extern "C" uint32_t meshd_largest_scalar(const float *g, const float *alpha, size_t n) {
    uint32_t largest = 0;
    for (size_t c = 0; c < n; ++c) {
        const uint32_t bits = magnitude_bits(g[c] * alpha[c]);
        if (bits > largest) largest = bits;
    }
    return largest;
}

// Floor of a fixed-point number plus a fraction that is uniform in [0, 1): its expectation is the
// number. >> of a negative number rounds down, on every compiler that is supported.
extern "C" int32_t meshd_round_int8_scalar(const float *g, const float *alpha, size_t n,
                                           float inverse, uint32_t first, uint32_t second,
                                           int8_t *values) {
    int32_t sum = 0;
    for (size_t c = 0; c < n; ++c) {
        const int32_t fixed = (int32_t)(g[c] * alpha[c] * inverse);
        const int32_t q = (fixed + (int32_t)random_bits((uint32_t)c + first, second)) >> 16;
        values[c] = (int8_t)(q < 127 ? q : 127);
        sum += values[c];
    }
    return sum;
}

// The floor of a running sum of fixed-point numbers, from a start that is uniform in [0, 1): so is
// each carry, whatever the numbers, and the expectation of a digit is its number.
extern "C" int32_t meshd_digits_planes_scalar(const float *g, const float *alpha, size_t n,
                                              size_t groups, float inverse, size_t planes,
                                              const uint16_t *carry, uint16_t *keys,
                                              size_t pair_stride) {
    const int32_t middle = 32768 * meshd_largest_digit(planes);
    uint32_t chain[MESHD_PLANES_CHAINS];
    for (size_t i = 0; i < MESHD_PLANES_CHAINS; ++i) chain[i] = carry[i];
    int32_t sum = 0;
    for (size_t group = 0; group < groups; ++group) {
        uint32_t low = 0, high = 0;
        for (size_t j = 0, c = group; j < MESHD_PLANES_GROUP && c < n; ++j, c += groups) {
            const int32_t fixed = (int32_t)lrintf(g[c] * alpha[c] * inverse);
            const uint32_t t = (uint32_t)(fixed + middle) + chain[group % MESHD_PLANES_CHAINS];
            const uint32_t digit = t >> 16;
            chain[group % MESHD_PLANES_CHAINS] = t & 0xffff;
            low |= (digit & 3) << 2 * j;
            high |= digit >> 2 << 2 * j;
            sum += (int32_t)digit;
        }
        keys[group] = (uint16_t)low;
        if (planes > 2) keys[pair_stride + group] = (uint16_t)high;
    }
    return sum;
}

extern "C" void meshd_finish_exact_scalar(const float *sums, size_t n, const uint64_t *keep,
                                          int, float *out) {
    for (size_t i = 0; i < n; ++i) out[i] = bit(keep, i) ? sums[i] : 0.0f;
}

extern "C" void meshd_finish_integer_scalar(const int32_t *sums, size_t n, int32_t factor,
                                            const int32_t *offset, int32_t constant, float step,
                                            const uint64_t *keep, int, float *out) {
    for (size_t i = 0; i < n; ++i) {
        const int32_t sum = sums[i] * factor + offset[i] + constant;
        out[i] = bit(keep, i) ? step * (float)sum : 0.0f;
    }
}
