// Vote counters in bit planes, 256 elements to a register.
#include "stream.h"
#include "simd.h"

namespace {

inline __m256i sum_of(__m256i a, __m256i b, __m256i c) {
    return _mm256_xor_si256(_mm256_xor_si256(a, b), c);
}
inline __m256i carry_of(__m256i a, __m256i b, __m256i c) {
    const __m256i one = _mm256_xor_si256(a, b);
    return _mm256_or_si256(_mm256_and_si256(a, b), _mm256_and_si256(one, c));
}

// The planes of four words' counters.
struct counters {
    uint64_t *at;
    size_t count, words, lanes;

    // Plane p += addend; returns the carry into the next plane.
    __m256i add(size_t p, __m256i addend, __m256i carry) const {
        uint64_t *plane = at + p * words;
        const __m256i old = load_words(plane, lanes);
        store_words(plane, lanes, sum_of(old, addend, carry));
        return carry_of(old, addend, carry);
    }

    // Adds a number of `given` bit planes; returns what found no room.
    template <class Addend> __m256i add_number(size_t given, Addend addend) const {
        __m256i carry = _mm256_setzero_si256();
        for (size_t p = 0; p < smaller(given, count); ++p) carry = add(p, addend(p), carry);
        for (size_t p = given; p < count; ++p) carry = add(p, _mm256_setzero_si256(), carry);
        for (size_t p = count; p < given; ++p) carry = _mm256_or_si256(carry, addend(p));
        return carry;
    }
};

// Calls body(counters of the next four words, first word); it returns what found no room.
template <class Body>
inline int each_four_words(uint64_t *planes, size_t count, size_t words, Body body) {
    __m256i lost = _mm256_setzero_si256();
    size_t i = 0;
    for (; i + 4 <= words; i += 4)
        lost = _mm256_or_si256(lost, body(counters{planes + i, count, words, 4}, i));
    if (i < words)
        lost = _mm256_or_si256(lost, body(counters{planes + i, count, words, words - i}, i));
    return _mm256_testz_si256(lost, lost) ? MESHD_OK : MESHD_OVERFLOW;
}

// Eight voters' bits to the four planes of their number, 0..8: a tree of carry-save adders.
//     b0+b1+b2 = 2 c0 + s0,  b3+b4+b5 = 2 c1 + s1,  s0+s1+b6 = 2 c2 + s2,  s2+b7 = 2 c3 + number[0]
//     c0+c1+c2 = 2 d0 + t,   t+c3 = 2 d1 + number[1],   d0+d1 = 2 number[3] + number[2]
inline void number_of_eight(const __m256i b[8], __m256i number[4]) {
    const __m256i s0 = sum_of(b[0], b[1], b[2]), c0 = carry_of(b[0], b[1], b[2]);
    const __m256i s1 = sum_of(b[3], b[4], b[5]), c1 = carry_of(b[3], b[4], b[5]);
    const __m256i s2 = sum_of(s0, s1, b[6]), c2 = carry_of(s0, s1, b[6]);
    const __m256i c3 = _mm256_and_si256(s2, b[7]);
    const __m256i t = sum_of(c0, c1, c2), d0 = carry_of(c0, c1, c2);
    const __m256i d1 = _mm256_and_si256(t, c3);
    number[0] = _mm256_xor_si256(s2, b[7]);
    number[1] = _mm256_xor_si256(t, c3);
    number[2] = _mm256_xor_si256(d0, d1);
    number[3] = _mm256_and_si256(d0, d1);
}

// One pass for up to eight voters; those that are missing vote 0.
inline int add_eight(uint64_t *planes, size_t count, size_t words, const uint64_t *bits,
                     size_t voters) {
    return each_four_words(planes, count, words, [=](counters here, size_t i) ALWAYS_INLINE {
        __m256i voter[8], number[4];
        for (size_t v = 0; v < 8; ++v)
            voter[v] = v < voters ? load_words(bits + v * words + i, here.lanes)
                                  : _mm256_setzero_si256();
        number_of_eight(voter, number);
        return here.add_number(4, [&](size_t p) { return number[p]; });
    });
}

} // namespace

extern "C" int meshd_planes_add_b1_avx2(uint64_t *planes, size_t count, size_t words,
                                            const uint64_t *bits) {
    return meshd_planes_sum_b1_avx2(planes, count, words, bits, 1);
}

extern "C" int meshd_planes_add_many_b1_avx2(uint64_t *planes, size_t count, size_t words,
                                                 const uint64_t *bits, size_t voters) {
    int status = MESHD_OK;
    for (size_t v = 0; v < voters; v += 8) {
        const size_t now = smaller(8, voters - v);
        if (add_eight(planes, count, words, bits + v * words, now) != MESHD_OK)
            status = MESHD_OVERFLOW;
    }
    return status;
}

extern "C" int meshd_planes_sum_b1_avx2(uint64_t *planes, size_t count, size_t words,
                                            const uint64_t *other, size_t other_count) {
    return each_four_words(planes, count, words, [=](counters here, size_t i) ALWAYS_INLINE {
        return here.add_number(other_count, [=](size_t p) {
            return load_words(other + p * words + i, here.lanes);
        });
    });
}
