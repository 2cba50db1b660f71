// Vote counters in bit planes, 128 elements to a register.
#include "simd.h"
#include "stream.h"

namespace {

// Adds to the counters of words i and i+1; returns the carries that found no plane.
inline uint64x2_t add_two_words(uint64_t *planes, size_t count, size_t words, size_t i,
                                uint64x2_t carry) {
    for (size_t p = 0; p < count; ++p) {
        uint64_t *at = planes + p * words + i;
        const uint64x2_t plane = vld1q_u64(at);
        vst1q_u64(at, veorq_u64(plane, carry));
        carry = vandq_u64(plane, carry);
    }
    return carry;
}

inline uint64_t add_word(uint64_t *planes, size_t count, size_t words, size_t i, uint64_t carry) {
    for (size_t p = 0; p < count; ++p) {
        const uint64_t plane = planes[p * words + i];
        planes[p * words + i] = plane ^ carry;
        carry &= plane;
    }
    return carry;
}

} // namespace

extern "C" int meshd_planes_add_b1_neon(uint64_t *planes, size_t count, size_t words,
                                        const uint64_t *bits) {
    uint64x2_t lost = vdupq_n_u64(0);
    uint64_t lost_tail = 0;
    size_t i = 0;
    for (; i + 2 <= words; i += 2)
        lost = vorrq_u64(lost, add_two_words(planes, count, words, i, vld1q_u64(bits + i)));
    if (i < words) lost_tail = add_word(planes, count, words, i, bits[i]);
    return lost_tail | vgetq_lane_u64(lost, 0) | vgetq_lane_u64(lost, 1) ? MESHD_OVERFLOW
                                                                         : MESHD_OK;
}

extern "C" int meshd_apply_votes_f32_neon(const uint64_t *planes, size_t count, size_t members,
                                          const float *scale, size_t n, size_t gamma,
                                          float *out) {
    static const uint32_t number[width] = {0, 1, 2, 3};
    const uint32x4_t lane = vld1q_u32(number);
    const size_t words = (n + 63) / 64;
    const int32x4_t voters = vdupq_n_s32((int32_t)members);
    const float32x4_t divisor = vcvtq_f32_s32(voters);
    uint32x4_t excess = vdupq_n_u32(0);
    each_group(n, gamma, [=, &excess](size_t i, size_t lanes, size_t segment) {
        uint32x4_t counted = vdupq_n_u32(0);
        for (size_t p = 0; p < count; ++p) {
            const uint32x4_t set = lanes_of(bits_at(planes + p * words, i, lanes));
            counted = vorrq_u32(counted, vandq_u32(set, vdupq_n_u32((uint32_t)1 << p)));
        }
        const int32x4_t votes = vreinterpretq_s32_u32(counted);
        const uint32x4_t inside = vcltq_u32(lane, vdupq_n_u32((uint32_t)lanes));
        excess = vorrq_u32(excess, vandq_u32(vcgtq_s32(votes, voters), inside));
        const int32x4_t balance = vsubq_s32(vaddq_s32(votes, votes), voters);
        const float32x4_t ratio = vdivq_f32(vcvtq_f32_s32(balance), divisor);
        store(out + i, lanes, vmulq_f32(vdupq_n_f32(scale[segment]), ratio));
    });
    return vmaxvq_u32(excess) ? MESHD_OVERFLOW : MESHD_OK;
}
