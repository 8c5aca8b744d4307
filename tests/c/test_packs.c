/* Packs: what a program computes once, eight alike operations at a time, against the same numbers one by one. */
#include "check.h"
#include "ops/ops.h"
#include "program/packs.h"

enum { REGISTERS = 9000, CONSTANTS = 8, INPUTS = 72, MOST = 24000, TERMS = 40000, LANES = 20, SUMS = 4, LONGEST = 1100 };

static const pgr_kernels KERNELS[] = {PGR_KERNELS_PLAIN, PGR_KERNELS_AVX2, PGR_KERNELS_AVX512};

/* A program under construction, and the number in each register so far. Numbers are whole, and small enough that every
 * sum is exact: whatever the order, results are equal to the last bit. */
typedef struct {
    pgr_instruction instructions[MOST];
    uint32_t args[TERMS];
    pgr_program_dot dots[MOST];
    pgr_segment segments[32];
    pgr_program_parts parts;
    double constants[CONSTANTS], numbers[REGISTERS];
    bool is_set[REGISTERS];
    double in[INPUTS], lanes[LANES];
    uint32_t which;              /* registers are outputs: 3: all, else some of them */
    uint32_t last_out;           /* where the last row begins */
    uint32_t registers, longest; /* of which programs have some, and instructions in a row */
} made;

static const double LARGE = 1e6;

static void add(made *m, uint32_t op, uint32_t out, uint32_t a, uint32_t b)
{
    m->instructions[m->parts.instruction_count++] = (pgr_instruction){op, out, a, b};
}

static uint32_t set_register(const made *m)
{
    uint32_t reg = pick(m->registers);
    while (!m->is_set[reg])
        reg = (reg + 1) % m->registers;
    return reg;
}

/* How a row of instructions takes its operands: side by side, all the same, with a stride, or anything. */
typedef struct {
    uint32_t base, stride;
} walk;

static walk random_walk(const made *m)
{
    const uint32_t strides[] = {0, 1, 1, 1, 8, m->registers - 1, m->registers};
    const uint32_t base = set_register(m);
    if (m->longest > 100 && pick(5) > 0)
        return pick(3) == 0 ? (walk){base, 0} : (walk){m->last_out + (pick(4) == 0 ? pick(9) : 0), 1};
    return (walk){pick(2) == 0 ? base : m->last_out, strides[pick(7)]};
}

static uint32_t reg_at(const made *m, const walk *w, uint32_t k)
{
    const uint32_t reg = (w->base + k * w->stride) % m->registers;
    return w->stride == m->registers || !m->is_set[reg] ? set_register(m) : reg;
}

/* Registers that instructions set. */
static uint32_t places(const made *m) { return m->registers - INPUTS - CONSTANTS - SUMS; }

static double row(uint32_t op, double a, double b)
{
    double v = 0.0;
    (void)ops_eval((int)op, a, b, &v);
    return v;
}

static const char *const NAMES[] = {"add",  "sub",   "mul", "max",  "min", "less", "pick",
                                    "keep", "equal", "neg", "relu", "abs", "sign"};
enum { BINARY_NAMES = 9, ALL_NAMES = 13 };

