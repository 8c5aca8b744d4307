/* Every allocation made to fail in turn, and a tape that is full. */
#include "check.h"

static double checksum(const pgr_tape *tape)
{
    double sum = tape->held;
    for (pgr_id id = 1; id < tape->size; id++)
        sum += id * (tape->nodes[id].data + 3.0 * tape->nodes[id].op + 7.0 * tape->nodes[id].slot);
    return sum;
}

/* Makes the first, the second, ... allocation of a call fail until it succeeds, and checks that no failure
 * changed anything. `out_of_memory` is what the call returns then. */
#define MUST_SURVIVE(given, out_of_memory, call) \
    do { \
        for (long k = 0;; k++) { \
            const double before = checksum(tape); \
            (given)->until = k; \
            const int64_t result = (int64_t)(call); \
            (given)->until = 1 << 30; \
            if (result != (out_of_memory)) { \
                CHECK(result >= 0); \
                break; \
            } \
            failures++; \
            CHECK_EQ(checksum(tape), before); \
        } \
    } while (0)

static void every_failed_allocation_leaves_the_tape_unchanged(void)
{
    failing f = {1 << 30, 0};
    const pgr_allocator allocator = {failing_resize, &f};
    long failures = 0;
    pgr_tape *tape = NULL;
    for (long k = 0; tape == NULL; k++) {
        f.until = k;
        tape = pgr_tape_new(&allocator);
        if (tape == NULL) {
            CHECK_EQ(f.blocks, 0);
            failures++;
        }
    }
    f.until = 1 << 30;
    pgr_tape_limits(tape, 16, UINT32_MAX);
    pgr_handle held_ones[200], out[3];
    const int neg = op_named("neg");
    for (int i = 0; i < 200; i++) { /* slots grow */
        int64_t h = 0;
        MUST_SURVIVE(&f, -PGR_ERR_NOMEM, h = pgr_h_leaf(tape, PGR_OP_LEAF, i));
        held_ones[i] = (pgr_handle)h;
    }
    for (int i = 0; i < 2000; i++) { /* nodes grow; collections fail */
        int64_t h = 0;
        MUST_SURVIVE(&f, -PGR_ERR_NOMEM, h = pgr_h_record(tape, neg, held_ones[i % 200], 0));
        pgr_h_release(tape, held_ones[i % 200], 0);
        held_ones[i % 200] = (pgr_handle)h;
    }
    int64_t d = 0, c = 0;
    MUST_SURVIVE(&f, -PGR_ERR_NOMEM, d = pgr_h_dot(tape, 90, held_ones, held_ones + 100, held_ones[199]));
    MUST_SURVIVE(&f, -PGR_ERR_NOMEM, c = pgr_h_custom(tape, 1.0, 100, held_ones));
    MUST_SURVIVE(&f, -PGR_ERR_NOMEM, pgr_h_record_number(tape, op_named("mul"), (pgr_handle)d, 2.0, 1));
    MUST_SURVIVE(&f, -PGR_ERR_NOMEM, pgr_h_operands(tape, (pgr_handle)d, 3, out));
    pgr_table table = {NULL, NULL, 0, 0};
    MUST_SURVIVE(&f, PGR_ERR_NOMEM, pgr_h_export(tape, (pgr_handle)c, 1, &table));
    CHECK(table.row_count > 100);
    for (uint32_t tag = 1; tag < 200; tag++) { /* runs grow */
        MUST_SURVIVE(&f, PGR_ERR_NOMEM, pgr_tape_tag(tape, PGR_TAG_SCOPE, tag));
        pgr_h_release(tape, held_ones[tag % 200], 0);
        held_ones[tag % 200] = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.0));
    }
    pgr_folding folding = {NULL, NULL, 0, 0};
    const pgr_fold_options options = {.fold_count = PGR_FOLD_FIRST, .max_open = 20, .max_near = 20};
    MUST_SURVIVE(&f, PGR_ERR_NOMEM, pgr_fold(tape, &table, &options, &folding));
    CHECK(folding.vertex_count <= 23 && folding.vertices[0].count > 0);
    pgr_folding_free(tape, &folding);
    pgr_table_free(tape, &table);
    MUST_SURVIVE(&f, PGR_ERR_NOMEM, pgr_h_collect(tape));
    f.until = 0;
    CHECK_EQ(pgr_h_backward(tape, (pgr_handle)d), PGR_OK); /* needs no memory */
    printf("%ld failed allocations survived\n", failures);
    CHECK(failures > 15);
    pgr_tape_free(tape);
    CHECK_EQ(f.blocks, 0);
}

