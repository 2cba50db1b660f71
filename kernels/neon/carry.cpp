// The carried gradient: sum, bits, means and what is kept, in one pass over memory.
#include "pack_row.h"
#include "stream.h"

extern "C" void meshd_carry_binarize_f32_neon(const float *grad, float *carried, size_t n,
                                              float weight, size_t gamma, uint64_t *bits,
                                              float *means) {
    const float32x4_t factor = vdupq_n_f32(weight);
    pack_row<is_set_signed>(carried, n, gamma, bits, means, [=](size_t i, size_t lanes) {
        const float32x4_t product = vmulq_f32(load(grad + i, lanes), factor);
        const float32x4_t sum = vaddq_f32(product, load(carried + i, lanes));
        store(carried + i, lanes, sum);
        return first_of(lanes, sum); // 0 * weight need not be 0
    });
}

extern "C" void meshd_carry_settle_f32_neon(float *carried, const uint64_t *bits,
                                            const float *scale, size_t n, size_t gamma) {
    each_group(n, gamma, [=](size_t i, size_t lanes, size_t segment) {
        const float32x4_t said = signed_by(vdupq_n_f32(scale[segment]), bits_at(bits, i, lanes));
        store(carried + i, lanes, vsubq_f32(load(carried + i, lanes), said));
    });
}

// Segments of whole words are one pass. Others need the sum v once more from memory for the mean, and
// are settled in a pass of their own.
extern "C" void meshd_feedback_binarize_f32_neon(const float *grad, float *carried, size_t n,
                                                 float weight, size_t gamma, const float *scale,
                                                 uint64_t *bits, float *means) {
    if (gamma % 64 != 0 && gamma < n) {
        meshd_carry_binarize_f32_neon(grad, carried, n, weight, gamma, bits, means);
        meshd_carry_settle_f32_neon(carried, bits, scale, n, gamma);
        return;
    }
    const float32x4_t factor = vdupq_n_f32(weight);
    for (size_t begin = 0; begin < n; begin += gamma, ++scale, ++means) {
        const size_t length = smaller(gamma, n - begin);
        const float32x4_t said = vdupq_n_f32(*scale);
        const float *g = grad + begin;
        float *c = carried + begin;
        auto values = [=](size_t i, size_t lanes) {
            const float32x4_t product = vmulq_f32(load(g + i, lanes), factor);
            const float32x4_t sum = vaddq_f32(product, load(c + i, lanes));
            const float32x4_t kept = vsubq_f32(sum, signed_like(said, is_set_signed::test(sum)));
            store(c + i, lanes, kept);
            return first_of(lanes, sum);
        };
        pack_row<is_set_signed>(c, length, length, bits + begin / 64, means, values);
    }
}
