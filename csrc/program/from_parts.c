/* from_parts.c: a program of untrusted parts, once they are verified. */
#include "tape/tape.h"
#include "program/packs.h"

#include <string.h>

static void *copy(const pgr_allocator *a, const void *from, size_t count, size_t size, pgr_status *status)
{
    void *const to = *status == PGR_OK ? a->resize(a->ctx, NULL, (count + 1) * size) : NULL;
    if (to == NULL)
        *status = PGR_ERR_NOMEM;
    else if (count > 0)
        memcpy(to, from, count * size);
    return to;
}

/* What is not among the parts. */
static pgr_status finish(pgr_program *p)
{
    program_list_outputs(p);
    const pgr_status status = program_pack(p);
    program_join_outputs(p);
    return status != PGR_OK ? status : program_measure(p) ? PGR_OK : PGR_ERR_PROGRAM;
}

pgr_status pgr_program_from_parts(const pgr_program_parts *parts, size_t in_count, const uint64_t *in_sizes,
                                  size_t out_count, const uint64_t *out_sizes, pgr_program **out)
{
    pgr_status status = program_verify(parts, in_count, in_sizes, out_count, out_sizes);
    if (status != PGR_OK)
        return status;
    const pgr_allocator a = tape_allocator(NULL);
    pgr_program *const p = a.resize(a.ctx, NULL, sizeof *p);
    if (p == NULL)
        return PGR_ERR_NOMEM;
    *p = (pgr_program){
        .allocator = a,
        .instruction_count = parts->instruction_count,
        .arg_count = parts->arg_count,
        .dot_count = parts->dot_count,
        .segment_count = parts->segment_count,
        .constant_count = parts->constant_count,
        .input_count = parts->input_count,
        .output_count = parts->output_count,
        .group_count = parts->group_count,
        .call_count = parts->call_count,
        .memory_count = parts->memory_count,
        .program_count = parts->program_count,
        .uniform_registers = parts->uniform_registers,
        .lane_registers = parts->lane_registers,
        .block = parts->block,
        .nodes = parts->nodes,
    };
#define COPY(array, count) p->array = copy(&a, parts->array, count, sizeof *p->array, &status)
    COPY(instructions, p->instruction_count);
    COPY(args, p->arg_count);
    COPY(dots, p->dot_count);
    COPY(segments, p->segment_count);
    COPY(constants, p->constant_count);
    COPY(inputs, p->input_count);
    COPY(outputs, p->output_count);
    COPY(lane_inputs, parts->lane_input_count);
    COPY(group_first_input, (size_t)p->group_count + 1);
    COPY(group_lanes, p->group_count);
    COPY(calls, p->call_count);
    COPY(memory, p->memory_count);
    COPY(programs, p->program_count);
#undef COPY
    p->output_registers = copy(&a, NULL, 0, (p->output_count + 1) * sizeof *p->output_registers, &status);
    p->output_runs = copy(&a, NULL, 0, (p->output_count + 1) * sizeof *p->output_runs, &status);
    if (status == PGR_OK)
        status = finish(p);
    if (status == PGR_OK)
        *out = p;
    else
        pgr_program_free(p);
    return status;
}
