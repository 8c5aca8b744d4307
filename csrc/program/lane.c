/* lane.c: lane segments. No lane outlives its segment, so each segment rematerialises the lane values that its sums and
 * outputs depend on. */
#include "program/lane.h"

#include "program/emit.h"
#include "program/fuse.h"

#include <stdlib.h>

void program_begin_lanes(builder *b, lane_scratch *s)
{
    *s = (lane_scratch){0};
    if (b->group_count == 0)
        return;
    s->list = grab_raw(b, b->value_count, sizeof *s->list);
    s->stack = grab_raw(b, b->value_count, sizeof *s->stack);
    s->last_use = grab_raw(b, b->value_count, sizeof *s->last_use);
    s->free = grab_raw(b, b->value_count, sizeof *s->free);
    s->next = grab_raw(b, b->value_count, sizeof *s->next);
}

void program_end_lanes(builder *b, lane_scratch *s)
{
    tape_resize(b->tape, s->list, 0);
    tape_resize(b->tape, s->stack, 0);
    tape_resize(b->tape, s->last_use, 0);
    tape_resize(b->tape, s->free, 0);
    tape_resize(b->tape, s->next, 0);
}

static int by_number(const void *p, const void *q)
{
    const uint32_t x = *(const uint32_t *)p, y = *(const uint32_t *)q;
    return (x > y) - (x < y);
}

/* Lists the sums over a group's lanes, and its outputs, of one stage. */
static uint32_t list_results(builder *b, lane_scratch *s, uint32_t stage, uint16_t group)
{
    const uint32_t from = b->stage_end[stage - 1], to = b->stage_end[stage + (stage < b->last_stage)];
    uint32_t count = 0;
    for (uint32_t i = from; i < to; i++) {
        value *const v = &b->values[b->sorted[i]];
        const bool is_sum = v->op == PGR_OP_LANE_SUM && v->stage == stage + 1 && b->values[v->a].group == group;
        if (is_sum || (v->group == group && v->output != NONE)) {
            v->is_listed = 1;
            s->list[count++] = b->sorted[i];
        }
    }
    return count;
}

/* Adds the lane values, of any stage, that the listed ones depend on, and sorts the list. Returns its length. */
static uint32_t close_list(builder *b, lane_scratch *s, uint32_t count)
{
    uint32_t depth = 0;
    for (uint32_t i = 0; i < count; i++)
        s->stack[depth++] = s->list[i];
    while (depth > 0) {
        const uint32_t id = s->stack[--depth];
#define LIST(operand) \
    do { \
        const uint32_t o_ = (operand); \
        if (is_lane_value(b, o_) && !b->values[o_].is_listed) { \
            b->values[o_].is_listed = 1; \
            s->list[count++] = o_; \
            s->stack[depth++] = o_; \
        } \
    } while (0)
        FOR_OPERANDS(b, &b->values[id], LIST);
#undef LIST
        if (!goes_on(b, count))
            return 0;
    }
    if (count < b->value_count / 32) {
        qsort(s->list, count, sizeof *s->list, by_number);
        return count;
    }
    count = 0; /* a long list: one pass over all values is faster than sorting, and can be stopped */
    for (uint32_t id = 0; id < b->value_count && goes_on(b, id); id++)
        if (b->values[id].is_listed)
            s->list[count++] = id;
    return count;
}

/* The operand that a table's operation can follow at once: nobody else reads it, and the others are there before it.
 * place: by value, of the head of its chain, in the list. */
static uint32_t find_link(const builder *b, const lane_scratch *s, const uint32_t *place, const value *v)
{
    const bool is_dot = v->dot != NONE && b->dots[v->dot].count + b->dots[v->dot].products > 1;
    if (v->op < PGR_OP_FIRST || v->op >= PGR_OP_COUNT || is_dot)
        return NONE;
    const uint32_t operands[] = {v->a, v->b};
    uint32_t found = NONE;
    for (int k = 0; k < 2; k++) {
        const uint32_t o = operands[k];
        if (o == NONE || !is_lane_value(b, o))
            continue;
        if (found == NONE || place[o] > place[found] || (place[o] == place[found] && s->next[o] == NONE))
            found = o;
    }
    const bool is_made = found != NONE && !is_source(&b->values[found]) && b->values[found].op != PROGRAM_CALL;
    return is_made && s->last_use[found] == 1 ? found : NONE;
}

