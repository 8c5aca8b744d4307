/* program.c: a program's parts, for listings and files, and the verifier.
 *
 * Parts may come from an untrusted file, so every index is checked before a program is made. Running it then accesses
 * its registers and the arrays that it is given, and nothing else, and reads no register before it is written. */
#include "tape/tape.h"
#include "program/program.h"

/* Files hold these as they are in memory: another layout needs another magic line in pygrad/_program/files.py. */
_Static_assert(sizeof(pgr_instruction) == 16 && sizeof(pgr_program_dot) == 8 && sizeof(pgr_segment) == 20, "layout");
_Static_assert(sizeof(pgr_uniform_input) == 24 && sizeof(pgr_output) == 24, "layout");
_Static_assert(_Alignof(uint64_t) != 8 || sizeof(pgr_lane_input) == 24, "layout");

#include <string.h>

void program_join_outputs(pgr_program *p)
{
    uint32_t registers = 0;
    for (uint32_t i = 0; i < p->output_count; i++) {
        const pgr_output o = p->outputs[i];
        if (o.node == REGISTER_LANE)
            continue;
        uniform_output *const before = p->output_run_count == 0 ? NULL : &p->output_runs[p->output_run_count - 1];
        if (before != NULL && before->array == o.array && before->offset + before->count == o.offset)
            before->count++;
        else
            p->output_runs[p->output_run_count++] = (uniform_output){o.array, o.offset, 1};
        p->output_registers[registers++] = o.node;
    }
}

void pgr_program_free(pgr_program *program)
{
    if (program == NULL)
        return;
    const pgr_allocator a = program->allocator;
    void *const arrays[] = {program->instructions, program->args, program->dots, program->segments, program->constants,
                            program->inputs, program->outputs, program->lane_inputs, program->group_first_input,
                            program->group_lanes, program->captures, program->held_captures, program->lines,
                            program->output_registers, program->output_runs};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        a.resize(a.ctx, arrays[i], 0);
    a.resize(a.ctx, program, 0);
}

size_t pgr_program_captures(const pgr_program *program, const pgr_id **ids)
{
    *ids = program->captures;
    return program->capture_count;
}

size_t pgr_h_program_captures(const pgr_program *program, const pgr_handle **handles)
{
    *handles = program->held_captures;
    return program->held_captures == NULL ? 0 : program->capture_count;
}

const uint32_t *pgr_program_lines(const pgr_program *program) { return program->lines; }

pgr_program_stats pgr_program_stat(const pgr_program *program)
{
    const pgr_program *const p = program;
    return (pgr_program_stats){
        .instructions = p->instruction_count,
        .dots = p->dot_count,
        .segments = p->segment_count,
        .uniform_registers = p->uniform_registers,
        .lane_registers = p->lane_registers,
        .constants = p->constant_count,
        .nodes = p->nodes,
        .block = p->lane_registers == 0 ? 0 : p->block,
        .bytes = sizeof *p + p->instruction_count * sizeof *p->instructions + p->arg_count * sizeof *p->args +
                 p->dot_count * sizeof *p->dots + p->segment_count * sizeof *p->segments,
    };
}

void pgr_program_to_parts(const pgr_program *program, pgr_program_parts *parts)
{
    const pgr_program *const p = program;
    *parts = (pgr_program_parts){
        .instruction_count = p->instruction_count,
        .arg_count = p->arg_count,
        .dot_count = p->dot_count,
        .segment_count = p->segment_count,
        .constant_count = p->constant_count,
        .input_count = p->input_count,
        .output_count = p->output_count,
        .lane_input_count = p->group_first_input[p->group_count],
        .group_count = p->group_count,
        .uniform_registers = p->uniform_registers,
        .lane_registers = p->lane_registers,
        .block = p->block,
        .nodes = p->nodes,
        .instructions = p->instructions,
        .args = p->args,
        .dots = p->dots,
        .segments = p->segments,
        .constants = p->constants,
        .inputs = p->inputs,
        .outputs = p->outputs,
        .lane_inputs = p->lane_inputs,
        .group_first_input = p->group_first_input,
        .group_lanes = p->group_lanes,
    };
}

