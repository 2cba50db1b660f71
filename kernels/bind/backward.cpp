// Products of float32 rows with packed bits: include/meshd_backward.h for Python.
#include <new>
#include <optional>

#include "meshd_kernels.h"
#include "packed.h"

namespace {


bool flag(nb::handle h, const char *name) {
    if (!PyBool_Check(h.ptr()))
        type_error(std::string(name) + ": expected a bool, got " + nb::type_name(h.type()).c_str());
    return h.ptr() == Py_True;
}

// All that the three settings of the backward product have in common.
struct backward_arguments {
    size_t k;
    array<const float, 2> g;
    packed_argument b;
    std::optional<array<const uint64_t, 2>> keep;
    array<float, 2> out;
    backward_operands operands;

    backward_arguments(nb::handle g_arg, nb::handle transposed, nb::handle words,
                       nb::handle scales, nb::handle beta, nb::handle k_arg, nb::handle unipolar,
                       nb::handle keep_arg, nb::handle threads, nb::handle out_arg)
        : k(bounded(k_arg, 0, largest_row, "k")), g(g_arg, "g"),
          b(words, "words", scales, "scales", beta, "beta", k), out(out_arg, "out") {
        const bool turned = flag(transposed, "transposed");
        const size_t reduced = b.matrix.rows, rows = g.shape(turned ? 1 : 0);
        if (turned)
            g.require_shape({reduced, rows});
        else
            g.require_shape({rows, reduced});
        if (!keep_arg.is_none()) {
            keep.emplace(keep_arg, "keep");
            keep->require_shape({rows, words_of(k)});
        }
        out.require_shape({rows, k});
        operands = {g.data(), rows, turned, b.matrix, k, flag(unipolar, "unipolar"),
                    keep ? keep->data() : nullptr, out.data(),
                    thread_count(threads)};
    }

    void require_integers() const {
        if (b.matrix.rows > MESHD_LARGEST_REDUCTION)
            value_error("words: at most " + std::to_string((int)MESHD_LARGEST_REDUCTION) +
                        " rows can be summed as integers, got " + std::to_string(b.matrix.rows));
    }

    template <class Product> void run(Product product) const {
        int status;
        {
            const kernel_scope others_run;
            status = product(&operands);
        }
        if (status == MESHD_NO_MEMORY) throw std::bad_alloc();
    }
};

void backward_exact(nb::handle g, nb::handle transposed, nb::handle words, nb::handle scales,
                    nb::handle beta, nb::handle k, nb::handle unipolar, nb::handle keep,
                    nb::handle threads, nb::handle out) {
    const backward_arguments a(g, transposed, words, scales, beta, k, unipolar, keep, threads, out);
    a.run([](const backward_operands *x) { return meshd_backward_exact(x); });
}

void backward_int8(nb::handle g, nb::handle transposed, nb::handle words, nb::handle scales,
                   nb::handle beta, nb::handle k, nb::handle unipolar, nb::handle keep,
                   nb::handle threads, nb::handle out, nb::handle seed_arg) {
    const backward_arguments a(g, transposed, words, scales, beta, k, unipolar, keep, threads, out);
    const uint64_t seed = bounded(seed_arg, 0, INT64_MAX, "seed");
    a.require_integers();
    a.run([=](const backward_operands *x) { return meshd_backward_int8(x, seed); });
}

void backward_planes(nb::handle g, nb::handle transposed, nb::handle words, nb::handle scales,
                     nb::handle beta, nb::handle k, nb::handle unipolar, nb::handle keep,
                     nb::handle threads, nb::handle out, nb::handle planes_arg,
                     nb::handle seed_arg) {
    const backward_arguments a(g, transposed, words, scales, beta, k, unipolar, keep, threads, out);
    const size_t planes = bounded(planes_arg, 1, MESHD_PLANES_MOST, "planes");
    const uint64_t seed = bounded(seed_arg, 0, INT64_MAX, "seed");
    a.require_integers();
    a.run([=](const backward_operands *x) { return meshd_backward_planes(x, planes, seed); });
}

void product_floats(nb::handle x_arg, nb::handle words, nb::handle scales, nb::handle beta,
                    nb::handle k_arg, nb::handle threads_arg, nb::handle out_arg) {
    const size_t k = bounded(k_arg, 0, largest_row, "k");
    const array<const float, 2> x(x_arg, "x");
    const packed_argument w(words, "w_words", scales, "w_scales", beta, "beta_w", k);
    const array<float, 2> out(out_arg, "out");
    const size_t threads = thread_count(threads_arg);
    x.require_shape({x.shape(0), k});
    out.require_shape({x.shape(0), w.matrix.rows});
    int status;
    {
        const kernel_scope others_run;
        status = meshd_product_floats(x.data(), x.shape(0), &w.matrix, k, out.data(), threads);
    }
    if (status == MESHD_NO_MEMORY) throw std::bad_alloc();
}

} // namespace

void bind_backward(nb::module_ &m) {
    def(m, "backward_exact", backward_exact);
    def(m, "backward_int8", backward_int8);
    def(m, "backward_planes", backward_planes);
    def(m, "product_floats", product_floats);
}
