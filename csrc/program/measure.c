/* measure.c: what is known of a program before it runs: the memory that its own calls take, what it reads and writes
 * when others call it, and its work. */
#include "program/call.h"

/* Of a program that runs on a block of lanes. */
static uint64_t lane_frame_of(const pgr_program *p)
{
    return ((uint64_t)p->lane_registers + SPARE_BLOCKS) * ROW + whole(p->lane_call_numbers) +
           whole(p->numbers) + whole(p->call_numbers) + ALIGN;
}

/* Numbers are no more than memory can hold for all workers, so that sums of them don't wrap. */
static const uint64_t MOST_NUMBERS = SIZE_MAX / sizeof(double) / PGR_MAX_WORKERS / 4;

static uint64_t numbers_of(const pgr_program *p, const call *c, bool lanes)
{
    const uint64_t rows = 3 * (uint64_t)c->carry_count + 4; /* what nobody wants, and the mask; or a switch's index */
    uint64_t numbers = whole(call_inputs(c)) + whole(call_outputs(c)) + ALIGN;
    if (lanes)
        numbers += rows * ROW + pointers(1 + call_inputs(c)) + pointers(1 + call_outputs(c)) +
                   pointers(pointers(c->x_count));
    for (uint32_t i = 0; i < c->program_count && numbers < MOST_NUMBERS; i++) {
        const pgr_program *const called = p->programs[c->first_program + i];
        numbers += lanes ? lane_frame_of(called) + (uint64_t)called->group_first_input[called->group_count] * ROW
                         : frame_of(called).numbers;
    }
    return numbers;
}

/* The end of `count` > 0 numbers from `offset` on; UINT64_MAX if it is no less. */
static uint64_t end_of(uint64_t offset, uint64_t count, uint64_t stride)
{
    const bool is_far = stride != 0 && count - 1 > (UINT64_MAX - 1) / stride;
    return is_far || offset > UINT64_MAX - 1 - (count - 1) * stride ? UINT64_MAX : offset + (count - 1) * stride + 1;
}

static void add_read(pgr_program *p, uint32_t array, uint64_t end)
{
    if (array > PGR_MAX_MEMORY) { /* no call gives it */
        array = 0;
        end = UINT64_MAX;
    }
    p->reads[array] = end > p->reads[array] ? end : p->reads[array];
}

static void add_write(pgr_program *p, uint32_t array, uint64_t end)
{
    const uint64_t here = array == 0 ? end : UINT64_MAX;
    p->writes = here > p->writes ? here : p->writes;
}

static void add_call(pgr_program *p, const call *c)
{
    for (uint32_t i = 0; i < c->program_count; i++) {
        const pgr_program *const called = p->programs[c->first_program + i];
        p->depth = called->depth + 1 > p->depth ? called->depth + 1 : p->depth;
        for (uint32_t j = 0; j < c->memory_count; j++) {
            const pgr_lane_input m = p->memory[c->first_memory + j];
            const uint64_t last = end_of(m.offset, c->steps, m.stride), read = called->reads[1 + j];
            if (read > 0)
                add_read(p, m.array, read > UINT64_MAX - last ? UINT64_MAX : last - 1 + read);
        }
    }
}

/* Of a call, once or for each lane, as is_stopped counts it. */
static double work_of(const pgr_program *p, const call *c, bool lanes)
{
    double most = 0.0, sum = 0.0;
    for (uint32_t i = 0; i < c->program_count; i++) {
        const pgr_program *const called = p->programs[c->first_program + i];
        const double work = lanes ? called->lane_work : called->work;
        most = work > most ? work : most;
        sum += work;
    }
    const double own = (double)p->programs[c->first_program]->instruction_count + 1.0;
    return call_has(c, PGR_CALL_SWITCH) ? most : (double)c->steps * (sum + own);
}

bool program_measure(pgr_program *p)
{
    uint64_t numbers[2] = {0, 0};
    for (uint32_t i = 0; i < p->input_count; i++)
        add_read(p, p->inputs[i].array, end_of(p->inputs[i].offset, p->inputs[i].count, 1));
    for (uint32_t g = 0; g < p->group_count; g++)
        for (uint32_t i = p->group_first_input[g]; i < p->group_first_input[g + 1]; i++)
            add_read(p, p->lane_inputs[i].array,
                     end_of(p->lane_inputs[i].offset, p->group_lanes[g], p->lane_inputs[i].stride));
    for (uint32_t i = 0; i < p->output_count; i++)
        add_write(p, p->outputs[i].array, end_of(p->outputs[i].offset, 1, 0));
    for (uint32_t s = 0; s < p->segment_count; s++) {
        const uint32_t group = p->segments[s].group;
        const instruction *const i = p->instructions + p->segments[s].first;
        const double times = group == UINT32_MAX ? 1.0 : (double)p->group_lanes[group];
        p->work += p->segments[s].count * times;
        for (uint32_t k = 0; k < p->segments[s].count; k++) {
            if (i[k].op == PROGRAM_STORE) {
                const pgr_output o = p->outputs[i[k].b];
                add_write(p, o.array, end_of(o.offset, p->group_lanes[group], o.stride));
            } else if (i[k].op == PROGRAM_CALL) {
                const bool lanes = group != UINT32_MAX;
                const uint64_t need = numbers_of(p, &p->calls[i[k].a], lanes);
                numbers[lanes] = need > numbers[lanes] ? need : numbers[lanes];
                add_call(p, &p->calls[i[k].a]);
                p->work += times * work_of(p, &p->calls[i[k].a], lanes);
                p->lane_work += work_of(p, &p->calls[i[k].a], true);
            }
        }
    }
    p->call_numbers = whole((size_t)numbers[0]);
    p->lane_call_numbers = whole((size_t)numbers[1]);
    return numbers[0] < MOST_NUMBERS && numbers[1] < MOST_NUMBERS && p->depth <= PGR_MAX_DEPTH;
}
