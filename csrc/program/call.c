/* call.c: runs calls of programs by instructions: loops and switches, once, or for the lanes of a block.
 *
 * A called program's constants and the loop's are loaded once, and the carried numbers stay in memory of the call. */
#include "program/call.h"

#include <math.h>

static const pgr_program *program_of(const pgr_program *p, const call *c, uint32_t i)
{
    return p->programs[c->first_program + i];
}

/* Takes memory, in whole multiples of ALIGN. */
static double *take(double **memory, size_t numbers)
{
    double *const taken = *memory;
    *memory += whole(numbers);
    return taken;
}

/* ---- Once ------------------------------------------------------------------------------------------- */

/* An evaluation of a called program, with its constants. */
static void begin(evaluation *e, evaluation *caller, const pgr_program *p, const double *const *in, double *const *out,
                  double **memory)
{
    const frame f = frame_of(p);
    e->in = in;
    e->out = out;
    e->options = NULL;
    e->root = caller->root;
    e->is_worker = caller->is_worker;
    e->is_shared = false;
    e->kernels = caller->kernels;
    e->work = 0;
    e->stopped = 0;
    evaluation_place(e, p, &f, 1, take(memory, f.numbers));
    pgr__load_constants(e);
}

static void evaluate(evaluation *e, uint64_t first)
{
    pgr__load_inputs(e, first);
    pgr__run_segments(e, 1);
    pgr__store_outputs(e);
}

/* A number of steps, or of a program; nan is 0. */
static uint64_t clamped(double x, uint64_t most)
{
    return !(x > 0.0) ? 0 : x >= (double)most ? most : (uint64_t)x;
}

/* Arrays of the caller's, as step t reads them. */
static void move_memory(const evaluation *e, const call *c, uint64_t t, const double **arrays)
{
    for (uint32_t j = 0; j < c->memory_count; j++) {
        const pgr_lane_input m = e->program->memory[c->first_memory + j];
        arrays[1 + j] = e->in[m.array] + m.offset + t * m.stride;
    }
}

static void write_results(double *u, const uint32_t *results, size_t count, const double *from)
{
    for (size_t k = 0; k < count; k++)
        if (results[k] != REGISTER_NONE)
            u[results[k]] = from[k];
}

static void run_switch(evaluation *e, const call *c, const uint32_t *operands, const uint32_t *results)
{
    double *memory = e->memory, *const u = e->uniform;
    double *const in = take(&memory, call_inputs(c)), *const out = take(&memory, call_outputs(c));
    for (uint32_t k = 0; k < c->const_count; k++)
        in[k] = u[operands[1 + k]];
    const double *arrays[1 + PGR_MAX_MEMORY] = {in};
    double *const written[] = {out};
    move_memory(e, c, 0, arrays);
    const uint32_t chosen = (uint32_t)clamped(u[operands[0]], c->program_count - 1);
    evaluation inner;
    begin(&inner, e, program_of(e->program, c, chosen), arrays, written, &memory);
    memset(out, 0, c->carry_count * sizeof *out);
    evaluate(&inner, 0);
    write_results(u, results, c->carry_count, out);
}

static void run_loop(evaluation *e, const call *c, const uint32_t *operands, const uint32_t *results)
{
    double *memory = e->memory, *const u = e->uniform, goes_on = 0.0;
    const size_t state = (size_t)c->const_count + c->carry_count;
    double *const in = take(&memory, call_inputs(c)), *const out = take(&memory, call_outputs(c));
    const double *arrays[1 + PGR_MAX_MEMORY] = {in};
    double *const written[] = {out}, *const tested[] = {&goes_on};
    const bool is_tested = call_has(c, PGR_CALL_TESTED), is_counted = call_has(c, PGR_CALL_COUNTED);
    const uint32_t *const xs = operands + state + is_counted, *const ys = results + c->carry_count + is_tested;
    evaluation step, test;
    begin(&step, e, program_of(e->program, c, 0), arrays, written, &memory);
    if (is_tested)
        begin(&test, e, program_of(e->program, c, 1), arrays, tested, &memory);
    memset(out, 0, call_outputs(c) * sizeof *out);
    for (size_t k = 0; k < state; k++)
        in[k] = u[operands[k]];
    const uint64_t count = is_counted ? clamped(u[operands[state]], c->steps) : c->steps;
    for (uint64_t k = 0; (is_tested || is_counted) && k < c->steps * c->y_count; k++)
        if (ys[k] != REGISTER_NONE)
            u[ys[k]] = 0.0;
    uint64_t taken = 0;
    for (; taken < count; taken++) {
        const uint64_t t = call_has(c, PGR_CALL_REVERSED) ? count - 1 - taken : taken;
        move_memory(e, c, t, arrays);
        if (is_tested) {
            evaluate(&test, taken == 0 ? 0 : c->const_count);
            if (goes_on == 0.0)
                break;
        }
        for (uint32_t k = 0; k < c->x_count; k++)
            in[state + k] = u[xs[t * c->x_count + k]];
        evaluate(&step, taken == 0 ? 0 : c->const_count);
        copy_numbers(in + c->const_count, out, c->carry_count);
        if (c->y_count > 0)
            write_results(u, ys + t * c->y_count, c->y_count, out + c->carry_count);
        if (is_stopped(e, step.program->instruction_count + 1))
            break;
    }
    write_results(u, results, c->carry_count, in + c->const_count);
    if (is_tested && results[c->carry_count] != REGISTER_NONE)
        u[results[c->carry_count]] = (double)taken;
}

