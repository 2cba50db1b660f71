// Which ceilings and plain loops run here. Law: baseline code; the sets' own code is only called
// where it runs.
#include <string.h>

#include "../cpu_features.h"
#include "sets.h"

namespace {

bool runs_here(const char *isa) {
    if (strcmp(isa, "baseline") == 0) return true;
#if MESHD_BENCH_X86
    if (strcmp(isa, "avx2") == 0) return meshd_cpu_runs_avx2();
    if (!meshd_cpu_runs_avx512bw()) return false;
    if (strcmp(isa, "avx512") == 0) return true;
    if (strcmp(isa, "avx512_bf16") == 0) return __builtin_cpu_supports("avx512bf16");
    if (strcmp(isa, "avx512_vnni") == 0) return __builtin_cpu_supports("avx512vnni");
    if (strcmp(isa, "avx512_vpopcntdq") == 0) return __builtin_cpu_supports("avx512vpopcntdq");
#endif
    return false;
}

const meshd_ceiling *const ceiling_lists[] = {
    meshd_ceilings_baseline,
#if MESHD_BENCH_X86
    meshd_ceilings_avx2,
    meshd_ceilings_avx512,
#endif
};

const meshd_plain *const plain_sets[] = {
#if MESHD_BENCH_X86
    &meshd_plain_avx512,
    &meshd_plain_avx2,
#endif
    &meshd_plain_baseline,
};

} // namespace

extern "C" const meshd_ceiling *meshd_ceiling_at(size_t i) {
    for (const meshd_ceiling *list : ceiling_lists)
        for (const meshd_ceiling *c = list; c->name; ++c)
            if (runs_here(c->isa) && i-- == 0) return c;
    return nullptr;
}

extern "C" const meshd_plain *meshd_plain_at(size_t i) {
    for (const meshd_plain *set : plain_sets)
        if (runs_here(set->isa) && i-- == 0) return set;
    return nullptr;
}
