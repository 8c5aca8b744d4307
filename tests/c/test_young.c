/* Collections that look only at young nodes, beside a tape that looks at all of them. */
#include "check.h"

enum { LEAST = 8, MORE = 16 }; /* as csrc/tape/collect.c has it: up to MORE times the least number may be young */

static void check_order(const pgr_tape *tape)
{
    CHECK(tape->middle >= 1 && tape->middle <= tape->young && tape->young <= tape->size);
    CHECK(tape->trim_below >= tape->young && tape->collect_at <= tape->full_at);
    for (pgr_id id = 0; id < tape->size; id++) {
        const pgr_node *const node = &tape->nodes[id];
        CHECK((node->flags & TAPE_LIVE) == 0);
        CHECK(id == 0 || (node->lhs < id && node->rhs < id));
        CHECK(node->slot == 0 || tape->slots[node->slot].id == id);
    }
}

/* ---- Two tapes that do the same, one of which collects young nodes as it likes, the other all of them, seldom ---- */

enum { KEPT = 60 };

typedef struct {
    pgr_tape *tape;
    pgr_handle handles[KEPT];
    uint64_t names[KEPT]; /* kept without a hold: their slots, until they die */
} side;

static void start(side *s, uint32_t least)
{
    *s = (side){.tape = pgr_tape_new(NULL)};
    pgr_tape_limits(s->tape, least, UINT32_MAX);
    for (int i = 0; i < KEPT; i++)
        s->handles[i] = held(pgr_h_leaf(s->tape, PGR_OP_LEAF, 0.01 * i));
}

static void drain(side *s)
{
    for (pgr_handle dead; (dead = pgr_h_next_dead(s->tape)) != 0;)
        for (int i = 0; i < KEPT; i++)
            if (s->names[i] == dead)
                s->names[i] = 0;
}

static void replace(side *s, unsigned k, int64_t handle, bool keep)
{
    if (keep)
        s->names[k] = s->handles[k];
    pgr_h_release(s->tape, s->handles[k], keep);
    s->handles[k] = held(handle);
}

typedef struct {
    unsigned what, i, j, k;
    double number;
    bool keep;
    bool name_lives; /* on the tape that collects more often */
} move;

static void make(side *s, move m)
{
    pgr_tape *const tape = s->tape;
    const pgr_handle a = s->handles[m.i], b = s->handles[m.j];
    const pgr_handle operands[3] = {a, b, s->handles[m.i]};
    uint32_t before;
    pgr_id id;
    switch (m.what) {
    case 0:
        replace(s, m.k, pgr_h_leaf(tape, PGR_OP_LEAF, m.number), m.keep);
        break;
    case 1:
        CHECK(pgr_tape_tag(tape, PGR_TAG_SCOPE, m.i % 5) == PGR_OK);
        break;
    case 2: /* something else than it was; it may move, or be a circle */
        pgr_h_set_operands(tape, s->handles[m.k], m.j % 4, operands);
        break;
    case 3:
        replace(s, m.k, pgr_h_custom(tape, m.number, m.j % 4, operands), m.keep);
        break;
    case 4: /* dropped at the end, as bindings do it */
        replace(s, m.k, pgr_h_hold(tape, a), m.keep);
        tape_pop(tape);
        break;
    case 5: /* taken back, as a derivative that fails does */
        before = tape->size;
        for (unsigned n = 0; n < m.i; n++)
            leaf(tape, 7.0);
        pgr__take_back(tape, before);
        break;
    case 6: /* an input, with a number */
        id = 0;
        CHECK(pgr_input(tape, PGR_OP_INPUT, 1 + m.i, &id) == PGR_OK);
        replace(s, m.k, pgr_hold(tape, id), m.keep);
        break;
    case 7: /* kept by a name alone, then held again */
        if (m.name_lives)
            replace(s, m.k, pgr_h_hold(tape, s->names[m.i]), m.keep);
        break;
    default:
        replace(s, m.k, pgr_h_record(tape, op_named(m.what % 2 ? "sub" : "add"), a, b), m.keep);
    }
}

