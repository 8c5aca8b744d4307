/* lower.c: lowering the tape's nodes to values, in their order, which is topological.
 *
 * Each value gets a stage. Values of even stages are computed once, those of odd stages for each lane; a sum over lanes
 * belongs to the stage after its lanes. Nodes that no output depends on are skipped. */
#include "program/lower.h"

#include "program/simplify.h"

/* A pass over the nodes from `start` on. */
typedef struct {
    uint32_t *value;      /* by node: 0: not needed; 1: needed; once lowered, its value */
    uint16_t *group;      /* by node: the group of its lanes, counted from 1; 0: not a lane. NULL without groups */
    uint32_t number, run; /* the next of the tape's numbers and of its lines */
    uint32_t line;        /* of the present run */
} lowering;

/* ---- Stages -------------------------------------------------------------------------------------- */

/* A value's stage is at least that of its operand, and its group the operand's. */
static void follow(builder *b, value *v, const value *operand)
{
    if (operand->group != 0) {
        if (v->group != 0 && v->group != operand->group)
            b->status = PGR_ERR_LANES;
        v->group = operand->group;
    }
    v->stage = operand->stage > v->stage ? operand->stage : v->stage;
}

static void set_stage(builder *b, uint32_t id)
{
    value *const v = &b->values[id];
    if (is_source(v)) {
        v->stage = v->op == PGR_OP_LANE; /* take_lane sets its group */
        return;
    }
    if (v->op == PROGRAM_CALL) {
#define FOLLOW(operand) follow(b, v, &b->values[operand])
        FOR_CALL_OPERANDS(b, v, FOLLOW);
#undef FOLLOW
    } else {
        follow(b, v, &b->values[v->a]);
        if (v->b != NONE && v->op != PGR_OP_CALL)
            follow(b, v, &b->values[v->b]);
    }
    if (v->group != 0)
        v->stage |= 1; /* from a uniform stage to the next lane stage */
    if (v->stage == UINT16_MAX)
        b->status = PGR_ERR_FULL;
    if (v->op == PGR_OP_LANE_SUM) {
        v->stage++;
        v->group = 0;
    }
}

/* ---- Nodes --------------------------------------------------------------------------------------- */

PGR_NOINLINE static const binding *find_binding(const builder *b, pgr_id id)
{
    size_t low = 0, high = b->binding_count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        *(b->bindings[middle].node < id ? &low : &high) = b->bindings[middle].node < id ? middle + 1 : middle;
    }
    return low < b->binding_count && b->bindings[low].node == id ? &b->bindings[low] : NULL;
}

/* What a node stands for; NULL: its operation. */
static inline const binding *binding_of(const builder *b, pgr_id id)
{
    return PGR_UNLIKELY(b->binding_count != 0) ? find_binding(b, id) : NULL;
}

static uint32_t take_lane(builder *b, uint64_t number)
{
    const uint32_t group = tape_number_group(number), index = (uint32_t)number;
    if (b->first_input[group + 1] - b->first_input[group] <= index) {
        b->status = PGR_ERR_LANES;
        return 0;
    }
    const uint32_t made =
        program_share(b, PGR_OP_LANE, b->lane_input[b->first_input[group] + index], b->merged[group]);
    b->values[made].group = (uint16_t)(b->merged[group] + 1);
    return made;
}

/* The value of an input, or of a lane. */
static uint32_t take_input(builder *b, int op, uint64_t number)
{
    if (op == PGR_OP_LANE)
        return take_lane(b, number);
    if ((uint32_t)(number >> 32) > b->captures_array) { /* of a program that this one calls */
        b->status = PGR_ERR_UNKNOWN;
        return 0;
    }
    return program_share(b, PGR_OP_INPUT, (uint32_t)number, (uint32_t)(number >> 32));
}

/* The value of a node. A node from before the recording is a captured input, read at every run; until inputs get
 * registers, its id stands for its place among the captures. */
static uint32_t value_at(builder *b, const lowering *t, pgr_id id)
{
    if (id >= b->start)
        return t->value[id - b->start];
    const binding *const given = binding_of(b, id);
    if (given != NULL) {
        const uint32_t made = take_input(b, given->op, given->number);
        if (b->status == PGR_OK)
            b->values[made].stage = given->op == PGR_OP_LANE;
        return made;
    }
    if (b->is_called && b->tape->nodes[id].op == PGR_OP_CONST)
        return program_constant(b, b->tape->nodes[id].data);
    if (b->is_called || (b->tape->nodes[id].flags & TAPE_UNKNOWN) != 0) { /* of another recording */
        b->status = PGR_ERR_UNKNOWN;
        b->node = id;
    }
    return program_share(b, PGR_OP_INPUT, id, b->captures_array);
}

