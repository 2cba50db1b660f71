/* The scalar kernels of include/meshd_product.h: the specification. */
#ifndef MESHD_SCALAR_PRODUCT_H
#define MESHD_SCALAR_PRODUCT_H

#include "meshd_product.h"

extern "C" {
int meshd_product_signed_b1_scalar(const packed_matrix *a, const packed_matrix *w, size_t k,
                                   float *out);
int meshd_product_unipolar_b1_scalar(const packed_matrix *a, const packed_matrix *w, size_t k,
                                     float *out);

void meshd_fill_product_scalar(product_kernels *table);
}

#endif
