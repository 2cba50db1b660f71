// Vote counters in bit planes, 512 elements to a register. vpternlogq is a full adder's half: one
// instruction gives the sum of three bits, one their carry.
#include "stream.h"
#include "simd.h"

namespace {

constexpr int odd = 0x96, majority = 0xe8; // truth tables of the sum and the carry of three bits

inline __m512i sum_of(__m512i a, __m512i b, __m512i c) {
    return _mm512_ternarylogic_epi64(a, b, c, odd);
}
inline __m512i carry_of(__m512i a, __m512i b, __m512i c) {
    return _mm512_ternarylogic_epi64(a, b, c, majority);
}

// The planes of eight words' counters.
struct counters {
    uint64_t *at;
    size_t count, words, lanes;

    // Plane p += addend; returns the carry into the next plane.
    __m512i add(size_t p, __m512i addend, __m512i carry) const {
        uint64_t *plane = at + p * words;
        const __m512i old = load_words(plane, lanes);
        store_words(plane, lanes, sum_of(old, addend, carry));
        return carry_of(old, addend, carry);
    }

    // Adds a number of `given` bit planes; returns what found no room.
    template <class Addend> __m512i add_number(size_t given, Addend addend) const {
        __m512i carry = _mm512_setzero_si512();
        for (size_t p = 0; p < smaller(given, count); ++p) carry = add(p, addend(p), carry);
        for (size_t p = given; p < count; ++p) carry = add(p, _mm512_setzero_si512(), carry);
        for (size_t p = count; p < given; ++p) carry = _mm512_or_si512(carry, addend(p));
        return carry;
    }
};

// Calls body(counters of the next eight words, first word); it returns what found no room.
template <class Body>
inline int each_eight_words(uint64_t *planes, size_t count, size_t words, Body body) {
    __m512i lost = _mm512_setzero_si512();
    size_t i = 0;
    for (; i + 8 <= words; i += 8)
        lost = _mm512_or_si512(lost, body(counters{planes + i, count, words, 8}, i));
    if (i < words)
        lost = _mm512_or_si512(lost, body(counters{planes + i, count, words, words - i}, i));
    return _mm512_test_epi64_mask(lost, lost) ? MESHD_OVERFLOW : MESHD_OK;
}

// Eight voters' bits to the four planes of their number, 0..8: a tree of carry-save adders.
//     b0+b1+b2 = 2 c0 + s0,  b3+b4+b5 = 2 c1 + s1,  s0+s1+b6 = 2 c2 + s2,  s2+b7 = 2 c3 + number[0]
//     c0+c1+c2 = 2 d0 + t,   t+c3 = 2 d1 + number[1],   d0+d1 = 2 number[3] + number[2]
inline void number_of_eight(const __m512i b[8], __m512i number[4]) {
    const __m512i s0 = sum_of(b[0], b[1], b[2]), c0 = carry_of(b[0], b[1], b[2]);
    const __m512i s1 = sum_of(b[3], b[4], b[5]), c1 = carry_of(b[3], b[4], b[5]);
    const __m512i s2 = sum_of(s0, s1, b[6]), c2 = carry_of(s0, s1, b[6]);
    const __m512i c3 = _mm512_and_si512(s2, b[7]);
    const __m512i t = sum_of(c0, c1, c2), d0 = carry_of(c0, c1, c2);
    const __m512i d1 = _mm512_and_si512(t, c3);
    number[0] = _mm512_xor_si512(s2, b[7]);
    number[1] = _mm512_xor_si512(t, c3);
    number[2] = _mm512_xor_si512(d0, d1);
    number[3] = _mm512_and_si512(d0, d1);
}

// One pass for up to eight voters; those that are missing vote 0.
inline int add_eight(uint64_t *planes, size_t count, size_t words, const uint64_t *bits,
                     size_t voters) {
    return each_eight_words(planes, count, words, [=](counters here, size_t i) ALWAYS_INLINE {
        __m512i voter[8], number[4];
        for (size_t v = 0; v < 8; ++v)
            voter[v] = v < voters ? load_words(bits + v * words + i, here.lanes)
                                  : _mm512_setzero_si512();
        number_of_eight(voter, number);
        return here.add_number(4, [&](size_t p) { return number[p]; });
    });
}

} // namespace

extern "C" int meshd_planes_add_b1_avx512bw(uint64_t *planes, size_t count, size_t words,
                                            const uint64_t *bits) {
    return meshd_planes_sum_b1_avx512bw(planes, count, words, bits, 1);
}

extern "C" int meshd_planes_add_many_b1_avx512bw(uint64_t *planes, size_t count, size_t words,
                                                 const uint64_t *bits, size_t voters) {
    int status = MESHD_OK;
    for (size_t v = 0; v < voters; v += 8) {
        const size_t now = smaller(8, voters - v);
        if (add_eight(planes, count, words, bits + v * words, now) != MESHD_OK)
            status = MESHD_OVERFLOW;
    }
    return status;
}

extern "C" int meshd_planes_sum_b1_avx512bw(uint64_t *planes, size_t count, size_t words,
                                            const uint64_t *other, size_t other_count) {
    return each_eight_words(planes, count, words, [=](counters here, size_t i) ALWAYS_INLINE {
        return here.add_number(other_count, [=](size_t p) {
            return load_words(other + p * words + i, here.lanes);
        });
    });
}
