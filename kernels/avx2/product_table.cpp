// Built without AVX2: the tables are filled before it is known what the machine runs.
#include "product.h"

extern "C" void meshd_overlay_product_avx2(product_kernels *table) {
    table->layout = LAYOUT_NIBBLES;
    table->rows = 4;
    table->columns = 64;
    table->tile[MESHD_SIGNED][TILE_ANY].run = meshd_tile_signed_any_avx2_4x64;
    table->tile[MESHD_UNIPOLAR][TILE_ANY].run = meshd_tile_unipolar_any_avx2_4x64;
}
