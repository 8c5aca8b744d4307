/* verify.c: the verifier.
 *
 * Parts may come from an untrusted file, so every index is checked before a program is made. Running it then accesses
 * its registers and the arrays that it is given, and nothing else, and reads no register before it is written. */
#include "tape/tape.h"
#include "program/program.h"

#include <string.h>

typedef struct {
    const pgr_program_parts *p;
    size_t in_count, out_count;
    const uint64_t *in_sizes, *out_sizes; /* NULL: of any length */
    const pgr_segment *segment;
    uint8_t *uniform_set, *lane_set; /* registers that have been written: only these may be read */
    uint8_t *stored;                 /* outputs that lanes have been stored to */
} check;

/* Whether offset + (count - 1) * stride < size; count > 0. */
static bool reaches(uint64_t offset, uint64_t count, uint64_t stride, uint64_t size)
{
    return offset < size && (count == 1 || stride == 0 || (count - 1) <= (size - 1 - offset) / stride);
}

static uint64_t size_of(const uint64_t *sizes, uint32_t array) { return sizes == NULL ? UINT64_MAX : sizes[array]; }

/* Whether a register may be read; is_lane_place, whether it may be written. */
static bool has_uniform(const check *c, uint32_t reg)
{
    return reg < c->p->uniform_registers && c->uniform_set[reg];
}
static bool is_lane_place(const check *c, uint32_t reg)
{
    return (reg & REGISTER_LANE) != 0 && (reg & ~REGISTER_LANE) < c->p->lane_registers;
}
static bool has_lane(const check *c, uint32_t reg)
{
    return is_lane_place(c, reg) && c->lane_set[reg & ~REGISTER_LANE];
}
static bool has_any(const check *c, uint32_t reg) { return has_uniform(c, reg) || has_lane(c, reg); }

static bool set_out(check *c, uint32_t reg, bool lanes)
{
    if (lanes ? !is_lane_place(c, reg) : reg >= c->p->uniform_registers)
        return false;
    *(lanes ? &c->lane_set[reg & ~REGISTER_LANE] : &c->uniform_set[reg]) = 1;
    return true;
}

/* Whether an instruction is an operation of the table with its number of operands. */
static bool is_operation(const check *c, const pgr_instruction *i, bool lanes)
{
    const pgr_op_info *const row = i->op >= PGR_OP_FIRST ? pgr_op_row((int)i->op) : NULL;
    if (row == NULL)
        return false;
    const bool has_b = row->kind == PGR_KIND_BINARY || row->kind == PGR_KIND_PARAM;
    if (!has_b && i->b != REGISTER_NONE)
        return false;
    if (!lanes)
        return has_uniform(c, i->a) && (!has_b || has_uniform(c, i->b));
    return has_any(c, i->a) && (!has_b || has_any(c, i->b)) && (has_lane(c, i->a) || (has_b && has_lane(c, i->b)));
}

static bool is_dot(const check *c, const pgr_instruction *i, bool lanes)
{
    if (!(i->a == REGISTER_NONE || has_uniform(c, i->a) || (lanes && has_lane(c, i->a))) || i->b >= c->p->dot_count)
        return false;
    const pgr_program_dot dot = c->p->dots[i->b];
    if (dot.first > c->p->arg_count || dot.count > (c->p->arg_count - dot.first) / 2)
        return false;
    for (uint32_t k = 0; k < dot.count; k++) {
        const uint32_t s = c->p->args[dot.first + 2 * k], t = c->p->args[dot.first + 2 * k + 1];
        if (has_uniform(c, s) ? !(t == REGISTER_NONE || has_uniform(c, t) || (lanes && has_lane(c, t)))
                              : !(lanes && has_lane(c, s) && (t == REGISTER_NONE || has_lane(c, t))))
            return false;
    }
    return true;
}

/* ---- Calls ----------------------------------------------------------------------------------------- */

