/* Recorded functions: derivatives as nodes, building, running, and untrusted parts. */
#include "check.h"
#include "program/program.h"

enum { INPUTS = 4, STEPS = 60, LANES = 300 };

/* A random function of INPUTS numbers whose values stay small: the same steps on nodes of any kind. */
typedef struct {
    int op[STEPS], a[STEPS], b[STEPS];
} function;

static function random_function(void)
{
    static const char *const names[] = {"add", "sub", "mul", "max", "tanh", "sin", "sigmoid", "neg", "atan", "relu"};
    function f;
    for (int i = 0; i < STEPS; i++) {
        f.op[i] = op_named(names[pick(10)]);
        f.a[i] = (int)pick((unsigned)(INPUTS + 2 * i));
        f.b[i] = (int)pick((unsigned)(INPUTS + 2 * i));
    }
    return f;
}

/* Every step is squashed, so that nothing grows. */
static pgr_id apply(pgr_tape *tape, const function *f, const pgr_id *inputs)
{
    pgr_id ids[INPUTS + 2 * STEPS];
    memcpy(ids, inputs, INPUTS * sizeof *ids);
    for (int i = 0; i < STEPS; i++) {
        const bool binary = pgr_op_row(f->op[i])->kind == PGR_KIND_BINARY;
        CHECK_EQ(pgr_record(tape, f->op[i], ids[f->a[i]], binary ? ids[f->b[i]] : 0, &ids[INPUTS + 2 * i]), PGR_OK);
        ids[INPUTS + 2 * i + 1] = record(tape, "tanh", ids[INPUTS + 2 * i], 0);
    }
    pgr_id sum = ids[INPUTS + 2 * STEPS - 1];
    for (int i = 1; i < 6; i++)
        sum = record(tape, "add", sum, record(tape, "mul", ids[INPUTS + 2 * (STEPS - i)], ids[i % INPUTS]));
    return sum;
}

/* The value and the gradient of f at x, from the eager engine. */
static void eager(const function *f, const double *x, double *out)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_id ids[INPUTS];
    for (int i = 0; i < INPUTS; i++)
        ids[i] = leaf(tape, x[i]);
    const pgr_id root = apply(tape, f, ids);
    CHECK_EQ(pgr_backward(tape, root), PGR_OK);
    out[0] = tape->nodes[root].data;
    for (int i = 0; i < INPUTS; i++)
        out[1 + i] = tape->nodes[ids[i]].grad;
    pgr_tape_free(tape);
}

/* Records the value and the gradient of f: as lanes with stride INPUTS, or once. */
static pgr_status record_both(pgr_tape *tape, const function *f, bool lanes, pgr_id *start, pgr_id *nodes)
{
    pgr_id ids[INPUTS], copies[INPUTS], seed = 0;
    *start = leaf(tape, 0.0);
    for (uint64_t i = 0; i < INPUTS; i++) {
        pgr_status status = pgr_input(tape, lanes ? PGR_OP_LANE : PGR_OP_INPUT, lanes ? i : (uint64_t)1 << 32 | i, &ids[i]);
        if (status != PGR_OK)
            return status;
        copies[i] = record(tape, "mul", ids[i], leaf(tape, 1.0));
    }
    nodes[0] = apply(tape, f, copies);
    const pgr_status status = pgr_constant(tape, 1.0, &seed);
    return status != PGR_OK ? status : pgr_vjp(tape, PGR_NO_GROUP, 1, nodes, &seed, INPUTS, copies, nodes + 1, NULL);
}

static pgr_status build(pgr_tape *tape, bool lanes, bool sum, uint64_t count, pgr_id start, const pgr_id *nodes, pgr_program **out)
{
    pgr_lane_input lane_inputs[INPUTS];
    pgr_output outputs[1 + INPUTS];
    for (uint32_t i = 0; i < INPUTS; i++)
        lane_inputs[i] = (pgr_lane_input){.array = 1, .offset = i, .stride = INPUTS};
    for (uint32_t i = 0; i <= INPUTS; i++) {
        outputs[i] = (pgr_output){.node = nodes[i], .array = 1, .offset = i, .stride = lanes && !sum ? 1 + INPUTS : 0};
        if (sum)
            CHECK_EQ(pgr_lane_sum(tape, nodes[i], nodes[0], &outputs[i].node), PGR_OK);
    }
    const pgr_lane_group group = {.lanes = count, .input_count = INPUTS, .inputs = lane_inputs};
    return pgr_program_build(tape, start, 1 + INPUTS, outputs, lanes ? 1 : 0, &group, 2, NULL, out, NULL);
}

static double number(void) { return (double)rand() / RAND_MAX * 3.0 - 1.5; }

static bool close_to(double x, double y) { return fabs(x - y) <= 1e-11 * (1.0 + fabs(y)) || (isnan(x) && isnan(y)); }

