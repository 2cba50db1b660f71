/* What the processor *and* the operating system allow. */
#ifndef MESHD_CPU_FEATURES_H
#define MESHD_CPU_FEATURES_H

/* The kernels of avx2/ use AVX2 and POPCNT, and nothing else beyond x86-64's baseline. */
bool meshd_cpu_runs_avx2();

#endif