void pgr__run_call(evaluation *e, const instruction *i)
{
    const pgr_program *const p = e->program;
    const call *const c = &p->calls[i->a];
    (call_has(c, PGR_CALL_SWITCH) ? run_switch : run_loop)(e, c, p->args + i->b, p->args + i->out);
}

/* ---- For the lanes of a block ----------------------------------------------------------------------- */

/* A call for lanes `from` up to from + count of a block. */
typedef struct {
    const block *b;
    const call *call;
    const uint32_t *operands, *results;
    size_t from, count;
    double *numbers;       /* in[0] of the programs .. */
    const double **in;     /* .. and their arrays */
    double **out;
    double *unwanted;      /* a row for results that nobody wants */
    double *memory;
} lane_call;

static double *row_of(const lane_call *l, uint32_t reg)
{
    return l->b->lanes + (size_t)(reg & ~REGISTER_LANE) * l->b->stride + l->from;
}

/* An operand's lanes: a lane register, or memory filled with a uniform register's number. */
static const double *lanes_of(lane_call *l, uint32_t reg, double *filled)
{
    if ((reg & REGISTER_LANE) != 0)
        return row_of(l, reg);
    for (size_t k = 0; k < l->count; k++)
        filled[k] = l->b->uniform[reg];
    return filled;
}

static double *result_row(const lane_call *l, uint32_t reg)
{
    return reg == REGISTER_NONE ? l->unwanted : row_of(l, reg);
}

/* Whether a program reads input k as a lane, not as a number of in[0]. */
static bool reads_lane(const pgr_program *p, size_t k)
{
    for (uint32_t i = 0; i < p->group_first_input[1]; i++)
        if (p->lane_inputs[i].array == k + 1)
            return true;
    return false;
}

/* Gives input k of the programs an operand: its number, or its lanes, which `filled` gets if it has none. */
static void set_input(lane_call *l, size_t k, uint32_t reg, double *filled)
{
    if ((reg & REGISTER_LANE) == 0)
        l->numbers[k] = l->b->uniform[reg];
    l->in[1 + k] = filled != NULL || (reg & REGISTER_LANE) != 0 ? lanes_of(l, reg, filled) : NULL;
}

/* A row for each input that some program reads as a lane and some operand may not be. */
static double *row_for(lane_call *l, size_t k)
{
    for (uint32_t i = 0; i < l->call->program_count; i++)
        if (reads_lane(program_of(l->b->program, l->call, i), k))
            return take(&l->memory, ROW);
    return NULL;
}

/* A program on the lanes. What is the same in all of them is computed once, here. */
static block begin_lanes(lane_call *l, const pgr_program *p, const double *const *in, double *const *out)
{
    evaluation *const caller = l->b->evaluation;
    evaluation e = {.program = p, .in = in, .out = out, .root = caller->root, .kernels = caller->kernels};
    e.is_worker = !l->b->is_caller || caller->is_worker;
    e.uniform = take(&l->memory, p->numbers);
    e.memory = take(&l->memory, p->call_numbers);
    block inner = {.program = p, .in = in, .out = out, .uniform = e.uniform, .stride = ROW, .evaluation = caller};
    inner.is_caller = l->b->is_caller;
    inner.count = l->count;
    inner.padded = (l->count + LANE_CHUNK - 1) / LANE_CHUNK * LANE_CHUNK;
    inner.lanes = take(&l->memory, (size_t)p->lane_registers * ROW);
    inner.spare = take(&l->memory, (size_t)SPARE_BLOCKS * ROW);
    inner.memory = take(&l->memory, p->lane_call_numbers);
    pgr__load_constants(&e);
    pgr__load_inputs(&e, 0);
    for (uint32_t s = 0; s < p->segment_count; s++)
        if (p->segments[s].group == UINT32_MAX)
            pgr__run_uniform(&e, &p->segments[s]);
    return inner;
}

