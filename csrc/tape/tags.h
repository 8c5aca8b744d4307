/* tags.h: tags and numbers of nodes (see tags.c), and taking back nodes, which must keep both in order. */
#ifndef PGR_INTERNAL_TAGS_H
#define PGR_INTERNAL_TAGS_H

#include "tape/nodes.h"

/* pgr_tape_tag without the lock. */
pgr_status pgr__set_tag(pgr_tape *tape, int channel, uint32_t tag);

/* Puts tags, numbers and the bounds of young nodes in order after nodes were taken back at the tape's end; and tags and
 * numbers after a collection has moved nodes from `first` on to moved[id - first], which for a dead node is where the
 * next one went. */
void pgr__trim(pgr_tape *tape);
void pgr__slide_tags(pgr_tape *tape, pgr_id first, uint32_t old_size, const pgr_id *moved);

/* Gives the next node, not yet appended, a number. PGR_ERR_NOMEM, with nothing changed. */
pgr_status pgr__number_next(pgr_tape *tape, uint64_t number);

/* A node's number; 0 if it has none. O(log numbers). */
uint64_t pgr__number_of(const pgr_tape *tape, pgr_id id);

/* Drops the numbers of dead nodes from `first` on, before a collection moves the others. */
void pgr__drop_dead_numbers(pgr_tape *tape, pgr_id first);

/* Nodes from `young` on are young, and those from `middle` on, which is not above it, are middle ones. */
void pgr__set_young(pgr_tape *tape, pgr_id middle, pgr_id young);

/* Takes back the nodes from `size` on. If one of them has a handle, because code that ran meanwhile recorded it, leaves
 * all of them to a collection. Puts tags in order in any case. */
void pgr__take_back(pgr_tape *tape, uint32_t size);

/* Which run a node is in, counted from 1; 0: before the first. */
uint32_t pgr__run_of(const pgr_tape *tape, int channel, pgr_id id);

/* Takes back nodes at the tape's end that nothing can use any more, since users are above their operands: so dropping a
 * result frees its graph while it is still in the cache. For bindings that keep no ids. Stops at a node with a slot:
 * the collection tells its owner. tape_pop_from, outside of passes, knows that no node above `named` has one. */
static inline void tape_pop_from(pgr_tape *tape, pgr_id named)
{
    while (named > 0 && tape->nodes[named].slot == 0)
        named--;
    tape->named = named;
    tape->size = named + 1;
    if (PGR_UNLIKELY(tape->size < tape->trim_below))
        pgr__trim(tape);
}
static inline void tape_pop(pgr_tape *tape)
{
    if (tape->passes == 0)
        tape_pop_from(tape, tape->named);
}

#endif
