// The one kernel that every set must have; what is not filled here is NULL: none.
#include "product.h"

extern "C" void meshd_fill_product_scalar(product_kernels *table) {
    *table = {};
    table->rows = 2;
    table->columns = 16;
    table->tile[MESHD_SIGNED][TILE_ANY].run = meshd_tile_signed_any_scalar_2x16;
    table->tile[MESHD_UNIPOLAR][TILE_ANY].run = meshd_tile_unipolar_any_scalar_2x16;
}
