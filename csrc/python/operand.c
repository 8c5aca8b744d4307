/* operand.c: Operand, the base of Value on CPython: a type whose number slots record straight onto the tape.
 *
 * A call through cffi costs about 100 ns, and a Python-level __add__ on top of it about as much again; a number slot
 * costs about 15. So the hot part of `Value` is this type, and the rest is Python (pygrad/engine.py), over the same
 * tape through cffi. The type has no cyclic-GC header, which is most of the cost of many small objects; ties.c finds
 * the cycles instead.
 *
 * An object is one hold on one node. Attributes that the user sets are in its __dict__, which is kept under the node's
 * handle (`notes`) when the object dies, and goes to the next object made for that node.
 *
 * The GIL is the tape's lock. Steps that may run Python code (making room, converting a number) come before ids are
 * read. */
#include "python/operand.h"

#include "python/construct.h"
#include "python/object.h"
#include "python/prev.h"
#include "python/sets.h"
#include "python/step.h"
#include "python/sweep.h"
#include "python/symbol.h"

#include <structmember.h>

/* ---- Recording ----------------------------------------------------------------------------- */

/* Callers pass a constant `op`, so that a switch becomes one case. */
PGR_INLINE PyObject *record_unary(int op, PyObject *self)
{
    pgr_status status = ready(1);
    if (status != PGR_OK)
        return pgr__fail(status, op, 0.0, 0.0);
    const pgr_id lhs = id_of(self);
    if (PGR_UNLIKELY(lhs == 0))
        return pgr__gone();
    const double a = pgr__layer.tape->nodes[lhs].data;
    double v = NAN;
    if (tape_is_known(pgr__layer.tape, op, lhs, 0))
        status = ops_eval(op, a, 0.0, &v);
    if (status != PGR_OK)
        return pgr__fail(status, op, a, 0.0);
    return append(op, v, tape_is_cut(op) ? 0 : lhs, 0);
}

PGR_INLINE PyObject *record_binary(int op, PyObject *left, PyObject *right)
{
    pgr_status status = ready(1);
    if (status != PGR_OK)
        return pgr__fail(status, op, 0.0, 0.0);
    const pgr_id lhs = id_of(left), rhs = id_of(right);
    if (PGR_UNLIKELY((lhs == 0) | (rhs == 0)))
        return pgr__gone();
    const double a = pgr__layer.tape->nodes[lhs].data, b = pgr__layer.tape->nodes[rhs].data;
    double v = NAN;
    if (tape_is_known(pgr__layer.tape, op, lhs, rhs))
        status = ops_eval(op, a, b, &v);
    if (status != PGR_OK)
        return pgr__fail(status, op, a, b);
    return append(op, v, lhs, rhs);
}

/* self op number, or number op self. */
PGR_INLINE PyObject *record_number(int op, PyObject *self, double number, bool reflected)
{
    pgr_status status = ready(2);
    if (status != PGR_OK)
        return pgr__fail(status, op, 0.0, 0.0);
    const pgr_id operand = id_of(self);
    if (PGR_UNLIKELY(operand == 0))
        return pgr__gone();
    const double data = pgr__layer.tape->nodes[operand].data;
    const double a = reflected ? number : data, b = reflected ? data : number;
    double v = NAN;
    if (tape_is_known(pgr__layer.tape, op, operand, 0))
        status = ops_eval(op, a, b, &v);
    if (status != PGR_OK)
        return pgr__fail(status, op, a, b);
    const pgr_id constant = tape_append(pgr__layer.tape, PGR_OP_CONST, number, 0, 0);
    PyObject *const o = append(op, v, reflected ? constant : operand, reflected ? operand : constant);
    if (o == NULL)
        pgr__layer.tape->size--;
    return o;
}

static PyObject *unknown_operand(const char *symbol, PyObject *o)
{
    return PyObject_CallFunction(pgr__layer.refuse_operand, "sO", symbol, o);
}

/* Operands other than two Values or a Value and a float. `with_number` is the op for a constant right operand. */
PGR_NOINLINE static PyObject *operate_other(int op, int with_number, const char *symbol, PyObject *left,
                                            PyObject *right)
{
    double number;
    if (IS_OPERAND(left) && IS_OPERAND(right))
        return record_binary(op, left, right);
    if (IS_OPERAND(left)) {
        const int known = pgr__as_number(right, &number);
        if (known > 0)
            return record_number(with_number, left, number, false);
        return known == 0 ? unknown_operand(symbol, right) : NULL;
    }
    const int known = pgr__as_number(left, &number);
    return known > 0 ? record_number(op, right, number, true) : known == 0 ? unknown_operand(symbol, left) : NULL;
}

