/* Collection: what lives, sliding, ties, constant memory, against a model. */
#include "check.h"

static void what_handles_need_survives_and_nothing_else(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id dead = leaf(tape, 9.0), x = leaf(tape, 2.0);
    record(tape, "add", dead, dead);
    const pgr_id y = record(tape, "mul", x, x);
    record(tape, "neg", y, 0);
    const pgr_id z = record(tape, "neg", y, 0);
    pgr_set_grad(tape, y, 0.5);
    const pgr_handle h = held(pgr_hold(tape, z));
    CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 3);
    CHECK_EQ(pgr_h_id(tape, h), 3);
    CHECK_EQ(pgr_data(tape, 1), 2.0);
    CHECK_EQ(pgr_grad(tape, 2), 0.5);
    pgr_h_backward(tape, h);
    CHECK_EQ(pgr_grad(tape, 1), -4.0);
    pgr_tape_free(tape);
}

/* Handles of random nodes are taken and released while the tape collects at tiny sizes; a model keeps every number
 * and its operands. */
static void random_tapes_equal_a_model(void)
{
    enum { KEPT = 40, STEPS = 30000 };
    check_seed();
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_tape_limits(tape, 8, UINT32_MAX);
    pgr_handle handles[KEPT];
    double expected[KEPT], slope[KEPT]; /* d(number)/d(x) of a single leaf x */
    double ways[KEPT]; /* the sum of |partials| over all ways down to x, which bounds a sweep's rounding errors */
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 1.5));
    const int add = op_named("add"), sub = op_named("sub"), sine = op_named("sin");
    for (int i = 0; i < KEPT; i++) {
        handles[i] = held(pgr_hold(tape, pgr_h_id(tape, x)));
        expected[i] = 1.5;
        slope[i] = ways[i] = 1.0;
    }
    for (int step = 0; step < STEPS; step++) {
        const unsigned i = pick(KEPT), j = pick(KEPT), k = pick(KEPT), what = pick(4);
        const bool big = fabs(expected[i]) + fabs(expected[j]) > 1e3 || ways[i] + ways[j] > 1e3;
        pgr_handle new;
        double value, d, w;
        if (big) {
            new = held(pgr_hold(tape, pgr_h_id(tape, x)));
            value = 1.5;
            d = w = 1.0;
        } else if (what == 0) {
            new = held(pgr_h_record(tape, sine, handles[i], 0));
            value = sin(expected[i]);
            d = cos(expected[i]) * slope[i];
            w = fabs(cos(expected[i])) * ways[i];
        } else {
            const int op = what == 1 ? sub : add;
            new = held(pgr_h_record(tape, op, handles[i], handles[j]));
            value = op == sub ? expected[i] - expected[j] : expected[i] + expected[j];
            d = op == sub ? slope[i] - slope[j] : slope[i] + slope[j];
            w = ways[i] + ways[j];
        }
        pgr_h_release(tape, handles[k], (int)pick(2));
        handles[k] = new;
        expected[k] = value;
        slope[k] = d;
        ways[k] = w;
        while (pgr_h_next_dead(tape) != 0)
            continue;
        if (pick(50) == 0)
            CHECK_EQ(pgr_h_collect(tape), PGR_OK);
        if (pick(20) == 0) {
            pgr_h_set_grad(tape, x, 0.0);
            CHECK_EQ(pgr_h_backward(tape, handles[i]), PGR_OK);
            CHECK(fabs(pgr_h_grad(tape, x) - slope[i]) <= 1e-12 * fmax(1.0, ways[i]));
        }
        CHECK_EQ(pgr_h_data(tape, handles[i]), expected[i]);
    }
    CHECK(pgr_tape_stat(tape).collections > 100);
    pgr_tape_free(tape);
}

static void two_hundred_thousand_steps_hold_a_constant_memory(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle w = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.5));
    uint64_t early = 0;
    for (int step = 0; step < 200000; step++) {
        const pgr_handle a = held(pgr_h_record(tape, op_named("mul"), w, w));
        const pgr_handle b = held(pgr_h_record_number(tape, op_named("add"), a, 1.0, 0));
        pgr_h_release(tape, a, 0);
        pgr_h_backward(tape, b);
        pgr_h_release(tape, b, 0);
        if (step == 20000)
            early = pgr_tape_stat(tape).bytes;
    }
    CHECK_EQ(pgr_tape_stat(tape).bytes, early);
    CHECK_EQ(pgr_h_grad(tape, w), 200000.0);
    pgr_tape_free(tape);
}

