/* call.c: calls of programs: one call that takes numbers and buffers, without cffi's objects. */
#include "python/call.h"
#include "python/reads.h"

#include <string.h>

enum { BUFFERS_ON_STACK = 16, NUMBERS_ON_STACK = 64 };

typedef struct {
    Py_buffer *views, few_views[BUFFERS_ON_STACK];
    double **pointers, *few_pointers[BUFFERS_ON_STACK + 1];
    Py_ssize_t count; /* of views held */
} buffers;

static void release(buffers *b)
{
    while (b->count > 0)
        PyBuffer_Release(&b->views[--b->count]);
    if (b->views != b->few_views)
        PyMem_Free(b->views);
    if (b->pointers != b->few_pointers)
        PyMem_Free(b->pointers);
}

/* Makes room for `count` views and one more pointer. Nothing is held yet. */
static bool make_room(buffers *b, Py_ssize_t count)
{
    b->count = 0;
    b->views = count <= BUFFERS_ON_STACK ? b->few_views : PyMem_Malloc((size_t)count * sizeof *b->views);
    b->pointers = count <= BUFFERS_ON_STACK ? b->few_pointers : PyMem_Malloc((size_t)(count + 1) * sizeof *b->pointers);
    if (b->views != NULL && b->pointers != NULL)
        return true;
    release(b);
    PyErr_NoMemory();
    return false;
}

static bool is_float64(const Py_buffer *view) /* NumPy says =d of arrays that are not aligned */
{
    return view->itemsize == sizeof(double) && view->format != NULL && view->format[view->format[0] == '='] == 'd';
}

/* Sets pointers to `first` and to the arrays' float64. False with an exception, and nothing held. */
static bool hold(buffers *b, double *first, PyObject *arrays, int flags)
{
    const Py_ssize_t n = PyTuple_GET_SIZE(arrays);
    if (!make_room(b, n))
        return false;
    b->pointers[0] = first;
    for (Py_ssize_t i = 0; i < n; i++) {
        Py_buffer *const view = &b->views[i];
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(arrays, i), view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) < 0) {
            release(b);
            return false;
        }
        b->count++;
        if (!is_float64(view)) {
            PyErr_SetString(PyExc_TypeError, "a program's arrays are C-contiguous float64");
            release(b);
            return false;
        }
        b->pointers[i + 1] = view->buf;
    }
    return true;
}

/* What _on_progress was given: called as f(program's address, work done) while a program runs. NULL: none. */
static PyObject *progress;

typedef struct {
    PyThreadState *state;
    const pgr_program *program;
    uint64_t done;
} run_state;

static int report(const run_state *run)
{
    PyObject *const f = progress;
    if (f == NULL)
        return 0;
    Py_INCREF(f);
    PyObject *const shown = PyObject_CallFunction(f, "NK", PyLong_FromVoidPtr((void *)run->program),
                                                  (unsigned long long)run->done);
    Py_DECREF(f);
    Py_XDECREF(shown);
    return shown == NULL ? -1 : 0;
}

/* Whether Ctrl-C was pressed, or the progress could not be shown; then its exception is set. */
static int is_interrupted(void *ctx)
{
    run_state *const run = ctx;
    PyEval_RestoreThread(run->state);
    const int stop = PyErr_CheckSignals() < 0 ? -1 : report(run);
    run->state = PyEval_SaveThread();
    return stop;
}

/* _on_progress(f): from now on f is told of the progress of programs that run, in any thread; None: nobody. */
static PyObject *on_progress(PyObject *unused, PyObject *f)
{
    (void)unused;
    PyObject *const before = progress;
    progress = f == Py_None ? NULL : f;
    Py_XINCREF(progress);
    Py_XDECREF(before);
    Py_RETURN_NONE;
}

