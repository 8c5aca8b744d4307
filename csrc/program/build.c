/* build.c: builds a program from a recording: the order of the passes, each of which is a file.
 *
 * groups.c merges groups of lanes; lower.c makes values of nodes, through simplify.c; fuse.c drops dead ones and finds
 * dots; schedule.c orders them; uniform.c and lane.c allocate registers and emit segments. Every pass is linear but for
 * sorting, and none recurses. */
#include "program/fuse.h"
#include "program/groups.h"
#include "program/lane.h"
#include "program/lower.h"
#include "program/packs.h"
#include "program/schedule.h"
#include "program/uniform.h"
#include "tape/slots.h"

#include <stdlib.h>

static void emit_stages(builder *b)
{
    pgr_program *const p = b->program;
    uniform_scratch uniform;
    lane_scratch lanes;
    program_begin_uniform(b, &uniform);
    program_begin_lanes(b, &lanes);
    for (uint32_t stage = 0; stage <= b->last_stage && b->status == PGR_OK; stage++) {
        if (stage % 2 == 0)
            program_emit_uniform(b, &uniform, stage);
        else
            program_emit_lanes(b, &lanes, stage);
    }
    program_end_uniform(b, &uniform);
    program_end_lanes(b, &lanes);
    p->block = BLOCK_MOST;
    while (p->block > BLOCK_FEWEST && (uint64_t)p->lane_registers * p->block * sizeof(double) >
                                          (p->block > BLOCK_USUAL ? BLOCK_NEAR : BLOCK_BYTES))
        p->block /= 2;
}

/* Outputs that are values become registers. */
static void place_outputs(builder *b)
{
    pgr_program *const p = b->program;
    for (size_t i = 0; i < p->output_count && b->status == PGR_OK; i++) {
        const uint32_t id = p->outputs[i].node;
        p->outputs[i].node = is_lane_value(b, id) ? REGISTER_LANE : b->values[id].reg;
    }
    p->output_registers = grab_raw(b, p->output_count, sizeof *p->output_registers);
    p->output_runs = grab_raw(b, p->output_count, sizeof *p->output_runs);
    if (b->status == PGR_OK)
        program_list_outputs(p);
}

/* Gives back memory beyond what the program needs. */
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

static int by_node(const void *p, const void *q)
{
    const pgr_id x = ((const binding *)p)->node, y = ((const binding *)q)->node;
    return (x > y) - (x < y);
}

static pgr_id id_of(builder *b, pgr_handle h)
{
    const pgr_id id = tape_id_of(b->tape, h);
    if (id == 0 && b->status == PGR_OK)
        b->status = PGR_ERR_HANDLE;
    return id;
}

/* What a node is bound to exists: nobody else looks. */
static bool is_bound_to_something(const pgr_binding *given, size_t group_count)
{
    return given->op == PGR_OP_INPUT || (given->op == PGR_OP_LANE && tape_number_group(given->number) < group_count);
}

static void take_bindings(builder *b, const pgr_inner *inner, size_t group_count)
{
    b->is_called = inner->is_called != 0;
    b->bindings = grab(b, inner->binding_count, sizeof *b->bindings);
    for (size_t i = 0; i < inner->binding_count && b->status == PGR_OK; i++) {
        const pgr_binding given = inner->bindings[i];
        if (!is_bound_to_something(&given, group_count))
            b->status = PGR_ERR_ARGUMENT;
        b->bindings[b->binding_count++] = (binding){id_of(b, given.node), given.op, given.number};
    }
    if (b->status == PGR_OK)
        qsort(b->bindings, b->binding_count, sizeof *b->bindings, by_node);
}

static void take_call(builder *b, const pgr_recorded_call *given)
{
    const uint32_t i = b->program->call_count;
    const uint64_t results = program_results_of(&given->call), operands = program_operands_of(&given->call);
    if (given->operand_count != operands || operands >= REGISTER_NONE || results >= REGISTER_NONE)
        b->status = PGR_ERR_ARGUMENT;
    const size_t operand_count = (size_t)operands, result_count = (size_t)results;
    call_values *const c = &b->calls[i];
    *c = (call_values){.made = NONE, .operand_count = (uint32_t)operands, .result_count = (uint32_t)results};
    c->nodes = grab_raw(b, operand_count, sizeof *c->nodes);
    c->operands = grab_raw(b, operand_count, sizeof *c->operands);
    c->results = grab_raw(b, result_count, sizeof *c->results);
    b->program->call_count++; /* from here on they are freed */
    if (b->status != PGR_OK)
        return;
    b->program->calls[i] = given->call;
    for (size_t k = 0; k < operands; k++)
        c->nodes[k] = id_of(b, given->operands[k]);
    memset(c->results, 0xff, result_count * sizeof *c->results); /* NONE */
}