/* Instructions with one operation in a row, sometimes a run, whose operands are all read before any result is written. */
static void add_operations(made *m)
{
    const uint32_t which = pick(ALL_NAMES), out = pick(m->registers);
    const uint32_t count = pick(3) == 0 ? 1 + pick(3) : m->longest - pick(m->longest < 100 ? m->longest : 2);
    const bool binary = which < BINARY_NAMES, is_run = pick(4) == 0, in_a_row = pick(3) > 0 || m->longest > 100;
    uint32_t op = (uint32_t)op_named(NAMES[which]);
    const walk x = random_walk(m), y = random_walk(m);
    double results[LONGEST];
    uint32_t outs[LONGEST], a[LONGEST], b[LONGEST];
    for (uint32_t k = 0; k < count; k++) {
        outs[k] = INPUTS + CONSTANTS + (in_a_row ? (out + k) : pick(m->registers)) % places(m);
        a[k] = reg_at(m, &x, k);
        b[k] = binary ? reg_at(m, &y, k) : PGR_REGISTER_NONE;
    }
    for (uint32_t k = 0; k < count; k++) /* of a run, as it reads now */
        if (fabs(row(op, m->numbers[a[k]], binary ? m->numbers[b[k]] : 0.0)) > LARGE)
            op = (uint32_t)op_named("min");
    if (is_run)
        add(m, PGR_PROGRAM_RUN, PGR_REGISTER_NONE, count, 0);
    for (uint32_t k = 0; k < count; k++) {
        double v = row(op, m->numbers[a[k]], binary ? m->numbers[b[k]] : 0.0);
        uint32_t now = op;
        if (fabs(v) > LARGE) { /* only where it reads what this row has written */
            now = (uint32_t)op_named("less");
            v = row(now, m->numbers[a[k]], m->numbers[b[k]]);
        }
        add(m, now, outs[k], a[k], b[k]);
        results[k] = v;
        if (!is_run) {
            m->numbers[outs[k]] = v;
            m->is_set[outs[k]] = true;
        }
    }
    for (uint32_t k = 0; k < count; k++) {
        m->numbers[outs[k]] = is_run ? results[k] : m->numbers[outs[k]];
        m->is_set[outs[k]] = true;
    }
    m->last_out = outs[0];
}

static void add_dots(made *m)
{
    static const uint32_t lengths[] = {0, 1, 2, 3, 5, 8, 9, 16, 27, 40, 70, 300};
    const uint32_t terms = m->longest < 100 ? lengths[pick(12)] : m->longest - pick(9);
    const uint32_t count = m->longest < 100 ? 1 + pick(20) : 1 + pick(2), starts = pick(3), out = pick(m->registers);
    const bool across = pick(2) == 0;
    const walk x = random_walk(m), y = random_walk(m);
    for (uint32_t k = 0; k < count && m->parts.arg_count < TERMS - 2 * LONGEST - 10; k++) {
        const uint32_t start = starts == 0 || (starts == 1 && pick(4) == 0) ? PGR_REGISTER_NONE : set_register(m);
        const uint32_t here = terms + (pick(4) == 0 ? pick(3) : 0);
        double sum = start == PGR_REGISTER_NONE ? -0.0 : m->numbers[start];
        const pgr_program_dot dot = {m->parts.arg_count, here};
        for (uint32_t t = 0; t < here; t++) {
            const uint32_t s = reg_at(m, &x, across && m->longest < 100 ? k + t * 8 : k * 8 + t);
            const bool has_one = starts == 2 || (m->longest < 100 && pick(9) == 0);
            const uint32_t r = has_one ? PGR_REGISTER_NONE : reg_at(m, &y, across ? t : k + t);
            m->args[m->parts.arg_count++] = s;
            m->args[m->parts.arg_count++] = r;
            sum += r == PGR_REGISTER_NONE ? m->numbers[s] : m->numbers[s] * m->numbers[r];
        }
        if (fabs(sum) > LARGE) {
            m->parts.arg_count = dot.first;
            continue;
        }
        const uint32_t to = INPUTS + CONSTANTS + (out + k) % places(m);
        m->dots[m->parts.dot_count] = dot;
        add(m, PGR_PROGRAM_DOT, to, start, m->parts.dot_count++);
        m->numbers[to] = sum;
        m->is_set[to] = true;
    }
}

static void end_segment(made *m, uint32_t first, uint32_t group)
{
    if (m->parts.instruction_count > first)
        m->segments[m->parts.segment_count++] = (pgr_segment){
            first, m->parts.instruction_count - first, group, group == UINT32_MAX ? 0 : m->registers - SUMS,
        group == UINT32_MAX ? 0 : SUMS};
}