/* `with_number` is PGR_OP_POWC for **, else `op`. */
PGR_INLINE PyObject *operate(int op, int with_number, const char *symbol, PyObject *left, PyObject *right)
{
    if (Py_TYPE(left) == pgr__layer.value_type) {
        if (Py_TYPE(right) == pgr__layer.value_type)
            return record_binary(op, left, right);
        if (PyFloat_CheckExact(right))
            return record_number(with_number, left, PyFloat_AS_DOUBLE(right), false);
    }
    return operate_other(op, with_number, symbol, left, right);
}

static PyObject *nb_add(PyObject *l, PyObject *r) { return operate(PGR_OP_ADD, PGR_OP_ADD, "+", l, r); }
static PyObject *nb_subtract(PyObject *l, PyObject *r) { return operate(PGR_OP_SUB, PGR_OP_SUB, "-", l, r); }
static PyObject *nb_multiply(PyObject *l, PyObject *r) { return operate(PGR_OP_MUL, PGR_OP_MUL, "*", l, r); }
static PyObject *nb_true_divide(PyObject *l, PyObject *r) { return operate(PGR_OP_DIV, PGR_OP_DIV, "/", l, r); }
static PyObject *nb_remainder(PyObject *l, PyObject *r) { return operate(PGR_OP_MOD, PGR_OP_MOD, "%", l, r); }
static PyObject *nb_power(PyObject *l, PyObject *r, PyObject *modulus)
{
    if (modulus != Py_None)
        Py_RETURN_NOTIMPLEMENTED;
    return operate(PGR_OP_POW, PGR_OP_POWC, "**", l, r);
}
static PyObject *nb_negative(PyObject *self) { return record_unary(PGR_OP_NEG, self); }
static PyObject *nb_absolute(PyObject *self) { return record_unary(PGR_OP_ABS, self); }
static PyObject *nb_positive(PyObject *self) { return Py_NewRef(self); }
static PyObject *nb_float(PyObject *self) { return pgr__leave_graph("float", self); }
static PyObject *nb_int(PyObject *self) { return pgr__leave_graph("int", self); }

static int nb_bool(PyObject *self)
{
    const int op = node_of(self)->op;
    const bool is_condition = op == PGR_OP_LESS || op == PGR_OP_LESS_EQUAL || op == PGR_OP_EQUAL;
    if (!is_unknown(self) && !(is_condition && pgr__is_recording))
        return 1; /* like any object */
    pgr__unknown("if");
    return -1;
}

static const char *const comparisons[] = {[Py_LT] = "<", [Py_LE] = "<=", [Py_GT] = ">", [Py_GE] = ">="};

/* Records a comparison as a node, 1 or 0: a condition in a recorded function. */
PGR_INLINE PyObject *record_condition(int op, PyObject *left, PyObject *right, int how)
{
    const bool swap = how == Py_GT || how == Py_GE;
    double number;
    if (IS_OPERAND(right))
        return swap ? record_binary(op, right, left) : record_binary(op, left, right);
    const int known = pgr__as_number(right, &number);
    if (known > 0)
        return record_number(op, left, number, swap);
    if (known < 0)
        return NULL;
    return op == PGR_OP_EQUAL ? Py_NewRef(Py_NotImplemented) : unknown_operand(comparisons[how], right);
}

static PyObject *record_comparison(PyObject *left, PyObject *right, int how)
{
    if (how == Py_LT || how == Py_GT)
        return record_condition(PGR_OP_LESS, left, right, how);
    if (how == Py_LE || how == Py_GE)
        return record_condition(PGR_OP_LESS_EQUAL, left, right, how);
    PyObject *const equal = record_condition(PGR_OP_EQUAL, left, right, how);
    if (how == Py_EQ || equal == NULL || equal == Py_NotImplemented)
        return equal;
    PyObject *const result = record_number(PGR_OP_EQUAL, equal, 0.0, false);
    Py_DECREF(equal);
    return result;
}

/* Order is by value; equality is identity, as object has it, since a node has one object. While a function is recorded,
 * comparisons are nodes: even numbers from outside may change before it runs. */
