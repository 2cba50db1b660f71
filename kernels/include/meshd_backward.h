/* Products of float32 rows with packed bits: the backward pass, and a forward one whose activations
 * stay float. Rules that hold for every function here: meshd_layout.h.
 *
 * Both gradients of Y = A W^T are one operation: with G (R, C) float32, packed b (C, k) and
 * v[r][c][s] = G[r][c] * alpha_b[c][s] rounded to float32,
 *     out[r][i] = sum over c of v[r][c][s(i)] * code(b[c][i])
 *     dX: G = dY,   b = W, signed          dW: G = dY^T, b = A, signed (-1, +1) or unipolar (0, 1)
 * Lanes lie along i. For one segment s the factors v do not depend on i, so the bits of a few
 * consecutive c choose among few sums: these are computed once and looked up ("four Russians").
 *
 * The kernels work on strips: up to 256 columns i of one segment, padded with zero bits to panels
 * of 64. A window is 64 bits of a row of b, bit j being column j of a panel. */
#ifndef MESHD_BACKWARD_H
#define MESHD_BACKWARD_H

#include "meshd_layout.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
    MESHD_PANEL = 64,  /* columns of a panel */
    MESHD_STRIP = 256, /* largest number of columns of a strip; the row length of every `sums` */

    MESHD_EXACT_ROWS = 6,  /* rows r that are summed together */
    MESHD_EXACT_WORD = 30, /* c's of an index word: six groups of five */
    MESHD_EXACT_BLOCK = 5, /* largest number of words in a call */

    MESHD_INT8_ROWS = 4,
    MESHD_INT8_WORD = 12,   /* two groups of six */
    MESHD_INT8_BLOCK = 15,  /* 180 values of magnitude <= 128 */
    MESHD_INT8_ONE = 65536, /* one step of the int8 grid, in the units that are rounded */

    MESHD_PLANES_ROWS = 4,
    MESHD_PLANES_GROUP = 7,   /* c's of a group */
    MESHD_PLANES_BLOCK = 600, /* largest number of groups in a call: 600 * 7 * 15 < 2^16 */
    MESHD_PLANES_MOST = 4,    /* planes */
    MESHD_PLANES_CHAINS = 16, /* of digits whose rounding errors cancel */

    MESHD_LARGEST_REDUCTION = 1 << 22 /* C, for integers: 4 * 15 * C and 2 * 128 * C fit int32_t */
};

/* L: the digits of `planes` bits are 0..L. From two planes on their number is odd, so that the
 * middle one stands for 0; a single plane has no room for that. */
static inline int meshd_largest_digit(size_t planes) { return planes == 1 ? 1 : (1 << planes) - 2; }

/* The kernels' building blocks; what they build is declared below. All scratch arrays are aligned
 * to 64 bytes: index, values, keys, sums. Strip arrays have `panels` * 64 columns, 1..4 panels. */
struct backward_kernels {
    /* windows (30 words): bit j of index[w * stride + lane] = bit `lane` of windows[30 w + j]. */
    void (*columns_exact)(const uint64_t *windows, size_t words, uint32_t *index, size_t stride);
    /* The same with 12. */
    void (*columns_int8)(const uint64_t *windows, size_t words, uint16_t *index, size_t stride);
    /* windows (7, groups) -> bit j of index[g * stride + lane] = bit `lane` of windows[j][g]. */
    void (*columns_planes)(const uint64_t *windows, size_t groups, uint8_t *index, size_t stride);

    /* values (6, 5 * 30), index (words, panels * 64), sums (6, 256) in/out. For every row and lane,
     * with x[j] = value j * (bit j ? 1 : zero), for each group of five, j ascending:
     *     sum = sum + ((((x[0] + x[1]) + x[2]) + x[3]) + x[4])
     * zero is -1 or 0. words <= 5. */
    void (*sums_exact)(const float *values, size_t words, const uint32_t *index, size_t panels,
                       float zero, float *sums);
    /* values[row * row_stride + c], index (words, panels * 64), sums (4, 256) in/out:
     *     sum = sum + (the values whose bit is 1).    c < 12 words, words <= 15 */
    void (*sums_int8)(const int8_t *values, size_t row_stride, size_t words,
                      const uint16_t *index, size_t panels, int32_t *sums);
    /* keys[row * row_stride + p * pair_stride + g]: digit j of group g has bits 2 p and 2 p + 1 at
     * bits 2 j and 2 j + 1. index (groups, panels * 64), sums (4, 256) in/out:
     *     sum = sum + (the digits, below 2^planes, whose bit is 1).    groups <= 600 */
    void (*sums_planes)(const uint16_t *keys, size_t row_stride, size_t pair_stride, size_t groups,
                        size_t planes, const uint8_t *index, size_t panels, int32_t *sums);

