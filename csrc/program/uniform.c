/* uniform.c: uniform segments: register allocation by last use, and runs of equal operations. */
#include "program/uniform.h"

#include "program/emit.h"
#include "program/fuse.h"
#include "program/schedule.h"
#include "program/simplify.h"

#include <stdlib.h>

static void add_constants(builder *b)
{
    pgr_program *const p = b->program;
    for (uint32_t id = 0; id < b->value_count && goes_on(b, id); id++) {
        value *const v = &b->values[id];
        if (v->op != PGR_OP_CONST || !v->is_live)
            continue;
        v->reg = p->uniform_registers++;
        program_constant_of(b, id, &p->constants[p->constant_count++]);
    }
}

static void add_input(builder *b, value *v)
{
    pgr_program *const p = b->program;
    v->reg = p->uniform_registers++;
    uint32_t offset = v->a;
    if (v->b == b->captures_array) {
        p->captures[p->capture_count] = v->a;
        offset = p->capture_count++;
    }
    uniform_input *const before = p->input_count == 0 ? NULL : &p->inputs[p->input_count - 1];
    if (before != NULL && before->array == v->b && before->offset + before->count == offset)
        before->count++;
    else
        p->inputs[p->input_count++] = (uniform_input){v->reg, v->b, offset, 1};
}

typedef struct {
    uint64_t place; /* array << 32 | offset */
    uint32_t id;
} placed;

static int by_place(const void *p, const void *q)
{
    const uint64_t x = ((const placed *)p)->place, y = ((const placed *)q)->place;
    return (x > y) - (x < y);
}

/* Those of a program that is called are in order, so that the numbers of a step are read at once. */
static void add_inputs(builder *b)
{
    placed *const all = grab_raw(b, b->value_count, sizeof *all);
    uint32_t count = 0;
    for (uint32_t id = 0; id < b->value_count && goes_on(b, id); id++) {
        const value *const v = &b->values[id];
        if (v->op == PGR_OP_INPUT && v->is_live)
            all[count++] = (placed){(uint64_t)v->b << 32 | v->a, id};
    }
    if (b->status == PGR_OK && b->is_called)
        qsort(all, count, sizeof *all, by_place);
    for (uint32_t i = 0; i < count && b->status == PGR_OK; i++)
        add_input(b, &b->values[all[i].id]);
    tape_resize(b->tape, all, 0);
}

/* Values that lanes read, or that are outputs, keep their registers. */
#define KEPT UINT32_MAX
static void find_last_uses(builder *b, uint32_t *last)
{
    uint32_t count = 0;
    for (uint32_t id = 0; id < b->value_count; id++)
        count += b->values[id].is_live;
    for (uint32_t i = 0; i < count && goes_on(b, i); i++) {
        const uint32_t id = b->sorted[i];
        const value *const v = &b->values[id];
        if (v->output != NONE || (b->is_called && is_source(v))) /* those are set once for all steps of a loop */
            last[id] = KEPT;
        if (v->is_fused)
            continue;
        const uint32_t place = v->group != 0 || v->op == PGR_OP_LANE_SUM ? KEPT : i;
#define USED_AT(operand) last[operand] = last[operand] > place ? last[operand] : place
        FOR_OPERANDS(b, v, USED_AT);
#undef USED_AT
    }
}

void program_begin_uniform(builder *b, uniform_scratch *s)
{
    pgr_program *const p = b->program;
    p->constants = grab_raw(b, b->value_count, sizeof *p->constants);
    p->inputs = grab_raw(b, b->value_count, sizeof *p->inputs);
    p->captures = grab_raw(b, b->value_count, sizeof *p->captures);
    *s = (uniform_scratch){.last_use = grab(b, b->value_count, sizeof *s->last_use)};
    s->free = grab_raw(b, b->value_count, sizeof *s->free);
    if (b->status != PGR_OK)
        return;
    add_constants(b);
    add_inputs(b);
    find_last_uses(b, s->last_use);
}

void program_end_uniform(builder *b, uniform_scratch *s)
{
    tape_resize(b->tape, s->last_use, 0);
    tape_resize(b->tape, s->free, 0);
}

/* A call's results get registers when it is emitted. Its operands' are taken by others only later: a loop reads them
 * while it writes results. */
static void place_results(builder *b, uniform_scratch *s, const value *v)
{
    const call_values *const c = &b->calls[v->a];
    for (uint32_t k = 0; k < c->result_count; k++)
        if (c->results[k] != NONE && b->values[c->results[k]].is_live)
            b->values[c->results[k]].reg =
                s->free_count > 0 ? s->free[--s->free_count] : b->program->uniform_registers++;
}

/* How many instructions from place `i` on are equal operations, independent, and worth running together. */
enum { SHORTEST_RUN = 4 };
static uint32_t alike(const builder *b, uint32_t i, uint32_t to)
{
    const uint32_t first = b->sorted[i];
    const value *const v = &b->values[first];
    if (v->op == PROGRAM_CALL || v->dot != NONE || ops_is_linear(v->op) || v->op == PGR_OP_NEG)
        return 0;
    uint32_t count = 1;
    for (; i + count < to; count++) {
        const uint32_t id = b->sorted[i + count];
        const value *const next = &b->values[id];
        if (next->op != v->op || next->dot != NONE)
            break;
        if (!has_uniform_instruction(next) || b->level[id] != b->level[first])
            break;
    }
    return count;
}

void program_emit_uniform(builder *b, uniform_scratch *s, uint32_t stage)
{
    pgr_program *const p = b->program;
    const uint32_t from = stage == 0 ? 0 : b->stage_end[stage - 1], to = b->stage_end[stage];
    const uint32_t start = p->instruction_count;
    for (uint32_t i = from, run = 0; i < to && goes_on(b, i); i++) {
        value *const v = &b->values[b->sorted[i]];
        if (!has_uniform_instruction(v))
            continue;
        if (run > 0) {
            run--;
        } else if ((run = alike(b, i, to)) >= SHORTEST_RUN) {
            program_emit(b, (instruction){PROGRAM_RUN, REGISTER_NONE, run, 0}, v->line);
            run--;
        } else {
            run = 0;
        }
        if (v->op == PROGRAM_CALL)
            place_results(b, s, v);
        instruction made = program_instruction_of(b, b->sorted[i]);
#define FREE(operand) \
    do { \
        if (s->last_use[operand] == i) { \
            s->last_use[operand] = 0; /* once */ \
            s->free[s->free_count++] = b->values[operand].reg; \
        } \
    } while (0)
        FOR_OPERANDS(b, v, FREE);
#undef FREE
        if (v->op != PROGRAM_CALL)
            v->reg = made.out = s->free_count > 0 ? s->free[--s->free_count] : p->uniform_registers++;
        program_emit(b, made, v->line);
    }
    program_end_segment(b, start, UINT32_MAX, 0, 0);
}
