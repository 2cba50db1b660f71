/* One row of floats to bits and segment scales: what pack and carry_binarize share.
 *
 * The bits go by words, the scales by segments, and both from one reading of the row where a
 * segment starts on a word. Where segments start inside words, the segments that end in a word are
 * summed right after it, from the first cache level.
 *
 * The sixteen partial sums of a mean are four registers: lane j of register r is sum 4 r + j. A
 * group that is cut off at the segment's end is loaded with zeros behind it, and x + 0 = x for every
 * x >= 0: the sums are those of the definition, bit for bit. */
#ifndef MESHD_NEON_PACK_ROW_H
#define MESHD_NEON_PACK_ROW_H

#include "simd.h"

namespace {

struct is_set_signed {
    static uint32x4_t test(float32x4_t x) { return vcgezq_f32(x); }
};
struct is_set_unipolar {
    static uint32x4_t test(float32x4_t x) { return vcgtzq_f32(x); }
};

struct lane_sums {
    float32x4_t part[4] = {vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0)};

    void add(size_t r, float32x4_t x) { part[r] = vaddq_f32(part[r], vabsq_f32(x)); }

    float mean(size_t n) const {
        const float32x4_t low = vaddq_f32(part[0], part[2]);  // lane[j] += lane[j + 8]
        const float32x4_t high = vaddq_f32(part[1], part[3]);
        const float32x4_t four = vaddq_f32(low, high);        // lane[j] += lane[j + 4]
        const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four)); // += lane[j + 2]
        return (vget_lane_f32(two, 0) + vget_lane_f32(two, 1)) / (float)n;
    }
};

inline float mean_abs(const float *x, size_t n) {
    lane_sums sums;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t r = 0; r < 4; ++r) sums.add(r, vld1q_f32(x + i + r * width));
    for (size_t r = 0; i < n; ++r, i += width) sums.add(r, load(x + i, n - i));
    return sums.mean(n);
}

// Sixteen elements: all ones in the bytes of those that are set. Adds the magnitudes.
template <class Coding> inline uint8x16_t take_bytes(const float *x, lane_sums *sums) {
    uint32x4_t set[4];
    for (size_t r = 0; r < 4; ++r) {
        const float32x4_t four = vld1q_f32(x + r * width);
        sums->add(r, four);
        set[r] = Coding::test(four);
    }
    const uint16x8_t low = vcombine_u16(vmovn_u32(set[0]), vmovn_u32(set[1]));
    const uint16x8_t high = vcombine_u16(vmovn_u32(set[2]), vmovn_u32(set[3]));
    return vcombine_u8(vmovn_u16(low), vmovn_u16(high));
}

// The word of 64 elements. A byte of ones keeps the bit of its place among eight, and three rounds of
// adding neighbours leave eight such bytes in one: 64 -> 32 -> 16 -> 8 bytes in order.
template <class Coding> inline uint64_t take_whole_word(const float *x, lane_sums *sums) {
    static const uint8_t places[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t place = vld1q_u8(places);
    uint8x16_t bytes[4];
    for (size_t i = 0; i < 4; ++i)
        bytes[i] = vandq_u8(take_bytes<Coding>(x + 16 * i, sums), place);
    const uint8x16_t pairs =
        vpaddq_u8(vpaddq_u8(bytes[0], bytes[1]), vpaddq_u8(bytes[2], bytes[3]));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(pairs, pairs)), 0);
}

// The word of x[0..count), 1 <= count <= 64, whose first element is a multiple of 16 from its
// segment's start; adds the magnitudes to the segment's sums. What is loaded behind the last element
// is +0, which `signed` would count as a set bit: hence the mask at the end.
template <class Coding>
inline uint64_t take_word(const float *x, size_t count, lane_sums *sums) {
    if (count == 64) return take_whole_word<Coding>(x, sums);
    static const uint32_t places[width] = {1, 2, 4, 8};
    uint64_t word = 0;
    for (size_t i = 0; i < count; i += width) {
        const float32x4_t four = load(x + i, count - i);
        sums->add(i / width % 4, four);
        const uint32x4_t set = vandq_u32(Coding::test(four), vld1q_u32(places));
        word |= (uint64_t)vaddvq_u32(set) << i;
    }
    return word & ~(uint64_t)0 >> (64 - count);
}

// prepare(first element, count) is called before a word's elements are read: it may write them.
template <class Coding, class Prepare>
inline void pack_row(const float *x, size_t k, size_t beta, uint64_t *words, float *scales,
                     Prepare prepare) {
    const bool by_words = beta % 64 == 0 || beta >= k;
    lane_sums sums;
    size_t begin = 0; // of the segment that is being summed
    for (size_t i = 0; i < k; i += 64) {
        const size_t count = smaller(64, k - i);
        prepare(i, count);
        *words++ = take_word<Coding>(x + i, count, &sums);
        for (;;) {
            const size_t length = smaller(beta, k - begin);
            if (begin == k || begin + length > i + count) break;
            *scales++ = by_words ? sums.mean(length) : mean_abs(x + begin, length);
            sums = lane_sums();
            begin += length;
        }
    }
}

} // namespace

#endif
