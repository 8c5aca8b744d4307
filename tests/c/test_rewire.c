/* New operands after recording: random graphs against a reference with its own edges. */
#include "check.h"

enum { NODES = 40, OPERANDS = 5, LEAVES = 6 };

/* A graph beside the tape: custom nodes, each of which gives operand k of n its grad times k + 2. */
typedef struct {
    pgr_handle handle[NODES];
    int operands[NODES][OPERANDS], count[NODES];
    bool is_custom[NODES]; /* the others are sums of two */
    double grad[NODES], data[NODES];
} graph;

static graph *present; /* the one that is swept */

static int give_to_each(void *unused, pgr_tape *tape, pgr_handle node)
{
    (void)unused;
    int which = 0;
    while (present->handle[which] != node)
        which++;
    pgr_handle operands[OPERANDS];
    const int64_t n = pgr_h_operands(tape, node, OPERANDS, operands);
    CHECK_EQ(n, present->count[which]);
    for (int64_t k = 0; k < n; k++) {
        CHECK_EQ(operands[k], present->handle[present->operands[which][k]]);
        pgr_h_add_grad(tape, operands[k], pgr_h_grad(tape, node) * (double)(k + 2));
        pgr_h_release(tape, operands[k], 0);
    }
    return 0;
}

/* Whether `from` is made from `what`. */
static bool needs(const graph *g, int from, int what)
{
    if (from == what)
        return true;
    for (int k = 0; k < g->count[from]; k++)
        if (needs(g, g->operands[from][k], what))
            return true;
    return false;
}

/* Adds grads along the edges; each node comes after all nodes that use it. */
static void sweep_reference(graph *g, int root)
{
    bool reached[NODES] = {false}, done[NODES] = {false};
    double grad[NODES] = {0};
    for (int i = 0; i < NODES; i++)
        reached[i] = needs(g, root, i);
    grad[root] = 1.0;
    for (;;) {
        int next = -1;
        for (int i = 0; i < NODES && next < 0; i++) {
            bool ready = reached[i] && !done[i];
            for (int j = 0; j < NODES; j++)
                for (int k = 0; ready && k < g->count[j]; k++)
                    ready = !(reached[j] && !done[j] && g->operands[j][k] == i);
            if (ready)
                next = i;
        }
        if (next < 0)
            break;
        done[next] = true;
        for (int k = 0; k < g->count[next]; k++)
            grad[g->operands[next][k]] += grad[next] * (g->is_custom[next] ? k + 2 : 1);
    }
    for (int i = 0; i < NODES; i++)
        if (reached[i])
            g->grad[i] = g->count[i] == 0 && i != root ? g->grad[i] + grad[i] : grad[i];
}

static graph *random_graph(pgr_tape *tape)
{
    graph *const g = calloc(1, sizeof *g);
    for (int i = 0; i < NODES; i++) {
        g->data[i] = i + 0.5;
        if (i < LEAVES) {
            g->handle[i] = held(pgr_h_leaf(tape, PGR_OP_LEAF, g->data[i]));
            continue;
        }
        pgr_handle operands[OPERANDS];
        g->is_custom[i] = pick(3) > 0;
        g->count[i] = g->is_custom[i] ? 1 + (int)pick(OPERANDS) : 2;
        for (int k = 0; k < g->count[i]; k++)
            operands[k] = g->handle[g->operands[i][k] = (int)pick((unsigned)i)];
        pgr_tape_tag(tape, PGR_TAG_SCOPE, pick(4));
        if (g->is_custom[i])
            g->handle[i] = held(pgr_h_custom(tape, g->data[i], (size_t)g->count[i], operands));
        else
            g->handle[i] = held(pgr_h_record(tape, op_named("add"), operands[0], operands[1]));
        pgr_h_set_data(tape, g->handle[i], g->data[i]);
    }
    pgr_tape_tag(tape, PGR_TAG_SCOPE, 9);
    return g;
}

