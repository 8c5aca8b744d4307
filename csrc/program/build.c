/* build.c: from a graph on the tape to a program.
 *
 * Vmaps of as many lanes share one group. The nodes that the outputs need are taken over in their order, which is topological; on the way constants are
 * folded and equal ones become one. Then each is given a stage: even ones are worked out once, odd ones for
 * each lane, and a sum over lanes belongs to the stage after its lanes'. Chains of additions whose terms are products
 * become dots, dead slots are used again. Every pass is linear, and none recurses. */
#include "tape/tape.h"
#include "program/program.h"

#include <stdlib.h>
#include <string.h>

/* A value of the program to be. */
typedef struct {
    uint32_t a, b;     /* values; NONE */
    uint32_t uses;
    uint32_t chain;    /* of the dot that ends here, NONE: no such */
    uint32_t slot;
    uint16_t stage, group; /* group: 1 and up; 0 where it is the same in all lanes */
    uint32_t output;   /* the first that is this value, NONE: it is none */
    uint32_t line;     /* see pgr_program_lines */
    uint8_t op;
    uint8_t fused;     /* has no instruction: part of a dot that another value ends, or of a lane dot */
    uint8_t seen;      /* needed */
    uint8_t listed;    /* in the list of the segment that is being put together */
} value;

#define NONE UINT32_MAX

/* A link of a chain: a term a * b, or a alone. */
typedef struct {
    uint32_t a, b, next;
} link;

typedef struct {
    uint32_t init, first, last, count, products;
} chain;

typedef struct {
    pgr_tape *tape;
    pgr_status status;
    pgr_program *program;
    pgr_id start;
    uint32_t captures_array;
    value *values;
    uint32_t value_count;
    uint32_t *table; /* hash of (op, a, b) */
    uint32_t table_mask;
    link *links;
    uint32_t link_count;
    chain *chains;
    uint32_t chain_count;
    uint32_t *next_output;        /* of the same value */
    uint32_t *list, *stack;       /* scratch: the values of a segment */
    uint32_t *last_use, *free_slots;
    uint32_t *uniform_last_use, *free_uniform; /* by value, places in `sorted`; slots */
    uint32_t free_uniform_count;
    uint32_t *sorted;             /* the values by stage, each in an order that their operands allow .. */
    uint32_t *stage_end;          /* .. and where a stage's end */
    uint32_t *level;              /* of uniform values: equal ones do not need each other */
    uint32_t line;                /* of the values that are being made */
    size_t group_count;           /* the caller's groups .. */
    uint16_t *merged;             /* .. by group, the one that it is merged into .. */
    uint32_t *first_input;        /* .. and its first lane input, counted through all groups .. */
    uint32_t *lane_input;         /* .. and by lane input, which one of the merged group it is */
} builder;

/* Memory that nobody has touched yet: what is not needed of it costs nothing. */
static void *grab_raw(builder *b, size_t count, size_t size)
{
    if (b->status != PGR_OK)
        return NULL;
    void *const p = tape_resize(b->tape, NULL, (count + 1) * size);
    if (p == NULL)
        b->status = PGR_ERR_NOMEM;
    return p;
}

static void *grab(builder *b, size_t count, size_t size)
{
    void *const p = grab_raw(b, count, size);
    if (p != NULL)
        memset(p, 0, (count + 1) * size);
    return p;
}

/* Whether a pass that has come to its i-th step goes on: it asks now and then whether to stop. */
static inline bool goes_on(builder *b, uint64_t i)
{
    if (PGR_UNLIKELY(i % TAPE_ASK_EVERY == 0) && b->status == PGR_OK)
        b->status = pgr__ask(b->tape);
    return b->status == PGR_OK;
}

/* ---- Taking nodes over ----------------------------------------------------------------------- */

static uint32_t hash_of(uint32_t op, uint32_t a, uint32_t b)
{
    uint64_t h = ((uint64_t)a << 32 | b) * UINT64_C(0x9e3779b97f4a7c15);
    h = (h ^ h >> 29 ^ op) * UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(h >> 32);
}

static uint32_t new_value(builder *b, int op, uint32_t x, uint32_t y)
{
    const uint32_t id = b->value_count++;
    b->values[id] = (value){.op = (uint8_t)op, .a = x, .b = y, .chain = NONE, .slot = SLOT_NONE, .output = NONE, .line = b->line};
    return id;
}

/* The value op(x, y), the one that there is already if there is one. */
static uint32_t share(builder *b, int op, uint32_t x, uint32_t y)
{
    if ((op == PGR_OP_ADD || op == PGR_OP_MUL) && x > y) {
        const uint32_t swap = x;
        x = y;
        y = swap;
    }
    /* First where the later operand is, so that the table is gone through as the nodes are, and memory waits for nobody;
     * then anywhere, for an operand may be used by many. */
    const uint32_t hash = hash_of((uint32_t)op, x, y), later = y != NONE && y > x ? y : x;
    uint32_t at = (2 * later + (hash >> 31)) & b->table_mask;
    for (uint32_t probe = 0; b->table[at] != 0; probe++) {
        const value *const v = &b->values[b->table[at] - 1];
        if (v->op == op && v->a == x && v->b == y)
            return b->table[at] - 1;
        at = probe == 0 ? at ^ 1 : (probe == 1 ? hash : at + 1) & b->table_mask;
    }
    const uint32_t id = new_value(b, op, x, y);
    b->table[at] = id + 1;
    return id;
}

/* A constant is a value of op CONST whose a is its number; equal bits are equal constants. */
static uint32_t constant(builder *b, double number)
{
    uint64_t bits;
    memcpy(&bits, &number, sizeof bits);
    const uint32_t id = share(b, PGR_OP_CONST, (uint32_t)bits, (uint32_t)(bits >> 32));
    return id;
}

