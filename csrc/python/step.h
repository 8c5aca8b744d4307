/* step.h: `_backward`. */
#ifndef PGR_INTERNAL_STEP_H
#define PGR_INTERNAL_STEP_H

#include "python/layer.h"

/* Getter and setter, as PyGetSetDef has them. */
PyObject *pgr__get_backward(PyObject *self, void *unused);
int pgr__set_backward(PyObject *self, PyObject *value, void *unused);

/* A custom node's step, unless it is a function of the user's own. -1 with an exception. */
int pgr__custom_step(PyObject *value);

#endif
