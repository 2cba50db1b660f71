// Every tile kernel of product_kernels, through the macro kernel.
#include "trial.h"

namespace selftest {

namespace {

struct alignas(64) panel_line {
    uint32_t unit[16];
};

template <meshd_coding coding>
void trial_of(trial &t, size_t rows_a, size_t rows_w, size_t k, size_t beta_a, size_t beta_w) {
    t.begin("m=%zu n=%zu k=%zu beta_a=%zu beta_w=%zu", rows_a, rows_w, k, beta_a, beta_w);
    const array<uint64_t> a_words = t.packed(rows_a, k), w_words = t.packed(rows_w, k);
    const array<float> a_scales = t.scales(rows_a * segments_of(k, beta_a));
    const array<float> w_scales = t.scales(rows_w * segments_of(k, beta_w));
    const packed_matrix a = {a_words.data(), a_scales.data(), rows_a, beta_a};
    const packed_matrix w = {w_words.data(), w_scales.data(), rows_w, beta_w};
    const array<float> bias = t.floats(rows_w);
    const float *start = t.below(2) ? bias.data() : nullptr;
    array<float> got = t.output<float>(rows_a * rows_w), wanted = got;
    const size_t threads = 1 + t.below(3);
    const product_kernels *tested = &t.tested.product;
    const size_t units = meshd_product_panel_units(tested, &w, k, beta_a, coding);
    array<panel_line> lines = t.room<panel_line>(units / 16);
    uint32_t *panels = units && t.below(2) ? lines.data()->unit : nullptr;
    if (panels) meshd_product_prepare(tested, &w, k, beta_a, coding, threads, panels);
    t.same("status",
           meshd_product(tested, &a, &w, panels, k, coding, start, threads, got.data()),
           meshd_product(&t.scalar.product, &a, &w, nullptr, k, coding, start, 1, wanted.data()));
    t.same("out", got, wanted);
}

// One cut refines the other, each way round; numbers of rows around the width of a panel.
template <meshd_coding coding> void product(trial &t) {
    size_t turn = 0;
    for (size_t k : sizes)
        each_beta(k, [&](size_t fine) {
            const size_t whole = k ? k : 1;
            for (size_t coarse : {fine, smaller(2 * fine, whole), smaller(5 * fine, whole), whole}) {
                const size_t rows_a = turn % 7, rows_w = turn % 5 ? turn % 19 : 60 + turn % 11;
                ++turn;
                trial_of<coding>(t, rows_a, rows_w, k, fine, coarse);
                trial_of<coding>(t, rows_a, rows_w, k, coarse, fine);
            }
        });
}

constexpr check checks[] = {
    {"product.signed", product<MESHD_SIGNED>},
    {"product.unipolar", product<MESHD_UNIPOLAR>},
};

} // namespace

checks_of_a_topic product_checks() { return {checks, sizeof checks / sizeof checks[0]}; }

} // namespace selftest
