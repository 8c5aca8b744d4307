/* tags.c: where nodes come from: a scope, a line of the user's code.
 *
 * Nodes have no room for it and need none: a tag holds from the node at which it was set until another
 * is set, so it is kept by runs of nodes. Collection slides runs with the nodes that they hold. */
#include "tape.h"

static void note_last(pgr_tape *tape)
{
    tape->tagged = 0;
    for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++) {
        const tape_tags *const tags = &tape->tags[channel];
        if (tags->count > 0 && tags->runs[tags->count - 1].start > tape->tagged)
            tape->tagged = tags->runs[tags->count - 1].start;
    }
}

/* Takes away the runs that hold no node (any more). */
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
        const uint32_t capacity = tags->capacity == 0 ? 64 : tags->capacity > UINT32_MAX / 2 ? UINT32_MAX : 2 * tags->capacity;
        tape_run *const runs = tape_resize(tape, tags->runs, capacity * sizeof *runs);
        if (runs == NULL)
            return PGR_ERR_NOMEM;
        tags->runs = runs;
        tags->capacity = capacity;
    }
    tags->tag = tag;
    drop_empty(tape, tags);
    tags->runs[tags->count++] = (tape_run){tape->size, tag}; /* even after one alike: a run is a call of its own */
    note_last(tape);
    return PGR_OK;
}

void pgr__trim_tags(pgr_tape *tape)
{
    for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++) {
        tape_tags *const tags = &tape->tags[channel];
        drop_empty(tape, tags);
        if ((tags->count > 0 ? tags->runs[tags->count - 1].tag : 0) != tags->tag) /* so one has been dropped */
            tags->runs[tags->count++] = (tape_run){tape->size, tags->tag};
    }
    note_last(tape);
}

void pgr__slide_tags(pgr_tape *tape, pgr_id first, uint32_t old_size, const pgr_id *moved)
{
    for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++) {
        tape_tags *const tags = &tape->tags[channel];
        uint32_t count = 0;
        for (uint32_t k = 0; k < tags->count; k++) {
            tape_run run = tags->runs[k];
            if (run.start >= first)
                run.start = run.start < old_size ? moved[run.start - first] : tape->size;
            if (count > 0 && tags->runs[count - 1].start == run.start)
                count--; /* all that the run before held is dead */
            tags->runs[count++] = run;
        }
        tags->count = count;
    }
    note_last(tape);
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

pgr_status pgr_tape_tag(pgr_tape *tape, int channel, uint32_t tag)
{
    if (channel < 0 || channel >= PGR_TAG_CHANNELS)
        return PGR_ERR_OP;
    const int token = pgr__enter(tape);
    const pgr_status status = pgr__set_tag(tape, channel, tag);
    pgr__leave(tape, token);
    return status;
}

uint32_t pgr_tape_tags(pgr_tape *tape, int channel, uint32_t capacity, uint32_t *out)
{
    if (channel < 0 || channel >= PGR_TAG_CHANNELS)
        return 0;
    const int token = pgr__enter(tape);
    const tape_tags *const tags = &tape->tags[channel];
    const uint32_t count = tags->count;
    for (uint32_t k = 0; k <= count && k < capacity; k++)
        out[k] = k < count ? tags->runs[k].tag : tags->tag;
    pgr__leave(tape, token);
    return count + 1;
}

uint32_t pgr_tag(pgr_tape *tape, int channel, pgr_id id)
{
    if (channel < 0 || channel >= PGR_TAG_CHANNELS)
        return 0;
    const int token = pgr__enter(tape);
    const uint32_t run = pgr__run_of(tape, channel, id);
    const uint32_t tag = run == 0 ? 0 : tape->tags[channel].runs[run - 1].tag;
    pgr__leave(tape, token);
    return tag;
}
