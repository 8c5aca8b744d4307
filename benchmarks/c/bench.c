/* bench.c: what one node costs in C, by what is done to it and by how many there are.
 *
 * Each case takes turns with a limit: for most a bare loop over the same numbers that does the same loads
 * and stores with no dispatch, no marks and no checks; for collect and export a copy of as many bytes. The
 * share is limit over case, of the medians: at 100 % the machine allows no more. Memory is warm: a tape
 * keeps what it has, and the first touch of a page, which costs more than all of this, falls on a repeat
 * that is not counted. Results are compared before anything is timed. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "pgr.h"

#define COUNT(array) (sizeof(array) / sizeof *(array))

enum { SEED = 20261123, REPEATS_AT_MOST = 200 };

static void must(bool ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "bench: %s\n", what);
        exit(1);
    }
}

static void *allocate(size_t count, size_t size)
{
    void *const p = calloc(count, size);
    must(p != NULL, "out of memory");
    return p;
}

static uint64_t random_state = SEED;

static uint32_t random_below(uint32_t n) /* xorshift64* */
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return (uint32_t)(((random_state * 2685821657736338717u >> 32) * n) >> 32);
}

static double random_unit(void) { return random_below(1u << 30) / (double)(1u << 30); }

static int ADD, SUB, MUL, TANH, RELU;

static int op_named(const char *name)
{
    int op = pgr_op_count() - 1;
    while (op > 0 && strcmp(pgr_op_row(op)->name, name) != 0)
        op--;
    must(op > 0, name);
    return op;
}

/* ---- What a case works on ------------------------------------------------------------------ */

/* As the tape's own node, without what the bare machine does not need. */
typedef struct {
    double data, grad;
    uint32_t lhs, rhs;
    int op;
    uint32_t rest;
} bare;
_Static_assert(sizeof(bare) == 32, "as large as a node");

typedef struct {
    uint32_t n; /* nodes, about */
    pgr_tape *tape;
    pgr_id *leaves, root;
    uint32_t leaf_count;
    int64_t held;
    bare *nodes; /* the same graph for the bare machine, nodes[0] nobody's */
    uint32_t size;
    char *from, *to;
} bench;

static volatile double sink; /* keeps loops whose result nobody reads */

static void new_leaves(bench *b, uint32_t count)
{
    b->tape = pgr_tape_new(NULL);
    must(b->tape != NULL, "out of memory");
    b->leaves = allocate(count, sizeof *b->leaves);
    b->leaf_count = count;
    for (uint32_t i = 0; i < count; i++) {
        must(pgr_leaf(b->tape, random_unit() - 0.5, &b->leaves[i]) == PGR_OK, "leaf");
        must(pgr_hold(b->tape, b->leaves[i]) > 0, "hold");
    }
}

static void free_bench(bench *b)
{
    pgr_tape_free(b->tape);
    free(b->leaves);
    free(b->nodes);
    free(b->from);
    free(b->to);
}

static void clear(bench *b) /* all but the leaves */
{
    must(pgr_tape_collect(b->tape) == PGR_OK, "collect");
}

static inline pgr_id record(bench *b, int op, pgr_id lhs, pgr_id rhs)
{
    pgr_id id = 0;
    pgr_record(b->tape, op, lhs, rhs, &id);
    return id;
}

/* ---- Recording ----------------------------------------------------------------------------- */

enum { POOL = 64 }; /* operands: leaves, in L1 */

static void record_setup(bench *b)
{
    new_leaves(b, POOL);
    b->size = b->n + POOL + 1;
    b->nodes = allocate(b->size, sizeof *b->nodes);
    for (uint32_t i = 0; i < POOL; i++)
        b->nodes[i + 1].data = pgr_data(b->tape, b->leaves[i]);
}

static double record_leaf(bench *b)
{
    const double start = seconds();
    for (uint32_t i = 0; i < b->n; i++) {
        pgr_id id;
        pgr_leaf(b->tape, 0.5, &id);
    }
    const double time = seconds() - start;
    clear(b);
    return time;
}

