// Puts the NEON tile kernels over another table.
#include "product.h"

extern "C" void meshd_overlay_product_neon(product_kernels *table) {
    table->rows = 4;
    table->columns = 16;
    tile_kernel *s = table->tile[MESHD_SIGNED], *u = table->tile[MESHD_UNIPOLAR];
    s[TILE_ANY].run = meshd_tile_signed_any_neon_4x16;
    s[TILE_PART_8].run = meshd_tile_signed_part8_neon_4x16;
    s[TILE_PART_16].run = meshd_tile_signed_part16_neon_4x16;
    s[TILE_UNIT_1].run = meshd_tile_signed_unit1_neon_4x16;
    s[TILE_UNIT_2].run = meshd_tile_signed_unit2_neon_4x16;
    s[TILE_UNIT_4].run = meshd_tile_signed_unit4_neon_4x16;
    s[TILE_UNIT_8].run = meshd_tile_signed_unit8_neon_4x16;
    u[TILE_ANY].run = meshd_tile_unipolar_any_neon_4x16;
    u[TILE_PART_8].run = meshd_tile_unipolar_part8_neon_4x16;
    u[TILE_PART_16].run = meshd_tile_unipolar_part16_neon_4x16;
    u[TILE_UNIT_1].run = meshd_tile_unipolar_unit1_neon_4x16;
    u[TILE_UNIT_2].run = meshd_tile_unipolar_unit2_neon_4x16;
    u[TILE_UNIT_4].run = meshd_tile_unipolar_unit4_neon_4x16;
    u[TILE_UNIT_8].run = meshd_tile_unipolar_unit8_neon_4x16;
}
