// Every slot has its scalar kernel, so an overlay may start with one function.
#include "backward.h"

extern "C" void meshd_fill_backward_scalar(backward_kernels *table) {
    table->columns_exact = meshd_columns_exact_scalar;
    table->columns_int8 = meshd_columns_int8_scalar;
    table->columns_planes = meshd_columns_planes_scalar;
    table->sums_exact = meshd_sums_exact_scalar;
    table->sums_int8 = meshd_sums_int8_scalar;
    table->sums_planes = meshd_sums_planes_scalar;
    table->scale = meshd_scale_scalar;
    table->largest = meshd_largest_scalar;
    table->round_int8 = meshd_round_int8_scalar;
    table->digits_planes = meshd_digits_planes_scalar;
    table->finish_exact = meshd_finish_exact_scalar;
    table->finish_integer = meshd_finish_integer_scalar;
}
