// The extension module meshd.bits._kernels. Law: the only place that knows Python. Each function
// checks its arguments, lets other Python threads run, and calls the table in use; outputs are the
// caller's arrays. What a function computes stands in include/meshd_kernels.h.
#include <cstdlib>
#include <new>

#include "arguments.h"
#include "meshd_kernels.h"

namespace {

using pack_slot = decltype(&kernel_table::pack_signed);
using unpack_slot = decltype(&kernel_table::unpack_signed);
using product_slot = decltype(&kernel_table::product_signed);

constexpr int64_t largest_row = INT32_MAX; // a dot product must fit an int32_t

template <pack_slot slot>
void pack(nb::handle x_arg, nb::handle beta_arg, nb::handle words_arg, nb::handle scales_arg) {
    const array<const float, 2> x(x_arg, "x");
    const array<uint64_t, 2> words(words_arg, "out_words");
    const array<float, 2> scales(scales_arg, "out_scales");
    const size_t rows = x.shape(0), k = x.shape(1), beta = segment_length(beta_arg, k, "beta");
    words.require_shape({rows, words_of(k)});
    scales.require_shape({rows, segments_of(k, beta)});
    nb::gil_scoped_release others_run;
    (meshd_kernels()->*slot)(x.data(), rows, k, beta, words.data(), scales.data());
}

// The two arrays of a packed matrix with rows of k elements, kept alive while it is used.
struct packed_argument {
    array<const uint64_t, 2> words;
    array<const float, 2> scales;
    packed_matrix matrix;

