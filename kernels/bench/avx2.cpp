// Ceilings and plain loops of 32 bytes: Haswell and later. Built with the flags of that set.
#include <immintrin.h>

#include "chains.h"
#include "plain.h"
#include "sets.h"

namespace {

typedef float floats __attribute__((vector_size(32)));

void multiply_add(uint64_t rounds) {
    const __m256 one = _mm256_set1_ps(1.0f);
    repeat(rounds, _mm256_setzero_ps(), [one](__m256 &sum, __m256 &) {
        asm volatile("vfmadd231ps %1, %1, %0" : "+x"(sum) : "x"(one));
    });
}

// Four bits of a row of A make a table of 16 counts, popcount(a ^ w) for each w; 32 columns' nibbles
// look theirs up at once. 4 bits * 32 columns = 128 MAC. The index takes no instruction: it is loaded.
void nibble_table(uint64_t rounds) {
    const __m256i table = _mm256_set1_epi8(1), index = _mm256_set1_epi8(5);
    repeat(rounds, _mm256_setzero_si256(), [table, index](__m256i &sum, __m256i &) {
        __m256i counts;
        asm volatile("vpshufb %3, %2, %1\n\tvpaddb %1, %0, %0"
                     : "+x"(sum), "=&x"(counts)
                     : "x"(table), "x"(index));
    });
}

} // namespace

extern "C" const meshd_ceiling meshd_ceilings_avx2[] = {
    {"float32_fma_ymm", "avx2", 8 * chains, multiply_add},
    {"nibble_table_ymm", "avx2", 128 * chains, nibble_table},
    {nullptr, nullptr, 0, nullptr},
};
extern "C" const meshd_plain meshd_plain_avx2 = {"avx2", multiply<floats>, read<floats>,
                                                 rescale<floats>, update<floats>};
