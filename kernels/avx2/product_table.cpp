// Built without AVX2: the tables are filled before it is known what the machine runs.
#include "product.h"

extern "C" void meshd_overlay_product_avx2(product_kernels *table) {
    table->product_signed = meshd_product_signed_b1_avx2_1x8;
    table->product_unipolar = meshd_product_unipolar_b1_avx2_1x8;
}
