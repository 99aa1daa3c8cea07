/* Uses the pool of src/kernels/threads.c in the ways that could break it; aborts where a task was not run just once. */
#include "threads.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TASKS = 16, ROUNDS = 2000, FORKS = 40 };

static void require(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "%s\n", what);
        abort();
    }
}

static void count(void *counts, int task) { ((int *)counts)[task]++; }

static void count_row(void *counts, int row)
{
    require(fg_threads_here() == 1, "a task would have company");
    fg_parallel(TASKS, count, (int *)counts + row * TASKS);
}

static void *launch(void *rounds)
{
    for (int k = 0; k < *(int *)rounds; k++) {
        int counts[TASKS * TASKS] = {0};
        fg_parallel(TASKS, count_row, counts);
        for (int task = 0; task < TASKS * TASKS; task++)
            require(counts[task] == 1, "a task was not run once");
    }
    return NULL;
}

static void one_caller(void)
{
    int many = 10 * ROUNDS, none = 0;
    launch(&many);
    fg_parallel(0, count, &none);
    require(none == 0, "a task too many");
}

static void many_callers(void)
{
    pthread_t callers[4];
    int rounds = ROUNDS;
    for (int k = 0; k < 4; k++)
        require(!pthread_create(callers + k, NULL, launch, &rounds), "no thread");
    for (int k = 0; k < ROUNDS; k++)
        fg_set_threads(1 + k % 5);
    for (int k = 0; k < 4; k++)
        pthread_join(callers[k], NULL);
}

static void forks_amid_launches(void)
{
    pthread_t callers[2];
    int rounds = 10 * ROUNDS, few = 50;
    for (int k = 0; k < 2; k++)
        require(!pthread_create(callers + k, NULL, launch, &rounds), "no thread");
    for (int k = 0; k < FORKS; k++) {
        pid_t child = fork();
        if (child == 0) {
            alarm(20);
            launch(&few);
            _exit(0);
        }
        int status;
        require(child > 0 && waitpid(child, &status, 0) == child && status == 0, "a child died");
    }
    for (int k = 0; k < 2; k++)
        pthread_join(callers[k], NULL);
}

/* Room for the stacks of some twenty threads. */
static void too_few_threads_to_be_had(void)
{
    const struct rlimit room = {200 << 20, 200 << 20};
    int counts[2000] = {0};
    fg_set_threads(1 << 30);
    require(!setrlimit(RLIMIT_AS, &room), "no limit");
    fg_parallel(2000, count, counts);
    for (int task = 0; task < 2000; task++)
        require(counts[task] == 1, "a task was not run once");
    require(fg_get_threads() < 200, "the limit was no limit");
}

int main(int argument_count, char **arguments)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } checks[] = {
        {"one_caller", one_caller},
        {"many_callers", many_callers},
        {"forks_amid_launches", forks_amid_launches},
        {"too_few_threads_to_be_had", too_few_threads_to_be_had},
    };
    fg_set_threads(3);
    for (size_t k = 0; k < sizeof checks / sizeof *checks; k++)
        if (argument_count == 2 && !strcmp(arguments[1], checks[k].name)) {
            checks[k].run();
            puts("done");
            return 0;
        }
    return 2;
}
