/* Programs that call others: loops and switches, once and for lanes, and untrusted parts with calls. */
#include "check.h"
#include "program/program.h"

/* A step is (c, a, b, x) -> (a', b'; y). The memory of step t has two numbers, from 1 + 3 t on. */
enum { CONSTS = 1, CARRY = 2, STATE = CONSTS + CARRY, MOST_STEPS = 6, MOST_OPERANDS = STATE + 1 + MOST_STEPS };
enum { LANES = 300, MEMORY = 1 + 3 * MOST_STEPS };
static const uint32_t TESTED = PGR_CALL_TESTED, COUNTED = PGR_CALL_COUNTED, SWITCH = PGR_CALL_SWITCH;

static double number(void) { return (double)rand() / RAND_MAX * 3.0 - 1.5; }
static bool close_to(double x, double y) { return fabs(x - y) <= 1e-11 * (1.0 + fabs(y)) || (isnan(x) && isnan(y)); }

/* ---- What calls should compute -------------------------------------------------------------------- */

static void step_of(const double *in, const double *memory, double *out)
{
    out[0] = tanh(in[1] * in[0] + in[3]) + (memory != NULL ? memory[0] * memory[1] : 0.0);
    out[1] = in[2] + 0.5;
    out[2] = in[1] - in[3] * in[2];
}

static uint64_t clamped(double x, uint64_t most) { return !(x > 0.0) ? 0 : x >= (double)most ? most : (uint64_t)x; }

static void expect(const pgr_call *c, const double *operands, const double *memory, double *results)
{
    if (c->flags == SWITCH) { /* the branches: c a + b, c a b, and a - b */
        const double k = operands[1], a = operands[2], b = operands[3];
        const uint64_t which = clamped(operands[0], 2);
        results[0] = which == 0 ? k * a + b : which == 1 ? k * a * b : a - b;
        return;
    }
    const bool is_tested = (c->flags & TESTED) != 0, is_counted = (c->flags & COUNTED) != 0;
    double in[STATE + 1], out[CARRY + 1];
    double *const ys = results + CARRY + is_tested;
    memcpy(in, operands, STATE * sizeof *in);
    for (uint64_t t = 0; t < c->steps; t++)
        ys[t] = 0.0;
    const uint64_t count = is_counted ? clamped(operands[STATE], c->steps) : c->steps;
    uint64_t taken = 0;
    for (; taken < count && (!is_tested || in[2] < in[0]); taken++) {
        const uint64_t t = (c->flags & PGR_CALL_REVERSED) != 0 ? count - 1 - taken : taken;
        in[STATE] = operands[STATE + is_counted + t];
        step_of(in, memory == NULL ? NULL : memory + 1 + 3 * t, out);
        memcpy(in + CONSTS, out, CARRY * sizeof *in);
        ys[t] = out[CARRY];
    }
    memcpy(results, in + CONSTS, CARRY * sizeof *in);
    if (is_tested)
        results[CARRY] = (double)taken;
}

/* ---- Programs that are called ----------------------------------------------------------------------- */

/* What a program is made for: whether it runs on lanes, and which of the constants are lanes. */
typedef struct {
    bool lanes;
    uint32_t lane_consts;
} place;

static pgr_handle input(pgr_tape *tape, uint32_t array, uint32_t offset)
{
    return held(pgr_h_input(tape, PGR_OP_INPUT, (uint64_t)array << 32 | offset));
}

static pgr_handle apply(pgr_tape *tape, const char *name, pgr_handle a, pgr_handle b)
{
    return held(pgr_h_record(tape, op_named(name), a, b));
}

/* The first `count` numbers that a called program is given, of which `consts` are constants. */
static void inputs(pgr_tape *tape, place p, uint32_t consts, uint32_t count, pgr_handle *in)
{
    for (uint32_t k = 0; k < count; k++)
        in[k] = p.lanes && (k >= consts || (p.lane_consts >> k & 1) != 0)
                    ? held(pgr_h_input(tape, PGR_OP_LANE, k))
                    : input(tape, 0, k);
}

static pgr_status try_called(pgr_tape *tape, pgr_handle start, place p, uint32_t inputs, uint32_t count,
                             const pgr_handle *outs, pgr_program **program)
{
    pgr_lane_input lane_inputs[MOST_OPERANDS];
    pgr_output outputs[CARRY + 1];
    for (uint32_t k = 0; k < inputs; k++)
        lane_inputs[k] = (pgr_lane_input){1 + k, 0, 1};
    for (uint32_t k = 0; k < count; k++)
        outputs[k] = p.lanes ? (pgr_output){.array = 1 + k, .stride = 1} : (pgr_output){.offset = k};
    const pgr_lane_group group = {LANES, inputs, lane_inputs};
    const pgr_inner inner = {.is_called = 1};
    *program = NULL;
    return pgr_h_program_build(tape, start, count, outs, outputs, p.lanes, &group, 1u << 31, &inner, program, NULL);
}

/* From its tape, which is freed. */
static pgr_program *called(pgr_tape *tape, pgr_handle start, place p, uint32_t inputs, uint32_t count,
                             const pgr_handle *outs)
{
    pgr_program *program;
    CHECK_EQ(try_called(tape, start, p, inputs, count, outs, &program), PGR_OK);
    pgr_tape_free(tape);
    return program;
}

static pgr_program *new_step(place p, bool has_memory)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle start = held(pgr_h_leaf(tape, PGR_OP_CONST, 0.0));
    pgr_handle in[STATE + 1], outs[CARRY + 1];
    inputs(tape, p, CONSTS, STATE + 1, in);
    outs[0] = apply(tape, "tanh", apply(tape, "add", apply(tape, "mul", in[1], in[0]), in[3]), 0);
    if (has_memory)
        outs[0] = apply(tape, "add", outs[0], apply(tape, "mul", input(tape, 1, 0), input(tape, 1, 1)));
    outs[1] = held(pgr_h_record_number(tape, op_named("add"), in[2], 0.5, 0));
    outs[2] = apply(tape, "sub", in[1], apply(tape, "mul", in[3], in[2]));
    return called(tape, start, p, STATE + 1, CARRY + 1, outs);
}

