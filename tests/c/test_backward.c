/* The sweep: accumulation, reach, custom nodes, nesting, random graphs against a reference. */
#include "check.h"

#include <pthread.h>

static void same_operand_twice_counts_twice(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 3.0), y = leaf(tape, 5.0);
    pgr_backward(tape, record(tape, "mul", x, x));
    pgr_backward(tape, record(tape, "add", y, y));
    CHECK_EQ(pgr_grad(tape, x), 6.0);
    CHECK_EQ(pgr_grad(tape, y), 2.0);
    pgr_tape_free(tape);
}

static void leaves_accumulate_and_interior_nodes_are_overwritten(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 3.0), y = record(tape, "mul", x, x), z = record(tape, "add", y, y);
    pgr_set_grad(tape, y, 100.0);
    for (int pass = 1; pass <= 2; pass++) {
        pgr_backward(tape, z);
        CHECK_EQ(pgr_grad(tape, x), 12.0 * pass);
        CHECK_EQ(pgr_grad(tape, y), 2.0);
        CHECK_EQ(pgr_grad(tape, z), 1.0);
    }
    pgr_tape_free(tape);
}

static void other_roots_are_not_touched(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 3.0), y = record(tape, "mul", x, x), other = record(tape, "add", y, x);
    pgr_set_grad(tape, other, 7.0);
    pgr_backward(tape, y);
    CHECK_EQ(pgr_grad(tape, other), 7.0);
    CHECK_EQ(pgr_grad(tape, x), 6.0);
    pgr_tape_free(tape);
}

static void chain_of_two_million_nodes_does_not_recurse(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 1.0);
    pgr_id y = x;
    for (int i = 0; i < 2000000; i++)
        y = record(tape, "neg", y, 0);
    pgr_backward(tape, y);
    CHECK_EQ(pgr_grad(tape, x), 1.0);
    pgr_tape_free(tape);
}

/* Operands at all distances near those at which the sweep changes how it looks for marks. */
static void operands_are_reached_at_every_distance(void)
{
    static const unsigned gaps[] = {1, 2, 62, 63, 64, 65, 127, 128, 1022, 1023, 1024, 1025, 1026, 2048, 4094, 4095, 4096, 4097, 40000};
    for (size_t g = 0; g < sizeof gaps / sizeof *gaps; g++) {
        for (unsigned offset = 0; offset < 130; offset += gaps[g] > 1000 && gaps[g] < 1100 ? 1 : 13) {
            pgr_tape *const tape = pgr_tape_new(NULL);
            for (unsigned i = 0; i < offset; i++)
                leaf(tape, 0.0);
            pgr_id x = leaf(tape, 2.0), y = x;
            for (int link = 0; link < 4; link++) {
                for (unsigned i = 0; i < gaps[g]; i++)
                    record(tape, "add", y, x); /* unrelated to the root */
                y = record(tape, "neg", y, 0);
            }
            for (int pass = 1; pass <= 3; pass++) {
                pgr_backward(tape, y);
                CHECK_EQ(pgr_grad(tape, x), pass);
            }
            for (uint32_t i = 0; i <= tape->size >> TAPE_BLOCK; i++)
                CHECK(tape->blocks[i] == 0 && tape->supers[i >> (TAPE_SUPER - TAPE_BLOCK)] == 0);
            pgr_tape_free(tape);
        }
    }
}

typedef struct {
    int calls, depth;
    bool fails, records;
    pgr_status deepest;
} custom_context;

/* A custom function: the gradient of the sum of its operands. */
static int sum_backward(void *ctx, pgr_tape *tape, pgr_handle node)
{
    custom_context *const c = ctx;
    c->calls++;
    if (c->records)
        for (int i = 0; i < 100000; i++)
            leaf(tape, 1.0);
    if (c->fails)
        return 1;
    const pgr_id id = pgr_h_id(tape, node);
    operand_walk walk = {id, false};
    for (pgr_id o; (o = operand_next(tape->nodes, &walk)) != 0;)
        pgr_set_grad(tape, o, pgr_grad(tape, o) + pgr_grad(tape, id));
    return 0;
}

