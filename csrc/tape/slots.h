/* slots.h: handles: names of nodes that stay valid when nodes move.
 *
 * A handle is a slot's index and its generation; the slot holds the node's id. */
#ifndef PGR_INTERNAL_SLOTS_H
#define PGR_INTERNAL_SLOTS_H

#include "tape/nodes.h"

/* Makes sure that a slot is free. */
pgr_status pgr__make_slot(pgr_tape *tape);

/* Takes the next dead slot off its list; 0 if the list is empty. The caller frees a slot without holds; the last
 * release frees the others. */
uint32_t pgr__next_dead(pgr_tape *tape);

/* A new hold on a node. A slot is free. */
pgr_handle pgr__hold(pgr_tape *tape, pgr_id id);

/* A handle's node, NULL if it is not alive. */
pgr_node *pgr__node(pgr_tape *tape, pgr_handle h);

#define TAPE_GENERATION UINT32_C(0x7fffffff)

static inline pgr_handle tape_handle(const pgr_tape *tape, uint32_t slot)
{
    return (pgr_handle)(tape->slots[slot].generation & TAPE_GENERATION) << 32 | slot;
}

/* A handle's slot, even if its node has died; 0 if the handle is stale. */
static inline uint32_t tape_slot_of(const pgr_tape *tape, pgr_handle h)
{
    const uint32_t slot = (uint32_t)h;
    const bool is_of_now = slot < tape->slot_count && tape_handle(tape, slot) == h;
    return is_of_now ? slot : 0;
}

/* The id of a handle's node, 0 if it is not alive. */
static inline pgr_id tape_id_of(const pgr_tape *tape, pgr_handle h) { return tape->slots[tape_slot_of(tape, h)].id; }

/* Gives a node a slot, and holds it. */
static inline void tape_name(pgr_tape *tape, pgr_id id, uint32_t slot)
{
    tape->nodes[id].slot = slot;
    tape->nodes[id].flags |= TAPE_HELD;
    if (id > tape->named)
        tape->named = id;
}

/* A slot's first hold, and no hold. All bits are written, none read: each part is stored and loaded at its own width,
 * since a load that spans two recent stores waits for both to reach the cache. */
static inline void tape_use_slot(pgr_slot *s, pgr_id id)
{
    s->id = id;
    s->holds = 1;
    s->is_kept = 0;
    s->is_dead = 0;
}
static inline bool tape_is_held_once(const pgr_slot *s) { return s->holds == 1 && !s->is_dead; }
static inline void tape_clear_slot(pgr_slot *s)
{
    s->id = 0;
    s->holds = 0;
    s->is_kept = 0;
    s->is_dead = 0;
}

/* Appends a node that has a slot, one that is on no list. */
static inline pgr_id tape_append_named(pgr_tape *tape, int op, double data, pgr_id lhs, pgr_id rhs, uint32_t slot)
{
    const pgr_id id = tape->size++;
    assert(lhs < id && rhs < id);
    tape_write(&tape->nodes[id], op, data, lhs, rhs, TAPE_HELD | tape_flags(tape, data, lhs, rhs), slot);
    tape_use_slot(&tape->slots[slot], id);
    tape->named = id;
    tape->held++;
    return id;
}

/* Takes a free slot off its list. A slot is free. */
static inline uint32_t tape_reserve_slot(pgr_tape *tape)
{
    const uint32_t slot = tape->free_slot;
    assert(slot != 0);
    tape->free_slot = tape->slots[slot].link;
    return slot;
}

/* Takes a free slot for a node without one. A slot is free. */
static inline uint32_t tape_take_slot(pgr_tape *tape, pgr_id id)
{
    const uint32_t slot = tape_reserve_slot(tape);
    pgr_slot *const s = &tape->slots[slot];
    s->owner = NULL;
    s->id = id;
    s->holds = 1;
    s->is_kept = 0;
    tape->held++;
    tape_name(tape, id, slot);
    return slot;
}

static inline void tape_free_slot(pgr_tape *tape, uint32_t slot)
{
    pgr_slot *const s = &tape->slots[slot];
    s->id = 0;
    s->owner = NULL;
    s->generation++;
    s->link = tape->free_slot;
    tape->free_slot = slot;
}

/* Releases a hold (see pgr_h_release). */
static inline void tape_release(pgr_tape *tape, uint32_t slot, bool keep)
{
    pgr_slot *const s = &tape->slots[slot];
    assert(s->holds > 0);
    if (keep)
        s->is_kept = 1;
    if (--s->holds > 0)
        return;
    s->owner = NULL;
    tape->held--;
    if (s->id == 0) { /* the node died first */
        if (!s->is_dead)
            tape_free_slot(tape, slot);
        return;
    }
    pgr_node *const node = &tape->nodes[s->id];
    node->flags &= (uint8_t)~TAPE_HELD;
    if (!s->is_kept) {
        node->slot = 0;
        tape_free_slot(tape, slot);
    }
}

#endif
