// Convolutions of packed images: include/meshd_conv.h for Python.
#include <new>
#include <optional>

#include "meshd_kernels.h"
#include "packed.h"

namespace {

constexpr size_t shape_numbers = 13;
constexpr int64_t largest = INT32_MAX;        // of a shape's numbers
constexpr size_t most_rows = (size_t)1 << 48; // of a packed matrix: far above any memory

size_t rows_of(size_t a, size_t b, size_t c, size_t d, const char *what) {
    if (__builtin_mul_overflow(a, b, &a) || __builtin_mul_overflow(a, c, &a) ||
        __builtin_mul_overflow(a, d, &a) || a > most_rows)
        value_error(std::string("shape: its ") + what + " are more than 2^48");
    return a;
}

// A shape's numbers, in the order of conv_shape's members, checked one by one and together.
struct shape_argument : conv_shape {
    size_t tap_channels, k, rows, windows;

    explicit shape_argument(nb::handle h) : conv_shape{} {
        nb::tuple numbers;
        if (!nb::try_cast(h, numbers, false) || numbers.size() != shape_numbers)
            type_error("shape: expected a tuple of 13 integers");
        size_t i = 0;
        const auto next = [&](int64_t low, const char *name) {
            return bounded(numbers[i++], low, largest, name);
        };
        batch = next(0, "batch");
        height = next(0, "height");
        width = next(0, "width");
        channels = next(1, "channels");
        for (size_t axis : {0, 1}) kernel[axis] = next(1, axis ? "kernel[1]" : "kernel[0]");
        for (size_t axis : {0, 1}) stride[axis] = next(1, axis ? "stride[1]" : "stride[0]");
        for (size_t axis : {0, 1}) padding[axis] = next(0, axis ? "padding[1]" : "padding[0]");
        for (size_t axis : {0, 1}) dilation[axis] = next(1, axis ? "dilation[1]" : "dilation[0]");
        groups = next(1, "groups");
        if (channels % groups)
            value_error("groups: must divide channels = " + std::to_string(channels) + ", got " +
                        std::to_string(groups));
        require_fit(0, height, "kernel[0]");
        require_fit(1, width, "kernel[1]");
        tap_channels = channels / groups;
        if (kernel[0] * kernel[1] > largest_row / tap_channels)
            value_error("kernel: its elements of a group must be fewer than 2^31");
        k = kernel[0] * kernel[1] * tap_channels;
        rows = rows_of(batch, height, width, groups, "pixels");
        const size_t out_height = meshd_conv_out(this, 0), out_width = meshd_conv_out(this, 1);
        windows = rows_of(batch, out_height, out_width, groups, "windows");
    }

    void require_fit(size_t axis, size_t size, const char *name) const {
        const size_t reach = dilation[axis] * (kernel[axis] - 1) + 1;
        if (reach > size + 2 * padding[axis])
            value_error(std::string(name) + ": with its dilation it spans " +
                        std::to_string(reach) + " pixels, and the padded image has " +
                        std::to_string(size + 2 * padding[axis]));
    }

    // Segments lie within a tap, or one is the whole window.
    size_t segment(nb::handle beta_arg, const char *name) const {
        const size_t beta = segment_length(beta_arg, k, name);
        if (beta < k && tap_channels % beta)
            value_error(std::string(name) + ": must divide channels / groups = " +
                        std::to_string(tap_channels) + " or be at least k = " + std::to_string(k) +
                        ", got " + std::to_string(beta));
        return beta;
    }
};

struct filters_argument : packed_argument {
    filters_argument(nb::handle words, nb::handle scales, nb::handle beta_arg, size_t beta_a,
                     const shape_argument &shape)
        : packed_argument(words, "w_words", scales, "w_scales", beta_arg, "beta_w", shape.k) {
        require_nested(beta_a, shape.segment(beta_arg, "beta_w"), shape.k);
        if (matrix.rows % shape.groups)
            value_error("w_words: the number of filters must be a multiple of groups = " +
                        std::to_string(shape.groups) + ", got " + std::to_string(matrix.rows));
    }
};

struct image_argument {
    array<const uint64_t, 2> words;
    array<const float, 2> scales;
    packed_matrix matrix;