/* With memory, the test reads it, and adds nothing. */
static pgr_program *new_test(place p, bool has_memory)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle start = held(pgr_h_leaf(tape, PGR_OP_CONST, 0.0));
    pgr_handle in[STATE];
    inputs(tape, p, CONSTS, STATE, in);
    if (has_memory) {
        const pgr_handle least = held(pgr_h_leaf(tape, PGR_OP_CONST, -99.0));
        in[0] = apply(tape, "add", in[0], apply(tape, "less", input(tape, 1, 0), least));
    }
    const pgr_handle out = apply(tape, "less", in[2], in[0]);
    return called(tape, start, p, STATE, 1, &out);
}

static pgr_program *new_branch(place p, int which)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle start = held(pgr_h_leaf(tape, PGR_OP_CONST, 0.0));
    pgr_handle in[STATE];
    inputs(tape, p, STATE, STATE, in);
    pgr_handle out = which == 2 ? apply(tape, "sub", in[1], in[2]) : apply(tape, "mul", in[0], in[1]);
    if (which < 2)
        out = apply(tape, which == 0 ? "add" : "mul", out, in[2]);
    if (p.lanes) { /* of a branch that reads no lanes, too */
        const uint32_t lane = (p.lane_consts & 1) != 0 ? 0 : (p.lane_consts & 2) != 0 ? 1 : 2;
        const pgr_handle any = held(pgr_h_input(tape, PGR_OP_LANE, lane));
        out = apply(tape, "add", out, apply(tape, "pick", held(pgr_h_leaf(tape, PGR_OP_CONST, 0.0)), any));
    }
    return called(tape, start, p, STATE, 1, &out);
}

/* The same program with blocks of 16 lanes, from its parts. */
static pgr_program *with_small_blocks(pgr_program *program)
{
    pgr_program_parts parts;
    pgr_program_to_parts(program, &parts);
    uint64_t sizes[MOST_OPERANDS + 1];
    for (int k = 0; k <= MOST_OPERANDS; k++)
        sizes[k] = LANES;
    parts.block = 16;
    pgr_program *made = NULL;
    CHECK_EQ(pgr_program_from_parts(&parts, STATE + 2, sizes, CARRY + 2, sizes, &made), PGR_OK);
    pgr_program_free(program);
    return made;
}

/* ---- Programs that call ------------------------------------------------------------------------------ */

/* A call of programs, and which of its operands are lanes, and which of its results are wanted. */
typedef struct {
    pgr_call call;
    place place;
    bool has_memory;
    uint32_t lane_operands, wanted;
    pgr_program *programs[3];
} example;

static uint32_t operand_count(const example *e) { return (uint32_t)program_operands_of(&e->call); }
static uint32_t result_count(const example *e) { return (uint32_t)program_results_of(&e->call); }

static example new_example(uint32_t flags, uint64_t steps, bool lanes, bool has_memory, bool small)
{
    const bool is_switch = flags == SWITCH;
    example e = {.call = {.steps = steps, .flags = flags, .const_count = CONSTS, .carry_count = CARRY}};
    e.call.x_count = e.call.y_count = 1;
    if (is_switch)
        e.call = (pgr_call){.steps = 1, .flags = flags, .const_count = STATE, .carry_count = 1};
    e.call.program_count = is_switch ? 3 : (flags & TESTED) != 0 ? 2 : 1;
    e.call.memory_count = has_memory;
    e.has_memory = has_memory;
    e.wanted = pick(4) == 0 ? UINT32_MAX : (uint32_t)rand() | 1;
    if (lanes)
        e.lane_operands = pick(4) == 0 ? UINT32_MAX : (uint32_t)rand() | 1u << pick(operand_count(&e));
    e.place = (place){lanes, is_switch ? e.lane_operands >> 1 : e.lane_operands};
    if (is_switch && (e.place.lane_consts & 7) == 0)
        e.lane_operands |= 2, e.place.lane_consts = 1;
    for (uint32_t k = 0; k < e.call.program_count; k++) {
        e.programs[k] = is_switch ? new_branch(e.place, (int)k)
                        : k == 0  ? new_step(e.place, has_memory)
                                  : new_test(e.place, has_memory);
        if (small && lanes)
            e.programs[k] = with_small_blocks(e.programs[k]);
    }
    return e;
}

static void free_example(example *e)
{
    for (uint32_t k = 0; k < e->call.program_count; k++)
        pgr_program_free(e->programs[k]);
}

/* Builds the program of one call: lane i of operand k is in[0][i * operands + k], and so is what is no lane, for i = 0;
 * memory is in[1]. is_called: it is to be called itself, with these operands as its numbers. */
static pgr_status build_call(pgr_tape *tape, const example *e, uint64_t lanes, bool is_called, pgr_program **program)
{
    const uint32_t n = operand_count(e), results = result_count(e);
    pgr_handle operands[MOST_OPERANDS], nodes[MOST_OPERANDS];
    pgr_lane_input lane_inputs[MOST_OPERANDS];
    pgr_output outputs[MOST_OPERANDS];
    const int64_t start = pgr_h_leaf(tape, PGR_OP_CONST, 0.0);
    if (start < 0)
        return (pgr_status)-start;
    for (uint32_t k = 0; k < n; k++) {
        const bool is_lane = e->place.lanes && (e->lane_operands >> k & 1) != 0;
        const int64_t made = pgr_h_input(tape, is_lane ? PGR_OP_LANE : PGR_OP_INPUT, k);
        if (made < 0)
            return (pgr_status)-made;
        operands[k] = (pgr_handle)made;
        lane_inputs[k] = is_called ? (pgr_lane_input){1 + k, 0, 1} : (pgr_lane_input){0, k, n};
    }
    const int64_t chain = pgr_h_chain(tape, n, operands);
    if (chain < 0)
        return (pgr_status)-chain;
    size_t count = 0;
    for (uint32_t k = 0; k < results; k++) {
        if ((e->wanted >> k & 1) == 0)
            continue;
        const int64_t made = pgr_h_result(tape, (pgr_handle)chain, k);
        if (made < 0)
            return (pgr_status)-made;
        outputs[count] = (pgr_output){.offset = k, .stride = e->place.lanes ? results : 0};
        if (is_called && e->place.lanes)
            outputs[count] = (pgr_output){.array = 1 + k, .stride = 1};
        nodes[count++] = (pgr_handle)made;
    }
    const pgr_lane_group group = {lanes, n, lane_inputs};
    const pgr_recorded_call call = {e->call, n, operands};
    const pgr_lane_input memory = {1, 1, 3};
    const pgr_inner inner = {.is_called = is_called, .call_count = 1, .memory_count = e->has_memory, .calls = &call,
        .program_count = e->call.program_count, .memory = &memory, .programs = (const pgr_program *const *)e->programs};
    return pgr_h_program_build(tape, (pgr_handle)start, count, nodes, outputs, e->place.lanes, &group, 1u << 31, &inner,
                               program, NULL);
}

