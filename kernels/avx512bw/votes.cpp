// Counts to gradients, and gradients to latents that are binarized in the same pass: one reading and
// one writing of latents and moments, sixteen elements at a time.
#include "stream.h"
#include "pack_row.h"
#include "scalar/votes.h"

namespace {

constexpr size_t elements_at_once = 1024; // 12 KiB of latents and moments

/* G of struct ring_votes, a word of elements after the other. Up to fifteen members have sixteen
 * ratios at most, which are computed once and looked up by count; the division is the same. */
template <bool few> class gradients {
  public:
    explicit gradients(const ring_votes *votes)
        : votes_(*votes), segment_end_(votes->gamma),
          voters_(_mm512_set1_epi32((int)votes->members)), scale_(_mm512_setzero_ps()), words_() {
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
        // Both are read before either is written: large arrays often begin at the same place of a
        // page, and a load waits for an earlier store whose address has the same low 12 bits.
        __m512 m = load(first + i, lanes), v = load(second + i, lanes);
        const __m512 square = _mm512_mul_ps(_mm512_mul_ps(g, g), add_2);
        m = _mm512_add_ps(_mm512_mul_ps(m, keep_1), _mm512_mul_ps(g, add_1));
        v = _mm512_add_ps(_mm512_mul_ps(v, keep_2), square);
        store(first + i, lanes, m);
        store(second + i, lanes, v);
        const __m512 root = _mm512_sqrt_ps(_mm512_mul_ps(v, second_scale));
        return _mm512_mul_ps(_mm512_div_ps(m, _mm512_add_ps(root, epsilon)), rate);
    }
};

// Calls body(i, at, lanes) for each group of elements first .. last-1, i+at the first of the group;
// gradient.begin(i, count) for each 64 of them.
template <bool few, class Body>
inline void each_word(size_t first, size_t last, gradients<few> &gradient, Body body) {
    size_t i = first;
    for (; i + 64 <= last; i += 64) {
        gradient.begin(i, 64);
        for (size_t at = 0; at < 64; at += width) body(i, at, width);
    }
    if (i == last) return;
    gradient.begin(i, last - i);
    for (size_t at = 0; at < last - i; at += width) body(i, at, smaller(width, last - i - at));
}

// Moves the latents of elements first .. last-1. A function of its own, whose copies of gradient and
// rule nobody else can point to, so that their constants stay in registers.
template <bool few, class Rule>
__attribute__((noinline)) void move_latents(gradients<few> *state, Rule rule,
                                            const latent_matrix *m, size_t first, size_t last) {
    gradients<few> gradient = *state;
    float *latents = m->latents;
    const __m512 cut = _mm512_set1_ps(m->cut), one = _mm512_set1_ps(1.0f);
    each_word(first, last, gradient, [&](size_t i, size_t at, size_t lanes) ALWAYS_INLINE {
        const __m512 old = load(latents + i + at, lanes);
        const __mmask16 passes = _mm512_cmp_ps_mask(_mm512_abs_ps(old), cut, _CMP_LE_OQ);
        const __m512 kept = _mm512_maskz_mov_ps(passes, one);
        const __m512 g = _mm512_mul_ps(gradient.group(i, at, lanes), kept);
        store(latents + i + at, lanes, _mm512_sub_ps(old, rule.move(i + at, lanes, g)));
    });
    *state = gradient;
}

// Columns first .. last-1 of `rows` rows from row r on are moved, then packed from the cache.
template <bool few, class Rule>
inline void move_and_pack(gradients<few> *gradient, const Rule &rule, const latent_matrix *m,
                          size_t r, size_t rows, size_t first, size_t last) {
    const size_t words = (m->k + 63) / 64, segments = (m->k + m->beta - 1) / m->beta;
    const size_t begin = r * m->k + first;
    move_latents(gradient, rule, m, begin, begin + (rows - 1) * m->k + last - first);
    meshd_pack_signed_f32_avx512bw(m->latents + begin, rows, last - first, m->beta,
                                   m->words + r * words + first / 64,
                                   m->scales + r * segments + first / m->beta);
}

/* What is moved and packed at once is a few short rows, or a piece of a long one where its segments
 * allow that: so small that the processor fetches the next ones meanwhile, and that a piece is in
 * the first level of cache when it is packed. */
template <bool few, class Rule>
void update(const ring_votes *votes, Rule rule, const latent_matrix *m) {
    const size_t k = m->k;
    gradients<few> gradient(votes);
    if (!m->words) return move_latents(&gradient, rule, m, 0, m->rows * k);
    if (k <= elements_at_once) {
        const size_t rows = elements_at_once / (k + 1) + 1; // k may be 0
        for (size_t r = 0; r < m->rows; r += rows)
            move_and_pack(&gradient, rule, m, r, smaller(rows, m->rows - r), 0, k);
        return;
    }
    const size_t whole = (elements_at_once + m->beta - 1) / m->beta * m->beta;
    const size_t piece = m->beta % 64 ? k : whole;
    for (size_t r = 0; r < m->rows; ++r)
        for (size_t first = 0; first < k; first += piece)
            move_and_pack(&gradient, rule, m, r, 1, first, smaller(first + piece, k));
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
    each_word(0, n, values, [&](size_t i, size_t at, size_t lanes) ALWAYS_INLINE {
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
