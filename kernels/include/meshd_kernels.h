/* The contract of the kernels: a table of C functions over packed bits. Nothing here knows Python.
 *
 * Layout (the same words as meshd/bits/layout.py):
 *   - a word is a uint64_t; element i of a row is bit i % 64 of word i / 64;
 *   - a row of k elements takes ceil(k / 64) words; the padding bits of its last word are zero:
 *     every kernel that writes words makes them so, every kernel that reads words may rely on it;
 *   - a row is cut into segments of `beta` elements (the last may be shorter), one float scale each:
 *     ceil(k / beta) scales. Segments need not start on a word.
 *
 * Rules that hold for every function of the table:
 *   - arrays are dense, row after row, aligned to their element type, and must not overlap, but for
 *     the ones marked "in/out", which are read and written in place;
 *   - nothing is read or written outside the arrays: over-read = 0 bytes;
 *   - 1 <= beta <= max(k, 1), the same for gamma and n, are the caller's to ensure;
 *   - the result has the same bits on every instruction set (the payload of a NaN excepted):
 *     float operations are IEEE binary32, rounded one by one, in the order written here, without
 *     fused multiply-add. The mean of |x| over a segment of n elements is
 *         lane[j] = ((|x[j]| + |x[j+16]|) + |x[j+32]|) + ...     j = 0..15, indices within the segment
 *         lane[j] += lane[j+8], j < 8;  then += lane[j+4], j < 4;  += lane[j+2], j < 2;  += lane[1]
 *         mean = lane[0] / (float)n
 *     Sixteen lanes are two AVX registers or one AVX-512 register, and a wrong order costs nothing.
 */
#ifndef MESHD_KERNELS_H
#define MESHD_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A packed matrix of `rows` rows; its row length k is the function's own argument. */
struct packed_matrix {
    const uint64_t *words; /* (rows, ceil(k / 64)) */
    const float *scales;   /* (rows, ceil(k / beta)) */
    size_t rows;
    size_t beta;
};

enum meshd_status {
    MESHD_OK = 0,
    MESHD_OVERFLOW = 1,  /* a count does not fit where it must go */
    MESHD_NO_MEMORY = 2, /* no scratch memory; outputs unspecified */
    MESHD_UNKNOWN_ISA = 3,
    MESHD_UNSUPPORTED_ISA = 4
};

struct kernel_table {
    const char *isa;

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

    /* out[m][n] = sum over the segments s of the finer of the two cuts, s ascending, from +0:
     *     acc = acc + (alpha_a[m][s] * alpha_w[n][s]) * (float)dot_s
     * where alpha of the coarser matrix is that of the segment that holds s. One cut refines the
     * other: the larger beta is a multiple of the smaller one, or one segment is the whole row.
     * signed (both +-1):            dot_s = len - 2 popcount(a ^ w)
     * unipolar (a 0 or 1, w +-1):   dot_s = 2 popcount(a & w) - popcount(a)
     * k < 2^31; out (a.rows, w.rows). Returns MESHD_OK or MESHD_NO_MEMORY. */
    int (*product_signed)(const struct packed_matrix *a, const struct packed_matrix *w, size_t k,
                          float *out);
    int (*product_unipolar)(const struct packed_matrix *a, const struct packed_matrix *w, size_t k,
                            float *out);

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

/* The table in use. The first call picks the fastest set that this machine runs. Thread-safe. */
const struct kernel_table *meshd_kernels(void);

/* Makes `name` the set in use, for all threads, from their next call on. MESHD_OK,
 * MESHD_UNKNOWN_ISA (not in this build) or MESHD_UNSUPPORTED_ISA (not on this machine); on an error
 * nothing changes. */
int meshd_use_isa(const char *name);

/* The i-th set that is in this build *and* runs here, fastest first; NULL after the last. */
const char *meshd_list_isa(size_t i);

#ifdef __cplusplus
}
#endif
#endif