static pgr_program *new_caller(const example *e, uint64_t lanes, bool is_called)
{
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_program *program = NULL;
    CHECK_EQ(build_call(tape, e, lanes, is_called, &program), PGR_OK);
    pgr_tape_free(tape);
    return program;
}

/* The program of the same parts; the first one is freed. */
static pgr_program *again(pgr_program *program, const example *e, uint64_t lanes)
{
    pgr_program_parts parts;
    pgr_program_to_parts(program, &parts);
    const uint64_t in_sizes[] = {lanes * operand_count(e), 3 * e->call.steps}, out_sizes[] = {lanes * result_count(e)};
    pgr_program *made = NULL;
    CHECK_EQ(pgr_program_from_parts(&parts, 2, in_sizes, 1, out_sizes, &made), PGR_OK);
    pgr_program_free(program);
    return made;
}

static double *random_operands(const example *e, uint64_t lanes)
{
    const uint32_t n = operand_count(e);
    double *const x = malloc((size_t)(lanes * n) * sizeof *x);
    const uint32_t counted = (e->call.flags & COUNTED) != 0 ? STATE : e->call.flags == SWITCH ? 0 : n;
    static const double odd[] = {-3.0, 99.0, 1e300, 0.0, 1.0, 2.0};
    for (uint64_t i = 0; i < lanes * n; i++)
        x[i] = i % n == counted ? (pick(8) == 0 ? NAN : pick(2) ? odd[pick(6)] : number() * 4.0) : number();
    return x;
}

/* Runs a program of one call and compares. */
static void check_run(const pgr_program *program, const example *e, uint64_t lanes, const pgr_run_options *options)
{
    const uint32_t n = operand_count(e), results = result_count(e);
    double *const x = random_operands(e, lanes), *const out = malloc((size_t)(lanes * results) * sizeof *out);
    double memory[MEMORY], operands[MOST_OPERANDS], expected[MOST_OPERANDS];
    for (int k = 0; k < MEMORY; k++)
        memory[k] = number();
    const double *const in[] = {x, memory};
    double *const to[] = {out};
    CHECK_EQ(pgr_program_run(program, in, to, options), PGR_OK);
    for (uint64_t lane = 0; lane < lanes; lane++) {
        for (uint32_t k = 0; k < n; k++)
            operands[k] = x[(e->lane_operands >> k & 1) != 0 ? lane * n + k : k];
        expect(&e->call, operands, e->has_memory ? memory : NULL, expected);
        for (uint32_t k = 0; k < results; k++)
            if ((e->wanted >> k & 1) != 0 && !close_to(out[lane * results + k], expected[k])) {
                printf("flags %u, %u steps, lane %u: ", e->call.flags, (unsigned)e->call.steps, (unsigned)lane);
                CHECK_EQ(out[lane * results + k], expected[k]);
            }
    }
    free(x);
    free(out);
}

static const uint32_t KINDS[] = {0, PGR_CALL_REVERSED, PGR_CALL_TESTED, PGR_CALL_COUNTED,
                                 PGR_CALL_COUNTED | PGR_CALL_REVERSED, PGR_CALL_SWITCH};
enum { KIND_COUNT = sizeof KINDS / sizeof *KINDS };

static void calls_compute_what_loops_and_switches_of_c_do(void)
{
    check_seed();
    for (int round = 0; round < 120; round++) {
        const bool has_memory = KINDS[round % KIND_COUNT] != SWITCH && pick(2);
        const unsigned steps = has_memory + pick(MOST_STEPS + !has_memory);
        example e = new_example(KINDS[round % KIND_COUNT], steps, false, has_memory, false);
        pgr_program *program = new_caller(&e, 1, false);
        check_run(program, &e, 1, NULL);
        program = again(program, &e, 1);
        for (int k = 0; k < 5; k++)
            check_run(program, &e, 1, NULL);
        pgr_program_free(program);
        free_example(&e);
    }
}

static void calls_for_lanes_compute_the_same_for_each_lane(void)
{
    for (int round = 0; round < 120; round++) {
        const uint64_t lanes = pick(3) == 0 ? LANES : 1 + pick(40);
        example e = new_example(KINDS[round % KIND_COUNT], pick(MOST_STEPS + 1), true, false, pick(2));
        pgr_program *program = new_caller(&e, lanes, false);
        if (pick(2))
            program = again(program, &e, lanes);
        for (int set = PGR_KERNELS_BEST; set <= PGR_KERNELS_AVX512; set++) {
            const pgr_run_options options = {.kernels = (pgr_kernels)set, .workers = 1 + pick(3)};
            check_run(program, &e, lanes, &options);
        }
        pgr_program_free(program);
        free_example(&e);
    }
}

