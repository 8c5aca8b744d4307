/* method.h: a method of the type and the Value that it is to be called on. */
#ifndef PGR_INTERNAL_METHOD_H
#define PGR_INTERNAL_METHOD_H

#include "python/layer.h"

/* v.tanh, to be called at once. `method` is one of the type's own. */
PyObject *pgr__bind(PyObject *self, PyMethodDef *method);
bool pgr__make_method_type(void); /* once */

#endif