    packed_argument(nb::handle words_arg, const char *words_name, nb::handle scales_arg,
                    const char *scales_name, nb::handle beta, const char *beta_name, size_t k)
        : words(words_arg, words_name), scales(scales_arg, scales_name),
          matrix{words.data(), scales.data(), words.shape(0), segment_length(beta, k, beta_name)} {
        words.require_shape({matrix.rows, words_of(k)});
        scales.require_shape({matrix.rows, segments_of(k, matrix.beta)});
    }
};

template <unpack_slot slot>
void unpack(nb::handle words, nb::handle scales, nb::handle beta, nb::handle k_arg,
            nb::handle out_arg) {
    const size_t k = bounded(k_arg, 0, largest_row, "k");
    const packed_argument m(words, "words", scales, "scales", beta, "beta", k);
    const array<float, 2> out(out_arg, "out");
    out.require_shape({m.matrix.rows, k});
    nb::gil_scoped_release others_run;
    (meshd_kernels()->*slot)(&m.matrix, k, out.data());
}

// One cut into segments must refine the other, or a scale would belong to a part of a dot product.
void require_nested(size_t beta_a, size_t beta_w, size_t k) {
    const size_t fine = beta_a < beta_w ? beta_a : beta_w;
    const size_t coarse = beta_a < beta_w ? beta_w : beta_a;
    if (coarse % fine == 0 || coarse >= k) return;
    value_error("beta_a, beta_w: one must divide the other or be at least k = " +
                std::to_string(k) + ", got " + std::to_string(beta_a) + " and " +
                std::to_string(beta_w));
}

template <product_slot slot>
void product(nb::handle a_words, nb::handle a_scales, nb::handle beta_a, nb::handle w_words,
             nb::handle w_scales, nb::handle beta_w, nb::handle k_arg, nb::handle out_arg) {
    const size_t k = bounded(k_arg, 0, largest_row, "k");
    const packed_argument a(a_words, "a_words", a_scales, "a_scales", beta_a, "beta_a", k);
    const packed_argument w(w_words, "w_words", w_scales, "w_scales", beta_w, "beta_w", k);
    const array<float, 2> out(out_arg, "out");
    require_nested(a.matrix.beta, w.matrix.beta, k);
    out.require_shape({a.matrix.rows, w.matrix.rows});
    int status;
    {
        nb::gil_scoped_release others_run;
        status = (meshd_kernels()->*slot)(&a.matrix, &w.matrix, k, out.data());
    }
    if (status == MESHD_NO_MEMORY) throw std::bad_alloc();
}

void carry_binarize(nb::handle grad_arg, nb::handle carried_arg, nb::handle weight_arg,
                    nb::handle gamma_arg, nb::handle bits_arg, nb::handle means_arg) {
    const array<const float, 1> grad(grad_arg, "grad");
    const array<float, 1> carried(carried_arg, "carried");
    const array<uint64_t, 1> bits(bits_arg, "out_bits");
    const array<float, 1> means(means_arg, "out_means");
    const size_t n = grad.shape(0), gamma = segment_length(gamma_arg, n, "gamma");
    const float weight = (float)number(weight_arg, "weight");
    carried.require_shape({n});
    bits.require_shape({words_of(n)});
    means.require_shape({segments_of(n, gamma)});
    nb::gil_scoped_release others_run;
    meshd_kernels()->carry_binarize(grad.data(), carried.data(), n, weight, gamma, bits.data(),
                                    means.data());
}

void carry_settle(nb::handle carried_arg, nb::handle bits_arg, nb::handle scale_arg,
                  nb::handle gamma_arg) {
    const array<float, 1> carried(carried_arg, "carried");
    const array<const uint64_t, 1> bits(bits_arg, "bits");
    const array<const float, 1> scale(scale_arg, "scale");
    const size_t n = carried.shape(0), gamma = segment_length(gamma_arg, n, "gamma");
    bits.require_shape({words_of(n)});
    scale.require_shape({segments_of(n, gamma)});
    nb::gil_scoped_release others_run;
    meshd_kernels()->carry_settle(carried.data(), bits.data(), scale.data(), n, gamma);
}

void planes_add(nb::handle planes_arg, nb::handle bits_arg) {
    const array<uint64_t, 2> planes(planes_arg, "planes");
    const array<const uint64_t, 1> bits(bits_arg, "bits");
    const size_t count = planes.shape(0), words = planes.shape(1);
    bits.require_shape({words});
    int status;
    {
        nb::gil_scoped_release others_run;
        status = meshd_kernels()->planes_add(planes.data(), count, words, bits.data());
    }
    if (status == MESHD_OVERFLOW)
        value_error("planes: a counter of " + std::to_string(count) +
                    " planes had no room for one more vote; its contents are now void");
}

void apply_votes(nb::handle planes_arg, nb::handle members_arg, nb::handle scale_arg,
                 nb::handle gamma_arg, nb::handle n_arg, nb::handle out_arg) {
    const size_t members = bounded(members_arg, 1, 65535, "members");
    const size_t n = bounded(n_arg, 0, INT64_MAX, "n");
    const size_t gamma = segment_length(gamma_arg, n, "gamma");
    const array<const uint64_t, 2> planes(planes_arg, "planes");
    const array<const float, 1> scale(scale_arg, "scale");
    const array<float, 1> out(out_arg, "out");
    size_t count = 0; // bit_length(members)
    while (members >> count) ++count;
    planes.require_shape({count, words_of(n)});
    scale.require_shape({segments_of(n, gamma)});
    out.require_shape({n});
    int status;
    {
        nb::gil_scoped_release others_run;
        status = meshd_kernels()->apply_votes(planes.data(), count, members, scale.data(), n,
                                              gamma, out.data());
    }
    if (status == MESHD_OVERFLOW)
        value_error("planes: a count is larger than members = " + std::to_string(members));
}

std::string runnable_isas() {
    std::string names;
    for (size_t i = 0; meshd_list_isa(i); ++i)
        names += std::string(i ? ", " : "") + meshd_list_isa(i);
    return names;
}

void use_isa(const std::string &name) {
    const int status = meshd_use_isa(name.c_str());
    if (status == MESHD_OK) return;
    const char *why = status == MESHD_UNKNOWN_ISA ? "is not in this build"
                                                  : "does not run on this machine";
    value_error("instruction set '" + name + "' " + why + ": choose one of " + runnable_isas());
}

// None is let through to the function, which refuses it by the argument's name like any other.
template <class... Handles> void def(nb::module_ &m, const char *name, void (*f)(Handles...)) {
    m.def(name, f, ((void)sizeof(Handles), nb::arg().none())...);
}

} // namespace

NB_MODULE(_kernels, m) {
    m.doc() = "Native kernels over packed bits; use them through meshd.bits.ops.";
    const char *forced = std::getenv("MESHD_FORCE_ISA");
    if (forced && *forced) {
        try {
            use_isa(forced);
        } catch (const nb::builtin_exception &e) {
            value_error(std::string("MESHD_FORCE_ISA: ") + e.what());
        }
    }
    def(m, "pack_signed", pack<&kernel_table::pack_signed>);
    def(m, "pack_unipolar", pack<&kernel_table::pack_unipolar>);
    def(m, "unpack_signed", unpack<&kernel_table::unpack_signed>);
    def(m, "unpack_unipolar", unpack<&kernel_table::unpack_unipolar>);
    def(m, "product_signed", product<&kernel_table::product_signed>);
    def(m, "product_unipolar", product<&kernel_table::product_unipolar>);
    def(m, "carry_binarize", carry_binarize);
    def(m, "carry_settle", carry_settle);
    def(m, "planes_add", planes_add);
    def(m, "apply_votes", apply_votes);
    m.def("isa", [] { return meshd_kernels()->isa; });
    m.def("list_isas", [] {
        nb::list names;
        for (size_t i = 0; meshd_list_isa(i); ++i) names.append(meshd_list_isa(i));
        return names;
    });
    m.def("use_isa", [](nb::str name) { use_isa(name.c_str()); });
}
