// Products of packed matrices: include/meshd_product.h for Python.
#include <new>

#include "meshd_kernels.h"
#include "packed.h"

namespace {

using product_slot = decltype(&product_kernels::product_signed);

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
        status = (meshd_kernels()->product.*slot)(&a.matrix, &w.matrix, k, out.data());
    }
    if (status == MESHD_NO_MEMORY) throw std::bad_alloc();
}

} // namespace

void bind_product(nb::module_ &m) {
    def(m, "product_signed", product<&product_kernels::product_signed>);
    def(m, "product_unipolar", product<&product_kernels::product_unipolar>);
}
