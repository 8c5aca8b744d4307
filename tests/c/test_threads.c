/* Threads on one tape, under its mutex: for ThreadSanitizer. */
#include <pthread.h>

#include "check.h"

enum { THREADS = 8, STEPS = 2000 };

static pgr_tape *shared;
static pgr_handle weight;

static void *work(void *arg)
{
    const int add = op_named("add"), mul = op_named("mul");
    const pgr_handle x = (pgr_handle)pgr_h_leaf(shared, PGR_OP_LEAF, *(const int *)arg);
    for (int step = 0; step < STEPS; step++) {
        const pgr_handle a = (pgr_handle)pgr_h_record(shared, mul, x, weight);
        const pgr_handle b = (pgr_handle)pgr_h_record(shared, add, a, x);
        pgr_h_release(shared, a, 0);
        pgr_h_backward(shared, b);
        pgr_h_release(shared, b, 0);
    }
    return (void *)(uintptr_t)x;
}

static void threads_share_a_leaf_and_build_their_own_graphs(void)
{
    pthread_t threads[THREADS];
    int numbers[THREADS];
    shared = pgr_tape_new(NULL);
    CHECK_EQ(pgr_tape_use_mutex(shared), PGR_OK);
    pgr_tape_limits(shared, 64, UINT32_MAX);
    weight = held(pgr_h_leaf(shared, PGR_OP_LEAF, 3.0));
    for (int i = 0; i < THREADS; i++) {
        numbers[i] = i;
        CHECK(pthread_create(&threads[i], NULL, work, &numbers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        void *x;
        pthread_join(threads[i], &x);
        CHECK_EQ(pgr_h_grad(shared, (pgr_handle)(uintptr_t)x), 4.0 * STEPS);
    }
    CHECK_EQ(pgr_h_grad(shared, weight), STEPS * (THREADS * (THREADS - 1) / 2));
    pgr_tape_free(shared);
}

int main(void)
{
    TEST(threads_share_a_leaf_and_build_their_own_graphs);
    return check_report();
}