static double bare_leaf(bench *b)
{
    const double start = seconds();
    for (uint32_t i = POOL + 1; i < b->size; i++)
        b->nodes[i] = (bare){.data = 0.5};
    const double time = seconds() - start;
    sink = b->nodes[b->size - 1].data;
    return time;
}

static inline double record_op(bench *b, int op)
{
    const double start = seconds();
    for (uint32_t i = 0; i < b->n; i++)
        record(b, op, b->leaves[i % POOL], b->leaves[(7 * i + 3) % POOL]);
    const double time = seconds() - start;
    clear(b);
    return time;
}

#define BARE_OP(name, op_id, expression) \
    static double bare_##name(bench *b) \
    { \
        bare *const nodes = b->nodes; \
        const double start = seconds(); \
        for (uint32_t i = 0; i < b->n; i++) { \
            const uint32_t lhs = 1 + i % POOL, rhs = 1 + (7 * i + 3) % POOL; \
            const double a = nodes[lhs].data, c = nodes[rhs].data; \
            (void)c; \
            nodes[POOL + 1 + i] = (bare){.data = expression, .lhs = lhs, .rhs = rhs, .op = op_id}; \
        } \
        const double time = seconds() - start; \
        sink = nodes[b->size - 1].data; \
        return time; \
    }
BARE_OP(add, ADD, a + c)
BARE_OP(mul, MUL, a * c)
BARE_OP(tanh, TANH, tanh(a))

static double record_add(bench *b) { return record_op(b, ADD); }
static double record_mul(bench *b) { return record_op(b, MUL); }
static double record_tanh(bench *b) { return record_op(b, TANH); }

/* ---- The dense graph: micrograd's moons MLP, 2-16-16-1 with ReLU, 650 nodes a point ---------------- */

enum { INPUTS = 2, HIDDEN = 16, PARAMETERS = HIDDEN * (INPUTS + 1) + HIDDEN * (HIDDEN + 1) + HIDDEN + 1, PER_POINT = 650 };

/* With `dots` a neuron's sum by one call of pgr_dot, else by one call an operation; the same nodes. */
static inline const pgr_id *layer(bench *b, bool dots, const pgr_id *w, const pgr_id *x, int nin, int nout, bool nonlin, pgr_id *out)
{
    for (int i = 0; i < nout; i++) {
        pgr_id sum = w[nin];
        if (dots)
            pgr_dot(b->tape, (size_t)nin, w, x, sum, &sum);
        for (int j = 0; j < nin && !dots; j++)
            sum = record(b, ADD, sum, record(b, MUL, w[j], x[j]));
        out[i] = nonlin ? record(b, RELU, sum, 0) : sum;
        w += nin + 1;
    }
    return w;
}

static inline void record_mlp(bench *b, bool dots)
{
    b->root = b->leaves[0];
    for (uint32_t point = 0; point < b->n / PER_POINT + 1; point++) {
        pgr_id x[INPUTS], h1[HIDDEN], h2[HIDDEN], y;
        for (int i = 0; i < INPUTS; i++)
            must(pgr_leaf(b->tape, sin(point + i), &x[i]) == PGR_OK, "leaf");
        const pgr_id *w = layer(b, dots, b->leaves, x, INPUTS, HIDDEN, true, h1);
        w = layer(b, dots, w, h1, HIDDEN, HIDDEN, true, h2);
        layer(b, dots, w, h2, HIDDEN, 1, false, &y);
        b->root = record(b, ADD, b->root, y);
    }
}

static void zero_grads(bench *b)
{
    for (uint32_t i = 0; i < b->leaf_count; i++)
        pgr_set_grad(b->tape, b->leaves[i], 0.0);
}