static pgr_status run_without_gil(const pgr_program *program, const buffers *in, const buffers *out, Py_ssize_t workers)
{
    run_state run = {.program = program, .state = PyEval_SaveThread()};
    const pgr_run_options options = {
        .workers = (unsigned)workers, .stop = is_interrupted, .ctx = &run, .done = &run.done};
    const pgr_status status = pgr_program_run(program, (const double *const *)in->pointers, out->pointers, &options);
    PyEval_RestoreThread(run.state);
    if (status != PGR_OK && status != PGR_ERR_STOPPED) /* whose exception is set */
        PyErr_NoMemory();
    return status;
}

/* _run(program, numbers, arrays, results, count, workers): runs the program at that address on the numbers, which are
 * array 0, and the arrays. Writes to the result arrays, and returns the `count` numbers of result array 0. Releases the
 * GIL. */
static PyObject *run(PyObject *unused, PyObject *const *args, Py_ssize_t nargs)
{
    (void)unused;
    if (nargs != 6 || !PyTuple_Check(args[1]) || !PyTuple_Check(args[2]) || !PyTuple_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "_run takes (program, numbers, arrays, results, count, workers)");
        return NULL;
    }
    const pgr_program *const program = PyLong_AsVoidPtr(args[0]);
    const Py_ssize_t n = PyTuple_GET_SIZE(args[1]), out_count = PyLong_AsSsize_t(args[4]);
    const Py_ssize_t workers = PyLong_AsSsize_t(args[5]);
    if (PyErr_Occurred())
        return NULL;
    if (out_count < 0 || workers < 0) {
        PyErr_SetString(PyExc_ValueError, "_run: count and workers must not be negative");
        return NULL;
    }
    double few[NUMBERS_ON_STACK], *numbers = few;
    if (n + out_count > NUMBERS_ON_STACK && (numbers = PyMem_Malloc((size_t)(n + out_count) * sizeof *numbers)) == NULL)
        return PyErr_NoMemory();
    memset(numbers + n, 0, (size_t)out_count * sizeof *numbers); /* an untrusted program may not write all of them */
    PyObject *result = NULL;
    buffers in, out;
    for (Py_ssize_t i = 0; i < n; i++) {
        numbers[i] = PyFloat_AsDouble(PyTuple_GET_ITEM(args[1], i));
        if (numbers[i] == -1.0 && PyErr_Occurred())
            goto done;
    }
    if (!hold(&in, numbers, args[2], 0))
        goto done;
    if (!hold(&out, numbers + n, args[3], PyBUF_WRITABLE)) {
        release(&in);
        goto done;
    }
    const pgr_status status = run_without_gil(program, &in, &out, workers);
    release(&in);
    release(&out);
    if (status != PGR_OK)
        goto done;
    result = PyTuple_New(out_count);
    for (Py_ssize_t i = 0; result != NULL && i < out_count; i++) {
        PyObject *const number = PyFloat_FromDouble(numbers[n + i]);
        if (number == NULL)
            Py_CLEAR(result);
        else
            PyTuple_SET_ITEM(result, i, number);
    }
done:
    if (numbers != few)
        PyMem_Free(numbers);
    return result;
}

/* ---- Calls by structure ---------------------------------------------------------------------------- */

/* The items of a plan, which Program.plan makes, by the names that _plan_items() returns:
 * PROGRAM      its address
 * IN, OUT      the structures of arguments and result: see pygrad/_core/trees.py
 * NUMBERS_IN, ARRAYS_IN, NUMBERS_OUT   counts
 * SHAPES       of the result's arrays
 * EMPTY        numpy.empty, or another function that makes an array of a shape
 * ARRAY_TYPE   numpy.ndarray
 * CONSTANTS    arrays after the arguments'
 * WORKERS      threads that share a vmap's lanes
 * READS        what the function read by name: see reads.h
 * OWNER        of the program: keeps it alive */
