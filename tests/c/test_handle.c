/* Handles, the interface by handle, and the node table. */
#include "check.h"

static void a_node_has_one_handle_however_often_it_is_held(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 3.0);
    const pgr_handle h = held(pgr_hold(tape, x));
    CHECK(held(pgr_hold(tape, x)) == h);
    CHECK_EQ(pgr_tape_stat(tape).handles, 1);
    pgr_h_release(tape, h, 0);
    CHECK_EQ(pgr_h_data(tape, h), 3.0);
    pgr_h_release(tape, h, 0);
    CHECK_EQ(pgr_h_data(tape, h), NAN);
    CHECK_EQ(pgr_tape_stat(tape).handles, 0);
    pgr_tape_free(tape);
}

static void stale_handles_are_refused(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle old = held(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0));
    pgr_h_release(tape, old, 0);
    const pgr_handle new = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0));
    CHECK((uint32_t)new == (uint32_t)old && new != old); /* one slot, two generations */
    CHECK_EQ(pgr_h_id(tape, old), 0);
    CHECK_EQ(pgr_h_grad(tape, old), NAN);
    CHECK_EQ(pgr_h_set_data(tape, old, 5.0), PGR_ERR_HANDLE);
    CHECK_EQ(pgr_h_backward(tape, old), PGR_ERR_HANDLE);
    CHECK_EQ(pgr_h_record(tape, op_named("neg"), old, 0), -PGR_ERR_HANDLE);
    CHECK_EQ(pgr_h_record(tape, op_named("add"), new, old), -PGR_ERR_HANDLE);
    CHECK_EQ(pgr_hold(tape, 0), -PGR_ERR_HANDLE);
    CHECK_EQ(pgr_hold(tape, 99999), -PGR_ERR_HANDLE);
    CHECK_EQ(pgr_h_hold(tape, old), -PGR_ERR_HANDLE);
    CHECK_EQ(pgr_h_hold(tape, 0), -PGR_ERR_HANDLE);
    CHECK(!pgr_h_alive(tape, old) && pgr_h_alive(tape, new));
    CHECK(held(pgr_h_hold(tape, new)) == new);
    pgr_h_release(tape, new, 0);
    pgr_h_release(tape, old, 0); /* changes nothing */
    CHECK_EQ(pgr_h_data(tape, new), 2.0);
    pgr_tape_free(tape);
}

static void a_kept_name_outlives_its_holds_and_is_reported_dead_once(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0)), y = held(pgr_h_record(tape, op_named("neg"), x, 0));
    pgr_h_release(tape, x, 1);
    CHECK_EQ(pgr_h_collect(tape), PGR_OK);
    CHECK_EQ(pgr_h_next_dead(tape), 0); /* y needs it */
    CHECK_EQ(pgr_h_data(tape, x), 1.0);
    CHECK(held(pgr_hold(tape, pgr_h_id(tape, x))) == x);
    pgr_h_release(tape, x, 1);
    pgr_h_release(tape, y, 0);
    CHECK_EQ(pgr_h_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 0);
    CHECK(pgr_h_next_dead(tape) == x);
    CHECK_EQ(pgr_h_next_dead(tape), 0);
    pgr_tape_free(tape);
}

static void holds_are_released_together_and_stale_names_among_them_do_no_harm(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0)), y = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0));
    const pgr_handle z = held(pgr_h_leaf(tape, PGR_OP_LEAF, 3.0)), twice = held(pgr_h_hold(tape, z));
    pgr_h_release(tape, x, 0); /* its slot is free, and the next node's */
    const pgr_handle new = held(pgr_h_leaf(tape, PGR_OP_LEAF, 4.0)), some[] = {x, y, 0, z};
    CHECK_EQ((uint32_t)new, (uint32_t)x);
    CHECK_EQ(pgr_tape_size(tape), 4);
    pgr_h_release_all(tape, 4, some);
    CHECK_EQ(pgr_tape_stat(tape).handles, 2); /* new, and z, which was held twice */
    CHECK_EQ(pgr_h_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_size(tape), 2);
    CHECK_EQ(pgr_h_data(tape, new), 4.0);
    CHECK_EQ(pgr_h_data(tape, twice), 3.0);
    pgr_tape_free(tape);
}

