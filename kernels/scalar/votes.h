/* Whether votes are possible at all: the check that every instruction set makes before it writes.
 *
 * V > N is decided for 64 elements at once, from the highest plane down. `same` marks the elements
 * whose bits so far are N's own; where N's next bit is 0 and theirs is 1, V is larger. It reads
 * count / 8 bytes an element, of the 24 and more that an update moves.
 *
 * Included by objects with different flags, hence in an anonymous namespace. */
#ifndef MESHD_SCALAR_VOTES_H
#define MESHD_SCALAR_VOTES_H

#include "meshd_stream.h"

namespace {

// The elements of word i that are larger than the number of members.
inline uint64_t larger_counts(const ring_votes *votes, size_t i) {
    uint64_t larger = 0, same = ~(uint64_t)0;
    for (size_t p = votes->count; p-- > 0;) {
        const uint64_t plane = votes->planes[p * votes->stride + i];
        if (votes->members >> p & 1) {
            same &= plane;
        } else {
            larger |= same & plane;
            same &= ~plane;
        }
    }
    return larger;
}

// Whether V > members for one of the first n elements; what lies behind them is nobody's vote.
inline bool some_count_is_larger(const ring_votes *votes, size_t n) {
    uint64_t larger = 0;
    for (size_t i = 0; i < n / 64; ++i) larger |= larger_counts(votes, i);
    if (n % 64) larger |= larger_counts(votes, n / 64) & ~(~(uint64_t)0 << n % 64);
    return larger != 0;
}

} // namespace

#endif
