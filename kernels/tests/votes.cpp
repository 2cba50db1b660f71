// Votes to gradients and to latents: what stream_kernels does with counters.
#include "votes.h"

#include <math.h>

namespace selftest {

namespace {

constexpr size_t numbers_of_members[] = {1, 2, 3, 7, 8, 20, 255, 65535};

// Planes with counters of up to members; one trial of four has others, which must be refused. More
// words than a plane has lie behind each, full of what is nobody's vote.
struct ring {
    array<uint64_t> planes;
    array<float> scale;
    ring_votes votes;

    ring(trial &t, size_t n, size_t members, size_t gamma, size_t more_words)
        : planes(random_planes(t, n, members, more_words)),
          scale(t.magnitudes(segments_of(n, gamma))),
          votes{planes.data(), count_of(members), words_of(n) + more_words,
                members,       scale.data(),      gamma} {}

    static size_t count_of(size_t members) {
        size_t count = 0;
        while (members >> count) ++count;
        return count;
    }

    static array<uint64_t> random_planes(trial &t, size_t n, size_t members, size_t more_words) {
        const size_t count = count_of(members), stride = words_of(n) + more_words;
        const size_t most = t.below(4) ? members + 1 : 2 * members;
        array<uint64_t> planes = t.packed(count, 64 * stride);
        for (size_t i = 0; i < n; ++i) {
            const size_t votes = t.below(most);
            const uint64_t at = (uint64_t)1 << i % 64;
            for (size_t p = 0; p < count; ++p) {
                uint64_t &word = planes[p * stride + i / 64];
                word = votes >> p & 1 ? word | at : word & ~at;
            }
        }
        return planes;
    }
};

// What an update reads and writes, twice, from equal beginnings.
struct latents {
    array<float> x, first, second, scales;
    array<uint64_t> words;
    latent_matrix matrix;

    latents(trial &t, size_t rows, size_t k, size_t beta, bool binarized)
        : x(t.floats(rows * k)), first(t.floats(rows * k)), second(t.magnitudes(rows * k)),
          scales(t.output<float>(rows * segments_of(k, beta))),
          words(t.output<uint64_t>(rows * words_of(k))) {
        const float cuts[] = {0.5f, 1.0f, INFINITY};
        matrix = {nullptr, rows, k, cuts[t.below(3)], beta, nullptr, nullptr};
        point(binarized);
    }
    latents(const latents &from)
        : x(from.x), first(from.first), second(from.second), scales(from.scales),
          words(from.words), matrix(from.matrix) {
        point(from.matrix.words);
    }

    void point(bool binarized) {
        matrix.latents = x.data();
        matrix.words = binarized ? words.data() : nullptr;
        matrix.scales = binarized ? scales.data() : nullptr;
    }
};

void same(trial &t, const latents &got, const latents &wanted) {
    t.same("latents", got.x, wanted.x);
    t.same("first", got.first, wanted.first);
    t.same("second", got.second, wanted.second);
    t.same("words", got.words, wanted.words);
    t.same("scales", got.scales, wanted.scales);
}

// update(table, votes, latents) for many shapes.
template <class Update> void each_update(trial &t, Update update) {
    size_t turn = 0;
    for (size_t k : sizes)
        each_beta(k, [&](size_t beta) {
            const size_t rows = turn % 4, n = rows * k, members = numbers_of_members[turn % 8];
            const size_t gammas[] = {1, 5, 64, 100, 256, n}, gamma = gammas[turn % 6];
            const size_t cut = gamma < 1 ? 1 : gamma > n && n ? n : gamma;
            const bool binarized = turn % 5 != 0;
            t.begin("rows=%zu k=%zu beta=%zu members=%zu gamma=%zu binarized=%d", rows, k, beta,
                    members, cut, (int)binarized);
            const ring r(t, n, members, cut, turn % 3);
            latents got(t, rows, k, beta, binarized), wanted(got);
            t.same("status", update(t.tested, r.votes, got), update(t.scalar, r.votes, wanted));
            same(t, got, wanted);
            ++turn;
        });
}

} // namespace

void apply_votes(trial &t) {
    for (size_t n : sizes)
        for (size_t members : numbers_of_members)
            each_beta(n, [&](size_t gamma) {
                t.begin("n=%zu members=%zu gamma=%zu", n, members, gamma);
                const ring r(t, n, members, gamma, 0);
                array<float> got = t.output<float>(n), wanted = got;
                const ring_votes &v = r.votes;
                t.same("status",
                       t.tested.stream.apply_votes(v.planes, v.count, members, v.scale, n, gamma,
                                                   got.data()),
                       t.scalar.stream.apply_votes(v.planes, v.count, members, v.scale, n, gamma,
                                                   wanted.data()));
                t.same("out", got, wanted);
            });
}

void votes_sgd(trial &t) {
    const sgd_step step = {0.9f, 0.05f};
    each_update(t, [&](const kernel_table &table, const ring_votes &votes, latents &l) {
        return table.stream.votes_sgd(&votes, &step, l.first.data(), &l.matrix);
    });
}

void votes_adam(trial &t) {
    const adam_step step = {0.9f, 0.1f, 0.999f, 0.001f, 1.7f, 1e-8f, 0.01f};
    each_update(t, [&](const kernel_table &table, const ring_votes &votes, latents &l) {
        return table.stream.votes_adam(&votes, &step, l.first.data(), l.second.data(), &l.matrix);
    });
}

} // namespace selftest
