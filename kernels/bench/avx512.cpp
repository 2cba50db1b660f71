// Ceilings and plain loops of 64 bytes. Built for Skylake-X; what later processors added stands in
// inline assembly, which needs no flag, and is listed with its own name for the choice at run time.
#include <immintrin.h>

#include "chains.h"
#include "plain.h"
#include "sets.h"

namespace {

typedef float floats __attribute__((vector_size(64)));

void multiply_add(uint64_t rounds) {
    const __m512 one = _mm512_set1_ps(1.0f);
    repeat(rounds, _mm512_setzero_ps(), [one](__m512 &sum, __m512 &) {
        asm volatile("vfmadd231ps %1, %1, %0" : "+v"(sum) : "v"(one));
    });
}

// As in avx2.cpp, with 64 columns: for processors that cannot count bits in vectors.
void nibble_table(uint64_t rounds) {
    const __m512i table = _mm512_set1_epi8(1), index = _mm512_set1_epi8(5);
    repeat(rounds, _mm512_setzero_si512(), [table, index](__m512i &sum, __m512i &) {
        __m512i counts;
        asm volatile("vpshufb %3, %2, %1\n\tvpaddb %1, %0, %0"
                     : "+v"(sum), "=&v"(counts)
                     : "v"(table), "v"(index));
    });
}

// Two bfloat16 products a lane; all bits zero are zeros of that type too.
void dot_bfloat16(uint64_t rounds) {
    const __m512 zero = _mm512_setzero_ps();
    repeat(rounds, zero, [zero](__m512 &sum, __m512 &) {
        asm volatile("vdpbf16ps %1, %1, %0" : "+v"(sum) : "v"(zero));
    });
}

// Four products of uint8 with int8 a lane.
void dot_int8(uint64_t rounds) {
    const __m512i one = _mm512_set1_epi8(1);
    repeat(rounds, _mm512_setzero_si512(), [one](__m512i &sum, __m512i &) {
        asm volatile("vpdpbusd %1, %1, %0" : "+v"(sum) : "v"(one));
    });
}

// 512 products of signs: differing bits, counted, added.
void xor_popcount(uint64_t rounds) {
    const __m512i a = _mm512_set1_epi32(0x1234567), w = _mm512_set1_epi32(0x89abcdef);
    repeat(rounds, _mm512_setzero_si512(), [a, w](__m512i &sum, __m512i &) {
        __m512i t;
        asm volatile("vpxord %2, %3, %1\n\tvpopcntq %1, %1\n\tvpaddq %1, %0, %0"
                     : "+v"(sum), "=&v"(t)
                     : "v"(a), "v"(w));
    });
}

// 1024 products of signs in five operations. Of d0 = a0 ^ w0, d1 = a1 ^ w1 and the carried `ones`,
//     ones' = ones ^ d0 ^ d1 = ones ^ (a0 ^ a1) ^ (w0 ^ w1),    carry = majority(ones, d0, d1):
// with w0 ^ w1 stored in the place of w1, and a0 ^ a1 once for a row, ones' is one operation of three
// operands; d1 = d0 ^ ones ^ ones' makes carry another one; xor for d0, count and add are the rest.
void carry_save(uint64_t rounds) {
    const __m512i a = _mm512_set1_epi32(0x1234567), w = _mm512_set1_epi32(0x89abcdef);
    repeat(rounds, _mm512_setzero_si512(), [a, w](__m512i &sum, __m512i &ones) {
        __m512i carry;
        asm volatile("vpxord %3, %4, %2\n\t"
                     "vpternlogd $0x96, %3, %4, %1\n\t"
                     "vpternlogd $0xe8, %1, %4, %2\n\t"
                     "vpopcntq %2, %2\n\t"
                     "vpaddq %2, %0, %0"
                     : "+v"(sum), "+v"(ones), "=&v"(carry)
                     : "v"(a), "v"(w));
    });
}

// Five values of A have 32 signed sums: two registers, looked up by five bits of each of 16 columns.
// 5 * 16 = 80 MAC. The table is the operand that the instruction overwrites, so it is copied: renaming.
void float_table(uint64_t rounds) {
    const __m512 low = _mm512_set1_ps(1.0f), high = _mm512_set1_ps(-1.0f);
    const __m512i index = _mm512_set1_epi32(21);
    repeat(rounds, _mm512_setzero_ps(), [low, high, index](__m512 &sum, __m512 &) {
        __m512 t;
        asm volatile("vmovaps %2, %1\n\tvpermt2ps %3, %4, %1\n\tvaddps %1, %0, %0"
                     : "+v"(sum), "=&v"(t)
                     : "v"(low), "v"(high), "v"(index));
    });
}

// Six values of int16 and 64 sums, looked up by six bits of each of 32 columns: 6 * 32 = 192 MAC.
void int16_table(uint64_t rounds) {
    const __m512i low = _mm512_set1_epi16(1), high = _mm512_set1_epi16(-1);
    const __m512i index = _mm512_set1_epi16(37);
    repeat(rounds, _mm512_setzero_si512(), [low, high, index](__m512i &sum, __m512i &) {
        __m512i t;
        asm volatile("vmovdqa64 %2, %1\n\tvpermt2w %3, %4, %1\n\tvpaddw %1, %0, %0"
                     : "+v"(sum), "=&v"(t)
                     : "v"(low), "v"(high), "v"(index));
    });
}

} // namespace

extern "C" const meshd_ceiling meshd_ceilings_avx512[] = {
    {"float32_fma_zmm", "avx512", 16 * chains, multiply_add},
    {"nibble_table_zmm", "avx512", 256 * chains, nibble_table},
    {"bfloat16_dot_zmm", "avx512_bf16", 32 * chains, dot_bfloat16},
    {"int8_dot_zmm", "avx512_vnni", 64 * chains, dot_int8},
    {"xor_popcount_zmm", "avx512_vpopcntdq", 512 * chains, xor_popcount},
    {"carry_save_zmm", "avx512_vpopcntdq", 1024 * chains, carry_save},
    {"float32_table_zmm", "avx512", 80 * chains, float_table},
    {"int16_table_zmm", "avx512", 192 * chains, int16_table},
    {nullptr, nullptr, 0, nullptr},
};
extern "C" const meshd_plain meshd_plain_avx512 = {"avx512", multiply<floats>, read<floats>,
                                                   rescale<floats>, update<floats>};