static void programs_compute_what_the_eager_engine_does_with_every_instruction_set(void)
{
    check_seed();
    double x[LANES * INPUTS], out[LANES * (1 + INPUTS)], expected[1 + INPUTS];
    char odd[sizeof x + 1];
    for (int round = 0; round < 60; round++) {
        const function f = random_function();
        const uint64_t lanes = round % 2 ? 1 + pick(LANES) : 1;
        pgr_tape *const tape = pgr_tape_new(NULL);
        pgr_id start, nodes[1 + INPUTS];
        pgr_program *program = NULL;
        CHECK_EQ(record_both(tape, &f, round % 2, &start, nodes), PGR_OK);
        CHECK_EQ(build(tape, round % 2, false, lanes, start, nodes, &program), PGR_OK);
        for (uint64_t i = 0; i < lanes * INPUTS; i++)
            x[i] = number();
        memcpy(odd + 1, x, (size_t)lanes * INPUTS * sizeof *x);
        const double *const in[] = {NULL, round % 4 < 2 ? x : (const void *)(odd + 1), NULL}; /* aligned or not */
        double *const to[] = {NULL, out};
        for (int set = PGR_KERNELS_BEST; set <= PGR_KERNELS_AVX512; set++) {
            const pgr_run_options options = {.kernels = (pgr_kernels)set};
            memset(out, 0, sizeof out);
            CHECK_EQ(pgr_program_run(program, in, to, &options), PGR_OK);
            for (uint64_t lane = 0; lane < lanes; lane++) {
                eager(&f, x + lane * INPUTS, expected);
                for (int i = 0; i <= INPUTS; i++)
                    CHECK(close_to(out[lane * (1 + INPUTS) + (uint64_t)i], expected[i]));
            }
        }
        pgr_program_free(program);
        pgr_tape_free(tape);
    }
}

static void rectified_sums_keep_nan_and_the_sign_of_zero_with_every_instruction_set(void)
{
    static const double numbers[] = {-0.0, NAN, -1.0, 0.0, 2.0, -INFINITY, INFINITY, -1e-310};
    enum { KINDS = sizeof numbers / sizeof *numbers };
    double x[LANES * INPUTS], out[LANES * (1 + INPUTS)];
    for (uint64_t i = 0; i < LANES; i++)
        for (uint64_t k = 0; k < INPUTS; k++)
            x[i * INPUTS + k] = numbers[(i + k / 2) % KINDS];
    for (uint64_t lanes = 1; lanes <= LANES; lanes += lanes < 20 ? 1 : 70) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        const pgr_id start = tape->size;
        pgr_id ids[INPUTS], nodes[1 + INPUTS];
        pgr_program *program = NULL;
        for (uint64_t i = 0; i < INPUTS; i++)
            CHECK_EQ(pgr_input(tape, PGR_OP_LANE, i, &ids[i]), PGR_OK);
        const pgr_id half = leaf(tape, 0.5);
        const pgr_id sum = record(tape, "add", record(tape, "mul", half, ids[0]), record(tape, "mul", half, ids[1]));
        nodes[0] = record(tape, "relu", sum, 0);
        for (int i = 0; i < INPUTS; i++)
            nodes[1 + i] = record(tape, "add", ids[i], nodes[0]);
        CHECK_EQ(build(tape, true, false, lanes, start, nodes, &program), PGR_OK);
        const double *const in[] = {NULL, x, NULL};
        double *const to[] = {NULL, out};
        for (int set = PGR_KERNELS_BEST; set <= PGR_KERNELS_AVX512; set++) {
            const pgr_run_options options = {.kernels = (pgr_kernels)set};
            CHECK_EQ(pgr_program_run(program, in, to, &options), PGR_OK);
            for (uint64_t lane = 0; lane < lanes; lane++) {
                const double v = 0.5 * x[lane * INPUTS] + 0.5 * x[lane * INPUTS + 1], is = out[lane * (1 + INPUTS)];
                const double expected = v < 0.0 ? 0.0 : v;
                CHECK(isnan(v) ? isnan(is) : is == expected && !signbit(is) == !signbit(expected));
            }
        }
        pgr_program_free(program);
        pgr_tape_free(tape);
    }
}

/* Under ASan, a read of one number too many fails: arrays end where the last lane's number does. */
static void lanes_are_read_with_any_stride_and_no_number_beyond_with_every_instruction_set(void)
{
    check_seed();
    for (size_t lanes = 1; lanes <= 600; lanes += lanes < 40 ? 1 : 280)
        for (size_t stride = 0; stride <= 5; stride++) {
            const size_t offset = pick((unsigned)stride + 1), count = offset + (lanes - 1) * stride + 1;
            const size_t shift = pick(8); /* aligned or not */
            pgr_tape *const tape = pgr_tape_new(NULL);
            const pgr_id start = tape->size;
            pgr_id lane = 0;
            pgr_program *program = NULL;
            char *const bytes = malloc(shift + count * sizeof(double));
            double *const out = malloc(lanes * sizeof *out);
            for (size_t k = 0; k < count; k++)
                memcpy(bytes + shift + k * sizeof(double), &(double){number()}, sizeof(double));
            CHECK_EQ(pgr_input(tape, PGR_OP_LANE, 0, &lane), PGR_OK);
            const pgr_lane_input input = {.array = 1, .offset = offset, .stride = stride};
            const pgr_lane_group group = {.lanes = lanes, .input_count = 1, .inputs = &input};
            const pgr_output output = {.node = record(tape, "neg", lane, 0), .array = 1, .stride = 1};
            CHECK_EQ(pgr_program_build(tape, start, 1, &output, 1, &group, 2, NULL, &program, NULL), PGR_OK);
            const double *const in[] = {NULL, (const void *)(bytes + shift)};
            double *const to[] = {NULL, out};
            for (int set = PGR_KERNELS_BEST; set <= PGR_KERNELS_AVX512; set++) {
                const pgr_run_options options = {.kernels = (pgr_kernels)set};
                memset(out, 0, lanes * sizeof *out);
                CHECK_EQ(pgr_program_run(program, in, to, &options), PGR_OK);
                for (size_t l = 0; l < lanes; l++) {
                    double x;
                    memcpy(&x, bytes + shift + (offset + l * stride) * sizeof x, sizeof x);
                    CHECK(out[l] == -x);
                }
            }
            pgr_program_free(program);
            pgr_tape_free(tape);
            free(bytes);
            free(out);
        }
}