    image_argument(nb::handle words_arg, nb::handle scales_arg, size_t beta_a,
                   const shape_argument &shape)
        : words(words_arg, "x_words"), scales(scales_arg, "x_scales"),
          matrix{words.data(), scales.data(), shape.rows,
                 beta_a < shape.tap_channels ? beta_a : shape.tap_channels} {
        words.require_shape({shape.rows, words_of(shape.tap_channels)});
        scales.require_shape({shape.rows, shape.tap_channels / matrix.beta});
    }
};

void require_panels(const kernel_table *kernels, const array<uint32_t, 1> &panels,
                    const shape_argument &shape, const packed_matrix &w, size_t beta_a,
                    meshd_coding coding) {
    panels.require_shape({meshd_conv_panel_units(&kernels->product, &shape, &w, beta_a, coding)});
    require_aligned(panels);
}

template <meshd_coding coding>
void conv2d(nb::handle x_words, nb::handle x_scales, nb::handle beta_a_arg, nb::handle shape_arg,
            nb::handle w_words, nb::handle w_scales, nb::handle beta_w, nb::handle bias_arg,
            nb::handle panels_arg, nb::handle panels_isa, nb::handle threads_arg,
            nb::handle out_arg) {
    const kernel_table *kernels = meshd_kernels();
    const shape_argument shape(shape_arg);
    const size_t threads = thread_count(threads_arg), beta_a = shape.segment(beta_a_arg, "beta_a");
    const image_argument x(x_words, x_scales, beta_a, shape);
    const filters_argument w(w_words, w_scales, beta_w, beta_a, shape);
    const array<float, 4> out(out_arg, "out");
    out.require_shape(
        {shape.batch, meshd_conv_out(&shape, 0), meshd_conv_out(&shape, 1), w.matrix.rows});
    std::optional<array<const float, 1>> bias;
    if (!bias_arg.is_none()) {
        bias.emplace(bias_arg, "bias");
        bias->require_shape({w.matrix.rows});
    }
    std::optional<array<uint32_t, 1>> panels;
    if (!panels_arg.is_none()) {
        panels.emplace(panels_arg, "panels");
        require_set(kernels, panels_isa);
        require_panels(kernels, *panels, shape, w.matrix, beta_a, coding);
    }
    int status;
    {
        const kernel_scope others_run;
        status = meshd_conv(&kernels->product, &shape, &x.matrix, beta_a, &w.matrix,
                            panels ? panels->data() : nullptr, coding,
                            bias ? bias->data() : nullptr, threads, out.data());
    }
    if (status == MESHD_NO_MEMORY) throw std::bad_alloc();
}

// Returns the set that the panels are for.
template <meshd_coding coding>
const char *prepare(nb::handle w_words, nb::handle w_scales, nb::handle beta_w, nb::handle beta_a_arg,
             nb::handle shape_arg, nb::handle threads_arg, nb::handle panels_arg) {
    const shape_argument shape(shape_arg);
    const size_t threads = thread_count(threads_arg), beta_a = shape.segment(beta_a_arg, "beta_a");
    const filters_argument w(w_words, w_scales, beta_w, beta_a, shape);
    const array<uint32_t, 1> panels(panels_arg, "panels");
    const kernel_table *kernels = meshd_kernels();
    require_panels(kernels, panels, shape, w.matrix, beta_a, coding);
    {
        const kernel_scope others_run;
        meshd_conv_prepare(&kernels->product, &shape, &w.matrix, beta_a, coding, threads,
                           panels.data());
    }
    return kernels->isa;
}

// How many uint32_t the panels of so many filters take.
template <meshd_coding coding>
size_t panel_units(nb::handle filters, nb::handle beta_w, nb::handle beta_a_arg,
                   nb::handle shape_arg) {
    const shape_argument shape(shape_arg);
    const size_t beta_a = shape.segment(beta_a_arg, "beta_a");
    const packed_matrix w = {nullptr, nullptr, bounded(filters, 0, largest, "filters"),
                             shape.segment(beta_w, "beta_w")};
    require_nested(beta_a, w.beta, shape.k);
    return meshd_conv_panel_units(&meshd_kernels()->product, &shape, &w, beta_a, coding);
}

void im2col(nb::handle x_words, nb::handle x_scales, nb::handle beta_a_arg, nb::handle shape_arg,
            nb::handle threads_arg, nb::handle words_arg, nb::handle scales_arg) {
    const shape_argument shape(shape_arg);
    const size_t threads = thread_count(threads_arg), beta_a = shape.segment(beta_a_arg, "beta_a");
    const image_argument x(x_words, x_scales, beta_a, shape);
    const array<uint64_t, 2> words(words_arg, "out_words");
    const array<float, 2> scales(scales_arg, "out_scales");
    words.require_shape({shape.windows, words_of(shape.k)});
    scales.require_shape({shape.windows, shape.k / x.matrix.beta});
    const kernel_scope others_run;
    meshd_im2col(&shape, &x.matrix, beta_a, threads, words.data(), scales.data());
}

// Height and width of the output.
nb::tuple out_size(nb::handle shape_arg) {
    const shape_argument shape(shape_arg);
    return nb::make_tuple(meshd_conv_out(&shape, 0), meshd_conv_out(&shape, 1));
}

} // namespace

void bind_conv(nb::module_ &m) {
    def(m, "conv2d_signed", conv2d<MESHD_SIGNED>);
    def(m, "conv2d_unipolar", conv2d<MESHD_UNIPOLAR>);
    def(m, "prepare_conv2d_signed", prepare<MESHD_SIGNED>);
    def(m, "prepare_conv2d_unipolar", prepare<MESHD_UNIPOLAR>);
    def(m, "conv2d_panel_units_signed", panel_units<MESHD_SIGNED>);
    def(m, "conv2d_panel_units_unipolar", panel_units<MESHD_UNIPOLAR>);
    def(m, "conv2d_out_size", out_size);
    def(m, "im2col", im2col);
}