static PyObject *tp_richcompare(PyObject *left, PyObject *right, int how)
{
    const bool is_pair = IS_OPERAND(right), is_equality = how == Py_EQ || how == Py_NE;
    const pgr_node *const node = node_of(left), *const other = is_pair ? node_of(right) : node;
    if (PGR_UNLIKELY(((node->flags | other->flags) & TAPE_UNKNOWN) != 0 || pgr__is_recording))
        return record_comparison(left, right, how);
    if (is_equality)
        Py_RETURN_NOTIMPLEMENTED;
    if (PGR_UNLIKELY(node == pgr__layer.tape->nodes || other == pgr__layer.tape->nodes))
        return pgr__gone();
    const double a = node->data;
    double b = other->data;
    if (!is_pair) {
        const int known = pgr__as_number(right, &b);
        if (known <= 0)
            return known == 0 ? unknown_operand(comparisons[how], right) : NULL;
    }
    Py_RETURN_RICHCOMPARE(a, b, how);
}

/* By identity, like any object. A walk hashes each Value three times, so this makes no calls and no loads. */
static Py_hash_t tp_hash(PyObject *self)
{
    const uintptr_t address = (uintptr_t)self;
    if (!pgr__is_recording || !is_unknown(self))
        return (Py_hash_t)(address >> 4);
    pgr__unknown("hash");
    return -1;
}

/* ---- Methods, from the table --------------------------------------------------------------- */

static inline PyObject *method_binary(int op, const char *name, PyObject *self, PyObject *other)
{
    double number;
    if (IS_OPERAND(other))
        return record_binary(op, self, other);
    const int known = pgr__as_number(other, &number);
    return known > 0 ? record_number(op, self, number, false) : known == 0 ? pgr__reject(name, other) : NULL;
}

static inline PyObject *method_param(int op, const char *name, double param, PyObject *self, PyObject *args)
{
    PyObject *given = NULL;
    if (!PyArg_UnpackTuple(args, name, isnan(param) ? 1 : 0, 1, &given))
        return NULL;
    const int known = given == NULL ? 1 : IS_OPERAND(given) ? 0 : pgr__as_number(given, &param);
    return known > 0 ? record_number(op, self, param, false) : known == 0 ? pgr__reject(name, given) : NULL;
}

