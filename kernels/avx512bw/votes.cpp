// Counts to gradients, and gradients to latents that are binarized in the same pass: one reading and
// one writing of latents and moments, sixteen elements at a time.
#include "stream.h"
#include "pack_row.h"
#include "scalar/votes.h"

namespace {

/* G of struct ring_votes, a word of elements after the other. Up to fifteen members have sixteen
 * ratios at most, which are computed once and looked up by count; the division is the same. */
template <bool few> class gradients {
  public:
    explicit gradients(const ring_votes *votes)
        : votes_(*votes), segment_end_(votes->gamma),
          voters_(_mm512_set1_epi32((int)votes->members)), words_() {
        const __m512i lanes =
            _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        table_ = ratio(lanes);
    }

    // Elements i .. i+count-1 come next, count <= 64.
    ALWAYS_INLINE void begin(size_t i, size_t count) {
        const size_t shift = i % 64;
        for (size_t p = 0; p < (few ? 4 : votes_.count); ++p) {
            if (few && p >= votes_.count) break;
            const uint64_t *at = votes_.planes + p * votes_.stride + i / 64;
            words_[p] = at[0] >> shift;
            if (shift + count > 64) words_[p] |= at[1] << (64 - shift);
        }
        while (i >= segment_end_) next_segment();
        scale_ = _mm512_set1_ps(*votes_.scale);
        one_segment_ = i + count <= segment_end_;
    }

    // The gradients of elements i+at .. i+at+lanes-1 of them, in order.
    ALWAYS_INLINE __m512 group(size_t i, size_t at, size_t lanes) {
        __m512i count = _mm512_setzero_si512();
        for (size_t p = 0; p < (few ? 4 : votes_.count); ++p) {
            const __m512i weight = _mm512_set1_epi32(1 << p);
            count = _mm512_mask_or_epi32(count, (__mmask16)(words_[p] >> at), count, weight);
        }
        if (!one_segment_) find_scales(i + at, lanes);
        return _mm512_mul_ps(scale_, few ? _mm512_permutexvar_ps(count, table_) : ratio(count));
    }

  private:
    __m512 ratio(__m512i count) const {
        const __m512i balance = _mm512_sub_epi32(_mm512_add_epi32(count, count), voters_);
        return _mm512_div_ps(_mm512_cvtepi32_ps(balance), _mm512_cvtepi32_ps(voters_));
    }

    // A group may reach over the end of a segment, or of several.
    void find_scales(size_t i, size_t lanes) {
        while (i >= segment_end_) next_segment();
        scale_ = _mm512_set1_ps(*votes_.scale);
        while (i + lanes > segment_end_) {
            const __mmask16 before = first_lanes(segment_end_ - i);
            next_segment();
            scale_ = _mm512_mask_mov_ps(_mm512_set1_ps(*votes_.scale), before, scale_);
        }
    }

    void next_segment() {
        ++votes_.scale;
        segment_end_ += votes_.gamma;
    }

    ring_votes votes_; // .scale: that of the segment that ends at segment_end_
    size_t segment_end_;
    bool one_segment_ = true; // that of scale_ holds all of the word
    __m512i voters_;
    __m512 scale_, table_;
    uint64_t words_[few ? 4 : 16]; // the elements' bits of each plane; no plane, no vote
};

struct sgd {
    __m512 momentum, rate;
    float *velocity;

    explicit sgd(const sgd_step *step, float *v)
        : momentum(_mm512_set1_ps(step->momentum)), rate(_mm512_set1_ps(step->rate)),
          velocity(v) {}

    // What is subtracted from the latents i .. i+lanes-1.
    ALWAYS_INLINE __m512 move(size_t i, size_t lanes, __m512 g) const {
        const __m512 v =
            _mm512_add_ps(_mm512_mul_ps(load(velocity + i, lanes), momentum), g);
        store(velocity + i, lanes, v);
        return _mm512_mul_ps(v, rate);
    }
};

struct adam {
    __m512 keep_1, add_1, keep_2, add_2, second_scale, epsilon, rate;
    float *first, *second;

    explicit adam(const adam_step *step, float *m, float *v)
        : keep_1(_mm512_set1_ps(step->keep_1)), add_1(_mm512_set1_ps(step->add_1)),
          keep_2(_mm512_set1_ps(step->keep_2)), add_2(_mm512_set1_ps(step->add_2)),
          second_scale(_mm512_set1_ps(step->second_scale)),
          epsilon(_mm512_set1_ps(step->epsilon)), rate(_mm512_set1_ps(step->rate)), first(m),
          second(v) {}

