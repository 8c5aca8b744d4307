/* scope.h: the scope in which a thread records. */
#ifndef PGR_INTERNAL_SCOPE_H
#define PGR_INTERNAL_SCOPE_H

#include "python/layer.h"

PyObject *pgr__present_scope(PyObject *unused, PyObject *no_arguments);
PyObject *pgr__enter_scope(PyObject *unused, PyObject *number);
PyObject *pgr__call_in_scopes(PyObject *unused, PyObject *const *args, Py_ssize_t nargs);
PyObject *pgr__active_scopes(PyObject *unused, PyObject *no_arguments);

#endif