static void check_numbers(pgr_tape *tape, const graph *g, const uint32_t *scopes)
{
    for (int i = 0; i < NODES; i++) {
        CHECK_EQ(pgr_h_data(tape, g->handle[i]), g->data[i]);
        CHECK(fabs(pgr_h_grad(tape, g->handle[i]) - g->grad[i]) <= 1e-12 * fabs(g->grad[i]));
        CHECK_EQ(pgr_h_tag(tape, PGR_TAG_SCOPE, g->handle[i]), scopes[i]);
    }
}

static void random_edits_equal_a_reference(void)
{
    check_seed();
    for (int round = 0; round < 300; round++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        pgr_tape_on_custom(tape, give_to_each, NULL);
        pgr_tape_limits(tape, 50 + pick(400), 1 << 20);
        graph *const g = present = random_graph(tape);
        uint32_t scopes[NODES];
        for (int i = 0; i < NODES; i++)
            scopes[i] = pgr_h_tag(tape, PGR_TAG_SCOPE, g->handle[i]);
        for (int edit = 0; edit < 12; edit++) {
            const int which = LEAVES + (int)pick(NODES - LEAVES), n = (int)pick(OPERANDS + 1);
            int chosen[OPERANDS];
            pgr_handle operands[OPERANDS];
            bool circle = false;
            for (int k = 0; k < n; k++) {
                operands[k] = g->handle[chosen[k] = (int)pick(NODES)];
                circle = circle || needs(g, chosen[k], which);
            }
            const pgr_status status = pgr_h_set_operands(tape, g->handle[which], (size_t)n, operands);
            CHECK_EQ(status, circle ? PGR_ERR_CYCLE : PGR_OK);
            if (status == PGR_OK) {
                g->is_custom[which] = true;
                g->count[which] = n;
                memcpy(g->operands[which], chosen, sizeof chosen);
            }
            const int root = (int)pick(NODES);
            if (pick(3) == 0)
                CHECK_EQ(pgr_h_collect(tape), PGR_OK);
            sweep_reference(g, root);
            CHECK_EQ(pgr_h_backward(tape, g->handle[root]), PGR_OK);
            check_numbers(tape, g, scopes);
        }
        CHECK_EQ(pgr_h_tag(tape, PGR_TAG_SCOPE, held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.0))), 9);
        for (int i = 0; i < NODES; i++)
            pgr_h_release(tape, g->handle[i], 0);
        CHECK_EQ(pgr_h_collect(tape), PGR_OK);
        CHECK_EQ(pgr_tape_stat(tape).nodes, 1); /* the leaf that is held */
        pgr_tape_free(tape);
        free(g);
    }
}

static void a_failure_changes_nothing(void)
{
    failing f = {1 << 30, 0};
    const pgr_allocator allocator = {failing_resize, &f};
    pgr_tape *const tape = pgr_tape_new(&allocator);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0));
    pgr_tape_tag(tape, PGR_TAG_SCOPE, 1);
    const pgr_handle y = held(pgr_h_record(tape, op_named("neg"), x, 0)), z = held(pgr_h_record(tape, op_named("mul"), y, x));
    pgr_tape_tag(tape, PGR_TAG_SCOPE, 2);
    pgr_handle later[3];
    for (int i = 0; i < 3; i++)
        later[i] = held(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0 + i));
    for (uint32_t k = 0; tape->tags[PGR_TAG_SCOPE].count < tape->tags[PGR_TAG_SCOPE].capacity; k++) { /* the next one allocates */
        pgr_tape_tag(tape, PGR_TAG_SCOPE, 5 + k % 2);
        held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.0));
    }
    long failures = 0;
    for (long until = 0;; until++) {
        f.until = until;
        const uint32_t nodes = pgr_tape_stat(tape).nodes;
        const pgr_status status = pgr_h_set_operands(tape, y, 3, later);
        f.until = 1 << 30;
        if (status == PGR_OK)
            break;
        CHECK_EQ(status, PGR_ERR_NOMEM);
        CHECK_EQ(pgr_tape_stat(tape).nodes, nodes);
        CHECK_EQ(pgr_h_op(tape, y), op_named("neg"));
        CHECK_EQ(pgr_h_backward(tape, z), PGR_OK);
        CHECK_EQ(pgr_h_grad(tape, x), -4.0 * (double)++failures);
    }
    CHECK(failures > 1);
    CHECK_EQ(pgr_h_op(tape, y), PGR_OP_CUSTOM);
    CHECK_EQ(pgr_h_tag(tape, PGR_TAG_SCOPE, z), 1);
    pgr_tape_free(tape);
    CHECK_EQ(f.blocks, 0);
}