static void run_lanes(block *inner)
{
    const pgr_program *const p = inner->program;
    for (uint32_t s = 0; s < p->segment_count; s++)
        if (p->segments[s].group != UINT32_MAX) {
            inner->segment = &p->segments[s];
            inner->evaluation->kernels.run_block(inner);
        }
}

static void switch_lanes(lane_call *l)
{
    const call *const c = l->call;
    double *const filled = take(&l->memory, ROW);
    const double *const index = lanes_of(l, l->operands[0], filled);
    for (size_t k = 0; k < c->const_count; k++)
        set_input(l, k, l->operands[1 + k], row_for(l, k));
    double *const made = take(&l->memory, (size_t)c->carry_count * ROW);
    for (size_t k = 0; k < c->carry_count; k++)
        l->out[1 + k] = made + k * ROW;
    for (uint32_t q = 0; q < c->program_count; q++) {
        bool is_chosen = false;
        for (size_t n = 0; n < l->count; n++)
            is_chosen |= clamped(index[n], c->program_count - 1) == q;
        if (!is_chosen)
            continue;
        lane_call now = *l; /* programs share memory */
        block inner = begin_lanes(&now, program_of(l->b->program, c, q), l->in, l->out);
        run_lanes(&inner);
        for (size_t k = 0; k < c->carry_count; k++) {
            double *const result = result_row(l, l->results[k]);
            for (size_t n = 0; n < l->count; n++)
                if (clamped(index[n], c->program_count - 1) == q)
                    result[n] = made[k * ROW + n];
        }
    }
}

/* Which lanes take the next step. */
typedef struct {
    double *active, *taken, *goes_on;
    const double *count;
    bool is_partial; /* some lanes may not */
} mask;

static void begin_mask(lane_call *l, mask *m)
{
    const call *const c = l->call;
    m->active = take(&l->memory, ROW);
    m->taken = take(&l->memory, ROW);
    m->goes_on = take(&l->memory, ROW);
    m->is_partial = call_has(c, PGR_CALL_TESTED) || call_has(c, PGR_CALL_COUNTED);
    if (call_has(c, PGR_CALL_COUNTED))
        m->count = lanes_of(l, l->operands[(size_t)c->const_count + c->carry_count], m->goes_on);
    for (size_t n = 0; n < l->count; n++) {
        m->active[n] = 1.0;
        m->taken[n] = 0.0;
    }
}

/* After the test, or before step t of counted ones. False if no lane goes on. */
static bool update(const lane_call *l, mask *m, uint64_t t)
{
    bool any = false;
    for (size_t n = 0; n < l->count; n++) {
        if (m->count != NULL)
            m->active[n] = t < clamped(m->count[n], l->call->steps) ? 1.0 : 0.0;
        else if (m->goes_on[n] == 0.0)
            m->active[n] = 0.0;
        m->taken[n] += m->active[n];
        any |= m->active[n] != 0.0;
    }
    return any;
}

static uint64_t most_steps(const lane_call *l, const mask *m)
{
    uint64_t most = 0;
    if (m->count == NULL)
        return l->call->steps;
    for (size_t n = 0; n < l->count; n++) {
        const uint64_t count = clamped(m->count[n], l->call->steps);
        most = count > most ? count : most;
    }
    return most;
}

/* Where a lane takes no step, its state stays, and its results are 0. */
static void keep(const lane_call *l, const mask *m, const double *const *before, double *const *after,
                 double *const *ys)
{
    for (size_t n = 0; n < l->count; n++) {
        if (m->active[n] != 0.0)
            continue;
        for (uint32_t k = 0; k < l->call->carry_count; k++)
            after[k][n] = before[k][n];
        for (uint32_t k = 0; k < l->call->y_count; k++)
            ys[k][n] = 0.0;
    }
}

static void set_steps_inputs(lane_call *l, uint64_t t, double *const *filled)
{
    const call *const c = l->call;
    const size_t state = (size_t)c->const_count + c->carry_count;
    const uint32_t *const xs = l->operands + state + call_has(c, PGR_CALL_COUNTED);
    for (uint32_t k = 0; k < c->x_count; k++)
        set_input(l, state + k, xs[t * c->x_count + k], filled[k]);
}

static void copy_row(const lane_call *l, uint32_t reg, const double *from)
{
    if (reg != REGISTER_NONE)
        memcpy(row_of(l, reg), from, l->count * sizeof *from);
}

