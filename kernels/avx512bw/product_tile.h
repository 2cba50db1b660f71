/* What generic/nibble_tile.h needs, in AVX-512BW: 64 columns of bytes, 16 of floats in a register. */
#ifndef MESHD_AVX512BW_PRODUCT_TILE_H
#define MESHD_AVX512BW_PRODUCT_TILE_H

#include <immintrin.h>
#include <stddef.h>
#include <stdint.h>

namespace {

constexpr int tile_rows = 4, tile_registers = 2; // of bytes
constexpr int byte_lanes = 64, lanes = 16;

using bytes = __m512i;
using integers = __m512i;
using floats = __m512;

inline bytes load(const void *p) { return _mm512_load_si512(p); }
inline void store(void *p, bytes x) { _mm512_store_si512(p, x); }
inline bytes zero() { return _mm512_setzero_si512(); }

/* sum += the table's bytes at the nibbles of the columns. Assembler, for its order: a compiler that
 * may reassociate sums of integers gathers the look-ups first and spills. */
inline void count(bytes *sum, const bytes *column, const uint8_t *table) {
    bytes x, y;
    asm volatile("vbroadcasti32x4 %[table], %[y]\n\t"
                 "vpshufb %[column0], %[y], %[x]\n\t"
                 "vpshufb %[column1], %[y], %[y]\n\t"
                 "vpaddb %[x], %[sum0], %[sum0]\n\t"
                 "vpaddb %[y], %[sum1], %[sum1]"
                 : [sum0] "+v"(sum[0]), [sum1] "+v"(sum[1]), [x] "=&v"(x), [y] "=&v"(y)
                 : [column0] "v"(column[0]), [column1] "v"(column[1]),
                   [table] "m"(*(const __m128i *)table));
}

/* Tables a and b, of two pairs of rows, looked up by the columns' nibbles; and added to `sum`. */
inline void look_up(bytes (*sum)[2], const uint8_t *w, const uint8_t *a, const uint8_t *b) {
    bytes t, u, c;
    asm volatile("vbroadcasti32x4 %[a], %[t]\n\t"
                 "vbroadcasti32x4 %[b], %[u]\n\t"
                 "vmovdqa64 %[w0], %[c]\n\t"
                 "vpshufb %[c], %[t], %[s00]\n\t"
                 "vpshufb %[c], %[u], %[s10]\n\t"
                 "vmovdqa64 %[w1], %[c]\n\t"
                 "vpshufb %[c], %[t], %[s01]\n\t"
                 "vpshufb %[c], %[u], %[s11]"
                 : [s00] "=&v"(sum[0][0]), [s01] "=&v"(sum[0][1]),
                   [s10] "=&v"(sum[1][0]), [s11] "=&v"(sum[1][1]), [t] "=&v"(t),
                   [u] "=&v"(u), [c] "=&v"(c)
                 : [a] "m"(*(const __m128i *)a), [b] "m"(*(const __m128i *)b),
                   [w0] "m"(*(const bytes *)w), [w1] "m"(*(const bytes *)(w + byte_lanes)));
}
inline void look_up_and_add(bytes (*sum)[2], const uint8_t *w, const uint8_t *a,
                            const uint8_t *b) {
    bytes t, u, c, x;
    asm volatile("vbroadcasti32x4 %[a], %[t]\n\t"
                 "vbroadcasti32x4 %[b], %[u]\n\t"
                 "vmovdqa64 %[w0], %[c]\n\t"
                 "vpshufb %[c], %[t], %[x]\n\t"
                 "vpshufb %[c], %[u], %[c]\n\t"
                 "vpaddb %[x], %[s00], %[s00]\n\t"
                 "vpaddb %[c], %[s10], %[s10]\n\t"
                 "vmovdqa64 %[w1], %[c]\n\t"
                 "vpshufb %[c], %[t], %[t]\n\t"
                 "vpshufb %[c], %[u], %[u]\n\t"
                 "vpaddb %[t], %[s01], %[s01]\n\t"
                 "vpaddb %[u], %[s11], %[s11]"
                 : [s00] "+v"(sum[0][0]), [s01] "+v"(sum[0][1]),
                   [s10] "+v"(sum[1][0]), [s11] "+v"(sum[1][1]), [t] "=&v"(t),
                   [u] "=&v"(u), [c] "=&v"(c), [x] "=&v"(x)
                 : [a] "m"(*(const __m128i *)a), [b] "m"(*(const __m128i *)b),
                   [w0] "m"(*(const bytes *)w), [w1] "m"(*(const bytes *)(w + byte_lanes)));
}

/* total += sum, high += its high halves. (Assembler again, for the order.) */
inline void add_halves(bytes sum, bytes *total, bytes *high) {
    asm volatile("vpaddb %[sum], %[total], %[total]\n\t"
                 "vpsrlw $4, %[sum], %[sum]\n\t"
                 "vpandq %[mask], %[sum], %[sum]\n\t"
                 "vpaddb %[sum], %[high], %[high]"
                 : [sum] "+v"(sum), [total] "+v"(*total), [high] "+v"(*high)
                 : [mask] "v"(_mm512_set1_epi8(15)));
}
// total - 16 high
inline bytes without_high(bytes total, bytes high) {
    const bytes mask = _mm512_set1_epi8((char)0xf0);
    return _mm512_sub_epi8(total, _mm512_and_si512(_mm512_slli_epi16(high, 4), mask));
}

inline bytes add_words(bytes a, bytes b) { return _mm512_add_epi16(a, b); }
inline bytes subtract_words(bytes a, bytes b) { return _mm512_sub_epi16(a, b); }
inline bytes high_bytes(bytes x) { return _mm512_srli_epi16(x, 8); }
inline bytes to_high_bytes(bytes x) { return _mm512_slli_epi16(x, 8); }
// Words of even columns and of odd ones to words in order.
inline void store_in_order(uint16_t *p, bytes even, bytes odd) {
    const __m512i low = _mm512_unpacklo_epi16(even, odd), high = _mm512_unpackhi_epi16(even, odd);
    const __m512i first = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
    const __m512i second = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
    store(p, _mm512_permutex2var_epi64(low, first, high));
    store(p + 32, _mm512_permutex2var_epi64(low, second, high));
}

inline integers widen_bytes(const int8_t *p) {
    return _mm512_cvtepi8_epi32(_mm_load_si128((const __m128i *)p));
}
inline integers widen_words(const uint16_t *p) {
    return _mm512_cvtepu16_epi32(_mm256_load_si256((const __m256i *)p));
}
inline integers load_integers(const int32_t *p) { return load(p); }
inline integers broadcast_integer(int32_t x) { return _mm512_set1_epi32(x); }
inline integers add(integers a, integers b) { return _mm512_add_epi32(a, b); }
inline integers subtract(integers a, integers b) { return _mm512_sub_epi32(a, b); }

inline floats load_floats(const void *p) { return _mm512_load_ps((const float *)p); }
inline floats load_out(const float *p) { return _mm512_loadu_ps(p); }
inline void store_floats(float *p, floats x) { _mm512_store_ps(p, x); }
inline void store_out(float *p, floats x) { _mm512_storeu_ps(p, x); }
inline void stream_out(float *p, floats x) { _mm512_stream_ps(p, x); } // past the caches
inline floats broadcast_float(const uint32_t *p) {
    return _mm512_castsi512_ps(_mm512_set1_epi32((int)*p));
}
inline floats as_floats(integers x) { return _mm512_cvtepi32_ps(x); }
inline floats multiply(floats a, floats b) { return _mm512_mul_ps(a, b); }
inline floats multiply_add(floats a, floats b, floats c) { return _mm512_fmadd_ps(a, b, c); }

} // namespace

#endif
