// Binarize and pack, and what is carried over: include/meshd_stream.h for Python. Votes: votes.cpp.
#include "meshd_kernels.h"
#include "packed.h"

namespace {

using pack_slot = decltype(&stream_kernels::pack_signed);
using unpack_slot = decltype(&stream_kernels::unpack_signed);

template <pack_slot slot>
void pack(nb::handle x_arg, nb::handle beta_arg, nb::handle words_arg, nb::handle scales_arg) {
    const array<const float, 2> x(x_arg, "x");
    const array<uint64_t, 2> words(words_arg, "out_words");
    const array<float, 2> scales(scales_arg, "out_scales");
    const size_t rows = x.shape(0), k = x.shape(1), beta = segment_length(beta_arg, k, "beta");
    words.require_shape({rows, words_of(k)});
    scales.require_shape({rows, segments_of(k, beta)});
    const kernel_scope others_run;
    (meshd_kernels()->stream.*slot)(x.data(), rows, k, beta, words.data(), scales.data());
}

template <unpack_slot slot>
void unpack(nb::handle words, nb::handle scales, nb::handle beta, nb::handle k_arg,
            nb::handle out_arg) {
    const size_t k = bounded(k_arg, 0, largest_row, "k");
    const packed_argument m(words, "words", scales, "scales", beta, "beta", k);
    const array<float, 2> out(out_arg, "out");
    out.require_shape({m.matrix.rows, k});
    const kernel_scope others_run;
    (meshd_kernels()->stream.*slot)(&m.matrix, k, out.data());
}

void within(nb::handle x_arg, nb::handle cut_arg, nb::handle words_arg) {
    const array<const float, 2> x(x_arg, "x");
    const array<uint64_t, 2> words(words_arg, "out");
    const size_t rows = x.shape(0), k = x.shape(1);
    const float cut = (float)number(cut_arg, "cut");
    words.require_shape({rows, words_of(k)});
    const kernel_scope others_run;
    meshd_kernels()->stream.within(x.data(), rows, k, cut, words.data());
}

void segment_means(nb::handle x_arg, nb::handle beta_arg, nb::handle means_arg) {
    const array<const float, 2> x(x_arg, "x");
    const array<float, 2> means(means_arg, "out");
    const size_t rows = x.shape(0), k = x.shape(1), beta = segment_length(beta_arg, k, "beta");
    means.require_shape({rows, segments_of(k, beta)});
    const kernel_scope others_run;
    meshd_kernels()->stream.segment_means(x.data(), rows, k, beta, means.data());
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
    const kernel_scope others_run;
    meshd_kernels()->stream.carry_binarize(grad.data(), carried.data(), n, weight, gamma,
                                           bits.data(), means.data());
}

void carry_settle(nb::handle carried_arg, nb::handle bits_arg, nb::handle scale_arg,
                  nb::handle gamma_arg) {
    const array<float, 1> carried(carried_arg, "carried");
    const array<const uint64_t, 1> bits(bits_arg, "bits");
    const array<const float, 1> scale(scale_arg, "scale");
    const size_t n = carried.shape(0), gamma = segment_length(gamma_arg, n, "gamma");
    bits.require_shape({words_of(n)});
    scale.require_shape({segments_of(n, gamma)});
    const kernel_scope others_run;
    meshd_kernels()->stream.carry_settle(carried.data(), bits.data(), scale.data(), n, gamma);
}

void feedback_binarize(nb::handle grad_arg, nb::handle carried_arg, nb::handle weight_arg,
                       nb::handle scale_arg, nb::handle gamma_arg, nb::handle bits_arg,
                       nb::handle means_arg) {
    const array<const float, 1> grad(grad_arg, "grad");
    const array<float, 1> carried(carried_arg, "carried");
    const array<const float, 1> scale(scale_arg, "scale");
    const array<uint64_t, 1> bits(bits_arg, "out_bits");
    const array<float, 1> means(means_arg, "out_means");
    const size_t n = grad.shape(0), gamma = segment_length(gamma_arg, n, "gamma");
    const float weight = (float)number(weight_arg, "weight");
    carried.require_shape({n});
    scale.require_shape({segments_of(n, gamma)});
    bits.require_shape({words_of(n)});
    means.require_shape({segments_of(n, gamma)});
    const kernel_scope others_run;
    meshd_kernels()->stream.feedback_binarize(grad.data(), carried.data(), n, weight, gamma,
                                              scale.data(), bits.data(), means.data());
}

} // namespace

void bind_stream(nb::module_ &m) {
    def(m, "pack_signed", pack<&stream_kernels::pack_signed>);
    def(m, "pack_unipolar", pack<&stream_kernels::pack_unipolar>);
    def(m, "within", within);
    def(m, "segment_means", segment_means);
    def(m, "unpack_signed", unpack<&stream_kernels::unpack_signed>);
    def(m, "unpack_unipolar", unpack<&stream_kernels::unpack_unipolar>);
    def(m, "carry_binarize", carry_binarize);
    def(m, "carry_settle", carry_settle);
    def(m, "feedback_binarize", feedback_binarize);
}