/* After collections of all nodes both tapes are the same, node by node. */
static void check_same(side *left, side *right)
{
    const pgr_tape *const l = left->tape, *const r = right->tape;
    CHECK_EQ(pgr_h_collect(left->tape), PGR_OK);
    CHECK_EQ(pgr_h_collect(right->tape), PGR_OK);
    drain(left);
    drain(right);
    CHECK_EQ(l->size, r->size);
    for (pgr_id id = 1; id < l->size && id < r->size; id++) {
        const pgr_node *const a = &l->nodes[id], *const b = &r->nodes[id];
        CHECK_EQ(a->data, b->data);
        CHECK_EQ(a->grad, b->grad);
        CHECK(a->lhs == b->lhs && a->rhs == b->rhs && a->op == b->op && a->flags == b->flags);
        CHECK_EQ(pgr_tag(l, PGR_TAG_SCOPE, id), pgr_tag(r, PGR_TAG_SCOPE, id));
        CHECK_EQ(pgr__number_of(l, id), pgr__number_of(r, id));
    }
    for (int i = 0; i < KEPT; i++) {
        CHECK_EQ(pgr_h_id(left->tape, left->handles[i]), pgr_h_id(right->tape, right->handles[i]));
        CHECK_EQ(left->names[i] != 0, right->names[i] != 0);
    }
}

/* Each live node's number, and the grads of its graph, are the other tape's. */
static void check_alike(side *left, side *right, unsigned i)
{
    CHECK_EQ(pgr_h_data(left->tape, left->handles[i]), pgr_h_data(right->tape, right->handles[i]));
    CHECK_EQ(pgr_h_op(left->tape, left->handles[i]), pgr_h_op(right->tape, right->handles[i]));
    CHECK_EQ(pgr_h_backward(left->tape, left->handles[i]), pgr_h_backward(right->tape, right->handles[i]));
    for (unsigned k = 0; k < KEPT; k += 7)
        CHECK_EQ(pgr_h_grad(left->tape, left->handles[k]), pgr_h_grad(right->tape, right->handles[k]));
}

static int do_nothing(void *ctx, pgr_tape *tape, pgr_handle node)
{
    (void)ctx, (void)tape, (void)node;
    return 0;
}

static void random_moves_leave_the_same_tape_as_collections_of_all_nodes(void)
{
    check_seed();
    uint64_t small = 0;
    for (int round = 0; round < 60; round++) {
        side left, right;
        start(&left, LEAST);
        start(&right, 1 << 20); /* only where it is told to */
        pgr_tape_on_custom(left.tape, do_nothing, NULL);
        pgr_tape_on_custom(right.tape, do_nothing, NULL);
        const unsigned kinds = 8 + pick(16), steps = 200 + pick(1500);
        for (unsigned step = 0; step < steps; step++) {
            move m = {pick(kinds), pick(KEPT), pick(KEPT), pick(KEPT), pick(100), pick(8) == 0, false};
            m.name_lives = left.names[m.i] != 0;
            make(&left, m);
            make(&right, m);
            drain(&left);
            if (step % 64 == 0) {
                check_order(left.tape);
                check_alike(&left, &right, m.k);
            }
            if (pick(400) == 0)
                check_same(&left, &right);
        }
        small += pgr_tape_stat(left.tape).collections;
        check_same(&left, &right);
        pgr_tape_free(left.tape);
        pgr_tape_free(right.tape);
    }
    CHECK(small > 1000);
}

/* ---- When, and from where on ---- */

/* A chain of so many nodes, held at its end. */
static pgr_handle chain(pgr_tape *tape, unsigned nodes)
{
    pgr_handle last = held(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0));
    for (unsigned i = 1; i < nodes; i++) {
        const pgr_handle next = held(pgr_h_record(tape, op_named("neg"), last, 0));
        pgr_h_release(tape, last, 0);
        last = next;
    }
    return last;
}

static pgr_tape *tape_with(unsigned nodes, pgr_handle *end)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_tape_limits(tape, LEAST, UINT32_MAX);
    *end = chain(tape, nodes);
    CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, nodes);
    tape->young_most = LEAST; /* growing has made it more */
    tape->collect_at = tape->size + LEAST;
    return tape;
}

