/* test_regions.c: derivatives that stop at calls with rules, by handle. */
#include "check.h"

typedef struct {
    long until;
    int blocks;
} failing;

static void *failing_resize(void *ctx, void *p, size_t size)
{
    failing *const f = ctx;
    if (size > 0 && f->until-- <= 0)
        return NULL;
    f->blocks += (size > 0 && p == NULL) - (size == 0 && p != NULL);
    void *const result = size == 0 ? NULL : realloc(p, size);
    if (size == 0)
        free(p);
    return result;
}

/* y = sin(x) as a region, whose rule says 10 for the derivative; then z = y * y + x. */
typedef struct {
    pgr_tape *tape;
    pgr_handle x, cut, inside, out, z, one, nodes[3];
    pgr_region region;
} call;

static call new_call(pgr_tape *tape)
{
    call c = {.tape = tape};
    c.one = held(pgr_h_leaf(tape, PGR_OP_CONST, 1.0));
    c.x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.5));
    c.cut = held(pgr_h_record_number(tape, op_named("mul"), c.x, 1.0, 0));
    c.inside = held(pgr_h_record(tape, op_named("sin"), c.cut, 0));
    c.out = held(pgr_h_record_number(tape, op_named("mul"), c.inside, 1.0, 0));
    const pgr_handle square = held(pgr_h_record(tape, op_named("mul"), c.out, c.out));
    c.z = held(pgr_h_record(tape, op_named("add"), square, c.x));
    pgr_h_release(tape, square, 0);
    c.nodes[0] = c.cut;
    c.nodes[1] = c.x;
    c.nodes[2] = c.out;
    c.region = (pgr_region){1, 1, 1, NULL};
    return c;
}

static pgr_status start(const call *c, int is_vjp, const pgr_region *region, size_t count, pgr_derivation **d)
{
    return is_vjp ? pgr_derivation_new(c->tape, 1, PGR_NO_GROUP, 1, &c->z, &c->one, 1, &c->x, count, region, d)
                  : pgr_derivation_new(c->tape, 0, PGR_NO_GROUP, 1, &c->x, &c->one, 1, &c->z, count, region, d);
}

/* The derivative of z by x: 2 * y * 10 + 1. PGR_ERR_NOMEM, with nothing held. */
static pgr_status derive(const call *c, int is_vjp, pgr_handle *out)
{
    pgr_region region = c->region;
    region.nodes = c->nodes;
    pgr_derivation *d = NULL;
    pgr_status status = start(c, is_vjp, &region, 1, &d);
    if (status != PGR_OK)
        return status;
    size_t at = 99;
    pgr_handle given = 0;
    status = pgr_derivation_run(d, NULL, &at, &given, NULL);
    if (status == PGR_OK) {
        CHECK_EQ(at, 0);
        CHECK_EQ(pgr_h_data(c->tape, given), is_vjp ? 2.0 * sin(0.5) : 1.0);
        const int64_t answer = pgr_h_record_number(c->tape, op_named("mul"), given, 10.0, 0);
        pgr_h_release(c->tape, given, 0);
        status = answer < 0 ? (pgr_status)-answer : PGR_OK;
        if (status == PGR_OK) {
            const pgr_handle answered = (pgr_handle)answer;
            status = pgr_derivation_run(d, &answered, &at, out, NULL);
            pgr_h_release(c->tape, answered, 0);
            CHECK(status != PGR_OK || at == 1);
        }
    }
    pgr_derivation_free(d);
    return status;
}

static void a_derivative_goes_by_the_rule(void)
{
    for (int is_vjp = 0; is_vjp < 2; is_vjp++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        const call c = new_call(tape);
        pgr_handle out = 0;
        CHECK_EQ(derive(&c, is_vjp, &out), PGR_OK);
        CHECK(fabs(pgr_h_data(tape, out) - (20.0 * sin(0.5) + 1.0)) < 1e-14);
        /* Without the region, it goes through the copies. */
        CHECK_EQ(is_vjp ? pgr_h_vjp(tape, PGR_NO_GROUP, 1, &c.z, &c.one, 1, &c.x, &out, NULL)
                        : pgr_h_jvp(tape, 1, &c.x, &c.one, 1, &c.z, &out, NULL),
                 PGR_OK);
        CHECK(fabs(pgr_h_data(tape, out) - (2.0 * sin(0.5) * cos(0.5) + 1.0)) < 1e-14);
        const uint64_t collections = pgr_tape_stat(tape).collections;
        CHECK_EQ(pgr_h_collect(tape), PGR_OK);
        CHECK_EQ(pgr_tape_stat(tape).collections, collections + 1); /* no pass is under way */
        pgr_tape_free(tape);
    }
}

static void nodes_stay_while_a_rule_runs(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const call c = new_call(tape);
    pgr_region region = c.region;
    region.nodes = c.nodes;
    pgr_derivation *d = NULL;
    CHECK_EQ(start(&c, 1, &region, 1, &d), PGR_OK);
    const uint64_t collections = pgr_tape_stat(tape).collections;
    CHECK_EQ(pgr_h_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).collections, collections);
    pgr_derivation_free(d); /* before its end */
    CHECK_EQ(pgr_h_collect(tape), PGR_OK);
    CHECK_EQ(pgr_tape_stat(tape).collections, collections + 1);
    pgr_derivation_free(NULL);
    pgr_tape_free(tape);
}

