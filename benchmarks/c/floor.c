/* floor.c: the least that an eager operation of an extension type can cost: an object from a free list, a record of 32
 * bytes, and libm's function. It checks types and adds numbers, but holds nothing, collects nothing, and forgets its
 * records when the array is full. Compiled and timed by ../floor.py.
 *
 * Four types differ in what they do besides: Bare makes only objects; Floor records, and its methods are found as
 * CPython specialises them; Rich lets users set attributes, as Value does, which rules that out in Python 3.11; Direct
 * has an attribute lookup of its own, too, which is quicker for `data` and slower for methods. */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <math.h>
#include <stddef.h>

typedef struct {
    double data, grad;
    uint32_t lhs, rhs;
    uint32_t op, rest;
} record;

typedef struct number {
    PyObject_HEAD
    union {
        double data; /* of a Bare */
        struct number *next; /* in the free list */
    };
    uint32_t id;
    PyObject *dict; /* of a Rich or a Direct; never set here */
} number;

enum { CAPACITY = 1 << 14, LEAVES = 64 }; /* 512 kB: the second-level cache */

static record records[CAPACITY];
static uint32_t leaves, size = LEAVES;
static number *free_bare, *free_floor, *free_rich, *free_direct;
static PyTypeObject bare_type, floor_type, rich_type, direct_type;

#define INLINE static inline __attribute__((always_inline))

INLINE number *make(PyTypeObject *type, number **list)
{
    number *o = *list;
    if (o == NULL) {
        number *const first = PyObject_New(number, type);
        if (first != NULL)
            first->dict = NULL;
        return first;
    }
    *list = o->next;
    Py_SET_REFCNT((PyObject *)o, 1);
    return o;
}

INLINE void drop(PyObject *self, number **list)
{
    number *const o = (number *)self;
    o->next = *list;
    *list = o;
}

INLINE PyObject *append(PyTypeObject *type, number **list, uint32_t op, double data, uint32_t lhs, uint32_t rhs)
{
    number *const o = make(type, list);
    if (o == NULL)
        return NULL;
    if (__builtin_expect(size == CAPACITY, 0))
        size = LEAVES;
    o->id = size++;
    records[o->id] = (record){.data = data, .lhs = lhs, .rhs = rhs, .op = op};
    return (PyObject *)o;
}

INLINE PyObject *binary(PyTypeObject *type, number **list, uint32_t op, PyObject *l, PyObject *r)
{
    if (Py_TYPE(l) != type || Py_TYPE(r) != type)
        Py_RETURN_NOTIMPLEMENTED;
    const uint32_t lhs = ((number *)l)->id, rhs = ((number *)r)->id;
    const double a = records[lhs].data, b = records[rhs].data;
    return append(type, list, op, op == 0 ? a + b : a * b, lhs, rhs);
}

INLINE PyObject *bare(double data)
{
    number *const o = make(&bare_type, &free_bare);
    if (o != NULL)
        o->data = data;
    return (PyObject *)o;
}

INLINE PyObject *bare_binary(uint32_t op, PyObject *l, PyObject *r)
{
    if (Py_TYPE(l) != &bare_type || Py_TYPE(r) != &bare_type)
        Py_RETURN_NOTIMPLEMENTED;
    const double a = ((number *)l)->data, b = ((number *)r)->data;
    return bare(op == 0 ? a + b : a * b);
}

static PyObject *bare_add(PyObject *l, PyObject *r) { return bare_binary(0, l, r); }
static PyObject *bare_multiply(PyObject *l, PyObject *r) { return bare_binary(1, l, r); }
static PyObject *bare_tanh(PyObject *self, PyObject *unused)
{
    (void)unused;
    return bare(((number *)self)->data * 0.5); /* not the function: only the call and the object */
}
static PyObject *bare_get(PyObject *self, void *unused)
{
    (void)unused;
    return PyFloat_FromDouble(((number *)self)->data);
}
static void bare_drop(PyObject *self) { drop(self, &free_bare); }

#define RECORDING(name) \
    static PyObject *name##_add(PyObject *l, PyObject *r) { return binary(&name##_type, &free_##name, 0, l, r); } \
    static PyObject *name##_multiply(PyObject *l, PyObject *r) { return binary(&name##_type, &free_##name, 1, l, r); } \
    static PyObject *name##_tanh(PyObject *self, PyObject *unused) \
    { \
        (void)unused; \
        const uint32_t lhs = ((number *)self)->id; \
        return append(&name##_type, &free_##name, 2, tanh(records[lhs].data), lhs, 0); \
    } \
    static PyObject *name##_get(PyObject *self, void *unused) \
    { \
        (void)unused; \
        return PyFloat_FromDouble(records[((number *)self)->id].data); \
    } \
    static void name##_drop(PyObject *self) { drop(self, &free_##name); }
RECORDING(floor)
RECORDING(rich)
RECORDING(direct)

static PyObject *data_name;

static PyObject *direct_getattro(PyObject *self, PyObject *name)
{
    return name == data_name ? direct_get(self, NULL) : PyObject_GenericGetAttr(self, name);
}

static PyObject *new_number(PyTypeObject *type, PyObject *args, PyObject *names)
{
    (void)names;
    double data;
    if (!PyArg_ParseTuple(args, "d", &data))
        return NULL;
    number *const o = PyObject_New(number, type);
    if (o == NULL)
        return NULL;
    o->dict = NULL;
    if (type == &bare_type) {
        o->data = data;
        return (PyObject *)o;
    }
    o->id = leaves++ % LEAVES;
    records[o->id] = (record){.data = data};
    return (PyObject *)o;
}

#define TYPE(name, title, lookup, offset) \
    static PyNumberMethods name##_numbers = {.nb_add = name##_add, .nb_multiply = name##_multiply}; \
    static PyMethodDef name##_methods[] = {{"tanh", name##_tanh, METH_NOARGS, NULL}, {NULL, NULL, 0, NULL}}; \
    static PyGetSetDef name##_attributes[] = {{"data", name##_get, NULL, NULL, NULL}, {NULL, NULL, NULL, NULL, NULL}}; \
    static PyTypeObject name##_type = { \
        PyVarObject_HEAD_INIT(NULL, 0).tp_name = "floor." title, \
        .tp_basicsize = sizeof(number), \
        .tp_flags = Py_TPFLAGS_DEFAULT, \
        .tp_new = new_number, \
        .tp_dealloc = name##_drop, \
        .tp_getattro = lookup, \
        .tp_dictoffset = offset, \
        .tp_as_number = &name##_numbers, \
        .tp_methods = name##_methods, \
        .tp_getset = name##_attributes, \
    };
TYPE(bare, "Bare", NULL, 0)
TYPE(floor, "Floor", NULL, 0)
TYPE(rich, "Rich", NULL, offsetof(number, dict))
TYPE(direct, "Direct", direct_getattro, offsetof(number, dict))

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "floor", .m_size = -1};

PyMODINIT_FUNC PyInit_floor(void)
{
    PyObject *const m = PyModule_Create(&module);
    data_name = PyUnicode_InternFromString("data");
    if (m == NULL || data_name == NULL || PyModule_AddType(m, &bare_type) < 0 || PyModule_AddType(m, &floor_type) < 0 ||
        PyModule_AddType(m, &rich_type) < 0 || PyModule_AddType(m, &direct_type) < 0)
        return NULL;
    return m;
}