static bool constant_of(const builder *b, uint32_t id, double *number)
{
    const value *const v = &b->values[id];
    const uint64_t bits = (uint64_t)v->b << 32 | v->a;
    if (v->op != PGR_OP_CONST)
        return false;
    memcpy(number, &bits, sizeof *number);
    return true;
}

static bool is_minus_zero(double x) { return x == 0.0 && signbit(x); }

/* op(x, y), simplified as far as it stays the same number for every x and y. */
static uint32_t simplify(builder *b, int op, uint32_t x, uint32_t y)
{
    double p = 0.0, q = 0.0, v;
    const bool known_x = constant_of(b, x, &p), known_y = y != NONE && constant_of(b, y, &q);
    if (known_x && (y == NONE || known_y) && ops_eval(op, p, q, &v) != PGR_ERR_OP)
        return constant(b, v);
    if (op == PGR_OP_DETACH)
        return x;
    if (op == PGR_OP_MUL && known_y && q == 1.0)
        return x;
    if (op == PGR_OP_MUL && known_x && p == 1.0)
        return y;
    if (op == PGR_OP_DIV && known_y && q == 1.0)
        return x;
    if (op == PGR_OP_ADD && known_y && is_minus_zero(q))
        return x;
    if (op == PGR_OP_ADD && known_x && is_minus_zero(p))
        return y;
    if (op == PGR_OP_SUB && known_y && q == 0.0 && !signbit(q))
        return x;
    if (op == PGR_OP_NEG && b->values[x].op == PGR_OP_NEG)
        return b->values[x].a;
    if (op == PGR_OP_POWC && known_y && q == 2.0)
        return share(b, PGR_OP_MUL, x, x);
    return share(b, op, x, y);
}

/* ---- Stages ------------------------------------------------------------------------------------ */

static void place(builder *b, uint32_t id)
{
    value *const v = &b->values[id];
    if (v->op == PGR_OP_CONST || v->op == PGR_OP_INPUT) {
        v->stage = 0;
        return;
    }
    if (v->op == PGR_OP_LANE) {
        v->stage = 1; /* its group is set by who makes it */
        return;
    }
    const value *const operands[] = {&b->values[v->a], v->b == NONE ? NULL : &b->values[v->b]};
    uint16_t stage = 0, group = 0;
    for (int i = 0; i < 2; i++) {
        if (operands[i] == NULL)
            continue;
        if (operands[i]->group != 0) {
            if (group != 0 && group != operands[i]->group)
                b->status = PGR_ERR_LANES;
            group = operands[i]->group;
        }
        stage = operands[i]->stage > stage ? operands[i]->stage : stage;
    }
    if (group != 0)
        stage |= 1; /* the next lane stage, from a uniform one */
    if (stage == UINT16_MAX)
        b->status = PGR_ERR_FULL;
    v->stage = stage;
    v->group = group;
    if (v->op == PGR_OP_LANE_SUM) {
        v->stage = (uint16_t)(stage + 1);
        v->group = 0;
    }
}

/* ---- Dots -------------------------------------------------------------------------------------- */

static bool fusible_product(const builder *b, uint32_t id, uint16_t group)
{
    const value *const v = &b->values[id];
    return v->op == PGR_OP_MUL && v->uses == 1 && v->output == NONE && v->group == group && v->chain == NONE;
}

static void add_term(builder *b, chain *c, uint32_t id, uint16_t group)
{
    link l = {id, NONE, NONE};
    if (fusible_product(b, id, group)) {
        value *const v = &b->values[id];
        l = (link){v->a, v->b, NONE};
        v->fused = 1;
        c->products++;
    }
    const uint32_t at = b->link_count++;
    b->links[at] = l;
    if (c->count++ == 0)
        c->first = at;
    else
        b->links[c->last].next = at;
    c->last = at;
}

/* Whether the chain that ends at `id` can be taken on by a sum that uses it. */
static bool extends(const builder *b, uint32_t id, uint16_t group)
{
    const value *const v = &b->values[id];
    return v->chain != NONE && v->uses == 1 && v->output == NONE && v->group == group;
}

static void find_dots(builder *b)
{
    for (uint32_t id = 0; id < b->value_count && goes_on(b, id); id++) {
        value *const v = &b->values[id];
        if (v->op != PGR_OP_ADD || !v->seen)
            continue;
        const bool left = extends(b, v->a, v->group), right = !left && extends(b, v->b, v->group);
        const uint32_t before = left ? v->a : right ? v->b : NONE, term = right ? v->a : v->b;
        if (before != NONE) {
            v->chain = b->values[before].chain;
            b->values[before].chain = NONE;
            b->values[before].fused = 1;
        } else {
            v->chain = b->chain_count++;
            chain *const c = &b->chains[v->chain];
            *c = (chain){.init = NONE};
            if (fusible_product(b, v->a, v->group))
                add_term(b, c, v->a, v->group);
            else
                c->init = v->a;
        }
        add_term(b, &b->chains[v->chain], term, v->group);
    }
    /* Alone, two instructions are quicker. */
    for (uint32_t id = 0; id < b->value_count; id++) {
        value *const v = &b->values[id];
        if (v->chain == NONE || v->group != 0 || b->chains[v->chain].count != 1 || b->chains[v->chain].products != 1)
            continue;
        value *const product = b->values[v->a].fused ? &b->values[v->a] : &b->values[v->b];
        product->fused = 0;
        v->chain = NONE;
    }
    for (uint32_t id = 0; id < b->value_count; id++) {
        value *const v = &b->values[id];
        if (v->op == PGR_OP_LANE_SUM && v->seen && b->values[v->a].group != 0 && fusible_product(b, v->a, b->values[v->a].group))
            b->values[v->a].fused = 1;
    }
}

/* ---- Instructions and slots ---------------------------------------------------------------------- */

