/* A packed matrix from Python objects, and what every file of this folder registers. */
#ifndef MESHD_BIND_PACKED_H
#define MESHD_BIND_PACKED_H

#include "arguments.h"
#include "meshd_kernels.h"

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

// One cut into segments must refine the other, or a scale would belong to a part of a dot product.
inline void require_nested(size_t beta_a, size_t beta_w, size_t k) {
    const size_t fine = beta_a < beta_w ? beta_a : beta_w;
    const size_t coarse = beta_a < beta_w ? beta_w : beta_a;
    if (coarse % fine == 0 || coarse >= k) return;
    value_error("beta_a, beta_w: one must divide the other or be at least k = " +
                std::to_string(k) + ", got " + std::to_string(beta_a) + " and " +
                std::to_string(beta_w));
}

/* While a kernel runs: other Python threads may, and floats are IEEE's. A caller may have told the
 * processor to flush subnormal numbers to zero (torch.set_flush_denormal, code built with -ffast-math);
 * then its results would differ from those of the pool's threads, and of other machines. */
class kernel_scope {
  public:
    kernel_scope() : before_(control()) { set_control(standard); }
    ~kernel_scope() { set_control(before_); }
    kernel_scope(const kernel_scope &) = delete;
    kernel_scope &operator=(const kernel_scope &) = delete;

  private:
#if defined(__x86_64__)
    using word = unsigned;
    static constexpr word standard = 0x1f80; // MXCSR at reset: all masked, to nearest, no flushing
    static word control() { return __builtin_ia32_stmxcsr(); }
    static void set_control(word w) { __builtin_ia32_ldmxcsr(w); }
#elif defined(__aarch64__)
    using word = uint64_t;
    static constexpr word standard = 0; // FPCR at reset
    static word control() {
        word w;
        asm volatile("mrs %0, fpcr" : "=r"(w));
        return w;
    }
    static void set_control(word w) { asm volatile("msr fpcr, %0" : : "r"(w)); }
#else
    using word = int;
    static constexpr word standard = 0;
    static word control() { return 0; }
    static void set_control(word) {}
#endif
    nb::gil_scoped_release others_run_;
    word before_;
};

inline size_t thread_count(nb::handle threads) { return bounded(threads, 1, 1024, "threads"); }

inline void require_aligned(const array<uint32_t, 1> &panels) {
    constexpr size_t alignment = 64;
    const bool aligned = reinterpret_cast<uintptr_t>(panels.data()) % alignment == 0;
    if (panels.shape(0) && !aligned)
        value_error("panels: must be aligned to " + std::to_string(alignment) + " bytes");
}

/* The set in use is asked for once a call: another thread may choose another one meanwhile. Panels that
 * were laid out for one set are read by no other. */
inline void require_set(const kernel_table *kernels, nb::handle panels_isa) {
    nb::str name;
    if (!nb::try_cast(panels_isa, name)) type_error("panels: their instruction set is not a name");
    if (kernels->isa == std::string(name.c_str())) return;
    value_error("panels: were prepared for " + std::string(name.c_str()) + ", and " +
                kernels->isa + " is in use: prepare again");
}

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
void bind_conv(nb::module_ &m);

#endif