/* Loops whose step is a loop of one step, or of the lanes' own. */
static void calls_may_be_within_calls(void)
{
    for (int round = 0; round < 60; round++) {
        example outer = new_example(KINDS[round % (KIND_COUNT - 1)], 1 + pick(MOST_STEPS), pick(2), false, pick(2));
        example inner = new_example(0, 1, false, false, false);
        pgr_program_free(inner.programs[0]);
        inner.place = outer.place;
        inner.lane_operands = (outer.place.lane_consts & 1) | 14;
        inner.wanted = UINT32_MAX;
        inner.programs[0] = outer.programs[0];
        outer.programs[0] = new_caller(&inner, LANES, true);
        pgr_program *const program = new_caller(&outer, 50, false);
        check_run(program, &outer, outer.place.lanes ? 50 : 1, NULL);
        pgr_program_free(program);
        free_example(&outer);
        free_example(&inner);
    }
}

/* The memory of a step that calls is counted through: 1 and 1 and two numbers. */
static void memory_within_memory_is_within_its_array(void)
{
    example inner = new_example(0, 1, false, true, false), outer = inner;
    inner.wanted = outer.wanted = UINT32_MAX;
    outer.programs[0] = new_caller(&inner, 1, true);
    pgr_program *const program = new_caller(&outer, 1, false), *made = NULL;
    pgr_program_parts parts;
    pgr_program_to_parts(program, &parts);
    const double x[] = {0.5, -0.5, 0.25, 2.0};
    double memory[] = {9.0, 9.0, 3.0, 4.0}, out[3], expected[3];
    for (uint64_t size = 3; size <= 4; size++) {
        const uint64_t in_sizes[] = {4, size}, out_sizes[] = {3};
        const pgr_status status = pgr_program_from_parts(&parts, 2, in_sizes, 1, out_sizes, &made);
        CHECK_EQ(status, size == 3 ? PGR_ERR_PROGRAM : PGR_OK);
        if (status == PGR_OK && size == 3)
            pgr_program_free(made);
    }
    const double *const in[] = {x, memory};
    double *const to[] = {out};
    CHECK_EQ(pgr_program_run(made, in, to, NULL), PGR_OK);
    step_of(x, memory + 2, expected);
    for (int k = 0; k < 3; k++)
        CHECK(close_to(out[k], expected[k]));
    pgr_program_free(made);
    pgr_program_free(program);
    pgr_program_free(outer.programs[0]);
    free_example(&inner);
}

/* (a, b) -> (2 a, a), while a < 1: for lanes of a, and one b. */
static void carried_lanes_may_be_unread(void)
{
    pgr_program *programs[2];
    const pgr_inner called = {.is_called = 1};
    const pgr_lane_input only = {1, 0, 1};
    const pgr_lane_group group = {4, 1, &only};
    const pgr_output outputs[] = {{.array = 1, .stride = 1}, {.array = 2, .stride = 1}};
    pgr_tape *const tape = pgr_tape_new(NULL);
    pgr_handle start = held(pgr_h_leaf(tape, PGR_OP_CONST, 0.0)), a = held(pgr_h_input(tape, PGR_OP_LANE, 0));
    const pgr_handle step[] = {apply(tape, "add", a, a), a};
    const pgr_handle test = apply(tape, "less", a, held(pgr_h_leaf(tape, PGR_OP_CONST, 1.0)));
    pgr_output copies[2] = {outputs[0], outputs[1]};
    CHECK_EQ(pgr_h_program_build(tape, start, 2, step, copies, 1, &group, 9, &called, &programs[0], NULL), PGR_OK);
    CHECK_EQ(pgr_h_program_build(tape, start, 1, &test, copies, 1, &group, 9, &called, &programs[1], NULL), PGR_OK);
    example e = {.call = {.steps = 3, .flags = TESTED, .carry_count = 2, .program_count = 2}, .place = {true, 0}};
    e.lane_operands = 1;
    e.wanted = 7;
    memcpy(e.programs, programs, sizeof programs);
    pgr_program *const program = new_caller(&e, 4, false);
    const double x[] = {0.25, -7.0, 2.0, 0.0, 1.0, 0.0, 0.75, 0.0};
    const double expected[] = {1.0, 0.5, 2.0, 2.0, -7.0, 0.0, 1.0, -7.0, 0.0, 1.5, 0.75, 1.0};
    double out[12];
    const double *const in[] = {x};
    double *const to[] = {out};
    CHECK_EQ(pgr_program_run(program, in, to, NULL), PGR_OK);
    for (int k = 0; k < 12; k++)
        CHECK_EQ(out[k], expected[k]);
    pgr_program_free(program);
    free_example(&e);
    pgr_tape_free(tape);
}

/* A chain of PGR_MAX_DEPTH programs may be run; one more may not be built, nor made from parts. */
static void programs_are_not_too_deep(void)
{
    pgr_program *chain[PGR_MAX_DEPTH + 1];
    example e = new_example(0, 1, false, false, false);
    e.wanted = UINT32_MAX;
    chain[0] = e.programs[0];
    pgr_program *over = NULL;
    for (uint32_t k = 0; k < PGR_MAX_DEPTH; k++) {
        e.programs[0] = chain[k];
        chain[k + 1] = again(new_caller(&e, 1, true), &e, 1);
    }
    check_run(chain[PGR_MAX_DEPTH], &e, 1, NULL);
    e.programs[0] = chain[PGR_MAX_DEPTH];
    pgr_tape *const tape = pgr_tape_new(NULL);
    CHECK_EQ(build_call(tape, &e, 1, true, &over), PGR_ERR_ARGUMENT);
    pgr_tape_free(tape);
    pgr_program_parts parts;
    pgr_program_to_parts(chain[PGR_MAX_DEPTH], &parts);
    const pgr_program *const deep[] = {chain[PGR_MAX_DEPTH]};
    parts.programs = deep;
    const uint64_t sizes[] = {operand_count(&e), 3};
    CHECK_EQ(pgr_program_from_parts(&parts, 2, sizes, 1, sizes, &over), PGR_ERR_PROGRAM);
    for (uint32_t k = 0; k <= PGR_MAX_DEPTH; k++)
        pgr_program_free(chain[k]);
}

