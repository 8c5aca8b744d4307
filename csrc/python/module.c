/* module.c: puts the type Operand and the layer's functions into the module pygrad._pgr, and makes the GIL the tape's
 * lock. */
#include "python/module.h"

#include "python/call.h"
#include "python/construct.h"
#include "python/dot.h"
#include "python/object.h"
#include "python/operand.h"
#include "python/scope.h"
#include "python/sweep.h"
#include "python/symbol.h"

/* _adopt(value_type=, notes=, ...): from now on results are of type `value_type`. For the others, see layer.h. */
static PyObject *adopt(PyObject *unused, PyObject *args, PyObject *keywords)
{
    (void)unused;
    static char *names[] = {"value_type", "notes", "fail", "reject", "unknown", "leave", "refuse_operand", "as_number",
                            "plain_numbers", "set_type", NULL};
    PyTypeObject *type, *set_type;
    PyObject *notes, *plain, *fail, *reject, *unknown, *leave, *refuse_operand, *as_number;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O!O!OOOOOOO!O!:_adopt", names, &PyType_Type, &type, &PyDict_Type,
                                     &notes, &fail, &reject, &unknown, &leave, &refuse_operand, &as_number,
                                     &PySet_Type, &plain, &PyType_Type, &set_type))
        return NULL;
    if (!PyType_IsSubtype(type, pgr__layer.operand_type) ||
        type->tp_basicsize != pgr__layer.operand_type->tp_basicsize) {
        PyErr_SetString(PyExc_TypeError, "Value must be a subclass of Operand with empty __slots__");
        return NULL;
    }
    if (!pgr__inherit(type))
        return NULL;
    /* A class statement gives its type a cyclic-GC header and the functions for it, even if it adds no fields. This
     * type adds none and has no instances yet, so it can be what Operand is. */
    type->tp_flags &= ~Py_TPFLAGS_HAVE_GC;
    type->tp_traverse = NULL;
    type->tp_clear = NULL;
    type->tp_free = PyObject_Free;
    type->tp_dealloc = pgr__operand_dealloc;
    type->tp_vectorcall = pgr__value_vectorcall;
    PyType_Modified(type);
    while (pgr__layer.free_objects != NULL) { /* of the previous type, if engine.py is loaded again */
        object *const o = pgr__layer.free_objects;
        pgr__layer.free_objects = (object *)o->dict;
        tape_free_slot(pgr__layer.tape, o->slot);
        Py_TYPE(o)->tp_free((PyObject *)o);
        Py_DECREF(pgr__layer.value_type);
    }
    pgr__layer.free_count = 0;
    pgr__layer.value_type = (PyTypeObject *)Py_NewRef(type); /* the previous one may have instances: it stays */
    pgr__layer.notes = Py_NewRef(notes);
    pgr__layer.fail = Py_NewRef(fail);
    pgr__layer.reject = Py_NewRef(reject);
    pgr__layer.unknown = Py_NewRef(unknown);
    pgr__layer.leave = Py_NewRef(leave);
    pgr__layer.refuse_operand = Py_NewRef(refuse_operand);
    pgr__layer.as_number = Py_NewRef(as_number);
    pgr__layer.plain_numbers = Py_NewRef(plain);
    pgr__layer.set_type = (PyTypeObject *)Py_NewRef(set_type);
    Py_RETURN_NONE;
}