static void operands_come_in_order_with_repeats_and_without_parameters(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle a = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0)), b = held(pgr_h_leaf(tape, PGR_OP_LEAF, 3.0));
    const pgr_handle five[] = {a, b, a, a, b};
    pgr_handle out[5];
    const pgr_handle c = held(pgr_h_custom(tape, 1.0, 5, five));
    CHECK_EQ(pgr_h_operands(tape, c, 5, out), 5);
    CHECK(memcmp(out, five, sizeof five) == 0);
    CHECK_EQ(pgr_h_operands(tape, c, 0, NULL), 5);
    const pgr_handle p = held(pgr_h_record_number(tape, op_named("powc"), a, 3.0, 0));
    CHECK_EQ(pgr_h_operands(tape, p, 5, out), 1);
    CHECK(out[0] == a);
    CHECK_EQ(pgr_h_param(tape, p), 3.0);
    CHECK_EQ(pgr_h_param(tape, c), NAN);
    CHECK_EQ(pgr_h_data(tape, p), 8.0);
    pgr_tape_free(tape);
}

static void a_dots_sums_and_products_have_their_operands_in_order(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle w = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0)), x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 3.0));
    const pgr_handle b = held(pgr_h_leaf(tape, PGR_OP_LEAF, 5.0)), ws[] = {w, x}, xs[] = {x, w};
    const pgr_handle dot = held(pgr_h_dot(tape, 2, ws, xs, b));
    pgr_handle sum[2], first[2], product[2];
    CHECK_EQ(pgr_h_data(tape, dot), 17.0);
    CHECK_EQ(pgr_h_operands(tape, dot, 2, sum), 2);
    CHECK_EQ(pgr_h_operands(tape, sum[0], 2, first), 2);
    CHECK(first[0] == b);
    CHECK_EQ(pgr_h_operands(tape, first[1], 2, product), 2);
    CHECK(product[0] == w && product[1] == x);
    CHECK_EQ(pgr_h_operands(tape, sum[1], 2, product), 2);
    CHECK(product[0] == x && product[1] == w);
    pgr_tape_free(tape);
}

static int call_by_handle(void *ctx, pgr_tape *tape, pgr_handle node)
{
    const pgr_id id = pgr_h_id(tape, node);
    const pgr_handle h = held(pgr_h_hold(tape, id));
    pgr_h_add_grad(tape, *(const pgr_handle *)ctx, 3.0 * pgr_h_grad(tape, h));
    pgr_h_release(tape, h, 0);
    return 0;
}

static void a_custom_operation_may_call_by_handle_under_the_mutex(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    CHECK_EQ(pgr_tape_use_mutex(tape), PGR_OK);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0)), y = held(pgr_h_custom(tape, 1.0, 1, &x));
    pgr_tape_on_custom(tape, call_by_handle, (void *)&x);
    CHECK_EQ(pgr_h_backward(tape, y), PGR_OK);
    CHECK_EQ(pgr_h_grad(tape, x), 3.0);
    pgr_tape_free(tape);
}

static void numbers_stand_on_either_side(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0));
    const pgr_handle y = held(pgr_h_record_number(tape, op_named("sub"), x, 7.0, 0));
    const pgr_handle z = held(pgr_h_record_number(tape, op_named("sub"), x, 7.0, 1));
    CHECK_EQ(pgr_h_data(tape, y), -5.0);
    CHECK_EQ(pgr_h_data(tape, z), 5.0);
    const uint32_t before = pgr_tape_stat(tape).nodes;
    CHECK_EQ(pgr_h_record_number(tape, op_named("div"), x, 0.0, 0), -PGR_ERR_DIVZERO);
    CHECK_EQ(pgr_tape_stat(tape).nodes, before);
    pgr_h_backward(tape, z);
    CHECK_EQ(pgr_h_grad(tape, x), -1.0);
    pgr_tape_free(tape);
}

static void dot_is_products_and_sums_from_left_to_right(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_handle w[50], x[50];
    double expected = 0.1;
    for (int i = 0; i < 50; i++) {
        w[i] = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.1 * i));
        x[i] = held(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0 / (i + 1)));
        expected += 0.1 * i * (1.0 / (i + 1));
    }
    const pgr_handle b = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.1));
    const uint32_t before = pgr_tape_stat(tape).nodes;
    const pgr_handle y = held(pgr_h_dot(tape, 50, w, x, b));
    CHECK_EQ(pgr_tape_stat(tape).nodes, before + 100);
    CHECK_EQ(pgr_h_data(tape, y), expected);
    pgr_h_backward(tape, y);
    CHECK_EQ(pgr_h_grad(tape, w[3]), 0.25);
    CHECK_EQ(pgr_h_grad(tape, x[3]), 0.1 * 3);
    CHECK_EQ(pgr_h_grad(tape, b), 1.0);
    CHECK(held(pgr_h_dot(tape, 0, NULL, NULL, b)) == b);
    w[7] = 0;
    CHECK_EQ(pgr_h_dot(tape, 50, w, x, b), -PGR_ERR_HANDLE);
    pgr_tape_free(tape);
}