static void loop_lanes(lane_call *l)
{
    const call *const c = l->call;
    const pgr_program *const p = l->b->program;
    const size_t state = (size_t)c->const_count + c->carry_count;
    const bool is_tested = call_has(c, PGR_CALL_TESTED);
    const uint32_t *const ys = l->results + c->carry_count + is_tested;
    mask m = {0};
    begin_mask(l, &m);
    double **const filled = (double **)take(&l->memory, pointers(c->x_count));
    for (uint32_t k = 0; k < c->x_count; k++)
        filled[k] = row_for(l, state + k);
    for (size_t k = 0; k < state; k++) /* carried numbers are lanes, even if no step reads them */
        set_input(l, k, l->operands[k], k < c->const_count ? row_for(l, k) : take(&l->memory, ROW));
    double *next = take(&l->memory, (size_t)c->carry_count * ROW);
    double *other = take(&l->memory, (size_t)c->carry_count * ROW);
    block step = begin_lanes(l, program_of(p, c, 0), l->in, l->out), test;
    double *tested[2] = {NULL, m.goes_on};
    if (is_tested)
        test = begin_lanes(l, program_of(p, c, 1), l->in, tested);
    for (uint64_t k = 0; m.is_partial && k < c->steps * c->y_count; k++)
        memset(result_row(l, ys[k]), 0, l->count * sizeof(double));
    const uint64_t count = most_steps(l, &m);
    for (uint64_t taken = 0; taken < count; taken++) {
        const uint64_t t = call_has(c, PGR_CALL_REVERSED) ? count - 1 - taken : taken;
        if (is_tested)
            run_lanes(&test);
        if (m.is_partial && !update(l, &m, t))
            break;
        set_steps_inputs(l, t, filled);
        for (uint32_t k = 0; k < c->carry_count; k++)
            l->out[1 + k] = next + (size_t)k * ROW;
        for (uint32_t k = 0; k < c->y_count; k++)
            l->out[1 + c->carry_count + k] = result_row(l, ys[t * c->y_count + k]);
        run_lanes(&step);
        if (m.is_partial)
            keep(l, &m, l->in + 1 + c->const_count, l->out + 1, l->out + 1 + c->carry_count);
        for (uint32_t k = 0; k < c->carry_count; k++)
            l->in[1 + c->const_count + k] = next + (size_t)k * ROW;
        double *const swap = next;
        next = other;
        other = swap;
        if (block_is_stopped(l->b, (step.program->instruction_count + 1) * (uint64_t)l->count))
            break;
    }
    for (uint32_t k = 0; k < c->carry_count; k++)
        copy_row(l, l->results[k], l->in[1 + c->const_count + k]);
    if (is_tested)
        copy_row(l, l->results[c->carry_count], m.taken);
}

/* The fewest lanes that all of a call's programs take at once. */
static size_t lanes_at_once(const pgr_program *p, const call *c)
{
    size_t fewest = BLOCK_USUAL;
    for (uint32_t i = 0; i < c->program_count; i++)
        fewest = program_of(p, c, i)->block < fewest ? program_of(p, c, i)->block : fewest;
    return fewest;
}

void pgr__run_lane_call(const block *b, const instruction *i)
{
    const pgr_program *const p = b->program;
    const call *const c = &p->calls[i->a];
    const size_t at_once = lanes_at_once(p, c);
    for (size_t from = 0; from < b->count; from += at_once) {
        lane_call l = {.b = b, .call = c, .operands = p->args + i->b, .results = p->args + i->out, .from = from};
        l.count = b->count - from < at_once ? b->count - from : at_once;
        l.memory = b->memory;
        l.numbers = take(&l.memory, call_inputs(c));
        l.in = (const double **)take(&l.memory, pointers(1 + call_inputs(c)));
        l.out = (double **)take(&l.memory, pointers(1 + call_outputs(c)));
        l.unwanted = take(&l.memory, ROW);
        l.in[0] = l.numbers;
        l.out[0] = NULL;
        memset(l.numbers, 0, call_inputs(c) * sizeof *l.numbers);
        (call_has(c, PGR_CALL_SWITCH) ? switch_lanes : loop_lanes)(&l);
    }
    const uint64_t results = program_results_of(c);
    for (uint64_t k = 0; k < results; k++) /* padding, with harmless numbers */
        for (size_t n = b->count; p->args[i->out + k] != REGISTER_NONE && n < b->padded; n++) {
            double *const row = b->lanes + (size_t)(p->args[i->out + k] & ~REGISTER_LANE) * b->stride;
            row[n] = row[b->count - 1];
        }
}
