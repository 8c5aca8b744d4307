/* calls.h: what calls on handles share: room before they record, ids of handles, new holds on nodes.
 *
 * Each call takes the tape's lock, makes room, which may collect and so move nodes, and only then turns handles into
 * ids. */
#ifndef PGR_INTERNAL_CALLS_H
#define PGR_INTERNAL_CALLS_H

#include "tape/slots.h"

/* Room for k nodes, then for a handle on the last one: collecting may run code, which uses slots up. */
static inline pgr_status call_make_room(pgr_tape *tape, uint32_t k)
{
    pgr_status status = PGR_OK;
    if (!tape_has_room(tape, k) || tape_collect_is_due(tape))
        status = pgr__make_room_by_handle(tape, k);
    return status == PGR_OK ? pgr__make_slot(tape) : status;
}

/* What a call that records returns: a new hold, or -status. */
static inline int64_t call_result(pgr_tape *tape, pgr_status status, pgr_id id)
{
    return status == PGR_OK ? (int64_t)pgr__hold(tape, id) : -(int64_t)status;
}

/* Ids of n handles, in memory that the caller frees with tape_resize. Does nothing if `*status` is a failure; sets it
 * on failure. */
pgr_id *pgr__ids_of(pgr_tape *tape, size_t n, const pgr_handle *handles, pgr_status *status);

/* A new hold on each of n nodes; on none of them on failure. */
pgr_status pgr__hold_all(pgr_tape *tape, size_t n, const pgr_id *ids, pgr_handle *out);

#endif