/* The numbers that a program reads from in[0], and writes to out[0]; the second one of a loop is its test. */
static uint64_t read_by(const pgr_call *call, uint32_t i)
{
    const uint64_t state = (uint64_t)call->const_count + ((call->flags & PGR_CALL_SWITCH) != 0 ? 0 : call->carry_count);
    return state + (i == 0 && (call->flags & PGR_CALL_SWITCH) == 0 ? call->x_count : 0);
}
static uint64_t written_by(const pgr_call *call, uint32_t i)
{
    if ((call->flags & PGR_CALL_SWITCH) != 0)
        return call->carry_count;
    return i == 0 ? (uint64_t)call->carry_count + call->y_count : 1;
}

/* Whether a program runs on a block of lanes: see pgr_inner. */
static bool takes_lanes(const pgr_program *p, uint64_t in, uint64_t out)
{
    if (p->group_count != 1 || p->output_count != out || p->memory_count != 0)
        return false;
    for (uint32_t k = 0; k < p->output_count; k++)
        if (p->outputs[k].node != REGISTER_LANE || p->outputs[k].array != k + 1 || p->outputs[k].offset != 0 ||
            p->outputs[k].stride != 1)
            return false;
    for (uint32_t k = 0; k < p->group_first_input[1]; k++)
        if (p->lane_inputs[k].array == 0 || p->lane_inputs[k].array > in || p->lane_inputs[k].offset != 0 ||
            p->lane_inputs[k].stride != 1)
            return false;
    for (uint32_t k = 0; k < p->input_count; k++)
        if (p->inputs[k].array != 0 || !reaches(p->inputs[k].offset, p->inputs[k].count, 1, in))
            return false;
    for (uint32_t k = 0; k < p->segment_count; k++)
        if (p->segments[k].sum_count != 0)
            return false;
    return true;
}

/* Whether program i of a call may be run by it. What else the program does was checked when it was made. */
static bool is_callable(const check *c, const pgr_call *call, uint32_t i, bool lanes)
{
    const pgr_program *const called = c->p->programs[call->first_program + i];
    const uint64_t in = read_by(call, i), out = written_by(call, i);
    if (lanes)
        return takes_lanes(called, in, out);
    uint64_t sizes[1 + PGR_MAX_MEMORY] = {in};
    for (uint32_t j = 0; j < call->memory_count; j++) {
        const pgr_lane_input m = c->p->memory[call->first_memory + j];
        if (m.array >= c->in_count || call->steps == 0 ||
            !reaches(m.offset, call->steps, m.stride, size_of(c->in_sizes, m.array)))
            return false;
        sizes[1 + j] = size_of(c->in_sizes, m.array) - m.offset - (call->steps - 1) * m.stride;
    }
    for (uint32_t j = 0; j <= PGR_MAX_MEMORY; j++)
        if (called->reads[j] > sizes[j])
            return false;
    return called->writes <= out;
}

static bool is_consistent(const check *c, const pgr_call *call, bool lanes)
{
    const bool is_switch = (call->flags & PGR_CALL_SWITCH) != 0, is_tested = (call->flags & PGR_CALL_TESTED) != 0;
    if (call->flags >= 2 * PGR_CALL_SWITCH || call->first_program > c->p->program_count || call->program_count == 0 ||
        call->program_count > c->p->program_count - call->first_program || call->memory_count > PGR_MAX_MEMORY ||
        call->first_memory > c->p->memory_count || call->memory_count > c->p->memory_count - call->first_memory ||
        (lanes && call->memory_count > 0))
        return false;
    if (is_switch)
        return call->flags == PGR_CALL_SWITCH && call->x_count == 0 && call->y_count == 0 && call->steps == 1;
    return call->program_count == 1 + (uint32_t)is_tested &&
           !(is_tested && (call->flags & (PGR_CALL_REVERSED | PGR_CALL_COUNTED)) != 0);
}

