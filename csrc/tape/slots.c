/* slots.c: growing the slots, and holds on nodes. */
#include "tape/slots.h"

/* Slots are put on the free list so many at a time: all of a large array at once would be a pause. */
enum { SLOTS_AT_ONCE = 64 };

static pgr_status grow_slots(pgr_tape *tape)
{
    if (tape->slot_capacity == UINT32_MAX)
        return PGR_ERR_FULL;
    const uint64_t wanted = tape->slot_capacity == 0 ? SLOTS_AT_ONCE : 2 * (uint64_t)tape->slot_capacity;
    const uint32_t capacity = wanted > UINT32_MAX ? UINT32_MAX : (uint32_t)wanted;
    pgr_slot *const slots = tape_resize(tape, tape->slots, capacity * sizeof *slots);
    if (slots == NULL)
        return PGR_ERR_NOMEM;
    tape->slots = slots;
    tape->slot_capacity = capacity;
    return PGR_OK;
}

pgr_status pgr__make_slot(pgr_tape *tape)
{
    if (tape->free_slot != 0)
        return PGR_OK;
    if (tape->slot_count == tape->slot_capacity) {
        const pgr_status status = grow_slots(tape);
        if (status != PGR_OK)
            return status;
    }
    const uint32_t first = tape->slot_count, left = tape->slot_capacity - first;
    const uint32_t end = first + (left < SLOTS_AT_ONCE ? left : SLOTS_AT_ONCE);
    for (uint32_t i = first; i < end; i++)
        tape->slots[i] = (pgr_slot){.link = i + 1 < end ? i + 1 : 0};
    tape->slot_count = end;
    tape->free_slot = first == 0 ? 1 : first; /* slot 0 stands for no slot */
    return PGR_OK;
}

pgr_node *pgr__node(pgr_tape *tape, pgr_handle h)
{
    const pgr_id id = tape_id_of(tape, h);
    return id == 0 ? NULL : &tape->nodes[id];
}

pgr_handle pgr__hold(pgr_tape *tape, pgr_id id)
{
    const uint32_t slot = tape->nodes[id].slot;
    if (slot == 0)
        return tape_handle(tape, tape_take_slot(tape, id));
    if (tape->slots[slot].holds++ == 0) {
        tape->held++;
        tape->nodes[id].flags |= TAPE_HELD;
    }
    return tape_handle(tape, slot);
}

int64_t pgr_hold(pgr_tape *tape, pgr_id id)
{
    const pgr_status status = id == 0 || id >= tape->size ? PGR_ERR_HANDLE : pgr__make_slot(tape);
    return status == PGR_OK ? (int64_t)pgr__hold(tape, id) : -(int64_t)status;
}

uint32_t pgr__next_dead(pgr_tape *tape)
{
    const uint32_t slot = tape->dead;
    if (slot != 0) {
        tape->dead = tape->slots[slot].link;
        tape->slots[slot].is_dead = 0;
    }
    return slot;
}