static void custom_nodes_have_any_number_of_operands(void)
{
    static const size_t counts[] = {0, 1, 2, 3, 4, 7, 1000};
    for (size_t k = 0; k < sizeof counts / sizeof *counts; k++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        custom_context context = {.records = true};
        pgr_tape_on_custom(tape, sum_backward, &context);
        pgr_id operands[1000], h[1000], out = 0;
        for (size_t i = 0; i < counts[k]; i++) {
            operands[i] = leaf(tape, 1.0);
            h[i] = record(tape, "neg", operands[i], 0);
            pgr_set_grad(tape, h[i], 50.0);
        }
        CHECK(pgr_custom(tape, 4.0, counts[k], h, &out) == PGR_OK);
        pgr_backward(tape, record(tape, "add", out, out));
        CHECK_EQ(context.calls, 1);
        for (size_t i = 0; i < counts[k]; i++)
            CHECK_EQ(pgr_grad(tape, operands[i]), -2.0);
        pgr_tape_free(tape);
    }
}

static void a_failure_leaves_no_marks(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    custom_context context = {.fails = true};
    pgr_tape_on_custom(tape, sum_backward, &context);
    const pgr_id x = leaf(tape, 2.0);
    pgr_id far = record(tape, "neg", x, 0), out = 0;
    for (int i = 0; i < 10000; i++)
        leaf(tape, 0.0);
    CHECK(pgr_custom(tape, 1.0, 1, &far, &out) == PGR_OK);
    const pgr_id root = record(tape, "add", record(tape, "mul", far, x), out);
    CHECK_EQ(pgr_backward(tape, root), PGR_ERR_CUSTOM);
    for (pgr_id id = 0; id < tape->size; id++)
        CHECK_EQ(tape->nodes[id].mark, 0);
    CHECK_EQ(tape->passes, 0);
    pgr_set_grad(tape, x, 0.0);
    context.fails = false;
    CHECK_EQ(pgr_backward(tape, root), PGR_OK);
    CHECK_EQ(pgr_grad(tape, x), -2.0 - 2.0 - 1.0);
    pgr_tape_free(tape);
}

typedef struct {
    pgr_tape *tape;
    int asked, stop_at;
} stop_context;

static int stop_or_grow(void *ctx)
{
    stop_context *const c = ctx;
    for (pgr_id more = c->asked % 4 == 0 ? c->tape->capacity - c->tape->size + 1 : 0; more > 0; more--)
        leaf(c->tape, 0.0); /* the nodes move */
    CHECK_EQ(pgr_tape_collect(c->tape), PGR_OK); /* does nothing now */
    return ++c->asked == c->stop_at;
}

static void a_long_sweep_asks_whether_to_stop(void)
{
    enum { LENGTH = 150000, TIMES = LENGTH / TAPE_ASK_EVERY };
    for (int checked = 0; checked < 2; checked++) {
        for (int stop_at = 0; stop_at <= (checked ? 2 * TIMES + 1 : TIMES); stop_at++) {
            pgr_tape *const tape = pgr_tape_new(NULL);
            stop_context context = {.tape = tape, .stop_at = stop_at};
            pgr_tape_on_stop(tape, stop_or_grow, &context);
            const pgr_id x = leaf(tape, 2.0);
            pgr_id root = x, bad = 0;
            for (int i = 0; i < LENGTH; i++)
                root = record(tape, "neg", root, 0);
            CHECK_EQ(checked ? pgr_backward_checked(tape, root, &bad) : pgr_backward(tape, root),
                     stop_at == 0 ? PGR_OK : PGR_ERR_STOPPED);
            CHECK_EQ(context.asked, stop_at != 0 ? stop_at : checked ? 2 * TIMES + 1 : TIMES);
            CHECK_EQ(pgr_grad(tape, x), stop_at == 0 ? 1.0 : 0.0);
            CHECK_EQ(tape->passes, 0);
            for (pgr_id id = 0; id < tape->size; id++)
                if (tape->nodes[id].mark != 0 || tape->nodes[id].read_mark != 0)
                    CHECK_EQ(id, 0);
            pgr_tape_free(tape);
        }
    }
}

static int nested_backward(void *ctx, pgr_tape *tape, pgr_handle node)
{
    custom_context *const c = ctx;
    (void)node;
    if (c->depth-- == 0)
        return 0;
    pgr_id x = leaf(tape, 1.0), out = 0;
    CHECK(pgr_custom(tape, 1.0, 1, &x, &out) == PGR_OK);
    c->deepest = pgr_backward(tape, out);
    return c->deepest != PGR_OK;
}

