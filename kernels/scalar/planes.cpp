// Votes: counters spread over bit planes, so that adding a voter is a few word operations for 64
// elements, and the count stays an exact integer whatever the order of the voters.
#include "stream.h"

// Ripple-carry: a half adder per plane, the carry of plane p is the addend of plane p + 1.
extern "C" int meshd_planes_add_b1_scalar(uint64_t *planes, size_t count, size_t words,
                                          const uint64_t *bits) {
    return meshd_planes_sum_b1_scalar(planes, count, words, bits, 1);
}

extern "C" int meshd_planes_add_many_b1_scalar(uint64_t *planes, size_t count, size_t words,
                                               const uint64_t *bits, size_t voters) {
    int status = MESHD_OK;
    for (size_t v = 0; v < voters; ++v)
        if (meshd_planes_add_b1_scalar(planes, count, words, bits + v * words) != MESHD_OK)
            status = MESHD_OVERFLOW;
    return status;
}

// A full adder per plane. What is left above the last plane of the sum is lost.
extern "C" int meshd_planes_sum_b1_scalar(uint64_t *planes, size_t count, size_t words,
                                          const uint64_t *other, size_t other_count) {
    uint64_t lost = 0;
    for (size_t i = 0; i < words; ++i) {
        uint64_t carry = 0;
        for (size_t p = 0; p < count || p < other_count; ++p) {
            const uint64_t addend = p < other_count ? other[p * words + i] : 0;
            if (p >= count) {
                lost |= addend;
                continue;
            }
            uint64_t *plane = planes + p * words + i;
            const uint64_t both = *plane & addend, one = *plane ^ addend;
            *plane = one ^ carry;
            carry = both | (one & carry);
        }
        lost |= carry;
    }
    return lost ? MESHD_OVERFLOW : MESHD_OK;
}
