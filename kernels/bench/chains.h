/* Twelve independent chains of one step, in registers: more than the latency of any step times how
 * many start in a cycle. Law: included by the file of each set, all in an anonymous namespace.
 * Named locals, not an array: g++ 12 keeps an array in memory, and the loop then measures the stack. */
#ifndef MESHD_BENCH_CHAINS_H
#define MESHD_BENCH_CHAINS_H

#include <stdint.h>

#define MESHD_INTO_CALLER inline __attribute__((always_inline))

namespace {

constexpr uint64_t chains = 12;

/* `rounds` times step(sum, state) on every chain; a step without a state leaves it alone. */
template <class V, class Step>
MESHD_INTO_CALLER void repeat(uint64_t rounds, V start, Step step) {
    V s0 = start, s1 = start, s2 = start, s3 = start, s4 = start, s5 = start;
    V s6 = start, s7 = start, s8 = start, s9 = start, s10 = start, s11 = start;
    V t0 = start, t1 = start, t2 = start, t3 = start, t4 = start, t5 = start;
    V t6 = start, t7 = start, t8 = start, t9 = start, t10 = start, t11 = start;
    for (uint64_t i = 0; i < rounds; ++i) {
        step(s0, t0), step(s1, t1), step(s2, t2), step(s3, t3), step(s4, t4), step(s5, t5);
        step(s6, t6), step(s7, t7), step(s8, t8), step(s9, t9), step(s10, t10), step(s11, t11);
    }
}

} // namespace

#endif
