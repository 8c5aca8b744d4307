/* marks.h: descending through the nodes that a pass has reached, however far apart they are.
 *
 * A pass owns one mark. It marks its root and, at each node that it visits, the node's operands; since operands have
 * smaller ids, descending visits every reachable node once, after all its uses. A node has room for one sweep's mark:
 * where two sweeps meet in a node, one inside the other's custom function, the first keeps it, since both mean the same
 * grad. Read-only passes must see all nodes, so they have a byte of their own.
 *
 * Eight sweeps and one read-only pass may mark at once, in threads or inside each other's custom functions. Any more
 * keep the ids that they have reached in a heap, which is some ten times slower: such sweeps share one mark, such
 * read-only passes set none.
 *
 * Marks are in the nodes, next to what the pass reads anyway. Marks further down than the pass searches node by node
 * also show in two levels of summary, by which it skips what it does not reach. On the moons MLP in L2, per node of a
 * backward pass: 1.4 ns without marks, 2.0 with a plain byte, 2.5 as here, 3.9 with a bit in that byte and a summary of
 * every mark. */
#ifndef PGR_INTERNAL_MARKS_H
#define PGR_INTERNAL_MARKS_H

#include <string.h>

#include "tape/tape.h"

typedef struct {
    pgr_tape *tape;
    pgr_id *ids; /* ids[(i - 1) / 2] >= ids[i] */
    uint32_t count, capacity;
    bool failed; /* out of memory: ids are missing */
} marks_heap;

/* A pass under way. It copies the tape's pointers, since the compiler must assume that a store to a mark, a byte,
 * changes them; call marks_refresh after anything that may have recorded. */
typedef struct {
    pgr_node *nodes;
    uint8_t *blocks, *supers;
    size_t field; /* offset of the marks' byte in a node */
    uint8_t mark; /* what the pass writes there; 0: nothing */
    uint8_t bit;  /* what it sets in the summary */
    marks_heap *heap; /* instead of the summary; else NULL */
    pgr_id root;
    bool is_first;    /* see tape_begin_root */
} marks;

enum { MARKS_HEAPED = 255 };

static inline void marks_refresh(marks *m, const pgr_tape *tape)
{
    m->nodes = tape->nodes;
    m->blocks = tape->blocks;
    m->supers = tape->supers;
}

/* Calls pgr__ask, and returns where `node` is afterwards. */
static inline pgr_node *marks_ask(marks *m, pgr_tape *tape, pgr_node *node, pgr_status *status)
{
    const ptrdiff_t id = node - m->nodes;
    *status = pgr__ask(tape);
    marks_refresh(m, tape);
    return m->nodes + id;
}

/* How far a pass searches node by node. */
enum { MARKS_NEAR = 1024 };

static inline uint8_t *marks_at(marks m, pgr_node *node) { return (uint8_t *)node + m.field; }
static inline bool marks_has(marks m, pgr_id id) { return *marks_at(m, &m.nodes[id]) == m.mark; }

/* Marks `node` while the pass is at `from`. */
static inline void marks_set(marks m, pgr_node *node, const pgr_node *from)
{
    *marks_at(m, node) = m.mark;
    if (PGR_UNLIKELY(from - node >= MARKS_NEAR)) {
        const pgr_id id = (pgr_id)(node - m.nodes);
        m.blocks[id >> TAPE_BLOCK] |= m.bit;
        m.supers[id >> TAPE_SUPER] |= m.bit;
    }
}

enum { MARKS_BLOCKS = 1 << (TAPE_SUPER - TAPE_BLOCK), MARKS_NODES = 1 << TAPE_BLOCK };

/* The largest super-block with marks below `super`, plus one; 0: none has any. */
static inline uint32_t marks_super_below(marks m, uint32_t super)
{
    while (super > 0) {
        uint64_t eight = 1;
        if (super >= 8 && (memcpy(&eight, m.supers + super - 8, 8), eight == 0))
            super -= 8;
        else if ((m.supers[--super] & m.bit) != 0)
            return super + 1;
    }
    return 0;
}

/* The largest marked id below `id`, where all marks are far ones; 0: no mark is left. */
static inline pgr_id marks_far(marks m, pgr_id id)
{
    for (;;) {
        while (id % MARKS_NODES != 0)
            if (marks_has(m, --id))
                return id;
        uint32_t block = id / MARKS_NODES;
        do {
            if (block % MARKS_BLOCKS == 0) {
                const uint32_t super = marks_super_below(m, block / MARKS_BLOCKS);
                if (super == 0)
                    return 0;
                block = super * MARKS_BLOCKS;
            }
        } while ((m.blocks[--block] & m.bit) == 0);
        id = (block + 1) * MARKS_NODES - 1;
        if (marks_has(m, id))
            return id;
    }
}

/* Clears the mark of the next marked node below `node`, and returns the node; nodes[0] when no mark is left. With
 * `prefetch` on long tapes, whose nodes are not in the cache. */