static bool is_call(check *c, const pgr_instruction *i, bool lanes)
{
    if (i->a >= c->p->call_count)
        return false;
    const pgr_call *const call = &c->p->calls[i->a];
    const uint64_t operands = program_operands_of(call), results = program_results_of(call);
    if (!is_consistent(c, call, lanes) || i->b > c->p->arg_count || operands > c->p->arg_count - i->b ||
        i->out > c->p->arg_count || results > c->p->arg_count - i->out)
        return false;
    bool has_lanes = false;
    for (uint64_t k = 0; k < operands; k++) {
        const uint32_t reg = c->p->args[i->b + k];
        if (!(lanes ? has_any(c, reg) : has_uniform(c, reg)))
            return false;
        has_lanes |= (reg & REGISTER_LANE) != 0;
    }
    if (lanes && !has_lanes)
        return false;
    for (uint32_t k = 0; k < call->program_count; k++)
        if (!is_callable(c, call, k, lanes))
            return false;
    for (uint64_t k = 0; k < results; k++)
        if (c->p->args[i->out + k] != REGISTER_NONE && !set_out(c, c->p->args[i->out + k], lanes))
            return false;
    return true;
}

/* ---- Segments -------------------------------------------------------------------------------------- */

static bool is_uniform_segment(check *c)
{
    const pgr_instruction *const end = c->p->instructions + c->segment->first + c->segment->count;
    for (const pgr_instruction *i = c->p->instructions + c->segment->first; i < end; i++) {
        if (i->op == PROGRAM_RUN) {
            const uint32_t count = i->a;
            if (count == 0 || count >= (size_t)(end - i))
                return false;
            for (uint32_t k = 1; k <= count; k++) /* all read before any writes */
                if (i[k].op != i[1].op || !is_operation(c, &i[k], false))
                    return false;
            for (uint32_t k = 1; k <= count; k++)
                if (!set_out(c, i[k].out, false))
                    return false;
            i += count;
        } else if (i->op == PROGRAM_CALL) {
            if (!is_call(c, i, false))
                return false;
        } else if (!(i->op == PROGRAM_DOT ? is_dot(c, i, false) : is_operation(c, i, false)) ||
                   !set_out(c, i->out, false)) {
            return false;
        }
    }
    return true;
}

static bool is_sum(const check *c, uint32_t reg) { return reg - c->segment->first_sum < c->segment->sum_count; }

static bool is_lane_instruction(check *c, const pgr_instruction *i)
{
    const pgr_program_parts *const p = c->p;
    const uint32_t group = c->segment->group;
    switch (i->op) {
    case PROGRAM_LOAD:
        return i->a < p->group_first_input[group + 1] - p->group_first_input[group] && set_out(c, i->out, true);
    case PROGRAM_STORE: {
        if (!has_lane(c, i->a) || i->b >= p->output_count || p->outputs[i->b].node != REGISTER_LANE)
            return false;
        const pgr_output o = p->outputs[i->b];
        c->stored[i->b] = 1;
        return reaches(o.offset, p->group_lanes[group], o.stride, size_of(c->out_sizes, o.array));
    }
    case PROGRAM_LANE_SUM:
        return has_any(c, i->a) && is_sum(c, i->out);
    case PROGRAM_LANE_DOT:
        return has_any(c, i->a) && has_any(c, i->b) && is_sum(c, i->out);
    case PROGRAM_CALL:
        return is_call(c, i, true);
    case PROGRAM_DOT:
        return is_dot(c, i, true) && set_out(c, i->out, true);
    default:
        return is_operation(c, i, true) && set_out(c, i->out, true);
    }
}

static bool are_segments(check *c)
{
    const pgr_program_parts *const p = c->p;
    uint32_t next = 0;
    for (uint32_t k = 0; k < p->segment_count; k++) {
        const pgr_segment *const s = c->segment = &p->segments[k];
        if (s->first != next || s->count > p->instruction_count - next || s->first_sum > p->uniform_registers ||
            s->sum_count > p->uniform_registers - s->first_sum)
            return false;
        next += s->count;
        if (s->group == UINT32_MAX) {
            if (!is_uniform_segment(c))
                return false;
            continue;
        }
        if (s->group >= p->group_count)
            return false;
        memset(c->lane_set, 0, p->lane_registers);
        for (uint32_t i = 0; i < s->count; i++)
            if (!is_lane_instruction(c, &p->instructions[s->first + i]))
                return false;
        memset(c->uniform_set + s->first_sum, 1, s->sum_count);
    }
    for (uint32_t k = 0; k < p->output_count; k++)
        if (p->outputs[k].node == REGISTER_LANE ? !c->stored[k] : !has_uniform(c, p->outputs[k].node))
            return false;
    return next == p->instruction_count;
}

