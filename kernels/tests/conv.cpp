// Convolutions: both ways to the rows of a product, and the windows themselves.
#include "trial.h"

namespace selftest {

namespace {

struct alignas(64) panel_line {
    uint32_t unit[16];
};

// Taps within words and across them, windows with and without taps inside, strides, groups.
constexpr conv_shape shapes[] = {
    {1, 4, 5, 64, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 1},
    {2, 3, 3, 128, {3, 3}, {1, 1}, {2, 0}, {1, 1}, 1},
    {1, 5, 4, 70, {3, 2}, {1, 1}, {1, 1}, {1, 1}, 1},
    {1, 6, 5, 48, {2, 3}, {2, 1}, {0, 2}, {1, 2}, 3},
    {1, 3, 3, 192, {2, 2}, {1, 1}, {1, 1}, {2, 1}, 3},
    {1, 3, 2, 96, {1, 1}, {1, 1}, {0, 0}, {1, 1}, 1},
    {2, 2, 2, 33, {1, 1}, {2, 2}, {1, 1}, {1, 1}, 1},
    {1, 2, 2, 64, {2, 2}, {1, 1}, {3, 3}, {3, 3}, 1},
    {1, 3, 3, 3, {3, 3}, {1, 1}, {1, 1}, {1, 1}, 3},
    {0, 3, 3, 64, {3, 3}, {1, 1}, {0, 0}, {1, 1}, 1},
};

size_t tap_channels(const conv_shape &s) { return s.channels / s.groups; }
size_t length(const conv_shape &s) { return s.kernel[0] * s.kernel[1] * tap_channels(s); }
size_t rows(const conv_shape &s) { return s.batch * s.height * s.width * s.groups; }
size_t pixels(const conv_shape &s) {
    return s.batch * meshd_conv_out(&s, 0) * meshd_conv_out(&s, 1);
}

// The cuts that a convolution takes: those of a tap, and the whole window.
template <class Body> void each_cut(const conv_shape &s, Body body) {
    for (size_t beta : {1, 3, 8, 16, 32, 64, 128})
        if (beta < length(s) && tap_channels(s) % beta == 0) body(beta);
    body(length(s));
}

// One image cut by beta_a.
struct image {
    const array<uint64_t> words;
    const array<float> scales;
    const packed_matrix matrix;

    image(trial &t, const conv_shape &s, size_t beta)
        : words(t.packed(rows(s), tap_channels(s))),
          scales(t.scales(rows(s) * (tap_channels(s) / beta))),
          matrix{words.data(), scales.data(), rows(s), beta} {}
};

template <meshd_coding coding>
void conv_of(trial &t, size_t number, size_t filters, size_t beta_a, size_t beta_w) {
    const conv_shape &s = shapes[number];
    const size_t k = length(s);
    t.begin("shape=%zu filters=%zu beta_a=%zu beta_w=%zu", number, filters, beta_a, beta_w);
    const image x(t, s, smaller(beta_a, tap_channels(s)));
    const array<uint64_t> w_words = t.packed(filters, k);
    const array<float> w_scales = t.scales(filters * segments_of(k, beta_w));
    const packed_matrix w = {w_words.data(), w_scales.data(), filters, beta_w};
    const array<float> bias = t.floats(filters);
    const float *start = t.below(2) ? bias.data() : nullptr;
    const size_t threads = 1 + t.below(3);
    const product_kernels *tested = &t.tested.product;
    const size_t units = meshd_conv_panel_units(tested, &s, &w, beta_a, coding);
    array<panel_line> lines = t.room<panel_line>(units / 16);
    uint32_t *panels = units && t.below(2) ? lines.data()->unit : nullptr;
    if (panels) meshd_conv_prepare(tested, &s, &w, beta_a, coding, threads, panels);
    array<float> got = t.output<float>(pixels(s) * filters), wanted = got;
    t.same("status",
           meshd_conv(tested, &s, &x.matrix, beta_a, &w, panels, coding, start, threads,
                      got.data()),
           meshd_conv(&t.scalar.product, &s, &x.matrix, beta_a, &w, nullptr, coding, start, 1,
                      wanted.data()));
    t.same("out", got, wanted);
}

template <meshd_coding coding> void conv(trial &t) {
    size_t turn = 0;
    for (size_t number = 0; number < sizeof shapes / sizeof shapes[0]; ++number) {
        const conv_shape &s = shapes[number];
        each_cut(s, [&](size_t beta_a) {
            each_cut(s, [&](size_t beta_w) {
                const size_t fine = smaller(beta_a, beta_w), coarse = beta_a + beta_w - fine;
                if (coarse % fine && coarse < length(s)) return;
                const size_t filters = s.groups * (turn % 4 ? turn % 7 : 60 + turn % 9);
                ++turn;
                conv_of<coding>(t, number, filters, beta_a, beta_w);
            });
        });
    }
}

// No slot of the table has it; its bits depend on no instruction set, but on the number of threads.
void im2col(trial &t) {
    for (size_t number = 0; number < sizeof shapes / sizeof shapes[0]; ++number) {
        const conv_shape &s = shapes[number];
        each_cut(s, [&](size_t beta_a) {
            const size_t beta = smaller(beta_a, tap_channels(s)), windows = pixels(s) * s.groups;
            t.begin("shape=%zu beta_a=%zu", number, beta_a);
            const image x(t, s, beta);
            array<uint64_t> words = t.output<uint64_t>(windows * words_of(length(s)));
            array<uint64_t> wanted_words = words;
            array<float> scales = t.output<float>(windows * (length(s) / beta));
            array<float> wanted_scales = scales;
            meshd_im2col(&s, &x.matrix, beta_a, 3, words.data(), scales.data());
            meshd_im2col(&s, &x.matrix, beta_a, 1, wanted_words.data(), wanted_scales.data());
            t.same("words", words, wanted_words);
            t.same("scales", scales, wanted_scales);
        });
    }
}

constexpr check checks[] = {
    {"conv.signed", conv<MESHD_SIGNED>},
    {"conv.unipolar", conv<MESHD_UNIPOLAR>},
    {"conv.im2col", im2col},
};

} // namespace

checks_of_a_topic conv_checks() { return {checks, sizeof checks / sizeof checks[0]}; }

} // namespace selftest
