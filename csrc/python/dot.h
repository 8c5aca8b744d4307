/* dot.h: b + w[0]*x[0] + w[1]*x[1] + ..., recorded by one call. */
#ifndef PGR_INTERNAL_DOT_H
#define PGR_INTERNAL_DOT_H

#include "python/layer.h"

PyObject *pgr__dot_product(PyObject *unused, PyObject *const *args, Py_ssize_t nargs);

#endif
