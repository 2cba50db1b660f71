// Every slot of product_kernels.
#include "trial.h"

namespace selftest {

namespace {

using product_slot = decltype(&product_kernels::product_signed);

template <product_slot slot>
void trial_of(trial &t, size_t rows_a, size_t rows_w, size_t k, size_t beta_a, size_t beta_w) {
    t.begin("m=%zu n=%zu k=%zu beta_a=%zu beta_w=%zu", rows_a, rows_w, k, beta_a, beta_w);
    const array<uint64_t> a_words = t.packed(rows_a, k), w_words = t.packed(rows_w, k);
    const array<float> a_scales = t.magnitudes(rows_a * segments_of(k, beta_a));
    const array<float> w_scales = t.magnitudes(rows_w * segments_of(k, beta_w));
    const packed_matrix a = {a_words.data(), a_scales.data(), rows_a, beta_a};
    const packed_matrix w = {w_words.data(), w_scales.data(), rows_w, beta_w};
    array<float> got = t.output<float>(rows_a * rows_w), wanted = got;
    t.same("status", (t.tested.product.*slot)(&a, &w, k, got.data()),
           (t.scalar.product.*slot)(&a, &w, k, wanted.data()));
    t.same("out", got, wanted);
}

// One cut refines the other, each way round; numbers of rows around the width of a panel.
template <product_slot slot> void product(trial &t) {
    size_t turn = 0;
    for (size_t k : sizes)
        each_beta(k, [&](size_t fine) {
            const size_t whole = k ? k : 1;
            for (size_t coarse : {fine, smaller(2 * fine, whole), smaller(5 * fine, whole), whole}) {
                const size_t rows_a = turn % 5, rows_w = turn % 19;
                ++turn;
                trial_of<slot>(t, rows_a, rows_w, k, fine, coarse);
                trial_of<slot>(t, rows_a, rows_w, k, coarse, fine);
            }
        });
}

constexpr check checks[] = {
    {"product.product_signed", product<&product_kernels::product_signed>},
    {"product.product_unipolar", product<&product_kernels::product_unipolar>},
};
constexpr size_t count = sizeof checks / sizeof checks[0];
static_assert(count * sizeof(void (*)()) <= sizeof(product_kernels),
              "a slot of product_kernels has one check here");

} // namespace

checks_of_a_topic product_checks() { return {checks, count}; }

} // namespace selftest