/* A division may run beside a function (lanes.h): one that needs the function's result must not. */
static void a_division_beside_a_function_waits_for_what_it_needs_with_every_instruction_set(void)
{
    static const struct {
        const char *name;
        double (*function)(double);
    } functions[] = {{"exp", exp}, {"expm1", expm1}, {"log", log}, {"log1p", log1p}, {"sin", sin}, {"cos", cos},
                     {"tanh", tanh}, {"erf", erf}, {"erfc", erfc}, {"sqrt", sqrt}};
    enum { KINDS = 6, FUNCTIONS = sizeof functions / sizeof *functions };
    double x[2][LANES], out[2][LANES];
    check_seed();
    for (uint64_t l = 0; l < LANES; l++)
        for (int k = 0; k < 2; k++)
            x[k][l] = 1.0 + 0.5 * fabs(number());
    for (int kind = 0; kind < KINDS * FUNCTIONS; kind++) {
        const uint64_t lanes = 1 + pick(LANES);
        pgr_tape *const tape = pgr_tape_new(NULL);
        const pgr_id start = tape->size;
        pgr_id in[2];
        pgr_program *program = NULL;
        for (uint64_t k = 0; k < 2; k++)
            CHECK_EQ(pgr_input(tape, PGR_OP_LANE, k, &in[k]), PGR_OK);
        const pgr_id v = record(tape, functions[kind / KINDS].name, in[0], 0), number_ = leaf(tape, 2.5);
        const pgr_id operands[KINDS][2] = {{in[1], in[0]}, {v, in[1]}, {in[1], v}, {number_, in[0]}, {in[1], number_}, {number_, v}};
        const pgr_id quotient = record(tape, "div", operands[kind % KINDS][0], operands[kind % KINDS][1]);
        const pgr_lane_input inputs[] = {{.array = 1, .stride = 1}, {.array = 2, .stride = 1}};
        const pgr_lane_group group = {.lanes = lanes, .input_count = 2, .inputs = inputs};
        const pgr_output outputs[] = {{.node = record(tape, "mul", v, in[1]), .array = 1, .stride = 1},
                                      {.node = record(tape, "sub", quotient, in[0]), .array = 2, .stride = 1}};
        CHECK_EQ(pgr_program_build(tape, start, 2, outputs, 1, &group, 3, NULL, &program, NULL), PGR_OK);
        const double *const from[] = {NULL, x[0], x[1], NULL};
        double *const to[] = {NULL, out[0], out[1]};
        for (int set = PGR_KERNELS_BEST; set <= PGR_KERNELS_AVX512; set++) {
            const pgr_run_options options = {.kernels = (pgr_kernels)set};
            memset(out, 0, sizeof out);
            CHECK_EQ(pgr_program_run(program, from, to, &options), PGR_OK);
            for (uint64_t l = 0; l < lanes; l++) {
                const double a = x[0][l], b = x[1][l], f = functions[kind / KINDS].function(a);
                const double quotients[KINDS] = {b / a, f / b, b / f, 2.5 / a, b / 2.5, 2.5 / f};
                CHECK(close_to(out[0][l], f * b));
                CHECK(close_to(out[1][l], quotients[kind % KINDS] - a));
            }
        }
        pgr_program_free(program);
        pgr_tape_free(tape);
    }
}

static void sums_over_lanes_do_not_depend_on_workers(void)
{
    enum { MANY = 3001 };
    double *const x = malloc(MANY * INPUTS * sizeof *x), first[1 + INPUTS], out[1 + INPUTS];
    const function f = random_function();
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_id start, nodes[1 + INPUTS];
    pgr_program *program = NULL;
    CHECK_EQ(record_both(tape, &f, true, &start, nodes), PGR_OK);
    CHECK_EQ(build(tape, true, true, MANY, start, nodes, &program), PGR_OK);
    for (int i = 0; i < MANY * INPUTS; i++)
        x[i] = number();
    for (unsigned workers = 0; workers < 9; workers++) {
        const double *const in[] = {NULL, x, NULL};
        double *const to[] = {NULL, workers == 0 ? first : out};
        const pgr_run_options options = {.workers = workers, .kernels = PGR_KERNELS_AVX2};
        CHECK_EQ(pgr_program_run(program, in, to, &options), PGR_OK);
        CHECK(workers == 0 || memcmp(first, out, sizeof out) == 0);
    }
    double sum[1 + INPUTS] = {0.0}, each[1 + INPUTS];
    for (int lane = 0; lane < MANY; lane++) {
        eager(&f, x + lane * INPUTS, each);
        for (int i = 0; i <= INPUTS; i++)
            sum[i] += each[i];
    }
    for (int i = 0; i <= INPUTS; i++)
        CHECK(fabs(first[i] - sum[i]) < 1e-8 * (1.0 + fabs(sum[i])));
    pgr_program_free(program);
    pgr_tape_free(tape);
    free(x);
}

static int stop_when_counted_down(void *ctx)
{
    return (*(int *)ctx)-- == 0;
}