/* Moves operations up to directly after the operand that comes last: the two then run as one, see lane_rows.h. */
static void chain(builder *b, lane_scratch *s, uint32_t count)
{
    uint32_t *const uses = s->last_use, *const place = s->free, *const list = s->list;
    for (uint32_t i = 0; i < count; i++) {
        uses[list[i]] = 0;
        s->next[list[i]] = NONE;
#define USE(operand) uses[operand]++
        FOR_OPERANDS(b, &b->values[list[i]], USE);
#undef USE
    }
    for (uint32_t i = 0; i < count && goes_on(b, i); i++) {
        const uint32_t id = list[i], before = find_link(b, s, place, &b->values[id]);
        place[id] = before == NONE ? i : place[before];
        if (before != NONE)
            s->next[before] = id;
    }
    if (b->status != PGR_OK) /* stopped: not all have a place */
        return;
    uint32_t made = 0;
    for (uint32_t i = 0; i < count; i++)
        if (place[list[i]] == i)
            for (uint32_t id = list[i]; id != NONE; id = s->next[id])
                s->stack[made++] = id;
    s->list = s->stack;
    s->stack = list;
}

/* Moves divisions up to directly after a function that takes long: the two then run as one, see lane_rows.h, and the
 * divider works beside the function. Not from far: the quotient takes a register until it is used. */
static void put_divisions_beside(builder *b, lane_scratch *s, uint32_t count)
{
    enum { NEAR = 64 };
    uint32_t *const list = s->list, *const place = s->free, *const entering = s->last_use, *const next = s->next;
    uint32_t first = NONE, last = NONE, made = 0; /* divisions whose operands are there */
    for (uint32_t i = 0; i < count; i++) {
        place[list[i]] = i;
        entering[i] = NONE;
    }
    for (uint32_t i = 0; i < count; i++) {
        const value *const v = &b->values[list[i]];
        if (v->op != PGR_OP_DIV)
            continue;
        uint32_t from = i > NEAR ? i - NEAR : 0;
        if (is_lane_value(b, v->a) && place[v->a] >= from)
            from = place[v->a] + 1;
        if (is_lane_value(b, v->b) && place[v->b] >= from)
            from = place[v->b] + 1;
        next[list[i]] = entering[from];
        entering[from] = list[i];
    }
    for (uint32_t i = 0; i < count && goes_on(b, i); i++) {
        while (entering[i] != NONE) {
            const uint32_t id = entering[i];
            entering[i] = next[id];
            next[id] = NONE;
            *(first == NONE ? &first : &next[last]) = id;
            last = id;
        }
        if (place[list[i]] == NONE)
            continue;
        s->stack[made++] = list[i];
        while (first != NONE && place[first] <= i)
            first = next[first];
        if (first != NONE && takes_long(b->values[list[i]].op)) {
            s->stack[made++] = first;
            place[first] = NONE;
            first = next[first];
        }
    }
    if (b->status != PGR_OK)
        return;
    s->list = s->stack;
    s->stack = list;
}

/* Consecutive lane dots with a common factor run together if it is the first operand of each. */
static void put_common_factor_first(builder *b, uint32_t start)
{
    pgr_program *const p = b->program;
    if (b->status != PGR_OK || p->instruction_count < start + 2)
        return;
    instruction *const now = &p->instructions[p->instruction_count - 1], *const before = now - 1;
    if (now->op != PROGRAM_LANE_DOT || before->op != PROGRAM_LANE_DOT || now->a == before->a)
        return;
    const bool is_settled =
        p->instruction_count > start + 2 && before[-1].op == PROGRAM_LANE_DOT && before[-1].a == before->a;
    if (!is_settled && (before->b == now->a || before->b == now->b)) {
        const uint32_t swap = before->a;
        before->a = before->b;
        before->b = swap;
    }
    if (now->b == before->a) {
        now->b = now->a;
        now->a = before->a;
    }
}

static uint32_t take_register(lane_scratch *s)
{
    return s->free_count > 0 ? s->free[--s->free_count] : REGISTER_LANE | s->registers++;
}