static pgr_handle target, wanted;
static pgr_status said;

static int edits(void *unused, pgr_tape *tape, pgr_handle node)
{
    (void)unused, (void)node;
    said = pgr_h_set_operands(tape, target, 1, &wanted);
    return 0;
}

static void nothing_moves_inside_a_pass(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_tape_on_custom(tape, edits, NULL);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0));
    target = held(pgr_h_custom(tape, 1.0, 1, &x));
    wanted = held(pgr_h_leaf(tape, PGR_OP_LEAF, 3.0));
    CHECK_EQ(pgr_h_backward(tape, target), PGR_OK);
    CHECK_EQ(said, PGR_ERR_BUSY);
    wanted = x;
    CHECK_EQ(pgr_h_backward(tape, target), PGR_OK);
    CHECK_EQ(said, PGR_OK);
    pgr_tape_free(tape);
}

static void a_recordings_nodes_stay_where_they_are(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0)), y = held(pgr_h_record(tape, op_named("neg"), x, 0));
    const pgr_handle input = held(pgr_h_input(tape, PGR_OP_INPUT, 1)), z = held(pgr_h_record(tape, op_named("mul"), y, input));
    const pgr_handle later = held(pgr_h_leaf(tape, PGR_OP_LEAF, 3.0));
    CHECK_EQ(pgr_h_set_operands(tape, y, 1, &later), PGR_ERR_UNKNOWN);
    CHECK_EQ(pgr_h_set_operands(tape, y, 1, &input), PGR_ERR_UNKNOWN);
    CHECK_EQ(pgr_h_set_operands(tape, z, 1, &x), PGR_OK);
    CHECK_EQ(pgr_h_unknown(tape, z), 1);
    CHECK_EQ(pgr_h_op(tape, y), op_named("neg"));
    pgr_h_release(tape, z, 0); /* the rest of a recording does not matter */
    CHECK_EQ(pgr_h_set_operands(tape, y, 1, &later), PGR_OK);
    pgr_tape_free(tape);
}

static void a_step_may_be_taken_as_what_a_node_was(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 3.0)), w = held(pgr_h_leaf(tape, PGR_OP_LEAF, 5.0));
    const int mul = op_named("mul");
    const pgr_handle y = held(pgr_h_record(tape, mul, x, w));
    CHECK_EQ(pgr_h_set_op(tape, y, PGR_OP_CUSTOM), PGR_OK);
    pgr_h_set_grad(tape, y, 2.0);
    CHECK_EQ(pgr_h_push_as(tape, y, mul), PGR_OK);
    CHECK_EQ(pgr_h_grad(tape, x), 10.0);
    CHECK_EQ(pgr_h_grad(tape, w), 6.0);
    CHECK_EQ(pgr_h_push_into(tape, y, mul, x, x), PGR_OK);
    CHECK_EQ(pgr_h_grad(tape, x), 10.0 + 6.0 + 6.0);
    CHECK_EQ(pgr_h_push_as(tape, y, PGR_OP_CUSTOM), PGR_ERR_OP);
    pgr_tape_free(tape);
}

int main(void)
{
    TEST(random_edits_equal_a_reference);
    TEST(a_failure_changes_nothing);
    TEST(nothing_moves_inside_a_pass);
    TEST(a_recordings_nodes_stay_where_they_are);
    TEST(a_step_may_be_taken_as_what_a_node_was);
    return check_report();
}