static void a_build_of_lanes_stops_at_any_question_and_leaves_nothing(void)
{
    const function f = random_function();
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_id start, nodes[1 + INPUTS];
    CHECK_EQ(record_both(tape, &f, true, &start, nodes), PGR_OK);
    pgr_status status = PGR_ERR_STOPPED;
    int after = 0;
    for (; status == PGR_ERR_STOPPED && after < 1000; after++) {
        int left = after;
        pgr_program *program = NULL;
        pgr_tape_on_stop(tape, stop_when_counted_down, &left);
        status = build(tape, true, false, 20, start, nodes, &program);
        CHECK((program != NULL) == (status == PGR_OK));
        pgr_program_free(program);
        pgr_tape_on_stop(tape, NULL, NULL);
    }
    CHECK_EQ(status, PGR_OK);
    CHECK(after > 10);
    pgr_tape_free(tape);
}

static int stop_at_once(void *ctx)
{
    ++*(int *)ctx;
    return 1;
}

static void a_run_stops_when_it_is_told_to(void)
{
    enum { MANY = 200000 };
    double *const x = calloc(MANY * INPUTS, sizeof *x), out[1 + INPUTS];
    const function f = random_function();
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_id start, nodes[1 + INPUTS];
    pgr_program *program = NULL;
    CHECK_EQ(record_both(tape, &f, true, &start, nodes), PGR_OK);
    CHECK_EQ(build(tape, true, true, MANY, start, nodes, &program), PGR_OK);
    const double *const in[] = {NULL, x, NULL};
    double *const to[] = {NULL, out};
    for (unsigned workers = 1; workers <= 3; workers += 2) {
        int asked = 0;
        const pgr_run_options options = {.workers = workers, .stop = stop_at_once, .ctx = &asked};
        const pgr_status status = pgr_program_run(program, in, to, &options);
        CHECK(workers > 1 || asked == 1);
        CHECK_EQ(status, asked == 0 ? PGR_OK : PGR_ERR_STOPPED); /* other threads may have finished before the caller asks */
        CHECK(asked <= 1);
    }
    pgr_program_free(program);
    pgr_tape_free(tape);
    free(x);
}

static void every_failed_allocation_is_reported_and_leaks_nothing(void)
{
    failing f = {1 << 30, 0};
    const pgr_allocator allocator = {failing_resize, &f};
    const function function = random_function();
    double x[LANES * INPUTS] = {0.0}, out[LANES * (1 + INPUTS)];
    long failures = 0;
    for (int lanes = 0; lanes < 2; lanes++) {
        f = (failing){1 << 30, 0};
        pgr_tape *const tape = pgr_tape_new(&allocator);
        pgr_id start, nodes[1 + INPUTS], seed, grads[INPUTS], copies[INPUTS];
        CHECK_EQ(record_both(tape, &function, lanes, &start, nodes), PGR_OK);
        for (int i = 0; i < INPUTS; i++)
            copies[i] = nodes[1 + i];
        CHECK_EQ(pgr_constant(tape, 1.0, &seed), PGR_OK);
        const uint32_t size = tape->size;
        const long blocks = f.blocks;
        for (long k = 0, done = 0; !done; k++) {
            f.until = k;
            done = pgr_vjp(tape, PGR_NO_GROUP, 1, nodes, &seed, INPUTS, copies, grads, NULL) == PGR_OK;
            CHECK(done || tape->size == size);
            failures += !done;
        }
        CHECK_EQ(f.blocks, blocks);
        pgr_program *program = NULL;
        for (long k = 0; program == NULL; k++) {
            f.until = k;
            const pgr_status status = build(tape, lanes, false, LANES, start, nodes, &program);
            CHECK(status == (program == NULL ? PGR_ERR_NOMEM : PGR_OK));
            if (program == NULL)
                CHECK_EQ(f.blocks, blocks);
            failures += program == NULL;
        }
        const double *const in[] = {NULL, x, NULL};
        double *const to[] = {NULL, out};
        for (long k = 0, done = 0; !done; k++) {
            f.until = k;
            const pgr_status status = pgr_program_run(program, in, to, NULL);
            done = status == PGR_OK;
            CHECK(done || status == PGR_ERR_NOMEM);
            failures += !done;
        }
        f.until = 1 << 30;
        pgr_program_free(program);
        pgr_tape_free(tape);
        CHECK_EQ(f.blocks, 0);
    }
    printf("%ld failed allocations of programs survived\n", failures);
    CHECK(failures > 30);
}

/* At every failure: a full tape, or a custom node, after some nodes have been recorded. */
static void a_derivative_that_fails_leaves_the_tape_as_it_was(void)
{
    for (int forward = 0; forward < 2; forward++) {
        pgr_tape *const tape = pgr_tape_new(NULL);
        pgr_id start = leaf(tape, 0.0), x = 0, y = 0, custom = 0, seed = 0, out = 0;
        CHECK_EQ(pgr_input(tape, PGR_OP_INPUT, 0, &x), PGR_OK);
        y = record(tape, "sin", record(tape, "mul", x, x), 0);
        CHECK_EQ(pgr_custom(tape, 1.0, 1, &y, &custom), PGR_OK);
        const pgr_id last = record(tape, "sin", record(tape, "mul", custom, x), 0);
        CHECK_EQ(pgr_constant(tape, 2.0, &seed), PGR_OK);
        const uint32_t size = tape->size;
        pgr_id bad = 0;
#define DERIVE(root) \
    (forward ? pgr_jvp(tape, 1, &x, &seed, 1, &(root), &out, &bad) \
             : pgr_vjp(tape, PGR_NO_GROUP, 1, &(root), &seed, 1, &x, &out, &bad))
        CHECK_EQ(DERIVE(last), PGR_ERR_OPAQUE);
        CHECK_EQ(bad, custom);
        CHECK_EQ(tape->size, size);
        pgr_status status = PGR_ERR_FULL;
        uint32_t more = 0;
        for (; status == PGR_ERR_FULL && more < 100; more++) {
            pgr_tape_limits(tape, 1 << 14, size - 1 + more);
            status = DERIVE(y);
            CHECK(status == PGR_OK || tape->size == size);
        }
        CHECK_EQ(status, PGR_OK);
        CHECK(more > 3 && out >= size && start != 0);
#undef DERIVE
        pgr_tape_free(tape);
    }
}

