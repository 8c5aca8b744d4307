/* place.h: a Value's place in the graph: `_prev`, `_op`, `_backward`. */
#ifndef PGR_INTERNAL_PLACE_H
#define PGR_INTERNAL_PLACE_H

#include "python/layer.h"

/* Getters and setters, as PyGetSetDef has them. */

PyObject *pgr__get_prev(PyObject *self, void *unused);
int pgr__set_prev(PyObject *self, PyObject *value, void *unused);
PyObject *pgr__get_op(PyObject *self, void *unused);
int pgr__set_op(PyObject *self, PyObject *value, void *unused);
PyObject *pgr__get_backward(PyObject *self, void *unused);
int pgr__set_backward(PyObject *self, PyObject *value, void *unused);
bool pgr__make_symbols(void); /* once */

/* What the program has done to a set that `_prev` gave shows on the tape from here on: before anything reads operands.
 * Runs no code of the user's. -1 with an exception. */
PyObject *pgr__operands(PyObject *self, PyObject *unused); /* a list of them, in order, with repeats */
bool pgr__agrees(const operand *o); /* whether there is nothing to settle; runs no code */
int pgr__settle_below(PyObject *root); /* all that `root` may be made from */

/* A custom node's step, but for a function of the user's own. -1 with an exception. */
int pgr__custom_step(PyObject *value);

#endif
