/* slots.c: growing the slots, and holds on nodes. */
#include "tape/slots.h"

enum { SLOTS_AT_FIRST = 64 };

pgr_status pgr__make_slot(pgr_tape *tape)
{
    if (tape->free_slot != 0)
        return PGR_OK;
    if (tape->slot_capacity == UINT32_MAX)
        return PGR_ERR_FULL;
    const uint64_t wanted = tape->slot_capacity == 0 ? SLOTS_AT_FIRST : 2 * (uint64_t)tape->slot_capacity;
    const uint32_t capacity = wanted > UINT32_MAX ? UINT32_MAX : (uint32_t)wanted;
    pgr_slot *const slots = tape_resize(tape, tape->slots, capacity * sizeof *slots);
    if (slots == NULL)
        return PGR_ERR_NOMEM;
    tape->slots = slots;
    const uint32_t first = tape->slot_capacity == 0 ? 1 : tape->slot_capacity; /* slot 0 stands for no slot */
    for (uint32_t i = tape->slot_capacity; i < capacity; i++)
        slots[i] = (pgr_slot){.link = i + 1 < capacity ? i + 1 : 0};
    tape->slot_capacity = capacity;
    tape->free_slot = first;
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
