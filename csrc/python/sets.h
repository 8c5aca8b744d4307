/* sets.h: the sets that `_prev` gives: kept by their objects, emptied and used again. */
#ifndef PGR_INTERNAL_SETS_H
#define PGR_INTERNAL_SETS_H

#include "python/layer.h"

/* An empty set; NULL with an exception. May run code. */
PyObject *pgr__take_set(void);

/* Keeps `prev`, whose reference it takes over, in the place of what there was. False, with an exception, and it dropped. */
bool pgr__keep_prev(operand *o, PyObject *prev);

/* Takes an object that dies off the list of those with a prev, and returns that, to be dropped by pgr__drop_prev when all else
 * is done. */
PyObject *pgr__take_prev(operand *o);
void pgr__drop_prev(PyObject *prev);

/* Whether it says so when it changes; whether it may have changed since all were settled; whether none has. */
bool pgr__is_telling(PyObject *prev);
bool pgr__may_have_changed(PyObject *prev);
bool pgr__are_settled(void);
extern PGR_HIDDEN uint64_t pgr__settled; /* the number of changes that the tape knows of */

/* A changed set whose object has gone; its node's name is kept. */
typedef struct {
    pgr_handle node;
    PyObject *prev;
} pgr__orphan;

/* Runs no code. False when out of memory. */
bool pgr__leave_orphan(pgr_handle node, PyObject *prev);
bool pgr__take_orphan(pgr__orphan *out);
void pgr__drop_dead_orphans(void);

/* The i-th of the objects that have a prev, NULL from the last on. */
operand *pgr__walked(uint32_t i);

#endif
