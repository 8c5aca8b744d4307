/* Every row of the table: partials against central differences, domain, kinks. */
#include "check.h"

static pgr_status value_of(int op, double a, double b, double *out) { return pgr_op_value(op, a, b, out); }

/* Central differences with a step of 1e-6 are good to about 1e-9 here; 1e-6 is asked for. */
static void partials_equal_central_differences(void)
{
    static const double points[] = {-2.3, -0.6, 0.35, 0.8, 1.7};
    int compared = 0;
    for (int op = PGR_OP_FIRST; op < pgr_op_count(); op++) {
        const pgr_kind kind = pgr_op_row(op)->kind;
        for (size_t i = 0; i < 5; i++) {
            for (size_t j = 0; j < (kind == PGR_KIND_UNARY ? 1u : 5u); j++) {
                const double a = points[i], b = points[(i + j + 1) % 5], h = 1e-6;
                double v, up, down;
                if (kind == PGR_KIND_CUT || value_of(op, a, b, &v) != PGR_OK || value_of(op, a + h, b, &up) != PGR_OK ||
                    value_of(op, a - h, b, &down) != PGR_OK)
                    continue;
                pgr_tape *const tape = pgr_tape_new(NULL);
                const pgr_id x = leaf(tape, a), y = leaf(tape, b);
                pgr_id z = 0;
                CHECK(pgr_record(tape, op, x, kind == PGR_KIND_UNARY ? 0 : y, &z) == PGR_OK);
                CHECK_EQ(pgr_data(tape, z), v);
                CHECK(pgr_backward(tape, z) == PGR_OK);
                const double da = (up - down) / (2 * h);
                const bool jump = (op == op_named("less") || op == op_named("less_equal") || op == op_named("equal") || op == op_named("mod")) && a == b;
                if (!jump && !(fabs(pgr_grad(tape, x) - da) <= 1e-6 * fmax(1, fabs(da)))) {
                    printf("%s(%g, %g): %g, numerically %g\n", pgr_op_row(op)->name, a, b, pgr_grad(tape, x), da);
                    check_failures++;
                }
                if (kind != PGR_KIND_BINARY) {
                    CHECK_EQ(pgr_grad(tape, y), 0.0);
                } else if (!jump && value_of(op, a, b + h, &up) == PGR_OK && value_of(op, a, b - h, &down) == PGR_OK) {
                    const double db = (up - down) / (2 * h);
                    CHECK(fabs(pgr_grad(tape, y) - db) <= 1e-6 * fmax(1, fabs(db)));
                }
                compared++;
                pgr_tape_free(tape);
            }
        }
    }
    CHECK(compared > 200);
}

static void outside_the_domain_nothing_is_recorded(void)
{
    static const struct {
        const char *name;
        double a, b;
        pgr_status status;
    } cases[] = {
        {"div", 1, 0, PGR_ERR_DIVZERO},     {"pow", 0, -1, PGR_ERR_DIVZERO},   {"powc", 0, -2, PGR_ERR_DIVZERO},
        {"pow", -8, 0.5, PGR_ERR_DOMAIN},   {"pow", 10, 400, PGR_ERR_RANGE},   {"exp", 1000, 0, PGR_ERR_RANGE},
        {"log", 0, 0, PGR_ERR_DOMAIN},      {"log", -1, 0, PGR_ERR_DOMAIN},    {"log1p", -1, 0, PGR_ERR_DOMAIN},
        {"expm1", 1000, 0, PGR_ERR_RANGE},  {"sqrt", -1, 0, PGR_ERR_DOMAIN},   {"sin", INFINITY, 0, PGR_ERR_DOMAIN},
        {"asin", 1.5, 0, PGR_ERR_DOMAIN},   {"acos", -1.5, 0, PGR_ERR_DOMAIN}, {"cosh", 1000, 0, PGR_ERR_RANGE},
        {"sinh", -1000, 0, PGR_ERR_RANGE},  {"log10", 0, 0, PGR_ERR_DOMAIN},   {"log2", -1, 0, PGR_ERR_DOMAIN},
        {"acosh", 0.5, 0, PGR_ERR_DOMAIN},  {"atanh", 1, 0, PGR_ERR_DOMAIN},   {"mod", 1, 0, PGR_ERR_DIVZERO},
    };
    pgr_tape *const tape = pgr_tape_new(NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const pgr_id a = leaf(tape, cases[i].a), b = leaf(tape, cases[i].b);
        const int op = op_named(cases[i].name);
        const uint32_t before = pgr_tape_stat(tape).nodes;
        pgr_id out = 12345;
        CHECK_EQ(pgr_record(tape, op, a, pgr_op_row(op)->kind == PGR_KIND_UNARY ? 0 : b, &out), cases[i].status);
        CHECK_EQ(out, 12345);
        CHECK_EQ(pgr_tape_stat(tape).nodes, before);
    }
    pgr_tape_free(tape);
}

static void kinks_follow_the_table(void)
{
    static const struct {
        const char *name;
        double a, b, da, db;
    } cases[] = {
        {"relu", 0, 0, 0, 0},      {"abs", 0, 0, 0, 0},   {"max", 2, 2, 0.5, 0.5},
        {"min", 2, 2, 0.5, 0.5},   {"pow", 0, 0, 0, 0},   {"hypot", 0, 0, 0, 0},
        {"atan2", 0, 0, 0, 0},     {"pow", 0, 1, 1, 0},   {"sqrt", 0, 0, INFINITY, 0},
        {"acosh", 1, 0, INFINITY, 0}, {"elu", 0, 0.5, 0.5, 0}, {"mod", 4, 2, 1, -2},  {"floor", 2, 0, 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        const pgr_id a = leaf(tape, cases[i].a), b = leaf(tape, cases[i].b);
        const int op = op_named(cases[i].name);
        pgr_id out = 0;
        CHECK(pgr_record(tape, op, a, pgr_op_row(op)->kind == PGR_KIND_UNARY ? 0 : b, &out) == PGR_OK);
        pgr_backward(tape, out);
        CHECK_EQ(pgr_grad(tape, a), cases[i].da);
        CHECK_EQ(pgr_grad(tape, b), cases[i].db);
        pgr_tape_free(tape);
    }
}

static void a_zero_grad_times_an_infinite_partial_is_nan(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 0.0);
    pgr_backward(tape, record(tape, "mul", record(tape, "sqrt", x, 0), leaf(tape, 0.0)));
    CHECK(isnan(pgr_grad(tape, x)));
    pgr_tape_free(tape);
}

static void ops_that_are_none_are_refused(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 1.0);
    pgr_id out = 7;
    CHECK_EQ(pgr_record(tape, PGR_OP_CUSTOM, x, 0, &out), PGR_ERR_OP);
    CHECK_EQ(pgr_record(tape, 9999, x, 0, &out), PGR_ERR_OP);
    CHECK_EQ(pgr_record(tape, -1, x, 0, &out), PGR_ERR_OP);
    CHECK_EQ(out, 7);
    CHECK(pgr_op_row(-1) == NULL && pgr_op_row(pgr_op_count()) == NULL);
    pgr_tape_free(tape);
}

int main(void)
{
    TEST(partials_equal_central_differences);
    TEST(outside_the_domain_nothing_is_recorded);
    TEST(kinks_follow_the_table);
    TEST(a_zero_grad_times_an_infinite_partial_is_nan);
    TEST(ops_that_are_none_are_refused);
    return check_report();
}
