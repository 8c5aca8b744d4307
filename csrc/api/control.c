/* control.c: the tape as a whole, with its lock: collecting, limits, callbacks, tags of what is recorded next. */
#include "tape/tags.h"
#include "tape/tape.h"

pgr_status pgr_h_collect(pgr_tape *tape)
{
    const int token = pgr__enter(tape);
    const pgr_status status = pgr__collect_by_handle(tape, true);
    pgr__leave(tape, token);
    return status;
}

void pgr_tape_on_custom(pgr_tape *tape, pgr_custom_fn fn, void *ctx)
{
    tape->on_custom = fn;
    tape->custom_ctx = ctx;
}

void pgr_tape_on_stop(pgr_tape *tape, int (*stop)(void *ctx), void *ctx)
{
    tape->on_stop = stop;
    tape->stop_ctx = ctx;
}

void pgr_tape_limits(pgr_tape *tape, uint32_t collect_at_least, uint32_t max_nodes)
{
    const int token = pgr__enter(tape);
    tape->collect_at_least = collect_at_least;
    tape->max_nodes = max_nodes < TAPE_MAX_NODES ? max_nodes : TAPE_MAX_NODES;
    tape->collect_at = tape->full_at = tape->size > collect_at_least ? tape->size : collect_at_least;
    tape->young_most = collect_at_least;
    tape->limit = tape->size; /* the next record looks again */
    pgr__leave(tape, token);
}

pgr_tape_stats pgr_tape_stat(pgr_tape *tape)
{
    const int token = pgr__enter(tape);
    const pgr_tape_stats stats = pgr__stats(tape);
    pgr__leave(tape, token);
    return stats;
}

uint32_t pgr_tape_size(pgr_tape *tape)
{
    const int token = pgr__enter(tape);
    const uint32_t nodes = tape->size - 1;
    pgr__leave(tape, token);
    return nodes;
}

pgr_status pgr_tape_tag(pgr_tape *tape, int channel, uint32_t tag)
{
    if (channel < 0 || channel >= PGR_TAG_CHANNELS)
        return PGR_ERR_ARGUMENT;
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