static void marks_are_gone(const pgr_tape *tape)
{
    CHECK_EQ(tape->passes, 0);
    CHECK_EQ(tape->marks_used, 0);
    CHECK_EQ(tape->is_reading, false);
    for (pgr_id id = 1; id < tape->size; id++)
        if (tape->nodes[id].mark != 0 || tape->nodes[id].read_mark != 0)
            CHECK_EQ(id, 0);
    for (pgr_id id = 0; id < tape->size; id++)
        if (tape->blocks[id >> TAPE_BLOCK] != 0 || tape->supers[id >> TAPE_SUPER] != 0)
            CHECK_EQ(id, -1);
}

static void any_number_of_passes_may_nest(void)
{
    for (int depth = 1; depth < 40; depth++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        custom_context context = {.depth = depth};
        pgr_tape_on_custom(tape, nested_backward, &context);
        pgr_id x = leaf(tape, 1.0), out = 0;
        CHECK(pgr_custom(tape, 1.0, 1, &x, &out) == PGR_OK);
        CHECK_EQ(pgr_backward(tape, out), PGR_OK);
        CHECK_EQ(context.depth, -1);
        marks_are_gone(tape);
        pgr_tape_free(tape);
    }
}

/* Threads that take turns: one runs until a custom function hands the turn to another. */
enum { SWEEPS_AT_MOST = 24, MODEL_NODES = 900 };

typedef struct {
    pgr_tape *tape;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    int turn, count;
    bool done[SWEEPS_AT_MOST];
    pgr_id roots[SWEEPS_AT_MOST];
    pgr_status results[SWEEPS_AT_MOST];
} turns;

static _Thread_local int myself;

/* Hands the turn to another thread that is not done, if there is one. The caller has the lock. */
static void give_turn(turns *t)
{
    int others[SWEEPS_AT_MOST], count = 0;
    for (int k = 0; k < t->count; k++)
        if (!t->done[k] && k != myself)
            others[count++] = k;
    if (count > 0)
        t->turn = others[pick((unsigned)count)];
    pthread_cond_broadcast(&t->changed);
}

static int add_and_give_turn(void *ctx, pgr_tape *tape, pgr_handle h)
{
    turns *const t = ctx;
    const pgr_id id = pgr_h_id(tape, h);
    pthread_mutex_lock(&t->lock);
    if (pick(3) > 0)
        give_turn(t);
    while (t->turn != myself)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
    if (pick(20) == 0)
        for (pgr_id more = tape->capacity - tape->size + 1; more > 0; more--)
            leaf(tape, 0.0); /* nodes move */
    operand_walk walk = {id, false};
    for (pgr_id operand; (operand = operand_next(tape->nodes, &walk)) != 0;)
        tape->nodes[operand].grad += tape->nodes[id].grad;
    return 0;
}

typedef struct {
    turns *turns;
    int number;
} taker;

static void *sweep_by_turns(void *arg)
{
    turns *const t = ((taker *)arg)->turns;
    myself = ((taker *)arg)->number;
    pthread_mutex_lock(&t->lock);
    while (t->turn != myself)
        pthread_cond_wait(&t->changed, &t->lock);
    pthread_mutex_unlock(&t->lock);
    pgr_id bad = 0;
    t->results[myself] = myself % 5 == 4 ? pgr_backward_checked(t->tape, t->roots[myself], &bad) : pgr_backward(t->tape, t->roots[myself]);
    pthread_mutex_lock(&t->lock);
    t->done[myself] = true;
    give_turn(t);
    pthread_mutex_unlock(&t->lock);
    return NULL;
}

/* Graphs that share leaves and interior nodes, swept by up to 24 threads at once, which end in any order: at last the
 * leaves have the sum of all gradients. */
