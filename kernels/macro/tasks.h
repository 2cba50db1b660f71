/* each_task of strips.h. */
#ifndef MESHD_MACRO_TASKS_H
#define MESHD_MACRO_TASKS_H

#include <atomic>

#include "threads.h"

namespace meshd {

template <class Body> int each_task(size_t tasks, size_t threads, Body body) {
    struct shared {
        Body body;
        std::atomic<bool> out_of_memory;
        static void run(void *context, size_t task) {
            shared *self = static_cast<shared *>(context);
            try {
                self->body(task);
            } catch (const std::bad_alloc &) {
                self->out_of_memory = true;
            }
        }
    } all{body, {false}};
    meshd_parallel(tasks, threads, shared::run, &all);
    return all.out_of_memory ? MESHD_NO_MEMORY : MESHD_OK;
}

} // namespace meshd

#endif
