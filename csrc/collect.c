/* collect.c: finding what lives, and sliding it down.
 *
 * A node lives while a handle or a live node's operand needs it. Operands have smaller ids, so one
 * descending pass finds all of it without reference counts, and one ascending pass slides live nodes
 * into the gaps, in order, so that ids stay topological. Collecting when the tape has doubled since
 * the last time makes the cost a constant per recorded node. */
#include "tape.h"

#include <stdlib.h>

static bool is_live(const pgr_node *node) { return (node->flags & (TAPE_HELD | TAPE_LIVE)) != 0; }

static int by_from_descending(const void *p, const void *q)
{
    const pgr_id a = ((const pgr_tie *)p)->from, b = ((const pgr_tie *)q)->from;
    return (a < b) - (a > b);
}

static bool is_interrupted(const pgr_tape *tape) { return tape->is_interrupted != NULL && tape->is_interrupted(); }

/* Takes off what a stopped collection has left. False: interrupted again. */
static bool unmark(pgr_tape *tape)
{
    for (pgr_id id = 0; tape->is_marked && id < tape->size;) {
        if (is_interrupted(tape))
            return false;
        const pgr_id end = tape->size - id > TAPE_ASK_EVERY ? id + TAPE_ASK_EVERY : tape->size;
        for (; id < end; id++)
            tape->nodes[id].flags &= (uint8_t)~TAPE_LIVE;
    }
    tape->is_marked = false;
    return true;
}

/* Sets TAPE_LIVE on all that lives, and writes how many nodes do. False: interrupted. */
static bool mark_live(pgr_tape *tape, uint32_t *live)
{
    pgr_node *const nodes = tape->nodes;
    uint32_t count = 0;
    for (pgr_id id = tape->size - 1; id > 0;) {
        if (is_interrupted(tape))
            return false;
        for (const pgr_id floor = id > TAPE_ASK_EVERY ? id - TAPE_ASK_EVERY : 0; id > floor; id--) {
            tape_prefetch_below(&nodes[id]);
            if (!is_live(&nodes[id]))
                continue;
            count++;
            nodes[nodes[id].lhs].flags |= TAPE_LIVE;
            nodes[nodes[id].rhs].flags |= TAPE_LIVE;
        }
    }
    *live = count;
    return true;
}

/* The same with ties, which may lead to larger ids: then the pass is taken up again from there. Every
 * time marks one node more, so it ends. */
static bool mark_live_tied(pgr_tape *tape, const pgr_tie *ties, size_t tie_count, uint32_t *live)
{
    pgr_node *const nodes = tape->nodes;
    for (pgr_id from = tape->size - 1; from > 0;) {
        pgr_id again = 0;
        size_t k = 0;
        for (pgr_id id = from; id > 0; id--) {
            if (id % TAPE_ASK_EVERY == 0 && is_interrupted(tape))
                return false;
            if (!is_live(&nodes[id]))
                continue;
            nodes[nodes[id].lhs].flags |= TAPE_LIVE;
            nodes[nodes[id].rhs].flags |= TAPE_LIVE;
            while (k < tie_count && ties[k].from > id)
                k++;
            for (; k < tie_count && ties[k].from == id; k++) {
                const pgr_id to = ties[k].to;
                if (!is_live(&nodes[to]) && to > id && to > again)
                    again = to;
                nodes[to].flags |= TAPE_LIVE;
            }
        }
        from = again;
    }
    uint32_t count = 0;
    for (pgr_id id = 1; id < tape->size; id++)
        count += is_live(&nodes[id]);
    *live = count;
    return true;
}

/* The nodes that ties go to are held as they were. */
static void hold_tied(pgr_tape *tape, const pgr_tie *ties, size_t tie_count)
{
    for (size_t k = 0; k < tie_count; k++) {
        const pgr_slot *const s = &tape->slots[ties[k].to];
        if (s->id != 0 && s->holds > 0)
            tape->nodes[s->id].flags |= TAPE_HELD;
    }
}

static void bury(pgr_tape *tape, uint32_t slot)
{
    pgr_slot *const s = &tape->slots[slot];
    s->id = 0;
    s->is_dead = 1;
    s->link = tape->dead;
    tape->dead = slot;
}