static void the_table_has_operands_first_and_every_edge(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 2.0), unrelated = leaf(tape, 9.0), y = record(tape, "add", x, x);
    (void)unrelated;
    for (int i = 0; i < 5000; i++)
        leaf(tape, 0.0);
    pgr_id c = 0, two = 0;
    const pgr_id four[] = {y, x, y, x};
    CHECK(pgr_constant(tape, 2.0, &two) == PGR_OK);
    CHECK(pgr_custom(tape, 1.5, 4, four, &c) == PGR_OK);
    const pgr_id root = record(tape, "powc", c, two);
    pgr_table table = {NULL, NULL, 0, 0};
    CHECK_EQ(pgr_export(tape, root, 0, &table), PGR_OK);
    CHECK_EQ(table.row_count, 4);
    static const uint32_t operands[4][4] = {{0}, {0, 0}, {1, 0, 1, 0}, {2}};
    static const uint32_t counts[4] = {0, 2, 4, 1};
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(table.rows[i].operand_count, counts[i]);
        for (uint32_t k = 0; k < counts[i]; k++)
            CHECK_EQ(table.operands[table.rows[i].first_operand + k], operands[i][k]);
    }
    CHECK_EQ(table.rows[3].param, 2.0);
    CHECK_EQ(table.rows[2].data, 1.5);
    CHECK_EQ(table.rows[3].handle, 0);
    pgr_table_free(tape, &table);
    CHECK(table.rows == NULL);
    CHECK_EQ(pgr_export(tape, root, 1, &table), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).handles, 4);
    for (uint32_t i = 0; i < 4; i++) {
        static const double data[4] = {2.0, 4.0, 1.5, 2.25};
        CHECK_EQ(pgr_h_data(tape, table.rows[i].handle), data[i]);
    }
    pgr_h_release_rows(tape, &table);
    CHECK_EQ(pgr_tape_stat(tape).handles, 0);
    pgr_table_free(tape, &table);
    pgr_tape_free(tape);
}

static void a_table_of_a_million_rows_is_linear(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 1.0);
    pgr_id y = x;
    for (int i = 0; i < 1000000; i++)
        y = record(tape, "mul", y, x);
    pgr_table table;
    CHECK_EQ(pgr_export(tape, y, 0, &table), PGR_OK);
    CHECK_EQ(table.row_count, 1000001);
    bool right = true;
    for (uint32_t i = 1; i < table.row_count; i++)
        right = right && table.operands[table.rows[i].first_operand] == i - 1 && table.operands[table.rows[i].first_operand + 1] == 0;
    CHECK(right);
    pgr_table_free(tape, &table);
    pgr_tape_free(tape);
}

/* A collector like a binding's: code that it runs takes every free slot. */
static pgr_status collect_and_use_up_slots(pgr_tape *tape, bool thorough)
{
    CHECK_EQ(pgr__collect(tape, NULL, 0, thorough), PGR_OK);
    while (tape->free_slot != 0)
        held(pgr_hold(tape, leaf(tape, 7.0)));
    return PGR_OK;
}

static void a_collection_may_use_up_slots(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_tape_limits(tape, 16, UINT32_MAX);
    tape->collector = collect_and_use_up_slots;
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0));
    for (int i = 0; i < 100; i++) {
        const pgr_handle y = held(pgr_h_record(tape, op_named("neg"), x, 0));
        CHECK_EQ(pgr_h_data(tape, y), -1.0);
    }
    CHECK_EQ(tape->slots[0].id, 0);
    pgr_tape_free(tape);
}

/* A checked pass and a custom function get their nodes as held handles, which name the same nodes after a
 * collection. */
static pgr_handle seen;
static int see(void *ctx, pgr_tape *tape, pgr_handle node)
{
    (void)ctx;
    seen = node;
    CHECK(pgr_h_alive(tape, node));
    CHECK_EQ(pgr_h_data(tape, node), 5.0);
    CHECK(held(pgr_h_hold(tape, node)) == node);
    return 0;
}