static void a_variable_behind_the_inputs_is_named(void)
{
    for (int is_vjp = 0; is_vjp < 2; is_vjp++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        call c = new_call(tape);
        const pgr_handle behind = held(pgr_h_record(tape, op_named("add"), c.inside, c.x));
        c.nodes[2] = held(pgr_h_record_number(tape, op_named("mul"), behind, 1.0, 0));
        c.z = held(pgr_h_record(tape, op_named("exp"), c.nodes[2], 0));
        pgr_region region = c.region;
        region.nodes = c.nodes;
        pgr_derivation *d = NULL;
        size_t at = 99;
        pgr_handle given = 0, bad = 0;
        CHECK_EQ(start(&c, is_vjp, &region, 1, &d), PGR_OK);
        CHECK_EQ(pgr_derivation_run(d, NULL, &at, &given, &bad), PGR_ERR_CAPTURED);
        CHECK(bad == c.nodes[2]);
        CHECK_EQ(pgr_derivation_run(d, NULL, &at, &given, &bad), PGR_ERR_ARGUMENT); /* it has ended */
        pgr_derivation_free(d);
        pgr_tape_free(tape);
    }
}

static void cuts_alone_are_variables_whatever_they_are_made_from(void)
{
    for (int is_vjp = 0; is_vjp < 2; is_vjp++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.5)), one = held(pgr_h_leaf(tape, PGR_OP_CONST, 1.0));
        const pgr_handle y = held(pgr_h_record(tape, op_named("exp"), x, 0));
        const pgr_handle z = held(pgr_h_record(tape, op_named("mul"), x, y));
        const pgr_handle wrt[] = {x, y}, ones[] = {one, one};
        const pgr_region region = {2, 0, 0, wrt};
        pgr_derivation *d = NULL;
        size_t at = 99;
        pgr_handle out[2] = {0, 0};
        if (is_vjp)
            CHECK_EQ(pgr_derivation_new(tape, 1, PGR_NO_GROUP, 1, &z, &one, 2, wrt, 1, &region, &d), PGR_OK);
        else
            CHECK_EQ(pgr_derivation_new(tape, 0, PGR_NO_GROUP, 2, wrt, ones, 1, &z, 1, &region, &d), PGR_OK);
        CHECK_EQ(pgr_derivation_run(d, NULL, &at, out, NULL), PGR_OK);
        CHECK_EQ(at, 1);
        pgr_derivation_free(d);
        if (is_vjp) {
            CHECK_EQ(pgr_h_data(tape, out[0]), exp(0.5));
            CHECK_EQ(pgr_h_data(tape, out[1]), 0.5);
        } else {
            CHECK_EQ(pgr_h_data(tape, out[0]), exp(0.5) + 0.5);
        }
        pgr_tape_free(tape);
    }
}

static void captures_are_found_once(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.5)), y = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0));
    const pgr_handle unused = held(pgr_h_leaf(tape, PGR_OP_LEAF, 3.0));
    const pgr_handle since = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.0));
    const pgr_handle a = held(pgr_h_record(tape, op_named("mul"), y, y));
    const pgr_handle b = held(pgr_h_record(tape, op_named("add"), a, x));
    held(pgr_h_record(tape, op_named("add"), b, unused)); /* not a root's */
    const pgr_handle root = held(pgr_h_record(tape, op_named("mul"), b, y));
    pgr_handle out[4] = {0, 0, 0, 0};
    CHECK_EQ(pgr_h_captures(tape, since, 1, &root, 4, out), 2);
    CHECK(out[0] == x && out[1] == y && out[2] == 0);
    CHECK_EQ(pgr_h_captures(tape, since, 1, &root, 1, out), 2);
    CHECK_EQ(pgr_h_captures(tape, since, 1, &x, 4, out), 0);
    pgr_tape_free(tape);
}

static void every_failed_allocation_gives_everything_back(void)
{
    failing f = {1 << 30, 0};
    const pgr_allocator allocator = {failing_resize, &f};
    long failures = 0;
    for (int is_vjp = 0; is_vjp < 2; is_vjp++) {
        pgr_tape *const tape = pgr_tape_new(&allocator);
        const call c = new_call(tape);
        const uint32_t handles = pgr_tape_stat(tape).handles;
        pgr_handle out = 0;
        for (long k = 0, done = 0; !done; k++) {
            f.until = k;
            const pgr_status status = derive(&c, is_vjp, &out);
            f.until = 1 << 30;
            done = status == PGR_OK;
            failures += !done;
            CHECK(done || (status == PGR_ERR_NOMEM && pgr_tape_stat(tape).handles == handles));
            const uint64_t collections = pgr_tape_stat(tape).collections;
            CHECK_EQ(pgr_h_collect(tape), PGR_OK);
            CHECK_EQ(pgr_tape_stat(tape).collections, collections + 1);
        }
        for (long k = 0, done = 0; !done; k++) {
            f.until = k;
            const int64_t count = pgr_h_captures(tape, c.cut, 1, &c.z, 1, &out);
            f.until = 1 << 30;
            done = count > 0;
            failures += !done;
            CHECK(done ? count == 1 && out == c.x : count == -PGR_ERR_NOMEM);
        }
        pgr_tape_free(tape);
        CHECK_EQ(f.blocks, 0);
    }
    printf("%ld failed allocations survived\n", failures);
    CHECK(failures > 30);
}

int main(void)
{
    TEST(a_derivative_goes_by_the_rule);
    TEST(nodes_stay_while_a_rule_runs);
    TEST(a_variable_behind_the_inputs_is_named);
    TEST(cuts_alone_are_variables_whatever_they_are_made_from);
    TEST(captures_are_found_once);
    TEST(every_failed_allocation_gives_everything_back);
    return check_report();
}