/* Two nodes, each kept only by the other's attributes: ties both ways, one to a larger id. */
static void tied_nodes_live_and_die_with_what_ties_them(void)
{
    for (int kept = 0; kept < 2; kept++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        const pgr_id x = leaf(tape, 1.0), s = record(tape, "sin", x, 0), c = record(tape, "cos", x, 0);
        const pgr_id far = record(tape, "neg", c, 0), user = record(tape, "neg", s, 0);
        const pgr_handle hs = held(pgr_hold(tape, s)), hc = held(pgr_hold(tape, c)), hfar = held(pgr_hold(tape, far));
        const pgr_handle root = kept ? held(pgr_hold(tape, user)) : 0;
        pgr_tie ties[] = {{s, c}, {c, s}, {s, s}, {c, far}};
        CHECK_EQ(pgr__collect(tape, ties, 4, true), PGR_OK);
        CHECK_EQ(pgr_tape_stat(tape).nodes, kept ? 5 : 0);
        CHECK_EQ(pgr_h_data(tape, hc), kept ? cos(1.0) : NAN);
        CHECK_EQ(pgr_h_data(tape, hfar), kept ? -cos(1.0) : NAN);
        int dead = 0;
        while (pgr_h_next_dead(tape) != 0)
            dead++;
        CHECK_EQ(dead, kept ? 0 : 3);
        pgr_h_release(tape, hs, 0); /* a hold may outlast its node */
        pgr_h_release(tape, hc, 0);
        pgr_h_release(tape, hfar, 0);
        CHECK_EQ(pgr_tape_stat(tape).handles, kept);
        if (kept)
            pgr_h_release(tape, root, 0);
        CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
        CHECK_EQ(pgr_tape_stat(tape).nodes, 0);
        pgr_tape_free(tape);
    }
}

/* Whether a collection moved it or left it in place. */
static void what_lived_once_dies_when_nobody_needs_it_any_more(void)
{
    for (int round = 0; round < 6; round++) {
        const bool garbage = round % 2 != 0;
        pgr_tape *const tape = pgr_tape_new(NULL);
        if (garbage)
            leaf(tape, 9.0);
        const pgr_id x = leaf(tape, 1.0), y = record(tape, "neg", x, 0), z = record(tape, "add", x, y);
        const pgr_handle h = held(pgr_hold(tape, z));
        for (int again = 0; again <= round / 2; again++)
            CHECK_EQ(pgr__collect(tape, NULL, 0, again != 1), PGR_OK);
        CHECK_EQ(pgr_tape_stat(tape).nodes, 3);
        const pgr_handle last = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0)); /* so that dead nodes are not the last ones */
        pgr_h_release(tape, h, 0);
        CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
        CHECK_EQ(pgr_tape_stat(tape).nodes, 1);
        CHECK_EQ(pgr_h_data(tape, last), 2.0);
        pgr_tape_free(tape);
    }
}

static void all_nodes_are_looked_at_next_at_twice_what_lives_and_at_no_less_than_is_set(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_tape_limits(tape, 100, UINT32_MAX);
    for (int again = 0; again < 5; again++) {
        CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
        CHECK_EQ(pgr_tape_stat(tape).collect_at, 100);
    }
    pgr_id x = leaf(tape, 1.0);
    for (int i = 0; i < 999; i++)
        x = record(tape, "neg", x, 0);
    const pgr_handle h = held(pgr_hold(tape, x));
    CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
    CHECK_EQ(tape->full_at, 2 * 1001);
    CHECK_EQ(pgr_tape_stat(tape).collect_at, 1001 + 200); /* the young ones before that */
    pgr_h_release(tape, h, 0);
    for (uint32_t expected = 1001; expected > 100; expected /= 2) { /* a training loop's step comes again */
        CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
        CHECK_EQ(tape->full_at, expected);
    }
    CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).collect_at, 100);
    CHECK_EQ(pgr_tape_stat(tape).collections, 11);
    pgr_tape_free(tape);
}

