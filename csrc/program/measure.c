/* measure.c: the memory that calls need, so that a run allocates once. */
#include "program/run.h"

/* Of a program that runs on a block of lanes. */
static size_t lane_frame_of(const pgr_program *p)
{
    return ((size_t)p->lane_registers + SPARE_BLOCKS) * ROW + whole(p->lane_call_numbers) +
           whole(p->uniform_registers) + whole(p->call_numbers) + ALIGN;
}

static size_t numbers_of(const pgr_program *p, const call *c, bool lanes)
{
    size_t frames = 0, rows = 0;
    for (uint32_t i = 0; i < c->program_count; i++) {
        const pgr_program *const called = called_program(p, c, i);
        frames += lanes ? lane_frame_of(called) : frame_of(called).numbers;
        rows += lanes ? called->group_first_input[called->group_count] : 0;
    }
    const size_t vectors = whole(call_inputs(c)) + whole(call_outputs(c)) + ALIGN;
    if (!lanes)
        return vectors + frames;
    rows += 2 * (size_t)c->carry_count + 4; /* and what nobody wants, and the mask's; or a switch's index */
    return vectors + frames + rows * ROW + pointers(1 + call_inputs(c)) + pointers(1 + call_outputs(c)) +
           pointers(pointers(c->x_count));
}

bool program_measure(pgr_program *p)
{
    const size_t most = SIZE_MAX / sizeof(double) / 4;
    size_t numbers[2] = {0, 0};
    for (uint32_t s = 0; s < p->segment_count; s++) {
        const bool lanes = p->segments[s].group != UINT32_MAX;
        const instruction *const i = p->instructions + p->segments[s].first;
        for (uint32_t k = 0; k < p->segments[s].count; k++) {
            const size_t need = i[k].op == PROGRAM_CALL ? numbers_of(p, &p->calls[i[k].a], lanes) : 0;
            numbers[lanes] = need > numbers[lanes] ? need : numbers[lanes];
        }
    }
    p->call_numbers = whole(numbers[0]);
    p->lane_call_numbers = whole(numbers[1]);
    return numbers[0] < most && numbers[1] < most;
}
