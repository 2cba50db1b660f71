/* A bounded pool of threads for independent tasks. It never spins: who has nothing to do sleeps in
 * the operating system. */
#ifndef MESHD_MACRO_THREADS_H
#define MESHD_MACRO_THREADS_H

#include <stddef.h>

/* Runs run(context, task) once for each task < tasks, on at most `threads` threads, of which the
 * caller is one, and returns when all have ended. Tasks must not depend on each other nor call this
 * function. Concurrent callers take turns for the pool; who finds it taken works alone, so nobody
 * waits for another's tasks. Where no thread can be started, the caller does all the work. */
void meshd_parallel(size_t tasks, size_t threads, void (*run)(void *context, size_t task),
                    void *context);

#endif