/* Lanes of stride 0 can be this many; with more, the arithmetic of blocks and spans would wrap. */
static const uint64_t MOST_LANES = (uint64_t)1 << 48;

static bool are_ends(const check *c)
{
    const pgr_program_parts *const p = c->p;
    for (uint32_t k = 0; k < p->input_count; k++) {
        const pgr_uniform_input i = p->inputs[k];
        if (i.array >= c->in_count || i.count == 0 || !reaches(i.offset, i.count, 1, size_of(c->in_sizes, i.array)) ||
            i.reg >= p->uniform_registers || i.count > p->uniform_registers - i.reg)
            return false;
        memset(c->uniform_set + i.reg, 1, (size_t)i.count);
    }
    memset(c->uniform_set, 1, p->constant_count);
    for (uint32_t k = 0; k < p->output_count; k++) {
        const pgr_output o = p->outputs[k];
        if (o.array >= c->out_count || o.offset >= size_of(c->out_sizes, o.array))
            return false;
    }
    if (p->group_count >= UINT16_MAX || p->group_first_input[0] != 0 ||
        p->group_first_input[p->group_count] != p->lane_input_count)
        return false;
    for (uint32_t g = 0; g < p->group_count; g++) {
        const uint32_t first = p->group_first_input[g], end = p->group_first_input[g + 1];
        if (first > end || p->group_lanes[g] == 0 || p->group_lanes[g] > MOST_LANES)
            return false;
        for (uint32_t k = first; k < end && k < p->lane_input_count; k++) {
            const pgr_lane_input i = p->lane_inputs[k];
            if (i.array >= c->in_count ||
                !reaches(i.offset, p->group_lanes[g], i.stride, size_of(c->in_sizes, i.array)))
                return false;
        }
    }
    return true;
}

/* Registers are no more than constants, inputs, instructions and their arguments can fill, so that a file can't demand
 * more memory than its own size and the arrays' account for. */
static bool are_counts(const pgr_program_parts *p)
{
    const uint64_t by_calls = p->call_count == 0 ? 0 : p->arg_count;
    uint64_t filled = p->constant_count + p->instruction_count + by_calls;
    for (uint32_t k = 0; k < p->input_count; k++) {
        if (p->inputs[k].count > UINT32_MAX)
            return false;
        filled += p->inputs[k].count;
    }
    return p->constant_count <= p->uniform_registers && p->uniform_registers <= filled &&
           p->uniform_registers < REGISTER_NONE && p->lane_registers <= p->instruction_count + by_calls &&
           p->block >= BLOCK_FEWEST && p->block <= BLOCK_MOST && (p->block & (p->block - 1)) == 0 &&
           (p->block == BLOCK_FEWEST || (uint64_t)p->lane_registers * p->block * sizeof(double) <= BLOCK_BYTES);
}

pgr_status program_verify(const pgr_program_parts *parts, size_t in_count, const uint64_t *in_sizes,
                          size_t out_count, const uint64_t *out_sizes)
{
    if (!are_counts(parts))
        return PGR_ERR_PROGRAM;
    const pgr_allocator a = tape_allocator(NULL);
    const size_t flags = (size_t)parts->uniform_registers + parts->lane_registers + parts->output_count + 1;
    uint8_t *const set = a.resize(a.ctx, NULL, flags);
    if (set == NULL)
        return PGR_ERR_NOMEM;
    memset(set, 0, flags);
    check c = {.p = parts, .in_count = in_count, .in_sizes = in_sizes, .out_count = out_count, .out_sizes = out_sizes};
    c.uniform_set = set;
    c.lane_set = c.uniform_set + parts->uniform_registers;
    c.stored = c.lane_set + parts->lane_registers;
    const bool is_program = are_ends(&c) && are_segments(&c);
    a.resize(a.ctx, set, 0);
    return is_program ? PGR_OK : PGR_ERR_PROGRAM;
}

bool program_is_sound(const pgr_program *p)
{
    pgr_program_parts parts;
    pgr_program_to_parts(p, &parts);
    return program_verify(&parts, SIZE_MAX, NULL, SIZE_MAX, NULL) != PGR_ERR_PROGRAM;
}