    ALWAYS_INLINE __m512 move(size_t i, size_t lanes, __m512 g) const {
        const __m512 m = _mm512_add_ps(_mm512_mul_ps(load(first + i, lanes), keep_1),
                                       _mm512_mul_ps(g, add_1));
        store(first + i, lanes, m);
        const __m512 square = _mm512_mul_ps(_mm512_mul_ps(g, g), add_2);
        const __m512 v = _mm512_add_ps(_mm512_mul_ps(load(second + i, lanes), keep_2), square);
        store(second + i, lanes, v);
        const __m512 root = _mm512_sqrt_ps(_mm512_mul_ps(v, second_scale));
        return _mm512_mul_ps(_mm512_div_ps(m, _mm512_add_ps(root, epsilon)), rate);
    }
};

/* The latents of one row, moved group by group. `begin_` is the row's first element of the slice. */
template <bool few, class Rule> struct moved_latents {
    gradients<few> gradient;
    Rule rule;
    float *latents;
    __m512 cut;
    size_t begin_ = 0;

    ALWAYS_INLINE void begin(size_t i, size_t count) { gradient.begin(begin_ + i, count); }

    ALWAYS_INLINE __m512 group(size_t i, size_t at, size_t lanes) {
        const size_t here = begin_ + i + at;
        const __m512 old = load(latents + here, lanes);
        const __mmask16 passes = _mm512_cmp_ps_mask(_mm512_abs_ps(old), cut, _CMP_LE_OQ);
        const __m512 kept = _mm512_maskz_mov_ps(passes, _mm512_set1_ps(1.0f));
        const __m512 g = _mm512_mul_ps(gradient.group(begin_ + i, at, lanes), kept);
        const __m512 x = _mm512_sub_ps(old, rule.move(here, lanes, g));
        store(latents + here, lanes, x);
        return first_of(lanes, x);
    }
};

// Calls body(i, at, lanes) for each group of n elements, after values.begin for each word.
template <class Values, class Body> inline void each_word(size_t n, Values &values, Body body) {
    size_t i = 0;
    for (; i + 64 <= n; i += 64) {
        values.begin(i, 64);
        for (size_t at = 0; at < 64; at += width) body(i, at, width);
    }
    if (i == n) return;
    values.begin(i, n - i);
    for (size_t at = 0; at < n - i; at += width) body(i, at, smaller(width, n - i - at));
}

template <bool few, class Rule>
void update(const ring_votes *votes, Rule rule, const latent_matrix *m) {
    const size_t k = m->k;
    moved_latents<few, Rule> values = {gradients<few>(votes), rule, m->latents,
                                       _mm512_set1_ps(m->cut)};
    if (!m->words) {
        each_word(m->rows * k, values, [&](size_t i, size_t at, size_t lanes) ALWAYS_INLINE {
            values.group(i, at, lanes);
        });
        return;
    }
    for (size_t r = 0; r < m->rows; ++r) {
        values.begin_ = r * k;
        pack_row<is_set_signed>(m->latents + r * k, k, m->beta, m->words + r * ((k + 63) / 64),
                                m->scales + r * ((k + m->beta - 1) / m->beta), values);
    }
}

template <class Rule> int checked_update(const ring_votes *votes, Rule rule, const latent_matrix *m) {
    if (some_count_is_larger(votes, m->rows * m->k)) return MESHD_OVERFLOW;
    if (votes->count <= 4)
        update<true>(votes, rule, m);
    else
        update<false>(votes, rule, m);
    return MESHD_OK;
}

template <bool few> void write_gradients(const ring_votes *votes, size_t n, float *out) {
    gradients<few> values(votes);
    each_word(n, values, [&](size_t i, size_t at, size_t lanes) ALWAYS_INLINE {
        store(out + i + at, lanes, values.group(i, at, lanes));
    });
}

} // namespace

extern "C" int meshd_apply_votes_f32_avx512bw(const uint64_t *planes, size_t count, size_t members,
                                              const float *scale, size_t n, size_t gamma,
                                              float *out) {
    const ring_votes votes = {planes, count, (n + 63) / 64, members, scale, gamma};
    if (some_count_is_larger(&votes, n)) return MESHD_OVERFLOW;
    if (count <= 4)
        write_gradients<true>(&votes, n, out);
    else
        write_gradients<false>(&votes, n, out);
    return MESHD_OK;
}

extern "C" int meshd_votes_sgd_f32_avx512bw(const ring_votes *votes, const sgd_step *step,
                                            float *velocity, const latent_matrix *m) {
    return checked_update(votes, sgd(step, velocity), m);
}

extern "C" int meshd_votes_adam_f32_avx512bw(const ring_votes *votes, const adam_step *step,
                                             float *first, float *second,
                                             const latent_matrix *m) {
    return checked_update(votes, adam(step, first, second), m);
}
