// Vote counters in bit planes, 256 elements to a register.
#include "stream.h"
#include "simd.h"

namespace {

// Adds to the counters of words i..i+3; returns the carries that found no plane.
inline __m256i add_four_words(uint64_t *planes, size_t count, size_t words, size_t i,
                              __m256i carry) {
    for (size_t p = 0; p < count; ++p) {
        __m256i *at = (__m256i *)(planes + p * words + i);
        const __m256i plane = _mm256_loadu_si256(at);
        _mm256_storeu_si256(at, _mm256_xor_si256(plane, carry));
        carry = _mm256_and_si256(plane, carry);
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

extern "C" int meshd_planes_add_b1_avx2(uint64_t *planes, size_t count, size_t words,
                                        const uint64_t *bits) {
    __m256i lost = _mm256_setzero_si256();
    uint64_t lost_tail = 0;
    size_t i = 0;
    for (; i + 4 <= words; i += 4) {
        const __m256i carry = _mm256_loadu_si256((const __m256i *)(bits + i));
        lost = _mm256_or_si256(lost, add_four_words(planes, count, words, i, carry));
    }
    for (; i < words; ++i) lost_tail |= add_word(planes, count, words, i, bits[i]);
    return lost_tail || !_mm256_testz_si256(lost, lost) ? MESHD_OVERFLOW : MESHD_OK;
}

extern "C" int meshd_apply_votes_f32_avx2(const uint64_t *planes, size_t count, size_t members,
                                          const float *scale, size_t n, size_t gamma,
                                          float *out) {
    const size_t words = (n + 63) / 64;
    const __m256i voters = _mm256_set1_epi32((int)members);
    const __m256 divisor = _mm256_cvtepi32_ps(voters);
    __m256i excess = _mm256_setzero_si256();
    each_group(n, gamma, [=, &excess](size_t i, size_t lanes, size_t segment) {
        __m256i votes = _mm256_setzero_si256();
        for (size_t p = 0; p < count; ++p) {
            const __m256i set = lanes_of(bits_at(planes + p * words, i, lanes));
            votes = _mm256_or_si256(votes, _mm256_and_si256(set, _mm256_set1_epi32(1 << p)));
        }
        const __m256i over = _mm256_cmpgt_epi32(votes, voters);
        excess = _mm256_or_si256(excess, _mm256_and_si256(over, first_lanes(lanes)));
        const __m256i balance = _mm256_sub_epi32(_mm256_add_epi32(votes, votes), voters);
        const __m256 ratio = _mm256_div_ps(_mm256_cvtepi32_ps(balance), divisor);
        store(out + i, lanes, _mm256_mul_ps(_mm256_broadcast_ss(scale + segment), ratio));
    });
    return _mm256_testz_si256(excess, excess) ? MESHD_OK : MESHD_OVERFLOW;
}
