// The carried gradient: sum, bits, means and what is kept, in one pass over memory.
#include "stream.h"
#include "pack_row.h"

namespace {

// grad * weight + carried, in two roundings. 0 * weight need not be 0: hence first_of.
struct weighted_sum {
    const float *grad, *carried;
    __m256 weight;

    __m256 at(size_t i, size_t lanes) const {
        const __m256 product = _mm256_mul_ps(load(grad + i, lanes), weight);
        return first_of(lanes, _mm256_add_ps(product, load(carried + i, lanes)));
    }
};

// Keeps the sum, until the scale is known.
struct unsettled {
    weighted_sum sum;
    float *carried;

    __m256 operator()(size_t i, size_t lanes) const {
        const __m256 v = sum.at(i, lanes);
        store(carried + i, lanes, v);
        return v;
    }
};

// Keeps what bit and scale do not say of it.
struct settled {
    weighted_sum sum;
    float *carried;
    __m256 scale;

    __m256 operator()(size_t i, size_t lanes) const {
        const __m256 v = sum.at(i, lanes);
        const __m256 said = signed_like(scale, is_set_signed::test(v));
        store(carried + i, lanes, _mm256_sub_ps(v, said));
        return v;
    }
};

} // namespace

extern "C" void meshd_carry_binarize_f32_avx2(const float *grad, float *carried, size_t n,
                                                  float weight, size_t gamma, uint64_t *bits,
                                                  float *means) {
    const unsettled row = {{grad, carried, _mm256_set1_ps(weight)}, carried};
    pack_row<is_set_signed>(carried, n, gamma, bits, means, row);
}

extern "C" void meshd_carry_settle_f32_avx2(float *carried, const uint64_t *bits,
                                                const float *scale, size_t n, size_t gamma) {
    each_group(n, gamma, [=](size_t i, size_t lanes, size_t segment) {
        const __m256 said = signed_by(_mm256_set1_ps(scale[segment]), bits_at(bits, i, lanes));
        store(carried + i, lanes, _mm256_sub_ps(load(carried + i, lanes), said));
    });
}

// Segments of whole words are one pass, and the sums of a mean never leave their register. Others
// need the sum once more from memory for the mean, and are settled in a pass of their own.
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
    for (size_t begin = 0; begin < n; begin += gamma) {
        const size_t length = smaller(gamma, n - begin);
        float *kept = carried + begin;
        const settled segment = {{grad + begin, kept, factor}, kept, _mm256_set1_ps(*scale++)};
        pack_row<is_set_signed>(kept, length, length, bits + begin / 64, means++, segment);
    }
}
