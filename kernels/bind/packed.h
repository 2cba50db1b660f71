/* A packed matrix from Python objects, and what every file of this folder registers. */
#ifndef MESHD_BIND_PACKED_H
#define MESHD_BIND_PACKED_H

#include "arguments.h"
#include "meshd_layout.h"

inline constexpr int64_t largest_row = INT32_MAX; // a dot product must fit an int32_t

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

// None is let through to the function, which refuses it by the argument's name like any other.
template <class Result, class... Handles>
inline void def(nb::module_ &m, const char *name, Result (*f)(Handles...)) {
    m.def(name, f, ((void)sizeof(Handles), nb::arg().none())...);
}

/* Each adds its part to the extension module. */
void bind_stream(nb::module_ &m);
void bind_votes(nb::module_ &m);
void bind_product(nb::module_ &m);
void bind_backward(nb::module_ &m);

#endif