/* With little garbage nothing moves unless the caller insists, and live nodes do not become roots. */
static void a_collection_that_moves_nothing_keeps_nothing_for_later(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    leaf(tape, 9.0);
    pgr_id x = leaf(tape, 1.0);
    for (int i = 0; i < 99; i++)
        x = record(tape, "neg", x, 0);
    const pgr_handle h = held(pgr_hold(tape, x));
    CHECK_EQ(pgr__collect(tape, NULL, 0, false), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 101);
    const pgr_handle last = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0));
    pgr_h_release(tape, h, 0);
    CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 1);
    CHECK_EQ(pgr_h_data(tape, last), 2.0);
    pgr_tape_free(tape);
}

/* A tie says who keeps a node at one collection. Afterwards its handles count again. */
static void tied_nodes_that_lived_are_held_as_before(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_id x = 0;
    CHECK_EQ(pgr_input(tape, PGR_OP_LANE, 0, &x), PGR_OK);
    const pgr_id s = record(tape, "sin", x, 0), c = record(tape, "cos", x, 0), user = record(tape, "neg", s, 0);
    const pgr_handle hs = held(pgr_hold(tape, s)), hc = held(pgr_hold(tape, c)), root = held(pgr_hold(tape, user));
    const pgr_handle hx = held(pgr_hold(tape, x));
    pgr_tie ties[] = {{c, s}, {s, c}, {s, x}};
    CHECK_EQ(pgr__collect(tape, ties, 3, true), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 4);
    pgr_h_release(tape, root, 0);
    CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 3);
    CHECK_EQ(pgr_h_unknown(tape, hs), 2); /* all else as before */
    CHECK_EQ(pgr_h_op(tape, hs), op_named("sin"));
    CHECK_EQ(pgr_h_op(tape, hc), op_named("cos"));
    pgr_h_release(tape, hs, 0);
    pgr_h_release(tape, hc, 0);
    CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 1);
    CHECK_EQ(pgr_h_unknown(tape, hx), 2);
    pgr_h_release(tape, hx, 0);
    CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 0);
    pgr_tape_free(tape);
}

static void holds_that_outlast_their_nodes_give_their_names_back(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const uint32_t slots = tape->slot_capacity;
    for (uint32_t i = 0; i < 4 * slots; i++) {
        const pgr_handle h = held(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0));
        pgr_tie tie = {pgr_h_id(tape, h), pgr_h_id(tape, h)};
        CHECK_EQ(pgr__collect(tape, &tie, 1, true), PGR_OK);
        CHECK(pgr_h_next_dead(tape) == h);
        pgr_h_release(tape, h, 0);
    }
    CHECK_EQ(tape->slot_capacity, slots);
    CHECK_EQ(pgr_tape_stat(tape).handles, 0);
    pgr_tape_free(tape);
}

static void *resize_up_to(void *ctx, void *p, size_t size)
{
    if (size > *(const size_t *)ctx)
        return NULL;
    if (size != 0)
        return realloc(p, size);
    free(p);
    return NULL;
}

/* However little of it there is. */
static void when_memory_ends_all_garbage_is_looked_for(void)
{
    size_t most = SIZE_MAX;
    const pgr_allocator allocator = {resize_up_to, &most};
    pgr_tape *const tape = pgr_tape_new(&allocator);
    pgr_handle last = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.0)), garbage = 0;
    for (int i = 1; i < 1000 || tape->size < tape->capacity; i++) {
        const pgr_handle next = held(i == 500 ? pgr_h_leaf(tape, PGR_OP_LEAF, 0.0) : pgr_h_record(tape, op_named("neg"), last, 0));
        pgr_h_release(tape, i == 500 ? 0 : last, 0);
        *(i == 500 ? &garbage : &last) = next;
    }
    most = tape->capacity * sizeof *tape->nodes; /* enough for a collection, not for more nodes */
    pgr_h_release(tape, garbage, 0);
    const pgr_handle one = held(pgr_h_record(tape, op_named("neg"), last, 0));
    CHECK_EQ(pgr_tape_stat(tape).nodes, tape->capacity - 1);
    CHECK_EQ(pgr_h_record(tape, op_named("neg"), one, 0), -PGR_ERR_NOMEM);
    pgr_tape_free(tape);
}

