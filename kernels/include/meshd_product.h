/* Products of packed matrices. Rules that hold for every function here: meshd_layout.h. */
#ifndef MESHD_PRODUCT_H
#define MESHD_PRODUCT_H

#include "meshd_layout.h"

#ifdef __cplusplus
extern "C" {
#endif

struct product_kernels {
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
};

#ifdef __cplusplus
}
#endif
#endif
