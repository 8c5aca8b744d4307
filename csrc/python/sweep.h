/* sweep.h: the reverse sweep from a Value. */
#ifndef PGR_INTERNAL_SWEEP_H
#define PGR_INTERNAL_SWEEP_H

#include "python/layer.h"

/* Methods of Operand: _sweep(checked) and _settle(). */
PyObject *pgr__sweep(PyObject *self, PyObject *checked);
PyObject *pgr__settle(PyObject *self, PyObject *unused);

/* For pgr_tape_on_custom: the function of a custom node. Nonzero with an exception. */
int pgr__run_custom(void *unused, pgr_tape *tape, pgr_handle node);

#endif
