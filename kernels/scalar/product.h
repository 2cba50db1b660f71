/* The scalar kernels of include/meshd_product.h: the specification. */
#ifndef MESHD_SCALAR_PRODUCT_H
#define MESHD_SCALAR_PRODUCT_H

#include "meshd_product.h"

extern "C" {
void meshd_tile_signed_any_scalar_2x16(const tile_job *job);
void meshd_tile_unipolar_any_scalar_2x16(const tile_job *job);

void meshd_fill_product_scalar(product_kernels *table);
}

#endif
