// The carried gradient: sum, bits and means in one pass over memory.
#include "stream.h"
#include "pack_row.h"

extern "C" void meshd_carry_binarize_f32_avx2(const float *grad, float *carried, size_t n,
                                              float weight, size_t gamma, uint64_t *bits,
                                              float *means) {
    const __m256 factor = _mm256_set1_ps(weight);
    pack_row<is_set_signed>(carried, n, gamma, bits, means, [=](size_t first, size_t count) {
        for (size_t i = first; i < first + count; i += width) {
            const size_t lanes = smaller(width, first + count - i);
            const __m256 product = _mm256_mul_ps(load(grad + i, lanes), factor);
            store(carried + i, lanes, _mm256_add_ps(product, load(carried + i, lanes)));
        }
    });
}

extern "C" void meshd_carry_settle_f32_avx2(float *carried, const uint64_t *bits,
                                            const float *scale, size_t n, size_t gamma) {
    each_group(n, gamma, [=](size_t i, size_t lanes, size_t segment) {
        const __m256 said =
            signed_by(_mm256_broadcast_ss(scale + segment), bits_at(bits, i, lanes));
        store(carried + i, lanes, _mm256_sub_ps(load(carried + i, lanes), said));
    });
}
