/* tags.h: what few nodes have beside the nodes (see tags.c), and taking nodes back, which must keep it in order. */
#ifndef PGR_INTERNAL_TAGS_H
#define PGR_INTERNAL_TAGS_H

#include "tape/nodes.h"

/* pgr_tape_tag for who has the tape to itself. */
pgr_status pgr__set_tag(pgr_tape *tape, int channel, uint32_t tag);

/* Tags and numbers after nodes were taken back at the tape's end, and after a collection has moved those from `first`
 * on: to moved[id - first], for a dead one where the next would be. */
void pgr__trim_tags(pgr_tape *tape);
void pgr__slide_tags(pgr_tape *tape, pgr_id first, uint32_t old_size, const pgr_id *moved);

/* Gives the next node a number: call before it is appended. PGR_ERR_NOMEM, with nothing changed. */
pgr_status pgr__number_next(pgr_tape *tape, uint64_t number);

/* The number of a node, 0 if it has none. O(log of how many have one). */
uint64_t pgr__number_of(const pgr_tape *tape, pgr_id id);

/* Forgets the numbers of nodes from `first` on that are not live, before a collection moves those that are. */
void pgr__drop_dead_numbers(pgr_tape *tape, pgr_id first);

/* Takes back the nodes from `size` on; but leaves them to a collection if one of them has a name, as code that ran
 * meanwhile may have recorded it. Sets tags right in any case. */
void pgr__take_back(pgr_tape *tape, uint32_t size);

/* How many runs start at or before a node: which run holds it, from 1 on; 0: none. */
uint32_t pgr__run_of(const pgr_tape *tape, int channel, pgr_id id);

/* Takes back what nothing can need any more at the tape's end: whoever needs a node is above it. Dropping a
 * result so gives back its graph, still warm, without a collection. For bindings without ids of their
 * own at large; a node with a name is left to the collection, which tells its owner. */
static inline void tape_pop(pgr_tape *tape)
{
    pgr_id named = tape->named;
    if (tape->passes != 0)
        return;
    while (named > 0 && tape->nodes[named].slot == 0)
        named--;
    tape->named = named;
    tape->size = named + 1;
    if (PGR_UNLIKELY(tape->size < tape->tagged))
        pgr__trim_tags(tape);
}

#endif