static uint16_t group_at(const builder *b, const lowering *t, pgr_id id)
{
    if (id >= b->start)
        return t->group[id - b->start];
    const binding *const given = binding_of(b, id);
    return given != NULL && given->op == PGR_OP_LANE ? (uint16_t)(tape_number_group(given->number) + 1) : 0;
}

/* The number of the node that the pass has reached; 0 if it has none. */
static uint64_t next_number(const builder *b, lowering *t, pgr_id id)
{
    const tape_number *const numbers = b->tape->numbers;
    while (t->number < b->tape->number_count && numbers[t->number].node < id)
        t->number++;
    return t->number < b->tape->number_count && numbers[t->number].node == id ? numbers[t->number].number : 0;
}

static uint32_t next_line(const builder *b, lowering *t, pgr_id id)
{
    const tape_tags *const lines = &b->tape->tags[PGR_TAG_LINE];
    for (; t->run < lines->count && lines->runs[t->run].start <= id; t->run++)
        t->line = lines->runs[t->run].tag;
    return t->line;
}

static uint32_t merged_group(const builder *b, uint16_t group) { return b->merged[group - 1]; }

/* The group of a node's lanes. Lanes of different vmaps meet only if one is passed to the other, even where the vmaps
 * run as one group: a lane that escaped from its vmap is a mistake. */
static uint16_t group_of(builder *b, const lowering *t, pgr_id id, uint64_t number)
{
    const pgr_node *const node = &b->tape->nodes[id];
    const binding *const bound = binding_of(b, id);
    if (bound != NULL)
        return bound->op == PGR_OP_LANE ? (uint16_t)(tape_number_group(bound->number) + 1) : 0;
    const uint16_t lhs = group_at(b, t, node->lhs), rhs = group_at(b, t, node->rhs);
    if (node->op == PGR_OP_LANE || node->op == PGR_OP_LANE_PASS) {
        const uint32_t given = tape_number_group(number);
        const uint16_t group = given < b->group_count ? (uint16_t)(given + 1) : 0;
        if (group == 0 || (lhs != 0 && merged_group(b, lhs) != merged_group(b, group)))
            b->status = PGR_ERR_LANES;
        return group;
    }
    if (lhs != 0 && rhs != 0 && lhs != rhs)
        b->status = PGR_ERR_LANES;
    return node->op == PGR_OP_LANE_SUM ? 0 : lhs != 0 ? lhs : rhs;
}

/* The sum of x over the lanes of y. */
static uint32_t take_lane_sum(builder *b, uint32_t x, uint32_t y)
{
    if (b->values[x].group != 0)
        return program_new_value(b, PGR_OP_LANE_SUM, x, y);
    if (b->values[y].group == 0) {
        b->status = PGR_ERR_LANES;
        return 0;
    }
    const uint64_t lanes = b->program->group_lanes[b->values[y].group - 1];
    return program_simplify(b, PGR_OP_MUL, x, program_constant(b, (double)lanes));
}

/* Whether a chain is that of a call's operands: others would not be lowered. */
static bool is_chain_of(const builder *b, const call_values *c, pgr_id end)
{
    for (uint32_t k = c->operand_count; k-- > 1; end = b->tape->nodes[end].lhs)
        if (b->tape->nodes[end].op != PGR_OP_PAIR || b->tape->nodes[end].rhs != c->nodes[k])
            return false;
    return end == (c->operand_count == 0 ? 0 : c->nodes[0]);
}

/* A result of a call, whose operands are lowered. */
static uint32_t take_result(builder *b, const lowering *t, uint64_t number)
{
    const uint32_t which = (uint32_t)(number >> 32), result = (uint32_t)number;
    if (which >= b->program->call_count || result >= b->calls[which].result_count) {
        b->status = PGR_ERR_UNKNOWN;
        return 0;
    }
    call_values *const c = &b->calls[which];
    if (c->made == NONE && !is_chain_of(b, c, b->tape->nodes[b->node].lhs))
        b->status = PGR_ERR_ARGUMENT;
    if (b->status == PGR_OK && c->made == NONE) {
        for (uint32_t k = 0; k < c->operand_count && b->status == PGR_OK; k++)
            c->operands[k] = value_at(b, t, c->nodes[k]);
        if (b->status == PGR_OK)
            c->made = program_new_value(b, PROGRAM_CALL, which, NONE);
    }
    if (b->status == PGR_OK && c->results[result] == NONE)
        c->results[result] = program_new_value(b, PGR_OP_CALL, c->made, result);
    return c->results[result];
}

