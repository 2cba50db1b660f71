/* What the processor *and* the operating system allow. */
#ifndef MESHD_CPU_FEATURES_H
#define MESHD_CPU_FEATURES_H

/* The kernels of a folder use what its function names, and nothing else beyond the baseline. */
bool meshd_cpu_runs_neon();     // 64-bit Arm, all of it
bool meshd_cpu_runs_avx2();     // Haswell and later: avx2, fma, popcnt
bool meshd_cpu_runs_avx512bw(); // Skylake-X and later: avx512 f, bw, dq, vl
bool meshd_cpu_runs_avx512();   // Ice Lake, Zen 4 and later: the same, vbmi, vpopcntdq, bitalg

#endif