/* The exported graph for the bare machine; the first nodes are the leaves that all points share. */
static void copy_graph(bench *b)
{
    pgr_table table;
    must(pgr_export(b->tape, b->root, 0, &table) == PGR_OK, "export");
    b->size = table.row_count + 1;
    b->nodes = allocate(b->size, sizeof *b->nodes);
    for (uint32_t i = 0; i < table.row_count; i++) {
        const pgr_row *const row = &table.rows[i];
        const uint32_t *const operands = table.operands + row->first_operand;
        b->nodes[i + 1] = (bare){
            .data = row->data,
            .lhs = row->operand_count > 0 ? operands[0] + 1 : 0,
            .rhs = row->operand_count > 1 ? operands[1] + 1 : 0,
            .op = row->op,
        };
    }
    pgr_table_free(b->tape, &table);
}

/* The plainest reverse sweep there is, to compare with. */
static void check_gradient(bench *b)
{
    bare *const nodes = b->nodes;
    nodes[b->size - 1].grad = 1.0;
    for (uint32_t i = b->size - 1; i > 0; i--) {
        const bare node = nodes[i];
        if (node.op == ADD) {
            nodes[node.lhs].grad += node.grad;
            nodes[node.rhs].grad += node.grad;
        } else if (node.op == MUL) {
            nodes[node.lhs].grad += node.grad * nodes[node.rhs].data;
            nodes[node.rhs].grad += node.grad * nodes[node.lhs].data;
        } else if (node.op == RELU) {
            nodes[node.lhs].grad += node.data > 0.0 ? node.grad : 0.0;
        }
    }
    zero_grads(b);
    must(pgr_backward(b->tape, b->root) == PGR_OK, "backward");
    for (uint32_t i = 0; i < b->leaf_count; i++) {
        const double got = pgr_grad(b->tape, b->leaves[i]), expected = nodes[i + 1].grad;
        must(fabs(got - expected) <= 1e-12 * fmax(fabs(expected), 1.0), "the gradient differs from the plain sweep's");
    }
    for (uint32_t i = 0; i < b->size; i++)
        nodes[i].grad = 0.0;
}

static void dense_setup(bench *b)
{
    new_leaves(b, PARAMETERS);
    record_mlp(b, false);
    b->held = pgr_hold(b->tape, b->root);
    copy_graph(b);
    check_gradient(b);
}

static double dense_backward(bench *b)
{
    zero_grads(b);
    const double start = seconds();
    pgr_backward(b->tape, b->root);
    return seconds() - start;
}

/* Every node a product, whose grad is put back to 0 once it is passed on. */
static void bare_sweep(bare *nodes, uint32_t size)
{
    nodes[size - 1].grad = 1.0;
    for (bare *node = nodes + size - 1; node > nodes; node--) {
        if (node->lhs == 0)
            continue;
        const double g = node->grad;
        node->grad = 0.0;
        nodes[node->lhs].grad += g * nodes[node->rhs].data;
        nodes[node->rhs].grad += g * nodes[node->lhs].data;
    }
}

static double bare_backward(bench *b)
{
    for (uint32_t i = 0; i <= b->leaf_count; i++)
        b->nodes[i].grad = 0.0;
    const double start = seconds();
    bare_sweep(b->nodes, b->size);
    return seconds() - start;
}

/* ---- A training step: record, backward, collect ------------------------------------------------ */

static void step_setup(bench *b)
{
    dense_setup(b);
    pgr_h_release(b->tape, (pgr_handle)b->held, 0);
    clear(b);
}

static inline double step(bench *b, bool dots)
{
    zero_grads(b);
    const double start = seconds();
    record_mlp(b, dots);
    pgr_backward(b->tape, b->root);
    clear(b);
    return seconds() - start;
}

static double step_by_operation(bench *b) { return step(b, false); }
static double step_by_neuron(bench *b) { return step(b, true); }