#define PLAN(X) \
    X(PROGRAM) X(IN) X(OUT) X(NUMBERS_IN) X(ARRAYS_IN) X(NUMBERS_OUT) X(SHAPES) X(EMPTY) X(ARRAY_TYPE) X(CONSTANTS) \
    X(WORKERS) X(READS) X(OWNER)

#define X(NAME) PLAN_##NAME,
enum { PLAN(X) PLAN_SIZE };
#undef X

/* The kinds of structures but scalars. Only these are planned: Program.plan asks _structure_kinds(). Here their first
 * letters tell them apart. */
#define KINDS(X) \
    X(ARRAY, "array", 'a') X(DICT, "dict", 'd') X(LIST, "list", 'l') X(NONE, "none", 'n') \
    X(REGISTERED, "registered", 'r') X(TUPLE, "tuple", 't')

#define X(NAME, name, letter) KIND_##NAME = letter,
enum { KINDS(X) };
#undef X

static Py_UCS4 kind_of(PyObject *structure) { return PyUnicode_READ_CHAR(PyTuple_GET_ITEM(structure, 0), 0); }

static PyObject *tuple_of_names(const char *const *names, Py_ssize_t count)
{
    PyObject *const tuple = PyTuple_New(count);
    for (Py_ssize_t i = 0; tuple != NULL && i < count; i++) {
        PyObject *const name = PyUnicode_FromString(names[i]);
        if (name == NULL) {
            Py_DECREF(tuple);
            return NULL;
        }
        PyTuple_SET_ITEM(tuple, i, name);
    }
    return tuple;
}

static PyObject *plan_items(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
#define X(NAME) #NAME,
    static const char *const names[] = {PLAN(X)};
#undef X
    return tuple_of_names(names, PLAN_SIZE);
}

static PyObject *structure_kinds(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
#define X(NAME, name, letter) (assert((name)[0] == (letter)), name),
    const char *const names[] = {KINDS(X)};
#undef X
    return tuple_of_names(names, sizeof names / sizeof *names);
}

enum { NODE_KIND, NODE_AUX, NODE_FLATTEN, NODE_UNFLATTEN }; /* the items of a Node */

typedef struct {
    PyTypeObject *array_type;
    double *numbers; /* the next */
    buffers arrays;
} arguments;

static bool hold_array(buffers *b, PyObject *array, PyObject *shape)
{
    Py_buffer *const view = &b->views[b->count];
    if (PyObject_GetBuffer(array, view, PyBUF_C_CONTIGUOUS | PyBUF_FORMAT) < 0) {
        PyErr_Clear();
        return false;
    }
    b->pointers[++b->count] = view->buf;
    bool fits = is_float64(view) && view->ndim == PyTuple_GET_SIZE(shape);
    for (int k = 0; fits && k < view->ndim; k++)
        fits = view->shape[k] == PyLong_AsSsize_t(PyTuple_GET_ITEM(shape, k));
    return fits;
}

static bool take(arguments *a, PyObject *structure, PyObject *x);

/* The same for an item of a container that may change meanwhile, as by the hash of a dict's key. */
static bool take_item(arguments *a, PyObject *structure, PyObject *item)
{
    Py_INCREF(item);
    const bool taken = take(a, structure, item);
    Py_DECREF(item);
    return taken;
}

/* The same for an instance of a class, ("registered", Node, structures of its children ...): see
 * pygrad/_core/tree_nodes.py. Its function `flatten` returns (children, aux). */
