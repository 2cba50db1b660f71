// The carried gradient: sum, bits and means in one pass over memory.
#include "pack_row.h"
#include "stream.h"

extern "C" void meshd_carry_binarize_f32_neon(const float *grad, float *carried, size_t n,
                                              float weight, size_t gamma, uint64_t *bits,
                                              float *means) {
    const float32x4_t factor = vdupq_n_f32(weight);
    pack_row<is_set_signed>(carried, n, gamma, bits, means, [=](size_t first, size_t count) {
        for (size_t i = first; i < first + count; i += width) {
            const size_t lanes = smaller(width, first + count - i);
            const float32x4_t product = vmulq_f32(load(grad + i, lanes), factor);
            store(carried + i, lanes, vaddq_f32(product, load(carried + i, lanes)));
        }
    });
}

extern "C" void meshd_carry_settle_f32_neon(float *carried, const uint64_t *bits,
                                            const float *scale, size_t n, size_t gamma) {
    each_group(n, gamma, [=](size_t i, size_t lanes, size_t segment) {
        const float32x4_t said = signed_by(vdupq_n_f32(scale[segment]), bits_at(bits, i, lanes));
        store(carried + i, lanes, vsubq_f32(load(carried + i, lanes), said));
    });
}