static void take_inner(builder *b, const pgr_inner *inner, size_t group_count)
{
    pgr_program *const p = b->program;
    take_bindings(b, inner, group_count);
    b->calls = grab(b, inner->call_count, sizeof *b->calls);
    p->calls = grab(b, inner->call_count, sizeof *p->calls);
    p->memory = grab(b, inner->memory_count, sizeof *p->memory);
    p->programs = grab(b, inner->program_count, sizeof *p->programs);
    if (b->status != PGR_OK)
        return;
    for (size_t i = 0; i < inner->call_count && b->status == PGR_OK; i++)
        take_call(b, &inner->calls[i]);
    p->memory_count = (uint32_t)inner->memory_count;
    p->program_count = (uint32_t)inner->program_count;
    if (inner->memory_count > 0)
        memcpy(p->memory, inner->memory, inner->memory_count * sizeof *p->memory);
    if (inner->program_count > 0)
        memcpy(p->programs, inner->programs, inner->program_count * sizeof *p->programs);
}

static void free_scratch(builder *b)
{
    for (uint32_t i = 0; b->calls != NULL && i < b->program->call_count; i++) {
        tape_resize(b->tape, b->calls[i].nodes, 0);
        tape_resize(b->tape, b->calls[i].operands, 0);
        tape_resize(b->tape, b->calls[i].results, 0);
    }
    void *const scratch[] = {b->values, b->table, b->merged, b->first_input, b->lane_input, b->links,
                             b->dots, b->next_output, b->sorted, b->stage_end, b->level, b->bindings, b->calls};
    for (size_t i = 0; i < sizeof scratch / sizeof *scratch; i++)
        tape_resize(b->tape, scratch[i], 0);
}

static void run_passes(builder *b, size_t output_count, const pgr_output *outputs, size_t group_count,
                       const pgr_lane_group *groups)
{
    pgr_program *const p = b->program;
    p->outputs = grab(b, output_count, sizeof *p->outputs);
    b->next_output = grab(b, output_count, sizeof *b->next_output);
    program_merge_groups(b, group_count, groups);
    if (b->status == PGR_OK) {
        p->output_count = (uint32_t)output_count;
        if (output_count > 0)
            memcpy(p->outputs, outputs, output_count * sizeof *outputs);
        program_lower(b, output_count, outputs);
    }
    if (b->status == PGR_OK)
        program_fuse(b);
    if (b->status == PGR_OK)
        program_schedule(b);
    if (b->status == PGR_OK)
        emit_stages(b);
    if (b->status == PGR_OK)
        place_outputs(b);
    if (b->status == PGR_OK)
        b->status = program_pack(p);
    if (b->status == PGR_OK)
        program_join_outputs(p);
    if (b->status == PGR_OK)
        fit(b);
    if (b->status == PGR_OK && !program_measure(p))
        b->status = p->depth > PGR_MAX_DEPTH ? PGR_ERR_ARGUMENT : PGR_ERR_FULL;
}

pgr_status pgr_program_build(pgr_tape *tape, pgr_id start, size_t output_count, const pgr_output *outputs,
                             size_t group_count, const pgr_lane_group *groups, uint32_t captures_array,
                             const pgr_inner *inner, pgr_program **out, pgr_id *bad)
{
    if (group_count >= UINT16_MAX || output_count >= UINT32_MAX / 2)
        return PGR_ERR_FULL;
    builder b = {.tape = tape, .start = start, .captures_array = captures_array};
    pgr_program *const p = b.program = tape_resize(tape, NULL, sizeof *p);
    if (p == NULL)
        return PGR_ERR_NOMEM;
    *p = (pgr_program){.allocator = tape->allocator};
    if (inner != NULL)
        take_inner(&b, inner, group_count);
    run_passes(&b, output_count, outputs, group_count, groups);
    free_scratch(&b);
    if (b.status != PGR_OK) {
        if (bad != NULL)
            *bad = b.node;
        pgr_program_free(p);
        return b.status;
    }
    assert(program_is_sound(p));
    *out = p;
    return PGR_OK;
}
