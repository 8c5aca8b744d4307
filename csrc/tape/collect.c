/* collect.c: finds live nodes and slides them down.
 *
 * A node lives while a handle names it or a live node has it as an operand. Operands have smaller ids, so one
 * descending pass finds the live nodes without reference counts, and one ascending pass slides them into the gaps, in
 * order, so ids stay topological. Collecting when the tape has doubled makes the cost a constant per recorded node.
 *
 * Where many nodes live, that is a long pause. So the collections in between take all nodes below some id to live, and
 * look only at those from there on: any id will do, since nothing below needs a node above. These are the young nodes,
 * which no collection has seen, and from time to time the middle ones, which have outlived only such collections. */
#include "tape/tape.h"
#include "tape/slots.h"
#include "tape/tags.h"

#include <stdlib.h>

static bool is_live(const pgr_node *node) { return (node->flags & (TAPE_HELD | TAPE_LIVE)) != 0; }

static int by_from_descending(const void *p, const void *q)
{
    const uint64_t a = ((const pgr_tie *)p)->from, b = ((const pgr_tie *)q)->from;
    return (a < b) - (a > b);
}

static bool is_interrupted(const pgr_tape *tape) { return tape->is_interrupted != NULL && tape->is_interrupted(); }

/* Clears what a stopped collection has left. False: interrupted again. */
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

/* Sets TAPE_LIVE on live nodes from `floor` on, and writes their number. False: interrupted. */
static bool mark_live(pgr_tape *tape, pgr_id floor, uint32_t *live)
{
    pgr_node *const nodes = tape->nodes;
    uint32_t count = 0;
    for (pgr_id id = tape->size - 1; id >= floor;) {
        if (is_interrupted(tape))
            return false;
        for (const pgr_id stop = id - floor >= TAPE_ASK_EVERY ? id - TAPE_ASK_EVERY : floor - 1; id > stop; id--) {
            tape_prefetch_below(&nodes[id]);
            if (!is_live(&nodes[id]))
                continue;
            count++;
            const pgr_id l = nodes[id].lhs, r = nodes[id].rhs;
            nodes[l >= floor ? l : id].flags |= TAPE_LIVE; /* without a branch: the node itself needs no mark */
            nodes[r >= floor ? r : id].flags |= TAPE_LIVE;
        }
    }
    *live = count;
    return true;
}

/* The state of following ties. */
typedef struct {
    pgr_tape *tape;
    pgr_tie *ties; /* by `from`, descending */
    size_t count;
    uint64_t *stack; /* hubs, and nodes that the pass has left behind, whose operands and ties are still to follow */
    uint32_t depth, capacity;
    bool failed; /* out of memory */
} tracing;

#define REACHED (UINT64_C(1) << 63) /* in `to` of a hub's first tie */

static void later(tracing *t, uint64_t what)
{
    if (t->depth == t->capacity) {
        uint64_t *const stack = tape_double(t->tape, t->stack, &t->capacity, sizeof *stack);
        if (stack == NULL) {
            t->failed = true;
            return;
        }
        t->stack = stack;
    }
    t->stack[t->depth++] = what;
}