static bool take_registered(arguments *a, PyObject *structure, PyObject *x)
{
    PyObject *const node = PyTuple_GET_ITEM(structure, 1);
    if ((PyObject *)Py_TYPE(x) != PyTuple_GET_ITEM(node, NODE_KIND))
        return false;
    PyObject *const flat = PyObject_CallOneArg(PyTuple_GET_ITEM(node, NODE_FLATTEN), x);
    const bool is_pair = flat != NULL && PyTuple_Check(flat) && PyTuple_GET_SIZE(flat) == 2;
    PyObject *const children = is_pair ? PySequence_Tuple(PyTuple_GET_ITEM(flat, 0)) : NULL;
    const Py_ssize_t count = PyTuple_GET_SIZE(structure) - 2;
    bool fits = children != NULL && PyTuple_GET_SIZE(children) == count &&
                PyObject_RichCompareBool(PyTuple_GET_ITEM(flat, 1), PyTuple_GET_ITEM(node, NODE_AUX), Py_EQ) == 1;
    for (Py_ssize_t i = 0; fits && i < count; i++)
        fits = take(a, PyTuple_GET_ITEM(structure, i + 2), PyTuple_GET_ITEM(children, i));
    Py_XDECREF(children);
    Py_XDECREF(flat);
    return fits;
}

/* Takes the numbers and arrays of `x`. False if `x` does not have the structure, or needs conversion; with an exception
 * if a key's hash or comparison raises. */
static bool take(arguments *a, PyObject *structure, PyObject *x)
{
    if (PyUnicode_Check(structure)) { /* scalar */
        if (PyFloat_Check(x))
            *a->numbers++ = PyFloat_AS_DOUBLE(x);
        else if (PyLong_CheckExact(x)) {
            *a->numbers = PyLong_AsDouble(x);
            if (*a->numbers++ == -1.0 && PyErr_Occurred()) {
                PyErr_Clear();
                return false;
            }
        } else
            return false;
        return true;
    }
    const Py_ssize_t count = PyTuple_GET_SIZE(structure) - 1;
    switch (kind_of(structure)) {
    case KIND_ARRAY:
        return Py_TYPE(x) == a->array_type && hold_array(&a->arrays, x, PyTuple_GET_ITEM(structure, 1));
    case KIND_NONE:
        return x == Py_None;
    case KIND_REGISTERED:
        return take_registered(a, structure, x);
    case KIND_LIST:
        if (!PyList_CheckExact(x) || PyList_GET_SIZE(x) != count)
            return false;
        for (Py_ssize_t i = 0; i < count; i++)
            if (i >= PyList_GET_SIZE(x) || !take_item(a, PyTuple_GET_ITEM(structure, i + 1), PyList_GET_ITEM(x, i)))
                return false;
        return true;
    case KIND_TUPLE:
        if (!PyTuple_CheckExact(x) || PyTuple_GET_SIZE(x) != count)
            return false;
        for (Py_ssize_t i = 0; i < count; i++)
            if (!take(a, PyTuple_GET_ITEM(structure, i + 1), PyTuple_GET_ITEM(x, i)))
                return false;
        return true;
    case KIND_DICT: { /* its keys, then the structures of its items */
        PyObject *const keys = PyTuple_GET_ITEM(structure, 1);
        if (!PyDict_CheckExact(x) || PyDict_GET_SIZE(x) != PyTuple_GET_SIZE(keys))
            return false;
        for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(keys); i++) {
            PyObject *const item = PyDict_GetItemWithError(x, PyTuple_GET_ITEM(keys, i));
            if (item == NULL || !take_item(a, PyTuple_GET_ITEM(structure, i + 2), item))
                return false;
        }
        return true;
    }
    default:
        return false;
    }
}

typedef struct {
    const double *numbers; /* the next */
    PyObject **arrays;
} results;

static PyObject *assemble(results *r, PyObject *structure);

/* The same for an instance of a class, which its function `unflatten` makes of (aux, children). */
static PyObject *assemble_registered(results *r, PyObject *structure)
{
    PyObject *const node = PyTuple_GET_ITEM(structure, 1);
    const Py_ssize_t count = PyTuple_GET_SIZE(structure) - 2;
    PyObject *const children = PyTuple_New(count);
    bool complete = children != NULL;
    for (Py_ssize_t i = 0; complete && i < count; i++) {
        PyObject *const child = assemble(r, PyTuple_GET_ITEM(structure, i + 2));
        complete = child != NULL;
        PyTuple_SET_ITEM(children, i, child);
    }
    PyObject *const made = complete ? PyObject_CallFunctionObjArgs(PyTuple_GET_ITEM(node, NODE_UNFLATTEN),
                                                                   PyTuple_GET_ITEM(node, NODE_AUX), children, NULL)
                                    : NULL;
    Py_XDECREF(children);
    return made;
}

