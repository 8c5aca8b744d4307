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

/* The i-th of the objects that have a prev, NULL from the last on. */
operand *pgr__walked(uint32_t i);

#endif
