/* pack.c: makes packs of a program's stretches. */
#include "program/packer.h"

enum { SHORTEST_STRETCH = 24, MOST_PLACES = 1 << 30 };

static void *room(packer *k, size_t count, size_t size)
{
    void *const p = k->status == PGR_OK ? packer_resize(k, NULL, (count + 1) * size) : NULL;
    if (p == NULL)
        k->status = PGR_ERR_NOMEM;
    return p;
}

/* ---- Operands -------------------------------------------------------------------------------------- */

static uint32_t operand_now(const packer *k, uint32_t reg)
{
    return reg == REGISTER_NONE ? REGISTER_NONE : k->current[reg];
}

static void find_operands(packer *k, uint32_t id)
{
    const instruction i = k->instructions[id];
    k->a[id] = operand_now(k, i.a);
    if (i.op != PROGRAM_DOT) {
        k->b[id] = operand_now(k, i.b);
        return;
    }
    const program_dot dot = k->program->dots[i.b];
    k->b[id] = k->term_count;
    for (uint32_t t = 0; t < 2 * dot.count; t++)
        k->terms[k->term_count++] = operand_now(k, k->program->args[dot.first + t]);
}

/* Instructions of a run read all operands before they write. */
static void find_all_operands(packer *k)
{
    k->term_count = 0;
    for (uint32_t id = 0, n; id < k->count; id += n) {
        const bool is_run = k->instructions[id].op == PROGRAM_RUN;
        n = is_run ? 1 + k->instructions[id].a : 1;
        k->level[id] = 0;
        for (uint32_t j = is_run; j < n; j++)
            find_operands(k, id + j);
        for (uint32_t j = is_run; j < n; j++) {
            uint32_t *const now = &k->current[k->instructions[id + j].out];
            k->before[id + j] = *now;
            *now = LOCAL | (id + j);
        }
    }
}

static void forget_operands(packer *k)
{
    for (uint32_t id = k->count; id-- > 0;)
        if (k->instructions[id].op != PROGRAM_RUN)
            k->current[k->instructions[id].out] = k->before[id];
}

/* ---- What is not in packs -------------------------------------------------------------------------- */

/* A register is read: its number must be there. It is copied at the end of the last stretch, whose places and those
 * before keep their numbers. */
static void need(packer *k, uint32_t reg)
{
    program_packs *const packs = k->packs;
    if (reg == REGISTER_NONE || (reg & REGISTER_LANE) != 0 || k->current[reg] == reg)
        return;
    packs->copies = packer_grow(k, packs->copies, packs->copy_count, 1, sizeof *packs->copies);
    if (k->status != PGR_OK)
        return;
    packs->copies[packs->copy_count++] = (pack_copy){reg, k->current[reg]};
    packs->stretches[packs->stretch_count - 1].copy_count++;
    k->current[reg] = reg;
}

static void leave_call(packer *k, const instruction *i)
{
    const pgr_program *const p = k->program;
    const call *const c = &p->calls[i->a];
    const uint64_t operands = program_operands_of(c), results = program_results_of(c);
    for (uint64_t j = 0; j < operands; j++)
        need(k, p->args[i->b + j]);
    for (uint64_t j = 0; j < results; j++)
        if (p->args[i->out + j] < p->uniform_registers)
            k->current[p->args[i->out + j]] = p->args[i->out + j];
}

/* An instruction that runs as it is, in a uniform or in a lane segment. */
static void leave(packer *k, const instruction *i)
{
    const pgr_program *const p = k->program;
    if (i->op == PROGRAM_LOAD)
        return;
    if (i->op == PROGRAM_RUN) {
        for (uint32_t j = 1; j <= i->a; j++) { /* which reads all operands before it writes */
            need(k, i[j].a);
            need(k, i[j].b);
        }
        return;
    }
    if (i->op == PROGRAM_CALL) {
        leave_call(k, i);
        return;
    }
    need(k, i->a);
    if (i->op == PROGRAM_DOT)
        for (uint32_t t = 0; t < 2 * p->dots[i->b].count; t++)
            need(k, p->args[p->dots[i->b].first + t]);
    else if (i->op != PROGRAM_STORE && i->op != PROGRAM_LANE_SUM)
        need(k, i->b);
    if (i->op != PROGRAM_STORE && i->out < p->uniform_registers)
        k->current[i->out] = i->out;
}

/* ---- Stretches ------------------------------------------------------------------------------------- */

static void emit_stretch(packer *k, uint32_t first)
{
    program_packs *const packs = k->packs;
    k->first_step = packs->step_count;
    k->first_place = k->top;
    for (uint32_t i = 0, n; i < k->ordered && k->status == PGR_OK; i += n) {
        n = group_from(k, i);
        pgr__packer_emit(k, k->order + i, n);
    }
    pgr__packer_strips(k, first + k->count);
    packs->stretches = packer_grow(k, packs->stretches, packs->stretch_count, 1, sizeof *packs->stretches);
    if (k->status != PGR_OK)
        return;
    packs->stretches[packs->stretch_count++] = (pack_stretch){
        first, k->count, k->first_step, packs->step_count - k->first_step, packs->copy_count, 0};
    for (uint32_t id = 0; id < k->count; id++)
        if (k->level[id] > 0 && k->current[k->instructions[id].out] == (LOCAL | id))
            k->current[k->instructions[id].out] = k->place[id];
}

