/* operand.h: what the files that know CPython share; and, between the markers, what they add to the
 * interface that cffi reads. */
#ifndef PGR_PYOPERAND_H
#define PGR_PYOPERAND_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "tape/slots.h"
#include "tape/tags.h"

/* cdef: begin */

/* Puts the type Operand and the functions that go with it into the module pygrad._pgr. Takes the GIL. Once done,
 * does nothing. -1 on failure, which is reported through sys.unraisablehook. */
int pgr_install_operand_type(void);

/* Makes the GIL the tape's lock, and pgr_stop_for_signal what its sweeps ask. */
pgr_status pgr_tape_use_gil(pgr_tape *tape);

/* For pgr_tape_on_stop and pgr_run_options: lets Python handle signals that have come. 1 if that has raised an exception,
 * which then is the module's `_stopped_by`. Takes the GIL. */
int pgr_stop_for_signal(void *unused);

/* cdef: end */

#if PY_VERSION_HEX < 0x030a0000
static inline PyObject *Py_NewRef(PyObject *o) { Py_INCREF(o); return o; }
static inline PyObject *Py_XNewRef(PyObject *o) { Py_XINCREF(o); return o; }
#endif

/* A Value: one hold on one node. */
typedef struct {
    PyObject_HEAD
    uint32_t slot;   /* 0 only while being made */
    uint32_t walked; /* its place among those that have a prev */
    PyObject *weakrefs;
    PyObject *dict;  /* what the user hangs on it */
    PyObject *prev;  /* what `_prev` gives; NULL until it is asked for */
} operand;

/* What Python code has told this layer, and what is kept between calls. */
typedef struct {
    pgr_tape *tape;
    PyTypeObject *operand_type;
    PyTypeObject *value_type; /* Operand's subclass in engine.py, which results are made of */
    PyObject *notes;          /* {handle: __dict__} of nodes whose objects are gone */
    PyObject *fail;           /* fail(status, op, a, b) raises what the status stands for */
    PyObject *reject;         /* reject(where, value) raises TypeError */
    PyObject *unknown;        /* unknown(where) raises RecordingError */
    PyObject *leave;          /* leave(how, value, is_unknown) raises TypeError */
    PyObject *refuse_operand; /* refuse_operand(symbol, o) is NotImplemented, or raises TypeError */
    PyObject *as_number;      /* as_number(o) is a float, or None */
    PyObject *plain_numbers;  /* NumPy's types that PyFloat_AsDouble converts; as_number fills it */
    operand *free_objects;    /* chained through dict */
    int free_count;
} pgr__operand_layer;

extern pgr__operand_layer pgr__layer;

/* Names, interned as those in code are. */
#define PGR_NAMES(X) \
    X(data) X(grad) X(label) X(push) X(_backward) X(_custom) X(_op) X(_prev) X(_local_grads) X(_pygrad_step) X(__class__)
typedef struct {
#define X(name) PyObject *name;
    PGR_NAMES(X)
#undef X
} pgr__interned;

extern pgr__interned pgr__names;

static inline bool pgr__is_operand(PyObject *o)
{
    return Py_TYPE(o) == pgr__layer.value_type || PyObject_TypeCheck(o, pgr__layer.operand_type);
}

/* ---- operand.c */

PyObject *pgr__fail(pgr_status status, int op, double a, double b);
PyObject *pgr__reject(const char *where, PyObject *value);
PyObject *pgr__unknown(const char *where);

/* The object of a slot on which the caller has one hold, which it takes over. */
PyObject *pgr__object_of(uint32_t slot);

/* The object of a node. Runs no code: NULL, without an exception, where that takes some, or memory is out. */
PyObject *pgr__object_at(pgr_id id);

/* ---- place.c: a Value's place in the graph. Getters and setters, as PyGetSetDef has them. */

PyObject *pgr__get_prev(PyObject *self, void *unused);
int pgr__set_prev(PyObject *self, PyObject *value, void *unused);
PyObject *pgr__get_op(PyObject *self, void *unused);
int pgr__set_op(PyObject *self, PyObject *value, void *unused);
PyObject *pgr__get_backward(PyObject *self, void *unused);
int pgr__set_backward(PyObject *self, PyObject *value, void *unused);
bool pgr__make_graph_names(void); /* once */

/* The object's own dict, made if it has none. Borrowed; NULL when out of memory. */
PyObject *pgr__own_dict(PyObject *self);

/* What the program has done to a set that `_prev` gave shows on the tape from here on: before anything reads operands.
 * Runs no code of the user's. -1 with an exception. */
PyObject *pgr__operands(PyObject *self, PyObject *unused); /* a list of them, in order, with repeats */
int pgr__settle(operand *o);
int pgr__settle_below(PyObject *root); /* all that `root` may be made from */

/* Takes an object that dies off the list of those with a prev, and returns that, to be dropped by pgr__drop_prev when all else
 * is done. */
PyObject *pgr__take_prev(operand *o);
void pgr__drop_prev(PyObject *prev);

/* A custom node's step, but for a function of the user's own. -1 with an exception. */
int pgr__custom_step(PyObject *value);

/* ---- method.c */

/* v.tanh, to be called at once. `method` is one of the type's own. */
PyObject *pgr__bind(PyObject *self, PyMethodDef *method);
bool pgr__make_method_type(void); /* once */

/* ---- call.c */

extern PyMethodDef pgr__program_methods[];

/* ---- ties.c */

/* The ties of a tape whose owners are operands (see ties.c), in memory that the caller frees with
 * PyMem_Free; NULL and a count of 0 if there are none. Runs no Python code. */
pgr_tie *pgr__find_ties(pgr_tape *tape, size_t *count);

#endif