static double bare_step(bench *b)
{
    bare *const nodes = b->nodes;
    for (uint32_t i = 0; i <= b->leaf_count; i++)
        nodes[i].grad = 0.0;
    const double start = seconds();
    for (bare *node = nodes + 1; node < nodes + b->size; node++)
        if (node->lhs != 0)
            *node = (bare){.data = 0.5 * nodes[node->lhs].data + nodes[node->rhs].data, .lhs = node->lhs, .rhs = node->rhs, .op = node->op};
    bare_sweep(nodes, b->size);
    return seconds() - start;
}

/* ---- A small root on a long tape --------------------------------------------------------------- */

enum { SMALL = 100 };

static void small_setup(bench *b)
{
    new_leaves(b, POOL);
    pgr_id sum = b->leaves[0];
    for (uint32_t i = 0; i < b->n; i++)
        sum = record(b, ADD, sum, b->leaves[i % POOL]);
    must(pgr_hold(b->tape, sum) > 0, "hold");
    b->root = b->leaves[0];
    for (int i = 0; i < SMALL; i++)
        b->root = record(b, MUL, b->root, b->leaves[1]);
    pgr_hold(b->tape, b->root);
    copy_graph(b);
    zero_grads(b);
    must(pgr_backward(b->tape, b->root) == PGR_OK, "backward");
    const double expected = pow(pgr_data(b->tape, b->leaves[1]), SMALL);
    must(fabs(pgr_grad(b->tape, b->leaves[0]) - expected) <= 1e-12 * fabs(expected), "the small root's gradient is wrong");
}

/* ---- Collecting ---------------------------------------------------------------------------- */

static void copies_setup(bench *b, size_t bytes)
{
    b->from = allocate(bytes, 1);
    b->to = allocate(bytes, 1);
}

static double bare_copy(bench *b)
{
    const double start = seconds();
    memcpy(b->to, b->from, (size_t)b->n * sizeof(bare));
    const double time = seconds() - start;
    sink = b->to[b->n / 2];
    return time;
}

static void collect_setup(bench *b)
{
    new_leaves(b, POOL);
    copies_setup(b, (size_t)b->n * sizeof(bare));
}

/* One chain of kept nodes under one handle, a kept one after each `dead` that are not, or the reverse. */
static double collect(bench *b, uint32_t period, bool keep_one)
{
    pgr_id chain = b->leaves[0];
    uint32_t kept = 0;
    for (uint32_t i = 0; i < b->n; i++) {
        const bool keep = (i % period == 0) == keep_one;
        const pgr_id id = record(b, ADD, chain, b->leaves[i % POOL]);
        chain = keep ? id : chain;
        kept += keep;
    }
    const double expected = pgr_data(b->tape, chain);
    const int64_t held = pgr_hold(b->tape, chain);
    record(b, ADD, chain, chain);
    const double start = seconds();
    must(pgr_tape_collect(b->tape) == PGR_OK, "collect");
    const double time = seconds() - start;
    must(pgr_tape_stat(b->tape).nodes == kept + POOL && pgr_h_data(b->tape, (pgr_handle)held) == expected, "collect kept the wrong nodes");
    pgr_h_release(b->tape, (pgr_handle)held, 0);
    clear(b);
    return time;
}

static double collect_few(bench *b) { return collect(b, 100, true); }
static double collect_many(bench *b) { return collect(b, 100, false); }

/* ---- Export and free --------------------------------------------------------------------------- */

static void export_setup(bench *b)
{
    dense_setup(b);
    copies_setup(b, b->size * (sizeof(pgr_row) + 2 * sizeof(uint32_t)));
}

static double export(bench *b)
{
    pgr_table table;
    const double start = seconds();
    must(pgr_export(b->tape, b->root, 0, &table) == PGR_OK, "export");
    const double time = seconds() - start;
    must(table.row_count + 1 == b->size && table.rows[table.row_count - 1].data == pgr_data(b->tape, b->root), "export lost nodes");
    pgr_table_free(b->tape, &table);
    return time;
}