static inline pgr_node *marks_next(marks m, pgr_node *node, bool prefetch)
{
    const pgr_node *const from = node;
    if (prefetch)
        tape_prefetch_below(node);
    while (*marks_at(m, --node) != m.mark) {
        if (prefetch)
            tape_prefetch_below(node);
        if (node <= m.nodes)
            return m.nodes;
        if (from - node > MARKS_NEAR) {
            node = &m.nodes[marks_far(m, (pgr_id)(node - m.nodes))];
            break;
        }
    }
    *marks_at(m, node) = 0;
    return node;
}

/* ---- Passes that keep a heap ---- */

static inline void marks_push(marks m, pgr_id id)
{
    marks_heap *const h = m.heap;
    if (h->count == h->capacity) {
        pgr_id *const ids = tape_double(h->tape, h->ids, &h->capacity, sizeof *ids);
        if (ids == NULL) {
            h->failed = true;
            return;
        }
        h->ids = ids;
    }
    uint32_t i = h->count++;
    for (; i > 0 && h->ids[(i - 1) / 2] < id; i = (i - 1) / 2)
        h->ids[i] = h->ids[(i - 1) / 2];
    h->ids[i] = id;
    if (m.mark != 0)
        *marks_at(m, &m.nodes[id]) = m.mark;
}

static inline pgr_id marks_pop(marks_heap *h)
{
    const pgr_id first = h->ids[0], last = h->ids[--h->count];
    uint32_t i = 0;
    for (uint32_t child; (child = 2 * i + 1) < h->count; i = child) {
        if (child + 1 < h->count && h->ids[child + 1] > h->ids[child])
            child++;
        if (h->ids[child] <= last)
            break;
        h->ids[i] = h->ids[child];
    }
    h->ids[i] = last;
    return first;
}

/* marks_next for any pass. Duplicates in a heap are skipped. */
static inline pgr_node *marks_next_of_any(marks m, pgr_node *node)
{
    if (m.heap == NULL)
        return marks_next(m, node, true);
    while (m.heap->count > 0) {
        const pgr_id id = marks_pop(m.heap);
        while (m.heap->count > 0 && m.heap->ids[0] == id)
            marks_pop(m.heap);
        if (m.mark == 0)
            return &m.nodes[id];
        if (marks_has(m, id)) { /* unless a pass that started at the node has visited it */
            *marks_at(m, &m.nodes[id]) = 0;
            return &m.nodes[id];
        }
    }
    return m.nodes;
}

/* A read-only pass at `from` reaches an operand. */
static inline void marks_reach(marks m, pgr_id operand, const pgr_node *from)
{
    if (m.heap != NULL)
        marks_push(m, operand);
    else if (!marks_has(m, operand))
        marks_set(m, &m.nodes[operand], from);
}

/* ---- Start and end ---- */

/* Starts a pass: the first marks_next_of_any(m, root + 1) is the root. `heap` is for a pass that can't set marks. */
static inline marks marks_begin(pgr_tape *tape, pgr_id root, size_t field, marks_heap *heap)
{
    const bool is_read_only = field == offsetof(pgr_node, read_mark);
    marks m = {.field = field, .bit = (uint8_t)(~tape->marks_used & (tape->marks_used + 1u))};
    *heap = (marks_heap){.tape = tape};
    marks_refresh(&m, tape);
    tape->passes++;
    m.root = root;
    m.is_first = tape_begin_root(tape, root);
    if (m.bit == 0 || (is_read_only && tape->is_reading)) {
        m.bit = 0;
        m.heap = heap;
        m.mark = is_read_only ? 0 : MARKS_HEAPED;
        marks_push(m, root);
        return m;
    }
    for (uint8_t bit = m.bit; bit != 0; bit >>= 1)
        m.mark++;
    tape->marks_used |= m.bit;
    tape->is_reading |= is_read_only;
    *marks_at(m, &m.nodes[root]) = m.mark;
    return m;
}

/* Clears the marks that are left below `node`. */
static inline void marks_abandon(marks m, pgr_node *node)
{
    while (node != m.nodes)
        node = marks_next_of_any(m, node);
}

/* Ends a pass when marks_next has returned nodes[0]: only its summary is left to clear. */
static inline void marks_end(marks m, pgr_tape *tape)
{
    tape->passes--;
    tape_end_root(tape, m.root, m.is_first);
    if (m.heap != NULL) {
        tape_resize(tape, m.heap->ids, 0);
        return;
    }
    for (uint32_t super = (tape->size >> TAPE_SUPER) + 1; (super = marks_super_below(m, super)) != 0;) {
        super--;
        m.supers[super] &= (uint8_t)~m.bit;
        const size_t count = (tape->capacity >> TAPE_BLOCK) + 1, first = (size_t)super * MARKS_BLOCKS;
        for (size_t block = first; block < first + MARKS_BLOCKS && block < count; block++)
            m.blocks[block] &= (uint8_t)~m.bit;
    }
    tape->marks_used &= (uint8_t)~m.bit;
    if (m.field == offsetof(pgr_node, read_mark))
        tape->is_reading = false;
}

#endif