static void give_back(lane_scratch *s, value *v)
{
    if (v->reg != REGISTER_NONE)
        s->free[s->free_count++] = v->reg;
    v->reg = REGISTER_NONE;
}

/* If the last use of a value is that of place i. */
static void give_back_after(builder *b, lane_scratch *s, uint32_t id, uint32_t i)
{
    if (b->values[id].group != 0 && s->last_use[id] == i)
        give_back(s, &b->values[id]);
}

/* As place_results of uniform.c. */
static void place_results(builder *b, lane_scratch *s, const value *v)
{
    const call_values *const c = &b->calls[v->a];
    for (uint32_t k = 0; k < c->result_count; k++)
        if (c->results[k] != NONE && b->values[c->results[k]].is_listed)
            b->values[c->results[k]].reg = take_register(s);
}

static void find_last_uses(builder *b, lane_scratch *s, uint32_t count)
{
    for (uint32_t i = 0; i < count && goes_on(b, i); i++) {
        value *const v = &b->values[s->list[i]];
        s->last_use[s->list[i]] = i;
#define SET_LAST(operand) s->last_use[operand] = i
        FOR_OPERANDS(b, v, SET_LAST);
#undef SET_LAST
        if (v->op == PGR_OP_LANE_SUM)
            v->reg = b->program->uniform_registers++;
    }
}

/* Emits the listed values and returns the number of lane registers that they take. */
static uint32_t emit_list(builder *b, lane_scratch *s, uint32_t count)
{
    const uint32_t start = b->program->instruction_count;
    s->free_count = s->registers = 0;
    for (uint32_t i = 0; i < count && goes_on(b, i); i++) {
        const uint32_t id = s->list[i];
        value *const v = &b->values[id];
        if (v->op == PROGRAM_CALL)
            place_results(b, s, v);
        instruction made = {0};
        if (v->op != PGR_OP_CALL)
            made = program_instruction_of(b, id);
        /* Free operands' registers first: every instruction reads a lane before it writes it, so the result may take
         * one: best that of the value before, see lane_rows.h. */
        const uint32_t before = i > 0 ? s->list[i - 1] : NONE;
#define FREE(operand) \
    do { \
        if ((operand) != before) \
            give_back_after(b, s, operand, i); \
    } while (0)
        FOR_OPERANDS(b, v, FREE);
#undef FREE
        if (before != NONE)
            give_back_after(b, s, before, i);
        if (v->op != PGR_OP_LANE_SUM && v->op != PROGRAM_CALL && v->op != PGR_OP_CALL)
            v->reg = made.out = take_register(s);
        if (v->op != PGR_OP_CALL)
            program_emit(b, made, v->line);
        put_common_factor_first(b, start);
        for (uint32_t k = v->group != 0 ? v->output : NONE; k != NONE; k = b->next_output[k])
            program_emit(b, (instruction){PROGRAM_STORE, REGISTER_NONE, v->reg, k}, v->line);
        if (v->group != 0 && s->last_use[id] == i)
            give_back(s, v);
    }
    return s->registers;
}

static void emit_segment(builder *b, lane_scratch *s, uint32_t count, uint16_t group)
{
    pgr_program *const p = b->program;
    const uint32_t start = p->instruction_count, first_sum = p->uniform_registers;
    chain(b, s, count);
    put_divisions_beside(b, s, count);
    find_last_uses(b, s, count);
    const uint32_t registers = emit_list(b, s, count);
    for (uint32_t i = 0; i < count; i++) {
        b->values[s->list[i]].is_listed = 0;
        if (is_lane_value(b, s->list[i]))
            b->values[s->list[i]].reg = REGISTER_NONE;
    }
    p->lane_registers = registers > p->lane_registers ? registers : p->lane_registers;
    program_end_segment(b, start, (uint32_t)group - 1, first_sum, p->uniform_registers - first_sum);
}

void program_emit_lanes(builder *b, lane_scratch *s, uint32_t stage)
{
    for (uint16_t group = 1; group <= b->program->group_count && b->status == PGR_OK; group++) {
        const uint32_t count = list_results(b, s, stage, group);
        if (count > 0)
            emit_segment(b, s, close_list(b, s, count), group);
    }
}