static PyObject *note_change(PyObject *unused, PyObject *no_arguments)
{
    (void)unused, (void)no_arguments;
    pgr__layer.changes++;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"_note_change", note_change, METH_NOARGS, "Reports a change of a set that `_prev` returned."},
    {"_adopt", (PyCFunction)(void (*)(void))adopt, METH_VARARGS | METH_KEYWORDS,
     "Makes results of this subclass of Operand."},
    {"_present_scope", pgr__present_scope, METH_NOARGS, "The number of the thread's scope."},
    {"_enter_scope", pgr__enter_scope, METH_O, "From now on, what the thread records is in the scope of this number."},
    {"_active_scopes", pgr__active_scopes, METH_NOARGS, "The scopes of calls of _call_in_scopes under way."},
    {"_call_in_scopes", (PyCFunction)(void (*)(void))pgr__call_in_scopes, METH_FASTCALL, "See csrc/python/scope.c."},
    {"dot", (PyCFunction)(void (*)(void))pgr__dot_product, METH_FASTCALL,
     "dot(ws, xs, b=0.0, /)\n--\n\n"
     "b + ws[0]*xs[0] + ws[1]*xs[1] + ..., from left to right, recorded by one call.\n\n"
     "ws and xs are sequences of one length, of Values and numbers. Every product and sum is a node.\n"
     "Raises ValueError if the lengths differ, TypeError for other elements; then nothing is recorded.\n\n"
     ">>> from pygrad import Value, dot\n"
     ">>> w = Value(2.0)\n"
     ">>> y = dot([w, 1.0], [3.0, 4.0], 0.5)\n"
     ">>> y.backward()\n"
     ">>> y.data, w.grad\n"
     "(10.5, 3.0)"},
    {NULL, NULL, 0, NULL},
};

static int add_functions(PyObject *module, PyMethodDef *method)
{
    for (; method->ml_name != NULL; method++) {
        PyObject *const fn = PyCFunction_New(method, NULL);
        const int status = fn == NULL ? -1 : PyObject_SetAttrString(module, method->ml_name, fn);
        Py_XDECREF(fn);
        if (status < 0)
            return -1;
    }
    return 0;
}

static int gil_enter(void *ctx)
{
    (void)ctx;
    return (int)PyGILState_Ensure();
}

static void gil_leave(void *ctx, int token)
{
    (void)ctx;
    if (token >= 0)
        PyGILState_Release((PyGILState_STATE)token);
}

/* Exceptions can't pass through cffi's calls, so this one waits in the module. */
static void keep_raised(void)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    if (traceback != NULL)
        PyException_SetTraceback(value, traceback);
    PyObject *const module = PyImport_ImportModule("pygrad._pgr");
    if (module == NULL || PyObject_SetAttrString(module, "_stopped_by", value) < 0)
        PyErr_WriteUnraisable(NULL);
    Py_XDECREF(module);
    Py_XDECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
}

int pgr_stop_for_signal(void *unused)
{
    (void)unused;
    const PyGILState_STATE state = PyGILState_Ensure();
    const int stop = PyErr_CheckSignals() < 0;
    if (stop)
        keep_raised();
    PyGILState_Release(state);
    return stop;
}

/* Whether Ctrl-C was pressed. Its handler runs later, so the signal is put back. */
static bool is_interrupted(void)
{
    const bool interrupted = PyOS_InterruptOccurred() != 0;
    if (interrupted)
        PyErr_SetInterrupt();
    return interrupted;
}

pgr_status pgr_tape_use_gil(pgr_tape *tape)
{
    pgr_tape_on_lock(tape, gil_enter, gil_leave, NULL);
    tape->is_interrupted = is_interrupted;
    pgr_tape_on_stop(tape, pgr_stop_for_signal, NULL);
    return PGR_OK;
}

static int install(void)
{
    pgr__layer.tape = pgr_default_tape();
    if (pgr__layer.tape == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    pgr_tape_use_gil(pgr__layer.tape);
    pgr__layer.tape->collector = pgr__collect_ties;
    pgr_tape_on_custom(pgr__layer.tape, pgr__run_custom, NULL);
    PyObject *const module = PyImport_ImportModule("pygrad._pgr");
    if (module == NULL)
        return -1;
    int result = -1;
    pgr__layer.operand_type = (PyTypeObject *)PyType_FromSpec(&pgr__operand_spec);
    pgr__layer.value_type = pgr__layer.operand_type;
    if (pgr__make_names() && pgr__make_symbols() && pgr__layer.operand_type != NULL &&
        PyObject_SetAttrString(module, "Operand", (PyObject *)pgr__layer.operand_type) == 0 &&
        add_functions(module, functions) == 0 && add_functions(module, pgr__program_methods) == 0)
        result = 0;
    Py_DECREF(module);
    return result;
}

int pgr_install_operand_type(void)
{
    const PyGILState_STATE state = PyGILState_Ensure();
    const int result = pgr__layer.operand_type != NULL ? 0 : install();
    if (result < 0)
        PyErr_WriteUnraisable(NULL);
    PyGILState_Release(state);
    return result;
}
