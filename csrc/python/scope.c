/* scope.c: see scope.h. */
#include "python/scope.h"

static TAPE_THREAD_LOCAL uint32_t scope; /* other threads have theirs */

PyObject *pgr__present_scope(PyObject *unused, PyObject *no_arguments)
{
    (void)unused, (void)no_arguments;
    return PyLong_FromUnsignedLong(scope);
}

static bool set_scope(unsigned long number)
{
    if (number > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a scope's number must be below 2**32");
        return false;
    }
    const pgr_status status = pgr__set_tag(pgr__layer.tape, PGR_TAG_SCOPE, (uint32_t)number);
    if (status != PGR_OK) {
        pgr__raise(status);
        return false;
    }
    scope = (uint32_t)number;
    return true;
}

PyObject *pgr__enter_scope(PyObject *unused, PyObject *number)
{
    (void)unused;
    const unsigned long wanted = PyLong_AsUnsignedLong(number);
    if ((wanted == (unsigned long)-1 && PyErr_Occurred()) || !set_scope(wanted))
        return NULL;
    Py_RETURN_NONE;
}

/* A call of _call_in_scopes under way. On the heap, since greenlets move their stacks. */
typedef struct scopes_call {
    struct scopes_call *previous, *next;
    unsigned long first, count;
    uint32_t before;
} scopes_call;

static scopes_call *calls;

/* _call_in_scopes(functions, x, first): [f(x) for f in functions], each in its own scope: first, first + 1, ... In
 * Python, entering scopes would cost a fifth of a network's forward pass. */
PyObject *pgr__call_in_scopes(PyObject *unused, PyObject *const *args, Py_ssize_t nargs)
{
    (void)unused;
    if (nargs != 3 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "_call_in_scopes(functions, x, first): functions must be a list");
        return NULL;
    }
    const unsigned long first = PyLong_AsUnsignedLong(args[2]);
    if (first == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    const uint32_t before = scope;
    PyObject *results = PyList_New(0);
    scopes_call *const this = results == NULL ? NULL : PyMem_Malloc(sizeof *this);
    if (this == NULL) {
        Py_XDECREF(results);
        return PyErr_NoMemory();
    }
    *this = (scopes_call){NULL, calls, first, (unsigned long)PyList_GET_SIZE(args[0]), before};
    if (calls != NULL)
        calls->previous = this;
    calls = this;
    for (Py_ssize_t i = 0; results != NULL && i < PyList_GET_SIZE(args[0]); i++) {
        PyObject *const function = Py_NewRef(PyList_GET_ITEM(args[0], i));
        const bool is_entered = set_scope(first + (unsigned long)i);
        PyObject *const result = is_entered ? PyObject_CallFunctionObjArgs(function, args[1], NULL) : NULL;
        if (result == NULL || PyList_Append(results, result) < 0)
            Py_CLEAR(results);
        Py_XDECREF(result);
        Py_DECREF(function);
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (set_scope(before))
        PyErr_Restore(type, value, traceback);
    else
        Py_CLEAR(results);
    *(this->previous != NULL ? &this->previous->next : &calls) = this->next;
    if (this->next != NULL)
        this->next->previous = this->previous;
    PyMem_Free(this);
    return results;
}

/* _active_scopes(): (first, count, before) of each call under way: scopes that may still get nodes. */
PyObject *pgr__active_scopes(PyObject *unused, PyObject *no_arguments)
{
    (void)unused, (void)no_arguments;
    PyObject *list = PyList_New(0);
    for (const scopes_call *c = calls; list != NULL && c != NULL; c = c->next) {
        PyObject *const tuple = Py_BuildValue("kkk", c->first, c->count, (unsigned long)c->before);
        if (tuple == NULL || PyList_Append(list, tuple) < 0)
            Py_CLEAR(list);
        Py_XDECREF(tuple);
    }
    return list;
}
