/* What this processor can do at best, and a plain float product: for `meshd bench` alone.
 *
 * A ceiling is a loop whose operands stay in registers: the instructions that one way of multiplying
 * cannot do without, in as many independent chains as hide their latency. No kernel that multiplies
 * this way is faster, so a kernel's speed over its ceiling is its share of the possible.
 * Nothing here is part of the product: another extension module, never loaded by daemon or worker. */
#ifndef MESHD_CEILINGS_H
#define MESHD_CEILINGS_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One loop in registers. run(rounds) does work * rounds multiply-accumulates (MAC), or dependent
 * additions for the clock: one a cycle on every processor, so their rate is the clock's. */
struct meshd_ceiling {
    const char *name;
    const char *isa; /* what it needs: "baseline", "avx2", "avx512f", "avx512_bf16", ... */
    uint64_t work;
    void (*run)(uint64_t rounds);
};

/* Plain loops of one vector width. Any n; arrays are aligned to float and do not overlap. */
struct meshd_plain {
    const char *isa; /* "baseline", "avx2" or "avx512" */
    /* c (m, n) = a (m, k) b (k, n), dense, row after row: CMMA, see plain.h. */
    void (*multiply)(const float *a, const float *b, float *c, size_t m, size_t k, size_t n);
    /* Reads x (n) and returns a value that depends on all of it: 4 n bytes moved. */
    float (*read)(const float *x, size_t n);
    /* y[i] *= factor, n elements: 8 n bytes moved. */
    void (*rescale)(float *y, float factor, size_t n);
    /* y[i] += x[i] * factor, n elements: 12 n bytes moved. */
    void (*update)(const float *x, float *y, float factor, size_t n);
};

/* The i-th of those that run here; NULL after the last. The first plain set is the widest. */
const struct meshd_ceiling *meshd_ceiling_at(size_t i);
const struct meshd_plain *meshd_plain_at(size_t i);

#ifdef __cplusplus
}
#endif
#endif
