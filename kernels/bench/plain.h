/* Plain loops, written once for vectors of any width. Law: included by the file of each set, all in
 * an anonymous namespace, so that no set's code can stand in for another's.
 *
 * CMMA is what the seed measured its kernels against: a float matrix product in plain C loops. The
 * seed gives no listing; this one is the three loops in the order that lets the inner one run along
 * rows of both B and C,
 *     for i < m, for k' < k, for j < n:   c[i][j] += a[i][k'] * b[k'][j],
 * the inner loop in vectors of the same width as our kernels', with fused multiply-add where the set
 * has it. Nothing more: no blocking, no packing, no tiles held in registers. */
#ifndef MESHD_BENCH_PLAIN_H
#define MESHD_BENCH_PLAIN_H

#include <stddef.h>

namespace {

template <class V> inline V load(const float *from) {
    V v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
}

template <class V> inline void store(float *to, V v) { __builtin_memcpy(to, &v, sizeof v); }

// y[i] += x[i] * factor; four vectors a turn hide the latency, and are still plain.
template <class V> void add_multiple(const float *x, float *y, float factor, size_t n) {
    constexpr size_t lanes = sizeof(V) / sizeof(float), turn = 4 * lanes;
    size_t i = 0;
    for (; i + turn <= n; i += turn) {
#pragma GCC unroll 4
        for (size_t u = 0; u < turn; u += lanes)
            store<V>(y + i + u, load<V>(y + i + u) + load<V>(x + i + u) * factor);
    }
    for (; i < n; ++i) y[i] += x[i] * factor;
}

template <class V>
void multiply(const float *a, const float *b, float *c, size_t m, size_t k, size_t n) {
    for (size_t i = 0; i < m; ++i) {
        for (size_t j = 0; j < n; ++j) c[i * n + j] = 0.0f;
        for (size_t kk = 0; kk < k; ++kk)
            add_multiple<V>(b + kk * n, c + i * n, a[i * k + kk], n);
    }
}

// Memory is read in four places at once: a processor fetches ahead within a page, and waits at its end.
template <class V> float read(const float *x, size_t n) {
    constexpr size_t lanes = sizeof(V) / sizeof(float);
    const size_t part = n / 4;
    V s0 = {}, s1 = {}, s2 = {}, s3 = {};
    size_t i = 0;
    for (; i + lanes <= part; i += lanes) {
        s0 += load<V>(x + i);
        s1 += load<V>(x + part + i);
        s2 += load<V>(x + 2 * part + i);
        s3 += load<V>(x + 3 * part + i);
    }
    s0 += s1 + s2 + s3;
    float sum = 0.0f;
    for (size_t j = 0; j < lanes; ++j) sum += s0[j];
    for (; i < part; ++i) sum += x[i] + x[part + i] + x[2 * part + i] + x[3 * part + i];
    for (i = 4 * part; i < n; ++i) sum += x[i];
    return sum;
}

// In two places at once, for the same reason.
template <class V> void rescale(float *y, float factor, size_t n) {
    constexpr size_t lanes = sizeof(V) / sizeof(float), turn = 2 * lanes;
    const size_t half = n / 2 / turn * turn;
    for (size_t i = 0; i < half; i += turn) {
        for (size_t u = 0; u < turn; u += lanes)
            store<V>(y + i + u, load<V>(y + i + u) * factor);
        for (size_t u = half; u < half + turn; u += lanes)
            store<V>(y + i + u, load<V>(y + i + u) * factor);
    }
    for (size_t i = 2 * half; i < n; ++i) y[i] *= factor;
}

// Each of the two places is two streams.
template <class V> void update(const float *x, float *y, float factor, size_t n) {
    constexpr size_t lanes = sizeof(V) / sizeof(float), turn = 2 * lanes;
    const size_t half = n / 2 / turn * turn;
    for (size_t i = 0; i < half; i += turn) {
        for (size_t u = 0; u < turn; u += lanes)
            store<V>(y + i + u, load<V>(y + i + u) + load<V>(x + i + u) * factor);
        for (size_t u = half; u < half + turn; u += lanes)
            store<V>(y + i + u, load<V>(y + i + u) + load<V>(x + i + u) * factor);
    }
    add_multiple<V>(x + 2 * half, y + 2 * half, factor, n - 2 * half);
}

} // namespace

#endif