/* ---- The verifier ----------------------------------------------------------------------------------- */

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
        memset(c->uniform_set + i.reg, 1, i.count);
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

/* Registers are no more than constants, inputs and instructions can fill, so that a file can't demand more memory than
 * its own size and the arrays' account for. */
static bool are_counts(const pgr_program_parts *p)
{
    uint64_t filled = p->constant_count + (uint64_t)p->instruction_count;
    for (uint32_t k = 0; k < p->input_count; k++) {
        if (p->inputs[k].count > UINT32_MAX)
            return false;
        filled += p->inputs[k].count;
    }
    return p->constant_count <= p->uniform_registers && p->uniform_registers <= filled &&
           p->uniform_registers < REGISTER_NONE && p->lane_registers <= p->instruction_count &&
           p->block >= BLOCK_FEWEST && p->block <= BLOCK_MOST && (p->block & (p->block - 1)) == 0 &&
           (p->block == BLOCK_FEWEST || (uint64_t)p->lane_registers * p->block * sizeof(double) <= BLOCK_BYTES);
}

static void *copy(const pgr_allocator *a, const void *from, size_t count, size_t size, pgr_status *status)
{
    void *const to = *status == PGR_OK ? a->resize(a->ctx, NULL, (count + 1) * size) : NULL;
    if (to == NULL)
        *status = PGR_ERR_NOMEM;
    else if (count > 0)
        memcpy(to, from, count * size);
    return to;
}

/* PGR_OK if the parts are a program, else PGR_ERR_PROGRAM; PGR_ERR_NOMEM. */
static pgr_status verify(const pgr_program_parts *parts, size_t in_count, const uint64_t *in_sizes, size_t out_count,
                         const uint64_t *out_sizes)
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
    return verify(&parts, SIZE_MAX, NULL, SIZE_MAX, NULL) != PGR_ERR_PROGRAM;
}

pgr_status pgr_program_from_parts(const pgr_program_parts *parts, size_t in_count, const uint64_t *in_sizes,
                                  size_t out_count, const uint64_t *out_sizes, pgr_program **out)
{
    pgr_status status = verify(parts, in_count, in_sizes, out_count, out_sizes);
    if (status != PGR_OK)
        return status;
    const pgr_allocator a = tape_allocator(NULL);
    pgr_program *const p = a.resize(a.ctx, NULL, sizeof *p);
    if (p == NULL)
        return PGR_ERR_NOMEM;
    *p = (pgr_program){
        .allocator = a,
        .instruction_count = parts->instruction_count,
        .arg_count = parts->arg_count,
        .dot_count = parts->dot_count,
        .segment_count = parts->segment_count,
        .constant_count = parts->constant_count,
        .input_count = parts->input_count,
        .output_count = parts->output_count,
        .group_count = parts->group_count,
        .uniform_registers = parts->uniform_registers,
        .lane_registers = parts->lane_registers,
        .block = parts->block,
        .nodes = parts->nodes,
    };
#define COPY(array, count) p->array = copy(&a, parts->array, count, sizeof *p->array, &status)
    COPY(instructions, p->instruction_count);
    COPY(args, p->arg_count);
    COPY(dots, p->dot_count);
    COPY(segments, p->segment_count);
    COPY(constants, p->constant_count);
    COPY(inputs, p->input_count);
    COPY(outputs, p->output_count);
    COPY(lane_inputs, parts->lane_input_count);
    COPY(group_first_input, (size_t)p->group_count + 1);
    COPY(group_lanes, p->group_count);
#undef COPY
    p->output_registers = copy(&a, NULL, 0, (p->output_count + 1) * sizeof *p->output_registers, &status);
    p->output_runs = copy(&a, NULL, 0, (p->output_count + 1) * sizeof *p->output_runs, &status);
    if (status != PGR_OK) {
        pgr_program_free(p);
        return status;
    }
    program_join_outputs(p);
    *out = p;
    return PGR_OK;
}
