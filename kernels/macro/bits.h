/* Elements of a packed row, a few at a time. */
#ifndef MESHD_MACRO_BITS_H
#define MESHD_MACRO_BITS_H

#include <stddef.h>
#include <stdint.h>

// `length` <= 64 elements of a packed row, from element `begin` on.
inline uint64_t bits_at(const uint64_t *words, size_t begin, size_t length) {
    const size_t i = begin / 64, shift = begin % 64;
    uint64_t bits = words[i] >> shift;
    if (shift + length > 64) bits |= words[i + 1] << (64 - shift);
    return bits & ~(uint64_t)0 >> (64 - length);
}

inline int32_t ones(uint64_t x) { // Hacker's Delight, section 5-1
    x -= x >> 1 & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + (x >> 2 & 0x3333333333333333u);
    return (int32_t)(((x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu) * 0x0101010101010101u >> 56);
}

// How many of the `length` elements from `begin` on are 1.
inline int32_t ones_in(const uint64_t *words, size_t begin, size_t length) {
    int32_t sum = 0;
    for (size_t done = 0; done < length; done += 64)
        sum += ones(bits_at(words, begin + done, length - done < 64 ? length - done : 64));
    return sum;
}

#endif
