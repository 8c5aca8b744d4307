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
        if (!operand_is_ready(k, t, i, kind_x, operands[0]))
            return false;
        if (has_y && !operand_is_ready(k, t, i, kind_y, operands[1]))
            return false;
    }
    return true;
}

/* The strip from step `first` on, and the steps between its own. */
static void find_strip(const packer *k, uint32_t first, strip *t)
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
}

/* Reorders steps. Returns whether there are strips. */
static bool find_strips(packer *k)
{
    pack_step *const steps = k->packs->steps;
    bool found = false;
    strip t;
    for (uint32_t i = k->first_step, end; i < k->packs->step_count; i = end) {
        end = i + 1;
        if (!is_operation(&steps[i]) || steps[i].count < SHORTEST_STRIP)
            continue;
        find_strip(k, i, &t);
        if (t.in_count < 2)
            continue;
        end = i + t.in_count;
        memcpy(steps + i, t.in, t.in_count * sizeof *steps);
        memcpy(steps + end, t.deferred, t.deferred_count * sizeof *steps);
        steps[i].strip = t.in_count;
        found = true;
    }
    return found;
}

/* ---- Places that are used again -------------------------------------------------------------------- */

/* What nothing reads but its strip is of one place for each pack of a chunk, which stays in the cache. */
typedef struct {
    uint32_t *owner; /* by place from first_place on: the number of the strip that makes it, from 1 on */
    uint8_t *wanted; /* whether something else reads it */
} use;

/* Every register that an instruction may read, and some numbers that are none. */
static void find_last_reads(packer *k)
{
    const pgr_program *const p = k->program;
    const uint32_t count = p->uniform_registers;
    k->last_read = packer_grow(k, NULL, 0, (size_t)count + 1, sizeof *k->last_read);
    if (k->status != PGR_OK)
        return;
    memset(k->last_read, 0, count * sizeof *k->last_read);
#define READ(reg, at) \
    do { \
        if ((reg) < count) \
            k->last_read[reg] = (at); \
    } while (0)
    for (uint32_t i = 0; i < p->instruction_count; i++) {
        const instruction now = p->instructions[i];
        READ(now.a, i);
        READ(now.b, i);
        uint64_t from = 0, n = 0;
        if (now.op == PROGRAM_DOT) {
            from = p->dots[now.b].first;
            n = 2 * (uint64_t)p->dots[now.b].count;
        } else if (now.op == PROGRAM_CALL) {
            from = now.b;
            n = program_operands_of(&p->calls[now.a]);
        }
        for (uint64_t j = from; j < from + n; j++)
            READ(p->args[j], i);
    }
    for (uint32_t i = 0; i < p->output_count; i++)
        READ(p->outputs[i].node, UINT32_MAX);
#undef READ
}

static void read_place(const packer *k, const use *u, uint32_t strip, uint32_t x)
{
    if (x >= k->first_place && x < k->top && u->owner[x - k->first_place] != strip)
        u->wanted[x - k->first_place] = 1;
}

static void read_operand(const packer *k, const use *u, uint32_t strip, uint32_t kind, uint32_t x)
{
    const uint32_t *const index = k->packs->index + x;
    for (uint32_t l = 0; l < PACK; l++)
        read_place(k, u, strip, kind == GATHERED ? index[l] : kind == IN_A_ROW ? x + l : x);
}

/* The operands of a step's runs. Returns where they end. */
static const uint32_t *read_runs(const packer *k, const use *u, const uint32_t *code)
{
    for (uint32_t runs = *code++; runs > 0; runs--) {
        const uint32_t kinds = *code % RUN_KINDS, count = *code / RUN_KINDS;
        code++;
        for (uint32_t t = 0; t < count; t++, code += 2) {
            read_operand(k, u, 0, kinds / OPERAND_KINDS, code[0]);
            read_operand(k, u, 0, kinds % OPERAND_KINDS, code[1]);
        }
    }
    return code;
}

static void read_plain(const packer *k, const use *u, const pack_step *s)
{
    const program_packs *const packs = k->packs;
    for (const instruction *i = packs->plain + s->first, *const end = i + s->count; i < end; i++) {
        read_place(k, u, 0, i->a);
        if (i->op != PROGRAM_DOT)
            read_place(k, u, 0, i->b);
        else
            for (uint32_t t = 0; t < 2 * packs->dots[i->b].count; t++)
                read_place(k, u, 0, packs->args[packs->dots[i->b].first + t]);
    }
}

