/* reads.c: see reads.h. */
#include "python/reads.h"

/* A new reference; NULL if the name is bound to nothing. */
static PyObject *bound_in(PyObject *holder, PyObject *name)
{
    PyObject *found = NULL;
    if (PyDict_Check(holder))
        Py_XINCREF(found = PyDict_GetItemWithError(holder, name));
    else if (PyCell_Check(holder))
        Py_XINCREF(found = PyCell_GET(holder));
    else if (Py_IS_TYPE(holder, &PyDictProxy_Type))
        found = PyObject_GetItem(holder, name);
    else
        found = PyObject_GetAttr(holder, name);
    if (found == NULL)
        PyErr_Clear();
    return found;
}

bool pgr__reads_hold(PyObject *reads)
{
    const Py_ssize_t size = PyTuple_GET_SIZE(reads);
    for (Py_ssize_t i = 1; i + 2 < size; i += 3) {
        PyObject *const now = bound_in(PyTuple_GET_ITEM(reads, i), PyTuple_GET_ITEM(reads, i + 1));
        const bool same = (now == NULL ? PyTuple_GET_ITEM(reads, 0) : now) == PyTuple_GET_ITEM(reads, i + 2);
        Py_XDECREF(now);
        if (!same)
            return false;
    }
    return true;
}
