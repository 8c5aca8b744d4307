/* emit.c: instruction selection: one instruction for each value that is not fused. */
#include "program/emit.h"

#include "program/fuse.h"

static uint32_t register_of(const builder *b, uint32_t id) { return id == NONE ? REGISTER_NONE : b->values[id].reg; }

/* Writes a dot's operands and returns its number. A segment that recomputes lanes writes them again. */
static uint32_t emit_dot(builder *b, const dot *d)
{
    pgr_program *const p = b->program;
    p->args = grow(b, p->args, p->arg_count, 2 * d->count, sizeof *p->args);
    p->dots = grow(b, p->dots, p->dot_count, 1, sizeof *p->dots);
    if (b->status != PGR_OK)
        return 0;
    p->dots[p->dot_count] = (program_dot){p->arg_count, d->count};
    uint32_t at = d->first;
    for (uint32_t k = 0; k < d->count; k++, at = b->links[at].next) {
        const uint32_t x = register_of(b, b->links[at].a), y = register_of(b, b->links[at].b);
        const bool is_reversed = y != REGISTER_NONE && (x & REGISTER_LANE) != 0 && (y & REGISTER_LANE) == 0;
        p->args[p->arg_count++] = is_reversed ? y : x;
        p->args[p->arg_count++] = is_reversed ? x : y;
    }
    return p->dot_count++;
}

/* Writes the registers of these values and returns where. */
static uint32_t emit_args(builder *b, uint32_t count, const uint32_t *ids)
{
    pgr_program *const p = b->program;
    if (count > 0)
        p->args = grow(b, p->args, p->arg_count, count, sizeof *p->args);
    const uint32_t first = p->arg_count;
    for (uint32_t k = 0; k < count && b->status == PGR_OK; k++)
        p->args[p->arg_count++] = register_of(b, ids[k]);
    return first;
}

static instruction emit_call(builder *b, const value *v)
{
    const call_values *const c = &b->calls[v->a];
    const uint32_t operands = emit_args(b, c->operand_count, c->operands);
    return (instruction){PROGRAM_CALL, emit_args(b, c->result_count, c->results), v->a, operands};
}

instruction program_instruction_of(builder *b, uint32_t id)
{
    const value *const v = &b->values[id];
    if (v->op == PROGRAM_CALL)
        return emit_call(b, v);
    if (v->op == PGR_OP_LANE)
        return (instruction){PROGRAM_LOAD, v->reg, v->a, 0};
    if (v->dot != NONE) {
        const dot *const d = &b->dots[v->dot];
        if (d->count == 1 && d->products == 0)
            return (instruction){PGR_OP_ADD, v->reg, register_of(b, v->a), register_of(b, v->b)};
        return (instruction){PROGRAM_DOT, v->reg, register_of(b, d->init), emit_dot(b, d)};
    }
    if (v->op != PGR_OP_LANE_SUM)
        return (instruction){v->op, v->reg, register_of(b, v->a), register_of(b, v->b)};
    const value *const summed = &b->values[v->a];
    if (is_lane_dot(b, v))
        return (instruction){PROGRAM_LANE_DOT, v->reg, register_of(b, summed->a), register_of(b, summed->b)};
    return (instruction){PROGRAM_LANE_SUM, v->reg, summed->reg, 0};
}

void program_emit(builder *b, instruction made, uint32_t line)
{
    pgr_program *const p = b->program;
    p->instructions = grow(b, p->instructions, p->instruction_count, 1, sizeof *p->instructions);
    p->lines = grow(b, p->lines, p->instruction_count, 1, sizeof *p->lines);
    if (b->status != PGR_OK)
        return;
    p->lines[p->instruction_count] = line;
    p->instructions[p->instruction_count++] = made;
}

void program_end_segment(builder *b, uint32_t start, uint32_t group, uint32_t first_sum, uint32_t sum_count)
{
    pgr_program *const p = b->program;
    if (b->status != PGR_OK || p->instruction_count == start)
        return;
    p->segments = grow(b, p->segments, p->segment_count, 1, sizeof *p->segments);
    if (b->status == PGR_OK)
        p->segments[p->segment_count++] =
            (segment){start, p->instruction_count - start, group, first_sum, sum_count};
}
