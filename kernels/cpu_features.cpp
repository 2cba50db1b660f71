// The one place that asks the processor. The compiler's own cpuid model (gcc and clang share the
// interface) also reads XCR0, so a system that does not save the wide registers says no.
#include "cpu_features.h"

bool meshd_cpu_runs_avx2() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("popcnt");
#else
    return false;
#endif
}
