// Built without AVX-512: the tables are filled before it is known what the machine runs.
#include "backward.h"

extern "C" void meshd_overlay_backward_avx512bw(backward_kernels *table) {
    table->columns_exact = meshd_columns_exact_avx512bw;
    table->columns_int8 = meshd_columns_int8_avx512bw;
    table->columns_planes = meshd_columns_planes_avx512bw;
    table->sums_exact = meshd_sums_exact_avx512bw;
    table->sums_int8 = meshd_sums_int8_avx512bw;
    table->scale = meshd_scale_avx512bw;
    table->largest = meshd_largest_avx512bw;
    table->round_int8 = meshd_round_int8_avx512bw;
    table->digits_planes = meshd_digits_planes_avx512bw;
    table->finish_exact = meshd_finish_exact_avx512bw;
    table->finish_integer = meshd_finish_integer_avx512bw;
}
