/* symbol.c: `_op`: the symbol of the operation that made a Value, or the program's own. */
#include "python/symbol.h"

#include "python/children.h"

#include <math.h>

#define tape (pgr__layer.tape)

static PyObject *symbols[PGR_OP_COUNT]; /* interned */

PyObject *pgr__get_op(PyObject *self, void *unused)
{
    (void)unused;
    const pgr_id id = live_id(self);
    PyObject *const symbol = id == 0 ? NULL : own(self, pgr__names._op);
    if (symbol != NULL || PyErr_Occurred())
        return Py_XNewRef(symbol);
    const pgr_node *const node = &tape->nodes[id];
    if (node->op != PGR_OP_POWC)
        return Py_NewRef(symbols[node->op]);
    const double exponent = tape->nodes[node->rhs].data;
    if (fabs(exponent) < 1e15 && exponent == floor(exponent))
        return PyUnicode_FromFormat("**%lld", (long long)exponent);
    PyObject *const number = PyFloat_FromDouble(exponent);
    PyObject *const text = number == NULL ? NULL : PyUnicode_FromFormat("**%R", number);
    Py_XDECREF(number);
    return text;
}

int pgr__set_op(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    return set_own(self, pgr__names._op, value);
}

bool pgr__make_symbols(void)
{
    bool ok = true;
    for (int op = 0; op < PGR_OP_COUNT; op++) {
        symbols[op] = PyUnicode_InternFromString(is_operation(op) ? pgr_op_row(op)->symbol : "");
        ok = ok && symbols[op] != NULL;
    }
    return ok;
}
