/* groups.c: merging groups of lanes.
 *
 * Vmaps over equally many lanes become one group, so that their lanes run in one segment, and lane inputs that read the
 * same numbers become one input. */
#include "program/groups.h"

#include <stdlib.h>

/* A lane input of the caller's: its place among all of them, and what it reads. */
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

static int by_key(const void *p, const void *q)
{
    const uint64_t x = *(const uint64_t *)p, y = *(const uint64_t *)q;
    return (x > y) - (x < y);
}

/* By group, the first group with as many lanes. */
static void find_leads(builder *b, const pgr_lane_group *groups, uint64_t *keys, uint32_t *lead)
{
    for (size_t g = 0; g < b->group_count; g++) {
        keys[g] = groups[g].lanes << 16 | g;
        if (groups[g].lanes == 0 || groups[g].lanes >> 48 != 0)
            b->status = PGR_ERR_ARGUMENT;
    }
    qsort(keys, b->group_count, sizeof *keys, by_key);
    for (size_t k = 0; k < b->group_count; k++) {
        const uint32_t g = keys[k] & 0xffff;
        const bool is_first = k == 0 || keys[k] >> 16 != keys[k - 1] >> 16;
        lead[g] = is_first ? g : lead[keys[k - 1] & 0xffff];
    }
}

static void merge_lanes(builder *b, const pgr_lane_group *groups)
{
    pgr_program *const p = b->program;
    uint64_t *const keys = grab_raw(b, b->group_count, sizeof *keys);
    uint32_t *const lead = grab_raw(b, b->group_count, sizeof *lead);
    if (b->status == PGR_OK)
        find_leads(b, groups, keys, lead);
    for (size_t g = 0; g < b->group_count && b->status == PGR_OK; g++) {
        if (lead[g] == g)
            p->group_lanes[p->group_count] = groups[g].lanes;
        b->merged[g] = lead[g] == g ? (uint16_t)p->group_count++ : b->merged[lead[g]];
    }
    tape_resize(b->tape, keys, 0);
    tape_resize(b->tape, lead, 0);
}

static bool reads_the_same(const pgr_lane_input *x, const pgr_lane_input *y)
{
    return x->array == y->array && x->offset == y->offset && x->stride == y->stride;
}

static void merge_inputs(builder *b, const pgr_lane_group *groups)
{
    pgr_program *const p = b->program;
    const uint32_t count = b->first_input[b->group_count];
    lane_reference *const all = grab_raw(b, count, sizeof *all);
    if (b->status != PGR_OK)
        return;
    for (size_t g = 0; g < b->group_count; g++)
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
        if (made == p->group_first_input[group] || !reads_the_same(&p->lane_inputs[made - 1], &input))
            p->lane_inputs[made++] = input;
        b->lane_input[all[k].at] = made - 1 - p->group_first_input[group];
    }
    for (; group < p->group_count; group++)
        p->group_first_input[group + 1] = made;
    tape_resize(b->tape, all, 0);
}

void program_merge_groups(builder *b, size_t group_count, const pgr_lane_group *groups)
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
    merge_lanes(b, groups);
    merge_inputs(b, groups);
}
