/* children.h: a node's operands as objects, and what hangs on an object by name. */
#ifndef PGR_INTERNAL_CHILDREN_H
#define PGR_INTERNAL_CHILDREN_H

#include "python/layer.h"

/* The id of a Value, 0 with an exception if its node is gone. */
static inline pgr_id live_id(PyObject *o)
{
    const pgr_id id = id_of(o);
    if (PGR_UNLIKELY(id == 0))
        pgr__gone();
    return id;
}

static inline bool is_param(int op) { return pgr_op_row(op)->kind == PGR_KIND_PARAM; }
static inline bool is_operation(int op) { return op >= PGR_OP_FIRST; } /* of the table, not one of the tape's own */

/* An attribute that the user or the library has set, borrowed; NULL, perhaps with an exception. */
static inline PyObject *own(PyObject *self, PyObject *name)
{
    PyObject *const dict = ((object *)self)->dict;
    return dict == NULL ? NULL : PyDict_GetItemWithError(dict, name);
}

/* Sets such an attribute, or deletes it if `value` is NULL. */
static inline int set_own(PyObject *self, PyObject *name, PyObject *value)
{
    PyObject *const dict = own_dict(self);
    if (dict == NULL)
        return -1;
    if (value != NULL)
        return PyDict_SetItem(dict, name, value);
    if (PyDict_DelItem(dict, name) == 0)
        return 0;
    PyErr_SetObject(PyExc_AttributeError, name);
    return -1;
}

/* Hands the objects of a node's operands to `take`, in order; with a parameter if `with_param`. False with an
 * exception. */
bool pgr__each_operand(PyObject *self, bool with_param, bool (*take)(PyObject *into, PyObject *value), PyObject *into);

/* For pgr__each_operand. */
bool pgr__into_set(PyObject *set, PyObject *value);
bool pgr__into_list(PyObject *list, PyObject *value);

#endif
