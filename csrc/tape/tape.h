/* tape.h: the tape as a whole: its memory, recording by id, and asking whether to stop. */
#ifndef PGR_INTERNAL_TAPE_H
#define PGR_INTERNAL_TAPE_H

#include "tape/nodes.h"

/* The given allocator, or the C library's for NULL. */
pgr_allocator tape_allocator(const pgr_allocator *allocator);

/* Room for k more nodes. Never collects, so ids stay. PGR_ERR_NOMEM or _FULL, the tape as before. */
pgr_status pgr__make_room(pgr_tape *tape, uint32_t k);

/* Records op(a, b) as a program computes it: by IEEE 754, outside of the op's domain too. PGR_ERR_NOMEM or _FULL. */
pgr_status pgr__record_ieee(pgr_tape *tape, int op, pgr_id a, pgr_id b, pgr_id *out);

/* Asks on_stop, which may record, but nothing moves meanwhile: ids stay, pointers to nodes don't. For loops over many
 * nodes, every TAPE_ASK_EVERY or so. PGR_ERR_STOPPED. */
pgr_status pgr__ask(pgr_tape *tape);

/* How large it is. */
pgr_tape_stats pgr__stats(const pgr_tape *tape);

#endif
