/* pack_strip.c: strips: steps of equally many packs that run a few packs at a time, so that what one makes is in the
 * cache when the next reads it. */
#include "program/packer.h"

enum { MOST_IN_STRIP = 16, MOST_DEFERRED = 16, DEFERRED_PACKS = 2 };

/* Steps of a strip, and those between them, which run after it. */
typedef struct {
    pack_step in[MOST_IN_STRIP], deferred[MOST_DEFERRED];
    uint32_t in_count, deferred_count;
    uint32_t count, lowest; /* packs of each, and the first place that the strip writes to */
} strip;

static bool is_operation(const pack_step *s) { return s->op < PACK_SUMS; }

/* Whether the results of a step's packs are side by side. */
static bool is_straight(const packer *k, const pack_step *s)
{
    const uint32_t *const code = k->packs->code + s->first;
    for (uint32_t i = 1; i < s->count; i++)
        if (code[3 * i] != code[0] + PACK * i)
            return false;
    return true;
}

/* Whether pack i of another step may read `count` numbers from place x on: from before the strip, or of pack i. */
static bool is_ready(const packer *k, const strip *t, uint32_t i, uint32_t x, uint32_t count)
{
    if (x + count <= t->lowest)
        return true;
    for (uint32_t j = t->in_count; j-- > 0;) {
        const uint32_t first = k->packs->code[t->in[j].first] + PACK * i;
        if (is_operation(&t->in[j]) && x >= first && x + count <= first + PACK)
            return true;
    }
    return false;
}

static bool operand_is_ready(const packer *k, const strip *t, uint32_t i, uint32_t kind, uint32_t x)
{
    if (kind != GATHERED)
        return is_ready(k, t, i, x, kind == IN_A_ROW ? PACK : 1);
    for (uint32_t l = 0; l < PACK; l++)
        if (!is_ready(k, t, i, k->packs->index[x + l], 1))
            return false;
    return true;
}

/* Whether a step can be the strip's next. */
static bool joins(const packer *k, const strip *t, const pack_step *s)
{
    if (s->count != t->count || t->in_count == MOST_IN_STRIP)
        return false;
    const bool adds_up = s->op == PACK_ADD_UP;
    if (!adds_up && !(is_operation(s) && is_straight(k, s)))
        return false;
    const uint32_t width = adds_up ? 2 : 3, kind_x = s->kinds / OPERAND_KINDS, kind_y = s->kinds % OPERAND_KINDS;
    for (uint32_t i = 0; i < s->count; i++) {
        const uint32_t *const operands = k->packs->code + s->first + width * i + (adds_up ? 0 : 1);
        const bool has_y = operands[1] != 0 || kind_y != IN_A_ROW;
        if (!operand_is_ready(k, t, i, kind_x, operands[0]) || (has_y && !operand_is_ready(k, t, i, kind_y, operands[1])))
            return false;
    }
    return true;
}

/* The strip from step `first` on, and the steps between its own. Returns where they end. */
static uint32_t find_strip(const packer *k, uint32_t first, strip *t)
{
    const pack_step *const steps = k->packs->steps;
    *t = (strip){.count = steps[first].count, .lowest = UINT32_MAX};
    uint32_t end = first, i = first;
    for (; i < k->packs->step_count; i++) {
        const pack_step *const s = &steps[i];
        if (t->in_count == 0 && is_operation(s))
            t->lowest = k->packs->code[s->first];
        if (joins(k, t, s)) {
            t->in[t->in_count++] = *s;
            end = i + 1;
        } else if (t->in_count > 0 && s->count <= DEFERRED_PACKS && s->op != PACK_PLAIN &&
                   t->deferred_count < MOST_DEFERRED) {
            t->deferred[t->deferred_count++] = *s;
        } else {
            break;
        }
    }
    t->deferred_count = end - first - t->in_count; /* those after the last one stay where they are */
    return end;
}

void pgr__packer_strips(packer *k, uint32_t first)
{
    pack_step *const steps = k->packs->steps;
    strip t;
    for (uint32_t i = first, end; i < k->packs->step_count && k->status == PGR_OK; i = end) {
        end = i + 1;
        if (!is_operation(&steps[i]) || steps[i].count < SHORTEST_STRIP)
            continue;
        const uint32_t last = find_strip(k, i, &t);
        if (t.in_count < 2)
            continue;
        end = last;
        memcpy(steps + i, t.in, t.in_count * sizeof *steps);
        memcpy(steps + i + t.in_count, t.deferred, t.deferred_count * sizeof *steps);
        steps[i].strip = t.in_count;
    }
}