/* The first tie from `from` on, in descending order. */
static size_t first_tie(const tracing *t, uint64_t from)
{
    size_t low = 0, high = t->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (t->ties[middle].from > from)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Marks a node live. If it is above `at`, the pass has left it behind. */
static void need_node(tracing *t, pgr_id id, pgr_id at)
{
    pgr_node *const node = &t->tape->nodes[id];
    const bool passed = id > at && !is_live(node);
    node->flags |= TAPE_LIVE;
    if (passed)
        later(t, id);
}

static void follow_ties(tracing *t, uint64_t from, size_t k, pgr_id at)
{
    for (; k < t->count && t->ties[k].from == from; k++) {
        const uint64_t to = t->ties[k].to & ~REACHED;
        if (to < TAPE_HUB) {
            need_node(t, (pgr_id)to, at);
            continue;
        }
        const size_t first = first_tie(t, to);
        if (first < t->count && t->ties[first].from == to && (t->ties[first].to & REACHED) == 0) {
            t->ties[first].to |= REACHED;
            later(t, to);
        }
    }
}

/* mark_live with ties, which may lead back up. Follows each node and each hub once. False: interrupted, or out of
 * memory. */
static bool mark_live_tied(tracing *t)
{
    pgr_tape *const tape = t->tape;
    pgr_node *const nodes = tape->nodes;
    size_t k = 0, steps = 0;
    while (k < t->count && t->ties[k].from >= TAPE_HUB)
        k++;
    for (pgr_id id = tape->size - 1; id > 0; id--) {
        if (id % TAPE_ASK_EVERY == 0 && is_interrupted(tape))
            return false;
        if (!is_live(&nodes[id]))
            continue;
        nodes[nodes[id].lhs].flags |= TAPE_LIVE;
        nodes[nodes[id].rhs].flags |= TAPE_LIVE;
        while (k < t->count && t->ties[k].from > id)
            k++;
        follow_ties(t, id, k, id);
        while (t->depth > 0) {
            if (++steps % TAPE_ASK_EVERY == 0 && is_interrupted(tape))
                return false;
            const uint64_t from = t->stack[--t->depth];
            if (from < TAPE_HUB) {
                need_node(t, nodes[from].lhs, id);
                need_node(t, nodes[from].rhs, id);
            }
            follow_ties(t, from, first_tie(t, from), id);
        }
        if (t->failed)
            return false;
    }
    return true;
}

/* Nodes that ties lead to are held again as before. */
static void hold_tied(pgr_tape *tape, const pgr_tie *ties, size_t tie_count)
{
    for (size_t k = 0; k < tie_count; k++) {
        if (ties[k].to >= TAPE_HUB)
            continue;
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

/* Marks live nodes by ties, and turns the ties' nodes into slots, which don't move. PGR_ERR_STOPPED if interrupted.
 * When out of memory, ties are ignored: nodes that they lead to stay roots. */
static pgr_status mark_through_ties(pgr_tape *tape, pgr_tie *ties, size_t tie_count)
{
    pgr_node *const nodes = tape->nodes;
    for (size_t k = 0; k < tie_count; k++)
        if (ties[k].to < TAPE_HUB)
            nodes[ties[k].to].flags &= (uint8_t)~TAPE_HELD;
    qsort(ties, tie_count, sizeof *ties, by_from_descending);
    tracing t = {.tape = tape, .ties = ties, .count = tie_count};
    tape->is_marked = !mark_live_tied(&t);
    tape_resize(tape, t.stack, 0);
    for (size_t k = 0; k < tie_count; k++)
        if ((ties[k].to &= ~REACHED) < TAPE_HUB)
            ties[k].to = nodes[ties[k].to].slot;
    if (!tape->is_marked)
        return PGR_OK;
    hold_tied(tape, ties, tie_count);
    return t.failed ? PGR_OK : PGR_ERR_STOPPED;
}

static uint32_t at_most(uint64_t x, uint32_t most) { return x < most ? (uint32_t)x : most; }

/* How much more than the least number of nodes may become young between two collections, or middle ones. */
enum { MORE = 16 };

static uint32_t middle_most(const pgr_tape *tape)
{
    return at_most(MORE * (uint64_t)tape->collect_at_least, UINT32_MAX);
}

/* From where on to collect. */
static pgr_id choose_floor(const pgr_tape *tape, bool all)
{
    return all ? 1 : tape->young - tape->middle >= middle_most(tape) ? tape->middle : tape->young;
}

/* The less often young nodes are looked at, the more of them live: else those of a step larger than the least number
 * would all be gone through again and again, and taken for old. */
static void adapt_young(pgr_tape *tape, uint32_t young, uint32_t dead)
{
    const bool is_full = young >= tape->young_most / 2; /* else somebody has called for a collection */
    if (is_full && dead < young / 2 && tape->young_most < middle_most(tape))
        tape->young_most *= 2;
    else if (dead >= young - young / 8 && tape->young_most > tape->collect_at_least)
        tape->young_most /= 2;
}

/* Looks at all nodes next at twice the live ones, but not below half of last time: else a training loop would climb
 * from the least number at every step, collecting graphs that are all alive. Before that, at the young ones. */
static void plan_next(pgr_tape *tape, pgr_id floor)
{
    if (floor == 1) {
        uint64_t full = 2 * (uint64_t)tape->size;
        full = full < tape->full_at / 2 ? tape->full_at / 2 : full;
        tape->full_at = at_most(full < tape->collect_at_least ? tape->collect_at_least : full, UINT32_MAX);
    }
    const bool all_are_old = floor == 1 || (floor == tape->middle && tape->size - floor > middle_most(tape) / 2);
    pgr__set_young(tape, all_are_old ? tape->size : tape->middle, tape->size);
    tape->collect_at = at_most((uint64_t)tape->size + tape->young_most, tape->full_at);
    tape->limit = tape->size; /* the next record makes room anew */
}

pgr_status pgr__collect(pgr_tape *tape, pgr_tie *ties, size_t tie_count, bool thorough)
{
    if (tape->passes != 0)
        return PGR_OK;
    tape_pop(tape); /* mostly frees most */
    if (!unmark(tape))
        return PGR_ERR_STOPPED;
    const pgr_id floor = choose_floor(tape, tie_count > 0 || tape_collects_all(tape, thorough));
    if (tie_count > 0 && mark_through_ties(tape, ties, tie_count) != PGR_OK)
        return PGR_ERR_STOPPED;
    pgr_node *const nodes = tape->nodes;
    pgr_status status = PGR_OK;
    uint32_t live = 0;
    tape->is_marked = !mark_live(tape, floor, &live);
    if (tape->is_marked) {
        hold_tied(tape, ties, tie_count);
        return PGR_ERR_STOPPED;
    }

    pgr_id first = floor; /* the first dead node */
    while (first < tape->size && is_live(&nodes[first]))
        nodes[first++].flags &= (uint8_t)~TAPE_LIVE;
    const uint32_t young = tape->size - tape->young, dead = tape->size - floor - live;
    const bool is_worth_it = dead > (thorough ? 0 : (tape->size - floor) / 8);
    pgr_id *const moved = is_worth_it ? tape_resize(tape, NULL, (tape->size - first) * sizeof *moved) : NULL;
    if (moved != NULL) {
        slide(tape, first, moved);
        tape_resize(tape, moved, 0);
    } else {
        status = is_worth_it ? PGR_ERR_NOMEM : PGR_OK;
        for (pgr_id id = first; id < tape->size; id++)
            nodes[id].flags &= (uint8_t)~TAPE_LIVE;
    }
    nodes[0].flags = 0;

    hold_tied(tape, ties, tie_count);
    adapt_young(tape, young, dead);
    plan_next(tape, floor);
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
    /* When the tape or memory is full, collect before giving up. */
    const uint64_t need = (uint64_t)tape->size + k;
    const bool full = need > tape->max_nodes;
    if ((full || need > tape->collect_at) && tape->passes == 0 && pgr__collect_by_handle(tape, full) == PGR_ERR_STOPPED)
        return PGR_ERR_STOPPED; /* if it was out of memory, growing reports it */
    pgr_status status = tape_has_room(tape, k) ? PGR_OK : pgr__make_room(tape, k);
    if (status == PGR_ERR_NOMEM && tape->passes == 0) {
        status = pgr__collect_by_handle(tape, true);
        if (status != PGR_ERR_STOPPED)
            status = pgr__make_room(tape, k);
    }
    if (status == PGR_OK && tape->passes == 0 && (uint64_t)tape->size + k > tape->collect_at)
        tape->limit = tape->size + k; /* so many nodes that the next collection is due after them */
    return status;
}

pgr_status pgr_tape_collect(pgr_tape *tape) { return pgr__collect(tape, NULL, 0, true); }
