/* The sets that the table chooses from, one file each. A list of ceilings ends with a null name. */
#ifndef MESHD_BENCH_SETS_H
#define MESHD_BENCH_SETS_H

#include "meshd_ceilings.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct meshd_ceiling meshd_ceilings_baseline[], meshd_ceilings_avx2[],
    meshd_ceilings_avx512[];
extern const struct meshd_plain meshd_plain_baseline, meshd_plain_avx2, meshd_plain_avx512;

#ifdef __cplusplus
}
#endif
#endif
