/* marks.h: descending through the nodes that a pass has reached, however far apart they are.
 *
 * A pass owns one bit. It marks its root and, at each node that it comes to, the node's operands;
 * since operands have smaller ids, going down meets every reachable node once, after all its uses.
 * Marks stand in the nodes, next to what the pass reads anyway; two levels of summary let it skip the
 * rest. A bitmap of ids in place of the marks was measured three times slower, because
 * neighbouring nodes then wait for each other's words. */
#ifndef PGR_INTERNAL_MARKS_H
#define PGR_INTERNAL_MARKS_H

#include <string.h>

#include "tape.h"

/* Starts a pass: its bit, or 0 when eight are under way. */
static inline uint8_t marks_begin(pgr_tape *tape)
{
    const uint8_t bit = (uint8_t)(~tape->passes & (tape->passes + 1u));
    tape->passes |= bit;
    return bit;
}

static inline void marks_end(pgr_tape *tape, uint8_t bit) { tape->passes &= (uint8_t)~bit; }

static inline void marks_set(pgr_tape *tape, uint8_t bit, pgr_id id)
{
    tape->nodes[id].marks |= bit;
    uint8_t *const block = &tape->blocks[id >> TAPE_BLOCK];
    if ((*block & bit) == 0) {
        *block |= bit;
        tape->supers[id >> TAPE_SUPER] |= bit;
    }
}

/* The next dirty block below `block`, plus one; 0 if there is none. Clears the summary behind it. */
static inline uint32_t marks_skip(pgr_tape *tape, uint8_t bit, uint32_t block)
{
    enum { BLOCKS = 1 << (TAPE_SUPER - TAPE_BLOCK) };
    tape->blocks[block] &= (uint8_t)~bit;
    for (;;) {
        if (block % BLOCKS == 0) {
            uint32_t super = block / BLOCKS;
            tape->supers[super] &= (uint8_t)~bit;
            do {
                uint64_t eight = 1;
                while (super >= 8 && (memcpy(&eight, tape->supers + super - 8, 8), eight == 0))
                    super -= 8;
                if (super == 0)
                    return 0;
            } while ((tape->supers[--super] & bit) == 0);
            block = (super + 1) * BLOCKS;
        }
        if ((tape->blocks[--block] & bit) != 0)
            return block + 1;
    }
}

/* The largest marked id below `id`, its mark taken off; 0 if there is none left. */
static inline pgr_id marks_next(pgr_tape *tape, uint8_t bit, pgr_id id)
{
    enum { NODES = 1 << TAPE_BLOCK };
    for (;;) {
        while (id % NODES != 0) {
            pgr_node *const node = &tape->nodes[--id];
            if ((node->marks & bit) != 0) {
                node->marks &= (uint8_t)~bit;
                return id;
            }
        }
        const uint32_t end = marks_skip(tape, bit, id / NODES);
        if (end == 0)
            return 0;
        id = end * NODES - 1;
        pgr_node *const last = &tape->nodes[id];
        if ((last->marks & bit) != 0) {
            last->marks &= (uint8_t)~bit;
            return id;
        }
    }
}

#endif
