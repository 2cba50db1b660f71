/* One row of floats to bits and segment scales: what pack, carry and the updates of latents share.
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

// Sixteen elements from i on: all ones in the bytes of those that are set. Adds the magnitudes.
template <class Coding, class Values>
inline uint8x16_t take_bytes(size_t i, lane_sums *sums, Values &values) {
    uint32x4_t set[4];
    for (size_t r = 0; r < 4; ++r) {
        const float32x4_t four = values(i + r * width, width);
        sums->add(r, four);
        set[r] = Coding::test(four);
    }
    const uint16x8_t low = vcombine_u16(vmovn_u32(set[0]), vmovn_u32(set[1]));
    const uint16x8_t high = vcombine_u16(vmovn_u32(set[2]), vmovn_u32(set[3]));
    return vcombine_u8(vmovn_u16(low), vmovn_u16(high));
}

// The word of 64 elements. A byte of ones keeps the bit of its place among eight, and three rounds of
// adding neighbours leave eight such bytes in one: 64 -> 32 -> 16 -> 8 bytes in order.
template <class Coding, class Values>
inline uint64_t take_whole_word(size_t i, lane_sums *sums, Values &values) {
    static const uint8_t places[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
    const uint8x16_t place = vld1q_u8(places);
    uint8x16_t bytes[4];
    for (size_t part = 0; part < 4; ++part)
        bytes[part] = vandq_u8(take_bytes<Coding>(i + 16 * part, sums, values), place);
    const uint8x16_t pairs =
        vpaddq_u8(vpaddq_u8(bytes[0], bytes[1]), vpaddq_u8(bytes[2], bytes[3]));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(pairs, pairs)), 0);
}

// The word of elements i .. i+count-1, 1 <= count <= 64, i a multiple of 64; adds their magnitudes to
// the segment's sums. Lanes that are cut off hold +0, which `signed` would count as a set bit: hence
// the mask at the end.
template <class Coding, class Values>
inline uint64_t take_word(size_t i, size_t count, lane_sums *sums, Values &values) {
    if (count == 64) return take_whole_word<Coding>(i, sums, values);
    static const uint32_t places[width] = {1, 2, 4, 8};
    uint64_t word = 0;
    for (size_t at = 0; at < count; at += width) {
        const float32x4_t four = values(i + at, smaller(width, count - at));
        sums->add(at / width % 4, four);
        const uint32x4_t set = vandq_u32(Coding::test(four), vld1q_u32(places));
        word |= (uint64_t)vaddvq_u32(set) << at;
    }
    return word & ~(uint64_t)0 >> (64 - count);
}

// values(i, lanes) gives the elements i .. i+lanes-1 of the row, zeros behind them; it is called
// once for each group, in order, and when it returns they stand in x, too.
template <class Coding, class Values>
inline void pack_row(const float *x, size_t k, size_t beta, uint64_t *words, float *scales,
                     Values values) {
    const bool by_words = beta % 64 == 0 || beta >= k;
    lane_sums sums;
    size_t begin = 0; // of the segment that is being summed
    size_t length = smaller(beta, k);
    for (size_t i = 0; i < k; i += 64) {
        const size_t count = smaller(64, k - i);
        *words++ = take_word<Coding>(i, count, &sums, values);
        while (begin < k && begin + length <= i + count) {
            *scales++ = by_words ? sums.mean(length) : mean_abs(x + begin, length);
            sums = lane_sums();
            begin += length;
            length = smaller(beta, k - begin);
        }
    }
}

} // namespace

#endif
