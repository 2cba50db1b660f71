/* What a check has in its hands: the two tables, arrays, chance, and the comparison.
 *
 * A check calls one slot of the tested set and of the scalar set on equal inputs, for many shapes,
 * and compares what they wrote. Each shape is a trial with a seed of its own, made from the run's
 * seed and the trial's text: what a failing line names is enough to repeat it. */
#ifndef MESHD_TESTS_TRIAL_H
#define MESHD_TESTS_TRIAL_H

#include <stddef.h>
#include <stdint.h>

#include "memory.h"
#include "meshd_kernels.h"

namespace selftest {

// Sizes at which words, registers and segments begin and end; and lengths of segments.
constexpr size_t sizes[] = {0,  1,  3,   7,   8,   9,   15,  16,  17,  31,  32,
                            33, 63, 64,  65,  127, 128, 129, 200, 500, 512, 1100};
constexpr size_t segment_lengths[] = {1, 2, 3, 7, 8, 16, 32, 64, 100, 128, 192, 256, 512, 1100};

inline size_t words_of(size_t n) { return (n + 63) / 64; }
inline size_t segments_of(size_t n, size_t beta) { return (n + beta - 1) / beta; }
inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

// The lengths of segments that a row of k elements may have: 1 <= beta <= max(k, 1).
template <class Body> void each_beta(size_t k, Body body) {
    const size_t whole = k ? k : 1;
    bool had_whole = false;
    for (size_t beta : segment_lengths)
        if (beta <= whole) {
            body(beta);
            had_whole = beta == whole;
        }
    if (!had_whole) body(whole);
}

class trial {
  public:
    const kernel_table &tested, &scalar;

    trial(const kernel_table &tested_table, const kernel_table &scalar_table, uint64_t run_seed,
          placement arrays_at, const char *spoiled_slot)
        : tested(tested_table), scalar(scalar_table), run_seed_(run_seed), where_(arrays_at),
          spoiled_slot_(spoiled_slot) {}

    void enter(const char *slot) { slot_ = slot; } // "stream.pack_signed"

    // A new trial: its shape in printf's form, of integers.
    void begin(const char *shape, ...) __attribute__((format(printf, 2, 3)));

    uint64_t chance(); // 64 random bits
    size_t below(size_t n) { return (size_t)(chance() % n); }

    // About Gaussian, with zeros of both signs, subnormal and huge numbers among them; in one trial
    // of eight also infinities and NaN.
    array<float> floats(size_t n);
    array<float> magnitudes(size_t n);              // of such floats
    // Magnitudes for which the contract of products promises equal bits: where a term underflows, to
    // -0 perhaps, the zeros of later terms may turn its sign in one set and not in another.
    array<float> scales(size_t n);
    array<uint64_t> packed(size_t rows, size_t n); // rows of n random bits, padding zero
    template <class T> array<T> room(size_t n) { return array<T>(n, where_); }
    template <class T> array<T> output(size_t n) {
        array<T> out(n, where_); // filled, so that what a kernel leaves out is seen
        for (size_t i = 0; i < n; ++i) out[i] = (T)3;
        return out;
    }

    // Counts, and ends the process with a line and status 1 when they differ. NaN equals NaN.
    void same(const char *what, const array<float> &got, const array<float> &wanted);
    void same(const char *what, const array<uint64_t> &got, const array<uint64_t> &wanted);
    void same(const char *what, int got, int wanted);

    uint64_t checks() const { return checks_; }
    uint64_t digest() const { return digest_; } // of all that was compared

  private:
    bool spoils() const;
    void compare(const char *what, size_t i, uint64_t got, uint64_t wanted);

    uint64_t run_seed_, state_ = 0, checks_ = 0, digest_ = 0;
    placement where_;
    const char *spoiled_slot_, *slot_ = "";
    bool extremes_ = false;
};

// The slots of one struct of the table. Each file asserts that it has a check for every slot.
struct check {
    const char *slot;
    void (*run)(trial &);
};
struct checks_of_a_topic {
    const check *first;
    size_t count;
};
checks_of_a_topic stream_checks();
checks_of_a_topic product_checks();
checks_of_a_topic backward_checks();
checks_of_a_topic conv_checks();

/* The text of the trial that runs, for the line of a crash. */
extern char running[256];

} // namespace selftest

#endif
