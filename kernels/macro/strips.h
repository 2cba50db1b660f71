/* How the backward products are cut: strips of columns, blocks of rows, scratch memory.
 * Law: nothing here knows an instruction set; a task owns its scratch and its rows of out. */
#ifndef MESHD_MACRO_STRIPS_H
#define MESHD_MACRO_STRIPS_H

#include <atomic>
#include <new>
#include <utility>
#include <vector>

#include "meshd_backward.h"

namespace meshd {

inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }
inline size_t ceiling(size_t n, size_t step) { return n / step + (n % step != 0); }

/* An array of floats, integers, ..., uninitialized, aligned to 64 bytes. Throws std::bad_alloc. */
template <class T> class scratch {
  public:
    explicit scratch(size_t n)
        : data_(static_cast<T *>(::operator new((n ? n : 1) * sizeof(T), std::align_val_t(64)))) {}
    ~scratch() { ::operator delete(data_, std::align_val_t(64)); }
    scratch(scratch &&other) : data_(std::exchange(other.data_, nullptr)) {}
    scratch(const scratch &) = delete;
    scratch &operator=(const scratch &) = delete;
    T *data() const { return data_; }

  private:
    T *data_;
};

/* Columns begin .. begin + lanes - 1 of one segment, at most MESHD_STRIP of them. */
struct strip {
    size_t segment, begin, lanes;
    size_t panels() const { return ceiling(lanes, MESHD_PANEL); }
};

/* All strips of rows of k elements in segments of beta, in order. */
std::vector<strip> cut(size_t k, size_t beta);

/* Bits begin .. begin + lanes - 1 of a packed row of `words` words, lanes <= 64; zero above. */
uint64_t window(const uint64_t *row, size_t words, size_t begin, size_t lanes);

/* The windows of all panels of a strip, or ones where there is no row. */
void windows(const uint64_t *row, size_t words, const strip &of, uint64_t *to);

/* Windows of panel `panel` of a strip, rows first, first + step, ... (count of them) of b; zero for
 * rows that b does not have. */
void windows_down(const packed_matrix &b, size_t k, const strip &of, size_t panel, size_t first,
                  size_t step, size_t count, uint64_t *to);

/* to (columns, rows) = transpose of from (rows, columns), whose rows are so many floats apart. */
void transpose(const float *from, size_t rows, size_t columns, size_t from_stride, float *to,
               size_t to_stride);

/* How many rows of G a task takes, a multiple of `unit`: few for even loads, but a transposed copy
 * reads whole cache lines only if it takes many. */
size_t rows_of_task(const backward_operands &x, size_t unit);

/* Some rows of G, contiguous along c: where they lie, or a transposed copy. */
class row_block {
  public:
    row_block(const backward_operands &x, size_t first, size_t count);
    const float *row(size_t r) const { return data_ + (r - first_) * stride_; }

  private:
    size_t first_, stride_;
    scratch<float> copy_;
    const float *data_;
};

/* Whether out is better stored past the caches: it would push everything else out of them. */
bool stores_past_caches(const backward_operands &x);

/* Stores past the caches are ordered like no others: this ends them before a task ends. */
inline void end_of_stores() { std::atomic_thread_fence(std::memory_order_seq_cst); }

/* One index array for each strip, (words, panels * 64) of T. */
template <class T> class strip_index {
  public:
    strip_index(const std::vector<strip> &strips, size_t words)
        : words_(words), begin_(begins(strips, words)), data_(begin_.back()) {}
    size_t words() const { return words_; }
    T *of(size_t i) const { return data_.data() + begin_[i]; }

  private:
    static std::vector<size_t> begins(const std::vector<strip> &strips, size_t words) {
        std::vector<size_t> begin(1, 0);
        for (const strip &s : strips)
            begin.push_back(begin.back() + words * s.panels() * MESHD_PANEL);
        return begin;
    }
    size_t words_;
    std::vector<size_t> begin_;
    scratch<T> data_;
};

/* What all tasks of one backward product read: alpha (segments, C), the strips and their index. */
template <class T> struct backward_plan {
    const backward_operands &x;
    const size_t reduced, row_words; /* C; words of a row of k elements */
    const std::vector<strip> strips;
    const scratch<float> alpha;
    const strip_index<T> index;
    const bool past_caches; /* out is too large to stay in a cache, and all strips are aligned */

    backward_plan(const backward_operands &of, size_t index_words)
        : x(of), reduced(of.b.rows), row_words(ceiling(of.k, 64)), strips(cut(of.k, of.b.beta)),
          alpha(reduced * ceiling(of.k, of.b.beta)), index(strips, index_words),
          past_caches(stores_past_caches(of)) {
        const size_t segments = ceiling(of.k, of.b.beta);
        transpose(of.b.scales, reduced, segments, segments, alpha.data(), reduced);
    }
    const float *alpha_of(size_t segment) const { return alpha.data() + segment * reduced; }
    void keep_of(size_t row, const strip &s, uint64_t *to) const {
        windows(x.keep ? x.keep + row * row_words : nullptr, row_words, s, to);
    }
    float *out_of(size_t row, const strip &s) const { return x.out + row * x.k + s.begin; }
};

/* Calls body(task) for each task < tasks on up to `threads` threads. MESHD_NO_MEMORY when one of
 * them threw std::bad_alloc. */
template <class Body> int each_task(size_t tasks, size_t threads, Body body);

} // namespace meshd

#include "tasks.h"

#endif
