/* The threads that kernels share their work with. */
#ifndef FASTGRAD_THREADS_H
#define FASTGRAD_THREADS_H

/* Runs run(context, task) for each task from 0 to tasks - 1, on the pool's threads and on the calling one, and returns
 * when all are done. From inside a task, while another thread uses the pool, or with one thread, they run in turn on
 * the caller. A task sets its own floating point environment and leaves the one it found. */
void fg_parallel(int tasks, void (*run)(void *context, int task), void *context);

/* How many tasks would run side by side if fg_parallel were called here at once. */
int fg_threads_here(void);

/* How many of them need not be woken: to wake some takes the caller ten microseconds, the others begin within one. */
int fg_threads_awake(void);

/* The calling thread counts as one. Threads start with the first launch that wants them. */
int fg_get_threads(void);
void fg_set_threads(int count);

#endif