static void count_uses(builder *b, uint32_t id)
{
    /* Descending: values that are needed mark their operands. */
    for (uint32_t i = id; i-- > 0 && goes_on(b, i);) {
        value *const v = &b->values[i];
        if (v->output != NONE)
            v->seen = 1;
        if (!v->seen || v->op == PGR_OP_CONST || v->op == PGR_OP_INPUT || v->op == PGR_OP_LANE)
            continue;
        b->values[v->a].seen = 1;
        b->values[v->a].uses++;
        if (v->b != NONE) {
            b->values[v->b].seen = 1;
            if (v->op != PGR_OP_LANE_SUM)
                b->values[v->b].uses++;
        }
    }
}

/* Calls visit(b, operand) for each value that v's instruction reads. */
#define FOR_OPERANDS(b, v, visit) \
    do { \
        const value *const v_ = (v); \
        if (v_->op == PGR_OP_CONST || v_->op == PGR_OP_INPUT || v_->op == PGR_OP_LANE) { \
        } else if (v_->chain != NONE) { \
            const chain *const c_ = &(b)->chains[v_->chain]; \
            if (c_->init != NONE) \
                visit(c_->init); \
            uint32_t at_ = c_->first; \
            for (uint32_t k_ = 0; k_ < c_->count; k_++, at_ = (b)->links[at_].next) { \
                visit((b)->links[at_].a); \
                if ((b)->links[at_].b != NONE) \
                    visit((b)->links[at_].b); \
            } \
        } else if (v_->op == PGR_OP_LANE_SUM && (b)->values[v_->a].fused && (b)->values[v_->a].op == PGR_OP_MUL) { \
            visit((b)->values[v_->a].a); \
            visit((b)->values[v_->a].b); \
        } else { \
            visit(v_->a); \
            if (v_->b != NONE && v_->op != PGR_OP_LANE_SUM) \
                visit(v_->b); \
        } \
    } while (0)

static uint32_t slot_of(const builder *b, uint32_t id) { return id == NONE ? SLOT_NONE : b->values[id].slot; }

/* Writes the operands of a dot and returns its number. A segment that works lanes out anew writes them again. */
static uint32_t emit_dot(builder *b, const chain *c)
{
    pgr_program *const p = b->program;
    uint32_t *const args = tape_grow(b->tape, p->args, p->arg_count, 2 * c->count, sizeof *args);
    program_dot *const dots = tape_grow(b->tape, p->dots, p->dot_count, 1, sizeof *dots);
    if (args != NULL)
        p->args = args;
    if (dots != NULL)
        p->dots = dots;
    if (args == NULL || dots == NULL) {
        b->status = PGR_ERR_NOMEM;
        return 0;
    }
    p->dots[p->dot_count] = (program_dot){p->arg_count, c->count};
    uint32_t at = c->first;
    for (uint32_t k = 0; k < c->count; k++, at = b->links[at].next) {
        const uint32_t x = slot_of(b, b->links[at].a), y = slot_of(b, b->links[at].b);
        const bool is_reversed = y != SLOT_NONE && (x & SLOT_LANE) != 0 && (y & SLOT_LANE) == 0;
        p->args[p->arg_count++] = is_reversed ? y : x;
        p->args[p->arg_count++] = is_reversed ? x : y;
    }
    return p->dot_count++;
}

/* An instruction's operands and what it is, from its value. */
static instruction instruction_of(builder *b, uint32_t id)
{
    const value *const v = &b->values[id];
    if (v->op == PGR_OP_LANE)
        return (instruction){PROGRAM_LOAD, v->slot, v->a, 0};
    if (v->chain != NONE) {
        const chain *const c = &b->chains[v->chain];
        if (c->count == 1 && c->products == 0)
            return (instruction){PGR_OP_ADD, v->slot, slot_of(b, v->a), slot_of(b, v->b)};
        return (instruction){PROGRAM_DOT, v->slot, slot_of(b, c->init), emit_dot(b, c)};
    }
    if (v->op == PGR_OP_LANE_SUM) {
        const value *const summed = &b->values[v->a];
        if (summed->fused && summed->op == PGR_OP_MUL)
            return (instruction){PROGRAM_LANE_DOT, v->slot, slot_of(b, summed->a), slot_of(b, summed->b)};
        return (instruction){PROGRAM_LANE_SUM, v->slot, summed->slot, 0};
    }
    return (instruction){v->op, v->slot, slot_of(b, v->a), slot_of(b, v->b)};
}

static void emit(builder *b, instruction made, uint32_t line)
{
    pgr_program *const p = b->program;
    instruction *const grown = tape_grow(b->tape, p->instructions, p->instruction_count, 1, sizeof *grown);
    uint32_t *const lines = tape_grow(b->tape, p->lines, p->instruction_count, 1, sizeof *lines);
    if (grown != NULL)
        p->instructions = grown;
    if (lines != NULL)
        p->lines = lines;
    if (grown == NULL || lines == NULL) {
        b->status = PGR_ERR_NOMEM;
        return;
    }
    p->lines[p->instruction_count] = line;
    p->instructions[p->instruction_count++] = made;
}

static void end_segment(builder *b, uint32_t start, uint32_t group, uint32_t first_sum, uint32_t sum_count)
{
    pgr_program *const p = b->program;
    if (b->status != PGR_OK || p->instruction_count == start)
        return;
    segment *const grown = tape_grow(b->tape, p->segments, p->segment_count, 1, sizeof *grown);
    if (grown == NULL) {
        b->status = PGR_ERR_NOMEM;
        return;
    }
    p->segments = grown;
    p->segments[p->segment_count++] = (segment){start, p->instruction_count - start, group, first_sum, sum_count};
}

static bool is_lane_value(const builder *b, uint32_t id) { return b->values[id].group != 0; }

static int by_number(const void *p, const void *q)
{
    const uint32_t x = *(const uint32_t *)p, y = *(const uint32_t *)q;
    return (x > y) - (x < y);
}

/* Lists the lane values that the listed sums and outputs need, whatever their stage: a segment works them out anew,
 * for between segments lanes are not kept. */
