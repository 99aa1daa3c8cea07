/* A small pool of threads: they spin briefly for the next launch, then sleep.
 *
 * No thread is ever waited for that has not begun a task: the caller takes tasks too, so a launch costs little more
 * than its wake-up where the other processors are busy.
 */
#include "threads.h"

#include <fenv.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <time.h>

#define MOST_THREADS 1024

/* Longer than the pause between two launches of one op's forward or backward; short enough not to show as load. */
#define SPIN_NANOSECONDS 50000
/* A sched_yield that takes this long has run somebody else. */
#define TAKEN_NANOSECONDS 5000
#define PAUSES_PER_YIELD 32

#if defined(__x86_64__) || defined(__i386__)
#define PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define PAUSE() __asm__ volatile("isb")
#else
#define PAUSE() atomic_signal_fence(memory_order_seq_cst)
#endif

typedef void task_function(void *context, int task);

static struct {
    /* The launch's number in the upper half, how many of its tasks nobody has begun in the lower. A thread that takes a
     * task has read the other three before, and its exchange fails if they were another launch's. */
    _Alignas(64) _Atomic uint64_t claim;
    _Atomic(task_function *) run;
    _Atomic(void *) context;
    atomic_int tasks;
    _Alignas(64) atomic_int unfinished;
    atomic_int caller_sleeps;
    _Alignas(64) atomic_int wanted; /* threads, the caller's among them */
    atomic_int busy;                /* a launch is under way */
    atomic_int started, sleeping;   /* threads of the pool; written under the lock */
    pthread_mutex_t lock;
    pthread_cond_t launched, finished;
} pool = {
    .wanted = 1,
    .lock = PTHREAD_MUTEX_INITIALIZER,
    .launched = PTHREAD_COND_INITIALIZER,
    .finished = PTHREAD_COND_INITIALIZER,
};

static _Thread_local int inside; /* a task */

static int64_t nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

typedef struct spin {
    int pauses;
    int64_t since;
} spin;

/* Waits a moment; 0 when it is time to sleep, because the wait has lasted or because others need the processor. */
static int keep_spinning(spin *s)
{
    PAUSE();
    if (++s->pauses % PAUSES_PER_YIELD)
        return 1;
    const int64_t before = nanoseconds();
    if (!s->since)
        s->since = before;
    sched_yield();
    const int64_t after = nanoseconds();
    return after - before < TAKEN_NANOSECONDS && after - s->since < SPIN_NANOSECONDS;
}

/* Takes tasks until none is left; returns the number of the launch that it found done. */
static uint32_t take_tasks(void)
{
    uint64_t claim = atomic_load_explicit(&pool.claim, memory_order_acquire);
    while ((uint32_t)claim) {
        task_function *run = atomic_load_explicit(&pool.run, memory_order_relaxed);
        void *context = atomic_load_explicit(&pool.context, memory_order_relaxed);
        const int task = atomic_load_explicit(&pool.tasks, memory_order_relaxed) - (int)(uint32_t)claim;
        if (!atomic_compare_exchange_weak_explicit(&pool.claim, &claim, claim - 1, memory_order_acq_rel,
                                                   memory_order_acquire))
            continue;
        run(context, task);
        if (atomic_fetch_sub(&pool.unfinished, 1) == 1 && atomic_load(&pool.caller_sleeps)) {
            pthread_mutex_lock(&pool.lock);
            pthread_cond_signal(&pool.finished);
            pthread_mutex_unlock(&pool.lock);
        }
        claim = atomic_load_explicit(&pool.claim, memory_order_acquire);
    }
    return (uint32_t)(claim >> 32);
}

static int idle(uint32_t launch)
{
    return atomic_load(&pool.claim) >> 32 == launch && atomic_load(&pool.started) < atomic_load(&pool.wanted);
}

static void *work(void *unused)
{
    (void)unused;
    fesetenv(FE_DFL_ENV); /* it was inherited from whoever made the first launch */
    inside = 1;
    for (int leaves = 0; !leaves;) {
        const uint32_t launch = take_tasks();
        for (spin s = {0}; idle(launch) && keep_spinning(&s);) {}
        if (atomic_load(&pool.claim) >> 32 != launch)
            continue;
        pthread_mutex_lock(&pool.lock);
        atomic_fetch_add(&pool.sleeping, 1); /* before the claim is read: the caller writes that and then reads this */
        while (idle(launch))
            pthread_cond_wait(&pool.launched, &pool.lock);
        atomic_fetch_sub(&pool.sleeping, 1);
        leaves = atomic_load(&pool.started) >= atomic_load(&pool.wanted);
        if (leaves)
            atomic_fetch_sub(&pool.started, 1);
        pthread_mutex_unlock(&pool.lock);
    }
    return NULL;
}