static void small_garbage_is_found_without_a_look_at_the_old(void)
{
    pgr_handle end;
    pgr_tape *const tape = tape_with(10000, &end);
    const uint64_t before = pgr_tape_stat(tape).collections;
    const uint32_t full_at = tape->full_at;
    tape->nodes[5].lhs = 0; /* a look at all nodes would find the first four dead */
    tape->nodes[5].rhs = 0;
    pgr_handle last = 0;
    for (int i = 0; i < 5000; i++) {
        const pgr_handle next = held(pgr_h_record(tape, op_named("neg"), end, 0));
        if (last != 0)
            pgr_h_release(tape, last, 0);
        last = next;
        CHECK(pgr_tape_stat(tape).nodes < 10000 + 4 * MORE * LEAST);
    }
    CHECK(pgr_tape_stat(tape).collections - before > 5000 / (2 * MORE * LEAST));
    CHECK_EQ(tape->full_at, full_at);
    CHECK_EQ(tape->nodes[4].op, op_named("neg"));
    CHECK_EQ(pgr_h_data(tape, last), -pgr_h_data(tape, end));
    check_order(tape);
    pgr_tape_free(tape);
}

/* What outlives a few collections, and then dies. */
static void what_dies_in_middle_age_is_found_without_a_look_at_the_old(void)
{
    enum { WINDOW = 2 * LEAST };
    pgr_handle end, window[WINDOW] = {0};
    pgr_tape *const tape = tape_with(2000, &end);
    const uint32_t full_at = tape->full_at, middle = tape->middle;
    for (unsigned i = 0; i < 50000; i++) {
        if (window[i % WINDOW] != 0)
            pgr_h_release(tape, window[i % WINDOW], 0);
        window[i % WINDOW] = held(pgr_h_record(tape, op_named("neg"), end, 0));
        CHECK(tape->size < 2000 + 8 * MORE * LEAST);
    }
    CHECK_EQ(tape->full_at, full_at);
    CHECK_EQ(tape->middle, middle);
    check_order(tape);
    pgr_tape_free(tape);
}

/* The old ones that have died: at twice what lived. */
static void what_dies_old_is_found_when_the_tape_has_doubled(void)
{
    pgr_handle end;
    pgr_tape *const tape = tape_with(3000, &end);
    pgr_handle last = chain(tape, 10);
    pgr_h_release(tape, end, 0);
    uint32_t most = 0;
    for (unsigned i = 0; i < 5000; i++) {
        const pgr_handle next = held(pgr_h_record(tape, op_named("neg"), last, 0));
        pgr_h_release(tape, last, 0);
        last = next;
        most = tape->size > most ? tape->size : most;
    }
    CHECK(most > 5000 && most <= 2 * 3001);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 5010 + 3000 - 3000);
    pgr_tape_free(tape);
}

/* With a graph that was old taken back, what is recorded in its place is young. */
static void nodes_in_the_place_of_old_ones_are_young(void)
{
    pgr_handle end;
    pgr_tape *const tape = tape_with(100000, &end);
    const pgr_handle first = held(pgr_hold(tape, 50000));
    pgr_h_release(tape, end, 0);
    tape_pop(tape);
    CHECK_EQ(tape->size, 50001);
    check_order(tape);
    CHECK(tape->young < tape->size && tape->young > 40000);
    for (int i = 0; i < 30000; i++)
        leaf(tape, 1.0); /* by id: collects nothing */
    pgr_hold(tape, leaf(tape, 2.0));
    CHECK_EQ(pgr__collect(tape, NULL, 0, false), PGR_OK);
    CHECK_EQ(tape->size, 50002);
    CHECK_EQ(pgr_h_data(tape, first), pgr_data(tape, 50000));
    pgr_tape_free(tape);
}

