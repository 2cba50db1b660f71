/* The AVX-512BW kernels of include/meshd_product.h: LAYOUT_NIBBLES. */
#ifndef MESHD_AVX512BW_PRODUCT_H
#define MESHD_AVX512BW_PRODUCT_H

#include "meshd_product.h"

extern "C" {
void meshd_tile_signed_any_avx512bw_4x128(const tile_job *job);
void meshd_tile_signed_part8_avx512bw_4x128(const tile_job *job);
void meshd_tile_signed_part16_avx512bw_4x128(const tile_job *job);
void meshd_tile_signed_unit1_avx512bw_4x128(const tile_job *job);
void meshd_tile_signed_unit2_avx512bw_4x128(const tile_job *job);
void meshd_tile_signed_unit4_avx512bw_4x128(const tile_job *job);
void meshd_tile_signed_unit8_avx512bw_4x128(const tile_job *job);
void meshd_tile_unipolar_any_avx512bw_4x128(const tile_job *job);
void meshd_tile_unipolar_part8_avx512bw_4x128(const tile_job *job);
void meshd_tile_unipolar_part16_avx512bw_4x128(const tile_job *job);
void meshd_tile_unipolar_unit1_avx512bw_4x128(const tile_job *job);
void meshd_tile_unipolar_unit2_avx512bw_4x128(const tile_job *job);
void meshd_tile_unipolar_unit4_avx512bw_4x128(const tile_job *job);
void meshd_tile_unipolar_unit8_avx512bw_4x128(const tile_job *job);

void meshd_overlay_product_avx512bw(product_kernels *table);
}

#endif
