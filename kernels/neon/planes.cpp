// Vote counters in bit planes, 128 elements to a register.
#include "simd.h"
#include "stream.h"

namespace {

inline uint64x2_t load_words(const uint64_t *p, size_t lanes) {
    return lanes >= 2 ? vld1q_u64(p) : vcombine_u64(vld1_u64(p), vdup_n_u64(0));
}

inline void store_words(uint64_t *p, size_t lanes, uint64x2_t x) {
    if (lanes >= 2)
        vst1q_u64(p, x);
    else
        vst1_u64(p, vget_low_u64(x));
}

inline uint64x2_t sum_of(uint64x2_t a, uint64x2_t b, uint64x2_t c) {
    return veorq_u64(veorq_u64(a, b), c);
}
inline uint64x2_t carry_of(uint64x2_t a, uint64x2_t b, uint64x2_t c) {
    return vbslq_u64(veorq_u64(a, b), c, a); // where a and b differ c decides, else either
}

// The planes of two words' counters.
struct counters {
    uint64_t *at;
    size_t count, words, lanes;

    // Plane p += addend; returns the carry into the next plane.
    uint64x2_t add(size_t p, uint64x2_t addend, uint64x2_t carry) const {
        uint64_t *plane = at + p * words;
        const uint64x2_t old = load_words(plane, lanes);
        store_words(plane, lanes, sum_of(old, addend, carry));
        return carry_of(old, addend, carry);
    }

    // Adds a number of `given` bit planes; returns what found no room.
    template <class Addend> uint64x2_t add_number(size_t given, Addend addend) const {
        const uint64x2_t none = vdupq_n_u64(0);
        uint64x2_t carry = none;
        for (size_t p = 0; p < smaller(given, count); ++p) carry = add(p, addend(p), carry);
        for (size_t p = given; p < count; ++p) carry = add(p, none, carry);
        for (size_t p = count; p < given; ++p) carry = vorrq_u64(carry, addend(p));
        return carry;
    }
};

// Calls body(counters of the next two words, first word); it returns what found no room.
template <class Body>
inline int each_two_words(uint64_t *planes, size_t count, size_t words, Body body) {
    uint64x2_t lost = vdupq_n_u64(0);
    for (size_t i = 0; i < words; i += 2) {
        const counters here = {planes + i, count, words, smaller(2, words - i)};
        lost = vorrq_u64(lost, body(here, i));
    }
    return vgetq_lane_u64(lost, 0) | vgetq_lane_u64(lost, 1) ? MESHD_OVERFLOW : MESHD_OK;
}

// Eight voters' bits to the four planes of their number, 0..8: a tree of carry-save adders.
//     b0+b1+b2 = 2 c0 + s0,  b3+b4+b5 = 2 c1 + s1,  s0+s1+b6 = 2 c2 + s2,  s2+b7 = 2 c3 + number[0]
//     c0+c1+c2 = 2 d0 + t,   t+c3 = 2 d1 + number[1],   d0+d1 = 2 number[3] + number[2]
inline void number_of_eight(const uint64x2_t b[8], uint64x2_t number[4]) {
    const uint64x2_t s0 = sum_of(b[0], b[1], b[2]), c0 = carry_of(b[0], b[1], b[2]);
    const uint64x2_t s1 = sum_of(b[3], b[4], b[5]), c1 = carry_of(b[3], b[4], b[5]);
    const uint64x2_t s2 = sum_of(s0, s1, b[6]), c2 = carry_of(s0, s1, b[6]);
    const uint64x2_t c3 = vandq_u64(s2, b[7]);
    const uint64x2_t t = sum_of(c0, c1, c2), d0 = carry_of(c0, c1, c2);
    const uint64x2_t d1 = vandq_u64(t, c3);
    number[0] = veorq_u64(s2, b[7]);
    number[1] = veorq_u64(t, c3);
    number[2] = veorq_u64(d0, d1);
    number[3] = vandq_u64(d0, d1);
}

// One pass for up to eight voters; those that are missing vote 0.
inline int add_eight(uint64_t *planes, size_t count, size_t words, const uint64_t *bits,
                     size_t voters) {
    return each_two_words(planes, count, words, [=](const counters &here, size_t i) {
        uint64x2_t voter[8], number[4];
        for (size_t v = 0; v < 8; ++v)
            voter[v] = v < voters ? load_words(bits + v * words + i, here.lanes) : vdupq_n_u64(0);
        number_of_eight(voter, number);
        return here.add_number(4, [&](size_t p) { return number[p]; });
    });
}

} // namespace

extern "C" int meshd_planes_add_b1_neon(uint64_t *planes, size_t count, size_t words,
                                        const uint64_t *bits) {
    return meshd_planes_sum_b1_neon(planes, count, words, bits, 1);
}

extern "C" int meshd_planes_add_many_b1_neon(uint64_t *planes, size_t count, size_t words,
                                             const uint64_t *bits, size_t voters) {
    int status = MESHD_OK;
    for (size_t v = 0; v < voters; v += 8) {
        const size_t now = smaller(8, voters - v);
        if (add_eight(planes, count, words, bits + v * words, now) != MESHD_OK)
            status = MESHD_OVERFLOW;
    }
    return status;
}

extern "C" int meshd_planes_sum_b1_neon(uint64_t *planes, size_t count, size_t words,
                                        const uint64_t *other, size_t other_count) {
    return each_two_words(planes, count, words, [=](const counters &here, size_t i) {
        return here.add_number(other_count, [=](size_t p) {
            return load_words(other + p * words + i, here.lanes);
        });
    });
}