static double bare_export(bench *b)
{
    const size_t bytes = b->size * (sizeof(pgr_row) + 2 * sizeof(uint32_t));
    const double start = seconds();
    char *const out = malloc(bytes); /* as an export takes new memory */
    must(out != NULL, "out of memory");
    memcpy(out, b->from, bytes);
    const double time = seconds() - start;
    sink = out[bytes / 2];
    free(out);
    return time;
}

static double drop(bench *b)
{
    record_mlp(b, false);
    const int64_t held = pgr_hold(b->tape, b->root);
    const double start = seconds();
    pgr_h_release(b->tape, (pgr_handle)held, 0);
    must(pgr_tape_collect(b->tape) == PGR_OK, "collect");
    const double time = seconds() - start;
    must(pgr_tape_stat(b->tape).nodes == b->leaf_count, "nodes were left");
    return time;
}

static double bare_drop(bench *b)
{
    uint32_t used = 0;
    const double start = seconds();
    for (const bare *node = b->nodes + b->size - 1; node > b->nodes; node--)
        used += node->rest;
    const double time = seconds() - start;
    sink = used;
    return time;
}

/* ---- The cases ------------------------------------------------------------------------------ */

typedef struct {
    const char *name, *limit_name;
    void (*setup)(bench *b);
    double (*run)(bench *b);
    double (*limit)(bench *b);
    uint32_t per; /* nodes that a time is divided by; 0: all */
} bench_case;

static const bench_case cases[] = {
    {"record leaf", "bare store", record_setup, record_leaf, bare_leaf, 0},
    {"record add", "bare loop", record_setup, record_add, bare_add, 0},
    {"record mul", "bare loop", record_setup, record_mul, bare_mul, 0},
    {"record tanh", "bare loop with libm's tanh", record_setup, record_tanh, bare_tanh, 0},
    {"backward, dense", "bare loop", dense_setup, dense_backward, bare_backward, 0},
    {"backward, 100-node root", "bare loop", small_setup, dense_backward, bare_backward, SMALL},
    {"collect, 1% live", "copy of the tape", collect_setup, collect_few, bare_copy, 0},
    {"collect, 99% live", "copy of the tape", collect_setup, collect_many, bare_copy, 0},
    {"export, dense", "malloc and copy of the table", export_setup, export, bare_export, 0},
    {"free, dense", "bare read", step_setup, drop, bare_drop, 0},
    {"training step", "bare record and sweep", step_setup, step_by_operation, bare_step, 0},
    {"training step, pgr_dot", "bare record and sweep", step_setup, step_by_neuron, bare_step, 0},
};

static const uint32_t sizes[] = {1000, 10000, 100000, 10000000}; /* of 32 bytes: in L1, in L2, about L2, in memory */

typedef struct {
    double minimum, median;
} summary;

static int by_value(const void *p, const void *q)
{
    const double a = *(const double *)p, b = *(const double *)q;
    return (a > b) - (a < b);
}

static summary summarize(double *times, size_t count, double scale)
{
    qsort(times, count, sizeof *times, by_value);
    return (summary){times[0] * scale, times[count / 2] * scale};
}

static bool json, first_row = true;

static void print_row(const char *name, uint32_t n, const char *unit, summary s, const char *limit_name, summary limit)
{
    if (json) {
        printf("%s\n    {\"case\": \"%s\", \"nodes\": %u, \"unit\": \"%s\", \"minimum\": %.4g, \"median\": %.4g", first_row ? "" : ",", name, n,
               unit, s.minimum, s.median);
        if (limit_name != NULL)
            printf(", \"limit\": \"%s\", \"limit_minimum\": %.4g, \"limit_median\": %.4g", limit_name, limit.minimum, limit.median);
        printf("}");
    } else {
        printf("%-26s %10u  %7.2f %7.2f", name, n, s.minimum, s.median);
        if (limit_name != NULL)
            printf("   %7.2f %5.0f %%  %s", limit.median, 100.0 * limit.median / s.median, limit_name);
        printf("\n");
    }
    first_row = false;
    fflush(stdout);
}