/* Builds a result from its numbers and arrays. */
static PyObject *assemble(results *r, PyObject *structure)
{
    if (PyUnicode_Check(structure))
        return PyFloat_FromDouble(*r->numbers++);
    const Py_ssize_t count = PyTuple_GET_SIZE(structure) - 1;
    const Py_UCS4 kind = kind_of(structure);
    if (kind == KIND_ARRAY)
        return Py_NewRef(*r->arrays++);
    if (kind == KIND_NONE)
        return Py_NewRef(Py_None);
    if (kind == KIND_REGISTERED)
        return assemble_registered(r, structure);
    PyObject *const whole = kind == KIND_DICT ? PyDict_New()
                            : kind == KIND_LIST ? PyList_New(count) : PyTuple_New(count);
    if (kind == KIND_DICT) {
        PyObject *const keys = PyTuple_GET_ITEM(structure, 1);
        for (Py_ssize_t i = 0; whole != NULL && i < PyTuple_GET_SIZE(keys); i++) {
            PyObject *const item = assemble(r, PyTuple_GET_ITEM(structure, i + 2));
            const int status = item == NULL ? -1 : PyDict_SetItem(whole, PyTuple_GET_ITEM(keys, i), item);
            Py_XDECREF(item);
            if (status < 0) {
                Py_DECREF(whole);
                return NULL;
            }
        }
        return whole;
    }
    for (Py_ssize_t i = 0; whole != NULL && i < count; i++) {
        PyObject *const item = assemble(r, PyTuple_GET_ITEM(structure, i + 1));
        if (item == NULL) {
            Py_DECREF(whole);
            return NULL;
        }
        if (kind == KIND_LIST)
            PyList_SET_ITEM(whole, i, item);
        else
            PyTuple_SET_ITEM(whole, i, item);
    }
    return whole;
}

static PyObject *call_with(PyObject *plan, arguments *in, buffers *out, PyObject **arrays, const double *numbers_out)
{
    PyObject *const shapes = PyTuple_GET_ITEM(plan, PLAN_SHAPES);
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(shapes); i++) {
        arrays[i] = PyObject_CallOneArg(PyTuple_GET_ITEM(plan, PLAN_EMPTY), PyTuple_GET_ITEM(shapes, i));
        if (arrays[i] == NULL || PyObject_GetBuffer(arrays[i], &out->views[i], PyBUF_C_CONTIGUOUS | PyBUF_WRITABLE) < 0)
            return NULL;
        out->pointers[++out->count] = out->views[i].buf;
    }
    const pgr_program *const program = PyLong_AsVoidPtr(PyTuple_GET_ITEM(plan, PLAN_PROGRAM));
    if (run_without_gil(program, &in->arrays, out, PyLong_AsSsize_t(PyTuple_GET_ITEM(plan, PLAN_WORKERS))) != PGR_OK)
        return NULL;
    results r = {.numbers = numbers_out, .arrays = arrays};
    return assemble(&r, PyTuple_GET_ITEM(plan, PLAN_OUT));
}

/* _call(plan, args): runs a plan's program and returns its result; NotImplemented if the arguments have another
 * structure or layout. */
