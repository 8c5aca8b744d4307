/* Tags, kept by runs of nodes, against a tag for each node; folding. */
#include "check.h"

enum { NODES = 400 };

/* A node's expected tag is its value. */
static void check_tags(pgr_tape *tape)
{
    for (pgr_id id = 1; id < tape->size; id++)
        CHECK_EQ(pgr_tag(tape, PGR_TAG_SCOPE, id), pgr_data(tape, id));
    for (uint32_t k = 0; k + 1 < tape->tags[PGR_TAG_SCOPE].count; k++)
        CHECK(tape->tags[PGR_TAG_SCOPE].runs[k].start < tape->tags[PGR_TAG_SCOPE].runs[k + 1].start);
    CHECK(tape->tags[PGR_TAG_SCOPE].count <= tape->size);
}

static void tags_stay_with_their_nodes_through_drops_and_collections(void)
{
    check_seed();
    for (int round = 0; round < 200; round++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        pgr_tape_limits(tape, 8 + pick(40), UINT32_MAX);
        pgr_handle handles[NODES] = {0};
        uint32_t tag = 0;
        for (int step = 0; step < 2000; step++) {
            const unsigned k = pick(NODES);
            switch (pick(8)) {
            case 0:
                tag = pick(5);
                CHECK(pgr_tape_tag(tape, PGR_TAG_SCOPE, tag) == PGR_OK);
                break;
            case 1:
                if (pick(20) == 0)
                    CHECK(pgr_h_collect(tape) == PGR_OK);
                break;
            case 2:
            case 3:
            case 4: /* drop: at the end of the tape, often */
                if (handles[k] != 0)
                    pgr_h_release(tape, handles[k], 0);
                handles[k] = 0;
                tape_pop(tape);
                break;
            default:
                if (handles[k] != 0)
                    pgr_h_release(tape, handles[k], 0);
                handles[k] = held(pgr_h_leaf(tape, PGR_OP_LEAF, tag));
            }
            if (step % 50 == 0)
                check_tags(tape);
        }
        CHECK_EQ(pgr_tag(tape, 7, 1), 0);
        CHECK(pgr_tape_tag(tape, 7, 1) == PGR_ERR_ARGUMENT);
        pgr_tape_free(tape);
    }
}

static void a_run_is_a_call(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_id sum = leaf(tape, 0.0);
    for (int call = 0; call < 3; call++) {
        pgr_tape_tag(tape, PGR_TAG_SCOPE, 5);
        sum = record(tape, "add", sum, leaf(tape, 1.0));
        pgr_tape_tag(tape, PGR_TAG_SCOPE, 0); /* nothing is recorded here */
    }
    pgr_table table = {NULL, NULL, 0, 0};
    CHECK(pgr_export(tape, sum, 0, &table) == PGR_OK);
    CHECK_EQ(table.row_count, 7);
    CHECK(table.rows[1].call == table.rows[2].call && table.rows[2].call != table.rows[3].call);
    const uint32_t folds[6] = {PGR_OPEN, PGR_OPEN, PGR_OPEN, PGR_OPEN, PGR_OPEN, PGR_FOLD_FIRST};
    const uint32_t more[6] = {PGR_OPEN, PGR_OPEN, PGR_OPEN, PGR_OPEN, PGR_OPEN, PGR_OPEN};
    const pgr_fold_options options = {6, folds, more, PGR_FOLD_FIRST + 1, 1, 100, 100};
    pgr_folding folding = {NULL, NULL, 0, 0};
    CHECK(pgr_fold(tape, &table, &options, &folding) == PGR_OK);
    CHECK_EQ(folding.vertex_count, 2);
    CHECK_EQ(folding.vertices[1].calls, 3);
    CHECK_EQ(folding.vertices[1].count, 6);
    CHECK_EQ(folding.vertices[1].leaves, 3);
    CHECK_EQ(folding.edge_count, 1);
    pgr_folding_free(tape, &folding);
    pgr_table_free(tape, &table);
    pgr_tape_free(tape);
}

