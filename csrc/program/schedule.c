/* schedule.c: scheduling: live values by stage, and uniform ones so that equal operations follow one another, since
 * processors predict runs of one operation, not changes. */
#include "program/schedule.h"

#include "program/fuse.h"

#include <stdlib.h>

/* A counting sort. */
static void sort_by_stage(builder *b)
{
    uint16_t last = 0;
    for (uint32_t id = 0; id < b->value_count; id++)
        last = b->values[id].stage > last && b->values[id].is_live ? b->values[id].stage : last;
    b->last_stage = last;
    uint32_t *const starts = b->stage_end = grab(b, (size_t)last + 2, sizeof *starts);
    b->sorted = grab_raw(b, b->value_count, sizeof *b->sorted);
    if (b->status != PGR_OK)
        return;
    for (uint32_t id = 0; id < b->value_count; id++)
        if (b->values[id].is_live)
            starts[b->values[id].stage + 1]++;
    for (uint32_t stage = 0; stage <= last; stage++)
        starts[stage + 1] += starts[stage];
    for (uint32_t id = 0; id < b->value_count; id++)
        if (b->values[id].is_live)
            b->sorted[starts[b->values[id].stage]++] = id; /* leaves starts[stage] where the next stage starts */
}

static int by_key(const void *p, const void *q)
{
    const uint64_t x = *(const uint64_t *)p, y = *(const uint64_t *)q;
    return (x > y) - (x < y);
}

/* Sorts `count` values by level, then by operation. A window is small, so that what belongs together stays close.
 * Levels start above `below`, those of the windows before; returns the highest. */
enum { WINDOW = 1024 };
static uint32_t sort_window(builder *b, uint32_t *ids, uint32_t count, uint32_t below)
{
    uint64_t keys[WINDOW];
    uint32_t *const level = b->level;
    uint32_t highest = below;
    for (uint32_t i = 0; i < count; i++) {
        const value *const v = &b->values[ids[i]];
        uint32_t here = below;
#define ABOVE(operand) here = level[operand] > here ? level[operand] : here
        if (has_uniform_instruction(v) || v->op == PGR_OP_CALL)
            FOR_OPERANDS(b, v, ABOVE);
#undef ABOVE
        level[ids[i]] = here + 1;
        highest = here + 1 > highest ? here + 1 : highest;
        const uint64_t op = v->dot != NONE ? PROGRAM_DOT : v->op;
        keys[i] = (uint64_t)(here - below) << 32 | op << 16 | i;
    }
    qsort(keys, count, sizeof *keys, by_key);
    uint32_t before[WINDOW];
    memcpy(before, ids, count * sizeof *ids);
    for (uint32_t i = 0; i < count; i++)
        ids[i] = before[keys[i] & 0xffff];
    return highest;
}

static void schedule_uniform(builder *b)
{
    b->level = grab(b, b->value_count, sizeof *b->level);
    uint32_t highest = 0;
    for (uint32_t stage = 0; stage <= b->last_stage && b->status == PGR_OK; stage += 2) {
        const uint32_t from = stage == 0 ? 0 : b->stage_end[stage - 1], to = b->stage_end[stage];
        for (uint32_t start = from; start < to && goes_on(b, start - from); start += WINDOW)
            highest = sort_window(b, b->sorted + start, to - start < WINDOW ? to - start : WINDOW, highest);
    }
}

void program_schedule(builder *b)
{
    sort_by_stage(b);
    schedule_uniform(b);
}