/* In a child process: no thread of the pool has come along, and the lock may have been held by one of them. */
static void forget_threads(void)
{
    atomic_store(&pool.claim, atomic_load(&pool.claim) >> 32 << 32);
    atomic_store(&pool.started, 0);
    atomic_store(&pool.sleeping, 0);
    atomic_store(&pool.caller_sleeps, 0);
    atomic_store(&pool.busy, 0);
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.launched, NULL);
    pthread_cond_init(&pool.finished, NULL);
}

static void register_fork(void) { pthread_atfork(NULL, NULL, forget_threads); }

/* Signals go to the program's own threads, except those that a thread's own instruction raises. */
static void start_threads(int count)
{
    static pthread_once_t registered = PTHREAD_ONCE_INIT;
    pthread_once(&registered, register_fork);
    sigset_t blocked, before;
    sigfillset(&blocked);
    const int own[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
    for (size_t k = 0; k < sizeof own / sizeof *own; k++)
        sigdelset(&blocked, own[k]);
    pthread_attr_t detached;
    pthread_attr_init(&detached);
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    pthread_mutex_lock(&pool.lock);
    while (atomic_load(&pool.started) < count) {
        pthread_t thread;
        if (pthread_create(&thread, &detached, work, NULL)) {
            atomic_store(&pool.wanted, atomic_load(&pool.started) + 1); /* the system gives no more */
            break;
        }
        atomic_fetch_add(&pool.started, 1);
    }
    pthread_mutex_unlock(&pool.lock);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
}

static void wake(int count)
{
    const int asleep = atomic_load(&pool.sleeping), awake = atomic_load(&pool.started) - asleep;
    if (!asleep || count <= awake)
        return;
    /* Who holds the lock has yet to read the claim or to begin its wait; who is woken later than that finds it free. */
    pthread_mutex_lock(&pool.lock);
    pthread_mutex_unlock(&pool.lock);
    if (count - awake >= asleep)
        pthread_cond_broadcast(&pool.launched);
    else
        for (int k = awake; k < count; k++)
            pthread_cond_signal(&pool.launched);
}

void fg_parallel(int tasks, void (*run)(void *context, int task), void *context)
{
    const int here = fg_threads_here(), threads = tasks < here ? tasks : here;
    const int outside = inside;
    if (threads < 2 || atomic_exchange(&pool.busy, 1)) {
        inside = 1;
        for (int task = 0; task < tasks; task++)
            run(context, task);
        inside = outside;
        return;
    }
    if (atomic_load(&pool.started) < threads - 1)
        start_threads(threads - 1);
    atomic_store_explicit(&pool.run, run, memory_order_relaxed);
    atomic_store_explicit(&pool.context, context, memory_order_relaxed);
    atomic_store_explicit(&pool.tasks, tasks, memory_order_relaxed);
    atomic_store(&pool.unfinished, tasks);
    atomic_store(&pool.claim, ((atomic_load(&pool.claim) >> 32) + 1) << 32 | (uint32_t)tasks);
    wake(threads - 1);
    inside = 1;
    take_tasks();
    inside = outside;
    for (spin s = {0}; atomic_load(&pool.unfinished) && keep_spinning(&s);) {}
    if (atomic_load(&pool.unfinished)) {
        pthread_mutex_lock(&pool.lock);
        atomic_store(&pool.caller_sleeps, 1);
        while (atomic_load(&pool.unfinished))
            pthread_cond_wait(&pool.finished, &pool.lock);
        atomic_store(&pool.caller_sleeps, 0);
        pthread_mutex_unlock(&pool.lock);
    }
    atomic_store(&pool.busy, 0);
}

int fg_threads_here(void) { return inside || atomic_load(&pool.busy) ? 1 : atomic_load(&pool.wanted); }

int fg_threads_awake(void)
{
    const int awake = 1 + atomic_load(&pool.started) - atomic_load(&pool.sleeping), here = fg_threads_here();
    return awake < here ? awake : here;
}

int fg_get_threads(void) { return atomic_load(&pool.wanted); }

void fg_set_threads(int count)
{
    pthread_mutex_lock(&pool.lock);
    atomic_store(&pool.wanted, count < 1 ? 1 : count > MOST_THREADS ? MOST_THREADS : count);
    pthread_cond_broadcast(&pool.launched);
    pthread_mutex_unlock(&pool.lock);
}