/* So many repeats that a case takes about `budget` seconds, but no less than 5. */
static size_t repeats(double once, double budget)
{
    const double wanted = budget / fmax(once, 1e-6);
    return wanted < 5 ? 5 : wanted > REPEATS_AT_MOST ? REPEATS_AT_MOST : (size_t)wanted;
}

static void run_case(const bench_case *c, uint32_t n, double budget)
{
    static double times[REPEATS_AT_MOST], limits[REPEATS_AT_MOST];
    bench b = {.n = n};
    c->setup(&b);
    c->limit(&b);
    c->run(&b);
    const double start = seconds();
    c->run(&b);
    const size_t count = repeats(seconds() - start, budget);
    for (size_t i = 0; i < count; i++) {
        times[i] = c->run(&b);
        limits[i] = c->limit(&b);
    }
    const double nodes = c->per != 0 ? c->per : c->setup == record_setup || c->setup == collect_setup ? b.n : b.size - 1;
    const double scale = 1e9 / nodes;
    print_row(c->name, n, "ns/node", summarize(times, count, scale), c->limit_name, summarize(limits, count, scale));
    free_bench(&b);
}

/* ---- The random graph, against other tapes ------------------------------------------------------- */

enum { RANDOM_NODES = 1000000, NEAR = 1000, RANDOM_INPUTS = 1000 };

/* Operands are drawn from the last 1,000 nodes; ops so that values stay within [-0.5, 0.5]. */
static random_graph *new_random_graph(void)
{
    random_graph *const g = allocate(1, sizeof *g);
    double *const values = allocate(RANDOM_INPUTS, sizeof *values);
    random_operation *const operations = allocate(RANDOM_NODES, sizeof *operations);
    double *const data = allocate(RANDOM_INPUTS + RANDOM_NODES, sizeof *data);
    for (size_t i = 0; i < RANDOM_INPUTS; i++)
        data[i] = values[i] = 2.0 * random_unit() - 1.0;
    for (size_t i = 0; i < RANDOM_NODES; i++) {
        const size_t first = RANDOM_INPUTS + i - NEAR;
        random_operation *const o = &operations[i];
        o->lhs = (uint32_t)(first + random_below(NEAR));
        o->rhs = (uint32_t)(first + random_below(NEAR));
        const double a = data[o->lhs], b = data[o->rhs];
        const double results[] = {a + b, a - b, a * b};
        o->op = (int)random_below(3);
        if (fabs(results[o->op]) > 0.5)
            o->op = fabs(a + b) < fabs(a - b) ? RANDOM_ADD : RANDOM_SUB;
        data[RANDOM_INPUTS + i] = results[o->op];
    }
    free(data);
    *g = (random_graph){RANDOM_INPUTS, RANDOM_NODES, values, operations};
    return g;
}

static random_times run_pygrad(const random_graph *graph, double *grads)
{
    static pgr_tape *tape;
    static pgr_id *ids;
    if (tape == NULL) {
        tape = pgr_tape_new(NULL);
        ids = allocate(graph->inputs + graph->count, sizeof *ids);
        must(tape != NULL, "out of memory");
    }
    const int ops[] = {ADD, SUB, MUL};
    const double start = seconds();
    for (size_t i = 0; i < graph->inputs; i++)
        pgr_leaf(tape, graph->values[i], &ids[i]);
    pgr_id *const result = ids + graph->inputs;
    for (size_t i = 0; i < graph->count; i++) {
        const random_operation o = graph->operations[i];
        pgr_record(tape, ops[o.op], ids[o.lhs], ids[o.rhs], &result[i]);
    }
    const double recorded = seconds();
    must(pgr_backward(tape, result[graph->count - 1]) == PGR_OK, "backward");
    const double swept = seconds();
    for (size_t i = 0; i < graph->inputs; i++)
        grads[i] = pgr_grad(tape, ids[i]);
    pgr_tape_collect(tape);
    return (random_times){recorded - start, swept - recorded};
}

