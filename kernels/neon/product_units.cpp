// Segments of 32, 64, 128 or 256 elements: 1, 2, 4 or 8 units.
//
// signed: with d = popcount(a ^ w) over U units of 32,
//     dot = 32 U - 2 d = -2 (d - 16 U),
// the -2 stands at A's alpha. For U = 1 the 16 is subtracted. For U > 1 the odd units of W are
// inverted, so popcount(a ^ ~w) = 32 - popcount(a ^ w), and
//     popcount(x0) - popcount(~x1) + ... = d - 32 (U / 2) = d - 16 U    needs no bias at all.
// unipolar: dot = 2 popcount(a & w) - popcount(a); popcount(a) comes with A.
//
// In a byte: at most 8 ones of each of 8 units, 64, or half of that with either sign.
#include "product.h"
#include "tile.h"

namespace {

inline int8x16_t ones(uint32x4_t x) { return vreinterpretq_s8_u8(vcntq_u8(as_bytes(x))); }

inline int32x4_t sums(int8x16_t bytes) { return vpaddlq_s16(vpaddlq_s8(bytes)); }

struct coding_signed {
    static constexpr int ones_of_a = 0;

    static int8x16_t pair(uint32x4_t w0, uint32x4_t w1, const uint32_t *a) {
        return vsubq_s8(ones(veorq_u32(vld1q_dup_u32(a), w0)),
                        ones(veorq_u32(vld1q_dup_u32(a + 1), w1)));
    }
    static int8x16_t single(uint32x4_t w, const uint32_t *a) {
        return vsubq_s8(ones(veorq_u32(vld1q_dup_u32(a), w)), vdupq_n_s8(4)); // 16 in four bytes
    }
    static int32x4_t dot(int8x16_t bytes, const uint32_t *) { return sums(bytes); }
};

struct coding_unipolar {
    static constexpr int ones_of_a = 1;

    static int8x16_t pair(uint32x4_t w0, uint32x4_t w1, const uint32_t *a) {
        return vaddq_s8(single(w0, a), single(w1, a + 1));
    }
    static int8x16_t single(uint32x4_t w, const uint32_t *a) {
        return ones(vandq_u32(vld1q_dup_u32(a), w));
    }
    static int32x4_t dot(int8x16_t bytes, const uint32_t *ones_of_row) {
        return less_ones(sums(bytes), ones_of_row);
    }
};

// One segment of a row and four columns.
template <class Coding, int units>
inline int8x16_t count(const uint32x4_t w[units], const uint32_t *a) {
    if (units == 1) return Coding::single(w[0], a);
    int8x16_t bytes = vdupq_n_s8(0);
    MESHD_UNROLL for (int u = 0; u + 1 < units; u += 2)
        bytes = vaddq_s8(bytes, Coding::pair(w[u], w[u + 1], a + u));
    return bytes;
}

template <class Coding, int units> void tile(const tile_job *job) {
    constexpr int a_size = units + 1 + Coding::ones_of_a, w_size = (units + 1) * tile_columns;
    accumulators acc(job);
    const uint32_t *a = job->a, *w = job->w;
    for (size_t left = job->groups; left > 0; --left, a += tile_rows * a_size, w += w_size)
        MESHD_UNROLL for (int g = 0; g < tile_groups; ++g) {
            uint32x4_t unit[units];
            MESHD_UNROLL for (int u = 0; u < units; ++u)
                unit[u] = vld1q_u32(w + u * tile_columns + g * lanes);
            const float32x4_t alpha = load_alphas(w + units * tile_columns + g * lanes);
            MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) {
                const uint32_t *row = a + r * a_size, *alpha_a = row + units;
                const int32x4_t dot = Coding::dot(count<Coding, units>(unit, row), alpha_a + 1);
                acc.sum[r][g] = scaled_and_added(acc.sum[r][g], dot, alpha, alpha_a);
            }
        }
    acc.store(job);
}

} // namespace

extern "C" void meshd_tile_signed_unit1_neon_4x16(const tile_job *job) {
    tile<coding_signed, 1>(job);
}
extern "C" void meshd_tile_signed_unit2_neon_4x16(const tile_job *job) {
    tile<coding_signed, 2>(job);
}
extern "C" void meshd_tile_signed_unit4_neon_4x16(const tile_job *job) {
    tile<coding_signed, 4>(job);
}
extern "C" void meshd_tile_signed_unit8_neon_4x16(const tile_job *job) {
    tile<coding_signed, 8>(job);
}
extern "C" void meshd_tile_unipolar_unit1_neon_4x16(const tile_job *job) {
    tile<coding_unipolar, 1>(job);
}
extern "C" void meshd_tile_unipolar_unit2_neon_4x16(const tile_job *job) {
    tile<coding_unipolar, 2>(job);
}
extern "C" void meshd_tile_unipolar_unit4_neon_4x16(const tile_job *job) {
    tile<coding_unipolar, 4>(job);
}
extern "C" void meshd_tile_unipolar_unit8_neon_4x16(const tile_job *job) {
    tile<coding_unipolar, 8>(job);
}