/* Lowers one node, whose operands are lowered. */
static uint32_t take_node(builder *b, pgr_id id, const lowering *t, uint64_t number)
{
    const pgr_node *const node = &b->tape->nodes[id];
    const bool is_unknown = (node->flags & TAPE_UNKNOWN) != 0;
    const binding *const given = binding_of(b, id);
    if (given != NULL)
        return take_input(b, given->op, given->number);
    if (node->lhs == 0 && !is_unknown && node->op != PGR_OP_CUSTOM)
        return program_constant(b, node->data);
    switch (node->op) {
    case PGR_OP_INPUT:
    case PGR_OP_LANE:
        return take_input(b, node->op, number);
    case PGR_OP_CALL:
        return take_result(b, t, number);
    case PGR_OP_LANE_PASS:
        return value_at(b, t, node->lhs);
    case PGR_OP_PAIR: /* what it is an operand of knows its operands */
        return 0;
    case PGR_OP_CUSTOM:
        b->status = PGR_ERR_OPAQUE;
        return 0;
    default:
        break;
    }
    const uint32_t x = value_at(b, t, node->lhs), y = node->rhs == 0 ? NONE : value_at(b, t, node->rhs);
    return node->op == PGR_OP_LANE_SUM ? take_lane_sum(b, x, y) : program_simplify(b, node->op, x, y);
}

/* ---- The pass ------------------------------------------------------------------------------------ */

/* Marks the nodes that outputs depend on, descending. Returns the most values that they can make. */
static uint64_t find_needed(builder *b, lowering *t, pgr_id last, size_t output_count, const pgr_output *outputs)
{
    uint64_t needed = 0, outside = output_count;
    for (size_t i = 0; i < output_count; i++)
        if (outputs[i].node >= b->start)
            t->value[outputs[i].node - b->start] = 1;
    for (uint64_t id = (uint64_t)last + 1; id-- > b->start && goes_on(b, id);) {
        if (t->value[id - b->start] == 0)
            continue;
        needed++;
        if (binding_of(b, (pgr_id)id) != NULL)
            continue;
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
    /* A node makes one value and at most one constant; a node from outside makes an input. */
    return 2 * needed + outside + 2;
}

static void take_outputs(builder *b, const lowering *t, size_t output_count, const pgr_output *outputs)
{
    for (size_t i = 0; i < output_count && b->status == PGR_OK; i++) {
        b->node = outputs[i].node;
        const uint32_t id = value_at(b, t, b->node);
        value *const v = &b->values[id];
        b->program->outputs[i].node = id;
        b->next_output[i] = v->output;
        v->output = (uint32_t)i;
        if (v->group != 0 && outputs[i].stride == 0 && b->status == PGR_OK)
            b->status = PGR_ERR_LANES;
    }
}

static void take_nodes(builder *b, lowering *t, pgr_id last)
{
    for (uint64_t id = b->start; id <= last && goes_on(b, id); id++) {
        const size_t i = (size_t)(id - b->start);
        if (t->value[i] == 0)
            continue;
        const uint32_t before = b->value_count;
        const uint64_t number = next_number(b, t, (pgr_id)id);
        b->node = (pgr_id)id;
        b->line = next_line(b, t, (pgr_id)id);
        if (t->group != NULL)
            t->group[i] = group_of(b, t, (pgr_id)id, number);
        else if ((b->tape->nodes[id].flags & TAPE_LANE) != 0)
            b->status = PGR_ERR_LANES;
        if (b->status == PGR_OK)
            t->value[i] = take_node(b, (pgr_id)id, t, number);
        for (uint32_t made = before; made < b->value_count && b->status == PGR_OK; made++)
            set_stage(b, made);
    }
}

void program_lower(builder *b, size_t output_count, const pgr_output *outputs)
{
    pgr_id last = b->start;
    for (size_t i = 0; i < output_count; i++)
        last = outputs[i].node > last ? outputs[i].node : last;
    const size_t count = (size_t)(last - b->start) + 1;
    lowering t = {.value = grab(b, count, sizeof *t.value)};
    t.group = b->group_count == 0 && !b->is_called ? NULL : grab_raw(b, count, sizeof *t.group);
    if (b->status == PGR_OK)
        program_make_values(b, find_needed(b, &t, last, output_count, outputs));
    take_nodes(b, &t, last);
    take_outputs(b, &t, output_count, outputs);
    tape_resize(b->tape, t.value, 0);
    tape_resize(b->tape, t.group, 0);
}
