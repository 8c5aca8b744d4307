/* tape.h: the tape's memory, recording as programs compute, and the call of on_stop. */
#ifndef PGR_INTERNAL_TAPE_H
#define PGR_INTERNAL_TAPE_H

#include "tape/nodes.h"

/* The given allocator, or the C library's for NULL. */
pgr_allocator tape_allocator(const pgr_allocator *allocator);

/* Makes room for k more nodes. Never collects, so ids stay. PGR_ERR_NOMEM or _FULL, with nothing changed. */
pgr_status pgr__make_room(pgr_tape *tape, uint32_t k);

/* Records op(a, b) as a program computes it: by IEEE 754, outside the op's domain too. PGR_ERR_NOMEM or _FULL. */
pgr_status pgr__record_ieee(pgr_tape *tape, int op, pgr_id a, pgr_id b, pgr_id *out);

/* Calls on_stop: for loops over nodes, every TAPE_ASK_EVERY steps or so. It may record, but nodes keep their ids;
 * pointers to nodes become invalid. PGR_ERR_STOPPED. */
pgr_status pgr__ask(pgr_tape *tape);

/* See pgr_tape_stat. */
pgr_tape_stats pgr__stats(const pgr_tape *tape);

#endif
