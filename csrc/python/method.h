/* method.h: bound methods of Value. */
#ifndef PGR_INTERNAL_METHOD_H
#define PGR_INTERNAL_METHOD_H

#include "python/layer.h"

/* The bound method `v.tanh`. `method` is one of the type's. */
PyObject *pgr__bind(PyObject *self, PyMethodDef *method);
bool pgr__make_method_type(void); /* once */

#endif