/* Sums over lanes of a lane times a register, which the segment reads after what has been in packs. */
static void add_lanes(made *m)
{
    const uint32_t first = m->parts.instruction_count;
    double sums[SUMS];
    add(m, PGR_PROGRAM_LOAD, PGR_REGISTER_LANE, 0, 0);
    for (uint32_t k = 0; k < SUMS; k++) {
        const uint32_t reg = set_register(m);
        const bool is_small = fabs(m->numbers[reg]) < 100.0 && reg < m->registers - SUMS; /* not its own sums */
        const double factor = is_small ? m->numbers[reg] : 0.0;
        add(m, (uint32_t)op_named("mul"), PGR_REGISTER_LANE | (1 + k), PGR_REGISTER_LANE, factor == 0.0 ? 0 : reg);
        add(m, PGR_PROGRAM_LANE_SUM, m->registers - SUMS + k, PGR_REGISTER_LANE | (1 + k), 0);
        sums[k] = 0.0;
        for (int l = 0; l < LANES; l++)
            sums[k] += m->lanes[l] * (factor == 0.0 ? m->numbers[0] : factor);
    }
    for (uint32_t k = 0; k < SUMS; k++) {
        m->numbers[m->registers - SUMS + k] = sums[k];
        m->is_set[m->registers - SUMS + k] = true;
    }
    end_segment(m, first, 0);
}

static void start_program(made *m, uint32_t registers, uint32_t longest)
{
    memset(m->is_set, 0, sizeof m->is_set);
    m->parts = (pgr_program_parts){0};
    m->registers = registers;
    m->longest = longest;
    m->last_out = 0;
    m->which = pick(4);
    for (uint32_t k = 0; k < CONSTANTS; k++)
        m->constants[k] = m->numbers[k] = (double)k - 2.0;
    for (uint32_t k = 0; k < INPUTS; k++)
        m->in[k] = m->numbers[CONSTANTS + k] = (double)pick(13) - 6.0;
    for (uint32_t k = 0; k < CONSTANTS + INPUTS; k++)
        m->is_set[k] = true;
    for (int l = 0; l < LANES; l++)
        m->lanes[l] = (double)pick(7) - 3.0;
}

static void random_program(made *m, bool is_wide)
{
    start_program(m, is_wide ? REGISTERS : 200, is_wide ? 530 + pick(LONGEST - 530) : 40);
    for (uint32_t reg = CONSTANTS + INPUTS; reg < m->registers; reg++) { /* there are no more than instructions set */
        add(m, (uint32_t)op_named("neg"), reg, reg % (CONSTANTS + INPUTS), PGR_REGISTER_NONE);
        m->numbers[reg] = -m->numbers[reg % (CONSTANTS + INPUTS)];
        m->is_set[reg] = true;
    }
    for (unsigned segments = 1 + pick(4); segments > 0; segments--) {
        const uint32_t first = m->parts.segment_count == 0 ? 0 : m->parts.instruction_count;
        for (unsigned rows = 1 + pick(12); rows > 0 && m->parts.instruction_count < MOST - 2 * LONGEST; rows--)
            (pick(3) == 0 ? add_dots : add_operations)(m);
        end_segment(m, first, UINT32_MAX);
        if (segments > 1 && pick(2) == 0)
            add_lanes(m);
    }
}

