// Segments of any length, from pairs of units (u, u ^ v).
//
// signed: with x0 = a0 ^ w0 the second word is x1 = a1 ^ w1 = (a01 ^ w01) ^ x0.
// unipolar: w1 = w0 ^ w01 and a1 = a0 ^ a01 are taken apart before the and.
// A byte takes the ones of 31 units at most: 30, in pairs, go between two sums of neighbours.
#include "product.h"
#include "tile.h"

namespace {

constexpr size_t units_at_once = 30;

struct coding_signed {
    static constexpr int extra = 0;

    static uint8x16_t ones_of_pair(uint32x4_t w0, uint32x4_t w01, const uint32_t *a) {
        const uint32x4_t x0 = veorq_u32(vld1q_dup_u32(a), w0);
        const uint32x4_t x1 = veorq_u32(veorq_u32(vld1q_dup_u32(a + 1), w01), x0);
        return vaddq_u8(vcntq_u8(as_bytes(x0)), vcntq_u8(as_bytes(x1)));
    }
    // -dot = 2 d - length
    static int32x4_t dot(int32x4_t differ, const tile_job *job, const uint32_t *) {
        const int32_t length = (int32_t)job->units * 32 - job->padding;
        return vsubq_s32(vaddq_s32(differ, differ), vdupq_n_s32(length));
    }
};

struct coding_unipolar {
    static constexpr int extra = 1;

    static uint8x16_t ones_of_pair(uint32x4_t w0, uint32x4_t w01, const uint32_t *a) {
        const uint32x4_t x0 = vandq_u32(vdupq_n_u32(a[0]), w0);
        const uint32x4_t x1 = vandq_u32(vdupq_n_u32(a[0] ^ a[1]), veorq_u32(w0, w01));
        return vaddq_u8(vcntq_u8(as_bytes(x0)), vcntq_u8(as_bytes(x1)));
    }
    static int32x4_t dot(int32x4_t agree, const tile_job *, const uint32_t *ones_of_a) {
        return less_ones(agree, ones_of_a);
    }
};

// One segment of all rows and four columns: a, w at their first units, from and
// to at the first element of the sums before and after.
template <class Coding>
void segment(const tile_job *job, const uint32_t *a, const uint32_t *w, const float *from,
             size_t from_stride, float *to) {
    const size_t a_size = job->units + 1 + Coding::extra;
    uint32x4_t count[tile_rows];
    MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) count[r] = vdupq_n_u32(0);
    for (size_t left = job->units; left > 0;) {
        const size_t block = left < units_at_once ? left : units_at_once;
        uint8x16_t bytes[tile_rows];
        MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) bytes[r] = vdupq_n_u8(0);
        for (size_t u = 0; u < block; u += 2, a += 2, w += 2 * tile_columns) {
            const uint32x4_t w0 = vld1q_u32(w), w01 = vld1q_u32(w + tile_columns);
            MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
                bytes[r] = vaddq_u8(bytes[r], Coding::ones_of_pair(w0, w01, a + r * a_size));
        }
        MESHD_UNROLL for (int r = 0; r < tile_rows; ++r)
            count[r] = vpadalq_u16(count[r], vpaddlq_u8(bytes[r]));
        left -= block;
    }
    const float32x4_t alpha = load_alphas(w);
    MESHD_UNROLL for (int r = 0; r < tile_rows; ++r) {
        const uint32_t *alpha_a = a + r * a_size;
        const int32x4_t dot = Coding::dot(vreinterpretq_s32_u32(count[r]), job, alpha_a + 1);
        const float32x4_t before = vld1q_f32(from + r * from_stride);
        vst1q_f32(to + r * job->stride, scaled_and_added(before, dot, alpha, alpha_a));
    }
}

template <class Coding> void tile(const tile_job *job) {
    const size_t a_size = job->units + 1 + Coding::extra, w_size = (job->units + 1) * tile_columns;
    for (size_t s = 0; s < job->groups; ++s)
        for (int g = 0; g < tile_groups; ++g) {
            const uint32_t *a = job->a + s * tile_rows * a_size;
            const uint32_t *w = job->w + s * w_size + g * lanes;
            float *to = job->out + g * lanes;
            if (s == 0)
                segment<Coding>(job, a, w, job->start + g * lanes, job->start_stride, to);
            else
                segment<Coding>(job, a, w, to, job->stride, to);
        }
}

} // namespace

extern "C" void meshd_tile_signed_any_neon_4x16(const tile_job *job) {
    tile<coding_signed>(job);
}
extern "C" void meshd_tile_unipolar_any_neon_4x16(const tile_job *job) {
    tile<coding_unipolar>(job);
}