/* So that a step which is larger than the least number is not gone through again and again. */
static void the_more_young_nodes_live_the_more_may_become_young(void)
{
    pgr_handle end;
    pgr_tape *const tape = tape_with(10000, &end);
    CHECK_EQ(tape->young_most, LEAST);
    for (unsigned most = LEAST; most < MORE * LEAST; most *= 2) {
        CHECK_EQ(tape->young_most, most);
        CHECK_EQ(pgr_tape_stat(tape).collect_at, tape->size + most);
        chain(tape, most);
        CHECK_EQ(pgr__collect(tape, NULL, 0, false), PGR_OK);
    }
    chain(tape, MORE * LEAST);
    CHECK_EQ(pgr__collect(tape, NULL, 0, false), PGR_OK);
    for (unsigned most = MORE * LEAST; most >= LEAST; most /= 2) {
        CHECK_EQ(tape->young_most, most);
        for (unsigned i = 0; i < most; i++)
            leaf(tape, 0.0);
        pgr_hold(tape, leaf(tape, 0.0)); /* or all would be popped */
        CHECK_EQ(pgr__collect(tape, NULL, 0, false), PGR_OK);
    }
    CHECK_EQ(tape->young_most, LEAST);
    pgr_tape_free(tape);
}

static void a_call_that_records_many_nodes_is_followed_by_a_collection(void)
{
    enum { TERMS = 300 };
    pgr_handle end, terms[TERMS];
    pgr_tape *const tape = tape_with(10000, &end);
    for (int i = 0; i < TERMS; i++)
        terms[i] = end;
    pgr_h_release(tape, held(pgr_h_dot(tape, TERMS, terms, terms, end)), 0);
    CHECK(tape->size + 1000 < tape->capacity && !tape_has_room(tape, 1)); /* so bindings ask for room, too */
    CHECK_EQ(tape->size, 10001 + 2 * TERMS);
    held(pgr_h_record(tape, op_named("neg"), end, 0));
    CHECK_EQ(tape->size, 10002);
    CHECK(tape_has_room(tape, 1));
    pgr_tape_free(tape);
}

/* Ties are for collections of all nodes: with ties, all are looked at. */
static void with_ties_all_nodes_are_looked_at(void)
{
    pgr_handle end;
    pgr_tape *const tape = tape_with(1000, &end);
    pgr_hold(tape, leaf(tape, 1.0));
    pgr_tie tie = {pgr_h_id(tape, end), pgr_h_id(tape, end)};
    CHECK_EQ(pgr__collect(tape, &tie, 1, false), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 1);
    pgr_tape_free(tape);
}

static int peeks_left; /* until is_interrupted returns true */
static bool interrupted_soon(void) { return peeks_left > 0 && --peeks_left == 0; }

static void a_small_collection_may_be_interrupted(void)
{
    for (int at = 1; at <= 3; at++) {
        pgr_handle end;
        pgr_tape *const tape = tape_with(1000, &end);
        tape->is_interrupted = interrupted_soon;
        const pgr_id dead = leaf(tape, 3.0);
        pgr_id root = pgr_h_id(tape, end);
        for (int i = 0; i < 2 * TAPE_ASK_EVERY + 10; i++)
            root = record(tape, "neg", root, 0);
        record(tape, "neg", dead, 0);
        const pgr_handle h = held(pgr_hold(tape, root));
        pgr_hold(tape, leaf(tape, 1.0));
        const uint32_t before = tape->size;
        tape->full_at = UINT32_MAX;
        peeks_left = at;
        CHECK_EQ(pgr__collect(tape, NULL, 0, false), PGR_ERR_STOPPED);
        CHECK_EQ(tape->size, before);
        CHECK_EQ(pgr_h_data(tape, h), pgr_h_data(tape, end));
        CHECK_EQ(pgr__collect(tape, NULL, 0, false), PGR_OK);
        CHECK_EQ(tape->size, before); /* two are too few to move anything .. */
        check_order(tape);
        CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
        CHECK_EQ(tape->size, before - 2); /* .. but for one who insists */
        check_order(tape);
        pgr_tape_free(tape);
    }
}

int main(void)
{
    TEST(random_moves_leave_the_same_tape_as_collections_of_all_nodes);
    TEST(small_garbage_is_found_without_a_look_at_the_old);
    TEST(what_dies_in_middle_age_is_found_without_a_look_at_the_old);
    TEST(what_dies_old_is_found_when_the_tape_has_doubled);
    TEST(nodes_in_the_place_of_old_ones_are_young);
    TEST(the_more_young_nodes_live_the_more_may_become_young);
    TEST(a_call_that_records_many_nodes_is_followed_by_a_collection);
    TEST(with_ties_all_nodes_are_looked_at);
    TEST(a_small_collection_may_be_interrupted);
    return check_report();
}