/* Every register that has a number is an output. */
static pgr_program *finish(made *m, pgr_output *outputs, uint32_t *output_count)
{
    static const pgr_uniform_input input = {CONSTANTS, 0, 0, INPUTS};
    static const pgr_lane_input lane = {1, 0, 1};
    static const uint32_t first_input[] = {0, 1};
    static const uint64_t lanes[] = {LANES}, in_sizes[] = {INPUTS, LANES}, out_sizes[] = {REGISTERS};
    pgr_program_parts *const p = &m->parts;
    *output_count = 0;
    for (uint32_t reg = 0; reg < REGISTERS; reg++)
        if (m->is_set[reg] && (m->longest < 100 || reg / 3000 == m->which || m->which == 3))
            outputs[(*output_count)++] = (pgr_output){reg, 0, reg, 0};
    p->constant_count = CONSTANTS;
    p->input_count = p->lane_input_count = p->group_count = 1;
    p->output_count = *output_count;
    p->uniform_registers = 0;
    for (uint32_t reg = 0; reg < REGISTERS; reg++)
        p->uniform_registers = m->is_set[reg] ? reg + 1 : p->uniform_registers;
    p->block = 16;
    p->instructions = m->instructions;
    p->args = m->args;
    p->dots = m->dots;
    p->segments = m->segments;
    p->constants = m->constants;
    p->inputs = &input;
    p->outputs = outputs;
    p->lane_inputs = &lane;
    p->group_first_input = first_input;
    p->group_lanes = lanes;
    bool has_lanes = false;
    for (uint32_t s = 0; s < p->segment_count; s++)
        has_lanes |= m->segments[s].group == 0;
    p->lane_registers = has_lanes ? 1 + SUMS : 0;
    pgr_program *program = NULL;
    CHECK_EQ(pgr_program_from_parts(p, 2, in_sizes, 1, out_sizes, &program), PGR_OK);
    return program;
}

static void run(const pgr_program *program, const made *m, pgr_kernels kernels, double *out)
{
    const double *const in[] = {m->in, m->lanes};
    double *const to[] = {out};
    const pgr_run_options options = {.kernels = kernels};
    CHECK_EQ(pgr_program_run(program, in, to, &options), PGR_OK);
}

/* ROUNDS=100000 for a long one. */
static void whole_numbers_come_out_exactly(bool is_wide, long rounds)
{
    check_seed();
    made *const m = malloc(sizeof *m);
    pgr_output *const outputs = malloc(REGISTERS * sizeof *outputs);
    double *const out = malloc(REGISTERS * sizeof *out);
    long packed = 0, strips = 0, again = 0, ops[256] = {0};
    for (long round = 0; round < rounds && check_failures == 0; round++) {
        uint32_t count;
        random_program(m, is_wide);
        pgr_program *const program = finish(m, outputs, &count);
        if (program == NULL)
            break;
        const program_packs *const packs = program->packs;
        packed += packs != NULL;
        for (uint32_t s = 0; packs != NULL && s < packs->step_count; s++) {
            const pack_step *const step = &packs->steps[s];
            const uint32_t *const code = packs->code + step->first;
            ops[step->op] += (long)step->count;
            strips += step->strip > 1;
            again += step->op < PACK_SUMS && step->count > STRIP_CHUNK && code[0] == code[3 * STRIP_CHUNK];
        }
        for (size_t k = 0; k < sizeof KERNELS / sizeof *KERNELS; k++) {
            run(program, m, KERNELS[k], out);
            for (uint32_t i = 0; i < count && check_failures == 0; i++) {
                const uint32_t reg = outputs[i].node;
                if (memcmp(&out[reg], &m->numbers[reg], sizeof *out) != 0) {
                    printf("round %ld: register %u is %g, not %g\n", round, reg, out[reg], m->numbers[reg]);
                    check_failures++;
                }
            }
        }
        pgr_program_free(program);
    }
    free(m);
    free(outputs);
    free(out);
    printf("%ld programs, %ld of them with packs; %ld strips, %ld steps use places again\n", rounds, packed, strips, again);
    CHECK(packed > rounds / 2 && (!is_wide || strips > rounds / 50));
    CHECK(!is_wide || rounds < 1000 || again > rounds / 100);
    for (uint32_t op = PACK_SUMS; op <= PACK_PLAIN; op++)
        CHECK(ops[op] > rounds / 20 || (is_wide ? op < PACK_LONG_SUM : op == PACK_ADD_UP));
}

static long rounds(long usual)
{
    const char *const given = getenv("ROUNDS");
    return given != NULL ? atol(given) : usual;
}

static void narrow_programs_are_exact(void) { whole_numbers_come_out_exactly(false, rounds(1500)); }
static void wide_programs_are_exact(void) { whole_numbers_come_out_exactly(true, rounds(1500) / 30); }

