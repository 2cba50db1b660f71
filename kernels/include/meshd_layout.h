/* What all kernels share: the layout of packed bits, and the rules of every function.
 *
 * Layout (the same words as meshd/bits/layout.py):
 *   - a word is a uint64_t; element i of a row is bit i % 64 of word i / 64;
 *   - a row of k elements takes ceil(k / 64) words; the padding bits of its last word are zero:
 *     every kernel that writes words makes them so, every kernel that reads words may rely on it;
 *   - a row is cut into segments of `beta` elements (the last may be shorter), one float scale each:
 *     ceil(k / beta) scales. Segments need not start on a word.
 *
 * Rules that hold for every kernel:
 *   - arrays are dense, row after row, aligned to their element type, and must not overlap, but for
 *     the ones marked "in/out", which are read and written in place;
 *   - nothing is read or written outside the arrays: over-read = 0 bytes;
 *   - 1 <= beta <= max(k, 1), the same for gamma and n, are the caller's to ensure;
 *   - the result has the same bits on every instruction set (the payload of a NaN excepted):
 *     float operations are IEEE binary32, rounded one by one, in the order written here, without
 *     fused multiply-add. The mean of |x| over a segment of n elements is
 *         lane[j] = ((|x[j]| + |x[j+16]|) + |x[j+32]|) + ...     j = 0..15, indices within the segment
 *         lane[j] += lane[j+8], j < 8;  then += lane[j+4], j < 4;  += lane[j+2], j < 2;  += lane[1]
 *         mean = lane[0] / (float)n
 *     Sixteen lanes are two AVX registers or one AVX-512 register, and a wrong order costs nothing.
 */
#ifndef MESHD_LAYOUT_H
#define MESHD_LAYOUT_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A packed matrix of `rows` rows; its row length k is the function's own argument. */
struct packed_matrix {
    const uint64_t *words; /* (rows, ceil(k / 64)) */
    const float *scales;   /* (rows, ceil(k / beta)) */
    size_t rows;
    size_t beta;
};

enum meshd_status {
    MESHD_OK = 0,
    MESHD_OVERFLOW = 1,  /* a count does not fit where it must go */
    MESHD_NO_MEMORY = 2, /* no scratch memory; outputs unspecified */
    MESHD_UNKNOWN_ISA = 3,
    MESHD_UNSUPPORTED_ISA = 4
};

#ifdef __cplusplus
}
#endif
#endif