static const rival pygrad = {"pygrad", run_pygrad};

static void run_rivals(void)
{
    enum { REPEATS = 15 };
    const rival *const rivals[] = {&pygrad, &adolc, &cppad};
    static double record_times[COUNT(rivals)][REPEATS], backward_times[COUNT(rivals)][REPEATS];
    random_graph *const graph = new_random_graph();
    double *const expected = allocate(graph->inputs, sizeof *expected), *const grads = allocate(graph->inputs, sizeof *grads);
    double largest = 0.0;
    run_pygrad(graph, expected);
    for (size_t i = 0; i < graph->inputs; i++)
        largest = fmax(largest, fabs(expected[i]));
    must(isfinite(largest) && largest > 0.0, "the random graph's gradient is no number");
    for (size_t r = 1; r < COUNT(rivals); r++) {
        if (rivals[r]->run == NULL)
            continue;
        rivals[r]->run(graph, grads);
        for (size_t i = 0; i < graph->inputs; i++)
            must(fabs(grads[i] - expected[i]) <= 1e-9 * largest, rivals[r]->name);
    }
    for (size_t i = 0; i < REPEATS; i++)
        for (size_t r = 0; r < COUNT(rivals); r++)
            if (rivals[r]->run != NULL) {
                const random_times t = rivals[r]->run(graph, grads);
                record_times[r][i] = t.record;
                backward_times[r][i] = t.backward;
            }
    for (size_t r = 0; r < COUNT(rivals); r++) {
        char name[64];
        if (rivals[r]->run == NULL) {
            fprintf(stderr, "%s: not installed\n", rivals[r]->name);
            continue;
        }
        snprintf(name, sizeof name, "%s, random graph: record", rivals[r]->name);
        print_row(name, RANDOM_NODES, "ns/node", summarize(record_times[r], REPEATS, 1e9 / RANDOM_NODES), NULL, (summary){0, 0});
        snprintf(name, sizeof name, "%s, random graph: backward", rivals[r]->name);
        print_row(name, RANDOM_NODES, "ns/node", summarize(backward_times[r], REPEATS, 1e9 / RANDOM_NODES), NULL, (summary){0, 0});
    }
}

int main(int argc, char **argv)
{
    bool quick = false;
    for (int i = 1; i < argc; i++) {
        json = json || strcmp(argv[i], "--json") == 0;
        quick = quick || strcmp(argv[i], "--quick") == 0;
        if (strcmp(argv[i], "--json") != 0 && strcmp(argv[i], "--quick") != 0) {
            fprintf(stderr, "usage: %s [--json] [--quick]\n--quick: up to 100,000 nodes only\n", argv[0]);
            return 2;
        }
    }
    ADD = op_named("add"), SUB = op_named("sub"), MUL = op_named("mul"), TANH = op_named("tanh"), RELU = op_named("relu");
    if (json)
        printf("{\n  \"compiler\": \"%s\", \"flags\": \"%s\", \"seed\": %d,\n  \"rows\": [", COMPILER, FLAGS, SEED);
    else
        printf("%s, %s, seed %d; ns a node\n%-26s %10s  %7s %7s   %7s %7s\n", COMPILER, FLAGS, SEED, "case", "nodes", "minimum", "median", "limit",
               "share");
    for (size_t c = 0; c < COUNT(cases); c++)
        for (size_t s = 0; s < COUNT(sizes); s++)
            if (!quick || sizes[s] <= 100000)
                run_case(&cases[c], sizes[s], quick ? 0.02 : 0.5);
    run_rivals();
    if (json)
        printf("\n  ]\n}\n");
    return 0;
}