static void a_build_that_fails_says_why_and_at_which_node(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_id start = leaf(tape, 0.0), other = 0, x = 0, lane = 0, custom = 0, bad = 0;
    const pgr_lane_input input = {.array = 1, .offset = 0, .stride = 1};
    const pgr_lane_group groups[] = {{.lanes = 3, .input_count = 1, .inputs = &input}, {.lanes = 0}};
    pgr_program *program = NULL;
    CHECK_EQ(pgr_input(tape, PGR_OP_INPUT, 0, &other), PGR_OK);
    start = leaf(tape, 0.0);
    CHECK_EQ(pgr_input(tape, PGR_OP_INPUT, 0, &x), PGR_OK);
    CHECK_EQ(pgr_input(tape, PGR_OP_LANE, 0, &lane), PGR_OK);
    CHECK_EQ(pgr_custom(tape, 1.0, 1, &x, &custom), PGR_OK);
#define FAILS(result, group_count, expected, node_) \
    do { \
        const pgr_output output = {.node = record(tape, "sin", result, 0), .array = 1}; \
        bad = 0; \
        CHECK_EQ(pgr_program_build(tape, start, 1, &output, group_count, groups, 2, NULL, &program, &bad), expected); \
        CHECK_EQ(pgr_program_build(tape, start, 1, &output, group_count, groups, 2, NULL, &program, NULL), expected); \
        CHECK_EQ(bad, (node_) == UINT32_MAX ? output.node : (node_)); \
    } while (0)
    FAILS(custom, 1, PGR_ERR_OPAQUE, custom);
    FAILS(other, 1, PGR_ERR_UNKNOWN, other);
    FAILS(lane, 1, PGR_ERR_LANES, UINT32_MAX); /* an output that is a lane, of stride 0 */
    FAILS(lane, 0, PGR_ERR_LANES, lane);       /* of a group that does not exist */
    FAILS(x, 2, PGR_ERR_ARGUMENT, 0);          /* no lanes */
    CHECK_EQ(pgr_input(tape, PGR_OP_LANE, 1, &lane), PGR_OK);
    FAILS(lane, 1, PGR_ERR_LANES, lane); /* beyond its group's inputs */
    CHECK_EQ(pgr_lane_pass(tape, x, 0, &lane), PGR_ERR_ARGUMENT);
#undef FAILS
    pgr_tape_free(tape);
}

/* Nodes from before the start, read at each run, once each; by id and by handle. */
static void captures_are_the_nodes_from_before_the_start_that_results_need(void)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_id x = leaf(tape, 3.0), unused = leaf(tape, 5.0), y = leaf(tape, 7.0), start = leaf(tape, 0.0);
    pgr_id t;
    CHECK_EQ(pgr_input(tape, PGR_OP_INPUT, (uint64_t)1 << 32, &t), PGR_OK);
    const pgr_id root = record(tape, "add", record(tape, "mul", x, t), record(tape, "mul", record(tape, "sub", y, x), t));
    record(tape, "mul", unused, t);
    const pgr_output output = {.node = root, .array = 1};
    pgr_program *program = NULL;
    const pgr_id *ids = NULL;
    const pgr_handle *handles = NULL;
    CHECK_EQ(pgr_program_build(tape, start, 1, &output, 0, NULL, 2, NULL, &program, NULL), PGR_OK);
    CHECK_EQ(pgr_program_captures(program, &ids), 2);
    CHECK((ids[0] == x && ids[1] == y) || (ids[0] == y && ids[1] == x));
    CHECK_EQ(pgr_h_program_captures(program, &handles), 0); /* it holds none: it was built by id */
    const double given[] = {ids[0] == x ? 10.0 : 100.0, ids[0] == x ? 100.0 : 10.0}, number = 2.0;
    double out = 0.0;
    const double *const in[] = {NULL, &number, given};
    double *const to[] = {NULL, &out};
    CHECK_EQ(pgr_program_run(program, in, to, NULL), PGR_OK);
    CHECK_EQ(out, 10.0 * 2.0 + (100.0 - 10.0) * 2.0);
    pgr_program_free(program);
    pgr_tape_free(tape);
}

/* One number of the parts changed. */
static void damage(pgr_program_parts *p, uint32_t *instructions, uint32_t *args, uint32_t *segments, uint32_t *dots)
{
    static const uint32_t likely[] = {0, 1, 2, 3, PGR_REGISTER_NONE, PGR_REGISTER_LANE, PGR_REGISTER_LANE | 1,
                                      UINT32_MAX, 128, 129, 131, 132, 133};
    const uint32_t value = pick(3) == 0 ? (uint32_t)rand() : pick(2) ? pick(300) : likely[pick(13)];
    switch (pick(8)) {
    case 0:
    case 1:
    case 2: instructions[pick(4 * p->instruction_count + 4)] = value; break;
    case 3: args[pick(p->arg_count + 1)] = value; break;
    case 4: segments[pick(5 * p->segment_count + 5)] = value; break;
    case 5: dots[pick(2 * p->dot_count + 1)] = value; break;
    case 6: *(&p->uniform_registers + pick(3)) = value; break;
    default: p->instruction_count = pick(p->instruction_count + 1); break;
    }
}

