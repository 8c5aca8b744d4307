/* Threads on one tape, under its mutex: for ThreadSanitizer. */
#include <pthread.h>

#include "check.h"

enum { THREADS = 8, STEPS = 2000 };

static pgr_tape *shared;
static pgr_handle weight, counter;

/* Every call that returns handles, on x * weight + x: each handle must name its node while other threads collect. */
static void look_around(pgr_handle b, double x)
{
    pgr_table table;
    CHECK_EQ(pgr_h_export(shared, b, 1, &table), PGR_OK);
    CHECK_EQ(table.row_count, 4);
    for (uint32_t i = 0; i < table.row_count; i++)
        CHECK_EQ(pgr_h_data(shared, table.rows[i].handle), table.rows[i].data);
    pgr_h_release_rows(shared, &table);
    pgr_table_free(shared, &table);
    CHECK_EQ(pgr_tape_tag(shared, PGR_TAG_SCOPE, (uint32_t)x), PGR_OK);
    CHECK(pgr_h_tag(shared, PGR_TAG_SCOPE, b) < THREADS);
    const pgr_handle bad = held(pgr_h_leaf(shared, PGR_OP_LEAF, INFINITY));
    const pgr_handle root = held(pgr_h_record(shared, op_named("add"), b, bad));
    pgr_handle found = 0;
    CHECK_EQ(pgr_h_backward_checked(shared, root, &found), PGR_ERR_NOT_FINITE);
    CHECK(found == bad);
    pgr_h_release(shared, found, 0);
    pgr_h_release(shared, root, 0);
    pgr_h_release(shared, bad, 0);
    /* A program that reads b and the weight. */
    const pgr_handle start = held(pgr_h_leaf(shared, PGR_OP_LEAF, 0.0)), input = held(pgr_h_input(shared, PGR_OP_INPUT, 0));
    const pgr_handle sum = held(pgr_h_record(shared, op_named("add"), input, b));
    const pgr_handle result = held(pgr_h_record(shared, op_named("mul"), sum, weight));
    pgr_output output = {.array = 0};
    pgr_program *p = NULL;
    CHECK_EQ(pgr_h_program_build(shared, start, 1, &result, &output, 0, NULL, 1, NULL, &p, NULL), PGR_OK);
    const pgr_handle *captures = NULL;
    CHECK_EQ(pgr_h_program_captures(p, &captures), 2);
    double one = 1.0, read[2], out = 0.0;
    CHECK_EQ(pgr_h_read(shared, 2, captures, read), PGR_OK);
    CHECK_EQ(pgr_program_run(p, (const double *const[]){&one, read}, (double *const[]){&out}, NULL), PGR_OK);
    CHECK_EQ(out, (1.0 + 4.0 * x) * 3.0);
    pgr_h_release(shared, captures[0], 0);
    pgr_h_release(shared, captures[1], 0);
    pgr_program_free(p);
    const pgr_handle all[] = {start, input, sum, result};
    for (int i = 0; i < 4; i++)
        pgr_h_release(shared, all[i], 0);
}

typedef struct {
    int number;
    pgr_handle leaf;
} job;

static void *work(void *arg)
{
    const int number = ((const job *)arg)->number;
    const int add = op_named("add"), mul = op_named("mul");
    const pgr_handle x = (pgr_handle)pgr_h_leaf(shared, PGR_OP_LEAF, number);
    for (int step = 0; step < STEPS; step++) {
        const pgr_handle a = (pgr_handle)pgr_h_record(shared, mul, x, weight);
        const pgr_handle b = (pgr_handle)pgr_h_record(shared, add, a, x);
        pgr_h_release(shared, a, 0);
        pgr_h_backward(shared, b);
        pgr_tape_lock(shared, 1); /* calls that take the lock again */
        pgr_h_set_data(shared, counter, pgr_h_data(shared, counter) + 1.0);
        pgr_tape_lock(shared, 0);
        if (step % 10 == 0)
            look_around(b, number);
        pgr_h_release(shared, b, 0);
    }
    ((job *)arg)->leaf = x;
    return NULL;
}

static void threads_share_a_leaf_and_build_their_own_graphs(void)
{
    pthread_t threads[THREADS];
    job jobs[THREADS];
    shared = pgr_tape_new(NULL);
    CHECK_EQ(pgr_tape_use_mutex(shared), PGR_OK);
    pgr_tape_limits(shared, 64, UINT32_MAX);
    weight = held(pgr_h_leaf(shared, PGR_OP_LEAF, 3.0)), counter = held(pgr_h_leaf(shared, PGR_OP_LEAF, 0.0));
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (job){.number = i};
        CHECK(pthread_create(&threads[i], NULL, work, &jobs[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        CHECK_EQ(pgr_h_grad(shared, jobs[i].leaf), 4.0 * STEPS);
    }
    CHECK_EQ(pgr_h_data(shared, counter), THREADS * STEPS);
    CHECK_EQ(pgr_h_grad(shared, weight), STEPS * (THREADS * (THREADS - 1) / 2));
    pgr_tape_free(shared);
}

enum { LANES = 4000, RUNNERS = 4 };
static pgr_program *program;
static double points[LANES];

static void *run(void *arg)
{
    double *const sum = arg;
    const double *const in[] = {NULL, points, NULL};
    double *const out[] = {sum};
    const pgr_run_options options = {.workers = 3};
    for (int i = 0; i < 20; i++)
        CHECK_EQ(pgr_program_run(program, in, out, &options), PGR_OK);
    return NULL;
}

static void threads_run_one_program_each_with_workers(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_id x = 0, sum = 0;
    const pgr_id start = leaf(tape, 0.0);
    CHECK_EQ(pgr_input(tape, PGR_OP_LANE, 0, &x), PGR_OK);
    CHECK_EQ(pgr_lane_sum(tape, record(tape, "tanh", record(tape, "mul", x, x), 0), x, &sum), PGR_OK);
    const pgr_lane_input input = {.array = 1, .offset = 0, .stride = 1};
    const pgr_lane_group group = {.lanes = LANES, .input_count = 1, .inputs = &input};
    const pgr_output output = {.node = sum};
    CHECK_EQ(pgr_program_build(tape, start, 1, &output, 1, &group, 2, NULL, &program, NULL), PGR_OK);
    for (int i = 0; i < LANES; i++)
        points[i] = i * 1e-3;
    pthread_t threads[RUNNERS];
    double sums[RUNNERS], expected = 0.0;
    for (int i = 0; i < RUNNERS; i++)
        CHECK(pthread_create(&threads[i], NULL, run, &sums[i]) == 0);
    for (int i = 0; i < RUNNERS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < LANES; i++)
        expected += tanh(points[i] * points[i]);
    for (int i = 0; i < RUNNERS; i++)
        CHECK(fabs(sums[i] - expected) < 1e-9 * expected && sums[i] == sums[0]);
    pgr_program_free(program);
    pgr_tape_free(tape);
}

int main(void)
{
    TEST(threads_run_one_program_each_with_workers);
    TEST(threads_share_a_leaf_and_build_their_own_graphs);
    return check_report();
}
