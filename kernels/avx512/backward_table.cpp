// Built without the set's flags: see CMakeLists.txt.
#include "backward.h"

extern "C" void meshd_overlay_backward_avx512(backward_kernels *table) {
    table->sums_planes = meshd_sums_planes_avx512;
}
