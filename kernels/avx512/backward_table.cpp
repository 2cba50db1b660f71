// Built without AVX-512: the tables are filled before it is known what the machine runs.
#include "backward.h"

extern "C" void meshd_overlay_backward_avx512(backward_kernels *table) {
    table->sums_planes = meshd_sums_planes_avx512;
}
