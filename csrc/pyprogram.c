/* pyprogram.c: CPython's short way to a program: one call that takes numbers and buffers, without cffi's objects. */
#include "pyoperand.h"

enum { BUFFERS_ON_STACK = 16, NUMBERS_ON_STACK = 64 };

typedef struct {
    Py_buffer *views, few_views[BUFFERS_ON_STACK];
    double **pointers, *few_pointers[BUFFERS_ON_STACK + 1];
    Py_ssize_t count; /* of views that are held */
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

/* Pointers to `first` and to the arrays' float64; false with an exception set, and nothing held. */
static bool hold(buffers *b, double *first, PyObject *arrays, int flags)
{
    const Py_ssize_t n = PyTuple_GET_SIZE(arrays);
    b->count = 0;
    b->views = n <= BUFFERS_ON_STACK ? b->few_views : PyMem_Malloc((size_t)n * sizeof *b->views);
    b->pointers = n <= BUFFERS_ON_STACK ? b->few_pointers : PyMem_Malloc((size_t)(n + 1) * sizeof *b->pointers);
    if (b->views == NULL || b->pointers == NULL) {
        release(b);
        PyErr_NoMemory();
        return false;
    }
    b->pointers[0] = first;
    for (Py_ssize_t i = 0; i < n; i++) {
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(arrays, i), &b->views[i], PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | flags) < 0) {
            release(b);
            return false;
        }
        b->count++;
        const Py_buffer *const view = &b->views[i];
        if (view->itemsize != sizeof(double) || view->format == NULL || view->format[0] != 'd') {
            PyErr_SetString(PyExc_TypeError, "a program's arrays are C-contiguous float64");
            release(b);
            return false;
        }
        b->pointers[i + 1] = view->buf;
    }
    return true;
}

/* _run(program, numbers, arrays, results, count): the program at that address, on array 0, which holds the numbers, and
 * the arrays; writes to the result arrays and returns the `count` numbers of result array 0. Without the GIL. */
static PyObject *run(PyObject *unused, PyObject *const *args, Py_ssize_t nargs)
{
    (void)unused;
    if (nargs != 5 || !PyTuple_Check(args[1]) || !PyTuple_Check(args[2]) || !PyTuple_Check(args[3])) {
        PyErr_SetString(PyExc_TypeError, "_run takes (program, numbers, arrays, results, count)");
        return NULL;
    }
    const pgr_program *const program = PyLong_AsVoidPtr(args[0]);
    const Py_ssize_t n = PyTuple_GET_SIZE(args[1]), out_count = PyLong_AsSsize_t(args[4]);
    if (PyErr_Occurred())
        return NULL;
    double few[NUMBERS_ON_STACK], *numbers = few;
    if (n + out_count > NUMBERS_ON_STACK && (numbers = PyMem_Malloc((size_t)(n + out_count) * sizeof *numbers)) == NULL)
        return PyErr_NoMemory();
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
    pgr_status status;
    Py_BEGIN_ALLOW_THREADS
    status = pgr_program_run(program, (const double *const *)in.pointers, out.pointers);
    Py_END_ALLOW_THREADS
    release(&in);
    release(&out);
    if (status != PGR_OK) {
        PyErr_NoMemory();
        goto done;
    }
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

PyMethodDef pgr__run_method = {"_run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, "Runs a program; see csrc/pyprogram.c."};
