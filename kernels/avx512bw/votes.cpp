// Counts to gradients, and gradients to latents that are binarized in the same pass: one reading and
// one writing of latents and moments, sixteen elements at a time.
#include "stream.h"
#include "pack_row.h"
#include "scalar/votes.h"

namespace {

// G of struct ring_votes, group after group, from the first element to the last.
class gradients {
  public:
    explicit gradients(const ring_votes *votes)
        : votes_(*votes), voters_(_mm512_set1_epi32((int)votes->members)),
          divisor_(_mm512_cvtepi32_ps(voters_)), segment_end_(votes->gamma) {}

    __m512 take(size_t i, size_t lanes) {
        const __m512i count = counts(i, lanes);
        const __m512i balance = _mm512_sub_epi32(_mm512_add_epi32(count, count), voters_);
        const __m512 ratio = _mm512_div_ps(_mm512_cvtepi32_ps(balance), divisor_);
        return _mm512_mul_ps(scales(i, lanes), ratio);
    }

  private:
    __m512i counts(size_t i, size_t lanes) const {
        __m512i count = _mm512_setzero_si512();
        for (size_t p = 0; p < votes_.count; ++p) {
            const __mmask16 set = bits_at(votes_.planes + p * votes_.stride, i, lanes);
            count = _mm512_mask_or_epi32(count, set, count, _mm512_set1_epi32(1 << p));
        }
        return count;
    }

    // A group may reach over the end of a segment, or of several.
    __m512 scales(size_t i, size_t lanes) {
        while (i >= segment_end_) next_segment();
        __m512 scale = _mm512_set1_ps(*votes_.scale);
        while (i + lanes > segment_end_) {
            const __mmask16 before = first_lanes(segment_end_ - i);
            next_segment();
            scale = _mm512_mask_mov_ps(_mm512_set1_ps(*votes_.scale), before, scale);
        }
        return scale;
    }

    void next_segment() {
        ++votes_.scale;
        segment_end_ += votes_.gamma;
    }

    ring_votes votes_; // .scale: that of the segment that ends at segment_end_
    __m512i voters_;
    __m512 divisor_;
    size_t segment_end_;
};

struct sgd {
    __m512 momentum, rate;
    float *velocity;

    explicit sgd(const sgd_step *step, float *v)
        : momentum(_mm512_set1_ps(step->momentum)), rate(_mm512_set1_ps(step->rate)),
          velocity(v) {}

    // What is subtracted from the latents i .. i+lanes-1.
    __m512 move(size_t i, size_t lanes, __m512 g) const {
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

    __m512 move(size_t i, size_t lanes, __m512 g) const {
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

template <class Rule> int update(const ring_votes *votes, Rule rule, const latent_matrix *m) {
    const size_t k = m->k, n = m->rows * k;
    if (some_count_is_larger(votes, n)) return MESHD_OVERFLOW;
    gradients gradient(votes);
    const __m512 cut = _mm512_set1_ps(m->cut), one = _mm512_set1_ps(1.0f);
    float *latents = m->latents;
    auto moved = [&](size_t i, size_t lanes) {
        const __m512 old = load(latents + i, lanes);
        const __mmask16 passes = _mm512_cmp_ps_mask(_mm512_abs_ps(old), cut, _CMP_LE_OQ);
        const __m512 g =
            _mm512_mul_ps(gradient.take(i, lanes), _mm512_maskz_mov_ps(passes, one));
        const __m512 x = _mm512_sub_ps(old, rule.move(i, lanes, g));
        store(latents + i, lanes, x);
        return first_of(lanes, x);
    };
    if (!m->words) {
        each_group(n, n, [&](size_t i, size_t lanes, size_t) { moved(i, lanes); });
        return MESHD_OK;
    }
    for (size_t r = 0; r < m->rows; ++r)
        pack_row<is_set_signed>(
            latents + r * k, k, m->beta, m->words + r * ((k + 63) / 64),
            m->scales + r * ((k + m->beta - 1) / m->beta),
            [&](size_t i, size_t lanes) { return moved(r * k + i, lanes); });
    return MESHD_OK;
}

} // namespace

extern "C" int meshd_apply_votes_f32_avx512bw(const uint64_t *planes, size_t count, size_t members,
                                              const float *scale, size_t n, size_t gamma,
                                              float *out) {
    const ring_votes votes = {planes, count, (n + 63) / 64, members, scale, gamma};
    if (some_count_is_larger(&votes, n)) return MESHD_OVERFLOW;
    gradients gradient(&votes);
    each_group(n, n, [&](size_t i, size_t lanes, size_t) {
        store(out + i, lanes, gradient.take(i, lanes));
    });
    return MESHD_OK;
}

extern "C" int meshd_votes_sgd_f32_avx512bw(const ring_votes *votes, const sgd_step *step,
                                            float *velocity, const latent_matrix *m) {
    return update(votes, sgd(step, velocity), m);
}

extern "C" int meshd_votes_adam_f32_avx512bw(const ring_votes *votes, const adam_step *step,
                                             float *first, float *second,
                                             const latent_matrix *m) {
    return update(votes, adam(step, first, second), m);
}