#define METHOD_UNARY(ID, name, param) \
    static PyObject *method_##ID(PyObject *self, PyObject *unused) \
    { \
        (void)unused; \
        return record_unary(PGR_OP_##ID, self); \
    }
#define METHOD_BINARY(ID, name, param) \
    static PyObject *method_##ID(PyObject *self, PyObject *other) \
    { \
        return method_binary(PGR_OP_##ID, name, self, other); \
    }
#define METHOD_PARAM(ID, name, param) \
    static PyObject *method_##ID(PyObject *self, PyObject *args) \
    { \
        return method_param(PGR_OP_##ID, name, param, self, args); \
    }
#define METHOD_CUT METHOD_UNARY
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) METHOD_##KIND(ID, name, db)
PGR_OPS(X)
#undef X

#define FLAGS_UNARY  METH_NOARGS
#define FLAGS_BINARY METH_O
#define FLAGS_PARAM  METH_VARARGS
#define FLAGS_CUT    METH_NOARGS

/* Docstrings begin with a signature, in the form that CPython makes __text_signature__ of. */
#define SIGNATURE_UNARY  "($self, /)\n--\n\n"
#define SIGNATURE_BINARY "($self, other, /)\n--\n\n"
#define SIGNATURE_PARAM  "($self, param=..., /)\n--\n\n"
#define SIGNATURE_CUT    SIGNATURE_UNARY

/* _of(handle): the object of that node. Takes over one hold. */
static PyObject *operand_of(PyObject *unused, PyObject *arg)
{
    (void)unused;
    const unsigned long long h = PyLong_AsUnsignedLongLong(arg);
    if (h == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    const uint32_t slot = tape_slot_of(pgr__layer.tape, h);
    if (tape_id_of(pgr__layer.tape, h) == 0 || pgr__layer.tape->slots[slot].holds == 0)
        return pgr__gone();
    return pgr__object_of(slot);
}

static PyMethodDef methods[] = {
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
    {name, method_##ID, FLAGS_##KIND, name SIGNATURE_##KIND doc},
    PGR_OPS(X)
#undef X
    {"_sweep", pgr__sweep, METH_O, "Runs the reverse sweep; see csrc/python/sweep.c."},
    {"_operands", pgr__operands, METH_NOARGS, "The operands in order, with repeats, without a parameter."},
    {"_settle", pgr__settle, METH_NOARGS, "Makes changed sets of operands show on the tape."},
    {"_of", operand_of, METH_O | METH_STATIC, "The Value of a handle, whose hold it takes over."},
    {NULL, NULL, 0, NULL},
};

/* ---- Attributes ---------------------------------------------------------------------------- */

static PyObject *get_data(PyObject *self, void *unused)
{
    (void)unused;
    const pgr_node *const node = live_node(self);
    if (PGR_UNLIKELY(node == NULL))
        return NULL;
    return (node->flags & TAPE_UNKNOWN) != 0 ? pgr__unknown("data") : PyFloat_FromDouble(node->data);
}

static PyObject *get_grad(PyObject *self, void *unused)
{
    (void)unused;
    const pgr_node *const node = live_node(self);
    if (PGR_UNLIKELY(node == NULL))
        return NULL;
    return (node->flags & TAPE_UNKNOWN) != 0 ? pgr__unknown("grad") : PyFloat_FromDouble(node->grad);
}

static PyObject *get_handle(PyObject *self, void *unused)
{
    (void)unused;
    return live_node(self) == NULL ? NULL : PyLong_FromUnsignedLongLong(handle_of(self));
}

static int set_data(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    double number;
    if (!pgr__to_number("data", value, &number))
        return -1;
    pgr_node *const node = live_node(self);
    if (node == NULL)
        return -1;
    if (is_unknown(self)) {
        pgr__unknown("data =");
        return -1;
    }
    node->data = number;
    return 0;
}

static int set_grad(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    double number = 0.0; /* for None: no grad yet */
    if (value != Py_None && !pgr__to_number("grad", value, &number))
        return -1;
    pgr_node *const node = live_node(self);
    if (node == NULL)
        return -1;
    if (is_unknown(self)) {
        pgr__unknown("grad =");
        return -1;
    }
    node->grad = number;
    return 0;
}

/* `__dict__`: the user's attributes; and, as in micrograd, data, grad, _op and _prev. */
static PyObject *get_dict(PyObject *self, void *unused)
{
    PyObject *const dict = own_dict(self);
    PyObject *const data = dict == NULL ? NULL : get_data(self, unused);
    PyObject *const grad = data == NULL ? NULL : get_grad(self, unused);
    PyObject *const op = grad == NULL ? NULL : pgr__get_op(self, unused);
    PyObject *const prev = op == NULL ? NULL : pgr__get_prev(self, unused);
    const bool ok = prev != NULL && PyDict_SetItem(dict, pgr__names.data, data) == 0 &&
                    PyDict_SetItem(dict, pgr__names.grad, grad) == 0 &&
                    PyDict_SetItem(dict, pgr__names._op, op) == 0 &&
                    PyDict_SetItem(dict, pgr__names._prev, prev) == 0;
    Py_XDECREF(data);
    Py_XDECREF(grad);
    Py_XDECREF(op);
    Py_XDECREF(prev);
    return ok ? Py_NewRef(dict) : NULL;
}

static PyObject *get_own(PyObject *self, void *unused)
{
    (void)unused;
    return Py_XNewRef(own_dict(self));
}

static PyGetSetDef attributes[] = {
    {"data", get_data, set_data, "The number, a float64. Settable on any node.", NULL},
    {"grad", get_grad, set_grad, "d(root)/d(self) after root.backward(). Settable on any node.", NULL},
    {"_handle", get_handle, NULL, "The node's handle in the C library.", NULL},
    {"_prev", pgr__get_prev, pgr__set_prev,
     "The operands, a set that is the Value's own: changed or assigned, it changes the graph.", NULL},
    {"_op", pgr__get_op, pgr__set_op, "The operation that made this node: '+', 'tanh', '**2'; '' for a leaf.", NULL},
    {"_backward", pgr__get_backward, pgr__set_backward,
     "One step of backward: multiplies this node's grad by its local derivatives, adds to its operands' grads.\n\n"
     "Assign a function of no arguments to make the node a custom operation, as in micrograd.", NULL},
    {"__dict__", get_dict, PyObject_GenericSetDict, NULL, NULL},
    {"_own", get_own, NULL, "The attributes that the user has set.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

/* A type's version, which changes when the type does; 0: it has none. */
static unsigned int version_of(PyTypeObject *type)
{
#if PY_VERSION_HEX < 0x030c0000
    if (!PyType_HasFeature(type, Py_TPFLAGS_VALID_VERSION_TAG))
        return 0;
#endif
    return type->tp_version_tag;
}

/* Whether data and grad are as defined here, not redefined on the class: asked anew when the type has changed. */
static bool has_own_attributes(PyTypeObject *type)
{
    static unsigned int known; /* the version of the type that had them */
    const unsigned int version = version_of(type);
    if (version == known && version != 0)
        return true;
    PyObject *const names[] = {pgr__names.data, pgr__names.grad};
    bool has = true;
    for (int k = 0; k < 2; k++) {
        PyObject *const found = _PyType_Lookup(type, names[k]); /* gives the type a version */
        has = has && found != NULL && Py_IS_TYPE(found, &PyGetSetDescr_Type) &&
              ((PyGetSetDescrObject *)found)->d_getset == &attributes[k];
    }
    known = has ? version_of(type) : 0;
    return has;
}

/* Training loops mostly assign data and grad: these need no search. */
static int set_attribute(PyObject *self, PyObject *name, PyObject *value)
{
    if (Py_TYPE(self) == pgr__layer.value_type && has_own_attributes(Py_TYPE(self))) {
        if (name == pgr__names.grad)
            return set_grad(self, value, NULL);
        if (name == pgr__names.data)
            return set_data(self, value, NULL);
    }
    return PyObject_GenericSetAttr(self, name, value);
}

/* Puts a descriptor into the type's dict, unless its name is there. Takes it over; if it is NULL, it failed. False with
 * an exception. */
static bool describe(PyTypeObject *type, const char *name, PyObject *descriptor)
{
    PyObject *const key = descriptor == NULL ? NULL : PyUnicode_InternFromString(name);
    const bool ok = key != NULL && PyDict_SetDefault(type->tp_dict, key, descriptor) != NULL;
    Py_XDECREF(key);
    Py_XDECREF(descriptor);
    return ok;
}

bool pgr__inherit(PyTypeObject *type)
{
    bool ok = true;
    for (PyMethodDef *m = methods; ok && m->ml_name != NULL; m++)
        if ((m->ml_flags & METH_STATIC) == 0)
            ok = describe(type, m->ml_name, PyDescr_NewMethod(type, m));
    for (PyGetSetDef *a = attributes; ok && a->name != NULL; a++)
        ok = describe(type, a->name, PyDescr_NewGetSet(type, a));
    return ok;
}

static PyMemberDef members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(object, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(object, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* ---- The type ------------------------------------------------------------------------------ */

PGR_NOINLINE static void free_walked(object *o)
{
    /* No code may run here: it could get this object, which is being freed, from the node. */
    const bool is_changed = pgr__may_have_changed(o) && !pgr__agrees(o);
    PyObject *const prev = pgr__take_prev(o);
    if (is_changed && pgr__leave_orphan(handle_of((PyObject *)o), prev)) {
        pgr__layer.tape->slots[o->slot].is_kept = 1;
        pgr__free_object(o);
        return;
    }
    if (!set_aside(o))
        pgr__free_object(o);
    pgr__drop_prev(prev);
}

void pgr__operand_dealloc(PyObject *self)
{
    object *const o = (object *)self;
    if (PGR_UNLIKELY(o->prev != NULL))
        free_walked(o);
    else if (!set_aside(o))
        pgr__free_object(o);
}

static PyType_Slot slots[] = {
    {Py_tp_dealloc, pgr__operand_dealloc}, {Py_tp_new, pgr__operand_new},      {Py_tp_init, pgr__operand_init},
    {Py_tp_methods, methods},              {Py_tp_getset, attributes},         {Py_tp_members, members},
    {Py_tp_setattro, set_attribute},       {Py_tp_richcompare, tp_richcompare},
    {Py_tp_hash, tp_hash},                 {Py_nb_add, nb_add},                {Py_nb_subtract, nb_subtract},
    {Py_nb_multiply, nb_multiply},         {Py_nb_remainder, nb_remainder},    {Py_nb_true_divide, nb_true_divide},
    {Py_nb_power, nb_power},               {Py_nb_negative, nb_negative},      {Py_nb_absolute, nb_absolute},
    {Py_nb_positive, nb_positive},         {Py_nb_float, nb_float},            {Py_nb_int, nb_int},
    {Py_nb_bool, nb_bool},
    {0, NULL},
};

PyType_Spec pgr__operand_spec = {
    .name = "pygrad._pgr.Operand",
    .basicsize = sizeof(object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};