/* Names for many nodes at once: all of them, or none. */
static void many_holds_that_fail_are_all_given_back(void)
{
    enum { MANY = 200 };
    failing f = {1 << 30, 0};
    const pgr_allocator allocator = {failing_resize, &f};
    long failures = 0;
    pgr_tape *const tape = pgr_tape_new(&allocator);
    pgr_id ids[MANY], sum = 0;
    pgr_handle out[MANY];
    for (int i = 0; i < MANY; i++)
        ids[i] = leaf(tape, i);
    CHECK_EQ(pgr_custom(tape, 1.0, MANY, ids, &sum), PGR_OK);
    const pgr_handle custom = held(pgr_hold(tape, sum));
    MUST_SURVIVE(&f, -PGR_ERR_NOMEM, pgr_h_operands(tape, custom, MANY, out));
    CHECK(failures > 1);
    for (int i = 0; i < MANY; i++) {
        CHECK_EQ(pgr_h_data(tape, out[i]), i);
        pgr_h_release(tape, out[i], 0);
    }
    CHECK_EQ(pgr_tape_stat(tape).handles, 1);
    pgr_tape_free(tape);

    for (int forward = 0; forward < 2; forward++) {
        pgr_tape *const other = pgr_tape_new(&allocator);
        pgr_id x = 0, one = 0;
        pgr_handle nodes[MANY], weights[MANY];
        CHECK_EQ(pgr_input(other, PGR_OP_INPUT, 0, &x), PGR_OK);
        CHECK_EQ(pgr_constant(other, 2.0, &one), PGR_OK);
        const pgr_handle in = held(pgr_hold(other, x)), weight = held(pgr_hold(other, one));
        for (int i = 0; i < 50; i++) {
            nodes[i] = held(pgr_h_record(other, op_named("sin"), in, 0));
            weights[i] = weight;
        }
        const uint32_t handles = pgr_tape_stat(other).handles;
        for (long k = 0, done = 0; !done; k++) {
            f.until = k;
            const pgr_status status = forward ? pgr_h_jvp(other, 1, &in, &weight, 50, nodes, out, NULL)
                                              : pgr_h_vjp(other, PGR_NO_GROUP, 50, nodes, weights, 1, &in, out, NULL);
            f.until = 1 << 30;
            done = status == PGR_OK;
            CHECK(done || (status == PGR_ERR_NOMEM && pgr_tape_stat(other).handles == handles));
            failures += !done;
        }
        CHECK_EQ(pgr_tape_stat(other).handles, handles + (forward ? 50 : 1));
        pgr_tape_free(other);
    }
    CHECK_EQ(f.blocks, 0);
}

static void a_full_tape_says_so_and_goes_on_when_graphs_are_dropped(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_tape_limits(tape, 16, 100);
    pgr_handle handles[101];
    for (int i = 0; i < 100; i++)
        handles[i] = held(pgr_h_leaf(tape, PGR_OP_LEAF, i));
    CHECK_EQ(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0), -PGR_ERR_FULL);
    CHECK_EQ(pgr_h_record(tape, op_named("neg"), handles[0], 0), -PGR_ERR_FULL);
    pgr_id id = 5;
    CHECK_EQ(pgr_leaf(tape, 1.0, &id), PGR_ERR_FULL);
    CHECK_EQ(id, 5);
    CHECK_EQ(pgr_h_data(tape, handles[99]), 99.0);
    pgr_h_release(tape, handles[3], 0);
    handles[3] = held(pgr_h_record(tape, op_named("neg"), handles[4], 0));
    CHECK_EQ(pgr_h_data(tape, handles[3]), -4.0);
    CHECK_EQ(pgr_tape_stat(tape).nodes, 100);
    pgr_tape_free(tape);
}

int main(void)
{
    TEST(every_failed_allocation_leaves_the_tape_unchanged);
    TEST(many_holds_that_fail_are_all_given_back);
    TEST(a_full_tape_says_so_and_goes_on_when_graphs_are_dropped);
    return check_report();
}
