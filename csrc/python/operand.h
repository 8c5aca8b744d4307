/* operand.h: the type, whose number slots record. */
#ifndef PGR_INTERNAL_OPERAND_H
#define PGR_INTERNAL_OPERAND_H

#include "python/layer.h"

extern PyType_Spec pgr__operand_spec;

void pgr__operand_dealloc(PyObject *self);

#endif
