/* symbol.h: `_op`. */
#ifndef PGR_INTERNAL_SYMBOL_H
#define PGR_INTERNAL_SYMBOL_H

#include "python/layer.h"

/* Getter and setter, as PyGetSetDef has them. */
PyObject *pgr__get_op(PyObject *self, void *unused);
int pgr__set_op(PyObject *self, PyObject *value, void *unused);

bool pgr__make_symbols(void); /* once */

#endif
