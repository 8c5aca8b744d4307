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

/* The node of a Value, or of a float recorded as a constant; 0 for a Value whose node is gone, NOT_PLAIN for others. */
#define NOT_PLAIN UINT32_MAX
static inline pgr_id plain_id(PyObject *o)
{
    if (Py_TYPE(o) == pgr__layer.value_type)
        return id_of(o);
    return PyFloat_CheckExact(o) ? tape_append(pgr__layer.tape, PGR_OP_CONST, PyFloat_AS_DOUBLE(o), 0, 0) : NOT_PLAIN;
}

/* The usual case, lists of Values and floats: no code can run between the first element and the last, so nothing needs
 * to be held or read twice. NULL without an exception if an element is of another type. */
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
        sum = tape_append_term(tape, w, x, sum, &v);
    }
    return wrap_new(sum, tape->size - before - 1);
}

static bool are_as_many(Py_ssize_t weights, Py_ssize_t inputs)
{
    if (weights != inputs)
        PyErr_Format(PyExc_ValueError, "dot: %zd weights and %zd inputs; their numbers must be equal", weights,
                     inputs);
    return weights == inputs;
}

/* The factors of any other dot product: w, x, w, x, ..., and last b. */
enum { ON_STACK = 64 };
typedef struct {
    factor few[2 * ON_STACK + 1], *all;
    size_t count;
} factors;

static void drop(factors *f)
{
    while (f->count > 0)
        Py_XDECREF(f->all[--f->count].value);
    if (f->all != f->few)
        PyMem_Free(f->all);
}

static bool add(factors *f, PyObject *o)
{
    if (as_factor(o, &f->all[f->count]) < 0)
        return false;
    f->count++;
    return true;
}

/* Converts tuples of n. False with an exception; the caller calls drop in any case. */
static bool gather(factors *f, PyObject *ws, PyObject *xs, Py_ssize_t n, PyObject *bias)
{
    f->all = n <= ON_STACK ? f->few : PyMem_Malloc((2 * (size_t)n + 1) * sizeof *f->all);
    f->count = 0;
    if (f->all == NULL) {
        PyErr_NoMemory();
        return false;
    }
    for (Py_ssize_t i = 0; i < n; i++)
        if (!add(f, PyTuple_GET_ITEM(ws, i)) || !add(f, PyTuple_GET_ITEM(xs, i)))
            return false;
    if (bias != NULL)
        return add(f, bias);
    f->all[f->count++] = (factor){NULL, 0.0};
    return true;
}

static PyObject *dot_of_factors(const factors *f)
{
    const factor *const bias = &f->all[f->count - 1];
    if (f->count == 1 && bias->value != NULL)
        return Py_NewRef(bias->value);
    const pgr_status status = f->count > UINT32_MAX / 2 ? PGR_ERR_FULL : ready((uint32_t)(2 * f->count));
    if (status != PGR_OK)
        return pgr__raise(status);
    pgr_tape *const tape = pgr__layer.tape;
    for (size_t i = 0; i < f->count; i++)
        if (f->all[i].value != NULL && live_node(f->all[i].value) == NULL)
            return NULL;
    const uint32_t before = tape->size;
    pgr_id sum = factor_id(bias);
    double v = tape->nodes[sum].data;
    for (const factor *i = f->all; i < bias; i += 2) {
        const pgr_id w = factor_id(&i[0]), x = factor_id(&i[1]);
        sum = tape_append_term(tape, w, x, sum, &v);
    }
    return wrap_new(sum, tape->size - before - 1);
}

/* Making room and converting numbers may run any code, which may change the lists, so copies are used. */
static PyObject *dot_of_any(PyObject *ws, PyObject *xs, PyObject *bias)
{
    PyObject *const w = PySequence_Tuple(ws), *const x = w == NULL ? NULL : PySequence_Tuple(xs);
    PyObject *result = NULL;
    if (x != NULL && are_as_many(PyTuple_GET_SIZE(w), PyTuple_GET_SIZE(x))) {
        factors f;
        if (gather(&f, w, x, PyTuple_GET_SIZE(w), bias))
            result = dot_of_factors(&f);
        drop(&f);
    }
    Py_XDECREF(w);
    Py_XDECREF(x);
    return result;
}

static PyObject *dot(PyObject *ws, PyObject *xs, PyObject *bias)
{
    const Py_ssize_t n = PySequence_Fast_GET_SIZE(ws);
    if (!are_as_many(n, PySequence_Fast_GET_SIZE(xs)))
        return NULL;
    const bool is_usual = n > 0 && n < UINT32_MAX / 8 && (bias == NULL || Py_TYPE(bias) == pgr__layer.value_type);
    if (is_usual && tape_has_room(pgr__layer.tape, 4 * (uint32_t)n + 1) && pgr__layer.tape->free_slot != 0) {
        PyObject *const result = dot_of_plain(PySequence_Fast_ITEMS(ws), PySequence_Fast_ITEMS(xs), n, bias);
        if (result != NULL || PyErr_Occurred())
            return result;
    }
    return dot_of_any(ws, xs, bias);
}

PyObject *pgr__dot_product(PyObject *unused, PyObject *const *args, Py_ssize_t nargs)
{
    (void)unused;
    if (nargs < 2 || nargs > 3) {
        PyErr_Format(PyExc_TypeError, "dot takes (ws, xs) or (ws, xs, b), not %zd arguments", nargs);
        return NULL;
    }
    PyObject *const ws = PySequence_Fast(args[0], "dot: ws must be a sequence");
    PyObject *const xs = ws == NULL ? NULL : PySequence_Fast(args[1], "dot: xs must be a sequence");
    PyObject *const result = xs == NULL ? NULL : dot(ws, xs, nargs < 3 ? NULL : args[2]);
    Py_XDECREF(ws);
    Py_XDECREF(xs);
    return result;
}
