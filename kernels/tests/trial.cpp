#include "trial.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

namespace selftest {

char running[256] = "before the first check";

namespace {

// splitmix64 (Steele, Lea, Flood 2014): a counter and a mixer, the same on every machine.
uint64_t mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

uint64_t bits_of(float x) {
    if (x != x) return 0x7fc00000; // one NaN is as good as another
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

} // namespace

void trial::begin(const char *shape, ...) {
    const int length = snprintf(running, sizeof running, "%s %s: ", tested.isa, slot_);
    va_list arguments;
    va_start(arguments, shape);
    vsnprintf(running + length, sizeof running - (size_t)length, shape, arguments);
    va_end(arguments);
    // The seed comes from the slot and the shape, not from the set: all sets see the same inputs.
    state_ = run_seed_;
    for (const char *c = running + strlen(tested.isa); *c; ++c)
        state_ = mix(state_ + (uint64_t)(unsigned char)*c);
    extremes_ = below(8) == 0;
    const size_t end = strlen(running);
    snprintf(running + end, sizeof running - end, " arrays=%s seed=%" PRIu64, name_of(where_),
             run_seed_);
}

uint64_t trial::chance() { return mix(state_ += 0x9e3779b97f4a7c15u); }

array<float> trial::floats(size_t n) {
    static const float special[] = {0.0f,  -0.0f, 1e-42f,           -1e-42f,           3e4f,
                                    -3e-4f, 1e20f, __builtin_inff(), -__builtin_inff(), __builtin_nanf("")};
    const size_t specials = sizeof special / sizeof special[0] - (extremes_ ? 0 : 3);
    array<float> x(n, where_);
    for (size_t i = 0; i < n; ++i) {
        const uint64_t random = chance();
        const int32_t sum = (int32_t)(random & 0xffff) + (int32_t)(random >> 16 & 0xffff) +
                            (int32_t)(random >> 32 & 0xffff);
        x[i] = random >> 60 ? (float)(sum - 98303) * 0x1p-15f : special[below(specials)];
    }
    return x;
}

array<float> trial::magnitudes(size_t n) {
    array<float> x = floats(n);
    for (size_t i = 0; i < n; ++i) x[i] = __builtin_fabsf(x[i]);
    return x;
}

array<float> trial::scales(size_t n) {
    array<float> x = magnitudes(n);
    for (size_t i = 0; i < n; ++i)
        if (x[i] < 1e-18f) x[i] = 0.0f;
    return x;
}

array<uint64_t> trial::packed(size_t rows, size_t n) {
    const size_t words = words_of(n);
    array<uint64_t> x(rows * words, where_);
    for (size_t i = 0; i < x.size(); ++i) {
        const uint64_t density = below(4); // sparse, dense, and two of even odds
        x[i] = density == 0 ? chance() & chance() : density == 1 ? chance() | chance() : chance();
        if (n % 64 && i % words == words - 1) x[i] &= ~(uint64_t)0 >> (64 - n % 64);
    }
    return x;
}

bool trial::spoils() const { return spoiled_slot_ && strcmp(spoiled_slot_, slot_) == 0; }

void trial::compare(const char *what, size_t i, uint64_t got, uint64_t wanted) {
    if (i == 0 && spoils()) got ^= 1;
    digest_ = mix(digest_ ^ got) + got;
    if (got == wanted) return;
    printf("%s: %s[%zu] is %#" PRIx64 ", the scalar kernel gives %#" PRIx64 "\n", running, what, i,
           got, wanted);
    exit(1);
}

void trial::same(const char *what, const array<float> &got, const array<float> &wanted) {
    ++checks_;
    for (size_t i = 0; i < wanted.size(); ++i) compare(what, i, bits_of(got[i]), bits_of(wanted[i]));
}

void trial::same(const char *what, const array<uint64_t> &got, const array<uint64_t> &wanted) {
    ++checks_;
    for (size_t i = 0; i < wanted.size(); ++i) compare(what, i, got[i], wanted[i]);
}

void trial::same(const char *what, int got, int wanted) {
    ++checks_;
    compare(what, 0, (uint64_t)got, (uint64_t)wanted);
}

} // namespace selftest
