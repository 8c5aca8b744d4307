/* program.c: a program's parts, for listings and files. */
#include "tape/tape.h"
#include "program/packs.h"

/* Files hold these as they are in memory: another layout needs another magic line in pygrad/_program/files.py. */
_Static_assert(sizeof(pgr_instruction) == 16 && sizeof(pgr_program_dot) == 8 && sizeof(pgr_segment) == 20, "layout");
_Static_assert(sizeof(pgr_uniform_input) == 24 && sizeof(pgr_output) == 24, "layout");
_Static_assert(_Alignof(uint64_t) != 8 || sizeof(pgr_lane_input) == 24, "layout");

#include <string.h>

/* Of loops whose steps have numbers of their own: with more, the sums below could wrap. */
static const uint64_t MOST_STEPS = UINT32_MAX / 2;

uint64_t program_operands_of(const call *c)
{
    if ((c->flags & PGR_CALL_SWITCH) != 0)
        return 1 + (uint64_t)c->const_count;
    const uint64_t once = (uint64_t)c->const_count + c->carry_count + ((c->flags & PGR_CALL_COUNTED) != 0);
    return c->x_count != 0 && c->steps > MOST_STEPS ? UINT64_MAX : once + c->steps * c->x_count;
}

uint64_t program_results_of(const call *c)
{
    if ((c->flags & PGR_CALL_SWITCH) != 0)
        return c->carry_count;
    const uint64_t once = (uint64_t)c->carry_count + ((c->flags & PGR_CALL_TESTED) != 0);
    return c->y_count != 0 && c->steps > MOST_STEPS ? UINT64_MAX : once + c->steps * c->y_count;
}

void program_list_outputs(pgr_program *p)
{
    uint32_t registers = 0;
    for (uint32_t i = 0; i < p->output_count; i++)
        if (p->outputs[i].node != REGISTER_LANE)
            p->output_registers[registers++] = p->outputs[i].node;
}

/* How many registers from the i-th output on, of those that end before `end`, are in a row. */
static uint32_t row_from(const uint32_t *registers, uint32_t i, uint32_t end)
{
    uint32_t count = 1;
    while (i + count < end && registers[i + count] == registers[i] + count)
        count++;
    return count;
}

/* Adds the outputs whose registers begin at `from`: as rows that are worth copying at once, and what is between. */
static void add_output_runs(pgr_program *p, uniform_output run, uint32_t from)
{
    enum { WORTH = 16 };
    const uint32_t end = from + (uint32_t)run.count;
    for (uint32_t at = from, n; at < end; at += n) {
        n = row_from(p->output_registers, at, end);
        const bool is_row = n >= WORTH;
        while (!is_row && at + n < end && row_from(p->output_registers, at + n, end) < WORTH)
            n++;
        p->output_runs[p->output_run_count++] = (uniform_output){run.array, is_row, run.offset + (at - from), n};
    }
}

void program_join_outputs(pgr_program *p)
{
    uniform_output run = {0};
    uint32_t registers = 0;
    p->output_run_count = 0;
    for (uint32_t i = 0; i < p->output_count; i++) {
        const pgr_output o = p->outputs[i];
        if (o.node == REGISTER_LANE)
            continue;
        if (run.count > 0 && (run.array != o.array || run.offset + run.count != o.offset)) {
            add_output_runs(p, run, registers - (uint32_t)run.count);
            run.count = 0;
        }
        if (run.count++ == 0)
            run = (uniform_output){o.array, 0, o.offset, 1};
        registers++;
    }
    if (run.count > 0)
        add_output_runs(p, run, registers - (uint32_t)run.count);
}

void program_free_packs(pgr_program *p)
{
    program_packs *const packs = p->packs;
    p->packs = NULL;
    if (packs == NULL)
        return;
    void *const arrays[] = {packs->stretches, packs->steps, packs->code, packs->index,
                            packs->plain, packs->args, packs->dots, packs->copies, packs};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        p->allocator.resize(p->allocator.ctx, arrays[i], 0);
}

void pgr_program_free(pgr_program *program)
{
    if (program == NULL)
        return;
    program_free_packs(program);
    const pgr_allocator a = program->allocator;
    void *const arrays[] = {program->instructions, program->args, program->dots, program->segments, program->constants,
                            program->inputs, program->outputs, program->lane_inputs, program->group_first_input,
                            program->group_lanes, program->captures, program->held_captures, program->lines,
                            program->output_registers, program->output_runs, program->calls, program->memory,
                            program->programs};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        a.resize(a.ctx, arrays[i], 0);
    a.resize(a.ctx, program, 0);
}

size_t pgr_program_captures(const pgr_program *program, const pgr_id **ids)
{
    *ids = program->captures;
    return program->capture_count;
}

size_t pgr_h_program_captures(const pgr_program *program, const pgr_handle **handles)
{
    *handles = program->held_captures;
    return program->held_captures == NULL ? 0 : program->capture_count;
}

const uint32_t *pgr_program_lines(const pgr_program *program) { return program->lines; }

static uint64_t bytes_of_packs(const program_packs *packs)
{
    return packs == NULL ? 0
                         : sizeof *packs + packs->step_count * sizeof *packs->steps +
                               ((uint64_t)packs->code_count + packs->index_count) * sizeof *packs->code;
}

pgr_program_stats pgr_program_stat(const pgr_program *program)
{
    const pgr_program *const p = program;
    return (pgr_program_stats){
        .instructions = p->instruction_count,
        .dots = p->dot_count,
        .segments = p->segment_count,
        .uniform_registers = p->uniform_registers,
        .lane_registers = p->lane_registers,
        .constants = p->constant_count,
        .nodes = p->nodes,
        .block = p->lane_registers == 0 ? 0 : p->block,
        .bytes = sizeof *p + p->instruction_count * sizeof *p->instructions + p->arg_count * sizeof *p->args +
                 p->dot_count * sizeof *p->dots + p->segment_count * sizeof *p->segments + bytes_of_packs(p->packs),
    };
}

double pgr_program_work(const pgr_program *program) { return program->work; }

void pgr_program_to_parts(const pgr_program *program, pgr_program_parts *parts)
{
    const pgr_program *const p = program;
    *parts = (pgr_program_parts){
        .instruction_count = p->instruction_count,
        .arg_count = p->arg_count,
        .dot_count = p->dot_count,
        .segment_count = p->segment_count,
        .constant_count = p->constant_count,
        .input_count = p->input_count,
        .output_count = p->output_count,
        .lane_input_count = p->group_first_input[p->group_count],
        .group_count = p->group_count,
        .call_count = p->call_count,
        .memory_count = p->memory_count,
        .program_count = p->program_count,
        .uniform_registers = p->uniform_registers,
        .lane_registers = p->lane_registers,
        .block = p->block,
        .nodes = p->nodes,
        .instructions = p->instructions,
        .args = p->args,
        .dots = p->dots,
        .segments = p->segments,
        .constants = p->constants,
        .inputs = p->inputs,
        .outputs = p->outputs,
        .lane_inputs = p->lane_inputs,
        .group_first_input = p->group_first_input,
        .group_lanes = p->group_lanes,
        .calls = p->calls,
        .memory = p->memory,
        .programs = p->programs,
    };
}
