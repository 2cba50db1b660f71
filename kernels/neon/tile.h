/* What the NEON tile kernels share. Four columns lie side by side in a register, 32 bits of k each; a
 * unit of A is broadcast to all of them. The instruction counts the ones of bytes: a kernel adds bytes
 * as long as they cannot overflow, and neighbours only then. */
#ifndef MESHD_NEON_TILE_H
#define MESHD_NEON_TILE_H

#include <arm_neon.h>
#include <stddef.h>
#include <stdint.h>

#include "meshd_product.h"

#define MESHD_UNROLL _Pragma("GCC unroll 16")

namespace {

constexpr int tile_rows = 4, tile_groups = 4, lanes = 4, tile_columns = tile_groups * lanes;

inline uint8x16_t as_bytes(uint32x4_t x) { return vreinterpretq_u8_u32(x); }

inline float32x4_t load_alphas(const uint32_t *p) { return vreinterpretq_f32_u32(vld1q_u32(p)); }

// fma(alpha_a, alpha_w * (float)dot, sum)
inline float32x4_t scaled_and_added(float32x4_t sum, int32x4_t dot, float32x4_t alpha_w,
                                    const uint32_t *alpha_a) {
    const float32x4_t a = vreinterpretq_f32_u32(vld1q_dup_u32(alpha_a));
    return vfmaq_f32(sum, a, vmulq_f32(alpha_w, vcvtq_f32_s32(dot)));
}

inline int32x4_t less_ones(int32x4_t agree, const uint32_t *ones_of_a) { // dot of unipolar
    return vsubq_s32(vaddq_s32(agree, agree), vreinterpretq_s32_u32(vld1q_dup_u32(ones_of_a)));
}

struct accumulators {
    float32x4_t sum[tile_rows][tile_groups];

    explicit accumulators(const tile_job *job) {
        MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
            MESHD_UNROLL for (int g = 0; g < tile_groups; ++g)
                sum[r][g] = vld1q_f32(job->start + r * job->start_stride + g * lanes);
    }
    void store(const tile_job *job) const {
        MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
            MESHD_UNROLL for (int g = 0; g < tile_groups; ++g)
                vst1q_f32(job->out + r * job->stride + g * lanes, sum[r][g]);
    }
};

} // namespace

#endif
