// What every processor that meshd builds for can do: the clock, and plain loops of 16 bytes.
#include "plain.h"
#include "sets.h"

namespace {

// One addition after the other, 32 a turn: the branch at the end of a turn costs nothing beside them.
void dependent_additions(uint64_t rounds) {
    uint64_t x = 0;
    for (uint64_t i = 0; i < rounds; ++i) {
#if defined(__x86_64__)
        asm volatile(".rept 32\n\tadd $1, %0\n\t.endr" : "+r"(x) : : "cc");
#elif defined(__aarch64__)
        asm volatile(".rept 32\n\tadd %0, %0, #1\n\t.endr" : "+r"(x));
#else
#pragma GCC unroll 32
        for (int u = 0; u < 32; ++u) {
            x += 1;
            asm volatile("" : "+r"(x));
        }
#endif
    }
}

typedef float floats __attribute__((vector_size(16)));

} // namespace

extern "C" const meshd_ceiling meshd_ceilings_baseline[] = {
    {"clock", "baseline", 32, dependent_additions},
    {nullptr, nullptr, 0, nullptr},
};
extern "C" const meshd_plain meshd_plain_baseline = {"baseline", multiply<floats>, read<floats>,
                                                     rescale<floats>, update<floats>};