static void read_step(const packer *k, const use *u, uint32_t strip, const pack_step *s)
{
    const uint32_t *code = k->packs->code + s->first;
    if (s->op == PACK_PLAIN) {
        read_plain(k, u, s);
        return;
    }
    for (uint32_t i = 0; i < s->count; i++) {
        if (is_operation(s) || s->op == PACK_ADD_UP) {
            const uint32_t *const operands = code + (is_operation(s) ? 1 : 0);
            read_operand(k, u, strip, s->kinds / OPERAND_KINDS, operands[0]);
            read_operand(k, u, strip, s->kinds % OPERAND_KINDS, operands[1]);
            code = operands + 2;
        } else {
            read_operand(k, u, 0, code[1], code[2]);
            code += 3;
            for (uint32_t l = 0; l < (s->op == PACK_ROWS ? PACK : 1); l++)
                code = read_runs(k, u, code);
        }
    }
}

/* Fills `owner`, then `wanted`. */
static void find_uses(packer *k, const use *u, uint32_t end)
{
    const program_packs *const packs = k->packs;
    uint32_t strip = 0, left = 0;
    for (uint32_t i = k->first_step; i < packs->step_count; i++) {
        const pack_step *const s = &packs->steps[i];
        strip += s->strip > 1;
        left = s->strip > 1 ? s->strip : left;
        if (left > 0 && is_operation(s))
            for (uint32_t n = 0; n < PACK * s->count; n++)
                u->owner[packs->code[s->first] - k->first_place + n] = strip;
        left -= left > 0;
    }
    strip = 0;
    for (uint32_t i = k->first_step; i < packs->step_count; i++) {
        const pack_step *const s = &packs->steps[i];
        strip += s->strip > 1;
        left = s->strip > 1 ? s->strip : left;
        read_step(k, u, left > 0 ? strip : 0, s);
        left -= left > 0;
    }
    for (uint32_t id = 0; id < k->count; id++) {
        const uint32_t reg = k->instructions[id].out;
        if (k->level[id] > 0 && k->current[reg] == (LOCAL | id) && k->last_read[reg] >= end)
            u->wanted[k->place[id] - k->first_place] = 1;
    }
}

static uint32_t again(uint32_t x, uint32_t base, uint32_t count)
{
    return x - base < count ? base + (x - base) % (STRIP_CHUNK * PACK) : x;
}

/* Gives the results of step `made` of a strip, from `base` on, the places of its first chunk. */
static void use_again(packer *k, const pack_step *strip, uint32_t made)
{
    const program_packs *const packs = k->packs;
    const uint32_t base = packs->code[strip[made].first], count = PACK * strip->count;
    for (uint32_t j = made; j < strip->strip; j++) {
        const pack_step *const s = &strip[j];
        const uint32_t width = is_operation(s) ? 3 : 2, kinds[] = {s->kinds / OPERAND_KINDS, s->kinds % OPERAND_KINDS};
        for (uint32_t i = 0; i < s->count; i++) {
            uint32_t *const code = packs->code + s->first + width * i;
            if (j == made) {
                code[0] = again(code[0], base, count);
                continue;
            }
            for (uint32_t n = 0; n < 2; n++) {
                uint32_t *const x = &code[width - 2 + n];
                for (uint32_t l = 0; l < (kinds[n] == GATHERED ? PACK : 1); l++) {
                    uint32_t *const place = kinds[n] == GATHERED ? &packs->index[*x + l] : x;
                    *place = again(*place, base, count);
                }
            }
        }
    }
}

static void use_places_again(packer *k, const use *u)
{
    const program_packs *const packs = k->packs;
    for (uint32_t i = k->first_step; i < packs->step_count; i++) {
        const pack_step *const strip = &packs->steps[i];
        for (uint32_t j = 0; j < strip->strip; j++) {
            if (!is_operation(&strip[j]))
                continue;
            const uint8_t *const wanted = u->wanted + packs->code[strip[j].first] - k->first_place;
            if (memchr(wanted, 1, PACK * (size_t)strip->count) == NULL)
                use_again(k, strip, j);
        }
    }
}

void pgr__packer_strips(packer *k, uint32_t end)
{
    if (k->status != PGR_OK || !find_strips(k))
        return;
    if (k->last_read == NULL)
        find_last_reads(k);
    const size_t places = k->top - k->first_place;
    use u = {.owner = packer_grow(k, NULL, 0, places + 1, sizeof *u.owner)};
    u.wanted = packer_grow(k, NULL, 0, places + 1, 1);
    if (k->status == PGR_OK) {
        memset(u.owner, 0, places * sizeof *u.owner);
        memset(u.wanted, 0, places);
        find_uses(k, &u, end);
        use_places_again(k, &u);
    }
    packer_resize(k, u.owner, 0);
    packer_resize(k, u.wanted, 0);
}
