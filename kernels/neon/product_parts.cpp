// Segments of 8 or 16 elements: four or two in a unit. The ones of bytes are those of segments of 8;
// neighbours added, those of segments of 16. Each segment's count is shifted down in its turn.
//     signed: dot = beta - 2 count;  unipolar: dot = 2 count - popcount(a).
#include "product.h"
#include "tile.h"

namespace {

template <int beta> uint32x4_t counts(uint32x4_t x) {
    const uint8x16_t bytes = vcntq_u8(as_bytes(x));
    return beta == 8 ? vreinterpretq_u32_u8(bytes) : vreinterpretq_u32_u16(vpaddlq_u8(bytes));
}

template <int beta> struct coding_signed {
    static constexpr int ones = 0;
    static uint32x4_t mix(uint32x4_t a, uint32x4_t w) { return veorq_u32(a, w); }
    static int32x4_t dot(int32x4_t differ, const uint32_t *) {
        return vsubq_s32(vdupq_n_s32(beta), vaddq_s32(differ, differ));
    }
};

template <int beta> struct coding_unipolar {
    static constexpr int ones = 1;
    static uint32x4_t mix(uint32x4_t a, uint32x4_t w) { return vandq_u32(a, w); }
    static int32x4_t dot(int32x4_t agree, const uint32_t *ones_of_a) {
        return less_ones(agree, ones_of_a);
    }
};

template <class Coding, int beta> void tile(const tile_job *job) {
    constexpr int parts = 32 / beta;
    constexpr int a_size = 1 + parts * (1 + Coding::ones), w_size = (1 + parts) * tile_columns;
    const uint32x4_t lowest = vdupq_n_u32((1 << beta) - 1);
    accumulators acc(job);
    const uint32_t *a = job->a, *w = job->w;
    for (size_t left = job->groups; left > 0; --left, a += tile_rows * a_size, w += w_size)
        MESHD_UNROLL for (int g = 0; g < tile_groups; ++g) {
            const uint32_t *column = w + g * lanes;
            const uint32x4_t unit = vld1q_u32(column);
            MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) {
                const uint32_t *row = a + r * a_size;
                uint32x4_t all = counts<beta>(Coding::mix(vld1q_dup_u32(row), unit));
                MESHD_UNROLL for (int p = 0; p < parts; ++p, all = vshrq_n_u32(all, beta)) {
                    const int32x4_t count = vreinterpretq_s32_u32(vandq_u32(all, lowest));
                    acc.sum[r][g] = scaled_and_added(
                        acc.sum[r][g], Coding::dot(count, row + 1 + parts + p),
                        load_alphas(column + (1 + p) * tile_columns), row + 1 + p);
                }
            }
        }
    acc.store(job);
}

} // namespace

extern "C" void meshd_tile_signed_part8_neon_4x16(const tile_job *job) {
    tile<coding_signed<8>, 8>(job);
}
extern "C" void meshd_tile_signed_part16_neon_4x16(const tile_job *job) {
    tile<coding_signed<16>, 16>(job);
}
extern "C" void meshd_tile_unipolar_part8_neon_4x16(const tile_job *job) {
    tile<coding_unipolar<8>, 8>(job);
}
extern "C" void meshd_tile_unipolar_part16_neon_4x16(const tile_job *job) {
    tile<coding_unipolar<16>, 16>(job);
}
