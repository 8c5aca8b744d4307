/* operand.h: the type, whose number slots record. */
#ifndef PGR_INTERNAL_OPERAND_H
#define PGR_INTERNAL_OPERAND_H

#include "python/layer.h"

extern PyType_Spec pgr__operand_spec;

void pgr__operand_dealloc(PyObject *self);

/* The function of a custom node, from a sweep, which returns with the exception that it leaves. */
int pgr__run_custom(void *unused, pgr_tape *tape, pgr_handle node);

#endif