/* ---- Numbers that are not whole -------------------------------------------------------------------- */

static double number(void) { return (double)rand() / RAND_MAX; }

/* Within 8 units in the last place, as elsewhere of libmvec's two or so and of the row's own operations. */
static bool close_to(double x, double y)
{
    return fabs(x - y) <= 8.0 * 0x1p-53 * fabs(y) || x == y || (isnan(x) && isnan(y));
}

static void every_operation_of_the_table_has_packs(void)
{
    enum { COUNT = 27 };
    made *const m = malloc(sizeof *m);
    pgr_output outputs[REGISTERS];
    for (int op = PGR_OP_FIRST; op < pgr_op_count(); op++) {
        uint32_t count;
        const int kind = pgr_op_row(op)->kind;
        const bool binary = kind == PGR_KIND_BINARY || kind == PGR_KIND_PARAM;
        start_program(m, 200, 40);
        for (uint32_t k = 0; k < INPUTS; k++)
            m->numbers[CONSTANTS + k] = m->in[k] = op == op_named("polygamma") && k < COUNT ? 1.0 : 0.05 + 0.9 * number();
        for (uint32_t k = 0; k < COUNT; k++) {
            const uint32_t a = CONSTANTS + k, b = CONSTANTS + COUNT + k, out = CONSTANTS + INPUTS + k;
            add(m, (uint32_t)op, out, a, binary ? b : PGR_REGISTER_NONE);
            m->numbers[out] = row((uint32_t)op, m->numbers[a], m->numbers[b]);
            m->is_set[out] = true;
        }
        end_segment(m, 0, UINT32_MAX);
        pgr_program *const program = finish(m, outputs, &count);
        CHECK(program != NULL && program->packs != NULL && program->packs->step_count > 0);
        for (size_t k = 0; k < sizeof KERNELS / sizeof *KERNELS && program != NULL; k++) {
            double out[REGISTERS];
            run(program, m, KERNELS[k], out);
            for (uint32_t i = 0; i < count; i++)
                CHECK(close_to(out[outputs[i].node], m->numbers[outputs[i].node]));
        }
        pgr_program_free(program);
    }
    free(m);
}

/* Each rounding is of a part of the sum, so no sum is off by more than one unit for each term of their magnitudes. */
static void sums_are_within_their_bound_in_any_order(void)
{
    static const uint32_t lengths[] = {2, 7, 16, 64, 300};
    check_seed();
    made *const m = malloc(sizeof *m);
    pgr_output outputs[REGISTERS];
    for (unsigned round = 0; round < 60; round++) {
        uint32_t count;
        long double sums[REGISTERS], sizes[REGISTERS] = {0.0L};
        const uint32_t terms = lengths[round % 5], first = CONSTANTS + INPUTS;
        start_program(m, 200, 40);
        for (uint32_t k = 0; k < INPUTS; k++)
            m->numbers[CONSTANTS + k] = m->in[k] = number() - 0.5;
        const walk x = random_walk(m), y = random_walk(m);
        for (uint32_t k = 0; k < 24; k++) {
            m->dots[k] = (pgr_program_dot){m->parts.arg_count, terms};
            sums[first + k] = 0.0L;
            for (uint32_t t = 0; t < terms; t++) {
                const uint32_t s = reg_at(m, &x, k + t), r = reg_at(m, &y, t);
                m->args[m->parts.arg_count++] = s;
                m->args[m->parts.arg_count++] = r;
                sums[first + k] += (long double)m->numbers[s] * (long double)m->numbers[r];
                sizes[first + k] += fabsl((long double)m->numbers[s] * (long double)m->numbers[r]);
            }
            add(m, PGR_PROGRAM_DOT, first + k, PGR_REGISTER_NONE, m->parts.dot_count++);
        }
        for (uint32_t k = 0; k < 24; k++)
            m->is_set[first + k] = true;
        end_segment(m, 0, UINT32_MAX);
        pgr_program *const program = finish(m, outputs, &count);
        CHECK(program != NULL && program->packs != NULL);
        for (size_t k = 0; k < sizeof KERNELS / sizeof *KERNELS && program != NULL; k++) {
            double out[REGISTERS];
            run(program, m, KERNELS[k], out);
            for (uint32_t i = first; i < first + 24; i++)
                CHECK(fabsl((long double)out[i] - sums[i]) <= (long double)(terms + 1) * 0x1p-53L * sizes[i]);
        }
        pgr_program_free(program);
    }
    free(m);
}

