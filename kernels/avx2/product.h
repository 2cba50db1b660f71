/* The AVX2 kernels of include/meshd_product.h. */
#ifndef MESHD_AVX2_PRODUCT_H
#define MESHD_AVX2_PRODUCT_H

#include "meshd_product.h"

extern "C" {
int meshd_product_signed_b1_avx2_1x8(const packed_matrix *a, const packed_matrix *w, size_t k,
                                     float *out);
int meshd_product_unipolar_b1_avx2_1x8(const packed_matrix *a, const packed_matrix *w, size_t k,
                                       float *out);

void meshd_overlay_product_avx2(product_kernels *table);
}

#endif