/* However nodes are folded, each is in one vertex, and every edge between two vertices is counted. */
static void folding_loses_no_node_and_no_edge(void)
{
    check_seed();
    for (int round = 0; round < 300; round++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        pgr_id ids[300];
        for (unsigned i = 0; i < 300; i++) {
            pgr_tape_tag(tape, PGR_TAG_SCOPE, pick(3) != 0 ? pick(6) : 0);
            ids[i] = i < 2 || pick(4) == 0 ? leaf(tape, 1.0) : record(tape, pick(2) ? "add" : "mul", ids[pick(i)], ids[i - 1 - pick(2) % i]);
        }
        pgr_table table = {NULL, NULL, 0, 0};
        CHECK(pgr_export(tape, ids[299], 0, &table) == PGR_OK);
        uint32_t folds[6], more[6];
        for (int s = 0; s < 6; s++) {
            folds[s] = s < 2 || pick(2) ? PGR_OPEN : PGR_FOLD_FIRST + pick(3);
            more[s] = s < 2 || folds[s] != PGR_OPEN || pick(2) ? PGR_OPEN : PGR_FOLD_FIRST + 3;
        }
        const pgr_fold_options options = {pick(7), folds, more, PGR_FOLD_FIRST + 4, 1, 1 + pick(60), 1 + pick(60)};
        pgr_folding folding = {NULL, NULL, 0, 0};
        CHECK(pgr_fold(tape, &table, &options, &folding) == PGR_OK);
        uint32_t nodes = 0, open = 0, leaves = 0, all_leaves = 0;
        uint64_t edges = 0;
        for (uint32_t v = 0; v < folding.vertex_count; v++) {
            nodes += folding.vertices[v].count;
            leaves += folding.vertices[v].leaves;
            open += folding.vertices[v].fold == PGR_OPEN;
        }
        for (uint32_t i = 0; i < table.row_count; i++)
            all_leaves += table.rows[i].operand_count == 0;
        for (uint32_t e = 0; e < folding.edge_count; e++) {
            edges += folding.edges[e].count;
            CHECK(folding.edges[e].source != folding.edges[e].target);
            CHECK(folding.edges[e].source < folding.vertex_count && folding.edges[e].target < folding.vertex_count);
            for (uint32_t d = 0; d < e; d++)
                CHECK(folding.edges[d].source != folding.edges[e].source || folding.edges[d].target != folding.edges[e].target);
        }
        CHECK_EQ(nodes, table.row_count);
        CHECK_EQ(leaves, all_leaves);
        CHECK(open <= options.max_open);
        CHECK(edges <= table.operand_count);
        pgr_folding_free(tape, &folding);
        pgr_table_free(tape, &table);
        pgr_tape_free(tape);
    }
}

static void a_checked_sweep_finds_the_first(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 0.0), y = leaf(tape, 2.0);
    const pgr_id root = record(tape, "sqrt", x, 0), z = record(tape, "mul", root, y);
    pgr_id bad = 77;
    CHECK(pgr_backward_checked(tape, z, &bad) == PGR_ERR_NOT_FINITE);
    CHECK_EQ(bad, root);
    pgr_set_grad(tape, x, 0.0);
    const pgr_id fine = record(tape, "mul", x, y);
    CHECK(pgr_backward_checked(tape, fine, &bad) == PGR_OK);
    CHECK_EQ(pgr_grad(tape, x), 2.0);
    pgr_set_data(tape, y, INFINITY);
    CHECK(pgr_backward_checked(tape, fine, &bad) == PGR_ERR_NOT_FINITE);
    CHECK_EQ(bad, y);
    CHECK_EQ(pgr_grad(tape, x), 2.0); /* nothing has been changed */
    pgr_set_data(tape, y, 2.0);
    pgr_set_grad(tape, y, NAN);
    CHECK(pgr_backward_checked(tape, fine, &bad) == PGR_ERR_NOT_FINITE);
    CHECK_EQ(bad, y);
    CHECK_EQ(tape->passes, 0);
    pgr_tape_free(tape);
}

static const pgr_vertex *vertex_of_row(const pgr_folding *folding, uint32_t row)
{
    for (uint32_t v = 0; v < folding->vertex_count; v++)
        if (folding->vertices[v].row == row && folding->vertices[v].fold == PGR_OPEN)
            return &folding->vertices[v];
    return NULL;
}

static void edges_are_counted_with_their_repeats(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id a = leaf(tape, 1.0), b = record(tape, "mul", a, a), root = record(tape, "add", b, a);
    pgr_table table = {NULL, NULL, 0, 0};
    CHECK(pgr_export(tape, root, 0, &table) == PGR_OK);
    const pgr_fold_options options = {.fold_count = PGR_FOLD_FIRST, .max_open = 10, .max_near = 10};
    pgr_folding folding = {NULL, NULL, 0, 0};
    CHECK(pgr_fold(tape, &table, &options, &folding) == PGR_OK);
    CHECK_EQ(folding.vertex_count, 3);
    CHECK_EQ(folding.edge_count, 3);
    for (uint32_t e = 0; e < folding.edge_count; e++)
        CHECK_EQ(folding.edges[e].count, folding.edges[e].target == 1 ? 2 : 1);
    pgr_folding_free(tape, &folding);
    pgr_table_free(tape, &table);
    pgr_tape_free(tape);
}