/* Slides live nodes down. Nodes below `first` stay; `moved[id - first]` is scratch for new ids. */
static void slide(pgr_tape *tape, pgr_id first, pgr_id *moved)
{
    pgr_node *const nodes = tape->nodes;
    pgr_id to = first;
    const uint32_t size = tape->size;
    pgr__drop_dead_numbers(tape, first);
    for (pgr_id id = first; id < size; id++) {
        moved[id - first] = to;
        if (!is_live(&nodes[id])) {
            if (nodes[id].slot != 0)
                bury(tape, nodes[id].slot);
            continue;
        }
        pgr_node node = nodes[id];
        if (node.lhs >= first)
            node.lhs = moved[node.lhs - first];
        if (node.rhs >= first)
            node.rhs = moved[node.rhs - first];
        node.flags &= (uint8_t)~TAPE_LIVE;
        if (node.slot != 0)
            tape->slots[node.slot].id = to;
        nodes[to++] = node;
    }
    tape->size = to;
    tape->named = to - 1;
    pgr__slide_tags(tape, first, size, moved);
}

pgr_status pgr__collect(pgr_tape *tape, pgr_tie *ties, size_t tie_count, bool thorough)
{
    if (tape->passes != 0)
        return PGR_OK;
    tape_pop(tape); /* most of what is dead, mostly */
    if (!unmark(tape))
        return PGR_ERR_STOPPED;
    pgr_node *const nodes = tape->nodes;
    pgr_status status = PGR_OK;
    uint32_t live = 0;
    if (tie_count == 0) {
        tape->is_marked = !mark_live(tape, &live);
    } else {
        for (size_t k = 0; k < tie_count; k++)
            nodes[ties[k].to].flags &= (uint8_t)~TAPE_HELD;
        qsort(ties, tie_count, sizeof *ties, by_from_descending);
        tape->is_marked = !mark_live_tied(tape, ties, tie_count, &live);
        for (size_t k = 0; k < tie_count; k++)
            ties[k].to = nodes[ties[k].to].slot;
    }
    if (tape->is_marked) {
        hold_tied(tape, ties, tie_count);
        return PGR_ERR_STOPPED;
    }

    pgr_id first = 1; /* the first dead node */
    while (first < tape->size && is_live(&nodes[first]))
        nodes[first++].flags &= (uint8_t)~TAPE_LIVE;
    const uint32_t dead = tape->size - 1 - live;
    pgr_id *moved = NULL;
    if (dead > (thorough ? 0 : tape->size / 8)) {
        moved = tape_resize(tape, NULL, (tape->size - first) * sizeof *moved);
        if (moved == NULL)
            status = PGR_ERR_NOMEM;
    }
    if (moved != NULL) {
        slide(tape, first, moved);
        tape_resize(tape, moved, 0);
    } else {
        for (pgr_id id = first; id < tape->size; id++)
            nodes[id].flags &= (uint8_t)~TAPE_LIVE;
    }
    nodes[0].flags = 0;

    hold_tied(tape, ties, tie_count);
    /* Twice what lives; but no less than half of last time, or a training loop would climb up from the
     * least number again at every step, collecting graphs that are all alive. */
    uint64_t next = 2 * (uint64_t)tape->size;
    next = next < tape->collect_at / 2 ? tape->collect_at / 2 : next;
    next = next < tape->collect_at_least ? tape->collect_at_least : next;
    tape->collect_at = next > UINT32_MAX ? UINT32_MAX : (uint32_t)next;
    tape->limit = tape->size; /* the next record makes room anew */
    tape->collections++;
    return status;
}

pgr_status pgr__collect_by_handle(pgr_tape *tape, bool thorough)
{
    pgr_status status;
    do {
        status = tape->collector != NULL ? tape->collector(tape, thorough) : pgr__collect(tape, NULL, 0, thorough);
    } while (status == PGR_ERR_STOPPED && (status = pgr__ask(tape)) == PGR_OK);
    return status;
}

pgr_status pgr__make_room_by_handle(pgr_tape *tape, uint32_t k)
{
    /* When the tape or memory is full, garbage is looked for before giving up. */
    const uint64_t need = (uint64_t)tape->size + k;
    const bool full = need > tape->max_nodes;
    if ((full || need > tape->collect_at) && tape->passes == 0 && pgr__collect_by_handle(tape, full) == PGR_ERR_STOPPED)
        return PGR_ERR_STOPPED; /* out of memory, it grows, or says so when it must */
    pgr_status status = tape_has_room(tape, k) ? PGR_OK : pgr__make_room(tape, k);
    if (status == PGR_ERR_NOMEM && tape->passes == 0) {
        status = pgr__collect_by_handle(tape, true);
        if (status != PGR_ERR_STOPPED)
            status = pgr__make_room(tape, k);
    }
    return status;
}

pgr_status pgr_tape_collect(pgr_tape *tape) { return pgr__collect(tape, NULL, 0, true); }

uint32_t pgr__next_dead(pgr_tape *tape)
{
    const uint32_t slot = tape->dead;
    if (slot != 0) {
        tape->dead = tape->slots[slot].link;
        tape->slots[slot].is_dead = 0;
    }
    return slot;
}