static void nodes_are_told_of_by_handle(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_tape_on_custom(tape, see, NULL);
    leaf(tape, 0.0); /* dead, below them */
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, INFINITY)), y = held(pgr_h_record(tape, op_named("neg"), x, 0));
    pgr_h_release(tape, x, 0);
    CHECK_EQ(pgr_tape_tag(tape, PGR_TAG_SCOPE, 4), PGR_OK);
    pgr_handle bad = 0;
    CHECK_EQ(pgr_h_backward_checked(tape, y, &bad), PGR_ERR_NOT_FINITE);
    pgr_h_release(tape, y, 0);
    CHECK_EQ(pgr_h_collect(tape), PGR_OK);
    CHECK_EQ(pgr_h_data(tape, bad), INFINITY);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 1);
    const pgr_handle c = held(pgr_h_custom(tape, 5.0, 1, &bad));
    CHECK_EQ(pgr_h_tag(tape, PGR_TAG_SCOPE, bad), 0);
    CHECK_EQ(pgr_h_tag(tape, PGR_TAG_SCOPE, c), 4);
    CHECK_EQ(pgr_h_tag(tape, 7, c), 0);
    CHECK_EQ(pgr_h_backward(tape, c), PGR_OK);
    CHECK(seen == c);
    pgr_h_release(tape, c, 0); /* see()'s */
    CHECK_EQ(pgr_h_push(tape, c), PGR_OK);
    pgr_h_release(tape, c, 0);
    pgr_h_release(tape, c, 0);
    CHECK(!pgr_h_alive(tape, c));
    CHECK_EQ(pgr_h_tag(tape, PGR_TAG_SCOPE, c), 0);
    pgr_tape_free(tape);
}

static void a_name_held_again_keeps_its_node_alive(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 3.0)), y = held(pgr_h_record(tape, op_named("neg"), x, 0));
    pgr_handle again = 0;
    pgr_h_release(tape, x, 1);
    CHECK_EQ(pgr_tape_stat(tape).handles, 1);
    CHECK_EQ(pgr_h_operands(tape, y, 1, &again), 1);
    CHECK(again == x);
    CHECK_EQ(pgr_tape_stat(tape).handles, 2);
    pgr_h_release(tape, y, 0);
    CHECK_EQ(pgr_h_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 1);
    CHECK_EQ(pgr_h_data(tape, x), 3.0);
    pgr_h_release(tape, x, 0); /* a kept handle stays the node's */
    CHECK_EQ(pgr_h_data(tape, x), 3.0);
    CHECK_EQ(pgr_h_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 0);
    CHECK(pgr_h_next_dead(tape) == x);
    pgr_tape_free(tape);
}

static void an_operation_that_fails_leaves_the_tape_as_it_was(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle zero = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.0)), gone = held(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0));
    pgr_h_release(tape, gone, 0);
    const pgr_tape_stats before = pgr_tape_stat(tape);
    CHECK_EQ(pgr_h_record_number(tape, op_named("div"), zero, 0.0, 0), -PGR_ERR_DIVZERO);
    CHECK_EQ(pgr_h_record_number(tape, op_named("div"), zero, 1.0, 1), -PGR_ERR_DIVZERO);
    CHECK_EQ(pgr_h_record_number(tape, op_named("powc"), zero, -1.0, 0), -PGR_ERR_DIVZERO);
    CHECK_EQ(pgr_h_record_number(tape, op_named("add"), gone, 1.0, 0), -PGR_ERR_HANDLE);
    CHECK_EQ(pgr_h_record(tape, op_named("div"), zero, zero), -PGR_ERR_DIVZERO);
    CHECK_EQ(pgr_h_record(tape, op_named("log"), zero, 0), -PGR_ERR_DOMAIN);
    CHECK_EQ(pgr_h_record(tape, PGR_OP_PAIR, zero, zero), -PGR_ERR_OP);
    CHECK_EQ(pgr_h_leaf(tape, PGR_OP_PAIR, 1.0), -PGR_ERR_OP);
    CHECK_EQ(pgr_h_dot(tape, 1, &zero, &gone, zero), -PGR_ERR_HANDLE);
    CHECK_EQ(pgr_h_custom(tape, 1.0, 1, &gone), -PGR_ERR_HANDLE);
    CHECK_EQ(pgr_tape_stat(tape).nodes, before.nodes);
    CHECK_EQ(pgr_tape_stat(tape).handles, before.handles);
    pgr_tape_free(tape);
}

static int count_and_push(void *ctx, pgr_tape *tape, pgr_handle node)
{
    const pgr_id id = pgr_h_id(tape, node);
    ++*(int *)ctx;
    tape->nodes[tape->nodes[id].lhs].grad += 5.0 * tape->nodes[id].grad;
    return 0;
}

