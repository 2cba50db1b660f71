// Votes: counters spread over bit planes, so that adding a voter is a few word operations for 64
// elements, and the count stays an exact integer whatever the order of the voters.
#include "stream.h"

// Ripple-carry: a half adder per plane, the carry of plane p is the addend of plane p + 1.
extern "C" int meshd_planes_add_b1_scalar(uint64_t *planes, size_t count, size_t words,
                                          const uint64_t *bits) {
    uint64_t lost = 0;
    for (size_t i = 0; i < words; ++i) {
        uint64_t carry = bits[i];
        for (size_t p = 0; p < count; ++p) {
            uint64_t *plane = planes + p * words + i;
            const uint64_t sum = *plane ^ carry;
            carry &= *plane;
            *plane = sum;
        }
        lost |= carry;
    }
    return lost ? MESHD_OVERFLOW : MESHD_OK;
}

extern "C" int meshd_apply_votes_f32_scalar(const uint64_t *planes, size_t count, size_t members,
                                            const float *scale, size_t n, size_t gamma,
                                            float *out) {
    const size_t words = (n + 63) / 64;
    const int32_t voters = (int32_t)members;
    for (size_t begin = 0; begin < n; begin += gamma, ++scale)
        for (size_t i = begin; i < n && i < begin + gamma; ++i) {
            int32_t votes = 0;
            for (size_t p = 0; p < count; ++p)
                votes |= (int32_t)(planes[p * words + i / 64] >> (i % 64) & 1) << p;
            if (votes > voters) return MESHD_OVERFLOW;
            out[i] = *scale * ((float)(2 * votes - voters) / (float)voters);
        }
    return MESHD_OK;
}
