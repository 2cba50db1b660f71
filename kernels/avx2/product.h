/* The AVX2 kernels of include/meshd_product.h: LAYOUT_NIBBLES. */
#ifndef MESHD_AVX2_PRODUCT_H
#define MESHD_AVX2_PRODUCT_H

#include "meshd_product.h"

extern "C" {
void meshd_tile_signed_any_avx2_4x64(const tile_job *job);
void meshd_tile_signed_part8_avx2_4x64(const tile_job *job);
void meshd_tile_signed_part16_avx2_4x64(const tile_job *job);
void meshd_tile_signed_unit1_avx2_4x64(const tile_job *job);
void meshd_tile_signed_unit2_avx2_4x64(const tile_job *job);
void meshd_tile_signed_unit4_avx2_4x64(const tile_job *job);
void meshd_tile_signed_unit8_avx2_4x64(const tile_job *job);
void meshd_tile_unipolar_any_avx2_4x64(const tile_job *job);
void meshd_tile_unipolar_part8_avx2_4x64(const tile_job *job);
void meshd_tile_unipolar_part16_avx2_4x64(const tile_job *job);
void meshd_tile_unipolar_unit1_avx2_4x64(const tile_job *job);
void meshd_tile_unipolar_unit2_avx2_4x64(const tile_job *job);
void meshd_tile_unipolar_unit4_avx2_4x64(const tile_job *job);
void meshd_tile_unipolar_unit8_avx2_4x64(const tile_job *job);

void meshd_overlay_product_avx2(product_kernels *table);
}

#endif