/* Each switch has twice the last one's memory: checked at once, and refused before sums wrap. */
static void programs_that_share_programs_take_no_time_to_check(void)
{
    enum { WIDE = 1024 };
    pgr_program *chain[PGR_MAX_DEPTH + 1];
    const pgr_program *programs[WIDE];
    example e = new_example(SWITCH, 1, true, false, false);
    for (; e.lane_operands != UINT32_MAX; e = new_example(SWITCH, 1, true, false, false))
        free_example(&e);
    pgr_program *const first = new_caller(&e, 1, false);
    pgr_program_parts parts;
    pgr_program_to_parts(e.programs[0], &parts);
    CHECK_EQ(parts.group_count, 1);
    pgr_program_to_parts(first, &parts);
    /* By hand: lanes through arrays 1 .., as a called program reads them. */
    pgr_lane_input lane_inputs[STATE + 1];
    for (uint32_t k = 0; k < parts.lane_input_count; k++)
        lane_inputs[k] = (pgr_lane_input){1 + (uint32_t)parts.lane_inputs[k].offset % STATE, 0, 1};
    pgr_output output = {PGR_REGISTER_LANE, 1, 0, 1};
    pgr_call call = parts.calls[0];
    parts.lane_inputs = lane_inputs;
    parts.outputs = &output;
    parts.calls = &call;
    parts.programs = programs;
    parts.program_count = call.program_count = WIDE;
    const uint64_t sizes[] = {STATE + 1, 1, 1, 1, 1};
    uint32_t made = 0;
    for (pgr_status status = PGR_OK; status == PGR_OK && made < PGR_MAX_DEPTH;) {
        for (uint32_t k = 0; k < WIDE; k++)
            programs[k] = made == 0 ? e.programs[k % 3] : chain[made - 1];
        status = pgr_program_from_parts(&parts, 5, sizes, 2, sizes, &chain[made]);
        CHECK(status == PGR_OK || status == PGR_ERR_PROGRAM);
        made += status == PGR_OK;
    }
    CHECK((made >= 2 || sizeof(size_t) == 4) && made < 8); /* 32 bits hold none */
    while (made > 0)
        pgr_program_free(chain[--made]);
    pgr_program_free(first);
    free_example(&e);
}

/* ---- Failures ---------------------------------------------------------------------------------------- */

static void every_failed_allocation_is_reported_and_leaks_nothing(void)
{
    long failures = 0;
    for (int kind = 0; kind < 2 * KIND_COUNT; kind++) {
        example e = new_example(KINDS[kind / 2], 3, kind % 2, false, false);
        e.wanted = UINT32_MAX;
        double x[LANES * MOST_OPERANDS] = {0.0}, out[LANES * MOST_OPERANDS];
        const double *const in[] = {x, x};
        double *const to[] = {out};
        pgr_program *program = NULL;
        for (long k = 0; program == NULL; k++) {
            failing f = {1 << 30, 0};
            const pgr_allocator allocator = {failing_resize, &f};
            pgr_tape *const tape = pgr_tape_new(&allocator);
            f.until = k;
            const pgr_status status = build_call(tape, &e, LANES, false, &program);
            CHECK(status == (program == NULL ? PGR_ERR_NOMEM : PGR_OK));
            failures += program == NULL;
            if (program != NULL) {
                f.until = 0;
                CHECK_EQ(pgr_program_run(program, in, to, NULL), PGR_ERR_NOMEM);
                f.until = 1;
                CHECK_EQ(pgr_program_run(program, in, to, NULL), PGR_OK);
                f.until = 1 << 30;
                pgr_program_free(program);
            }
            pgr_tape_free(tape);
            CHECK_EQ(f.blocks, 0);
        }
        free_example(&e);
    }
    printf("%ld failed allocations of calls survived\n", failures);
    CHECK(failures > 100);
}

static int stop_later(void *ctx) { return --*(int *)ctx <= 0; }

static void a_long_loop_stops_when_it_is_told_to(void)
{
    for (int lanes = 0; lanes < 2; lanes++) {
        example e = new_example(TESTED, 1, lanes, false, false);
        double x[LANES * MOST_OPERANDS], out[LANES * MOST_OPERANDS];
        for (int k = 0; k < LANES * MOST_OPERANDS; k++)
            x[k] = k % 3 == 0 ? INFINITY : 0.0; /* goes on for ever */
        e.call.x_count = e.call.y_count = 0;
        e.call.steps = UINT64_MAX;
        free_example(&e);
        pgr_tape *const tape = pgr_tape_new(NULL);
        const pgr_handle start = held(pgr_h_leaf(tape, PGR_OP_CONST, 0.0));
        pgr_handle in[STATE];
        inputs(tape, e.place, CONSTS, STATE, in);
        e.programs[0] = called(tape, start, e.place, STATE, CARRY, in + CONSTS);
        e.programs[1] = new_test(e.place, false);
        e.lane_operands = 6;
        e.wanted = UINT32_MAX;
        for (int k = 0; k < LANES; k++)
            x[STATE * k] = INFINITY, x[STATE * k + 1] = x[STATE * k + 2] = 0.0;
        pgr_program *const program = new_caller(&e, LANES, false);
        int left = 2;
        const pgr_run_options options = {.stop = stop_later, .ctx = &left};
        const double *const from[] = {x, x};
        double *const to[] = {out};
        CHECK_EQ(pgr_program_run(program, from, to, &options), PGR_ERR_STOPPED);
        CHECK_EQ(left, 0);
        pgr_program_free(program);
        free_example(&e);
    }
}

