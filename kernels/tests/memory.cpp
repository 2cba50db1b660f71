// Guarded regions are kept for the next array: three system calls each would cost more than the
// kernels do, under an emulator above all.
#include "memory.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <vector>

namespace selftest {

namespace {

std::map<size_t, std::vector<char *>> idle; // by pages: first accessible byte of each free region

[[noreturn]] void no_memory() {
    perror("selftest: memory");
    exit(2);
}

size_t page() {
    static const size_t size = (size_t)sysconf(_SC_PAGESIZE);
    return size;
}

size_t pages_for(size_t bytes) { return bytes ? (bytes + page() - 1) / page() : 1; }

// no access | pages | no access
char *region(size_t pages) {
    std::vector<char *> &free = idle[pages];
    if (!free.empty()) {
        char *first = free.back();
        free.pop_back();
        return first;
    }
    void *all = mmap(nullptr, (pages + 2) * page(), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED) no_memory();
    char *first = (char *)all + page();
    if (mprotect(first, pages * page(), PROT_READ | PROT_WRITE)) no_memory();
    return first;
}

} // namespace

const char *name_of(placement where) {
    switch (where) {
    case placement::heap: return "heap";
    case placement::end: return "end";
    default: return "begin";
    }
}

void *acquire(size_t bytes, size_t alignment, placement where) {
    if (where == placement::heap) {
        void *memory = nullptr;
        const size_t least = sizeof(void *); // posix_memalign's
        if (posix_memalign(&memory, alignment < least ? least : alignment, bytes ? bytes : 1))
            no_memory();
        return memory;
    }
    char *first = region(pages_for(bytes));
    return where == placement::begin ? first : first + pages_for(bytes) * page() - bytes;
}

void release(void *memory, size_t bytes, placement where) {
    if (where == placement::heap) return free(memory);
    const size_t pages = pages_for(bytes);
    char *first = (char *)memory;
    if (where == placement::end) first -= pages * page() - bytes;
    idle[pages].push_back(first);
}

} // namespace selftest
