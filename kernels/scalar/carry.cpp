// A gradient becomes one bit an element; what the bit does not say is carried to the next step.
// Two functions where the shared scale comes back from the ring between them, one where it is known.
#include "stream.h"
#include "bits.h"

extern "C" void meshd_carry_binarize_f32_scalar(const float *grad, float *carried, size_t n,
                                                float weight, size_t gamma, uint64_t *bits,
                                                float *means) {
    for (size_t i = 0; i < n; ++i) carried[i] = grad[i] * weight + carried[i];
    meshd_pack_signed_f32_scalar(carried, 1, n, gamma, bits, means);
}

extern "C" void meshd_carry_settle_f32_scalar(float *carried, const uint64_t *bits,
                                              const float *scale, size_t n, size_t gamma) {
    for (size_t begin = 0; begin < n; begin += gamma, ++scale)
        for (size_t i = begin; i < n && i < begin + gamma; ++i)
            carried[i] -= bit_at(bits, i) ? *scale : -*scale;
}

extern "C" void meshd_feedback_binarize_f32_scalar(const float *grad, float *carried, size_t n,
                                                   float weight, size_t gamma, const float *scale,
                                                   uint64_t *bits, float *means) {
    meshd_carry_binarize_f32_scalar(grad, carried, n, weight, gamma, bits, means);
    meshd_carry_settle_f32_scalar(carried, bits, scale, n, gamma);
}
