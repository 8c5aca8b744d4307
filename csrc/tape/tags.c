/* tags.c: where nodes come from, and the numbers of inputs, kept beside the nodes.
 *
 * A tag, a scope or a line of the user's code, holds from the node at which it was set until the next is set, so tags
 * are kept as runs of nodes. Numbers are few and kept one by one, by ascending node. A collection slides both along
 * with their nodes. */
#include "tape/tags.h"

static void note_last(pgr_tape *tape)
{
    tape->trim_below = 0;
    for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++) {
        const tape_tags *const tags = &tape->tags[channel];
        if (tags->count > 0 && tags->runs[tags->count - 1].start > tape->trim_below)
            tape->trim_below = tags->runs[tags->count - 1].start;
    }
    if (tape->number_count > 0 && tape->numbers[tape->number_count - 1].node >= tape->trim_below)
        tape->trim_below = tape->numbers[tape->number_count - 1].node + 1;
    if (tape->young > tape->trim_below)
        tape->trim_below = tape->young;
}

void pgr__set_young(pgr_tape *tape, pgr_id middle, pgr_id young)
{
    tape->middle = middle;
    tape->young = young;
    note_last(tape);
}

/* Nodes that are taken back were old, so those in their place must not count as old. The bounds go down further, so
 * that a graph that is taken back node by node does not call this for each of them. */
static void lower_young(pgr_tape *tape)
{
    enum { FURTHER = 1 << 12 };
    if (tape->young <= tape->size)
        return;
    tape->young = tape->size > FURTHER ? tape->size - FURTHER : 1;
    tape->middle = tape->middle < tape->young ? tape->middle : tape->young;
}

/* Drops runs that hold no node. */
static void drop_empty(const pgr_tape *tape, tape_tags *tags)
{
    while (tags->count > 0 && tags->runs[tags->count - 1].start >= tape->size)
        tags->count--;
}

pgr_status pgr__set_tag(pgr_tape *tape, int channel, uint32_t tag)
{
    tape_tags *const tags = &tape->tags[channel];
    if (tag == tags->tag)
        return PGR_OK;
    if (tags->count == tags->capacity) {
        tape_run *const runs = tape_double(tape, tags->runs, &tags->capacity, sizeof *runs);
        if (runs == NULL)
            return PGR_ERR_NOMEM;
        tags->runs = runs;
    }
    tags->tag = tag;
    drop_empty(tape, tags);
    tags->runs[tags->count++] = (tape_run){tape->size, tag}; /* even if the last one has this tag: a run is a call */
    note_last(tape);
    return PGR_OK;
}

static void drop_numbers(pgr_tape *tape)
{
    while (tape->number_count > 0 && tape->numbers[tape->number_count - 1].node >= tape->size)
        tape->number_count--;
}

void pgr__trim(pgr_tape *tape)
{
    drop_numbers(tape);
    lower_young(tape);
    for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++) {
        tape_tags *const tags = &tape->tags[channel];
        drop_empty(tape, tags);
        if ((tags->count > 0 ? tags->runs[tags->count - 1].tag : 0) != tags->tag) /* its run has been dropped */
            tags->runs[tags->count++] = (tape_run){tape->size, tags->tag};
    }
    note_last(tape);
}

/* The first number of a node from `id` on. */
static uint32_t first_number(const pgr_tape *tape, pgr_id id)
{
    uint32_t low = 0, high = tape->number_count; /* nodes before low are smaller, those from high on are not */
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        *(tape->numbers[middle].node < id ? &low : &high) = tape->numbers[middle].node < id ? middle + 1 : middle;
    }
    return low;
}

void pgr__slide_tags(pgr_tape *tape, pgr_id first, uint32_t old_size, const pgr_id *moved)
{
    for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++) {
        tape_tags *const tags = &tape->tags[channel];
        uint32_t count = pgr__run_of(tape, channel, first - 1);
        for (uint32_t k = count; k < tags->count; k++) {
            tape_run run = tags->runs[k];
            run.start = run.start < old_size ? moved[run.start - first] : tape->size;
            if (count > 0 && tags->runs[count - 1].start == run.start)
                count--; /* all nodes of the run before are dead */
            tags->runs[count++] = run;
        }
        tags->count = count;
    }
    for (uint32_t k = first_number(tape, first); k < tape->number_count; k++)
        tape->numbers[k].node = moved[tape->numbers[k].node - first];
    note_last(tape);
}

pgr_status pgr__number_next(pgr_tape *tape, uint64_t number)
{
    if (tape->number_count == tape->number_capacity) {
        tape_number *const numbers = tape_double(tape, tape->numbers, &tape->number_capacity, sizeof *numbers);
        if (numbers == NULL)
            return PGR_ERR_NOMEM;
        tape->numbers = numbers;
    }
    tape->numbers[tape->number_count++] = (tape_number){tape->size, number};
    tape->trim_below = tape->size + 1;
    return PGR_OK;
}

uint64_t pgr__number_of(const pgr_tape *tape, pgr_id id)
{
    const uint32_t low = first_number(tape, id);
    return low < tape->number_count && tape->numbers[low].node == id ? tape->numbers[low].number : 0;
}

void pgr__drop_dead_numbers(pgr_tape *tape, pgr_id first)
{
    uint32_t count = first_number(tape, first);
    for (uint32_t k = count; k < tape->number_count; k++)
        if ((tape->nodes[tape->numbers[k].node].flags & (TAPE_HELD | TAPE_LIVE)) != 0)
            tape->numbers[count++] = tape->numbers[k];
    tape->number_count = count;
}

void pgr__take_back(pgr_tape *tape, uint32_t size)
{
    if (tape->named < size)
        tape->size = size;
    pgr__trim(tape);
}

uint32_t pgr__run_of(const pgr_tape *tape, int channel, pgr_id id)
{
    const tape_tags *const tags = &tape->tags[channel];
    uint32_t low = 0, high = tags->count; /* runs before low start at or before id, those from high on after it */
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        if (tags->runs[middle].start <= id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

uint32_t pgr_tag(const pgr_tape *tape, int channel, pgr_id id)
{
    const uint32_t run = channel < 0 || channel >= PGR_TAG_CHANNELS || id == 0 ? 0 : pgr__run_of(tape, channel, id);
    return run == 0 ? 0 : tape->tags[channel].runs[run - 1].tag;
}