static void a_node_made_custom_is_run_on_a_tape_that_had_none(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    int calls = 0;
    pgr_tape_on_custom(tape, count_and_push, &calls);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0)), y = held(pgr_h_record(tape, op_named("neg"), x, 0));
    const pgr_handle z = held(pgr_h_record(tape, op_named("neg"), y, 0));
    CHECK_EQ(pgr_h_set_op(tape, y, pgr_op_count()), PGR_ERR_OP);
    CHECK_EQ(pgr_h_set_op(tape, y, PGR_OP_CUSTOM), PGR_OK);
    CHECK_EQ(pgr_h_backward(tape, z), PGR_OK);
    CHECK_EQ(calls, 1);
    CHECK_EQ(pgr_h_grad(tape, x), -5.0);
    CHECK_EQ(pgr_h_set_op(tape, y, op_named("neg")), PGR_OK);
    CHECK_EQ(pgr_h_backward(tape, z), PGR_OK);
    CHECK_EQ(calls, 1);
    CHECK_EQ(pgr_h_grad(tape, x), -4.0);
    pgr_tape_free(tape);
}

typedef struct {
    int depth, entered;
} counted_lock;

static int counted_enter(void *ctx)
{
    counted_lock *const lock = ctx;
    lock->entered++;
    return lock->depth++;
}

static void counted_leave(void *ctx, int token)
{
    counted_lock *const lock = ctx;
    if (token >= 0)
        CHECK_EQ(token, --lock->depth);
}

/* With live handles and with stale ones, which every call refuses or ignores. */
static void every_call_by_handle_takes_the_lock_and_gives_it_back(void)
{
    for (int stale = 0; stale < 2; stale++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        counted_lock lock = {0, 0};
        pgr_tape_on_lock(tape, counted_enter, counted_leave, &lock);
        const int sine = op_named("sin"), mul = op_named("mul");
        pgr_handle x = held(pgr_h_input(tape, PGR_OP_INPUT, 0)), w = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0));
        pgr_handle y = held(pgr_h_record(tape, sine, x, 0)), root = held(pgr_h_record(tape, mul, w, w));
        if (stale) {
            const pgr_handle all[] = {x, w, y, root};
            for (int i = 0; i < 4; i++)
                pgr_h_release(tape, all[i], 0);
            CHECK_EQ(pgr_h_collect(tape), PGR_OK);
        }
        pgr_handle bad = 0;
        pgr_handle out[2];
        double two[2];
        pgr_table table = {NULL, NULL, 0, 0};
        pgr_output output = {0, 0, 0, 0};
        pgr_program *program = NULL;
        pgr_derivation *derivation = NULL;
        size_t at = 0;
        const pgr_sgd sgd = {.lr = 0.5};
        const pgr_adam adam = {.lr = 0.5, .beta1 = 0.5, .beta2 = 0.5};
        double m = 0.0, v = 0.0;
        lock = (counted_lock){0, 0};
#define LOCKED(call) \
    do { \
        const int entered = lock.entered; \
        call; \
        CHECK(lock.depth == 0 && lock.entered > entered); \
    } while (0)