static uint32_t close_list(builder *b, uint32_t count)
{
    uint32_t depth = 0;
    for (uint32_t i = 0; i < count; i++)
        b->stack[depth++] = b->list[i];
    while (depth > 0) {
        const uint32_t id = b->stack[--depth];
#define LIST(operand) \
    do { \
        const uint32_t o_ = (operand); \
        if (is_lane_value(b, o_) && !b->values[o_].listed) { \
            b->values[o_].listed = 1; \
            b->list[count++] = o_; \
            b->stack[depth++] = o_; \
        } \
    } while (0)
        FOR_OPERANDS(b, &b->values[id], LIST);
        if (!goes_on(b, count))
            return 0;
    }
    if (count < b->value_count / 32) {
        qsort(b->list, count, sizeof *b->list, by_number);
        return count;
    }
    count = 0; /* many: quicker so, and nothing waits for long */
    for (uint32_t id = 0; id < b->value_count && goes_on(b, id); id++)
        if (b->values[id].listed)
            b->list[count++] = id;
    return count;
}

/* Sums that follow one another and have a factor in common are run together, if it is the first operand of each. */
static void put_common_factor_first(builder *b, uint32_t start)
{
    pgr_program *const p = b->program;
    if (b->status != PGR_OK || p->instruction_count < start + 2)
        return;
    instruction *const now = &p->instructions[p->instruction_count - 1], *const before = now - 1;
    if (now->op != PROGRAM_LANE_DOT || before->op != PROGRAM_LANE_DOT || now->a == before->a)
        return;
    const bool is_settled = p->instruction_count > start + 2 && before[-1].op == PROGRAM_LANE_DOT && before[-1].a == before->a;
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

static void emit_lanes(builder *b, uint32_t count, uint16_t group)
{
    pgr_program *const p = b->program;
    const uint32_t start = p->instruction_count, first_sum = p->uniform_slots;
    uint32_t free_count = 0, slots = 0;
    for (uint32_t i = 0; i < count && goes_on(b, i); i++) {
        b->last_use[b->list[i]] = i;
#define SET_LAST(operand) b->last_use[operand] = i
        FOR_OPERANDS(b, &b->values[b->list[i]], SET_LAST);
        if (b->values[b->list[i]].op == PGR_OP_LANE_SUM)
            b->values[b->list[i]].slot = p->uniform_slots++;
    }
    for (uint32_t i = 0; i < count && goes_on(b, i); i++) {
        const uint32_t id = b->list[i];
        value *const v = &b->values[id];
        instruction made = instruction_of(b, id);
        /* Slots that are read for the last time come back first: every instruction reads a lane before it writes it. */
#define GIVE_BACK(operand) \
    do { \
        value *const o_ = &b->values[operand]; \
        if (o_->group != 0 && b->last_use[operand] == i && o_->slot != SLOT_NONE) { \
            b->free_slots[free_count++] = o_->slot; \
            o_->slot = SLOT_NONE; \
        } \
    } while (0)
        FOR_OPERANDS(b, v, GIVE_BACK);
        if (v->op != PGR_OP_LANE_SUM)
            v->slot = made.out = free_count > 0 ? b->free_slots[--free_count] : SLOT_LANE | slots++;
        emit(b, made, v->line);
        put_common_factor_first(b, start);
        for (uint32_t k = v->group != 0 ? v->output : NONE; k != NONE; k = b->next_output[k])
            emit(b, (instruction){PROGRAM_STORE, SLOT_NONE, v->slot, k}, v->line);
        if (v->group != 0 && b->last_use[id] == i) {
            b->free_slots[free_count++] = v->slot;
            v->slot = SLOT_NONE;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        b->values[b->list[i]].listed = 0;
        if (is_lane_value(b, b->list[i]))
            b->values[b->list[i]].slot = SLOT_NONE;
    }
    p->lane_slots = slots > p->lane_slots ? slots : p->lane_slots;
    end_segment(b, start, (uint32_t)group - 1, first_sum, p->uniform_slots - first_sum);
}

/* Constants and inputs have their slots from the start. */
static void give_uniform_slots(builder *b)
{
    pgr_program *const p = b->program;
    for (int round = 0; round < 2; round++)
        for (uint32_t id = 0; id < b->value_count && goes_on(b, id); id++) {
            value *const v = &b->values[id];
            if (v->op != (round == 0 ? PGR_OP_CONST : PGR_OP_INPUT) || !v->seen)
                continue;
            v->slot = p->uniform_slots++;
            if (round == 0)
                constant_of(b, id, &p->constants[p->constant_count++]);
            else {
                uint32_t offset = v->a;
                if (v->b == b->captures_array) {
                    p->captures[p->capture_count] = v->a;
                    offset = p->capture_count++;
                }
                uniform_input *const before = p->input_count == 0 ? NULL : &p->inputs[p->input_count - 1];
                if (before != NULL && before->array == v->b && before->offset + before->count == offset)
                    before->count++;
                else
                    p->inputs[p->input_count++] = (uniform_input){v->slot, v->b, offset, 1};
            }
        }
}

/* Values by stage: a counting sort. */
static uint32_t sort_by_stage(builder *b)
{
    uint16_t last = 0;
    for (uint32_t id = 0; id < b->value_count; id++)
        last = b->values[id].stage > last && b->values[id].seen ? b->values[id].stage : last;
    uint32_t *const starts = b->stage_end = grab(b, (size_t)last + 2, sizeof *starts);
    b->sorted = grab_raw(b, b->value_count, sizeof *b->sorted);
    if (b->status != PGR_OK)
        return 0;
    for (uint32_t id = 0; id < b->value_count; id++)
        if (b->values[id].seen)
            starts[b->values[id].stage + 1]++;
    for (uint32_t stage = 0; stage <= last; stage++)
        starts[stage + 1] += starts[stage];
    for (uint32_t id = 0; id < b->value_count; id++)
        if (b->values[id].seen)
            b->sorted[starts[b->values[id].stage]++] = id; /* afterwards starts[stage] is where the next begins */
    return last;
}

static int by_key(const void *p, const void *q)
{
    const uint64_t x = *(const uint64_t *)p, y = *(const uint64_t *)q;
    return (x > y) - (x < y);
}

static bool has_uniform_instruction(const value *v)
{
    return !v->fused && v->group == 0 && v->op != PGR_OP_CONST && v->op != PGR_OP_INPUT && v->op != PGR_OP_LANE_SUM;
}

/* Sorts uniform instructions so that alike ones follow one another, for processors foresee runs, not changes: within a
 * window, which keeps what belongs together close, by level, by operation. */
static void schedule_uniform(builder *b, uint32_t last)
{
    enum { WINDOW = 1024 };
    uint64_t keys[WINDOW];
    uint32_t *const level = b->level = grab(b, b->value_count, sizeof *b->level);
    uint32_t window_level = 0; /* levels of a window are above those of the one before */
    for (uint32_t stage = 0; stage <= last && b->status == PGR_OK; stage += 2) {
        const uint32_t from = stage == 0 ? 0 : b->stage_end[stage - 1], to = b->stage_end[stage];
        for (uint32_t start = from; start < to && goes_on(b, start - from); start += WINDOW) {
            const uint32_t count = to - start < WINDOW ? to - start : WINDOW;
            uint32_t highest = window_level;
            for (uint32_t i = 0; i < count; i++) {
                const uint32_t id = b->sorted[start + i];
                const value *const v = &b->values[id];
                uint32_t here = window_level;
#define ABOVE(operand) here = level[operand] > here ? level[operand] : here
                if (has_uniform_instruction(v))
                    FOR_OPERANDS(b, v, ABOVE);
                level[id] = here + 1;
                highest = here + 1 > highest ? here + 1 : highest;
                const uint64_t op = v->chain != NONE ? PROGRAM_DOT : v->op;
                keys[i] = (uint64_t)(here - window_level) << 32 | op << 16 | i;
            }
            qsort(keys, count, sizeof *keys, by_key);
            uint32_t ids[WINDOW];
            memcpy(ids, b->sorted + start, count * sizeof *ids);
            for (uint32_t i = 0; i < count; i++)
                b->sorted[start + i] = ids[keys[i] & 0xffff];
            window_level = highest;
        }
    }
}

/* Where uniform values are used for the last time; those that lanes use, or that are results, are kept. */
#define KEPT UINT32_MAX
static void find_last_uses(builder *b)
{
    uint32_t *const last = b->uniform_last_use = grab(b, b->value_count, sizeof *last);
    b->free_uniform = grab_raw(b, b->value_count, sizeof *b->free_uniform);
    if (b->status != PGR_OK)
        return;
    uint32_t count = 0;
    for (uint32_t id = 0; id < b->value_count; id++)
        count += b->values[id].seen;
    for (uint32_t i = 0; i < count && goes_on(b, i); i++) {
        const uint32_t id = b->sorted[i];
        const value *const v = &b->values[id];
        if (v->output != NONE)
            last[id] = KEPT;
        if (v->fused)
            continue;
        const uint32_t place = v->group != 0 || v->op == PGR_OP_LANE_SUM ? KEPT : i;
#define USED_AT(operand) last[operand] = last[operand] > place ? last[operand] : place
        FOR_OPERANDS(b, v, USED_AT);
    }
}

/* How many instructions from place `i` on are alike, do not need each other, and are worth working out together. */
enum { SHORTEST_RUN = 4 };
static uint32_t alike(const builder *b, uint32_t i, uint32_t to)
{
    const uint32_t first = b->sorted[i];
    const value *const v = &b->values[first];
    if (v->chain != NONE || ops_is_linear(v->op) || v->op == PGR_OP_NEG)
        return 0;
    uint32_t count = 1;
    while (i + count < to && b->values[b->sorted[i + count]].op == v->op && b->values[b->sorted[i + count]].chain == NONE &&
           has_uniform_instruction(&b->values[b->sorted[i + count]]) && b->level[b->sorted[i + count]] == b->level[first])
        count++;
    return count;
}

static void emit_uniform(builder *b, uint32_t from, uint32_t to)
{
    pgr_program *const p = b->program;
    const uint32_t start = p->instruction_count;
    for (uint32_t i = from, run = 0; i < to && goes_on(b, i); i++) {
        value *const v = &b->values[b->sorted[i]];
        if (!has_uniform_instruction(v))
            continue;
        if (run > 0) {
            run--;
        } else if ((run = alike(b, i, to)) >= SHORTEST_RUN) {
            emit(b, (instruction){PROGRAM_RUN, SLOT_NONE, run, 0}, v->line);
            run--;
        } else {
            run = 0;
        }
        instruction made = instruction_of(b, b->sorted[i]);
#define GIVE_BACK_UNIFORM(operand) \
    do { \
        if (b->uniform_last_use[operand] == i) { \
            b->uniform_last_use[operand] = 0; /* once */ \
            b->free_uniform[b->free_uniform_count++] = b->values[operand].slot; \
        } \
    } while (0)
        FOR_OPERANDS(b, v, GIVE_BACK_UNIFORM);
        v->slot = made.out = b->free_uniform_count > 0 ? b->free_uniform[--b->free_uniform_count] : p->uniform_slots++;
        emit(b, made, v->line);
    }
    end_segment(b, start, UINT32_MAX, 0, 0);
}

static void emit_stages(builder *b, uint32_t group_count)
{
    const uint32_t last = sort_by_stage(b);
    schedule_uniform(b, last);
    find_last_uses(b);
    for (uint32_t stage = 0; stage <= last && b->status == PGR_OK; stage++) {
        const uint32_t from = stage == 0 ? 0 : b->stage_end[stage - 1], to = b->stage_end[stage];
        if (stage % 2 == 0) {
            emit_uniform(b, from, to);
            continue;
        }
        const uint32_t after = stage < last ? b->stage_end[stage + 1] : to;
        for (uint16_t group = 1; group <= group_count && b->status == PGR_OK; group++) {
            uint32_t count = 0;
            for (uint32_t i = from; i < after; i++) {
                value *const v = &b->values[b->sorted[i]];
                const bool sum = v->op == PGR_OP_LANE_SUM && v->stage == stage + 1 && b->values[v->a].group == group;
                if (sum || (v->group == group && v->output != NONE)) {
                    v->listed = 1;
                    b->list[count++] = b->sorted[i];
                }
            }
            if (count > 0)
                emit_lanes(b, close_list(b, count), group);
        }
    }
    pgr_program *const p = b->program;
    for (p->block = BLOCK_MOST; p->block > BLOCK_FEWEST && (uint64_t)p->lane_slots * p->block * sizeof(double) > BLOCK_BYTES;)
        p->block /= 2;
}

/* ---- From the tape ------------------------------------------------------------------------------- */

/* What goes along with nodes in ascending order: where a pass over them is, and what it knows of them. */
typedef struct {
    uint32_t *value;  /* by node from `start` on: 0: not needed; 1: needed; in the end its value */
    uint16_t *group;  /* of lanes, counted from 1 */
    uint32_t number, run; /* the next of the tape's numbers, and of its lines */
    uint32_t line;    /* of the present run */
} taking;

/* The value of a node. One from outside the recording is an input, whose number is read at every run; until
 * inputs get their slots, its place among the captures is its id. */
static uint32_t value_at(builder *b, const taking *t, pgr_id id)
{
    if (id >= b->start)
        return t->value[id - b->start];
    if ((b->tape->nodes[id].flags & TAPE_UNKNOWN) != 0)
        b->status = PGR_ERR_UNKNOWN; /* of another recording */
    return share(b, PGR_OP_INPUT, id, b->captures_array);
}

static uint16_t group_at(const builder *b, const taking *t, pgr_id id) { return id >= b->start ? t->group[id - b->start] : 0; }

/* The number of the node that the pass has come to, 0 if it has none. */
static uint64_t next_number(const builder *b, taking *t, pgr_id id)
{
    const tape_number *const numbers = b->tape->numbers;
    while (t->number < b->tape->number_count && numbers[t->number].node < id)
        t->number++;
    return t->number < b->tape->number_count && numbers[t->number].node == id ? numbers[t->number].number : 0;
}

static uint32_t next_line(const builder *b, taking *t, pgr_id id)
{
    const tape_tags *const lines = &b->tape->tags[PGR_TAG_LINE];
    for (; t->run < lines->count && lines->runs[t->run].start <= id; t->run++)
        t->line = lines->runs[t->run].tag;
    return t->line;
}

static bool has_group(const builder *b, uint64_t number) { return number >> 32 < b->group_count; }
static uint32_t merged_group(const builder *b, uint16_t group) { return b->merged[group - 1]; }

/* The group of a node's lanes. Those of different vmaps do not meet unless one is passed to the other, even where they
 * are run as one: a lane that got out of its vmap is a mistake. */
static uint16_t group_of(builder *b, const taking *t, pgr_id id, uint64_t number)
{
    const pgr_node *const node = &b->tape->nodes[id];
    const uint16_t lhs = group_at(b, t, node->lhs), rhs = group_at(b, t, node->rhs);
    if (node->op == PGR_OP_LANE || node->op == PGR_OP_LANE_PASS) {
        const uint16_t group = has_group(b, number) ? (uint16_t)((number >> 32) + 1) : 0;
        if (group == 0 || (lhs != 0 && merged_group(b, lhs) != merged_group(b, group)))
            b->status = PGR_ERR_LANES;
        return group;
    }
    if (lhs != 0 && rhs != 0 && lhs != rhs)
        b->status = PGR_ERR_LANES;
    return node->op == PGR_OP_LANE_SUM ? 0 : lhs != 0 ? lhs : rhs;
}

/* Takes over one node, whose operands are taken over. */
static uint32_t take_node(builder *b, pgr_id id, const taking *t, uint64_t number)
{
    const pgr_node *const node = &b->tape->nodes[id];
    const bool is_unknown = (node->flags & TAPE_UNKNOWN) != 0;
    if (node->lhs == 0 && !is_unknown && node->op != PGR_OP_CUSTOM)
        return constant(b, node->data);
    switch (node->op) {
    case PGR_OP_INPUT:
        return share(b, PGR_OP_INPUT, (uint32_t)number, (uint32_t)(number >> 32));
    case PGR_OP_LANE: {
        const uint32_t group = (uint32_t)(number >> 32), index = (uint32_t)number;
        if (b->first_input[group + 1] - b->first_input[group] <= index) {
            b->status = PGR_ERR_OP;
            return 0;
        }
        const uint32_t made = share(b, PGR_OP_LANE, b->lane_input[b->first_input[group] + index], b->merged[group]);
        b->values[made].group = (uint16_t)(b->merged[group] + 1);
        return made;
    }
    case PGR_OP_LANE_PASS:
        return value_at(b, t, node->lhs);
    case PGR_OP_CUSTOM:
    case PGR_OP_PAIR:
        b->status = PGR_ERR_OP;
        return 0;
    default:
        break;
    }
    const uint32_t x = value_at(b, t, node->lhs), y = node->rhs == 0 ? NONE : value_at(b, t, node->rhs);
    if (node->op != PGR_OP_LANE_SUM)
        return simplify(b, node->op, x, y);
    if (b->values[x].group != 0)
        return new_value(b, PGR_OP_LANE_SUM, x, y);
    if (b->values[y].group == 0) {
        b->status = PGR_ERR_LANES;
        return 0;
    }
    return simplify(b, PGR_OP_MUL, x, constant(b, (double)b->program->group_lanes[b->values[y].group - 1]));
}

/* Marks the nodes that outputs need, descending, and returns the most values that they can make. */
static uint64_t find_needed(builder *b, taking *t, pgr_id last, size_t output_count, const pgr_output *outputs)
{
    uint64_t needed = 0, outside = output_count;
    for (size_t i = 0; i < output_count; i++)
        if (outputs[i].node >= b->start)
            t->value[outputs[i].node - b->start] = 1;
    for (uint64_t id = (uint64_t)last + 1; id-- > b->start && goes_on(b, id);) {
        if (t->value[id - b->start] == 0)
            continue;
        needed++;
        const pgr_node *const node = &b->tape->nodes[id];
        const pgr_id operands[] = {node->lhs, node->rhs};
        for (int k = 0; k < 2; k++) {
            if (operands[k] >= b->start)
                t->value[operands[k] - b->start] = 1;
            else
                outside += operands[k] != 0;
        }
    }
    b->program->nodes = (uint32_t)needed;
    /* A node makes one value and at most one constant besides; one from outside an input. */
    return 2 * needed + outside + 2;
}

static void make_table(builder *b, uint64_t most)
{
    if (most >= NONE / 2)
        b->status = PGR_ERR_FULL;
    uint32_t size = 16;
    while (size <= most && b->status == PGR_OK)
        size *= 2;
    b->table_mask = size - 1;
    b->table = grab(b, size, sizeof *b->table);
    b->values = grab_raw(b, (size_t)most, sizeof *b->values);
}

static void take_outputs(builder *b, const taking *t, size_t output_count, const pgr_output *outputs)
{
    for (size_t i = 0; i < output_count && b->status == PGR_OK; i++) {
        const uint32_t id = value_at(b, t, outputs[i].node);
        value *const v = &b->values[id];
        b->program->outputs[i].node = id;
        b->next_output[i] = v->output;
        v->output = (uint32_t)i;
        if (v->group != 0 && outputs[i].stride == 0 && b->status == PGR_OK)
            b->status = PGR_ERR_LANES;
    }
}

static void take_nodes(builder *b, size_t output_count, const pgr_output *outputs)
{
    const pgr_id start = b->start;
    pgr_id last = start;
    for (size_t i = 0; i < output_count; i++)
        last = outputs[i].node > last ? outputs[i].node : last;
    taking t = {.value = grab(b, (size_t)(last - start) + 1, sizeof *t.value)};
    t.group = b->group_count == 0 ? NULL : grab_raw(b, (size_t)(last - start) + 1, sizeof *t.group);
    if (b->status == PGR_OK)
        make_table(b, find_needed(b, &t, last, output_count, outputs));
    for (uint64_t id = start; id <= last && goes_on(b, id); id++) {
        const size_t i = (size_t)(id - start);
        if (t.value[i] == 0)
            continue;
        const uint32_t before = b->value_count;
        const uint64_t number = next_number(b, &t, (pgr_id)id);
        b->line = next_line(b, &t, (pgr_id)id);
        if (t.group != NULL)
            t.group[i] = group_of(b, &t, (pgr_id)id, number);
        else if ((b->tape->nodes[id].flags & TAPE_LANE) != 0)
            b->status = PGR_ERR_LANES;
        if (b->status == PGR_OK)
            t.value[i] = take_node(b, (pgr_id)id, &t, number);
        for (uint32_t made = before; made < b->value_count && b->status == PGR_OK; made++)
            place(b, made);
    }
    take_outputs(b, &t, output_count, outputs);
    tape_resize(b->tape, t.value, 0);
    tape_resize(b->tape, t.group, 0);
}

/* A lane input of the caller's: where it stands among all, and what it reads. */
typedef struct {
    uint32_t group, at; /* the merged group */
    pgr_lane_input input;
} lane_reference;

static int by_input(const void *p, const void *q)
{
    const lane_reference *const x = p, *const y = q;
#define COMPARE(field) \
    if (x->field != y->field) \
        return x->field < y->field ? -1 : 1
    COMPARE(group);
    COMPARE(input.array);
    COMPARE(input.offset);
    COMPARE(input.stride);
    COMPARE(at);
#undef COMPARE
    return 0;
}

/* Groups of as many lanes become one. */
static void merge_groups(builder *b, size_t group_count, const pgr_lane_group *groups)
{
    pgr_program *const p = b->program;
    uint64_t *const keys = grab_raw(b, group_count, sizeof *keys);
    uint32_t *const lead = grab_raw(b, group_count, sizeof *lead);
    for (size_t g = 0; g < group_count && b->status == PGR_OK; g++) {
        keys[g] = groups[g].lanes << 16 | g;
        if (groups[g].lanes == 0 || groups[g].lanes >> 48 != 0)
            b->status = PGR_ERR_LANES;
    }
    if (b->status == PGR_OK) {
        qsort(keys, group_count, sizeof *keys, by_key);
        for (size_t k = 0; k < group_count; k++)
            lead[keys[k] & 0xffff] = k > 0 && keys[k] >> 16 == keys[k - 1] >> 16 ? lead[keys[k - 1] & 0xffff] : (uint32_t)(keys[k] & 0xffff);
        for (size_t g = 0; g < group_count; g++) {
            if (lead[g] == g)
                p->group_lanes[p->group_count] = groups[g].lanes;
            b->merged[g] = lead[g] == g ? (uint16_t)p->group_count++ : b->merged[lead[g]];
        }
    }
    tape_resize(b->tape, keys, 0);
    tape_resize(b->tape, lead, 0);
}

/* The lane inputs of merged groups: those that read the same numbers are one. */
static void merge_inputs(builder *b, size_t group_count, const pgr_lane_group *groups)
{
    pgr_program *const p = b->program;
    const uint32_t count = b->first_input[group_count];
    lane_reference *const all = grab_raw(b, count, sizeof *all);
    if (b->status != PGR_OK)
        return;
    for (size_t g = 0; g < group_count; g++)
        for (uint32_t k = 0; k < groups[g].input_count; k++) {
            const uint32_t at = b->first_input[g] + k;
            all[at] = (lane_reference){b->merged[g], at, groups[g].inputs[k]};
        }
    qsort(all, count, sizeof *all, by_input);
    uint32_t made = 0, group = 0;
    for (uint32_t k = 0; k < count; k++) {
        for (; group < all[k].group; group++)
            p->group_first_input[group + 1] = made;
        const pgr_lane_input input = all[k].input;
        const pgr_lane_input *const before = made == p->group_first_input[group] ? NULL : &p->lane_inputs[made - 1];
        if (before == NULL || before->array != input.array || before->offset != input.offset || before->stride != input.stride)
            p->lane_inputs[made++] = input;
        b->lane_input[all[k].at] = made - 1 - p->group_first_input[group];
    }
    for (; group < p->group_count; group++)
        p->group_first_input[group + 1] = made;
    tape_resize(b->tape, all, 0);
}

static void take_groups(builder *b, size_t group_count, const pgr_lane_group *groups)
{
    pgr_program *const p = b->program;
    b->group_count = group_count;
    b->first_input = grab(b, group_count + 1, sizeof *b->first_input);
    if (b->status != PGR_OK)
        return;
    for (size_t g = 0; g < group_count; g++)
        b->first_input[g + 1] = b->first_input[g] + groups[g].input_count;
    const uint32_t inputs = b->first_input[group_count];
    b->merged = grab_raw(b, group_count, sizeof *b->merged);
    b->lane_input = grab_raw(b, inputs, sizeof *b->lane_input);
    p->lane_inputs = grab(b, inputs, sizeof *p->lane_inputs);
    p->group_first_input = grab(b, group_count + 1, sizeof *p->group_first_input);
    p->group_lanes = grab(b, group_count, sizeof *p->group_lanes);
    merge_groups(b, group_count, groups);
    merge_inputs(b, group_count, groups);
}

/* Gives back what the program has more room for than it needs. */
static void fit(builder *b)
{
    pgr_program *const p = b->program;
#define FIT(array, count) \
    do { \
        void *const fitting = tape_resize(b->tape, p->array, ((size_t)(count) + 1) * sizeof *p->array); \
        if (fitting != NULL) \
            p->array = fitting; \
    } while (0)
    FIT(instructions, p->instruction_count);
    FIT(lines, p->instruction_count);
    FIT(args, p->arg_count);
    FIT(constants, p->constant_count);
    FIT(inputs, p->input_count);
    FIT(captures, p->capture_count);
    FIT(output_runs, p->output_run_count);
#undef FIT
}

pgr_status pgr_program_build(pgr_tape *tape, pgr_id start, size_t output_count, const pgr_output *outputs, size_t group_count,
                             const pgr_lane_group *groups, uint32_t captures_array, pgr_program **out)
{
    if (group_count >= UINT16_MAX || output_count >= UINT32_MAX / 2)
        return PGR_ERR_FULL;
    builder builder_ = {.tape = tape, .start = start, .captures_array = captures_array};
    builder *const b = &builder_;
    pgr_program *const p = b->program = tape_resize(tape, NULL, sizeof *p);
    if (p == NULL)
        return PGR_ERR_NOMEM;
    *p = (pgr_program){.allocator = tape->allocator};
    p->outputs = grab(b, output_count, sizeof *p->outputs);
    b->next_output = grab(b, output_count, sizeof *b->next_output);
    take_groups(b, group_count, groups);
    if (b->status == PGR_OK) {
        p->output_count = (uint32_t)output_count;
        if (output_count > 0)
            memcpy(p->outputs, outputs, output_count * sizeof *outputs);
        take_nodes(b, output_count, outputs);
    }
    if (b->status == PGR_OK) {
        count_uses(b, b->value_count);
        b->links = grab_raw(b, b->value_count, sizeof *b->links * 2);
        b->chains = grab_raw(b, b->value_count, sizeof *b->chains);
    }
    if (b->status == PGR_OK)
        find_dots(b);
    if (group_count > 0) {
        b->list = grab_raw(b, b->value_count, sizeof *b->list);
        b->stack = grab_raw(b, b->value_count, sizeof *b->stack);
        b->last_use = grab_raw(b, b->value_count, sizeof *b->last_use);
        b->free_slots = grab_raw(b, b->value_count, sizeof *b->free_slots);
    }
    p->constants = grab_raw(b, b->value_count, sizeof *p->constants);
    p->inputs = grab_raw(b, b->value_count, sizeof *p->inputs);
    p->captures = grab_raw(b, b->value_count, sizeof *p->captures);
    if (b->status == PGR_OK) {
        give_uniform_slots(b);
        emit_stages(b, p->group_count);
    }
    for (size_t i = 0; i < output_count && b->status == PGR_OK; i++)
        p->outputs[i].node = is_lane_value(b, p->outputs[i].node) ? SLOT_LANE : b->values[p->outputs[i].node].slot;
    p->output_slots = grab_raw(b, output_count, sizeof *p->output_slots);
    p->output_runs = grab_raw(b, output_count, sizeof *p->output_runs);
    if (b->status == PGR_OK) {
        program_join_outputs(p);
        fit(b);
    }
    void *const scratch[] = {b->values, b->table, b->links, b->chains, b->next_output, b->list, b->stack, b->last_use, b->free_slots,
                             b->uniform_last_use, b->free_uniform, b->sorted, b->stage_end, b->level,
                             b->merged, b->first_input, b->lane_input};
    for (size_t i = 0; i < sizeof scratch / sizeof *scratch; i++)
        tape_resize(tape, scratch[i], 0);
    if (b->status != PGR_OK) {
        pgr_program_free(p);
        return b->status;
    }
    assert(program_is_sound(p));
    *out = p;
    return PGR_OK;
}
