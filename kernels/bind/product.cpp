// Products of packed matrices: include/meshd_product.h for Python.
#include <new>
#include <optional>

#include "meshd_kernels.h"
#include "packed.h"

namespace {

size_t bounded_row(size_t k) {
    if (k > (size_t)largest_row) value_error("x: a row is longer than 2^31 - 1 elements");
    return k;
}

// The panels of w, checked to be as many as w, k and beta_a need with this set.
void require_panels(const kernel_table *kernels, const array<uint32_t, 1> &panels,
                    const packed_matrix &w, size_t k, size_t beta_a, meshd_coding coding) {
    panels.require_shape(
        {meshd_product_panel_units(&kernels->product, &w, k, beta_a, coding)});
    require_aligned(panels);
}

// W, its panels and the bias, checked against each other.
struct weights_argument {
    const kernel_table *kernels = meshd_kernels();
    packed_argument w;
    std::optional<array<const float, 1>> bias;
    std::optional<array<uint32_t, 1>> panels;

    weights_argument(nb::handle w_words, nb::handle w_scales, nb::handle beta_w,
                     nb::handle bias_arg, nb::handle panels_arg, nb::handle panels_isa, size_t k,
                     size_t beta_a, meshd_coding coding)
        : w(w_words, "w_words", w_scales, "w_scales", beta_w, "beta_w", k) {
        require_nested(beta_a, w.matrix.beta, k);
        if (!bias_arg.is_none()) {
            bias.emplace(bias_arg, "bias");
            bias->require_shape({w.matrix.rows});
        }
        if (!panels_arg.is_none()) {
            panels.emplace(panels_arg, "panels");
            require_set(kernels, panels_isa);
            require_panels(kernels, *panels, w.matrix, k, beta_a, coding);
        }
    }
    const float *bias_data() const { return bias ? bias->data() : nullptr; }
    const uint32_t *panel_data() const { return panels ? panels->data() : nullptr; }
};

template <meshd_coding coding>
void product(nb::handle a_words, nb::handle a_scales, nb::handle beta_a, nb::handle w_words,
             nb::handle w_scales, nb::handle beta_w, nb::handle k_arg, nb::handle bias,
             nb::handle panels, nb::handle panels_isa, nb::handle threads_arg,
             nb::handle out_arg) {
    const size_t k = bounded(k_arg, 0, largest_row, "k"), threads = thread_count(threads_arg);
    const packed_argument a(a_words, "a_words", a_scales, "a_scales", beta_a, "beta_a", k);
    const weights_argument weights(w_words, w_scales, beta_w, bias, panels, panels_isa, k,
                                   a.matrix.beta, coding);
    const array<float, 2> out(out_arg, "out");
    out.require_shape({a.matrix.rows, weights.w.matrix.rows});
    int status;
    {
        const kernel_scope others_run;
        status = meshd_product(&weights.kernels->product, &a.matrix, &weights.w.matrix,
                               weights.panel_data(), k, coding, weights.bias_data(), threads,
                               out.data());
    }
    if (status == MESHD_NO_MEMORY) throw std::bad_alloc();
}

template <meshd_coding coding>
void binarized_product(nb::handle x_arg, nb::handle beta_a_arg, nb::handle w_words,
                       nb::handle w_scales, nb::handle beta_w, nb::handle bias, nb::handle panels,
                       nb::handle panels_isa, nb::handle threads_arg, nb::handle cut_arg, nb::handle kept_arg,
                       nb::handle words_arg, nb::handle scales_arg, nb::handle out_arg) {
    const array<const float, 2> x(x_arg, "x");
    const size_t rows = x.shape(0), k = bounded_row(x.shape(1)), threads = thread_count(threads_arg);
    const size_t beta_a = segment_length(beta_a_arg, k, "beta_a");
    const weights_argument weights(w_words, w_scales, beta_w, bias, panels, panels_isa, k, beta_a,
                                   coding);
    const array<uint64_t, 2> words(words_arg, "out_words");
    const array<float, 2> scales(scales_arg, "out_scales"), out(out_arg, "out");
    words.require_shape({rows, words_of(k)});
    scales.require_shape({rows, segments_of(k, beta_a)});
    out.require_shape({rows, weights.w.matrix.rows});
    std::optional<array<uint64_t, 2>> kept;
    float cut = 0;
    if (!kept_arg.is_none()) {
        kept.emplace(kept_arg, "out_kept");
        kept->require_shape({rows, words_of(k)});
        cut = (float)number(cut_arg, "cut");
    }
    const binarized a = {words.data(), scales.data(), rows, beta_a, kept ? kept->data() : nullptr, cut};
    int status;
    {
        const kernel_scope others_run;
        status = meshd_binarized_product(&weights.kernels->product, &weights.kernels->stream, x.data(), &a,
                                         &weights.w.matrix, weights.panel_data(), k, coding,
                                         weights.bias_data(), threads, out.data());
    }
    if (status == MESHD_NO_MEMORY) throw std::bad_alloc();
}

// Returns the set that the panels are for.
template <meshd_coding coding>
const char *prepare(nb::handle w_words, nb::handle w_scales, nb::handle beta_w, nb::handle beta_a_arg,
             nb::handle k_arg, nb::handle threads_arg, nb::handle panels_arg) {
    const size_t k = bounded(k_arg, 0, largest_row, "k"), threads = thread_count(threads_arg);
    const packed_argument w(w_words, "w_words", w_scales, "w_scales", beta_w, "beta_w", k);
    const size_t beta_a = segment_length(beta_a_arg, k, "beta_a");
    require_nested(beta_a, w.matrix.beta, k);
    const array<uint32_t, 1> panels(panels_arg, "panels");
    const kernel_table *kernels = meshd_kernels();
    require_panels(kernels, panels, w.matrix, k, beta_a, coding);
    {
        const kernel_scope others_run;
        meshd_product_prepare(&kernels->product, &w.matrix, k, beta_a, coding, threads,
                              panels.data());
    }
    return kernels->isa;
}

// How many uint32_t the panels take: rows of w, each of k elements.
template <meshd_coding coding>
size_t panel_units(nb::handle rows, nb::handle beta_w, nb::handle beta_a_arg, nb::handle k_arg) {
    const size_t k = bounded(k_arg, 0, largest_row, "k");
    const packed_matrix w = {nullptr, nullptr, bounded(rows, 0, INT64_MAX / 64, "rows"),
                             segment_length(beta_w, k, "beta_w")};
    const size_t beta_a = segment_length(beta_a_arg, k, "beta_a");
    require_nested(beta_a, w.beta, k);
    return meshd_product_panel_units(&meshd_kernels()->product, &w, k, beta_a, coding);
}

} // namespace

void bind_product(nb::module_ &m) {
    def(m, "product_signed", product<MESHD_SIGNED>);
    def(m, "product_unipolar", product<MESHD_UNIPOLAR>);
    def(m, "binarized_product_signed", binarized_product<MESHD_SIGNED>);
    def(m, "binarized_product_unipolar", binarized_product<MESHD_UNIPOLAR>);
    def(m, "prepare_signed", prepare<MESHD_SIGNED>);
    def(m, "prepare_unipolar", prepare<MESHD_UNIPOLAR>);
    def(m, "panel_units_signed", panel_units<MESHD_SIGNED>);
    def(m, "panel_units_unipolar", panel_units<MESHD_UNIPOLAR>);
}
