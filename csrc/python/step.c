/* step.c: `_backward`: one step of the reverse sweep from a Value, by its node's operation or by the program's
 * function. */
#include "python/step.h"

#include "python/children.h"
#include "python/prev.h"

#define tape  (pgr__layer.tape)
#define names pgr__names

static PyObject *steps[PGR_OP_COUNT]; /* functions of a Value: its step as that operation */

/* The step that a node had before it became a custom one, (op, operands), borrowed; NULL, perhaps with an exception. */
static PyObject *past_of(PyObject *self)
{
    PyObject *const past = own(self, names._pygrad_step);
    if (past == NULL || !PyTuple_CheckExact(past) || PyTuple_GET_SIZE(past) < 2 || PyTuple_GET_SIZE(past) > 3)
        return NULL;
    int overflow;
    PyObject *const number = PyTuple_GET_ITEM(past, 0);
    const long op = PyLong_CheckExact(number) ? PyLong_AsLongAndOverflow(number, &overflow) : 0;
    bool is_past = op >= PGR_OP_FIRST && op < PGR_OP_COUNT;
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(past); i++)
        is_past = is_past && pgr__is_operand(PyTuple_GET_ITEM(past, i));
    return is_past ? past : NULL;
}

/* One step by a node's past operation, into the operands that it was recorded with. */
static int step_of_past(PyObject *past, PyObject *self)
{
    const Py_ssize_t n = PyTuple_GET_SIZE(past);
    const int op = (int)PyLong_AsLong(PyTuple_GET_ITEM(past, 0));
    const pgr_id lhs = n > 1 ? live_id(PyTuple_GET_ITEM(past, 1)) : 0;
    const pgr_id rhs = n > 2 ? live_id(PyTuple_GET_ITEM(past, 2)) : 0;
    if (PyErr_Occurred())
        return -1;
    pgr_push_into(tape, id_of(self), op, lhs, rhs);
    return 0;
}

/* Adds the node's grad times the program's local gradients to its operands' grads. Ignores surplus operands and
 * numbers. */
static int step_by_numbers(PyObject *grads, PyObject *self)
{
    const pgr_id id = id_of(self);
    const double g = tape->nodes[id].grad;
    const operand_walk start = {id, false};
    operand_walk walk = start;
    Py_ssize_t at = 0;
    while (operand_next(tape->nodes, &walk) != 0)
        at++;
    walk = start;
    for (pgr_id i; (i = operand_next(tape->nodes, &walk)) != 0;) /* they come last to first */
        if (--at < PyTuple_GET_SIZE(grads))
            tape->nodes[i].grad += g * PyFloat_AsDouble(PyTuple_GET_ITEM(grads, at));
    return PyErr_Occurred() ? -1 : 0;
}

int pgr__custom_step(PyObject *value)
{
    PyObject *const custom = Py_XNewRef(own(value, names._custom));
    if (custom != NULL) {
        PyObject *const result = PyObject_CallMethodObjArgs(custom, names.push, value, NULL);
        Py_DECREF(custom);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    PyObject *const past = PyErr_Occurred() ? NULL : past_of(value);
    if (past != NULL)
        return step_of_past(past, value);
    PyObject *const grads = PyErr_Occurred() ? NULL : own(value, names._local_grads);
    return grads != NULL && PyTuple_CheckExact(grads) ? step_by_numbers(grads, value) : PyErr_Occurred() ? -1 : 0;
}

/* steps[op]: one step of a Value's node by `op`, its op when `_backward` was read. */
static PyObject *step(PyObject *number, PyObject *self)
{
    if (!pgr__is_operand(self))
        return pgr__reject("_backward", self);
    const int op = (int)PyLong_AsLong(number);
    const pgr_id id = live_id(self);
    if (id == 0)
        return NULL;
    if ((tape->nodes[id].flags & TAPE_UNKNOWN) != 0)
        return pgr__raise(PGR_ERR_UNKNOWN);
    if (op == PGR_OP_CUSTOM || (is_operation(op) && past_of(self) != NULL)) {
        if (pgr__custom_step(self) < 0)
            return NULL;
    } else if (is_operation(op)) {
        pgr_push_into(tape, id, op, tape->nodes[id].lhs, tape->nodes[id].rhs);
    }
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef step_method = {"_backward", step, METH_O, "One step of backward, from a Value to its operands."};

PyObject *pgr__get_backward(PyObject *self, void *unused)
{
    (void)unused;
    const pgr_id id = live_id(self);
    PyObject *const function = id == 0 ? NULL : own(self, names._backward);
    if (function != NULL || PyErr_Occurred())
        return Py_XNewRef(function);
    PyObject **const f = &steps[tape->nodes[id].op];
    if (*f == NULL) {
        PyObject *const number = PyLong_FromLong(tape->nodes[id].op);
        *f = number == NULL ? NULL : PyCFunction_New(&step_method, number);
        Py_XDECREF(number);
    }
    return *f == NULL ? NULL : PyMethod_New(*f, self);
}

static PyObject *do_nothing(PyObject *unused, PyObject *no_arguments)
{
    (void)unused, (void)no_arguments;
    Py_RETURN_NONE;
}

int pgr__set_backward(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    static PyMethodDef nothing = {"_backward", do_nothing, METH_NOARGS, "No step."};
    if (value == Py_None) { /* drops a closure */
        PyObject *const none = PyCFunction_New(&nothing, NULL);
        const int failed = none == NULL ? -1 : pgr__set_backward(self, none, NULL);
        Py_XDECREF(none);
        return failed;
    }
    if (value == NULL || !PyCallable_Check(value)) {
        if (value != NULL)
            pgr__reject("_backward", value);
        else
            PyErr_SetString(PyExc_AttributeError, "a Value's _backward can't be deleted");
        return -1;
    }
    const pgr_id id = live_id(self);
    if (id == 0)
        return -1;
    const int op = tape->nodes[id].op;
    if (is_operation(op)) { /* keep its symbol and its step, with its present operands */
        PyObject *const list = PyList_New(0);
        const bool is_filled = list != NULL && pgr__each_operand(self, false, pgr__into_list, list);
        PyObject *const tuple = is_filled ? PyList_AsTuple(list) : NULL;
        const int failed = tuple == NULL || pgr__set_operands(self, tuple) < 0;
        Py_XDECREF(list);
        Py_XDECREF(tuple);
        if (failed)
            return -1;
    }
    if (set_own(self, names._backward, value) < 0)
        return -1;
    pgr_node *const node = &tape->nodes[id_of(self)];
    node->op = PGR_OP_CUSTOM;
    tape->has_custom = true;
    return 0;
}