/* ROUNDS=10000000 for a long one. */
static void damaged_parts_are_refused_or_harmless(void)
{
    const char *const given = getenv("ROUNDS");
    const long rounds = given != NULL ? atol(given) : 20000;
    check_seed();
    double x[LANES * INPUTS] = {0.0}, out[LANES * (1 + INPUTS)];
    const uint64_t sizes_in[] = {0, LANES * INPUTS, 0}, sizes_out[] = {0, LANES * (1 + INPUTS)};
    const double *const in[] = {x, x, x};
    double *const to[] = {out, out};
    long accepted = 0;
    for (int kind = 0; kind < 3; kind++) {
        const function f = random_function();
        pgr_tape *const tape = pgr_tape_new(NULL);
        pgr_id start, nodes[1 + INPUTS];
        pgr_program *program = NULL;
        CHECK_EQ(record_both(tape, &f, kind > 0, &start, nodes), PGR_OK);
        CHECK_EQ(build(tape, kind > 0, kind == 2, LANES, start, nodes, &program), PGR_OK);
        pgr_program_parts good;
        pgr_program_to_parts(program, &good);
        uint32_t *const instructions = malloc((good.instruction_count + 1) * sizeof(pgr_instruction));
        uint32_t *const args = malloc((good.arg_count + 1) * sizeof *args);
        uint32_t *const segments = malloc((good.segment_count + 1) * sizeof(pgr_segment));
        uint32_t *const dots = malloc((good.dot_count + 1) * sizeof(pgr_program_dot));
        for (long round = 0; round < rounds / 3; round++) {
            memcpy(instructions, good.instructions, good.instruction_count * sizeof(pgr_instruction));
            memcpy(args, good.args, good.arg_count * sizeof *args);
            memcpy(segments, good.segments, good.segment_count * sizeof(pgr_segment));
            memcpy(dots, good.dots, good.dot_count * sizeof(pgr_program_dot));
            pgr_program_parts bad = good;
            bad.instructions = (const void *)instructions;
            bad.args = args;
            bad.segments = (const void *)segments;
            bad.dots = (const void *)dots;
            for (unsigned k = round == 0 ? 0 : 1 + pick(3); k > 0; k--)
                damage(&bad, instructions, args, segments, dots);
            pgr_program *made = NULL;
            const pgr_status status = pgr_program_from_parts(&bad, 3, sizes_in, 2, sizes_out, &made);
            CHECK(status == PGR_OK || status == PGR_ERR_PROGRAM);
            CHECK(round > 0 || status == PGR_OK);
            if (status != PGR_OK)
                continue;
            accepted++;
            CHECK_EQ(pgr_program_run(made, in, to, NULL), PGR_OK);
            pgr_program_free(made);
        }
        free(instructions);
        free(args);
        free(segments);
        free(dots);
        pgr_program_free(program);
        pgr_tape_free(tape);
    }
    printf("%ld damaged programs, %ld of them run\n", rounds, accepted);
}

