/* Kernels that pass over their arrays once: binarize and pack, and all that the ring does to bits.
 * Rules that hold for every function here: meshd_layout.h. */
#ifndef MESHD_STREAM_H
#define MESHD_STREAM_H

#include "meshd_layout.h"

#ifdef __cplusplus
extern "C" {
#endif

struct stream_kernels {
    /* x (rows, k) -> words (rows, ceil(k/64)), scales (rows, ceil(k/beta)).
     * signed: bit = x >= 0, so -0.0 gives 1; unipolar: bit = x > 0. NaN gives 0 in both.
     * scale = mean |x| of the segment. */
    void (*pack_signed)(const float *x, size_t rows, size_t k, size_t beta, uint64_t *words,
                        float *scales);
    void (*pack_unipolar)(const float *x, size_t rows, size_t k, size_t beta, uint64_t *words,
                          float *scales);

    /* m -> out (m.rows, k). signed: bit ? scale : -scale; unipolar: bit ? scale : +0. */
    void (*unpack_signed)(const struct packed_matrix *m, size_t k, float *out);
    void (*unpack_unipolar)(const struct packed_matrix *m, size_t k, float *out);

    /* carried[i] = grad[i] * weight + carried[i]   (in/out, n elements; two roundings),
     * bits, means = pack_signed of the new carried as one row of n, segments of gamma. */
    void (*carry_binarize)(const float *grad, float *carried, size_t n, float weight, size_t gamma,
                           uint64_t *bits, float *means);

    /* carried[i] (in/out) -= bit ? scale[i / gamma] : -scale[i / gamma], n elements. */
    void (*carry_settle)(float *carried, const uint64_t *bits, const float *scale, size_t n,
                         size_t gamma);

    /* planes (count, words), in/out: element i's counter is sum over p of 2^p * bit i of plane p.
     * Adds bits (words) to it. MESHD_OVERFLOW when a counter had no room: the planes then hold the
     * sums modulo 2^count and are to be thrown away. */
    int (*planes_add)(uint64_t *planes, size_t count, size_t words, const uint64_t *bits);

    /* V = element i's counter in planes (count, ceil(n/64)), count <= 16, 1 <= members < 2^16:
     * out[i] = scale[i / gamma] * ((float)(2 V - members) / (float)members).
     * MESHD_OVERFLOW when some V > members: out is then unspecified. */
    int (*apply_votes)(const uint64_t *planes, size_t count, size_t members, const float *scale,
                       size_t n, size_t gamma, float *out);
};

#ifdef __cplusplus
}
#endif
#endif
