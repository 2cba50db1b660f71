/* Kernels that pass over their arrays once: binarize and pack, and all that the ring does to bits.
 * Rules that hold for every function here: meshd_layout.h.
 *
 * What is not finite. No NaN becomes a silent +1: its bit is 0 and the mean of its segment is NaN,
 * so every product with that segment is NaN, and so is all that is unpacked from it (unipolar: all
 * set bits). An infinity has its sign's bit and the mean of its segment is +infinity. Hence the
 * means are the check: they are all finite if and only if the vector is, and no segment's magnitudes
 * add up beyond float32. */
#ifndef MESHD_STREAM_H
#define MESHD_STREAM_H

#include "meshd_layout.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a ring of `members` decided on n elements. V[i], the votes for element i, is the counter that
 * the bits i of the planes spell: plane p weighs 2^p. The aggregated gradient, before any cut, is
 *     G[i] = scale[i / gamma] * ((float)(2 V[i] - members) / (float)members) */
struct ring_votes {
    const uint64_t *planes; /* plane p begins at planes + p * stride, ceil(n / 64) words */
    size_t count;           /* planes, at most 16 */
    size_t stride;          /* words from the beginning of a plane to that of the next */
    size_t members;         /* 1 <= members < 2^16 */
    const float *scale;     /* ceil(n / gamma) */
    size_t gamma;
};

/* The latents of one slice, and where their binarized form goes. The gradient that an update sees is
 *     g[i] = G[i] * (|latents[i]| <= cut ? 1 : 0)        the straight-through cut
 * (so a G below zero that is cut off is -0), with the latents before the update; cut = +infinity
 * lets everything pass but where the latent itself is NaN. */
struct latent_matrix {
    float *latents; /* in/out (rows, k), n = rows * k */
    size_t rows, k;
    float cut;
    size_t beta;
    uint64_t *words; /* out (rows, ceil(k / 64)), or NULL: do not binarize (scales, beta unused) */
    float *scales;   /* out (rows, ceil(k / beta)) */
};

struct sgd_step {
    float momentum, rate;
};

/* keep_1 = b1, add_1 = 1 - b1, keep_2 = b2, add_2 = 1 - b2, each rounded from its own float64;
 * rate = lr / (1 - b1^t), second_scale = 1 / (1 - b2^t). */
struct adam_step {
    float keep_1, add_1, keep_2, add_2, second_scale, epsilon, rate;
};

struct stream_kernels {
    /* x (rows, k) -> words (rows, ceil(k/64)), scales (rows, ceil(k/beta)).
     * signed: bit = x >= 0, so -0.0 gives 1; unipolar: bit = x > 0. NaN gives 0 in both.
     * scale = mean |x| of the segment. */
    void (*pack_signed)(const float *x, size_t rows, size_t k, size_t beta, uint64_t *words,
                        float *scales);
    void (*pack_unipolar)(const float *x, size_t rows, size_t k, size_t beta, uint64_t *words,
                          float *scales);

    /* The scales alone: means (rows, ceil(k/beta)), means[r][s] = mean |x| of the segment. */
    void (*segment_means)(const float *x, size_t rows, size_t k, size_t beta, float *means);

    /* x (rows, k) -> words (rows, ceil(k/64)): bit = |x| <= cut, 0 where x or cut is NaN. What the
     * straight-through estimator lets pass. */
    void (*within)(const float *x, size_t rows, size_t k, float cut, uint64_t *words);

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

    /* Both in one pass, for a scale that all members know before the step:
     * v = grad[i] * weight + carried[i]            (two roundings),
     * bits, means = pack_signed of v as one row of n, segments of gamma,
     * carried[i] (in/out) = v - (bit ? scale[i / gamma] : -scale[i / gamma]).
     * The means of |v| are what the next step's scale is made of. */
    void (*feedback_binarize)(const float *grad, float *carried, size_t n, float weight,
                              size_t gamma, const float *scale, uint64_t *bits, float *means);

    /* planes (count, words), in/out: element i's counter is sum over p of 2^p * bit i of plane p.
     * Adds bits (words) to it. MESHD_OVERFLOW when a counter had no room: the planes then hold the
     * sums modulo 2^count and are to be thrown away. */
    int (*planes_add)(uint64_t *planes, size_t count, size_t words, const uint64_t *bits);

    /* The same for `voters` voters, bits (voters, words): eight of them in one pass. */
    int (*planes_add_many)(uint64_t *planes, size_t count, size_t words, const uint64_t *bits,
                           size_t voters);

    /* planes (count, words), in/out, += other (other_count, words): counter by counter.
     * MESHD_OVERFLOW as in planes_add. */
    int (*planes_sum)(uint64_t *planes, size_t count, size_t words, const uint64_t *other,
                      size_t other_count);

    /* V = element i's counter in planes (count, ceil(n/64)), count <= 16, 1 <= members < 2^16:
     * out[i] = scale[i / gamma] * ((float)(2 V - members) / (float)members).
     * MESHD_OVERFLOW when some V > members: nothing is written then. */
    int (*apply_votes)(const uint64_t *planes, size_t count, size_t members, const float *scale,
                       size_t n, size_t gamma, float *out);

    /* The ring's decision moves the latents, and these are binarized again. One operation a line,
     * each rounded on its own, with the g of latent_matrix; momentum as in Sutskever et al. 2013
     * without its 1 - momentum, Adam as in Kingma and Ba 2015, epsilon behind the root:
     *     velocity[i] = velocity[i] * momentum;   velocity[i] = velocity[i] + g
     *     u = velocity[i] * rate
     *     latents[i] = latents[i] - u
     *     words, scales = pack_signed of the new latents, segments of beta along each row
     * velocity, first, second: in/out (rows, k).
     * MESHD_OVERFLOW when some V > members: nothing is written then. */
    int (*votes_sgd)(const struct ring_votes *votes, const struct sgd_step *step, float *velocity,
                     const struct latent_matrix *latents);

    /*     f = g * add_1;   first[i] = first[i] * keep_1;     first[i] = first[i] + f
     *     s = g * g;       s = s * add_2;
     *                      second[i] = second[i] * keep_2;   second[i] = second[i] + s
     *     d = second[i] * second_scale;   d = sqrt(d);   d = d + epsilon
     *     u = first[i] / d;   u = u * rate
     *     latents[i] = latents[i] - u
     *     words, scales = as in votes_sgd */
    int (*votes_adam)(const struct ring_votes *votes, const struct adam_step *step, float *first,
                      float *second, const struct latent_matrix *latents);
};

#ifdef __cplusplus
}
#endif
#endif
