// The carried gradient: sum, bits, means and what is kept, in one pass over memory.
#include "stream.h"
#include "pack_row.h"

extern "C" void meshd_carry_binarize_f32_avx2(const float *grad, float *carried, size_t n,
                                                  float weight, size_t gamma, uint64_t *bits,
                                                  float *means) {
    const __m256 factor = _mm256_set1_ps(weight);
    pack_row<is_set_signed>(carried, n, gamma, bits, means, [=](size_t i, size_t lanes) {
        const __m256 product = _mm256_mul_ps(load(grad + i, lanes), factor);
        const __m256 sum = _mm256_add_ps(product, load(carried + i, lanes));
        store(carried + i, lanes, sum);
        return first_of(lanes, sum); // 0 * weight need not be 0
    });
}

extern "C" void meshd_carry_settle_f32_avx2(float *carried, const uint64_t *bits,
                                                const float *scale, size_t n, size_t gamma) {
    each_group(n, gamma, [=](size_t i, size_t lanes, size_t segment) {
        const __m256 said = signed_by(_mm256_broadcast_ss(scale + segment), bits_at(bits, i, lanes));
        store(carried + i, lanes, _mm256_sub_ps(load(carried + i, lanes), said));
    });
}

// Segments of whole words are one pass, and the sums of a mean never leave their register. Others
// need the sum v once more from memory for the mean, and are settled in a pass of their own.
extern "C" void meshd_feedback_binarize_f32_avx2(const float *grad, float *carried, size_t n,
                                                     float weight, size_t gamma,
                                                     const float *scale, uint64_t *bits,
                                                     float *means) {
    if (gamma % 64 != 0 && gamma < n) {
        meshd_carry_binarize_f32_avx2(grad, carried, n, weight, gamma, bits, means);
        meshd_carry_settle_f32_avx2(carried, bits, scale, n, gamma);
        return;
    }
    const __m256 factor = _mm256_set1_ps(weight);
    for (size_t begin = 0; begin < n; begin += gamma, ++scale, ++means) {
        const size_t length = smaller(gamma, n - begin);
        const __m256 said = _mm256_set1_ps(*scale);
        const float *g = grad + begin;
        float *c = carried + begin;
        pack_row<is_set_signed>(c, length, length, bits + begin / 64, means,
                                [=](size_t i, size_t lanes) {
            const __m256 product = _mm256_mul_ps(load(g + i, lanes), factor);
            const __m256 sum = _mm256_add_ps(product, load(c + i, lanes));
            const __m256 kept = _mm256_sub_ps(sum, signed_like(said, is_set_signed::test(sum)));
            store(c + i, lanes, kept);
            return first_of(lanes, sum);
        });
    }
}
