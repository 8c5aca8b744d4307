/* layer.h: shared by all files that know CPython: an object's fields, what Python code hands to C, errors, numbers. */
#ifndef PGR_INTERNAL_LAYER_H
#define PGR_INTERNAL_LAYER_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "tape/slots.h"
#include "tape/tags.h"

#ifdef __GNUC__ /* read without the GOT */
#define PGR_HIDDEN __attribute__((visibility("hidden")))
#else
#define PGR_HIDDEN
#endif

#if PY_VERSION_HEX < 0x030a0000
static inline PyObject *Py_NewRef(PyObject *o) { Py_INCREF(o); return o; }
static inline PyObject *Py_XNewRef(PyObject *o) { Py_XINCREF(o); return o; }
#endif

/* A Value: one hold on one node. */
typedef struct {
    PyObject_HEAD
    uint32_t slot;   /* 0 only during construction */
    uint32_t walked; /* its index among objects that have a prev */
    PyObject *weakrefs;
    PyObject *dict;  /* the user's attributes */
    PyObject *prev;  /* `_prev`; NULL until it is first read */
} object;

/* What Python code has handed over by _adopt, and state. */
typedef struct {
    pgr_tape *tape;
    PyTypeObject *operand_type;
    PyTypeObject *value_type; /* Value, Operand's subclass in engine.py: the type of results */
    PyObject *notes;          /* {handle: __dict__} of nodes whose objects are gone */
    PyObject *fail;           /* fail(status, op, a, b) raises the status's exception */
    PyObject *reject;         /* reject(where, value) raises TypeError */
    PyObject *unknown;        /* unknown(where) raises RecordingError */
    PyObject *leave;          /* leave(how, value, is_unknown) raises TypeError */
    PyObject *refuse_operand; /* refuse_operand(symbol, o) returns NotImplemented or raises TypeError */
    PyObject *as_number;      /* as_number(o) returns a float or None */
    PyObject *plain_numbers;  /* NumPy's types that PyFloat_AsDouble converts; as_number fills it */
    PyTypeObject *set_type;   /* the type of `_prev`: sets count their changes in .. */
    uint64_t changes;
    object *free_objects;    /* a list, linked through dict */
    int free_count;
} pgr__operand_layer;

extern PGR_HIDDEN pgr__operand_layer pgr__layer;

/* Names, interned as those in code are. */
#define PGR_NAMES(X) \
    X(data) X(grad) X(label) X(push) \
    X(_backward) X(_custom) X(_op) X(_prev) X(_local_grads) X(_pygrad_step) X(__class__)
typedef struct {
#define X(name) PyObject *name;
    PGR_NAMES(X)
#undef X
} pgr__interned;

extern PGR_HIDDEN pgr__interned pgr__names;

static inline bool pgr__is_operand(PyObject *o)
{
    return Py_TYPE(o) == pgr__layer.value_type || PyObject_TypeCheck(o, pgr__layer.operand_type);
}

/* The same where most objects are numbers. */
#define IS_OPERAND(o) \
    (Py_TYPE(o) == pgr__layer.value_type || \
     (!PyFloat_CheckExact(o) && !PyLong_CheckExact(o) && PyObject_TypeCheck((o), pgr__layer.operand_type)))

bool pgr__make_names(void); /* once */

/* An array of `*capacity` elements with room for twice as many. NULL when out of memory, with nothing changed. */
static inline void *pgr__double(void *array, size_t *capacity, size_t size)
{
    const size_t wanted = *capacity == 0 ? 64 : 2 * *capacity;
    void *const grown = PyMem_Realloc(array, wanted * size);
    if (grown != NULL)
        *capacity = wanted;
    return grown;
}

/* ---- Nodes of objects */

static inline pgr_id id_of(PyObject *o) { return pgr__layer.tape->slots[((object *)o)->slot].id; }
static inline pgr_node *node_of(PyObject *o) { return &pgr__layer.tape->nodes[id_of(o)]; }
static inline pgr_handle handle_of(PyObject *o) { return tape_handle(pgr__layer.tape, ((object *)o)->slot); }
static inline bool is_unknown(PyObject *o) { return (node_of(o)->flags & TAPE_UNKNOWN) != 0; }

/* The object's dict, made if it has none. Borrowed; NULL when out of memory. */
static inline PyObject *own_dict(PyObject *o)
{
    PyObject **const dict = &((object *)o)->dict;
    return *dict != NULL ? *dict : (*dict = PyDict_New());
}

/* ---- Errors: each returns NULL, with an exception */

PyObject *pgr__fail(pgr_status status, int op, double a, double b);

/* The status of failed Python code, whose exception is set. */
#define RAISED PGR_ERR_CUSTOM

/* Raises the exception of a status that no operation's numbers belong to; RAISED stays as it is. */
PyObject *pgr__raise(pgr_status status);

PyObject *pgr__reject(const char *where, PyObject *value);

/* `where` needs the number of a node that has none, since a function is being recorded. */
PyObject *pgr__unknown(const char *where);

/* An object may outlive its node: attributes keep it, all of them die, and a finaliser resurrects the object. Its slot
 * then names no node, and every use raises ReferenceError. */
PyObject *pgr__gone(void);

/* float() or int() of a Value, whose number would silently leave the graph. */
PyObject *pgr__leave_graph(const char *how, PyObject *value);

static inline pgr_node *live_node(PyObject *o)
{
    const pgr_id id = id_of(o);
    if (PGR_UNLIKELY(id == 0)) {
        pgr__gone();
        return NULL;
    }
    return &pgr__layer.tape->nodes[id];
}

/* ---- Numbers */

/* 1: `*out` is o's number; 0: o is not a number known here, but its own type may know Values; -1: an exception is set.
 * May run any code, so the caller holds `o` if a container that may change lends it. */
int pgr__as_number(PyObject *o, double *out);

/* False, with an exception, if `value` is not a number; `where` names its use. */
bool pgr__to_number(const char *where, PyObject *value, double *out);

#endif
