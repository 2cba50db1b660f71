// A gradient becomes one bit an element; what the bit does not say is carried to the next step.
// Two functions, not one: between them the shared scale comes back from the ring.
#include "stream.h"

extern "C" void meshd_carry_binarize_f32_scalar(const float *grad, float *carried, size_t n,
                                                float weight, size_t gamma, uint64_t *bits,
                                                float *means) {
    for (size_t i = 0; i < n; ++i) carried[i] = grad[i] * weight + carried[i];
    meshd_pack_signed_f32_scalar(carried, 1, n, gamma, bits, means);
}

extern "C" void meshd_carry_settle_f32_scalar(float *carried, const uint64_t *bits,
                                              const float *scale, size_t n, size_t gamma) {
    for (size_t begin = 0; begin < n; begin += gamma, ++scale)
        for (size_t i = begin; i < n && i < begin + gamma; ++i) {
            const bool bit = bits[i / 64] >> (i % 64) & 1;
            carried[i] -= bit ? *scale : -*scale;
        }
}
