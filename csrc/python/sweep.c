/* sweep.c: the reverse sweep as Python calls it, and the functions of custom nodes as the sweep calls them. */
#include "python/sweep.h"

#include "python/object.h"
#include "python/prev.h"
#include "python/step.h"

int pgr__run_custom(void *unused, pgr_tape *tape, pgr_handle node)
{
    (void)unused;
    const int64_t h = pgr_h_hold(tape, node);
    PyObject *const value = h < 0 ? pgr__raise((pgr_status)-h) : pgr__object_of((uint32_t)h);
    PyObject *const dict = value == NULL ? NULL : Py_XNewRef(((object *)value)->dict);
    PyObject *const own = dict == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(dict, pgr__names._backward));
    if (own != NULL)
        Py_XDECREF(PyObject_CallObject(own, NULL));
    else if (dict != NULL && !PyErr_Occurred())
        pgr__custom_step(value);
    Py_XDECREF(own);
    Py_XDECREF(dict);
    Py_XDECREF(value);
    return PyErr_Occurred() != NULL;
}

/* _sweep(checked): runs the reverse sweep. Returns None, or the Value at which a checked sweep has found inf or nan. */
PyObject *pgr__sweep(PyObject *self, PyObject *checked)
{
    const int is_checked = PyObject_IsTrue(checked);
    if (is_checked < 0 || pgr__settle_below(self) < 0)
        return NULL;
    const pgr_id id = id_of(self);
    pgr_id bad = 0;
    const pgr_status status = id == 0              ? PGR_ERR_HANDLE
                              : is_unknown(self)   ? PGR_ERR_UNKNOWN
                              : is_checked         ? pgr_backward_checked(pgr__layer.tape, id, &bad)
                                                   : pgr_backward(pgr__layer.tape, id);
    if (status == PGR_ERR_NOT_FINITE) {
        const int64_t h = pgr_hold(pgr__layer.tape, bad);
        return h < 0 ? pgr__raise((pgr_status)-h) : pgr__object_of((uint32_t)h);
    }
    if (status != PGR_OK)
        return pgr__raise(status);
    Py_RETURN_NONE;
}

PyObject *pgr__settle(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (pgr__settle_below(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}
