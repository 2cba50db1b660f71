// Product of packed matrices, from the plain definition to the bits.
//
// signed:    a, w in {-1, +1}, stored as bits A, W (1 means +1). The product of two elements is +1
//            where the bits agree and -1 where they differ; `len` pairs of which d differ give
//                dot = (len - d) - d = len - 2 popcount(A ^ W).
// unipolar:  a in {0, 1}, w in {-1, +1}. Only pairs with A = 1 count; of these popcount(A & W)
//            give +1 and the rest -1:
//                dot = popcount(A & W) - (popcount(A) - popcount(A & W))
//                    = 2 popcount(A & W) - popcount(A).
//
// Operands come in pairs of units (u, u ^ v), so v is the xor of the two. The padding bits of a
// segment are zero in both operands: they agree, and are taken off again as `padding`.
#include "product.h"

#include <math.h>

namespace {

constexpr size_t tile_rows = 2, tile_columns = 16;

// Hacker's Delight, section 5-1: sums of 1, 2, 4 bits, then all bytes by one multiplication.
// (No popcnt instruction: the baseline of x86-64 has none.)
int32_t popcount(uint64_t x) {
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (int32_t)(x * 0x0101010101010101u >> 56);
}

uint64_t both(uint32_t even, uint32_t mixed) {
    return (uint64_t)(mixed ^ even) << 32 | even;
}

float as_float(uint32_t unit) {
    union { uint32_t unit; float value; } u = {unit};
    return u.value;
}

// The alpha of A is multiplied by -1 where dot is signed: so is dot here.
int32_t negative_dot_signed(const uint32_t *a, const uint32_t *w, size_t units, int32_t padding,
                            uint32_t) {
    int32_t differ = 0;
    for (size_t i = 0; i < units; i += 2)
        differ += popcount(both(a[i], a[i + 1]) ^
                           both(w[i * tile_columns], w[(i + 1) * tile_columns]));
    return 2 * differ - ((int32_t)units * 32 - padding);
}

int32_t dot_unipolar(const uint32_t *a, const uint32_t *w, size_t units, int32_t, uint32_t ones) {
    int32_t agree = 0;
    for (size_t i = 0; i < units; i += 2)
        agree += popcount(both(a[i], a[i + 1]) &
                          both(w[i * tile_columns], w[(i + 1) * tile_columns]));
    return 2 * agree - (int32_t)ones;
}

template <int32_t (*dot)(const uint32_t *, const uint32_t *, size_t, int32_t, uint32_t), size_t extra>
void tile(const tile_job *job) {
    const size_t a_size = job->units + extra, w_size = (job->units + 1) * tile_columns;
    for (size_t r = 0; r < tile_rows; ++r)
        for (size_t c = 0; c < tile_columns; ++c) {
            float acc = job->start[r * job->start_stride + c];
            for (size_t g = 0; g < job->groups; ++g) {
                const uint32_t *a = job->a + (g * tile_rows + r) * a_size;
                const uint32_t *w = job->w + g * w_size + c;
                const int32_t d = dot(a, w, job->units, job->padding, a[a_size - 1]);
                const float alpha_w = as_float(w[job->units * tile_columns]);
                acc = fmaf(as_float(a[job->units]), alpha_w * (float)d, acc);
            }
            job->out[r * job->stride + c] = acc;
        }
}

} // namespace

extern "C" void meshd_tile_signed_any_scalar_2x16(const tile_job *job) {
    tile<negative_dot_signed, 1>(job);
}

extern "C" void meshd_tile_unipolar_any_scalar_2x16(const tile_job *job) {
    tile<dot_unipolar, 2>(job);
}