static void a_recording_that_is_wrong_is_refused(void)
{
    example e = new_example(0, 2, false, false, false);
    pgr_tape *const tape = pgr_tape_new(NULL);
    const pgr_handle start = held(pgr_h_leaf(tape, PGR_OP_CONST, 0.0)), x = input(tape, 0, 0);
    const pgr_handle many[] = {x, x, x, x, x, x};
    const pgr_handle chain = held(pgr_h_chain(tape, 5, many));
    pgr_program *program = NULL;
    const pgr_recorded_call calls[] = {{e.call, 5, many}, {e.call, 4, many}};
    const pgr_program *const *const programs = (const pgr_program *const *)e.programs;
    pgr_inner inner = {.call_count = 1, .program_count = 1, .calls = calls, .programs = programs};
    pgr_output output = {0};
#define BUILT(node) \
    pgr_h_program_build(tape, start, 1, &(pgr_handle){node}, &output, 0, NULL, 1u << 31, &inner, &program, NULL)
    CHECK_EQ(BUILT(held(pgr_h_result(tape, chain, 4))), PGR_ERR_UNKNOWN);                 /* it has 4 results */
    CHECK_EQ(BUILT(held(pgr_h_result(tape, chain, (uint64_t)1 << 32))), PGR_ERR_UNKNOWN); /* and there is one call */
    CHECK_EQ(BUILT(held(pgr_h_result(tape, chain, 3))), PGR_OK);
    pgr_program_free(program);
    for (int k = 0; k < 5; k++) { /* the chain of others: one of them is not the call's, or one is lacking */
        pgr_handle others[] = {x, x, x, x, x};
        others[k] = input(tape, 0, 1);
        const pgr_handle other = held(pgr_h_chain(tape, 5, others));
        CHECK_EQ(BUILT(held(pgr_h_result(tape, other, 3))), PGR_ERR_ARGUMENT);
    }
    CHECK_EQ(BUILT(held(pgr_h_result(tape, held(pgr_h_chain(tape, 4, many)), 3))), PGR_ERR_ARGUMENT);
    CHECK_EQ(BUILT(held(pgr_h_result(tape, 0, 3))), PGR_ERR_ARGUMENT);
    const pgr_inner none = {0};
    inner = none;
    CHECK_EQ(BUILT(held(pgr_h_result(tape, chain, 0))), PGR_ERR_UNKNOWN);
    inner = (pgr_inner){.call_count = 2, .program_count = 1, .calls = calls, .programs = programs};
    CHECK_EQ(BUILT(x), PGR_ERR_ARGUMENT); /* 4 operands are not 5 */
    const pgr_binding bindings[] = {{x, PGR_OP_LANE, 0}, {x, PGR_OP_ADD, 0}, {x, PGR_OP_INPUT, 7}};
    inner = (pgr_inner){.is_called = 1, .binding_count = 1, .bindings = bindings};
    CHECK_EQ(BUILT(x), PGR_ERR_ARGUMENT); /* of no group */
    inner.bindings = bindings + 1;
    CHECK_EQ(BUILT(x), PGR_ERR_ARGUMENT);
    inner.bindings = bindings + 2;
    CHECK_EQ(BUILT(x), PGR_OK);
    pgr_program_parts parts;
    pgr_program_to_parts(program, &parts);
    CHECK(parts.input_count == 1 && parts.inputs[0].array == 0 && parts.inputs[0].offset == 7);
    pgr_program_free(program);
#undef BUILT
    pgr_tape_free(tape);
    free_example(&e);
}

/* ---- Untrusted parts --------------------------------------------------------------------------------- */

/* Copies of the parts that may be changed. */
typedef struct {
    pgr_program_parts p;
    pgr_instruction *instructions;
    uint32_t *args;
    pgr_call *calls;
    pgr_lane_input *memory;
    const pgr_program **programs;
} copies;

static void *copy_of(const void *from, size_t count, size_t size)
{
    void *const to = malloc((count + 1) * size);
    if (count > 0)
        memcpy(to, from, count * size);
    return to;
}

static copies copied(const pgr_program *program)
{
    copies c;
    pgr_program_to_parts(program, &c.p);
    c.p.instructions = c.instructions = copy_of(c.p.instructions, c.p.instruction_count, sizeof *c.instructions);
    c.p.args = c.args = copy_of(c.p.args, c.p.arg_count, sizeof *c.args);
    c.p.calls = c.calls = copy_of(c.p.calls, c.p.call_count, sizeof *c.calls);
    c.p.memory = c.memory = copy_of(c.p.memory, c.p.memory_count, sizeof *c.memory);
    c.p.programs = c.programs = copy_of(c.p.programs, c.p.program_count, sizeof *c.programs);
    return c;
}

static void free_copies(copies *c)
{
    free(c->instructions);
    free(c->args);
    free(c->calls);
    free(c->memory);
    free(c->programs);
}