static PyObject *call(PyObject *unused, PyObject *const *args, Py_ssize_t nargs)
{
    (void)unused;
    if (nargs != 2 || !PyTuple_Check(args[0]) || PyTuple_GET_SIZE(args[0]) != PLAN_SIZE || !PyTuple_Check(args[1])) {
        PyErr_SetString(PyExc_TypeError, "_call takes (plan, args)");
        return NULL;
    }
    PyObject *const plan = args[0], *const constants = PyTuple_GET_ITEM(plan, PLAN_CONSTANTS);
    if (!pgr__reads_hold(PyTuple_GET_ITEM(plan, PLAN_READS)))
        Py_RETURN_NOTIMPLEMENTED;
    const Py_ssize_t numbers_in = PyLong_AsSsize_t(PyTuple_GET_ITEM(plan, PLAN_NUMBERS_IN));
    const Py_ssize_t arrays_in = PyLong_AsSsize_t(PyTuple_GET_ITEM(plan, PLAN_ARRAYS_IN)) + PyTuple_GET_SIZE(constants);
    const Py_ssize_t numbers_out = PyLong_AsSsize_t(PyTuple_GET_ITEM(plan, PLAN_NUMBERS_OUT));
    const Py_ssize_t arrays_out = PyTuple_GET_SIZE(PyTuple_GET_ITEM(plan, PLAN_SHAPES));
    double few[NUMBERS_ON_STACK], *numbers = few;
    PyObject *few_arrays[BUFFERS_ON_STACK] = {NULL}, **arrays = few_arrays, *result = NULL;
    arguments in = {.array_type = (PyTypeObject *)PyTuple_GET_ITEM(plan, PLAN_ARRAY_TYPE)};
    buffers out;
    if (!make_room(&in.arrays, arrays_in))
        return NULL;
    if (!make_room(&out, arrays_out)) {
        release(&in.arrays);
        return NULL;
    }
    if (numbers_in + numbers_out > NUMBERS_ON_STACK)
        numbers = PyMem_Malloc((size_t)(numbers_in + numbers_out) * sizeof *numbers);
    if (arrays_out > BUFFERS_ON_STACK)
        arrays = PyMem_Calloc((size_t)arrays_out, sizeof *arrays);
    if (numbers == NULL || arrays == NULL) {
        PyErr_NoMemory();
        goto done;
    }
    in.numbers = in.arrays.pointers[0] = numbers;
    out.pointers[0] = numbers + numbers_in;
    bool fits = take(&in, PyTuple_GET_ITEM(plan, PLAN_IN), args[1]);
    if (!fits && PyErr_Occurred())
        goto done;
    for (Py_ssize_t i = 0; fits && i < PyTuple_GET_SIZE(constants); i++) {
        PyObject *const constant = PyTuple_GET_ITEM(constants, i);
        Py_buffer *const view = &in.arrays.views[in.arrays.count];
        if (PyObject_GetBuffer(constant, view, PyBUF_C_CONTIGUOUS) < 0)
            goto done;
        in.arrays.pointers[++in.arrays.count] = view->buf;
    }
    result = fits ? call_with(plan, &in, &out, arrays, numbers + numbers_in) : Py_NewRef(Py_NotImplemented);
done:
    release(&in.arrays);
    release(&out);
    for (Py_ssize_t i = 0; arrays != NULL && i < arrays_out; i++)
        Py_XDECREF(arrays[i]);
    if (arrays != few_arrays)
        PyMem_Free(arrays);
    if (numbers != few)
        PyMem_Free(numbers);
    return result;
}

PyMethodDef pgr__program_methods[] = {
    {"_run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, "Runs a program; see csrc/python/call.c."},
    {"_call", (PyCFunction)(void (*)(void))call, METH_FASTCALL, "Runs a program as planned; see csrc/python/call.c."},
    {"_on_progress", on_progress, METH_O, "Whom to tell of the progress of programs; see csrc/python/call.c."},
    {"_plan_items", plan_items, METH_NOARGS, "The names of a plan's items, in order."},
    {"_structure_kinds", structure_kinds, METH_NOARGS, "The kinds of structures that plans may have, but scalars."},
    {NULL, NULL, 0, NULL},
};
