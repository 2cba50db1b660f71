// Built without AVX2: the tables are filled before it is known what the machine runs.
#include "backward.h"

extern "C" void meshd_overlay_backward_avx2(backward_kernels *table) {
    table->columns_exact = meshd_columns_exact_avx2;
    table->columns_int8 = meshd_columns_int8_avx2;
    table->columns_planes = meshd_columns_planes_avx2;
    table->sums_exact = meshd_sums_exact_avx2;
    table->sums_int8 = meshd_sums_int8_avx2;
    table->sums_planes = meshd_sums_planes_avx2;
    table->scale = meshd_scale_avx2;
    table->largest = meshd_largest_avx2;
    table->round_int8 = meshd_round_int8_avx2;
    table->digits_planes = meshd_digits_planes_avx2;
    table->finish_exact = meshd_finish_exact_avx2;
    table->finish_integer = meshd_finish_integer_avx2;
}
