// Segments of 8 to 256 elements: tables of nibbles, 4 rows by 128 columns.
#include "product.h"
#include "product_tile.h"

#include "generic/nibble_fixed.h"

extern "C" void meshd_tile_signed_part8_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_signed, 8>(job);
}
extern "C" void meshd_tile_signed_part16_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_signed, 16>(job);
}
extern "C" void meshd_tile_signed_unit1_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_signed, 32>(job);
}
extern "C" void meshd_tile_signed_unit2_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_signed, 64>(job);
}
extern "C" void meshd_tile_signed_unit4_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_signed, 128>(job);
}
extern "C" void meshd_tile_signed_unit8_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_signed, 256>(job);
}
extern "C" void meshd_tile_unipolar_part8_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_unipolar, 8>(job);
}
extern "C" void meshd_tile_unipolar_part16_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_unipolar, 16>(job);
}
extern "C" void meshd_tile_unipolar_unit1_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_unipolar, 32>(job);
}
extern "C" void meshd_tile_unipolar_unit2_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_unipolar, 64>(job);
}
extern "C" void meshd_tile_unipolar_unit4_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_unipolar, 128>(job);
}
extern "C" void meshd_tile_unipolar_unit8_avx512bw_4x128(const tile_job *job) {
    tile_fixed<fixed_unipolar, 256>(job);
}