/* ---- Memory ---------------------------------------------------------------------------------------- */

/* Of 40 terms tanh(x * w) + x and their gradient; each allocation fails once. */
static void every_failed_allocation_is_reported(void)
{
    enum { COUNT = 40 };
    failing f = {1 << 30, 0};
    const pgr_allocator allocator = {failing_resize, &f};
    pgr_tape *const tape = pgr_tape_new(&allocator);
    pgr_id x[1 + COUNT], seed, sum = 0, grads[1 + COUNT];
    const pgr_id start = leaf(tape, 0.0);
    for (uint64_t k = 0; k <= COUNT; k++)
        CHECK_EQ(pgr_input(tape, PGR_OP_INPUT, k, &x[k]), PGR_OK);
    for (int k = 1; k <= COUNT; k++) {
        const pgr_id term = record(tape, "add", record(tape, "tanh", record(tape, "mul", x[k], x[0]), 0), x[k]);
        sum = k == 1 ? term : record(tape, "add", sum, term);
    }
    CHECK_EQ(pgr_constant(tape, 1.0, &seed), PGR_OK);
    CHECK_EQ(pgr_vjp(tape, PGR_NO_GROUP, 1, &sum, &seed, 1 + COUNT, x, grads, NULL), PGR_OK);
    pgr_output outputs[1 + COUNT];
    for (uint32_t k = 0; k <= COUNT; k++)
        outputs[k] = (pgr_output){.node = grads[k], .offset = k};
    pgr_program *program = NULL;
    const long blocks = f.blocks;
    long failures = 0;
    for (long k = 0; program == NULL; k++, failures++) {
        f.until = k;
        const pgr_status status = pgr_program_build(tape, start, 1 + COUNT, outputs, 0, NULL, 1, NULL, &program, NULL);
        CHECK(status == (program == NULL ? PGR_ERR_NOMEM : PGR_OK));
        CHECK(program != NULL || f.blocks == blocks);
    }
    CHECK(program->packs != NULL && failures > 30);
    f.until = 1 << 30;
    pgr_program_free(program);
    CHECK_EQ(f.blocks, blocks);
    pgr_tape_free(tape);
    CHECK_EQ(f.blocks, 0);
}

/* A program from a file may name one list of terms many times: packs of it would take more memory than the file. */
static void shared_terms_make_no_packs(void)
{
    made *const m = malloc(sizeof *m);
    pgr_output outputs[REGISTERS];
    start_program(m, 200, 40);
    for (uint32_t t = 0; t < 64; t++)
        m->args[m->parts.arg_count++] = CONSTANTS + t;
    for (uint32_t k = 0; k < 40; k++) {
        m->dots[m->parts.dot_count] = (pgr_program_dot){0, 32};
        add(m, PGR_PROGRAM_DOT, CONSTANTS + INPUTS + k, PGR_REGISTER_NONE, m->parts.dot_count++);
        m->is_set[CONSTANTS + INPUTS + k] = true;
    }
    end_segment(m, 0, UINT32_MAX);
    uint32_t count;
    pgr_program *const program = finish(m, outputs, &count);
    CHECK(program != NULL && program->packs == NULL);
    pgr_program_free(program);
    free(m);
}

int main(void)
{
    TEST(narrow_programs_are_exact);
    TEST(wide_programs_are_exact);
    TEST(every_operation_of_the_table_has_packs);
    TEST(sums_are_within_their_bound_in_any_order);
    TEST(every_failed_allocation_is_reported);
    TEST(shared_terms_make_no_packs);
    return check_report();
}