    /* v[c] = g[c] * alpha[c], c < n. */
    void (*scale)(const float *g, const float *alpha, size_t n, float *v);
    /* The largest |v[c]| as the bits of a float: 0x7f800000 and above where one is not finite. */
    uint32_t (*largest)(const float *g, const float *alpha, size_t n);
    /* values[c] = ((int32_t)(v[c] * inverse) + (h(c) >> 16)) >> 16, at most 127; returns their sum.
     * |v[c] * inverse| <= 128 * 65536. h(c) is a hash of the counter c, 32 bits:
     *     x = c + first;  x ^= x >> 16;  x *= 0x7feb352d;  x ^= x >> 15;  x ^= second;
     *     x *= 0x846ca68b. */
    int32_t (*round_int8)(const float *g, const float *alpha, size_t n, float inverse,
                          uint32_t first, uint32_t second, int8_t *values);
    /* Digits of c < n, 0 from there on; digit j of group g is that of c = j * groups + g. Groups
     * with the same g mod 16 are a chain: its digits follow each other by g, then j, and what one
     * leaves is added to the next. With carry = carry[g mod 16] < 2^16 at first,
     *     t = rint(v[c] * inverse) + 32768 L + carry;  digit(c) = t >> 16;  carry = t mod 2^16
     * where L = meshd_largest_digit(planes), |v[c] * inverse| < 32768 L + 1/2, and rint is to
     * nearest, half to even. Writes the keys of sums_planes, (ceil(planes / 2), groups) with
     * pair_stride; returns the sum of the digits. n <= 7 groups */
    int32_t (*digits_planes)(const float *g, const float *alpha, size_t n, size_t groups,
                             float inverse, size_t planes, const uint16_t *carry, uint16_t *keys,
                             size_t pair_stride);

    /* out[i] = bit i of keep ? sums[i] : +0, i < n <= 256. keep (ceil(n / 64)). past_caches: out is
     * part of what is too large to stay in a cache, aligned to 64 bytes and n is a multiple of 16;
     * the kernel may store it past the caches. Changes no bit. */
    void (*finish_exact)(const float *sums, size_t n, const uint64_t *keep, int past_caches,
                         float *out);
    /* out[i] = bit i of keep ? step * (float)(sums[i] * factor + offset[i] + constant) : +0. */
    void (*finish_integer)(const int32_t *sums, size_t n, int32_t factor, const int32_t *offset,
                           int32_t constant, float step, const uint64_t *keep, int past_caches,
                           float *out);
};

/* out = G times b, as above. Arrays as in Y's backward. */
struct backward_operands {
    const float *g;         /* (rows, b.rows), or (b.rows, rows) where transposed */
    size_t rows;            /* R */
    int transposed;
    struct packed_matrix b; /* (C, k) */
    size_t k;
    int unipolar;           /* codes 0 and 1 instead of -1 and +1 */
    const uint64_t *keep;   /* (rows, ceil(k / 64)): out is +0 where the bit is 0; NULL keeps all */
    float *out;             /* (rows, k) */
    size_t threads;         /* at least 1; changes no bit of the result */
};

/* float32 throughout. c ascends in groups of five (the last ones padded with v = +0, up to a
 * multiple of 30); the sum over a group, and the sum over the groups, have the order of
 * sums_exact, from +0. NaN and infinities give what a dense product gives. */
int meshd_backward_exact(const struct backward_operands *x);

/* v is rounded to q * step, step = largest |v| of (r, s) / 127, q an int8, up or down at random
 * with the expectation v (but for at most 2^-16 steps towards 0). The random bits are a function of
 * (seed, r, s, c) only. The sum over c is an exact integer: out = step * (float)sum. Where a v of
 * (r, s) is NaN or infinite, all of out in that row and segment is NaN, but for what keep makes +0.
 * Where all |v| < 1e-30 they count as 0. C <= 2^22. */
int meshd_backward_int8(const struct backward_operands *x, uint64_t seed);

/* v is rounded to one of the values step * (2 d - L), d = 0..L a digit of `planes` bits, up or down
 * at random with the expectation v (but for at most 2^-17 of the distance of two values). step =
 * largest |v| of (r, s) / L with L = 1, 2, 6, 14 for 1, 2, 3, 4 planes: the two ends of one plane,
 * or 3, 7, 15 values, the middle one 0. The largest |v| stays what it is; so does 0, but for one
 * plane. Rounding errors cancel: in each of 16 chains (see digits_planes) their sum stays below
 * the distance of two values. The random bits are a function of (seed, r, s) only. The rest as with
 * int8. */
int meshd_backward_planes(const struct backward_operands *x, size_t planes, uint64_t seed);

/* Forward with float activations (beta_a = 1): x (rows, k), signed w (N, k),
 *     out[m][n] = sum over segments s of w, ascending, from +0: acc = acc + alpha_w[n][s] * t_s
 *     t_s = sum over i in s of x[m][i] * sign(w[n][i]), in sums_exact's order from the segment's
 *           start on
 * out (rows, w.rows). */
int meshd_product_floats(const float *x, size_t rows, const struct packed_matrix *w, size_t k,
                         float *out, size_t threads);

#ifdef __cplusplus
}
#endif
#endif
