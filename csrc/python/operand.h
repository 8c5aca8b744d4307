/* operand.h: the type, whose number slots record. */
#ifndef PGR_INTERNAL_OPERAND_H
#define PGR_INTERNAL_OPERAND_H

#include "python/layer.h"

extern PyType_Spec pgr__operand_spec;

void pgr__operand_dealloc(PyObject *self);

/* Gives a subclass Operand's methods and attributes as its own: CPython's quick calls of methods are for objects whose
 * type is exactly the method's. What the subclass defines stays. False with an exception. */
bool pgr__inherit(PyTypeObject *type);

#endif
