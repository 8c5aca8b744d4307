/* method.c: bound methods of Value.
 *
 * Value has its own attribute lookup, for a fast `v.data`, so Python makes a bound method for every call `v.tanh()`.
 * Python's own have a cyclic-GC header, and making one takes as long as recording a node; these are recycled from a
 * free list. For all but a plain call they make one of Python's own and let it answer. */
#include "python/method.h"

#include <structmember.h>

typedef struct {
    PyObject_HEAD
    vectorcallfunc call;
    PyObject *self; /* in the free list: the next */
    PyMethodDef *method;
} bound;

static PyTypeObject *bound_type;
static bound *free_list;
static int free_count;

enum { FREE_AT_MOST = 16 };

/* Python's own bound method. */
static PyObject *plain(PyObject *f)
{
    if (((bound *)f)->self != NULL)
        return PyCFunction_New(((bound *)f)->method, ((bound *)f)->self);
    PyErr_SetString(PyExc_TypeError, "a method without its Value"); /* made by object.__new__ */
    return NULL;
}

static PyObject *bound_call(PyObject *f, PyObject *const *args, size_t flags, PyObject *names)
{
    const bound *const b = (const bound *)f;
    const Py_ssize_t n = PyVectorcall_NARGS(flags);
    if (b->self != NULL && names == NULL && n == 0 && b->method->ml_flags == METH_NOARGS)
        return b->method->ml_meth(b->self, NULL);
    if (b->self != NULL && names == NULL && n == 1 && b->method->ml_flags == METH_O)
        return b->method->ml_meth(b->self, args[0]);
    PyObject *const method = plain(f);
    PyObject *const result = method == NULL ? NULL : PyObject_Vectorcall(method, args, flags, names);
    Py_XDECREF(method);
    return result;
}

static void bound_dealloc(PyObject *f)
{
    bound *const b = (bound *)f;
    PyObject *const self = b->self;
    if (self == NULL) {
        Py_TYPE(f)->tp_free(f);
        return;
    }
    if (free_count < FREE_AT_MOST) {
        b->self = (PyObject *)free_list;
        free_list = b;
        free_count++;
    } else {
        PyTypeObject *const type = Py_TYPE(f);
        PyObject_Free(b);
        Py_DECREF(type);
    }
    Py_DECREF(self);
}

static PyObject *bound_getattr(PyObject *f, PyObject *name)
{
    PyObject *const method = plain(f);
    PyObject *const result = method == NULL ? NULL : PyObject_GetAttr(method, name);
    Py_XDECREF(method);
    return result;
}

static PyObject *bound_repr(PyObject *f)
{
    PyObject *const method = plain(f);
    PyObject *const result = method == NULL ? NULL : PyObject_Repr(method);
    Py_XDECREF(method);
    return result;
}

static PyObject *bound_compare(PyObject *f, PyObject *g, int how)
{
    if (!Py_IS_TYPE(g, bound_type) || (how != Py_EQ && how != Py_NE))
        Py_RETURN_NOTIMPLEMENTED;
    const bool same = ((bound *)f)->self == ((bound *)g)->self && ((bound *)f)->method == ((bound *)g)->method;
    return PyBool_FromLong(same == (how == Py_EQ));
}

static Py_hash_t bound_hash(PyObject *f)
{
    PyObject *const method = plain(f);
    const Py_hash_t hash = method == NULL ? -1 : PyObject_Hash(method);
    Py_XDECREF(method);
    return hash;
}

PyObject *pgr__bind(PyObject *self, PyMethodDef *method)
{
    bound *b = free_list;
    if (b != NULL) {
        free_list = (bound *)b->self;
        free_count--;
#if defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS)
        _Py_NewReference((PyObject *)b);
#else
        Py_SET_REFCNT((PyObject *)b, 1);
#endif
    } else {
        b = PyObject_New(bound, bound_type);
        if (b == NULL)
            return NULL;
        b->call = bound_call;
    }
    b->self = Py_NewRef(self);
    b->method = method;
    return (PyObject *)b;
}

static PyMemberDef members[] = {
    {"__vectorcalloffset__", T_PYSSIZET, offsetof(bound, call), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_dealloc, bound_dealloc},  {Py_tp_members, members}, {Py_tp_call, PyVectorcall_Call},
    {Py_tp_getattro, bound_getattr}, {Py_tp_repr, bound_repr}, {Py_tp_richcompare, bound_compare},
    {Py_tp_hash, bound_hash},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygrad._pgr.method",
    .basicsize = sizeof(bound),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .slots = slots,
};

bool pgr__make_method_type(void)
{
    bound_type = (PyTypeObject *)PyType_FromSpec(&spec);
    if (bound_type != NULL)
        bound_type->tp_new = NULL;
    return bound_type != NULL;
}