#define GIVES_HANDLE(call) LOCKED(const int64_t h = (call); CHECK(stale ? h == -PGR_ERR_HANDLE : h > 0))
#define GIVES_STATUS(call) LOCKED(CHECK_EQ(call, stale ? PGR_ERR_HANDLE : PGR_OK))
        GIVES_HANDLE(pgr_h_hold(tape, w));
        GIVES_HANDLE(pgr_h_record(tape, sine, w, 0));
        GIVES_HANDLE(pgr_h_record_number(tape, mul, w, 3.0, 1));
        GIVES_HANDLE(pgr_h_dot(tape, 1, &w, &w, w));
        GIVES_HANDLE(pgr_h_custom(tape, 1.0, 1, &w));
        GIVES_HANDLE(pgr_h_lane_sum(tape, y, y));
        LOCKED(CHECK(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0) > 0));
        LOCKED(CHECK(pgr_h_input(tape, PGR_OP_LANE, 0) > 0));
        LOCKED(CHECK_EQ(pgr_h_input(tape, PGR_OP_LEAF, 0), -PGR_ERR_OP));
        GIVES_STATUS(pgr_h_read(tape, 1, &w, two));
        GIVES_STATUS(pgr_h_set_data(tape, w, 2.0));
        GIVES_STATUS(pgr_h_set_grad(tape, w, 1.0));
        GIVES_STATUS(pgr_h_add_grad(tape, w, 1.0));
        LOCKED(CHECK_EQ(pgr_h_grad(tape, w), stale ? NAN : 2.0));
        LOCKED(CHECK_EQ(pgr_h_data(tape, w), stale ? NAN : 2.0));
        GIVES_STATUS(pgr_h_set_op(tape, root, mul));
        LOCKED(CHECK_EQ(pgr_h_op(tape, root), stale ? -PGR_ERR_HANDLE : mul));
        LOCKED(CHECK_EQ(pgr_h_param(tape, w), NAN));
        LOCKED(CHECK_EQ(pgr_h_unknown(tape, y), stale ? 0 : 1));
        LOCKED(const int64_t count = pgr_h_operands(tape, root, 2, out); CHECK_EQ(count, stale ? -PGR_ERR_HANDLE : 2));
        GIVES_STATUS(pgr_h_backward(tape, root));
        GIVES_STATUS(pgr_h_backward_checked(tape, root, &bad));
        GIVES_STATUS(pgr_h_push(tape, root));
        LOCKED(pgr_h_partials(tape, root, two); CHECK_EQ(two[0], stale ? 0.0 : 2.0));
        GIVES_STATUS(pgr_h_export(tape, root, 0, &table));
        GIVES_STATUS(pgr_h_zero_grads(tape, 1, &w));
        GIVES_STATUS(pgr_h_sgd(tape, 1, &w, &sgd, 1, NULL));
        GIVES_STATUS(pgr_h_adam(tape, 1, &w, &adam, 1, &m, &v, NULL));
        GIVES_STATUS(pgr_h_vjp(tape, PGR_NO_GROUP, 1, &y, &w, 1, &x, out, NULL));
        GIVES_STATUS(pgr_h_jvp(tape, 1, &x, &w, 1, &y, out, NULL));
        GIVES_STATUS(pgr_derivation_new(tape, 0, PGR_NO_GROUP, 1, &x, &w, 1, &y, 0, NULL, &derivation));
        if (!stale) {
            LOCKED(CHECK_EQ(pgr_derivation_run(derivation, NULL, &at, out, NULL), PGR_OK));
            LOCKED(pgr_derivation_free(derivation));
        }
        LOCKED(CHECK_EQ(pgr_h_captures(tape, y, 1, &y, 2, out), stale ? -PGR_ERR_HANDLE : 1));
        GIVES_STATUS(pgr_h_program_build(tape, x, 1, &y, &output, 0, NULL, 1, NULL, &program, NULL));
        LOCKED(CHECK_EQ(pgr_tape_tag(tape, PGR_TAG_SCOPE, 1), PGR_OK));
        LOCKED(CHECK_EQ(pgr_h_tag(tape, PGR_TAG_SCOPE, w), 0));
        LOCKED(CHECK_EQ(pgr_h_id(tape, x), stale ? 0 : 1));
        LOCKED(CHECK_EQ(pgr_h_next_dead(tape), 0));
        LOCKED(pgr_h_release(tape, x, 0));
        LOCKED(CHECK_EQ(pgr_h_collect(tape), PGR_OK));
        pgr_program_free(program);
        pgr_table_free(tape, &table);
        pgr_tape_free(tape);
    }
}

int main(void)
{
    TEST(a_collection_may_use_up_slots);
    TEST(nodes_are_told_of_by_handle);
    TEST(a_dots_sums_and_products_have_their_operands_in_order);
    TEST(a_custom_operation_may_call_by_handle_under_the_mutex);
    TEST(every_call_by_handle_takes_the_lock_and_gives_it_back);
    TEST(a_name_held_again_keeps_its_node_alive);
    TEST(an_operation_that_fails_leaves_the_tape_as_it_was);
    TEST(a_node_made_custom_is_run_on_a_tape_that_had_none);
    TEST(a_node_has_one_handle_however_often_it_is_held);
    TEST(stale_handles_are_refused);
    TEST(a_kept_name_outlives_its_holds_and_is_reported_dead_once);
    TEST(holds_are_released_together_and_stale_names_among_them_do_no_harm);
    TEST(operands_come_in_order_with_repeats_and_without_parameters);
    TEST(numbers_stand_on_either_side);
    TEST(dot_is_products_and_sums_from_left_to_right);
    TEST(the_table_has_operands_first_and_every_edge);
    TEST(a_table_of_a_million_rows_is_linear);
    return check_report();
}
