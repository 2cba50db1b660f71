/* What the scalar kernels share about packed bits. */
#ifndef MESHD_SCALAR_BITS_H
#define MESHD_SCALAR_BITS_H

#include <stddef.h>
#include <stdint.h>

namespace {

inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

inline bool bit_at(const uint64_t *words, size_t i) { return words[i / 64] >> (i % 64) & 1; }

} // namespace

#endif