static void sweeps_of_many_threads_add_up_in_whatever_order_they_end(void)
{
    static double model[MODEL_NODES], expected[MODEL_NODES];
    static int operand[MODEL_NODES][2];
    static pgr_id ids[MODEL_NODES];
    check_seed();
    for (int round = 0; round < 60; round++) {
        turns t = {.tape = pgr_tape_new(NULL), .count = 1 + (int)pick(SWEEPS_AT_MOST)};
        pthread_mutex_init(&t.lock, NULL);
        pthread_cond_init(&t.changed, NULL);
        pgr_tape_on_custom(t.tape, add_and_give_turn, &t);
        const int leaves = 1 + (int)pick(5), shared = leaves + (int)pick(40);
        int count = 0;
        const int spread = pick(2) ? 3000 : 3; /* near and far marks */
        for (; count < leaves; count++) {
            operand[count][0] = operand[count][1] = -1;
            ids[count] = leaf(t.tape, 1.0);
        }
        int last[SWEEPS_AT_MOST];
        for (int k = -1; k < t.count; k++) { /* first what is shared */
            const int first = count, end = k < 0 ? shared : count + 1 + (int)pick(30);
            for (; count < end; count++) {
                /* A custom node's function adds to its operands after others ran: shared ones are leaves. */
                const bool custom = k >= 0 && pick(3) == 0;
                for (int i = 0; i < 2; i++) {
                    const bool own = count > first && pick(3) > 0;
                    const int others = k < 0 ? count : custom ? leaves : shared;
                    operand[count][i] = own ? first + (int)pick((unsigned)(count - first)) : (int)pick((unsigned)others);
                }
                for (unsigned garbage = pick((unsigned)spread); garbage > 0; garbage--)
                    leaf(t.tape, 0.0);
                const pgr_id pair[] = {ids[operand[count][0]], ids[operand[count][1]]};
                if (custom)
                    CHECK(pgr_custom(t.tape, 1.0, 2, pair, &ids[count]) == PGR_OK);
                else
                    ids[count] = record(t.tape, "add", pair[0], pair[1]);
            }
            if (k >= 0) {
                last[k] = count - 1;
                t.roots[k] = ids[count - 1];
            }
        }
        memset(expected, 0, sizeof expected);
        for (int k = 0; k < t.count; k++) {
            memset(model, 0, sizeof model);
            model[last[k]] = 1.0;
            for (int n = last[k]; n >= leaves; n--)
                for (int i = 0; i < 2; i++)
                    model[operand[n][i]] += model[n];
            for (int n = 0; n < leaves; n++)
                expected[n] += model[n];
        }
        pthread_t threads[SWEEPS_AT_MOST];
        taker takers[SWEEPS_AT_MOST];
        for (int k = 0; k < t.count; k++) {
            takers[k] = (taker){&t, k};
            CHECK(pthread_create(&threads[k], NULL, sweep_by_turns, &takers[k]) == 0);
        }
        for (int k = 0; k < t.count; k++)
            pthread_join(threads[k], NULL);
        for (int k = 0; k < t.count; k++)
            CHECK_EQ(t.results[k], PGR_OK);
        for (int n = 0; n < leaves; n++)
            CHECK_EQ(pgr_grad(t.tape, ids[n]), expected[n]);
        marks_are_gone(t.tape);
        pthread_cond_destroy(&t.changed);
        pthread_mutex_destroy(&t.lock);
        pgr_tape_free(t.tape);
    }
}

