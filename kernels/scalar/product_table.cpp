// Every slot has its scalar kernel, so an overlay may start with one function.
#include "product.h"

extern "C" void meshd_fill_product_scalar(product_kernels *table) {
    table->product_signed = meshd_product_signed_b1_scalar;
    table->product_unipolar = meshd_product_unipolar_b1_scalar;
}
