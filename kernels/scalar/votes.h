/* Whether votes are possible at all: the check that every instruction set makes before it writes.
 *
 * V > N is decided for 64 elements a word, from the highest plane down. `same` marks the elements
 * whose bits so far are N's own; where N's next bit is 0 and theirs is 1, V is larger. It reads
 * count / 8 bytes an element, of the 24 and more that an update moves. The loops over a block of
 * words are plain enough for a compiler to use the registers of whoever includes this.
 *
 * Included by objects with different flags, hence in an anonymous namespace. */
#ifndef MESHD_SCALAR_VOTES_H
#define MESHD_SCALAR_VOTES_H

#include "meshd_stream.h"

namespace {

// Not 0 if an element of words first .. first+words-1, at most 64 words, has more votes than there
// are members. Only those in `real` of each word are looked at.
inline uint64_t larger_counts(const ring_votes *votes, size_t first, size_t words, uint64_t real) {
    uint64_t same[64], larger = 0;
    for (size_t j = 0; j < words; ++j) same[j] = real;
    for (size_t p = votes->count; p-- > 0;) {
        const uint64_t *plane = votes->planes + p * votes->stride + first;
        if (votes->members >> p & 1) {
            for (size_t j = 0; j < words; ++j) same[j] &= plane[j];
        } else {
            for (size_t j = 0; j < words; ++j) larger |= same[j] & plane[j];
            for (size_t j = 0; j < words; ++j) same[j] &= ~plane[j];
        }
    }
    return larger;
}

// Whether V > members for one of the first n elements; what lies behind them is nobody's vote.
inline bool some_count_is_larger(const ring_votes *votes, size_t n) {
    if (votes->members + 1 == (size_t)1 << votes->count) return false; // no counter can say so
    const uint64_t all = ~(uint64_t)0;
    uint64_t larger = 0;
    size_t i = 0;
    for (; i + 64 <= n / 64; i += 64) larger |= larger_counts(votes, i, 64, all);
    larger |= larger_counts(votes, i, n / 64 - i, all);
    if (n % 64) larger |= larger_counts(votes, n / 64, 1, ~(all << n % 64));
    return larger != 0;
}

} // namespace

#endif
