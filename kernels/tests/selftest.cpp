// The kernels' own test program: no Python, so that it runs under emulators of other processors and
// under sanitizers. Law: for every slot of the table, each set that runs here gives the bits of the
// scalar set, and touches nothing but its arrays.
//
//     meshd_selftest [--seed N] [--isa NAME] [--arrays heap|pages] [--spoil SLOT] [--fault NAME]
//
// Prints `isa NAME: N checks, digest D` for each set, fastest first: equal seeds give equal digests
// on every set and machine. Status 0, or 1 and a line that names set, kernel, shape and seed, or
// 128 + the number of the signal that a kernel ended with; 2 for wrong arguments. To show that the
// program sees what it looks for, --spoil falsifies what a slot wrote and --fault misbehaves itself.
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "trial.h"

using namespace selftest;

namespace {

struct options {
    uint64_t seed = 1;
    const char *isa = nullptr, *spoil = nullptr, *fault = nullptr;
    bool pages = false;
};

[[noreturn]] void refuse(const char *what, const char *value) {
    fprintf(stderr, "meshd_selftest: %s: %s\n", what, value);
    exit(2);
}

options parse(int count, char **words) {
    options o;
    for (int i = 1; i < count; i += 2) {
        const char *name = words[i], *value = i + 1 < count ? words[i + 1] : nullptr;
        if (!value) refuse("no value", name);
        if (!strcmp(name, "--seed"))
            o.seed = strtoull(value, nullptr, 10);
        else if (!strcmp(name, "--isa"))
            o.isa = value;
        else if (!strcmp(name, "--spoil"))
            o.spoil = value;
        else if (!strcmp(name, "--fault"))
            o.fault = value;
        else if (!strcmp(name, "--arrays") && (!strcmp(value, "pages") || !strcmp(value, "heap")))
            o.pages = !strcmp(value, "pages");
        else
            refuse("unknown", name);
    }
    return o;
}

#ifndef __SANITIZE_ADDRESS__ // whose own report says more
// Only what is allowed in a signal handler.
void crashed(int signal) {
    static const char text[] = ": ended by a signal\n";
    if (write(STDOUT_FILENO, running, strlen(running)) < 0 ||
        write(STDOUT_FILENO, text, sizeof text - 1) < 0)
        _exit(2);
    _exit(128 + signal);
}
#endif

// What guard pages, the address sanitizer and the undefined-behaviour sanitizer must see, and an
// instruction that not every processor has.
int misbehave(const char *fault, bool pages) {
    volatile int largest = INT_MAX;
    const array<char> a(3, pages ? placement::end : placement::heap);
    const array<char> b(3, pages ? placement::begin : placement::heap);
    if (!strcmp(fault, "behind")) return ((const volatile char *)a.data())[3];
    if (!strcmp(fault, "before")) return ((const volatile char *)b.data())[-1];
    if (!strcmp(fault, "overflow")) return largest + 1;
#if defined(__x86_64__)
    if (!strcmp(fault, "popcnt")) {
        asm volatile("popcnt %%eax, %%eax" ::: "eax");
        return 0;
    }
    if (!strcmp(fault, "avx2")) {
        asm volatile("vpaddd %%ymm0, %%ymm0, %%ymm0" ::: "xmm0");
        return 0;
    }
    if (!strcmp(fault, "avx512")) {
        asm volatile("vpaddd %%zmm0, %%zmm0, %%zmm0" ::: "xmm0");
        return 0;
    }
#endif
    refuse("unknown fault", fault);
}

static_assert(sizeof(kernel_table) == sizeof(const char *) + sizeof(stream_kernels) +
                                          sizeof(product_kernels) + sizeof(backward_kernels),
              "every part of the table needs its checks here");

uint64_t run_all(const kernel_table &tested, const kernel_table &scalar, const options &o,
                 placement where, uint64_t *checks) {
    trial t(tested, scalar, o.seed, where, o.spoil);
    for (const checks_of_a_topic &topic : {stream_checks(), product_checks(), backward_checks(),
                                           conv_checks()})
        for (size_t i = 0; i < topic.count; ++i) {
            t.enter(topic.first[i].slot);
            topic.first[i].run(t);
        }
    *checks += t.checks();
    return t.digest();
}

const kernel_table &table_of(const char *isa) {
    if (meshd_use_isa(isa) != MESHD_OK) refuse("not in this build, or not on this machine", isa);
    return *meshd_kernels();
}

void run_set(const char *isa, const options &o) {
    uint64_t checks = 0, digest;
    const kernel_table &scalar = table_of("scalar"), &tested = table_of(isa);
    if (o.pages) {
        digest = run_all(tested, scalar, o, placement::end, &checks);
        run_all(tested, scalar, o, placement::begin, &checks);
    } else {
        digest = run_all(tested, scalar, o, placement::heap, &checks);
    }
    printf("isa %s: %" PRIu64 " checks, digest %016" PRIx64 "\n", isa, checks, digest);
    fflush(stdout);
}

} // namespace

int main(int count, char **words) {
    const options o = parse(count, words);
#ifndef __SANITIZE_ADDRESS__
    for (int deadly : {SIGSEGV, SIGBUS, SIGILL, SIGFPE}) signal(deadly, crashed);
#endif
    if (o.fault) return misbehave(o.fault, o.pages);
    if (o.isa) {
        run_set(o.isa, o);
        return 0;
    }
    for (size_t i = 0; meshd_list_isa(i); ++i) run_set(meshd_list_isa(i), o);
    return 0;
}
