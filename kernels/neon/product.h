/* The NEON tile kernels of include/meshd_product.h. */
#ifndef MESHD_NEON_PRODUCT_H
#define MESHD_NEON_PRODUCT_H

#include "meshd_product.h"

extern "C" {
void meshd_tile_signed_any_neon_4x16(const tile_job *job);
void meshd_tile_signed_part8_neon_4x16(const tile_job *job);
void meshd_tile_signed_part16_neon_4x16(const tile_job *job);
void meshd_tile_signed_unit1_neon_4x16(const tile_job *job);
void meshd_tile_signed_unit2_neon_4x16(const tile_job *job);
void meshd_tile_signed_unit4_neon_4x16(const tile_job *job);
void meshd_tile_signed_unit8_neon_4x16(const tile_job *job);
void meshd_tile_unipolar_any_neon_4x16(const tile_job *job);
void meshd_tile_unipolar_part8_neon_4x16(const tile_job *job);
void meshd_tile_unipolar_part16_neon_4x16(const tile_job *job);
void meshd_tile_unipolar_unit1_neon_4x16(const tile_job *job);
void meshd_tile_unipolar_unit2_neon_4x16(const tile_job *job);
void meshd_tile_unipolar_unit4_neon_4x16(const tile_job *job);
void meshd_tile_unipolar_unit8_neon_4x16(const tile_job *job);

void meshd_overlay_product_neon(product_kernels *table);
}

#endif
