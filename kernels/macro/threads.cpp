// The pool: threads are started when first needed, at most most_threads - 1 of them, and stay,
// blocked on a condition variable. A child of fork() has none of its parent's threads and starts
// over with an empty pool.
#include "threads.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace {

// More threads than this have never helped a product that fits one machine's memory channels.
constexpr size_t most_threads = 256;

struct work {
    void (*run)(void *, size_t);
    void *context;
    size_t tasks;
    std::atomic<size_t> next{0};

    void drain() {
        for (size_t task; (task = next.fetch_add(1, std::memory_order_relaxed)) < tasks;)
            run(context, task);
    }
};

struct pool {
    std::mutex taken; // held by the caller whose work is in the pool
    std::mutex lock;  // guards all that follows
    std::condition_variable wake, done;
    work *current = nullptr;
    size_t helpers = 0; // threads that exist
    size_t wanted = 0;  // that may still join the current work
    size_t busy = 0;    // that are in it

    void help() {
        std::unique_lock<std::mutex> hold(lock);
        for (;;) {
            wake.wait(hold, [this] { return current && wanted > 0; });
            --wanted;
            ++busy;
            work *mine = current;
            hold.unlock();
            mine->drain();
            hold.lock();
            if (--busy == 0) done.notify_one();
        }
    }

    void start_helpers(size_t count) {
        try {
            for (; helpers < count; ++helpers) std::thread([this] { help(); }).detach();
        } catch (const std::system_error &) { // no more threads: those that are there must do
        }
    }

    void share(work *mine, size_t threads) {
        {
            std::lock_guard<std::mutex> hold(lock);
            start_helpers(threads - 1);
            wanted = threads - 1 < helpers ? threads - 1 : helpers;
            current = mine;
        }
        wake.notify_all();
        mine->drain();
        std::unique_lock<std::mutex> hold(lock);
        wanted = 0; // who has not come yet need not
        done.wait(hold, [this] { return busy == 0; });
        current = nullptr;
    }
};

// Never destroyed: its threads may still wait in it when the process ends.
std::atomic<pool *> the_pool{new pool};

#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { the_pool = new pool; });
#endif

size_t smallest(size_t a, size_t b, size_t c) {
    const size_t d = a < b ? a : b;
    return d < c ? d : c;
}

} // namespace

void meshd_parallel(size_t tasks, size_t threads, void (*run)(void *context, size_t task),
                    void *context) {
    work mine{run, context, tasks};
    pool *shared = the_pool.load();
    threads = smallest(threads, tasks, most_threads);
    std::unique_lock<std::mutex> mine_alone(shared->taken, std::defer_lock);
    if (threads > 1 && mine_alone.try_lock())
        shared->share(&mine, threads);
    else
        mine.drain();
}
