/* Arrays of exactly the size that a kernel was promised, so that one byte too far is an error:
 *   heap    one allocation each: what the address sanitizer guards on both sides
 *   end     the last byte is the last one before a page without access
 *   begin   the first byte is the first one behind a page without access */
#ifndef MESHD_TESTS_MEMORY_H
#define MESHD_TESTS_MEMORY_H

#include <stddef.h>

#include <utility>

namespace selftest {

enum class placement { heap, end, begin };

const char *name_of(placement where);

// Uninitialized bytes, given back by release(); at the end of a page they are aligned as far as their
// number is. Ends the process when there is no memory.
void *acquire(size_t bytes, size_t alignment, placement where);
void release(void *memory, size_t bytes, placement where);

// Of trivial elements, whose value at first is arbitrary.
template <class T> class array {
  public:
    array(size_t size, placement where)
        : size_(size), where_(where), data_((T *)acquire(size * sizeof(T), alignof(T), where)) {}
    array(const array &from) : array(from.size_, from.where_) {
        for (size_t i = 0; i < size_; ++i) data_[i] = from.data_[i];
    }
    array(array &&from) noexcept
        : size_(std::exchange(from.size_, 0)), where_(from.where_),
          data_(std::exchange(from.data_, nullptr)) {}
    array &operator=(const array &) = delete;
    ~array() {
        if (data_) release(data_, size_ * sizeof(T), where_);
    }

    T *data() { return data_; }
    const T *data() const { return data_; }
    size_t size() const { return size_; }
    T &operator[](size_t i) { return data_[i]; }
    const T &operator[](size_t i) const { return data_[i]; }

  private:
    size_t size_;
    placement where_;
    T *data_;
};

} // namespace selftest

#endif
