/* test_sparse.c: sparse Jacobians, by handle: their entries, in either direction, and failures of memory. */
#include "check.h"

enum { COUNT = 40 };

/* Variables x; squares of them, the rows of a band; and their sum, x after x. */
typedef struct {
    pgr_handle x[COUNT], rows[COUNT + 1];
} graph;

static graph new_graph(pgr_tape *tape)
{
    graph g;
    for (int i = 0; i < COUNT; i++)
        g.x[i] = held(pgr_h_leaf(tape, PGR_OP_LEAF, i + 1.0));
    pgr_handle sum = held(pgr_h_hold(tape, g.x[0]));
    for (int i = 0; i < COUNT; i++) {
        g.rows[i] = held(pgr_h_record(tape, op_named("mul"), g.x[i], g.x[(i + 1) % COUNT]));
        if (i > 0) {
            const pgr_handle next = held(pgr_h_record(tape, op_named("add"), sum, g.x[i]));
            pgr_h_release(tape, sum, 0);
            sum = next;
        }
    }
    g.rows[COUNT] = sum;
    return g;
}

static void release(pgr_tape *tape, pgr_sparse *m)
{
    for (uint32_t i = 0; i < m->count; i++)
        pgr_h_release(tape, m->values[i], 0);
    pgr_sparse_free(tape, m);
}

static void rows_hold_their_entries_alone(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const graph g = new_graph(tape);
    for (unsigned has_sum = 0; has_sum < 2; has_sum++) { /* forward, and, for the sum, in reverse */
        pgr_sparse m;
        CHECK_EQ(pgr_h_jacobian(tape, COUNT + has_sum, g.rows, COUNT, g.x, 0, &m, NULL), PGR_OK);
        CHECK_EQ(m.count, 2 * COUNT + has_sum * COUNT);
        for (int i = 0; i < COUNT + (int)has_sum; i++) {
            CHECK_EQ(m.starts[i], 2 * i);
            for (uint32_t k = m.starts[i]; k < m.starts[i + 1]; k++) {
                const int j = (int)m.columns[k], next = (i + 1) % COUNT;
                CHECK(i == COUNT || j == i || j == next);
                CHECK(k == m.starts[i] || m.columns[k - 1] < m.columns[k]);
                CHECK_EQ(pgr_h_data(tape, m.values[k]), i == COUNT ? 1.0 : (j == i ? next : i) + 1.0);
            }
        }
        release(tape, &m);
    }
    pgr_tape_free(tape);
}

static void a_triangle_has_nothing_above(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const graph g = new_graph(tape);
    pgr_sparse m;
    CHECK_EQ(pgr_h_jacobian(tape, COUNT, g.rows, COUNT, g.x, 1, &m, NULL), PGR_OK);
    CHECK_EQ(m.count, COUNT + 1); /* the diagonal, and the last row's first */
    for (int i = 0; i < COUNT; i++)
        for (uint32_t k = m.starts[i]; k < m.starts[i + 1]; k++)
            CHECK(m.columns[k] <= (uint32_t)i);
    release(tape, &m);
    const pgr_handle roots[] = {g.rows[COUNT], g.rows[3], g.rows[4]}; /* in reverse: the sum is the first root */
    CHECK_EQ(pgr_h_jacobian(tape, 3, roots, COUNT, g.x, 1, &m, NULL), PGR_OK);
    CHECK(m.count == 1 && m.columns[0] == 0);
    release(tape, &m);
    const pgr_handle low[] = {g.rows[COUNT], g.rows[0], g.rows[1]};
    CHECK_EQ(pgr_h_jacobian(tape, 3, low, COUNT, g.x, 1, &m, NULL), PGR_OK);
    CHECK_EQ(m.count, 5);
    for (uint32_t k = 1; k < m.count; k++)
        CHECK_EQ(pgr_h_data(tape, m.values[k]), ((const double[]){2.0, 1.0, 3.0, 2.0})[k - 1]);
    release(tape, &m);
    pgr_tape_free(tape);
}

static void a_variable_may_be_made_from_another(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 3.0));
    const pgr_handle wrt[] = {x, held(pgr_h_record(tape, op_named("mul"), x, x))};
    const pgr_handle roots[] = {held(pgr_h_record_number(tape, op_named("mul"), wrt[1], 5.0, 0)), wrt[1]};
    pgr_sparse m;
    CHECK_EQ(pgr_h_jacobian(tape, 2, roots, 2, wrt, 0, &m, NULL), PGR_OK);
    const double expected[] = {30.0, 5.0, 6.0, 1.0};
    CHECK_EQ(m.count, 4);
    for (uint32_t k = 0; k < m.count; k++)
        CHECK(m.columns[k] == k % 2 && pgr_h_data(tape, m.values[k]) == expected[k]);
    release(tape, &m);
    pgr_tape_free(tape);
}

static void a_custom_node_is_named(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 1.0)), custom = held(pgr_h_custom(tape, 2.0, 1, &x));
    pgr_handle bad = 0;
    pgr_sparse m;
    const uint32_t nodes = pgr_tape_stat(tape).nodes;
    CHECK_EQ(pgr_h_jacobian(tape, 1, &custom, 1, &x, 0, &m, &bad), PGR_ERR_OPAQUE);
    CHECK(bad == custom && m.count == 0 && m.starts == NULL && pgr_tape_stat(tape).nodes == nodes);
    pgr_tape_free(tape);
}

static void every_failed_allocation_gives_everything_back(void)
{
    failing f = {1 << 30, 0};
    const pgr_allocator allocator = {failing_resize, &f};
    pgr_tape *const tape = pgr_tape_new(&allocator);
    const graph g = new_graph(tape);
    const uint32_t handles = pgr_tape_stat(tape).handles;
    long failures = 0;
    for (unsigned has_sum = 0; has_sum < 2; has_sum++)
        for (long k = 0, done = 0; !done; k++) {
            pgr_sparse m;
            f.until = k;
            const pgr_status status = pgr_h_jacobian(tape, COUNT + has_sum, g.rows, COUNT, g.x, 0, &m, NULL);
            f.until = 1 << 30;
            done = status == PGR_OK || k == 1000;
            failures += !done;
            CHECK(status == PGR_OK || (status == PGR_ERR_NOMEM && m.starts == NULL && m.values == NULL));
            if (status == PGR_OK)
                release(tape, &m);
            CHECK_EQ(pgr_tape_stat(tape).handles, handles);
            CHECK_EQ(pgr_h_collect(tape), PGR_OK);
        }
    pgr_tape_free(tape);
    CHECK_EQ(f.blocks, 0);
    printf("%ld failed allocations survived\n", failures);
    CHECK(failures > 15);
}

int main(void)
{
    TEST(rows_hold_their_entries_alone);
    TEST(a_triangle_has_nothing_above);
    TEST(a_variable_may_be_made_from_another);
    TEST(a_custom_node_is_named);
    TEST(every_failed_allocation_gives_everything_back);
    return check_report();
}
