/* layer.c: the layer's errors, which Python code raises, and conversion to numbers. */
#include "python/layer.h"

pgr__operand_layer pgr__layer;
pgr__interned pgr__names;

bool pgr__make_names(void)
{
    bool ok = true;
#define X(name) ok = (pgr__names.name = PyUnicode_InternFromString(#name)) != NULL && ok;
    PGR_NAMES(X)
#undef X
    return ok;
}

/* ---- Errors -------------------------------------------------------------------------------- */

/* Returns NULL for the result of a function that must raise. */
static PyObject *raised(PyObject *result)
{
    if (result != NULL)
        PyErr_SetString(PyExc_SystemError, "a function given to _adopt must raise");
    Py_XDECREF(result);
    return NULL;
}

PyObject *pgr__fail(pgr_status status, int op, double a, double b)
{
    return raised(PyObject_CallFunction(pgr__layer.fail, "iidd", (int)status, op, a, b));
}

PyObject *pgr__raise(pgr_status status)
{
    return status == RAISED ? NULL : pgr__fail(status, PGR_OP_LEAF, 0.0, 0.0);
}

PyObject *pgr__reject(const char *where, PyObject *value)
{
    return raised(PyObject_CallFunction(pgr__layer.reject, "sO", where, value));
}

PyObject *pgr__unknown(const char *where)
{
    return raised(PyObject_CallFunction(pgr__layer.unknown, "s", where));
}

PyObject *pgr__gone(void) { return pgr__raise(PGR_ERR_HANDLE); }

PyObject *pgr__leave_graph(const char *how, PyObject *value)
{
    return raised(PyObject_CallFunction(pgr__layer.leave, "sOi", how, value, (int)is_unknown(value)));
}

/* ---- Numbers ------------------------------------------------------------------------------- */

static int from_double(double number, double *out)
{
    *out = number;
    return number == -1.0 && PyErr_Occurred() ? -1 : 1;
}

/* Neither a float nor an int: pygrad/_core/numbers.py decides. */
PGR_NOINLINE static int other_number(PyObject *o, double *out)
{
    PyTypeObject *const type = Py_TYPE(o);
    if (IS_OPERAND(o)) { /* as data it would leave the graph */
        if (!is_unknown(o))
            return 0;
        pgr__unknown("float");
        return -1;
    }
    if (type->tp_as_number == NULL || (type->tp_as_number->nb_float == NULL && type->tp_as_number->nb_index == NULL))
        return 0;
    const int is_plain = PySet_Contains(pgr__layer.plain_numbers, (PyObject *)type);
    if (is_plain != 0)
        return is_plain < 0 ? -1 : from_double(PyFloat_AsDouble(o), out);
    PyObject *const number = PyObject_CallFunctionObjArgs(pgr__layer.as_number, o, NULL);
    const int known = number == NULL ? -1 : number == Py_None ? 0 : from_double(PyFloat_AsDouble(number), out);
    Py_XDECREF(number);
    return known;
}

int pgr__as_number(PyObject *o, double *out)
{
    if (PyFloat_Check(o)) {
        *out = PyFloat_AS_DOUBLE(o);
        return 1;
    }
    return PyLong_Check(o) ? from_double(PyLong_AsDouble(o), out) : other_number(o, out);
}

bool pgr__to_number(const char *where, PyObject *value, double *out)
{
    if (value == NULL) {
        PyErr_Format(PyExc_AttributeError, "a Value's %s can't be deleted", where);
        return false;
    }
    const int known = pgr__as_number(value, out);
    if (known == 0)
        pgr__reject(where, value);
    return known > 0;
}
