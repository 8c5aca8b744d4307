/* dot.c: see dot.h. */
#include "python/dot.h"

#include "python/object.h"

/* One factor of a dot product: a Value, or the number to record as a constant. */
typedef struct {
    PyObject *value; /* owned; NULL: a number */
    double number;
} factor;

static int as_factor(PyObject *o, factor *out)
{
    if (IS_OPERAND(o)) {
        *out = (factor){Py_NewRef(o), 0.0};
        return 0;
    }
    *out = (factor){NULL, 0.0};
    const int known = pgr__as_number(o, &out->number);
    if (known == 0)
        pgr__reject("dot", o);
    return known > 0 ? 0 : -1;
}

static inline pgr_id factor_id(const factor *f)
{
    return f->value != NULL ? id_of(f->value) : tape_append(pgr__layer.tape, PGR_OP_CONST, f->number, 0, 0);
}

/* The node of a Value, or of a float, recorded as a constant; 0 for a Value whose node is gone, NOT_PLAIN for others. */
#define NOT_PLAIN UINT32_MAX
static inline pgr_id plain_id(PyObject *o)
{
    if (Py_TYPE(o) == pgr__layer.value_type)
        return id_of(o);
    return PyFloat_CheckExact(o) ? tape_append(pgr__layer.tape, PGR_OP_CONST, PyFloat_AS_DOUBLE(o), 0, 0) : NOT_PLAIN;
}

/* The usual case, lists of Values and floats: nothing can run between the first element and the last, so they need
 * neither be held nor looked at twice. NULL without an exception if there is anything else among them. */
static PyObject *dot_of_plain(PyObject *const *ws, PyObject *const *xs, Py_ssize_t n, PyObject *bias)
{
    pgr_tape *const tape = pgr__layer.tape;
    const uint32_t before = tape->size;
    pgr_id sum = bias != NULL ? id_of(bias) : tape_append(tape, PGR_OP_CONST, 0.0, 0, 0);
    if (sum == 0)
        return pgr__gone();
    double v = tape->nodes[sum].data;
    for (Py_ssize_t i = 0; i < n; i++) {
        const pgr_id w = plain_id(ws[i]), x = plain_id(xs[i]);
        if (PGR_UNLIKELY((w == 0) | (x == 0) | (w == NOT_PLAIN) | (x == NOT_PLAIN))) {
            tape->size = before;
            return w == 0 || x == 0 ? pgr__gone() : NULL;
        }
        const double p = tape->nodes[w].data * tape->nodes[x].data;
        const pgr_id product = tape_append(tape, PGR_OP_MUL, p, w, x);
        v += p;
        sum = tape_append(tape, PGR_OP_ADD, v, sum, product);
    }
    return wrap_new(sum, tape->size - before - 1);
}

static bool are_as_many(Py_ssize_t weights, Py_ssize_t inputs)
{
    if (weights != inputs)
        PyErr_Format(PyExc_ValueError, "dot: %zd weights and %zd inputs; there must be as many of each", weights, inputs);
    return weights == inputs;
}

PyObject *pgr__dot_product(PyObject *unused, PyObject *const *args, Py_ssize_t nargs)
{
    (void)unused;
    enum { ON_STACK = 64 };
    factor few[2 * ON_STACK + 1], *factors = few;
    size_t made = 0;
    PyObject *result = NULL;
    if (nargs < 2 || nargs > 3) {
        PyErr_Format(PyExc_TypeError, "dot takes (ws, xs) or (ws, xs, b), not %zd arguments", nargs);
        return NULL;
    }
    PyObject *ws = PySequence_Fast(args[0], "dot: ws must be a sequence");
    PyObject *xs = ws == NULL ? NULL : PySequence_Fast(args[1], "dot: xs must be a sequence");
    if (xs == NULL) {
        Py_XDECREF(ws);
        return NULL;
    }
    Py_ssize_t n = PySequence_Fast_GET_SIZE(ws);
    if (!are_as_many(n, PySequence_Fast_GET_SIZE(xs)))
        goto done;
    const bool usual = n > 0 && n < UINT32_MAX / 8 && (nargs < 3 || Py_TYPE(args[2]) == pgr__layer.value_type);
    if (usual && tape_has_room(pgr__layer.tape, 4 * (uint32_t)n + 1) && pgr__layer.tape->free_slot != 0) {
        result = dot_of_plain(PySequence_Fast_ITEMS(ws), PySequence_Fast_ITEMS(xs), n, nargs < 3 ? NULL : args[2]);
        if (result != NULL || PyErr_Occurred())
            goto done;
    }
    /* Making room and converting numbers may run any code, which may change the lists. */
    Py_SETREF(ws, PySequence_Tuple(ws));
    if (ws != NULL)
        Py_SETREF(xs, PySequence_Tuple(xs));
    if (ws == NULL || xs == NULL || !are_as_many(n = PyTuple_GET_SIZE(ws), PyTuple_GET_SIZE(xs)))
        goto done;
    if (n > ON_STACK && (factors = PyMem_Malloc((2 * (size_t)n + 1) * sizeof *factors)) == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    for (Py_ssize_t i = 0; i < n; i++) {
        if (as_factor(PyTuple_GET_ITEM(ws, i), &factors[made]) < 0)
            goto done;
        made++;
        if (as_factor(PyTuple_GET_ITEM(xs, i), &factors[made]) < 0)
            goto done;
        made++;
    }
    if (nargs == 3) {
        if (as_factor(args[2], &factors[made]) < 0)
            goto done;
    } else {
        factors[made] = (factor){NULL, 0.0};
    }
    made++;
    if (made == 1 && factors[0].value != NULL) {
        result = Py_NewRef(factors[0].value);
        goto done;
    }
    const pgr_status status = made > UINT32_MAX / 2 ? PGR_ERR_FULL : ready((uint32_t)(2 * made));
    if (status != PGR_OK) {
        pgr__fail(status, PGR_OP_ADD, 0.0, 0.0);
        goto done;
    }
    pgr_tape *const tape = pgr__layer.tape;
    for (size_t i = 0; i < made; i++)
        if (factors[i].value != NULL && live_node(factors[i].value) == NULL)
            goto done;
    const uint32_t before = tape->size;
    pgr_id sum = factor_id(&factors[made - 1]);
    double v = tape->nodes[sum].data;
    for (size_t i = 0; i + 1 < made; i += 2) {
        const pgr_id w = factor_id(&factors[i]), x = factor_id(&factors[i + 1]);
        const double p = tape->nodes[w].data * tape->nodes[x].data;
        const pgr_id product = tape_append(tape, PGR_OP_MUL, p, w, x);
        v += p;
        sum = tape_append(tape, PGR_OP_ADD, v, sum, product);
    }
    result = wrap_new(sum, tape->size - before - 1);
done:
    while (made > 0)
        Py_XDECREF(factors[--made].value);
    if (factors != few)
        PyMem_Free(factors);
    Py_XDECREF(ws);
    Py_XDECREF(xs);
    return result;
}