static void take_stretch(packer *k, uint32_t first, uint32_t count)
{
    k->instructions = k->program->instructions + first;
    k->count = count;
    if (count >= SHORTEST_STRETCH) {
        find_all_operands(k);
        if (pgr__packer_order(k)) {
            emit_stretch(k, first);
            return;
        }
        forget_operands(k);
    }
    for (uint32_t id = 0; id < count && k->status == PGR_OK; id++)
        leave(k, &k->instructions[id]);
}

static void take_segment(packer *k, const segment *s)
{
    const instruction *const all = k->program->instructions;
    const uint32_t end = s->first + s->count;
    for (uint32_t from = s->first, to; from < end && k->status == PGR_OK; from = to) {
        to = from;
        while (to < end && s->group == UINT32_MAX && all[to].op != PROGRAM_CALL)
            to++;
        if (to > from)
            take_stretch(k, from, to - from);
        else
            leave(k, &all[to++]);
    }
    for (uint32_t sum = 0; sum < s->sum_count; sum++)
        k->current[s->first_sum + sum] = s->first_sum + sum;
}

/* ---- Programs -------------------------------------------------------------------------------------- */

/* The most instructions, terms of dots, and terms of one dot in a stretch. False if there are no packs to make: dots of
 * a program from a file may share their terms, and packs of them would take more memory than the program. */
typedef struct {
    uint32_t count, most_terms;
    uint64_t terms;
} extent;

static bool measure(const pgr_program *p, extent *x)
{
    uint32_t count = 0;
    for (uint32_t s = 0; s < p->segment_count; s++) {
        const instruction *const i = p->instructions + p->segments[s].first;
        for (uint32_t k = count = 0; k < p->segments[s].count && p->segments[s].group == UINT32_MAX; k++) {
            count = i[k].op == PROGRAM_CALL ? 0 : count + 1;
            x->count = count > x->count ? count : x->count;
            const uint32_t terms = i[k].op == PROGRAM_DOT ? p->dots[i[k].b].count : 0;
            x->terms += terms;
            x->most_terms = terms > x->most_terms ? terms : x->most_terms;
        }
    }
    return x->count >= SHORTEST_STRETCH && 2 * x->terms <= p->arg_count &&
           p->instruction_count < MOST_PLACES / PACK / 2 && p->uniform_registers < MOST_PLACES / 2;
}

static void make_room(packer *k, const extent *x)
{
    const pgr_program *const p = k->program;
    k->current = room(k, p->uniform_registers, sizeof *k->current);
    uint32_t **const arrays[] = {&k->a, &k->b, &k->level, &k->place, &k->order, &k->before};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        *arrays[i] = room(k, x->count, sizeof **arrays[i]);
    k->terms = room(k, 2 * (size_t)x->terms, sizeof *k->terms);
    k->keys = room(k, x->count, sizeof *k->keys);
    k->spare = room(k, x->count, sizeof *k->spare);
    k->term_keys = room(k, (size_t)x->most_terms + 1, sizeof *k->term_keys);
    k->term_spare = room(k, (size_t)x->most_terms + 1, sizeof *k->term_spare);
    k->kind = room(k, x->count / PACK, sizeof *k->kind);
    for (uint32_t reg = 0; reg < p->uniform_registers && k->status == PGR_OK; reg++)
        k->current[reg] = reg;
}

static void free_room(packer *k)
{
    void *const arrays[] = {k->current, k->last_read, k->a, k->b, k->level, k->place, k->order, k->before,
                            k->terms, k->keys, k->spare, k->term_keys, k->term_spare, k->kind};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        packer_resize(k, arrays[i], 0);
}

pgr_status program_pack(pgr_program *p)
{
    extent x = {0};
    p->numbers = p->uniform_registers;
    if (!measure(p, &x))
        return PGR_OK;
    packer k = {.program = p, .status = PGR_OK};
    make_room(&k, &x);
    k.packs = room(&k, 0, sizeof *k.packs);
    if (k.status == PGR_OK) {
        p->packs = k.packs;
        *k.packs = (program_packs){.first = (p->uniform_registers + PACK - 1) / PACK * PACK};
        k.top = k.packs->first + 2;
    }
    for (uint32_t s = 0; s < p->segment_count && k.status == PGR_OK; s++)
        take_segment(&k, &p->segments[s]);
    for (uint32_t i = 0, reg = 0; i < p->output_count && k.status == PGR_OK; i++)
        if (p->outputs[i].node != REGISTER_LANE)
            p->output_registers[reg++] = k.current[p->outputs[i].node];
    if (k.status == PGR_OK && k.packs->stretch_count > 0)
        p->numbers = k.top + PACK;
    else
        program_free_packs(p);
    free_room(&k);
    return k.status;
}
