/* prev.h: `_prev`, and what programs do to it. */
#ifndef PGR_INTERNAL_PREV_H
#define PGR_INTERNAL_PREV_H

#include "python/layer.h"

/* Getter and setter, as PyGetSetDef has them. */
PyObject *pgr__get_prev(PyObject *self, void *unused);
int pgr__set_prev(PyObject *self, PyObject *value, void *unused);

/* Makes a tuple of Values a node's operands, and the node a custom one. -1 with an exception, and nothing changed. */
int pgr__set_operands(PyObject *self, PyObject *tuple);

/* Makes operands equal to changed sets, for all nodes that `root` may be made from. Call it before operands are read.
 * Runs no code of the user's. -1 with an exception. */
int pgr__settle_below(PyObject *root);

/* The operands as a list, in order, with repeats. Settles first. */
PyObject *pgr__operands(PyObject *self, PyObject *unused);

/* Whether an object's set holds its node's operands and nothing else. Runs no code; false when out of memory. */
bool pgr__agrees(const object *o);

#endif
