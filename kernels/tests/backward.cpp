// Every slot of backward_kernels, through the products that are built of them: these use the set in
// use, so a trial changes it.
#include "trial.h"

namespace selftest {

namespace {

struct shape {
    size_t rows, reduced, k, beta; // G (rows, reduced), b (reduced, k)
    bool transposed, unipolar, cut;
};

// run(operands) with the tested set, then with the scalar one.
template <class Run> void compare(trial &t, const shape &s, Run run) {
    const array<float> g = t.floats(s.rows * s.reduced);
    const array<uint64_t> words = t.packed(s.reduced, s.k), keep = t.packed(s.rows, s.k);
    const array<float> scales = t.magnitudes(s.reduced * segments_of(s.k, s.beta));
    array<float> got = t.output<float>(s.rows * s.k), wanted = got;
    backward_operands x = {};
    x.g = g.data();
    x.rows = s.rows;
    x.transposed = s.transposed;
    x.b = {words.data(), scales.data(), s.reduced, s.beta};
    x.k = s.k;
    x.unipolar = s.unipolar;
    x.keep = s.cut ? keep.data() : nullptr;
    x.out = got.data();
    x.threads = 1 + t.below(3);
    meshd_use_isa(t.tested.isa);
    const int status = run(x);
    x.out = wanted.data();
    meshd_use_isa(t.scalar.isa);
    t.same("status", status, run(x));
    if (status == MESHD_OK) t.same("out", got, wanted);
}

// Blocks of 150 and groups of 5, 6 and 7 begin and end in these.
constexpr size_t reductions[] = {0, 1, 5, 6, 7, 8, 29, 30, 31, 64, 149, 151, 181, 330};
constexpr size_t columns[] = {0, 1, 63, 64, 65, 255, 257, 330};

template <class Run> void each_product(trial &t, Run run) {
    constexpr size_t betas[] = {7, 64, 256, 1000};
    size_t turn = 0;
    for (size_t reduced : reductions)
        for (size_t k : columns) {
            const size_t rows = turn % 9, whole = k ? k : 1;
            const size_t beta = smaller(betas[(turn + turn / 8) % 4], whole);
            const shape s = {rows, reduced, k, beta, turn % 2 > 0, turn % 3 == 0, turn % 5 < 2};
            t.begin("rows=%zu reduced=%zu k=%zu beta=%zu transposed=%d unipolar=%d cut=%d", rows,
                    reduced, k, beta, s.transposed, s.unipolar, s.cut);
            compare(t, s, run);
            ++turn;
        }
}

void exact(trial &t) {
    each_product(t, [](const backward_operands &x) { return meshd_backward_exact(&x); });
}

void int8(trial &t) {
    each_product(t, [](const backward_operands &x) { return meshd_backward_int8(&x, 7); });
}

// The number of planes is a function of the shape: each of the four many times.
void planes(trial &t) {
    each_product(t, [](const backward_operands &x) {
        return meshd_backward_planes(&x, 1 + (x.b.rows + x.k) % MESHD_PLANES_MOST, 7);
    });
}

void floats(trial &t) {
    size_t turn = 0;
    for (size_t k : sizes)
        each_beta(k, [&](size_t beta) {
            const size_t rows = turn % 9, rows_w = turn % 5 ? turn % 17 : 64 + turn % 9;
            ++turn;
            t.begin("m=%zu n=%zu k=%zu beta=%zu", rows, rows_w, k, beta);
            const array<float> x = t.floats(rows * k);
            const array<uint64_t> words = t.packed(rows_w, k);
            const array<float> scales = t.magnitudes(rows_w * segments_of(k, beta));
            const packed_matrix w = {words.data(), scales.data(), rows_w, beta};
            array<float> got = t.output<float>(rows * rows_w), wanted = got;
            const size_t threads = 1 + t.below(3);
            meshd_use_isa(t.tested.isa);
            const int status = meshd_product_floats(x.data(), rows, &w, k, got.data(), threads);
            meshd_use_isa(t.scalar.isa);
            t.same("status", status,
                   meshd_product_floats(x.data(), rows, &w, k, wanted.data(), 1));
            t.same("out", got, wanted);
        });
}

constexpr check checks[] = {
    {"backward.exact", exact},
    {"backward.int8", int8},
    {"backward.planes", planes},
    {"backward.floats", floats},
};

} // namespace

checks_of_a_topic backward_checks() { return {checks, sizeof checks / sizeof checks[0]}; }

} // namespace selftest
