/* test_regions.c: derivatives that stop at calls with rules, by handle. */
#include "check.h"

/* w = x + x; y, u = sin(w), cos(w) as a region, whose rule says 10 and 3 for the derivatives; then z = y * u + x. */
typedef struct {
    pgr_tape *tape;
    pgr_handle x, inside, z, one, nodes[4]; /* the region's: a cut, an input, two outs */
    pgr_region region;
} call;

static call new_call(pgr_tape *tape)
{
    call c = {.tape = tape};
    const int mul = op_named("mul"), add = op_named("add");
    c.one = held(pgr_h_leaf(tape, PGR_OP_CONST, 1.0));
    c.x = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.5));
    c.nodes[1] = held(pgr_h_record(tape, add, c.x, c.x));
    c.nodes[0] = held(pgr_h_record_number(tape, mul, c.nodes[1], 1.0, 0));
    c.inside = held(pgr_h_record(tape, op_named("sin"), c.nodes[0], 0));
    const pgr_handle other = held(pgr_h_record(tape, op_named("cos"), c.nodes[0], 0));
    c.nodes[2] = held(pgr_h_record_number(tape, mul, c.inside, 1.0, 0));
    c.nodes[3] = held(pgr_h_record_number(tape, mul, other, 1.0, 0));
    const pgr_handle product = held(pgr_h_record(tape, mul, c.nodes[2], c.nodes[3]));
    c.z = held(pgr_h_record(tape, add, product, c.x));
    pgr_h_release(tape, product, 0);
    pgr_h_release(tape, other, 0);
    c.region = (pgr_region){1, 1, 2, NULL};
    return c;
}

static pgr_status start(const call *c, int is_vjp, const pgr_region *region, size_t count, pgr_derivation **d)
{
    return is_vjp ? pgr_derivation_new(c->tape, 1, PGR_NO_GROUP, 1, &c->z, &c->one, 1, &c->x, count, region, d)
                  : pgr_derivation_new(c->tape, 0, PGR_NO_GROUP, 1, &c->x, &c->one, 1, &c->z, count, region, d);
}

/* What the rule says: 10 times the first of the given numbers and 3 times the second, one answer for both, or two for
 * one. */
static pgr_status apply_rule(pgr_tape *tape, int is_vjp, const pgr_handle *given, pgr_handle *answer)
{
    const int64_t ten = pgr_h_record_number(tape, op_named("mul"), given[0], 10.0, 0);
    const int64_t three = pgr_h_record_number(tape, op_named("mul"), given[is_vjp], 3.0, 0);
    const int64_t both = ten < 0 || three < 0 ? -PGR_ERR_NOMEM
                         : is_vjp ? pgr_h_record(tape, op_named("add"), (pgr_handle)ten, (pgr_handle)three)
                                  : pgr_h_hold(tape, (pgr_handle)ten);
    if (ten > 0)
        pgr_h_release(tape, (pgr_handle)ten, 0);
    if (three > 0 && (is_vjp || both < 0))
        pgr_h_release(tape, (pgr_handle)three, 0);
    answer[0] = both < 0 ? 0 : (pgr_handle)both;
    answer[1] = is_vjp || both < 0 ? 0 : (pgr_handle)three;
    return both < 0 ? (pgr_status)-both : PGR_OK;
}

/* The derivative of z by x: 2 * (10 * u + 3 * y) + 1. PGR_ERR_NOMEM, with nothing held. */
static pgr_status derive(const call *c, int is_vjp, pgr_handle *out)
{
    pgr_region region = c->region;
    region.nodes = c->nodes;
    pgr_derivation *d = NULL;
    pgr_status status = start(c, is_vjp, &region, 1, &d);
    if (status != PGR_OK)
        return status;
    size_t at = 99;
    pgr_handle given[2] = {0, 0}, answer[2] = {0, 0};
    status = pgr_derivation_run(d, NULL, &at, given, NULL);
    if (status == PGR_OK) {
        CHECK_EQ(at, 0);
        CHECK_EQ(pgr_h_data(c->tape, given[0]), is_vjp ? cos(1.0) : 2.0);
        CHECK(is_vjp ? pgr_h_data(c->tape, given[1]) == sin(1.0) : given[1] == 0);
        status = given[is_vjp] == 0 ? PGR_ERR_ARGUMENT : apply_rule(c->tape, is_vjp, given, answer);
        for (int i = 0; i < 2; i++)
            if (given[i] != 0)
                pgr_h_release(c->tape, given[i], 0);
    }
    if (status == PGR_OK) {
        status = pgr_derivation_run(d, answer, &at, out, NULL);
        for (int i = 0; i < 2; i++)
            if (answer[i] != 0)
                pgr_h_release(c->tape, answer[i], 0);
        CHECK(status != PGR_OK || at == 1);
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
        CHECK(fabs(pgr_h_data(tape, out) - (20.0 * cos(1.0) + 6.0 * sin(1.0) + 1.0)) < 1e-14);
        /* Without the region, it goes through the copies. */
        CHECK_EQ(is_vjp ? pgr_h_vjp(tape, PGR_NO_GROUP, 1, &c.z, &c.one, 1, &c.x, &out, NULL)
                        : pgr_h_jvp(tape, 1, &c.x, &c.one, 1, &c.z, &out, NULL),
                 PGR_OK);
        CHECK(fabs(pgr_h_data(tape, out) - (2.0 * cos(2.0) + 1.0)) < 1e-14);
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
        pgr_handle given[2], bad = 0;
        CHECK_EQ(start(&c, is_vjp, &region, 1, &d), PGR_OK);
        CHECK_EQ(pgr_derivation_run(d, NULL, &at, given, &bad), PGR_ERR_CAPTURED);
        CHECK(bad == c.nodes[is_vjp ? 2 : 3]); /* the first that the pass meets */
        if (bad != 0)
            CHECK_EQ(pgr_derivation_run(d, NULL, &at, given, &bad), PGR_ERR_ARGUMENT); /* it has ended */
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
            done |= k == 1000;
            const uint64_t collections = pgr_tape_stat(tape).collections;
            CHECK_EQ(pgr_h_collect(tape), PGR_OK);
            CHECK_EQ(pgr_tape_stat(tape).collections, collections + 1);
        }
        for (long k = 0, done = 0; !done; k++) {
            f.until = k;
            const int64_t count = pgr_h_captures(tape, c.inside, 1, &c.z, 1, &out);
            f.until = 1 << 30;
            done = count > 0 || k == 1000;
            failures += !done;
            CHECK(done ? count == 2 && out == c.x : count == -PGR_ERR_NOMEM);
        }
        pgr_tape_free(tape);
        CHECK_EQ(f.blocks, 0);
    }
    printf("%ld failed allocations survived\n", failures);
    CHECK(failures > 30);
}

