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

static void set_stage(builder *b, uint32_t id)
{
    value *const v = &b->values[id];
    if (is_source(v)) {
        v->stage = v->op == PGR_OP_LANE; /* take_lane sets its group */
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
        stage |= 1; /* from a uniform stage to the next lane stage */
    if (stage == UINT16_MAX)
        b->status = PGR_ERR_FULL;
    v->stage = stage;
    v->group = group;
    if (v->op == PGR_OP_LANE_SUM) {
        v->stage = (uint16_t)(stage + 1);
        v->group = 0;
    }
}

/* ---- Nodes --------------------------------------------------------------------------------------- */

/* The value of a node. A node from before the recording is a captured input, read at every run; until inputs get
 * registers, its id stands for its place among the captures. */
static uint32_t value_at(builder *b, const lowering *t, pgr_id id)
{
    if (id >= b->start)
        return t->value[id - b->start];
    if ((b->tape->nodes[id].flags & TAPE_UNKNOWN) != 0) { /* of another recording */
        b->status = PGR_ERR_UNKNOWN;
        b->node = id;
    }
    return program_share(b, PGR_OP_INPUT, id, b->captures_array);
}

static uint16_t group_at(const builder *b, const lowering *t, pgr_id id)
{
    return id >= b->start ? t->group[id - b->start] : 0;
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

/* Lowers one node, whose operands are lowered. */
static uint32_t take_node(builder *b, pgr_id id, const lowering *t, uint64_t number)
{
    const pgr_node *const node = &b->tape->nodes[id];
    const bool is_unknown = (node->flags & TAPE_UNKNOWN) != 0;
    if (node->lhs == 0 && !is_unknown && node->op != PGR_OP_CUSTOM)
        return program_constant(b, node->data);
    switch (node->op) {
    case PGR_OP_INPUT:
        return program_share(b, PGR_OP_INPUT, (uint32_t)number, (uint32_t)(number >> 32));
    case PGR_OP_LANE:
        return take_lane(b, number);
    case PGR_OP_LANE_PASS:
        return value_at(b, t, node->lhs);
    case PGR_OP_CUSTOM:
    case PGR_OP_PAIR:
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
    t.group = b->group_count == 0 ? NULL : grab_raw(b, count, sizeof *t.group);
    if (b->status == PGR_OK)
        program_make_values(b, find_needed(b, &t, last, output_count, outputs));
    take_nodes(b, &t, last);
    take_outputs(b, &t, output_count, outputs);
    tape_resize(b->tape, t.value, 0);
    tape_resize(b->tape, t.group, 0);
}