/* A program by hand with every kind of instruction; then each of its numbers is changed to an invalid one. */
static void every_part_that_is_wrong_is_refused(void)
{
    enum { LANES_HERE = 10 };
    const uint32_t l0 = PGR_REGISTER_LANE, l1 = l0 | 1, l2 = l0 | 2, none = PGR_REGISTER_NONE;
    const uint32_t add = (uint32_t)op_named("add"), mul = (uint32_t)op_named("mul"), sine = (uint32_t)op_named("sin");
    pgr_instruction i[] = {
        {add, 3, 1, 2},
        {PGR_PROGRAM_RUN, none, 4, 0},
        {sine, 4, 1, none},
        {sine, 5, 2, none},
        {sine, 6, 3, none},
        {sine, 7, 0, none},
        {PGR_PROGRAM_DOT, 8, none, 0},
        {PGR_PROGRAM_LOAD, l0, 0, 0}, /* 7: the first of lanes */
        {PGR_PROGRAM_LOAD, l1, 1, 0},
        {mul, l0, l0, 8},
        {PGR_PROGRAM_DOT, l2, l1, 1},
        {PGR_PROGRAM_STORE, none, l2, 0},
        {PGR_PROGRAM_LANE_SUM, 9, l2, 0},
        {PGR_PROGRAM_LANE_DOT, 10, l0, l1},
        {add, 11, 9, 10},
        {PGR_PROGRAM_LOAD, l0, 0, 0}, /* 15: once more */
        {PGR_PROGRAM_STORE, none, l0, 2},
    };
    uint32_t args[] = {1, 2, 3, none, 8, l0, l0, l1, l1, none, /* beyond arg_count, valid: */ l1, l1, l1, l1};
    pgr_program_dot dots[] = {{0, 2}, {4, 3}};
    pgr_segment segments[] = {{0, 7, UINT32_MAX, 0, 0}, {7, 7, 0, 9, 2}, {14, 1, UINT32_MAX, 0, 0}, {15, 2, 0, 0, 0}};
    double constants[] = {0.5};
    pgr_uniform_input inputs[] = {{1, 0, 0, 2}};
    pgr_output outputs[] = {{PGR_REGISTER_LANE, 0, 0, 1}, {11, 1, 0, 0}, {PGR_REGISTER_LANE, 2, 0, 1}};
    pgr_lane_input lane_inputs[] = {{1, 0, 3}, {1, 1, 3}};
    uint32_t group_first_input[] = {0, 2};
    uint64_t group_lanes[] = {LANES_HERE};
    pgr_program_parts p = {
        .instruction_count = 17, .arg_count = 10, .dot_count = 2, .segment_count = 4, .constant_count = 1, .input_count = 1,
        .output_count = 3, .lane_input_count = 2, .group_count = 1, .uniform_registers = 12, .lane_registers = 3,
        .block = 16,
        .instructions = i, .args = args, .dots = dots, .segments = segments, .constants = constants, .inputs = inputs,
        .outputs = outputs, .lane_inputs = lane_inputs, .group_first_input = group_first_input, .group_lanes = group_lanes,
    };
    const uint64_t in_sizes[] = {2, 29}, out_sizes[] = {LANES_HERE, 1, LANES_HERE};
    pgr_program *program = NULL;
    CHECK_EQ(pgr_program_from_parts(&p, 2, in_sizes, 3, out_sizes, &program), PGR_OK);
    double x[] = {0.25, 2.0}, y[29], out[LANES_HERE], sum = 0.0, again[LANES_HERE], expected = 0.0;
    for (int k = 0; k < 29; k++)
        y[k] = 0.125 * k;
    const double *const in[] = {x, y};
    double *const to[] = {out, &sum, again};
    CHECK_EQ(pgr_program_run(program, in, to, NULL), PGR_OK);
    const double u8 = x[0] * x[1] + (x[0] + x[1]);
    for (int lane = 0; lane < LANES_HERE; lane++) {
        const double b = y[3 * lane + 1], a = y[3 * lane] * u8, z = b + u8 * a + a * b + b;
        CHECK(close_to(out[lane], z) && again[lane] == y[3 * lane]);
        expected += z + a * b;
    }
    CHECK(close_to(sum, expected));
    pgr_program_free(program);

    int wrong = 0;
#define REFUSED(number, bad) \
    do { \
        const uint64_t good = number; \
        number = bad; \
        program = NULL; \
        const pgr_status status = pgr_program_from_parts(&p, 2, in_sizes, 3, out_sizes, &program); \
        if (status != PGR_ERR_PROGRAM) \
            printf("%s = %s is not refused\n", #number, #bad); \
        CHECK_EQ(status, PGR_ERR_PROGRAM); \
        pgr_program_free(program); \
        wrong++; \
        number = (__typeof__(number))good; \
    } while (0)
    /* Operations: in the wrong kind of segment, or with wrong operands. */
    REFUSED(i[0].op, PGR_OP_LEAF);
    REFUSED(i[0].op, PGR_OP_CUSTOM);
    REFUSED(i[0].op, PGR_OP_LANE_SUM);
    REFUSED(i[0].op, (uint32_t)pgr_op_count());
    REFUSED(i[0].op, UINT32_MAX);
    REFUSED(i[0].op, sine);
    REFUSED(i[2].op, add);
    REFUSED(i[2].b, 1);
    REFUSED(i[0].b, none);
    REFUSED(i[0].op, PGR_PROGRAM_LOAD);
    REFUSED(i[0].op, PGR_PROGRAM_STORE);
    REFUSED(i[0].op, PGR_PROGRAM_LANE_SUM);
    REFUSED(i[0].op, PGR_PROGRAM_LANE_DOT);
    REFUSED(i[9].op, PGR_PROGRAM_RUN);
    REFUSED(i[9].op, PGR_PROGRAM_RUN + 1);
    /* Registers: read before they are written, beyond the last one, or of the other kind. */
    REFUSED(i[0].a, 3);
    REFUSED(i[0].b, 8);
    REFUSED(i[0].a, 12);
    REFUSED(i[0].a, l0);
    REFUSED(i[0].out, 12);
    REFUSED(i[0].out, l0);
    REFUSED(i[9].a, l2);
    REFUSED(i[9].a, PGR_REGISTER_LANE | 3);
    REFUSED(i[9].a, 8);
    REFUSED(i[9].b, 9);
    REFUSED(i[9].b, 11);
    REFUSED(i[9].out, 8);
    REFUSED(i[9].out, PGR_REGISTER_LANE | 3);
    REFUSED(i[16].a, l1);
    REFUSED(i[16].a, 8);
    REFUSED(i[14].a, 11);
    REFUSED(i[14].b, l0);
    /* Runs. */
    REFUSED(i[1].a, 0);
    REFUSED(i[1].a, 5);
    REFUSED(i[1].a, 6);
    REFUSED(i[1].a, 13);
    REFUSED(i[1].a, UINT32_MAX);
    REFUSED(i[3].op, (uint32_t)op_named("cos"));
    REFUSED(i[3].a, 4);
    REFUSED(i[5].out, 12);
    /* Dots. */
    REFUSED(i[6].b, 2);
    REFUSED(i[6].a, 8);
    REFUSED(i[6].a, l0);
    REFUSED(i[10].a, l2);
    REFUSED(i[10].out, 8);
    REFUSED(dots[0].first, 11);
    REFUSED(dots[1].count, 4);
    REFUSED(dots[1].count, UINT32_MAX);
    REFUSED(args[0], 8);
    REFUSED(args[0], none);
    REFUSED(args[1], 8);
    REFUSED(args[2], l0);
    REFUSED(args[3], l0);
    REFUSED(args[4], 9);
    REFUSED(args[5], l2);
    REFUSED(args[6], l2);
    REFUSED(args[7], 8);
    REFUSED(args[8], none);
    /* Lanes. */
    REFUSED(i[7].a, 2);
    REFUSED(i[7].out, 3);
    REFUSED(i[11].a, PGR_REGISTER_LANE | 3);
    REFUSED(i[11].b, 1);
    REFUSED(i[11].b, 2);
    REFUSED(i[11].b, 3);
    REFUSED(i[12].out, 8);
    REFUSED(i[12].out, 11);
    REFUSED(i[12].out, l0);
    REFUSED(i[12].a, 9);
    REFUSED(i[13].a, 9);
    REFUSED(i[13].b, PGR_REGISTER_LANE | 3);
    REFUSED(i[13].out, 11);
    /* Segments. */
    REFUSED(segments[0].first, 1);
    REFUSED(segments[0].count, 8);
    REFUSED(segments[1].count, 6);
    REFUSED(segments[1].group, 1);
    REFUSED(segments[1].group, UINT32_MAX);
    REFUSED(segments[0].group, 0);
    REFUSED(segments[1].first_sum, 13);
    REFUSED(segments[1].sum_count, 4);
    REFUSED(segments[1].sum_count, UINT32_MAX);
    REFUSED(segments[3].count, 3);
    REFUSED(p.segment_count, 3);
    REFUSED(p.instruction_count, 16);
    /* Inputs and outputs. */
    REFUSED(inputs[0].array, 2);
    REFUSED(inputs[0].count, 0);
    REFUSED(inputs[0].count, 3);
    REFUSED(inputs[0].count, UINT64_MAX);
    REFUSED(inputs[0].offset, 1);
    REFUSED(inputs[0].offset, UINT64_MAX);
    REFUSED(inputs[0].reg, 11);
    REFUSED(inputs[0].reg, UINT32_MAX);
    REFUSED(lane_inputs[0].array, 2);
    REFUSED(lane_inputs[0].offset, 2);
    REFUSED(lane_inputs[1].stride, 4);
    REFUSED(lane_inputs[1].stride, UINT64_MAX / 4);
    REFUSED(group_lanes[0], 0);
    REFUSED(group_lanes[0], LANES_HERE + 1);
    REFUSED(group_first_input[0], 1);
    REFUSED(group_first_input[1], 1);
    REFUSED(group_first_input[1], 3);
    REFUSED(outputs[0].array, 3);
    REFUSED(outputs[0].offset, 1);
    REFUSED(outputs[0].stride, 2);
    REFUSED(outputs[0].stride, UINT64_MAX);
    REFUSED(outputs[0].node, none);
    REFUSED(outputs[1].offset, 1);
    REFUSED(outputs[1].node, 12);
    REFUSED(outputs[1].node, PGR_REGISTER_LANE);
    REFUSED(outputs[1].node, l1);
    /* Counts: more registers than could be filled, and invalid blocks. */
    REFUSED(p.constant_count, 13);
    REFUSED(p.uniform_registers, 11);
    REFUSED(p.uniform_registers, 21);
    REFUSED(p.lane_registers, 2);
    REFUSED(p.lane_registers, 18);
    REFUSED(p.block, 8);
    REFUSED(p.block, 24);
    REFUSED(p.block, 1024);
    REFUSED(p.group_count, 0);
    /* Lanes of stride 0 can be many, but not too many. */
    lane_inputs[0].stride = lane_inputs[1].stride = outputs[0].stride = outputs[2].stride = 0;
    REFUSED(group_lanes[0], (UINT64_C(1) << 48) + 1);
#undef REFUSED
    /* A run that would go on in the next segment. */
    pgr_segment split[] = {{0, 5, UINT32_MAX, 0, 0}, {5, 2, UINT32_MAX, 0, 0}, segments[1], segments[2], segments[3]};
    p.segments = split;
    p.segment_count = 5;
    CHECK_EQ(pgr_program_from_parts(&p, 2, in_sizes, 3, out_sizes, &program), PGR_ERR_PROGRAM);
    i[1].a = 3;
    CHECK_EQ(pgr_program_from_parts(&p, 2, in_sizes, 3, out_sizes, &program), PGR_OK);
    pgr_program_free(program);
    printf("%d wrong parts refused\n", wrong + 1);
}

int main(void)
{
    TEST(every_part_that_is_wrong_is_refused);
    TEST(programs_compute_what_the_eager_engine_does_with_every_instruction_set);
    TEST(rectified_sums_keep_nan_and_the_sign_of_zero_with_every_instruction_set);
    TEST(lanes_are_read_with_any_stride_and_no_number_beyond_with_every_instruction_set);
    TEST(a_division_beside_a_function_waits_for_what_it_needs_with_every_instruction_set);
    TEST(sums_over_lanes_do_not_depend_on_workers);
    TEST(a_build_of_lanes_stops_at_any_question_and_leaves_nothing);
    TEST(a_run_stops_when_it_is_told_to);
    TEST(every_failed_allocation_is_reported_and_leaks_nothing);
    TEST(a_build_that_fails_says_why_and_at_which_node);
    TEST(a_derivative_that_fails_leaves_the_tape_as_it_was);
    TEST(captures_are_the_nodes_from_before_the_start_that_results_need);
    TEST(damaged_parts_are_refused_or_harmless);
    return check_report();
}
