// Counts to gradients, and gradients to latents that are binarized in the same pass: one reading and
// one writing of latents and moments, eight elements at a time.
#include "stream.h"
#include "pack_row.h"
#include "scalar/votes.h"

namespace {

// G of struct ring_votes, group after group, from the first element to the last.
class gradients {
  public:
    explicit gradients(const ring_votes *votes)
        : votes_(*votes), voters_(_mm256_set1_epi32((int)votes->members)),
          divisor_(_mm256_cvtepi32_ps(voters_)), segment_end_(votes->gamma) {}

    __m256 take(size_t i, size_t lanes) {
        const __m256i count = counts(i, lanes);
        const __m256i balance = _mm256_sub_epi32(_mm256_add_epi32(count, count), voters_);
        const __m256 ratio = _mm256_div_ps(_mm256_cvtepi32_ps(balance), divisor_);
        return _mm256_mul_ps(scales(i, lanes), ratio);
    }

  private:
    __m256i counts(size_t i, size_t lanes) const {
        __m256i count = _mm256_setzero_si256();
        for (size_t p = 0; p < votes_.count; ++p) {
            const __m256i set = lanes_of(bits_at(votes_.planes + p * votes_.stride, i, lanes));
            count = _mm256_or_si256(count, _mm256_and_si256(set, _mm256_set1_epi32(1 << p)));
        }
        return count;
    }

    // A group may reach over the end of a segment, or of several.
    __m256 scales(size_t i, size_t lanes) {
        while (i >= segment_end_) next_segment();
        __m256 scale = _mm256_set1_ps(*votes_.scale);
        while (i + lanes > segment_end_) {
            const __m256 before = _mm256_castsi256_ps(first_lanes(segment_end_ - i));
            next_segment();
            scale = _mm256_blendv_ps(_mm256_set1_ps(*votes_.scale), scale, before);
        }
        return scale;
    }

    void next_segment() {
        ++votes_.scale;
        segment_end_ += votes_.gamma;
    }

    ring_votes votes_; // .scale: that of the segment that ends at segment_end_
    __m256i voters_;
    __m256 divisor_;
    size_t segment_end_;
};

struct sgd {
    __m256 momentum, rate;
    float *velocity;

    explicit sgd(const sgd_step *step, float *v)
        : momentum(_mm256_set1_ps(step->momentum)), rate(_mm256_set1_ps(step->rate)),
          velocity(v) {}

    // What is subtracted from the latents i .. i+lanes-1.
    __m256 move(size_t i, size_t lanes, __m256 g) const {
        const __m256 v =
            _mm256_add_ps(_mm256_mul_ps(load(velocity + i, lanes), momentum), g);
        store(velocity + i, lanes, v);
        return _mm256_mul_ps(v, rate);
    }
};

struct adam {
    __m256 keep_1, add_1, keep_2, add_2, second_scale, epsilon, rate;
    float *first, *second;

    explicit adam(const adam_step *step, float *m, float *v)
        : keep_1(_mm256_set1_ps(step->keep_1)), add_1(_mm256_set1_ps(step->add_1)),
          keep_2(_mm256_set1_ps(step->keep_2)), add_2(_mm256_set1_ps(step->add_2)),
          second_scale(_mm256_set1_ps(step->second_scale)),
          epsilon(_mm256_set1_ps(step->epsilon)), rate(_mm256_set1_ps(step->rate)), first(m),
          second(v) {}

    __m256 move(size_t i, size_t lanes, __m256 g) const {
        const __m256 m = _mm256_add_ps(_mm256_mul_ps(load(first + i, lanes), keep_1),
                                       _mm256_mul_ps(g, add_1));
        store(first + i, lanes, m);
        const __m256 square = _mm256_mul_ps(_mm256_mul_ps(g, g), add_2);
        const __m256 v = _mm256_add_ps(_mm256_mul_ps(load(second + i, lanes), keep_2), square);
        store(second + i, lanes, v);
        const __m256 root = _mm256_sqrt_ps(_mm256_mul_ps(v, second_scale));
        return _mm256_mul_ps(_mm256_div_ps(m, _mm256_add_ps(root, epsilon)), rate);
    }
};

template <class Rule> int update(const ring_votes *votes, Rule rule, const latent_matrix *m) {
    const size_t k = m->k, n = m->rows * k;
    if (some_count_is_larger(votes, n)) return MESHD_OVERFLOW;
    gradients gradient(votes);
    const __m256 cut = _mm256_set1_ps(m->cut), one = _mm256_set1_ps(1.0f);
    float *latents = m->latents;
    auto moved = [&](size_t i, size_t lanes) {
        const __m256 old = load(latents + i, lanes);
        const __m256 passes = _mm256_cmp_ps(magnitude(old), cut, _CMP_LE_OQ);
        const __m256 g = _mm256_mul_ps(gradient.take(i, lanes), _mm256_and_ps(passes, one));
        const __m256 x = _mm256_sub_ps(old, rule.move(i, lanes, g));
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

extern "C" int meshd_apply_votes_f32_avx2(const uint64_t *planes, size_t count, size_t members,
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

extern "C" int meshd_votes_sgd_f32_avx2(const ring_votes *votes, const sgd_step *step,
                                            float *velocity, const latent_matrix *m) {
    return update(votes, sgd(step, velocity), m);
}

extern "C" int meshd_votes_adam_f32_avx2(const ring_votes *votes, const adam_step *step,
                                             float *first, float *second,
                                             const latent_matrix *m) {
    return update(votes, adam(step, first, second), m);
}
