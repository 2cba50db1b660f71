// Built without AVX-512: the tables are filled before it is known what the machine runs.
#include "product.h"

extern "C" void meshd_overlay_product_avx512bw(product_kernels *table) {
    table->layout = LAYOUT_NIBBLES;
    table->rows = 4;
    table->columns = 128;
    tile_kernel *s = table->tile[MESHD_SIGNED], *u = table->tile[MESHD_UNIPOLAR];
    s[TILE_ANY].run = meshd_tile_signed_any_avx512bw_4x128;
    s[TILE_PART_8].run = meshd_tile_signed_part8_avx512bw_4x128;
    s[TILE_PART_16].run = meshd_tile_signed_part16_avx512bw_4x128;
    s[TILE_UNIT_1].run = meshd_tile_signed_unit1_avx512bw_4x128;
    s[TILE_UNIT_2].run = meshd_tile_signed_unit2_avx512bw_4x128;
    s[TILE_UNIT_4].run = meshd_tile_signed_unit4_avx512bw_4x128;
    s[TILE_UNIT_8].run = meshd_tile_signed_unit8_avx512bw_4x128;
    u[TILE_ANY].run = meshd_tile_unipolar_any_avx512bw_4x128;
    u[TILE_PART_8].run = meshd_tile_unipolar_part8_avx512bw_4x128;
    u[TILE_PART_16].run = meshd_tile_unipolar_part16_avx512bw_4x128;
    u[TILE_UNIT_1].run = meshd_tile_unipolar_unit1_avx512bw_4x128;
    u[TILE_UNIT_2].run = meshd_tile_unipolar_unit2_avx512bw_4x128;
    u[TILE_UNIT_4].run = meshd_tile_unipolar_unit4_avx512bw_4x128;
    u[TILE_UNIT_8].run = meshd_tile_unipolar_unit8_avx512bw_4x128;
}