static void every_part_of_a_call_that_is_wrong_is_refused(void)
{
    int wrong = 0;
    const uint32_t none = PGR_REGISTER_NONE, l0 = PGR_REGISTER_LANE;
    uint64_t in_sizes[] = {8, 6}, out_sizes[] = {8};
    pgr_program *program = NULL;
#define IS_REFUSED(what) \
    do { \
        program = NULL; \
        const pgr_status status = pgr_program_from_parts(&c.p, 2, in_sizes, 1, out_sizes, &program); \
        if (status != PGR_ERR_PROGRAM) \
            printf("%s is not refused\n", what); \
        CHECK_EQ(status, PGR_ERR_PROGRAM); \
        pgr_program_free(program); \
        wrong++; \
    } while (0)
#define REFUSED(part, bad) \
    do { \
        const __typeof__(part) good = part; \
        part = bad; \
        IS_REFUSED(#part " = " #bad); \
        part = good; \
    } while (0)
#define ACCEPTED \
    do { \
        CHECK_EQ(pgr_program_from_parts(&c.p, 2, in_sizes, 1, out_sizes, &program), PGR_OK); \
        pgr_program_free(program); \
    } while (0)
    /* A loop of two steps with memory: 5 operands, 4 results. */
    example e = new_example(0, 2, false, true, false);
    e.wanted = UINT32_MAX;
    pgr_program *caller = new_caller(&e, 1, false);
    copies c = copied(caller);
    pgr_call *const call = c.calls;
    const pgr_instruction *const i = c.instructions;
    CHECK(c.p.call_count == 1 && c.p.instruction_count == 1 && i->op == PGR_PROGRAM_CALL && c.p.arg_count == 9);
    ACCEPTED;
    REFUSED(c.instructions[0].a, 1);
    REFUSED(c.instructions[0].b, 5);
    REFUSED(c.instructions[0].b, UINT32_MAX);
    REFUSED(c.instructions[0].out, 6);
    REFUSED(c.instructions[0].out, UINT32_MAX);
    REFUSED(c.args[i->b], none);
    REFUSED(c.args[i->b], c.p.uniform_registers);
    REFUSED(c.args[i->b + 4], l0);
    REFUSED(c.args[i->b + 4], c.args[i->out]); /* not written before */
    REFUSED(c.args[i->out], c.p.uniform_registers);
    REFUSED(c.args[i->out + 3], l0);
    REFUSED(call->flags, 16);
    REFUSED(call->flags, TESTED); /* without a test */
    REFUSED(call->flags, COUNTED); /* its operands are one more */
    REFUSED(call->flags, SWITCH);
    REFUSED(call->steps, 3);
    REFUSED(call->steps, 0);
    REFUSED(call->steps, 1); /* an output that is not written */
    REFUSED(call->steps, UINT64_MAX);
    REFUSED(call->const_count, 0); /* the step reads 4 numbers */
    REFUSED(call->const_count, 2);
    REFUSED(call->const_count, UINT32_MAX);
    REFUSED(call->carry_count, 1);
    REFUSED(call->carry_count, 3);
    REFUSED(call->carry_count, UINT32_MAX);
    REFUSED(call->x_count, 0);
    REFUSED(call->x_count, 2);
    REFUSED(call->x_count, UINT32_MAX);
    REFUSED(call->y_count, 0); /* the step writes 3 numbers */
    REFUSED(call->y_count, UINT32_MAX);
    REFUSED(call->first_program, 1);
    REFUSED(call->first_program, UINT32_MAX);
    REFUSED(call->program_count, 0);
    REFUSED(call->program_count, 2);
    REFUSED(call->program_count, UINT32_MAX);
    REFUSED(c.p.program_count, 0);
    REFUSED(call->first_memory, 1);
    REFUSED(call->first_memory, UINT32_MAX);
    REFUSED(call->memory_count, 0); /* the step reads two numbers of it */
    REFUSED(call->memory_count, 2);
    REFUSED(call->memory_count, PGR_MAX_MEMORY + 1);
    REFUSED(c.p.memory_count, 0);
    REFUSED(c.memory[0].array, 2);
    REFUSED(c.memory[0].offset, 2); /* 2 + 3 and two numbers are one too many of 6 */
    REFUSED(c.memory[0].offset, UINT64_MAX);
    REFUSED(c.memory[0].stride, 4);
    REFUSED(c.memory[0].stride, UINT64_MAX);
    REFUSED(in_sizes[1], 5);
    /* Counts whose products and sums would wrap to few operands. */
    pgr_call good = *call;
    *call = (pgr_call){UINT32_MAX, COUNTED, UINT32_MAX, UINT32_MAX, UINT32_MAX, 0, 0, 1, 0, 1};
    IS_REFUSED("2^64 operands");
    *call = good;
    /* The step's results as the test, and a test beyond its numbers. */
    example t = new_example(TESTED, 2, false, false, false);
    const pgr_program *both[] = {e.programs[0], t.programs[1]};
    c.p.programs = both;
    c.p.program_count = call->program_count = 2;
    IS_REFUSED("a test of a loop without one");
    free_copies(&c);
    pgr_program_free(caller);
    t.wanted = UINT32_MAX;
    caller = new_caller(&t, 1, false);
    c = copied(caller);
    ACCEPTED;
    REFUSED(c.programs[1], t.programs[0]);
    REFUSED(c.programs[0], e.programs[0]); /* reads memory */
    REFUSED(c.calls[0].flags, TESTED | COUNTED);
    REFUSED(c.calls[0].flags, TESTED | PGR_CALL_REVERSED);
    REFUSED(c.calls[0].program_count, 1);
    free_copies(&c);
    pgr_program_free(caller);
    free_example(&t);
    /* A program for lanes can't be run once, nor one for one run on lanes. */
    example l = new_example(0, 2, true, false, false);
    l.wanted = UINT32_MAX;
    l.lane_operands = 30;
    l.place.lane_consts = 0;
    pgr_program_free(l.programs[0]);
    l.programs[0] = new_step(l.place, false);
    caller = new_caller(&l, 1, false);
    c = copied(caller);
    CHECK_EQ(c.instructions[4].op, PGR_PROGRAM_CALL);
    ACCEPTED;
    REFUSED(c.programs[0], e.programs[0]);
    REFUSED(c.args[c.instructions[4].out], 0);
    REFUSED(c.args[c.instructions[4].out], l0 | c.p.lane_registers);
    REFUSED(c.args[c.instructions[4].b + 1], none);
    REFUSED(c.args[c.instructions[4].b + 1], c.args[c.instructions[4].out]);
    REFUSED(c.calls[0].const_count, 0);
    REFUSED(c.calls[0].y_count, 0);
    for (uint32_t k = 1; k < 5; k++)
        c.args[c.instructions[4].b + k] = c.args[c.instructions[4].b];
    IS_REFUSED("a call without lanes");
    for (uint32_t k = 1; k < 5; k++)
        c.args[c.instructions[4].b + k] = l0;
    ACCEPTED;
    copies inner = copied(l.programs[0]); /* then other parts of the step */
    uint64_t sizes[] = {4, 4, 4, 4, 4, 4};
    pgr_lane_input *const lanes = copy_of(inner.p.lane_inputs, inner.p.lane_input_count, sizeof *lanes);
    pgr_output *const outputs = copy_of(inner.p.outputs, inner.p.output_count, sizeof *outputs);
    pgr_segment *const segments = copy_of(inner.p.segments, inner.p.segment_count, sizeof *segments);
    pgr_uniform_input *const given = copy_of(inner.p.inputs, inner.p.input_count, sizeof *given);
    uint64_t one = 1;
    inner.p.lane_inputs = lanes;
    inner.p.outputs = outputs;
    inner.p.segments = segments;
    inner.p.inputs = given;
    inner.p.group_lanes = &one;
#define REFUSED_WITHIN(part, bad) \
    do { \
        const __typeof__(part) good_ = part; \
        part = bad; \
        pgr_program *made = NULL; \
        CHECK_EQ(pgr_program_from_parts(&inner.p, 6, sizes, 6, sizes, &made), PGR_OK); \
        c.programs[0] = made; \
        if (made != NULL) \
            IS_REFUSED(#part " = " #bad); \
        pgr_program_free(made); \
        part = good_; \
    } while (0)
    REFUSED_WITHIN(lanes[0].array, 0);
    REFUSED_WITHIN(lanes[0].array, 5);
    REFUSED_WITHIN(lanes[0].offset, 1);
    REFUSED_WITHIN(lanes[0].stride, 2);
    REFUSED_WITHIN(outputs[0].array, 2);
    REFUSED_WITHIN(outputs[0].array, 0);
    REFUSED_WITHIN(outputs[0].offset, 1);
    REFUSED_WITHIN(outputs[0].stride, 0);
    REFUSED_WITHIN(given[0].array, 1);
    sizes[0] = 9;
    REFUSED_WITHIN(given[0].offset, 4);
    const uint32_t last = inner.p.segment_count - 1;
    segments[last].first_sum = inner.p.uniform_registers - 1;
    REFUSED_WITHIN(segments[last].sum_count, 1);
    pgr_lane_input memory = {0, 0, 0};
    inner.p.memory = &memory;
    REFUSED_WITHIN(inner.p.memory_count, 1);
#undef REFUSED_WITHIN
#undef IS_REFUSED
#undef REFUSED
#undef ACCEPTED
    free(lanes);
    free(outputs);
    free(segments);
    free(given);
    free_copies(&inner);
    free_copies(&c);
    pgr_program_free(caller);
    free_example(&l);
    free_example(&e);
    printf("%d wrong parts of calls refused\n", wrong);
}

/* One number of the parts changed, or another program called. */
static void damage(copies *c, const pgr_program *other)
{
    static const uint32_t likely[] = {0, 1, 2, 3, 4, 8, PGR_REGISTER_NONE, PGR_REGISTER_LANE, PGR_REGISTER_LANE | 1,
                                      UINT32_MAX, 64, PGR_PROGRAM_CALL};
    const uint32_t value = pick(4) == 0 ? (uint32_t)rand() : pick(2) ? pick(24) : likely[pick(12)];
    switch (pick(6)) {
    case 0: ((uint32_t *)c->instructions)[pick(4 * c->p.instruction_count)] = value; break;
    case 1: c->args[pick(c->p.arg_count)] = value; break;
    case 2: c->programs[pick(c->p.program_count)] = other; break;
    case 3: *(pick(2) ? &c->p.uniform_registers : &c->p.lane_registers) = value; break;
    case 4: ((uint32_t *)(void *)c->memory)[pick(sizeof *c->memory / 4)] = value; break;
    default: ((uint32_t *)(void *)c->calls)[pick(sizeof *c->calls / 4)] = value; break;
    }
}

/* ROUNDS=1000000 for a long one. */
static void damaged_calls_are_refused_or_harmless(void)
{
    const char *const given = getenv("ROUNDS");
    const long rounds = given != NULL ? atol(given) : 20000;
    long accepted = 0;
    double x[20 * MOST_OPERANDS] = {0.0}, out[20 * MOST_OPERANDS], memory[MEMORY] = {0.0};
    for (int kind = 0; kind < 2 * KIND_COUNT; kind++) {
        const bool lanes = kind % 2;
        example e = new_example(KINDS[kind / 2], 4, lanes, !lanes && KINDS[kind / 2] != SWITCH, pick(2));
        example f = new_example(TESTED, 2, !lanes, lanes, false);
        pgr_program *const caller = new_caller(&e, 20, false);
        const uint64_t in_sizes[] = {20 * operand_count(&e), MEMORY}, out_sizes[] = {20 * result_count(&e)};
        for (int k = 0; k < 20 * MOST_OPERANDS; k++)
            x[k] = number();
        double *const exact = malloc((size_t)in_sizes[0] * sizeof *exact); /* so that the sanitizer sees its end */
        memcpy(exact, x, (size_t)in_sizes[0] * sizeof *exact);
        const double *const in[] = {exact, memory};
        double *const to[] = {out};
        for (long round = 0; round < rounds / (2 * KIND_COUNT); round++) {
            copies c = copied(caller);
            for (unsigned k = round == 0 ? 0 : 1 + pick(3); k > 0; k--)
                damage(&c, pick(2) ? f.programs[pick(2)] : e.programs[pick(e.call.program_count)]);
            pgr_program *made = NULL;
            const pgr_status status = pgr_program_from_parts(&c.p, 2, in_sizes, 1, out_sizes, &made);
            CHECK(status == PGR_OK || (status == PGR_ERR_PROGRAM && round > 0));
            if (status == PGR_OK) {
                accepted++;
                int left = 1;
                const pgr_run_options options = {.stop = stop_later, .ctx = &left};
                const pgr_status ran = pgr_program_run(made, in, to, &options);
                CHECK(ran == PGR_OK || ran == PGR_ERR_STOPPED);
                pgr_program_free(made);
            }
            free_copies(&c);
        }
        free(exact);
        pgr_program_free(caller);
        free_example(&e);
        free_example(&f);
    }
    printf("%ld damaged calls, %ld of them run\n", rounds, accepted);
}

int main(void)
{
    TEST(calls_compute_what_loops_and_switches_of_c_do);
    TEST(calls_for_lanes_compute_the_same_for_each_lane);
    TEST(calls_may_be_within_calls);
    TEST(memory_within_memory_is_within_its_array);
    TEST(carried_lanes_may_be_unread);
    TEST(programs_are_not_too_deep);
    TEST(programs_that_share_programs_take_no_time_to_check);
    TEST(every_failed_allocation_is_reported_and_leaks_nothing);
    TEST(a_long_loop_stops_when_it_is_told_to);
    TEST(a_recording_that_is_wrong_is_refused);
    TEST(every_part_of_a_call_that_is_wrong_is_refused);
    TEST(damaged_calls_are_refused_or_harmless);
    return check_report();
}