/* ---- Linear functions ------------------------------------------------------------------------------ */

/* Whether `x op y` is linear in the unknown u. v is a copy of u, n is not linear, c and b are numbers, z is 0. */
static int is_linear(pgr_tape *tape, const char *op, char x, char y, size_t cut_count)
{
    const pgr_handle before = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.0)); /* which may change */
    const pgr_handle u = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.5));
    const pgr_handle v = held(pgr_h_record_number(tape, op_named("mul"), u, 1.0, 0));
    const pgr_handle letters[] = {
        ['u' - 'a'] = u, ['v' - 'a'] = v, ['n' - 'a'] = held(pgr_h_record(tape, op_named("tanh"), v, 0)),
        ['c' - 'a'] = held(pgr_h_leaf(tape, PGR_OP_LEAF, 2.0)), ['z' - 'a'] = held(pgr_h_leaf(tape, PGR_OP_CONST, 0.0)),
        ['b' - 'a'] = before,
    };
    const pgr_handle result = held(pgr_h_record(tape, op_named(op), letters[x - 'a'], y == ' ' ? 0 : letters[y - 'a']));
    const int found = pgr_h_is_linear(tape, u, 1, &result, cut_count, &v);
    for (size_t i = 0; i < sizeof letters / sizeof *letters; i++)
        if (letters[i] != 0)
            pgr_h_release(tape, letters[i], 0);
    pgr_h_release(tape, result, 0);
    return found;
}

static void sums_of_multiples_are_linear(void)
{
    static const struct {
        const char *op, *operands;
        int expected;
    } cases[] = {
        {"add", "uv", 1}, {"add", "uz", 1}, {"sub", "zu", 1}, {"add", "uc", 0}, {"sub", "cu", 0},
        {"add", "ub", 0}, {"add", "un", 0}, {"add", "cc", 0}, {"add", "zz", 1}, {"mul", "uc", 1},
        {"mul", "bu", 1}, {"mul", "uv", 0}, {"mul", "un", 0}, {"mul", "nz", 1}, {"mul", "cc", 0},
        {"div", "uc", 1}, {"div", "cu", 0}, {"div", "uv", 0}, {"div", "zc", 1}, {"neg", "u ", 1},
        {"neg", "n ", 0}, {"pick", "cu", 1}, {"pick", "uc", 0}, {"keep", "cu", 1}, {"keep", "uu", 0},
        {"pick", "zn", 1}, {"keep", "cc", 0}, {"sin", "u ", 0}, {"sign", "u ", 0}, {"max", "uv", 0},
        {"detach", "u ", 0},
    };
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_set_recording(1); /* detach keeps its operand */
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const int found = is_linear(tape, cases[i].op, cases[i].operands[0], cases[i].operands[1], 0);
        if (found != cases[i].expected)
            printf("%s %s: ", cases[i].op, cases[i].operands);
        CHECK_EQ(found, cases[i].expected);
    }
    pgr_set_recording(0);
    CHECK_EQ(is_linear(tape, "add", 'v', 'v', 1), 0);
    CHECK_EQ(is_linear(tape, "add", 'u', 'u', 1), 1);
    pgr_handle none = 12345;
    CHECK_EQ(pgr_h_is_linear(tape, none, 1, &none, 0, NULL), -PGR_ERR_HANDLE);
    pgr_tape_free(tape);
}

static void without_memory_nothing_is_said_to_be_linear(void)
{
    failing f = {1 << 30, 0};
    const pgr_allocator allocator = {failing_resize, &f};
    pgr_tape *const tape = pgr_tape_new(&allocator);
    const pgr_handle u = held(pgr_h_leaf(tape, PGR_OP_LEAF, 0.5));
    long failures = 0;
    for (int found = -1; found < 0 && failures < 100;) {
        const long blocks = f.blocks;
        f.until = failures;
        found = pgr_h_is_linear(tape, u, 1, &u, 0, NULL);
        f.until = 1 << 30;
        CHECK(found == 1 || found == -PGR_ERR_NOMEM);
        CHECK_EQ(f.blocks, blocks);
        failures += found < 0;
    }
    CHECK(failures >= 4);
    pgr_tape_free(tape);
    CHECK_EQ(f.blocks, 0);
}

int main(void)
{
    TEST(a_derivative_goes_by_the_rule);
    TEST(nodes_stay_while_a_rule_runs);
    TEST(a_variable_behind_the_inputs_is_named);
    TEST(cuts_alone_are_variables_whatever_they_are_made_from);
    TEST(captures_are_found_once);
    TEST(every_failed_allocation_gives_everything_back);
    TEST(sums_of_multiples_are_linear);
    TEST(without_memory_nothing_is_said_to_be_linear);
    return check_report();
}
