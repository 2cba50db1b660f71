/* From Python objects to pointers, with every assumption of the kernels checked on the way.
 * An error names the argument, what it is and what it must be: a wrong kind of object or dtype is a
 * TypeError, a wrong shape, order, alignment or value a ValueError. Nothing is ever converted. */
#ifndef MESHD_BIND_ARGUMENTS_H
#define MESHD_BIND_ARGUMENTS_H

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <initializer_list>
#include <string>
#include <type_traits>

namespace nb = nanobind;

[[noreturn]] inline void type_error(const std::string &text) { throw nb::type_error(text.c_str()); }
[[noreturn]] inline void value_error(const std::string &text) {
    throw nb::value_error(text.c_str());
}

using any_array = nb::ndarray<nb::ro>;

inline std::string shape_text(std::initializer_list<size_t> shape) {
    std::string text = "(";
    for (size_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
    return text + (shape.size() == 1 ? ",)" : ")");
}

/* numpy's name of a dtype: float64, uint8, ... */
inline std::string dtype_text(nb::dlpack::dtype type) {
    static const char *const kinds[] = {"int",    "uint",    "float", "opaque",
                                        "bfloat", "complex", "bool"};
    const std::string kind = type.code < 7 ? kinds[type.code] : "dtype";
    return kind == "bool" ? kind : kind + std::to_string(type.bits);
}

inline bool is_c_contiguous(const any_array &a) {
    int64_t expected = 1;
    for (size_t i = a.ndim(); i-- > 0;) {
        if (a.shape(i) != 1 && a.stride(i) != expected) return false;
        expected *= (int64_t)a.shape(i);
    }
    return true;
}

/* Says why `h` is not the dense CPU array that was asked for. */
[[noreturn]] inline void refuse(nb::handle h, const std::string &name, nb::dlpack::dtype wanted,
                                size_t ndim) {
    const std::string what = "a dense " + dtype_text(wanted) + " array of " +
                             std::to_string(ndim) + (ndim == 1 ? " dimension" : " dimensions");
    any_array a;
    if (!nb::try_cast(h, a, false))
        type_error(name + ": expected " + what + ", got " + nb::type_name(h.type()).c_str());
    if (a.dtype() != wanted)
        type_error(name + ": expected " + what + ", got " + dtype_text(a.dtype()));
    if (a.device_type() != nb::device::cpu::value)
        value_error(name + ": must be in the CPU's memory: copy it there first");
    if (a.ndim() != ndim)
        value_error(name + ": expected " + what + ", got " + std::to_string(a.ndim()));
    if (!is_c_contiguous(a))
        value_error(name + ": is not C-contiguous: pass numpy.ascontiguousarray of it");
    value_error(name + ": is read-only, and is to be written: pass a writable copy");
}

/* A dense CPU array of N dimensions, 1, 2 or 4; const T for arguments that are only read. */
template <class T, size_t N> class array {
  public:
    array(nb::handle h, const char *name) : name_(name) {
        if (!nb::try_cast(h, held_, false))
            refuse(h, name_, nb::dtype<std::remove_const_t<T>>(), N);
        if (reinterpret_cast<uintptr_t>(data()) % alignof(T) != 0)
            value_error(name_ + ": is not aligned to its element type: pass a copy");
    }

    T *data() const { return held_.data(); }
    size_t shape(size_t i) const { return held_.shape(i); }

    void require_shape(std::initializer_list<size_t> wanted) const {
        size_t i = 0;
        bool same = true;
        for (size_t n : wanted) same = same && held_.shape(i++) == n;
        if (same) return;
        const auto got = [&](auto... axis) { return shape_text({shape(axis)...}); };
        const std::string text = name_ + ": expected shape " + shape_text(wanted) + ", got ";
        if constexpr (N == 1)
            value_error(text + got(0));
        else if constexpr (N == 2)
            value_error(text + got(0, 1));
        else
            value_error(text + got(0, 1, 2, 3));
    }

  private:
    std::string name_;
    nb::ndarray<T, nb::ndim<N>, nb::c_contig, nb::device::cpu> held_;
};

/* A CPU matrix whose rows are dense but may lie apart, in ascending order: columns of a wider one. */
template <class T> class rows_apart {
  public:
    rows_apart(nb::handle h, const char *name) : name_(name) {
        if (!nb::try_cast(h, held_, false))
            refuse(h, name_, nb::dtype<std::remove_const_t<T>>(), 2);
        if (reinterpret_cast<uintptr_t>(data()) % alignof(T) != 0)
            value_error(name_ + ": is not aligned to its element type: pass a copy");
        const bool dense = held_.shape(1) < 2 || held_.stride(1) == 1;
        const bool ascending = held_.shape(0) < 2 || held_.stride(0) >= (int64_t)held_.shape(1);
        if (!dense || !ascending)
            value_error(name_ + ": is not C-contiguous within its rows, or these overlap or descend: "
                                "pass a copy");
    }

    T *data() const { return held_.data(); }
    size_t stride() const { return held_.shape(0) < 2 ? 0 : (size_t)held_.stride(0); }

    void require_shape(size_t rows, size_t columns) const {
        if (held_.shape(0) != rows || held_.shape(1) != columns)
            value_error(name_ + ": expected shape " + shape_text({rows, columns}) + ", got " +
                        shape_text({held_.shape(0), held_.shape(1)}));
    }

  private:
    std::string name_;
    nb::ndarray<T, nb::ndim<2>, nb::device::cpu> held_;
};

inline size_t words_of(size_t n) { return (n + 63) / 64; }
inline size_t segments_of(size_t k, size_t beta) { return k / beta + (k % beta != 0); }

inline int64_t integer(nb::handle h, const std::string &name) {
    int64_t value;
    if (!nb::try_cast(h, value))
        type_error(name + ": expected an integer of 64 bits, got " +
                   nb::type_name(h.type()).c_str());
    return value;
}

inline double number(nb::handle h, const std::string &name) {
    double value;
    if (!nb::try_cast(h, value))
        type_error(name + ": expected a number, got " + nb::type_name(h.type()).c_str());
    return value;
}

/* An integer argument within bounds. */
inline size_t bounded(nb::handle h, int64_t low, int64_t high, const std::string &name) {
    const int64_t value = integer(h, name);
    if (value < low || value > high)
        value_error(name + ": must be " + std::to_string(low) + " to " + std::to_string(high) +
                    ", got " + std::to_string(value));
    return (size_t)value;
}

/* A segment length for rows of k elements: any that is longer than the row means the whole row. */
inline size_t segment_length(nb::handle h, size_t k, const std::string &name) {
    const int64_t beta = integer(h, name);
    if (beta < 1) value_error(name + ": must be at least 1, got " + std::to_string(beta));
    const size_t whole = k > 0 ? k : 1;
    return (size_t)beta < whole ? (size_t)beta : whole;
}

#endif