/* The reference: reverse accumulation over plain arrays, which visits every node. */
static void random_graphs_equal_plain_reverse_accumulation(void)
{
    enum { NODES = 6000 };
    static double data[NODES], grad[NODES], partial[NODES][2];
    static int operand[NODES][2];
    static pgr_id ids[NODES];
    static const char *const names[] = {"add", "sub", "mul", "sin", "tanh"};
    check_seed();
    for (int round = 0; round < 40; round++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        const int leaves = 1 + (int)pick(20), count = leaves + 1 + (int)pick(NODES - 30);
        const int reach = 1 + (int)pick(round % 2 ? 10 : 5000);
        for (int k = 0; k < count; k++) {
            if (pick(10) == 0)
                leaf(tape, 0.0); /* so that ids differ from indices */
            if (k < leaves) {
                data[k] = (double)pick(1000) / 500.0 - 1.0;
                operand[k][0] = operand[k][1] = -1;
                ids[k] = leaf(tape, data[k]);
                continue;
            }
            const int low = k > reach ? k - reach : 0, i = low + (int)pick((unsigned)(k - low)), j = low + (int)pick((unsigned)(k - low));
            int op = (int)pick(5);
            if (op < 3 && fabs(data[i]) + fabs(data[j]) > 4)
                op = 4;
            const double a = data[i], b = data[j];
            operand[k][0] = i;
            operand[k][1] = op < 3 ? j : -1;
            data[k] = op == 0 ? a + b : op == 1 ? a - b : op == 2 ? a * b : op == 3 ? sin(a) : tanh(a);
            partial[k][0] = op < 2 ? 1 : op == 2 ? b : op == 3 ? cos(a) : 1 - data[k] * data[k];
            partial[k][1] = op == 0 ? 1 : op == 1 ? -1 : a;
            ids[k] = record(tape, names[op], ids[i], op < 3 ? ids[j] : 0);
            pgr_set_grad(tape, ids[k], 1e6); /* stale */
            CHECK_EQ(pgr_data(tape, ids[k]), data[k]);
        }
        const int root = leaves + (int)pick((unsigned)(count - leaves));
        memset(grad, 0, sizeof grad);
        grad[root] = 1.0;
        for (int k = root; k >= leaves; k--)
            for (int s = 0; s < 2; s++)
                if (operand[k][s] >= 0)
                    grad[operand[k][s]] += partial[k][s] * grad[k];
        CHECK(pgr_backward(tape, ids[root]) == PGR_OK);
        for (int k = 0; k < leaves; k++)
            CHECK(fabs(pgr_grad(tape, ids[k]) - grad[k]) <= 1e-9 * fmax(1.0, fabs(grad[k])));
        pgr_tape_free(tape);
    }
}

static int count_runs(void *ctx, pgr_tape *tape, pgr_handle node)
{
    (void)tape, (void)node;
    ++*(int *)ctx;
    return 0;
}

/* A random graph near the tape's start, and again far up, where the sweep avoids branches on the order: the same grads
 * to the last bit, with infinite operands, stale grads, custom leaves and unreached nodes. */
static void the_same_graph_high_up_on_a_tape_has_the_same_grads(void)
{
    enum { GRAPHS = 20, NODES = 400, LEAVES = 20, HIGH = 1 << 17 };
    static const char *const ops[] = {"add", "sub", "mul", "add", "sub", "mul", "max", "neg", "tanh", "tanh"};
    const unsigned seed = check_seed();
    static double grads[2][NODES];
    int telling = 0;
    for (unsigned graph = 0; graph < GRAPHS; graph++) {
        int runs[2] = {0, 0};
        for (int high = 0; high < 2; high++) {
            srand(seed + graph);
            pgr_tape *const tape = pgr_tape_new(NULL);
            pgr_tape_on_custom(tape, count_runs, &runs[high]);
            for (int i = 0; high && i < HIGH; i++)
                leaf(tape, 0.0);
            pgr_id ids[NODES];
            for (int k = 0; k < NODES; k++) {
                if (k == LEAVES && graph % 4 < 2) /* custom nodes on the tape select another loop */
                    CHECK(pgr_custom(tape, 0.5, 0, NULL, &ids[k]) == PGR_OK);
                else if (k <= LEAVES)
                    ids[k] = leaf(tape, k == 0 && graph % 2 != 0 ? INFINITY : 0.125 * (double)pick(17) - 1.0);
                else {
                    const unsigned window = pick(20) == 0 ? (unsigned)k : k < 40 ? (unsigned)k : 40u;
                    const pgr_id lhs = ids[(unsigned)k - 1 - pick(window)], rhs = ids[(unsigned)k - 1 - pick(window)];
                    const char *const op = ops[pick(sizeof ops / sizeof *ops)];
                    ids[k] = record(tape, op, lhs, strcmp(op, "neg") == 0 || strcmp(op, "tanh") == 0 ? 0 : rhs);
                }
                pgr_set_grad(tape, ids[k], k < LEAVES ? 0.0 : 1e6); /* stale */
            }
            CHECK(pgr_backward(tape, ids[NODES - 1]) == PGR_OK);
            CHECK(pgr_backward(tape, ids[NODES - 2]) == PGR_OK);
            for (int k = 0; k < NODES; k++)
                grads[high][k] = pgr_grad(tape, ids[k]);
            pgr_tape_free(tape);
        }
        CHECK_EQ(runs[1], runs[0]);
        double sum = 0.0;
        for (int k = 0; k < LEAVES; k++)
            sum += fabs(grads[0][k]);
        telling += isfinite(sum) && sum > 1e-9; /* some graphs have infinite grads, or none */
        for (int k = 0; k < NODES; k++)
            CHECK_EQ(grads[1][k], grads[0][k]);
    }
    CHECK(telling >= GRAPHS / 4);
}

