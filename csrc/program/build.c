/* build.c: builds a program from a recording: the order of the passes, each of which is a file.
 *
 * groups.c merges groups of lanes; lower.c makes values of nodes, through simplify.c; fuse.c drops dead ones and finds
 * dots; schedule.c orders them; uniform.c and lane.c allocate registers and emit segments. Every pass is linear but for
 * sorting, and none recurses. */
#include "program/fuse.h"
#include "program/groups.h"
#include "program/lane.h"
#include "program/lower.h"
#include "program/schedule.h"
#include "program/uniform.h"

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
    while (p->block > BLOCK_FEWEST && (uint64_t)p->lane_registers * p->block * sizeof(double) > BLOCK_BYTES)
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
        program_join_outputs(p);
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

static void free_scratch(builder *b)
{
    void *const scratch[] = {b->values, b->table, b->merged, b->first_input, b->lane_input, b->links,
                             b->dots, b->next_output, b->sorted, b->stage_end, b->level};
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
        fit(b);
}

pgr_status pgr_program_build(pgr_tape *tape, pgr_id start, size_t output_count, const pgr_output *outputs,
                             size_t group_count, const pgr_lane_group *groups, uint32_t captures_array,
                             pgr_program **out, pgr_id *bad)
{
    if (group_count >= UINT16_MAX || output_count >= UINT32_MAX / 2)
        return PGR_ERR_FULL;
    builder b = {.tape = tape, .start = start, .captures_array = captures_array};
    pgr_program *const p = b.program = tape_resize(tape, NULL, sizeof *p);
    if (p == NULL)
        return PGR_ERR_NOMEM;
    *p = (pgr_program){.allocator = tape->allocator};
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
