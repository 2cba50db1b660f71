// The one place that asks the processor. The compiler's own cpuid model (gcc and clang share the
// interface) also reads XCR0, so a system that does not save the wide registers says no.
#include "cpu_features.h"

// Part of the architecture; the packed words are read as bytes, so in little-endian order only.
bool meshd_cpu_runs_neon() {
#if defined(__AARCH64EL__)
    return true;
#else
    return false;
#endif
}

bool meshd_cpu_runs_avx2() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("popcnt");
#else
    return false;
#endif
}

// Skylake-X and later.
bool meshd_cpu_runs_avx512bw() {
#if defined(__x86_64__)
    return meshd_cpu_runs_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#else
    return false;
#endif
}

// Ice Lake, Zen 4 and later: these have all that came between, byte shuffles and population counts.
bool meshd_cpu_runs_avx512() {
#if defined(__x86_64__)
    return meshd_cpu_runs_avx512bw() && __builtin_cpu_supports("avx512vbmi") &&
           __builtin_cpu_supports("avx512vpopcntdq") && __builtin_cpu_supports("avx512bitalg");
#else
    return false;
#endif
}