static int give_infinity(void *ctx, pgr_tape *tape, pgr_handle node)
{
    const pgr_id id = pgr_h_id(tape, node);
    operand_walk walk = {id, false};
    for (pgr_id o, k = 0; (o = operand_next(tape->nodes, &walk)) != 0; k++)
        if (k == *(const pgr_id *)ctx)
            pgr_set_grad(tape, o, INFINITY);
    return 0;
}

static int record_and_pop(void *ctx, pgr_tape *tape, pgr_handle node)
{
    const pgr_id id = pgr_h_id(tape, node);
    (void)ctx, (void)id;
    leaf(tape, 1.0);
    const uint32_t size = tape->size;
    tape_pop(tape);
    CHECK_EQ(tape->size, size);
    return 0;
}

static void nothing_is_taken_back_inside_a_pass(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_tape_on_custom(tape, record_and_pop, NULL);
    pgr_id x = leaf(tape, 1.0), out = 0;
    CHECK_EQ(pgr_custom(tape, 1.0, 1, &x, &out), PGR_OK);
    CHECK_EQ(pgr_backward(tape, record(tape, "mul", out, x)), PGR_OK);
    CHECK_EQ(pgr_grad(tape, x), 1.0);
    tape_pop(tape); /* nothing is held */
    CHECK_EQ(pgr_tape_stat(tape).nodes, 0);
    pgr_tape_free(tape);
}

/* Whichever of a node's operands it is. */
static void a_checked_sweep_sees_every_operand_of_a_step(void)
{
    for (int big = 0; big < 2; big++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        const pgr_id x = leaf(tape, big ? 1e150 : 1e-150), y = leaf(tape, big ? 1e-150 : 1e150);
        const pgr_id product = record(tape, "mul", x, y), root = record(tape, "mul", product, leaf(tape, 1e200));
        pgr_id bad = 0;
        CHECK_EQ(pgr_backward_checked(tape, root, &bad), PGR_ERR_NOT_FINITE);
        CHECK_EQ(bad, product);
        CHECK(isinf(pgr_grad(tape, big ? y : x)) && isfinite(pgr_grad(tape, big ? x : y)));
        pgr_tape_free(tape);
    }
    for (pgr_id which = 0; which < 4; which++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        pgr_tape_on_custom(tape, give_infinity, (void *)&which);
        pgr_id operands[4], out = 0, bad = 0;
        for (int i = 0; i < 4; i++)
            operands[i] = leaf(tape, 1.0);
        CHECK_EQ(pgr_custom(tape, 1.0, 4, operands, &out), PGR_OK);
        CHECK_EQ(pgr_backward_checked(tape, record(tape, "neg", out, 0), &bad), PGR_ERR_NOT_FINITE);
        CHECK_EQ(bad, out);
        pgr_tape_free(tape);
    }
}

int main(void)
{
    TEST(nothing_is_taken_back_inside_a_pass);
    TEST(a_checked_sweep_sees_every_operand_of_a_step);
    TEST(same_operand_twice_counts_twice);
    TEST(leaves_accumulate_and_interior_nodes_are_overwritten);
    TEST(other_roots_are_not_touched);
    TEST(chain_of_two_million_nodes_does_not_recurse);
    TEST(operands_are_reached_at_every_distance);
    TEST(custom_nodes_have_any_number_of_operands);
    TEST(a_failure_leaves_no_marks);
    TEST(a_long_sweep_asks_whether_to_stop);
    TEST(any_number_of_passes_may_nest);
    TEST(sweeps_of_many_threads_add_up_in_whatever_order_they_end);
    TEST(random_graphs_equal_plain_reverse_accumulation);
    TEST(the_same_graph_high_up_on_a_tape_has_the_same_grads);
    return check_report();
}
