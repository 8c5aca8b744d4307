/* sets.h: the sets of `_prev`: kept by their objects, emptied and reused. */
#ifndef PGR_INTERNAL_SETS_H
#define PGR_INTERNAL_SETS_H

#include "python/layer.h"

/* An empty set; NULL with an exception. May run code. */
PyObject *pgr__take_set(void);

/* Makes `prev`, whose reference it takes over, the object's prev. False with an exception, and `prev` dropped. */
bool pgr__keep_prev(object *o, PyObject *prev);

/* Takes the prev of a dying object, which the caller drops with pgr__drop_prev when all else is done. */
PyObject *pgr__take_prev(object *o);
void pgr__drop_prev(PyObject *prev);

/* Whether a prev may have changed since all were settled; whether none has. */
bool pgr__may_have_changed(object *o);
bool pgr__are_settled(void);
extern PGR_HIDDEN uint64_t pgr__settled; /* the number of changes that the tape knows of */

/* A changed set whose object is gone; its node's handle is kept. */
typedef struct {
    pgr_handle node;
    PyObject *prev;
} pgr__orphan;

/* Runs no code. False when out of memory. */
bool pgr__leave_orphan(pgr_handle node, PyObject *prev);
bool pgr__take_orphan(pgr__orphan *out);
void pgr__drop_dead_orphans(void);

/* The i-th of the objects that have a prev, NULL from the last on. */
object *pgr__walked(uint32_t i);

/* The first so many of them are doubtful, and every look must see them: their prev can change without a report, or
 * could not be settled at the last look, which pgr__doubt notes. */
uint32_t pgr__doubtful(void);
void pgr__doubt(object *o, bool is_left);

#endif