/* The shortest path from the root counts, however long others are. */
static void the_nearest_nodes_are_shown(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 1.0), near = record(tape, "sin", x, 0);
    pgr_id chain = near;
    for (int i = 0; i < 20; i++)
        chain = record(tape, "neg", chain, 0);
    pgr_table table = {NULL, NULL, 0, 0};
    CHECK(pgr_export(tape, record(tape, "mul", chain, near), 0, &table) == PGR_OK);
    const pgr_fold_options options = {.fold_count = PGR_FOLD_FIRST, .max_open = 3, .max_near = 3};
    pgr_folding folding = {NULL, NULL, 0, 0};
    CHECK(pgr_fold(tape, &table, &options, &folding) == PGR_OK);
    CHECK_EQ(folding.vertex_count, 5); /* the root, its operands, the chain's rest, the leaf */
    CHECK(vertex_of_row(&folding, table.row_count - 1) != NULL && vertex_of_row(&folding, table.row_count - 2) != NULL);
    CHECK(vertex_of_row(&folding, 1) != NULL && vertex_of_row(&folding, 0) == NULL);
    pgr_folding_free(tape, &folding);
    pgr_table_free(tape, &table);
    pgr_tape_free(tape);
}

static void a_parameter_goes_with_its_users_if_they_are_in_one_fold(void)
{
    enum { PARAMETERS = 1, LEFT, RIGHT, SCOPES };
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_tape_tag(tape, PGR_TAG_SCOPE, PARAMETERS);
    const pgr_id shared = leaf(tape, 1.0), own = leaf(tape, 2.0), used_twice = leaf(tape, 3.0);
    pgr_tape_tag(tape, PGR_TAG_SCOPE, LEFT);
    const pgr_id left = record(tape, "mul", record(tape, "mul", shared, own), record(tape, "mul", used_twice, used_twice));
    pgr_tape_tag(tape, PGR_TAG_SCOPE, RIGHT);
    const pgr_id right = record(tape, "neg", shared, 0);
    pgr_tape_tag(tape, PGR_TAG_SCOPE, 0);
    pgr_table table = {NULL, NULL, 0, 0};
    CHECK(pgr_export(tape, record(tape, "add", left, right), 0, &table) == PGR_OK);
    const uint32_t folds[SCOPES] = {PGR_OPEN, PGR_OPEN, PGR_FOLD_FIRST, PGR_FOLD_FIRST + 1};
    const uint32_t more[SCOPES] = {PGR_OPEN, PGR_OPEN, PGR_OPEN, PGR_OPEN};
    const pgr_fold_options options = {SCOPES, folds, more, PGR_FOLD_FIRST + 2, PARAMETERS, 10, 10};
    pgr_folding folding = {NULL, NULL, 0, 0};
    CHECK(pgr_fold(tape, &table, &options, &folding) == PGR_OK);
    CHECK_EQ(folding.vertex_count, 4); /* the shared one, left, right, the root */
    CHECK(vertex_of_row(&folding, 0) != NULL);
    for (uint32_t v = 0; v < folding.vertex_count; v++)
        if (folding.vertices[v].fold == PGR_FOLD_FIRST) {
            CHECK_EQ(folding.vertices[v].count, 5);
            CHECK_EQ(folding.vertices[v].leaves, 2);
            CHECK_EQ(folding.vertices[v].calls, 1);
        }
    pgr_folding_free(tape, &folding);
    pgr_table_free(tape, &table);
    pgr_tape_free(tape);
}

int main(void)
{
    TEST(edges_are_counted_with_their_repeats);
    TEST(the_nearest_nodes_are_shown);
    TEST(a_parameter_goes_with_its_users_if_they_are_in_one_fold);
    TEST(tags_stay_with_their_nodes_through_drops_and_collections);
    TEST(a_run_is_a_call);
    TEST(folding_loses_no_node_and_no_edge);
    TEST(a_checked_sweep_finds_the_first);
    return check_report();
}
