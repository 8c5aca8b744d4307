/* rewire.c: giving a node other operands after it was recorded.
 *
 * Operands precede results on the tape. If the new operands do, and fit into the record, the node changes in place.
 * Otherwise it moves to the tape's end, and with it, in order, all that was made from it; handles follow. The nodes
 * left behind have no handles, and the next collection frees them. */
#include <string.h>

#include "tape/tape.h"
#include "tape/tags.h"

static const pgr_id NEEDED = 1, MADE_FROM_IT = 1; /* in `moved`, before new ids */

/* Marks `id` and all nodes made from it, writes their number, and returns the union of their flags. Skips nodes that no
 * handle needs, such as those left behind by earlier moves. */
static uint8_t mark_above(const pgr_tape *tape, pgr_id id, pgr_id *moved, uint32_t *count)
{
    uint8_t flags = 0;
    *count = 0;
    memset(moved, 0, (tape->size - id) * sizeof *moved);
    for (pgr_id i = tape->size; i-- > id;) { /* first, nodes that a handle needs */
        const pgr_node *const node = &tape->nodes[i];
        if (node->slot == 0 && moved[i - id] == 0)
            continue;
        moved[i - id] = NEEDED;
        if (node->lhs >= id)
            moved[node->lhs - id] = NEEDED;
        if (node->rhs >= id)
            moved[node->rhs - id] = NEEDED;
    }
    for (pgr_id i = id; i < tape->size; i++) {
        const pgr_node *const node = &tape->nodes[i];
        const bool is_above =
            (node->lhs >= id && moved[node->lhs - id] != 0) || (node->rhs >= id && moved[node->rhs - id] != 0);
        moved[i - id] = i == id || (is_above && moved[i - id] != 0) ? MADE_FROM_IT : 0;
        flags |= moved[i - id] != 0 ? node->flags : 0;
        *count += moved[i - id] != 0;
    }
    return flags;
}

bool pgr__is_made_from(pgr_tape *tape, pgr_id root, pgr_id id)
{
    if (root < id)
        return false;
    pgr_id *const marks = tape_resize(tape, NULL, (tape->size - id) * sizeof *marks);
    uint32_t count;
    if (marks != NULL)
        mark_above(tape, id, marks, &count);
    const bool is_above = marks == NULL || marks[root - id] != 0;
    tape_resize(tape, marks, 0);
    return is_above;
}

static pgr_status copy_tags(pgr_tape *tape, pgr_id from)
{
    pgr_status status = PGR_OK;
    for (int channel = 0; status == PGR_OK && channel < PGR_TAG_CHANNELS; channel++)
        status = pgr__set_tag(tape, channel, pgr_tag(tape, channel, from));
    return status;
}

/* Appends a copy of `from`, which keeps its handle until all copies are made. */
static pgr_id append_copy(pgr_tape *tape, pgr_id from, int op, pgr_id lhs, pgr_id rhs)
{
    const pgr_node *const node = &tape->nodes[from];
    const double grad = node->grad;
    const pgr_id id = tape_append(tape, op, node->data, lhs, rhs);
    tape->nodes[id].grad = grad;
    return id;
}

/* Copies the nodes marked in `moved` to the tape's end, `id` with its new operands. The caller has made room. */
static pgr_status append_copies(pgr_tape *tape, pgr_id id, size_t n, const pgr_id *operands, pgr_id *moved)
{
    const uint32_t size = tape->size;
    pgr_status status = copy_tags(tape, id);
    pgr_id before = n > 0 ? operands[0] : 0;
    for (size_t i = 1; i + 1 < n; i++)
        before = tape_append(tape, PGR_OP_PAIR, 0.0, before, operands[i]);
    moved[0] = append_copy(tape, id, PGR_OP_CUSTOM, before, n > 1 ? operands[n - 1] : 0);
    for (pgr_id i = id + 1; status == PGR_OK && i < size; i++) {
        if (moved[i - id] == 0)
            continue;
        const pgr_node node = tape->nodes[i];
        const pgr_id lhs = node.lhs >= id && moved[node.lhs - id] != 0 ? moved[node.lhs - id] : node.lhs;
        const pgr_id rhs = node.rhs >= id && moved[node.rhs - id] != 0 ? moved[node.rhs - id] : node.rhs;
        status = copy_tags(tape, i);
        moved[i - id] = append_copy(tape, i, node.op, lhs, rhs);
    }
    return status;
}

static void move_name(pgr_tape *tape, pgr_id from, pgr_id to)
{
    pgr_node *const old = &tape->nodes[from], *const new = &tape->nodes[to];
    if (old->slot == 0)
        return;
    new->slot = old->slot;
    new->flags |= old->flags & TAPE_HELD;
    tape->slots[old->slot].id = to;
    old->slot = 0;
    old->flags &= (uint8_t)~TAPE_HELD;
    tape->named = to;
}

static pgr_status move_above(pgr_tape *tape, pgr_id id, size_t n, const pgr_id *operands, pgr_id *moved)
{
    const uint32_t size = tape->size;
    uint32_t count;
    const uint8_t flags = mark_above(tape, id, moved, &count);
    if ((flags & (TAPE_UNKNOWN | TAPE_ROOT)) != 0)
        return (flags & TAPE_UNKNOWN) != 0 ? PGR_ERR_UNKNOWN : PGR_ERR_BUSY;
    for (size_t i = 0; i < n; i++)
        if (operands[i] >= id && moved[operands[i] - id] != 0)
            return PGR_ERR_CYCLE;
    const uint64_t more = (uint64_t)count + n;
    pgr_status status = more > UINT32_MAX ? PGR_ERR_FULL : pgr__make_room(tape, (uint32_t)more);
    if (status != PGR_OK)
        return status;
    uint32_t tags[PGR_TAG_CHANNELS];
    for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++)
        tags[channel] = tape->tags[channel].tag;
    status = append_copies(tape, id, n, operands, moved);
    if (status != PGR_OK)
        tape->size = size;
    for (pgr_id i = id; status == PGR_OK && i < size; i++)
        if (moved[i - id] != 0)
            move_name(tape, i, moved[i - id]);
    for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++)
        if (pgr__set_tag(tape, channel, tags[channel]) != PGR_OK)
            tape->tags[channel].tag = tags[channel]; /* no memory for a run: the next change of tag reports it */
    pgr__trim(tape);
    return status;
}

pgr_status pgr_set_operands(pgr_tape *tape, pgr_id id, size_t n, const pgr_id *operands)
{
    pgr_node *const node = &tape->nodes[id];
    bool are_before = true;
    for (size_t i = 0; i < n; i++) {
        if ((tape->nodes[operands[i]].flags & TAPE_INHERITED & ~node->flags) != 0)
            return PGR_ERR_UNKNOWN;
        are_before = are_before && operands[i] < id;
    }
    if (n <= 2 && are_before) {
        node->op = PGR_OP_CUSTOM;
        node->lhs = n > 0 ? operands[0] : 0;
        node->rhs = n > 1 ? operands[1] : 0;
        tape->has_custom = true;
        return PGR_OK;
    }
    pgr_id *const moved = tape_resize(tape, NULL, (tape->size - id) * sizeof *moved);
    if (moved == NULL)
        return PGR_ERR_NOMEM;
    const pgr_status status = move_above(tape, id, n, operands, moved);
    tape_resize(tape, moved, 0);
    tape->has_custom |= status == PGR_OK;
    return status;
}