/* Random ties among nodes and hubs, up and down, against a model that iterates to a fixed point. */
static void random_ties_equal_a_model(void)
{
    enum { NODES = 60, HUBS = 12, TIES = 50 };
    check_seed();
    for (int round = 0; round < 3000; round++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        const int count = 2 + (int)pick(NODES - 2), tie_count = (int)pick(TIES);
        pgr_handle handles[NODES] = {0};
        int operands[NODES][2];
        bool lives[NODES + HUBS] = {false}, tied[NODES] = {false};
        pgr_id ids[NODES];
        for (int n = 0; n < count; n++) {
            const bool is_leaf = n == 0 || pick(3) == 0;
            for (int i = 0; i < 2; i++)
                operands[n][i] = is_leaf ? -1 : (int)pick((unsigned)n);
            ids[n] = is_leaf ? leaf(tape, n) : record(tape, "add", ids[operands[n][0]], ids[operands[n][1]]);
            pgr_set_data(tape, ids[n], n);
            if (pick(2))
                handles[n] = held(pgr_hold(tape, ids[n]));
        }
        pgr_tie ties[TIES];
        int from[TIES], to[TIES], made = 0;
        for (int k = 0; k < tie_count; k++) {
            from[made] = pick(2) ? (int)pick((unsigned)count) : NODES + (int)pick(HUBS);
            to[made] = pick(2) ? (int)pick((unsigned)count) : NODES + (int)pick(HUBS);
            if (to[made] < NODES && handles[to[made]] == 0)
                continue;
            if (to[made] < NODES)
                tied[to[made]] = true;
            ties[made].from = from[made] < NODES ? ids[from[made]] : TAPE_HUB + (unsigned)from[made];
            ties[made].to = to[made] < NODES ? ids[to[made]] : TAPE_HUB + (unsigned)to[made];
            made++;
        }
        for (int n = 0; n < count; n++)
            lives[n] = handles[n] != 0 && !tied[n];
        for (bool more = true; more;) {
            more = false;
            for (int n = 0; n < count; n++)
                for (int i = 0; i < 2; i++)
                    if (lives[n] && operands[n][i] >= 0 && !lives[operands[n][i]])
                        lives[operands[n][i]] = more = true;
            for (int k = 0; k < made; k++)
                if (lives[from[k]] && !lives[to[k]])
                    lives[to[k]] = more = true;
        }
        unsigned expected = 0;
        for (int n = 0; n < count; n++)
            expected += lives[n];
        CHECK_EQ(pgr__collect(tape, ties, (size_t)made, true), PGR_OK);
        CHECK_EQ(pgr_tape_stat(tape).nodes, expected);
        for (int n = 0; n < count; n++)
            if (handles[n] != 0) {
                CHECK_EQ(pgr_h_data(tape, handles[n]), lives[n] ? (double)n : (double)NAN);
                if (lives[n])
                    CHECK((tape->nodes[pgr_h_id(tape, handles[n])].flags & TAPE_HELD) != 0);
            }
        pgr_tape_free(tape);
    }
}

/* A chain of ties, each to a larger id: followed one by one, not by a pass over the tape for each. */
static void a_long_chain_of_ties_takes_linear_time(void)
{
    enum { LENGTH = 100000 };
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_tie *const ties = malloc(LENGTH * sizeof *ties);
    pgr_id before = leaf(tape, 0.0);
    pgr_hold(tape, before);
    for (unsigned k = 0; k < LENGTH; k++) {
        const pgr_id id = leaf(tape, k);
        pgr_hold(tape, id);
        ties[k] = (pgr_tie){before, id};
        before = id;
    }
    CHECK_EQ(pgr__collect(tape, ties, LENGTH, true), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, LENGTH + 1);
    free(ties);
    pgr_tape_free(tape);
}

static int collect_inside(void *ctx, pgr_tape *tape, pgr_handle node)
{
    (void)ctx, (void)node;
    const uint32_t before = pgr_tape_stat(tape).nodes;
    CHECK_EQ(pgr_tape_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).nodes, before);
    return 0;
}

static void nothing_moves_inside_a_backward_pass(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_tape_on_custom(tape, collect_inside, NULL);
    leaf(tape, 0.0);
    pgr_id x = leaf(tape, 1.0), out = 0;
    CHECK(pgr_custom(tape, 1.0, 1, &x, &out) == PGR_OK);
    CHECK_EQ(pgr_backward(tape, out), PGR_OK);
    pgr_tape_free(tape);
}

