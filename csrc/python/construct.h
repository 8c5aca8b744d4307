/* construct.h: Value(...), and construction of its subclasses. */
#ifndef PGR_INTERNAL_CONSTRUCT_H
#define PGR_INTERNAL_CONSTRUCT_H

#include "python/layer.h"

PyObject *pgr__operand_new(PyTypeObject *type, PyObject *args, PyObject *keywords);
int pgr__operand_init(PyObject *self, PyObject *args, PyObject *keywords);
PyObject *pgr__value_vectorcall(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names);

#endif