static int peeks_left; /* until is_interrupted returns true, once */
static int asked, stops;

static bool interrupted_soon(void) { return peeks_left > 0 && --peeks_left == 0; }

static int count_and_stop(void *unused)
{
    (void)unused;
    asked++;
    return stops;
}

/* Wherever it is interrupted, a collection stops with everything in place, or starts again. */
static void an_interrupted_collection_leaves_the_tape_as_it_was(void)
{
    enum { LENGTH = 3 * TAPE_ASK_EVERY + 100 };
    for (stops = 0; stops < 2; stops++)
        for (int tied = 0; tied < 2; tied++)
            for (int at = 1; at <= 4; at++) {
                pgr_tape *const tape = pgr_tape_new(NULL);
                pgr_tape_on_stop(tape, count_and_stop, NULL);
                tape->is_interrupted = interrupted_soon;
                const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0));
                const pgr_id dead = leaf(tape, 3.0);
                pgr_id root = pgr_h_id(tape, x);
                for (int i = 0; i < LENGTH; i++)
                    root = record(tape, "neg", root, 0);
                record(tape, "neg", dead, 0);
                const pgr_handle h = held(pgr_hold(tape, root)), loose = held(pgr_hold(tape, dead));
                leaf(tape, 1.0);
                pgr_hold(tape, leaf(tape, 1.0)); /* or the end would be popped */
                const uint32_t before = pgr_tape_stat(tape).nodes;
                if (!tied)
                    pgr_h_release(tape, loose, 0);
                pgr_tie ties[] = {{dead, dead}};
                asked = 0;
                peeks_left = at;
                const pgr_status status = tied ? pgr__collect(tape, ties, 1, true) : pgr_h_collect(tape);
                const bool done = status == PGR_OK;
                CHECK_EQ(peeks_left, 0);
                CHECK_EQ(asked, !tied);
                CHECK_EQ(status, !tied && stops == 0 ? PGR_OK : PGR_ERR_STOPPED);
                CHECK_EQ(pgr_tape_stat(tape).nodes, done ? before - 3 : before);
                CHECK_EQ(pgr_h_data(tape, h), LENGTH % 2 ? -2.0 : 2.0);
                if (tied) { /* held as before, so it lives */
                    CHECK_EQ(pgr_h_collect(tape), PGR_OK);
                    CHECK_EQ(pgr_h_data(tape, loose), 3.0);
                    CHECK_EQ(pgr_tape_stat(tape).nodes, before - 2);
                } else {
                    CHECK_EQ(pgr_h_collect(tape), PGR_OK);
                    CHECK_EQ(pgr_tape_stat(tape).nodes, before - 3);
                }
                for (pgr_id id = 0; id < tape->size; id++)
                    if ((tape->nodes[id].flags & TAPE_LIVE) != 0)
                        CHECK_EQ(id, -1);
                CHECK_EQ(pgr_h_backward(tape, h), PGR_OK);
                CHECK_EQ(pgr_h_grad(tape, x), LENGTH % 2 ? -1.0 : 1.0);
                pgr_tape_free(tape);
            }
}

int main(void)
{
    TEST(what_handles_need_survives_and_nothing_else);
    TEST(random_tapes_equal_a_model);
    TEST(two_hundred_thousand_steps_hold_a_constant_memory);
    TEST(tied_nodes_live_and_die_with_what_ties_them);
    TEST(random_ties_equal_a_model);
    TEST(a_long_chain_of_ties_takes_linear_time);
    TEST(an_interrupted_collection_leaves_the_tape_as_it_was);
    TEST(what_lived_once_dies_when_nobody_needs_it_any_more);
    TEST(all_nodes_are_looked_at_next_at_twice_what_lives_and_at_no_less_than_is_set);
    TEST(a_collection_that_moves_nothing_keeps_nothing_for_later);
    TEST(tied_nodes_that_lived_are_held_as_before);
    TEST(holds_that_outlast_their_nodes_give_their_names_back);
    TEST(when_memory_ends_all_garbage_is_looked_for);
    TEST(nothing_moves_inside_a_backward_pass);
    return check_report();
}
