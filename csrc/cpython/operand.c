/* operand.c: CPython's operand layer: a type whose number slots record straight onto the tape.
 *
 * A call through cffi costs about 100 ns and a Python-level __add__ on top of it about as much again; a
 * number slot costs about 15. So the hot part of `Value` is this type, and everything else is Python
 * (pygrad/engine.py), over the same tape through cffi. The type has no cyclic-GC header, which is most
 * of what makes many small objects slow; what that would have collected, ties.c finds.
 *
 * An object is one hold on one node. What the user hangs on it is its __dict__, which goes back to the
 * node's name (`notes`) when the object dies, and to the next object made for that node.
 *
 * The GIL is the tape's lock. Whatever may run Python code (making room, converting a number) comes
 * before ids are read. */
#include "cpython/operand.h"

#include <structmember.h>

pgr__operand_layer pgr__layer;

#define layer pgr__layer

enum { FREE_OBJECTS_AT_MOST = 1024 };

#define is_operand(o) \
    (Py_TYPE(o) == layer.value_type || (!PyFloat_CheckExact(o) && !PyLong_CheckExact(o) && PyObject_TypeCheck((o), layer.operand_type)))

static inline pgr_id id_of(PyObject *o) { return layer.tape->slots[((operand *)o)->slot].id; }
static inline pgr_node *node_of(PyObject *o) { return &layer.tape->nodes[id_of(o)]; }

static uint64_t handle_of(uint32_t slot) { return tape_handle(layer.tape, slot); }

static TAPE_THREAD_LOCAL uint32_t scope; /* of the thread, while others may record in theirs */

/* ---- Errors -------------------------------------------------------------------------------- */

/* Takes what one of these functions returns, which must have raised. */
static PyObject *raised(PyObject *result)
{
    if (result != NULL)
        PyErr_SetString(PyExc_SystemError, "a function given to _adopt must raise");
    Py_XDECREF(result);
    return NULL;
}

PyObject *pgr__fail(pgr_status status, int op, double a, double b)
{
    return raised(PyObject_CallFunction(layer.fail, "iidd", (int)status, op, a, b));
}

PyObject *pgr__reject(const char *where, PyObject *value)
{
    return raised(PyObject_CallFunction(layer.reject, "sO", where, value));
}

/* What would need the value of a node that has none, since a function is being recorded. */
PyObject *pgr__unknown(const char *where)
{
    return raised(PyObject_CallFunction(layer.unknown, "s", where));
}

static inline bool is_unknown(PyObject *o) { return (node_of(o)->flags & TAPE_UNKNOWN) != 0; }

/* An object may outlive its node: what hangs on a node keeps an object, both die, and a finaliser saves the object. Its slot
 * then names no node. Every use raises ReferenceError. */
static PyObject *gone(void) { return pgr__fail(PGR_ERR_HANDLE, PGR_OP_LEAF, 0.0, 0.0); }

static inline pgr_node *live_node(PyObject *o)
{
    const pgr_id id = id_of(o);
    if (PGR_UNLIKELY(id == 0)) {
        gone();
        return NULL;
    }
    return &layer.tape->nodes[id];
}

/* float() and int() of a Value: its number would leave the graph without a word. */
static PyObject *leave(const char *how, PyObject *value)
{
    return raised(PyObject_CallFunction(layer.leave, "sOi", how, value, (int)is_unknown(value)));
}

/* ---- Objects ------------------------------------------------------------------------------- */

/* A new object with a slot of its own, which names nothing yet. There is a free slot. NULL when out of memory. */
PGR_INLINE operand *take_object(void)
{
    operand *o = layer.free_objects;
    if (o != NULL) { /* it has kept its slot, its type, and its reference to that */
        layer.free_objects = (operand *)o->dict;
        layer.free_count--;
#if defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS)
        _Py_NewReference((PyObject *)o);
#else
        Py_SET_REFCNT((PyObject *)o, 1);
#endif
    } else {
        o = PyObject_New(operand, layer.value_type);
        if (o == NULL)
            return NULL;
        o->weakrefs = NULL;
        o->prev = NULL;
        o->slot = tape_reserve_slot(layer.tape);
        layer.tape->slots[o->slot].owner = o;
    }
    o->dict = NULL;
    return o;
}

/* A new object that takes over one hold on `slot`, which the caller has. NULL when out of memory. */
static PyObject *make_object(uint32_t slot, PyTypeObject *type)
{
    operand *const o = type == layer.value_type ? PyObject_New(operand, type) : (operand *)type->tp_alloc(type, 0);
    if (o == NULL)
        return NULL;
    o->slot = slot;
    o->weakrefs = NULL;
    o->dict = NULL;
    o->prev = NULL;
    layer.tape->slots[slot].owner = o;
    return (PyObject *)o;
}

/* Hands an object's __dict__ to its node's name; of a subclass, its class as well. False if there is nothing to hand over. */
static bool keep_notes(operand *o)
{
    const bool is_own_type = Py_TYPE(o) != layer.value_type && layer.tape->slots[o->slot].id != 0;
    if (o->dict == NULL && !is_own_type)
        return false;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *const dict = pgr__own_dict((PyObject *)o);
    o->dict = NULL;
    bool kept = false;
    if (dict != NULL && is_own_type && PyDict_SetItem(dict, pgr__names.__class__, (PyObject *)Py_TYPE(o)) < 0)
        PyErr_Clear();
    if (dict != NULL && PyDict_GET_SIZE(dict) > 0 && layer.tape->slots[o->slot].id != 0) {
        PyObject *const key = PyLong_FromUnsignedLongLong(handle_of(o->slot));
        kept = key != NULL && PyDict_SetItem(layer.notes, key, dict) == 0;
        Py_XDECREF(key);
    }
    PyErr_Restore(type, value, traceback);
    if (kept)
        Py_DECREF(dict);
    else
        o->dict = dict; /* dropped by the caller, once the slot is given back */
    return kept;
}

/* The usual end: an object that alone holds its node, with nothing hung on it. It waits with its slot for the
 * next node. False, with nothing done, if this is another case. */
static inline bool set_aside(operand *o)
{
    pgr_tape *const tape = layer.tape;
    pgr_slot *const s = &tape->slots[o->slot];
    const pgr_id id = s->id;
    if (Py_TYPE(o) != layer.value_type || o->dict != NULL || o->weakrefs != NULL || id == 0 || s->holds != 1 ||
        layer.free_count >= FREE_OBJECTS_AT_MOST)
        return false;
    s->id = 0;
    s->holds = 0;
    s->is_kept = 0;
    s->generation = (s->generation + 1) & 0x7fffffffu;
    tape->nodes[id].slot = 0;
    tape->nodes[id].flags &= (uint8_t)~TAPE_HELD;
    tape->held--;
    if (id + 1 == tape->size)
        tape_pop(tape);
    o->dict = (PyObject *)layer.free_objects;
    layer.free_objects = o;
    layer.free_count++;
    return true;
}

static void set_aside_or_free(operand *o)
{
    if (set_aside(o))
        return;
    PyObject *const self = (PyObject *)o;
    PyTypeObject *const type = Py_TYPE(self);
    /* The slot first: a weak reference's callback or a destructor may ask for the node's object. */
    const bool kept = o->dict != NULL && keep_notes(o);
    if (o->slot != 0) {
        pgr_tape *const tape = layer.tape;
        const pgr_id id = tape->slots[o->slot].id;
        tape->slots[o->slot].owner = NULL;
        tape_release(tape, o->slot, kept);
        if (id + 1 == tape->size)
            tape_pop(tape);
    }
    if (o->weakrefs != NULL)
        PyObject_ClearWeakRefs(self);
    if (o->dict != NULL)
        Py_CLEAR(o->dict);
    type->tp_free(self);
    Py_DECREF(type);
}

PGR_NOINLINE static void free_walked(operand *o)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (pgr__settle(o) < 0)
        PyErr_WriteUnraisable(NULL);
    PyErr_Restore(type, value, traceback);
    PyObject *const prev = pgr__take_prev(o);
    set_aside_or_free(o);
    pgr__drop_prev(prev);
}

static void operand_dealloc(PyObject *self)
{
    operand *const o = (operand *)self;
    if (PGR_UNLIKELY(o->prev != NULL))
        free_walked(o);
    else
        set_aside_or_free(o);
}

/* The object of a slot on which the caller has one hold, which it takes over. */
PyObject *pgr__object_of(uint32_t slot)
{
    pgr_slot *const s = &layer.tape->slots[slot];
    if (s->owner != NULL) {
        tape_release(layer.tape, slot, false); /* its owner has another */
        return Py_NewRef((PyObject *)s->owner);
    }
    if (!s->is_kept) /* nothing can hang on it */
        return make_object(slot, layer.value_type);
    PyObject *const key = PyLong_FromUnsignedLongLong(handle_of(slot));
    if (key == NULL)
        return NULL;
    PyObject *const dict = Py_XNewRef(PyDict_GetItemWithError(layer.notes, key));
    PyObject *const type = dict == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(dict, pgr__names.__class__));
    PyObject *const o = make_object(slot, type == NULL ? layer.value_type : (PyTypeObject *)type);
    if (o != NULL && dict != NULL) {
        ((operand *)o)->dict = dict;
        if (PyDict_DelItem(layer.notes, key) < 0 || (type != NULL && PyDict_DelItem(dict, pgr__names.__class__) < 0))
            PyErr_Clear();
    } else {
        Py_XDECREF(dict);
    }
    Py_XDECREF(type);
    Py_DECREF(key);
    return o;
}

PyObject *pgr__object_at(pgr_id id)
{
    pgr_tape *const tape = layer.tape;
    const uint32_t slot = tape->nodes[id].slot;
    pgr_slot *const s = &tape->slots[slot];
    if (slot == 0) {
        operand *const o = layer.free_objects == NULL && pgr__make_slot(tape) != PGR_OK ? NULL : take_object();
        if (o == NULL)
            return NULL;
        tape->slots[o->slot].id = id;
        tape->slots[o->slot].holds = 1;
        tape->held++;
        tape_name(tape, id, o->slot);
        return (PyObject *)o;
    }
    if (s->owner != NULL)
        return Py_NewRef((PyObject *)s->owner);
    PyObject *const o = s->is_kept ? NULL : make_object(slot, layer.value_type);
    if (o != NULL && s->holds++ == 0) {
        tape->held++;
        tape->nodes[id].flags |= TAPE_HELD;
    }
    return o;
}

/* ---- Room ---------------------------------------------------------------------------------- */

/* What belonged to nodes that have died goes now, with the tape in order: it may run any code. */
static void drop_dead(void)
{
    pgr_tape *const tape = layer.tape;
    for (uint32_t slot; (slot = pgr__next_dead(tape)) != 0;) {
        pgr_slot *const s = &tape->slots[slot];
        if (s->holds > 0) { /* kept by its own notes only: a tie */
            operand *const o = s->owner;
            Py_INCREF(o);
            Py_CLEAR(o->dict);
            if (o->prev != NULL)
                pgr__drop_prev(pgr__take_prev(o));
            Py_DECREF(o);
            continue;
        }
        PyObject *const key = PyLong_FromUnsignedLongLong(handle_of(slot));
        tape_free_slot(tape, slot);
        if (key == NULL)
            continue;
        PyObject *const dict = Py_XNewRef(PyDict_GetItemWithError(layer.notes, key));
        if (dict != NULL)
            PyDict_DelItem(layer.notes, key);
        Py_DECREF(key);
        Py_XDECREF(dict);
    }
}

static pgr_status collect(pgr_tape *tape, bool thorough)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    size_t count = 0;
    pgr_tie *const ties = pgr__find_ties(tape, &count);
    const pgr_status status = pgr__collect(tape, ties, count, thorough);
    PyMem_Free(ties);
    drop_dead();
    PyErr_Restore(type, value, traceback);
    return status;
}

/* Room for k nodes and one handle. */
PGR_NOINLINE static pgr_status make_ready(size_t k)
{
    if (k >= UINT32_MAX)
        return PGR_ERR_FULL;
    pgr_status status;
    do { /* collecting runs code that may use up what it made */
        status = pgr__make_room_by_handle(layer.tape, (uint32_t)k);
        if (status == PGR_OK)
            status = pgr__make_slot(layer.tape);
    } while (status == PGR_OK && !tape_has_room(layer.tape, (uint32_t)k));
    return status;
}

PGR_INLINE pgr_status ready(uint32_t k)
{
    return tape_has_room(layer.tape, k) && layer.tape->free_slot != 0 ? PGR_OK : make_ready(k);
}

/* ---- Recording ----------------------------------------------------------------------------- */

/* The object of the node just recorded; takes it (and `more` nodes before it) back when out of memory. */
static inline PyObject *wrap_new(pgr_id id, uint32_t more)
{
    operand *const o = take_object();
    if (o == NULL) {
        layer.tape->size -= 1 + more;
        return NULL;
    }
    pgr_slot *const s = &layer.tape->slots[o->slot];
    s->id = id;
    s->holds = 1;
    layer.tape->held++;
    tape_name(layer.tape, id, o->slot);
    return (PyObject *)o;
}

/* Records a node and makes its object. There is room, and a free slot. */
PGR_INLINE PyObject *append(int op, double data, pgr_id lhs, pgr_id rhs)
{
    operand *const o = take_object();
    if (o != NULL)
        tape_append_named(layer.tape, op, data, lhs, rhs, o->slot);
    return (PyObject *)o;
}

static PyObject *new_leaf(int op, double value)
{
    const pgr_status status = ready(1);
    if (status != PGR_OK)
        return pgr__fail(status, op, value, 0.0);
    return append(op, value, 0, 0);
}

/* `op` is a constant wherever these are called, so their switches fold away. */
PGR_INLINE PyObject *record_unary(int op, PyObject *self)
{
    pgr_status status = ready(1);
    if (status != PGR_OK)
        return pgr__fail(status, op, 0.0, 0.0);
    const pgr_id lhs = id_of(self);
    if (PGR_UNLIKELY(lhs == 0))
        return gone();
    const double a = layer.tape->nodes[lhs].data;
    double v = NAN;
    if (tape_is_known(layer.tape, op, lhs, 0))
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
        return gone();
    const double a = layer.tape->nodes[lhs].data, b = layer.tape->nodes[rhs].data;
    double v = NAN;
    if (tape_is_known(layer.tape, op, lhs, rhs))
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
        return gone();
    const double data = layer.tape->nodes[operand].data;
    const double a = reflected ? number : data, b = reflected ? data : number;
    double v = NAN;
    if (tape_is_known(layer.tape, op, operand, 0))
        status = ops_eval(op, a, b, &v);
    if (status != PGR_OK)
        return pgr__fail(status, op, a, b);
    const pgr_id constant = tape_append(layer.tape, PGR_OP_CONST, number, 0, 0);
    PyObject *const o = append(op, v, reflected ? constant : operand, reflected ? operand : constant);
    if (o == NULL)
        layer.tape->size--;
    return o;
}

static int from_double(double number, double *out)
{
    *out = number;
    return number == -1.0 && PyErr_Occurred() ? -1 : 1;
}

/* What is neither a float nor an int; pygrad/_numbers.py says what counts. */
PGR_NOINLINE static int other_number(PyObject *o, double *out)
{
    PyTypeObject *const type = Py_TYPE(o);
    if (is_operand(o)) { /* as data it would leave the graph */
        if (!is_unknown(o))
            return 0;
        pgr__unknown("float");
        return -1;
    }
    if (type->tp_as_number == NULL || (type->tp_as_number->nb_float == NULL && type->tp_as_number->nb_index == NULL))
        return 0;
    const int is_plain = PySet_Contains(layer.plain_numbers, (PyObject *)type);
    if (is_plain != 0)
        return is_plain < 0 ? -1 : from_double(PyFloat_AsDouble(o), out);
    PyObject *const number = PyObject_CallFunctionObjArgs(layer.as_number, o, NULL);
    const int known = number == NULL ? -1 : number == Py_None ? 0 : from_double(PyFloat_AsDouble(number), out);
    Py_XDECREF(number);
    return known;
}

/* 1: `*out` is the number that `o` is; 0: it is none that we know, and its own type may know Values;
 * -1: an exception is set. May run any code, so `o`, which may be borrowed from a container that it changes, is held. */
static int as_number(PyObject *o, double *out)
{
    if (PyFloat_Check(o)) {
        *out = PyFloat_AS_DOUBLE(o);
        return 1;
    }
    return PyLong_Check(o) ? from_double(PyLong_AsDouble(o), out) : other_number(o, out);
}

static PyObject *unknown_operand(const char *symbol, PyObject *o) { return PyObject_CallFunction(layer.refuse_operand, "sO", symbol, o); }

/* Operands other than two Values or a Value and a float. `with_number` is the op for a constant right operand. */
PGR_NOINLINE static PyObject *operator_other(int op, int with_number, const char *symbol, PyObject *left, PyObject *right)
{
    double number;
    if (is_operand(left)) {
        if (is_operand(right))
            return record_binary(op, left, right);
        const int known = as_number(right, &number);
        return known > 0 ? record_number(with_number, left, number, false) : known == 0 ? unknown_operand(symbol, right) : NULL;
    }
    const int known = as_number(left, &number);
    return known > 0 ? record_number(op, right, number, true) : known == 0 ? unknown_operand(symbol, left) : NULL;
}

/* PGR_OP_POWC is `with_number` for **, for others it is `op`. */
PGR_INLINE PyObject *operator_slot(int op, int with_number, const char *symbol, PyObject *left, PyObject *right)
{
    if (Py_TYPE(left) == layer.value_type) {
        if (Py_TYPE(right) == layer.value_type)
            return record_binary(op, left, right);
        if (PyFloat_CheckExact(right))
            return record_number(with_number, left, PyFloat_AS_DOUBLE(right), false);
    }
    return operator_other(op, with_number, symbol, left, right);
}

static PyObject *slot_add(PyObject *l, PyObject *r) { return operator_slot(PGR_OP_ADD, PGR_OP_ADD, "+", l, r); }
static PyObject *slot_sub(PyObject *l, PyObject *r) { return operator_slot(PGR_OP_SUB, PGR_OP_SUB, "-", l, r); }
static PyObject *slot_mul(PyObject *l, PyObject *r) { return operator_slot(PGR_OP_MUL, PGR_OP_MUL, "*", l, r); }
static PyObject *slot_div(PyObject *l, PyObject *r) { return operator_slot(PGR_OP_DIV, PGR_OP_DIV, "/", l, r); }
static PyObject *slot_mod(PyObject *l, PyObject *r) { return operator_slot(PGR_OP_MOD, PGR_OP_MOD, "%", l, r); }
static PyObject *slot_pow(PyObject *l, PyObject *r, PyObject *modulus)
{
    if (modulus != Py_None)
        Py_RETURN_NOTIMPLEMENTED;
    return operator_slot(PGR_OP_POW, PGR_OP_POWC, "**", l, r);
}
static PyObject *slot_neg(PyObject *self) { return record_unary(PGR_OP_NEG, self); }
static PyObject *slot_abs(PyObject *self) { return record_unary(PGR_OP_ABS, self); }
static PyObject *slot_pos(PyObject *self) { return Py_NewRef(self); }
static PyObject *slot_float(PyObject *self) { return leave("float", self); }
static PyObject *slot_int(PyObject *self) { return leave("int", self); }

static int slot_bool(PyObject *self)
{
    const int op = node_of(self)->op;
    const bool is_condition = op == PGR_OP_LESS || op == PGR_OP_LESS_EQUAL || op == PGR_OP_EQUAL;
    if (!is_unknown(self) && !(is_condition && pgr__is_recording))
        return 1; /* as any object */
    pgr__unknown("if");
    return -1;
}

static const char *const comparisons[] = {[Py_LT] = "<", [Py_LE] = "<=", [Py_GT] = ">", [Py_GE] = ">="};

/* A comparison as a node, 1 or 0: what a condition is while a function is recorded. */
PGR_INLINE PyObject *record_condition(int op, PyObject *left, PyObject *right, int how)
{
    const bool swap = how == Py_GT || how == Py_GE;
    double number;
    if (is_operand(right))
        return swap ? record_binary(op, right, left) : record_binary(op, left, right);
    const int known = as_number(right, &number);
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

/* Order is by value; equality is identity, object's own, since a node has one object. While a function is recorded,
 * Values are compared by the numbers that they will have: those from outside of it may change until it runs. */
static PyObject *slot_compare(PyObject *left, PyObject *right, int how)
{
    const bool is_pair = is_operand(right), is_equality = how == Py_EQ || how == Py_NE;
    const pgr_node *const node = node_of(left), *const other = is_pair ? node_of(right) : node;
    if (PGR_UNLIKELY(((node->flags | other->flags) & TAPE_UNKNOWN) != 0 || pgr__is_recording))
        return record_comparison(left, right, how);
    if (is_equality)
        Py_RETURN_NOTIMPLEMENTED;
    if (PGR_UNLIKELY(node == layer.tape->nodes || other == layer.tape->nodes))
        return gone();
    const double a = node->data;
    double b = other->data;
    if (!is_pair) {
        const int known = as_number(right, &b);
        if (known <= 0)
            return known == 0 ? unknown_operand(comparisons[how], right) : NULL;
    }
    Py_RETURN_RICHCOMPARE(a, b, how);
}

/* By identity, as any object. A walk hashes each Value three times: here are no calls, and no loads. */
static Py_hash_t slot_hash(PyObject *self)
{
    const uintptr_t address = (uintptr_t)self;
    if (!pgr__is_recording || !is_unknown(self))
        return (Py_hash_t)(address >> 4);
    pgr__unknown("hash");
    return -1;
}

/* ---- The reverse sweep --------------------------------------------------------------------- */

/* The function of a custom node, from a sweep or _push, which return with the exception that it leaves. */
static int run_custom(void *unused, pgr_tape *tape, pgr_handle node)
{
    (void)unused;
    const int64_t h = pgr_h_hold(tape, node);
    PyObject *const value = h < 0 ? pgr__fail((pgr_status)-h, PGR_OP_CUSTOM, 0.0, 0.0) : pgr__object_of((uint32_t)h);
    PyObject *const dict = value == NULL ? NULL : Py_XNewRef(((operand *)value)->dict);
    PyObject *const own = dict == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(dict, pgr__names._backward));
    if (own != NULL)
        Py_XDECREF(PyObject_CallObject(own, NULL));
    else if (dict != NULL && !PyErr_Occurred())
        pgr__custom_step(value);
    Py_XDECREF(own);
    Py_XDECREF(dict);
    Py_XDECREF(value);
    return PyErr_Occurred() != NULL;
}

/* Raises what a sweep or step has failed with. */
static PyObject *sweep_failed(pgr_status status)
{
    return status == PGR_ERR_CUSTOM ? NULL : pgr__fail(status, PGR_OP_LEAF, 0.0, 0.0);
}

/* _sweep(checked): the reverse sweep from here; the Value at which a checked one has found inf or nan, else None. */
static PyObject *operand_sweep(PyObject *self, PyObject *checked)
{
    const int is_checked = PyObject_IsTrue(checked);
    if (is_checked < 0 || pgr__settle_below(self) < 0)
        return NULL;
    const pgr_id id = id_of(self);
    pgr_id bad = 0;
    const pgr_status status = id == 0              ? PGR_ERR_HANDLE
                              : is_unknown(self)   ? PGR_ERR_UNKNOWN
                              : is_checked         ? pgr_backward_checked(layer.tape, id, &bad)
                                                   : pgr_backward(layer.tape, id);
    if (status == PGR_ERR_NOT_FINITE) {
        const int64_t h = pgr_hold(layer.tape, bad);
        return h < 0 ? pgr__fail((pgr_status)-h, PGR_OP_LEAF, 0.0, 0.0) : pgr__object_of((uint32_t)h);
    }
    if (status != PGR_OK)
        return sweep_failed(status);
    Py_RETURN_NONE;
}

/* _settle(): what has been done to sets that `_prev` gave, below here, shows on the tape from now on. */
static PyObject *operand_settle(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (pgr__settle_below(self) < 0)
        return NULL;
    Py_RETURN_NONE;
}

/* ---- Methods, from the table --------------------------------------------------------------- */

static inline PyObject *method_binary(int op, const char *name, PyObject *self, PyObject *other)
{
    double number;
    if (is_operand(other))
        return record_binary(op, self, other);
    const int known = as_number(other, &number);
    return known > 0 ? record_number(op, self, number, false) : known == 0 ? pgr__reject(name, other) : NULL;
}

static inline PyObject *method_param(int op, const char *name, double param, PyObject *self, PyObject *args)
{
    PyObject *given = NULL;
    if (!PyArg_UnpackTuple(args, name, isnan(param) ? 1 : 0, 1, &given))
        return NULL;
    const int known = given == NULL ? 1 : is_operand(given) ? 0 : as_number(given, &param);
    return known > 0 ? record_number(op, self, param, false) : known == 0 ? pgr__reject(name, given) : NULL;
}

#define METHOD_UNARY(ID, name, param) \
    static PyObject *method_##ID(PyObject *self, PyObject *unused) { (void)unused; return record_unary(PGR_OP_##ID, self); }
#define METHOD_BINARY(ID, name, param) \
    static PyObject *method_##ID(PyObject *self, PyObject *other) { return method_binary(PGR_OP_##ID, name, self, other); }
#define METHOD_PARAM(ID, name, param) \
    static PyObject *method_##ID(PyObject *self, PyObject *args) { return method_param(PGR_OP_##ID, name, param, self, args); }
#define METHOD_CUT METHOD_UNARY
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) METHOD_##KIND(ID, name, db)
/* Of db only PARAM's default is used. */
PGR_OPS(X)
#undef X

#define FLAGS_UNARY  METH_NOARGS
#define FLAGS_BINARY METH_O
#define FLAGS_PARAM  METH_VARARGS
#define FLAGS_CUT    METH_NOARGS

/* _of(handle): the object of that node, taking over one hold. */
static PyObject *operand_of(PyObject *unused, PyObject *arg)
{
    (void)unused;
    const unsigned long long h = PyLong_AsUnsignedLongLong(arg);
    if (h == (unsigned long long)-1 && PyErr_Occurred())
        return NULL;
    const uint32_t slot = (uint32_t)h;
    if (slot == 0 || slot >= layer.tape->slot_capacity || handle_of(slot) != h || layer.tape->slots[slot].holds == 0 ||
        layer.tape->slots[slot].id == 0)
        return pgr__fail(PGR_ERR_HANDLE, 0, 0.0, 0.0);
    return pgr__object_of(slot);
}

static PyMethodDef methods[] = {
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) {name, method_##ID, FLAGS_##KIND, doc},
    PGR_OPS(X)
#undef X
    {"_sweep", operand_sweep, METH_O, "The reverse sweep; see csrc/operand.c."},
    {"_operands", pgr__operands, METH_NOARGS, "The operands in order, with repeats; a parameter is none."},
    {"_settle", operand_settle, METH_NOARGS, "Lets changed sets of operands show on the tape."},
    {"_of", operand_of, METH_O | METH_STATIC, "The Value of a handle, whose hold it takes over."},
    {NULL, NULL, 0, NULL},
};

/* ---- Attributes ---------------------------------------------------------------------------- */

static PyObject *get_data(PyObject *self, void *unused)
{
    (void)unused;
    const pgr_node *const node = live_node(self);
    return node == NULL ? NULL : (node->flags & TAPE_UNKNOWN) != 0 ? pgr__unknown("data") : PyFloat_FromDouble(node->data);
}

static PyObject *get_grad(PyObject *self, void *unused)
{
    (void)unused;
    const pgr_node *const node = live_node(self);
    return node == NULL ? NULL : (node->flags & TAPE_UNKNOWN) != 0 ? pgr__unknown("grad") : PyFloat_FromDouble(node->grad);
}

static PyObject *get_handle(PyObject *self, void *unused)
{
    (void)unused;
    return live_node(self) == NULL ? NULL : PyLong_FromUnsignedLongLong(handle_of(((operand *)self)->slot));
}

/* False with an exception set if `value` is no number. */
static bool to_number(const char *where, PyObject *value, double *out)
{
    if (value == NULL) {
        PyErr_Format(PyExc_AttributeError, "a Value's %s can't be deleted", where);
        return false;
    }
    const int known = as_number(value, out);
    if (known == 0)
        pgr__reject(where, value);
    return known > 0;
}

static int set_data(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    double number;
    if (!to_number("data", value, &number))
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
    double number = 0.0; /* what None means: there is no grad yet */
    if (value != Py_None && !to_number("grad", value, &number))
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

/* Assignments to data and grad are what a training loop does most: they come here without a search. */
static int set_attribute(PyObject *self, PyObject *name, PyObject *value)
{
    if (Py_TYPE(self) == layer.value_type) {
        if (name == pgr__names.grad)
            return set_grad(self, value, NULL);
        if (name == pgr__names.data)
            return set_data(self, value, NULL);
    }
    return PyObject_GenericSetAttr(self, name, value);
}

/* `__dict__`: what the user hangs on a Value; and, as micrograd's has them, the number, the grad, and what it was made by. */
static PyObject *get_dict(PyObject *self, void *unused)
{
    PyObject *const dict = pgr__own_dict(self);
    PyObject *const data = dict == NULL ? NULL : get_data(self, unused);
    PyObject *const grad = data == NULL ? NULL : get_grad(self, unused);
    PyObject *const op = grad == NULL ? NULL : pgr__get_op(self, unused);
    PyObject *const prev = op == NULL ? NULL : pgr__get_prev(self, unused);
    const bool ok = prev != NULL && PyDict_SetItem(dict, pgr__names.data, data) == 0 && PyDict_SetItem(dict, pgr__names.grad, grad) == 0 &&
                    PyDict_SetItem(dict, pgr__names._op, op) == 0 && PyDict_SetItem(dict, pgr__names._prev, prev) == 0;
    Py_XDECREF(data);
    Py_XDECREF(grad);
    Py_XDECREF(op);
    Py_XDECREF(prev);
    return ok ? Py_NewRef(dict) : NULL;
}

static PyObject *get_own(PyObject *self, void *unused)
{
    (void)unused;
    return Py_XNewRef(pgr__own_dict(self));
}

static PyGetSetDef attributes[] = {
    {"data", get_data, set_data, "The number, a float64. Settable on any node.", NULL},
    {"grad", get_grad, set_grad, "d(root)/d(self) after root.backward(). Settable on any node.", NULL},
    {"_handle", get_handle, NULL, "The node's handle in the C library.", NULL},
    {"_prev", pgr__get_prev, pgr__set_prev, "The operands, a set that is the Value's own: changed or assigned, it changes the graph.", NULL},
    {"_op", pgr__get_op, pgr__set_op, "The operation that made this node: '+', 'tanh', '**2'; '' for a leaf.", NULL},
    {"_backward", pgr__get_backward, pgr__set_backward,
     "One step of backward: called, adds what this node's grad gives its operands to their grads.\n\n"
     "Assign a function of no arguments to make the node a custom operation, as in micrograd.", NULL},
    {"__dict__", get_dict, PyObject_GenericSetDict, NULL, NULL},
    {"_own", get_own, NULL, "The attributes that the user has set.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static bool is_special(PyObject *name)
{
    return PyUnicode_GET_LENGTH(name) > 2 && PyUnicode_READ_CHAR(name, 0) == '_' && PyUnicode_READ_CHAR(name, 1) == '_';
}

/* What a walk, a training loop and an expression read most comes here without a search; so methods need a bound form that
 * is as quick. Subclasses may have attributes of these names. */
static PyObject *get_attribute(PyObject *self, PyObject *name)
{
    if (Py_TYPE(self) == layer.value_type) {
        if (name == pgr__names.data)
            return get_data(self, NULL);
        if (name == pgr__names.grad)
            return get_grad(self, NULL);
        if (name == pgr__names._prev)
            return pgr__get_prev(self, NULL);
    }
    PyObject *const found = _PyType_Lookup(Py_TYPE(self), name);
    if (found != NULL && Py_IS_TYPE(found, &PyMethodDescr_Type) && ((operand *)self)->dict == NULL) {
        PyMethodDef *const method = ((PyMethodDescrObject *)found)->d_method;
        if (method >= methods && method < methods + sizeof methods / sizeof *methods)
            return pgr__bind(self, method);
    }
    if (found != NULL && Py_IS_TYPE(found, &PyGetSetDescr_Type)) {
        const PyGetSetDef *const attribute = ((PyGetSetDescrObject *)found)->d_getset;
        if (attribute >= attributes && attribute < attributes + sizeof attributes / sizeof *attributes)
            return attribute->get(self, NULL);
    }
    if (found == NULL && ((operand *)self)->dict == NULL && is_special(name)) {
        PyErr_SetObject(PyExc_AttributeError, name); /* NumPy asks for three of these, of each Value: no message for nobody */
        return NULL;
    }
    return PyObject_GenericGetAttr(self, name);
}

static PyMemberDef members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(operand, dict), READONLY, NULL},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(operand, weakrefs), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

/* ---- Construction -------------------------------------------------------------------------- */

/* A leaf of 0 until __init__ comes, so that subclasses may have an __init__ of their own. */
static PyObject *operand_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    (void)args, (void)keywords;
    if (type == layer.value_type)
        return new_leaf(PGR_OP_LEAF, 0.0);
    const pgr_status status = ready(1);
    if (status != PGR_OK)
        return pgr__fail(status, PGR_OP_LEAF, 0.0, 0.0);
    operand *const o = (operand *)type->tp_alloc(type, 0); /* may run code, but nothing is read yet */
    if (o == NULL)
        return NULL;
    const pgr_status again = ready(1);
    if (again != PGR_OK) {
        Py_DECREF(o);
        return pgr__fail(again, PGR_OP_LEAF, 0.0, 0.0);
    }
    o->slot = tape_take_slot(layer.tape, tape_append(layer.tape, PGR_OP_LEAF, 0.0, 0, 0));
    layer.tape->slots[o->slot].owner = o;
    return (PyObject *)o;
}

/* What __init__ and Value() take, converted. */
typedef struct {
    double data;
    PyObject *children;   /* owned, a tuple; NULL: no custom node */
    PyObject *op, *label; /* owned; NULL: not given */
    PyObject *grads;      /* owned, a tuple of floats, one for each child; NULL: not given */
} arguments;

static void drop(arguments *a)
{
    Py_XDECREF(a->children);
    Py_XDECREF(a->op);
    Py_XDECREF(a->label);
    Py_XDECREF(a->grads);
}

/* The local gradients as a tuple of floats, one for each child. */
static bool take_grads(arguments *out)
{
    PyObject *const given = PySequence_Tuple(out->grads);
    const Py_ssize_t n = given == NULL ? -1 : PyTuple_GET_SIZE(given), children = out->children == NULL ? 0 : PyTuple_GET_SIZE(out->children);
    PyObject *floats = n < 0 ? NULL : PyTuple_New(n);
    for (Py_ssize_t i = 0; floats != NULL && i < n; i++) {
        double number;
        PyObject *const value = to_number("local_grads", PyTuple_GET_ITEM(given, i), &number) ? PyFloat_FromDouble(number) : NULL;
        if (value != NULL)
            PyTuple_SET_ITEM(floats, i, value);
        else
            Py_CLEAR(floats);
    }
    Py_XDECREF(given);
    if (floats != NULL && n != children) {
        PyErr_Format(PyExc_ValueError, "Value: %zd operands and %zd local gradients; there must be as many of each", children, n);
        Py_CLEAR(floats);
    }
    Py_SETREF(out->grads, floats);
    return floats != NULL;
}

/* The tuple of `children`, NULL if they were not given, each of them a Value: their list may change meanwhile. */
static bool take_children(PyObject *children, arguments *out)
{
    if (out->op != NULL && out->grads == NULL && (PyTuple_Check(out->op) || PyList_Check(out->op))) {
        out->grads = out->op; /* Value(data, children, local_grads) */
        out->op = NULL;
    }
    if ((out->op != NULL && !PyUnicode_Check(out->op)) || (out->label != NULL && !PyUnicode_Check(out->label))) {
        const bool is_op = out->op != NULL && !PyUnicode_Check(out->op);
        pgr__reject(is_op ? "_op" : "label", is_op ? out->op : out->label);
        return false;
    }
    PyObject *const tuple = children == NULL ? PyTuple_New(0) : PyUnicode_Check(children) ? NULL : PySequence_Tuple(children);
    if (tuple == NULL) {
        if (children != NULL && !PyErr_Occurred())
            pgr__reject("_children", children);
        else if (children != NULL && PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            pgr__reject("_children", children);
        }
        return false;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++)
        if (!is_operand(PyTuple_GET_ITEM(tuple, i))) {
            pgr__reject("_children", PyTuple_GET_ITEM(tuple, i));
            Py_DECREF(tuple);
            return false;
        }
    if (PyTuple_GET_SIZE(tuple) > 0 || (out->op != NULL && PyUnicode_GET_LENGTH(out->op) > 0))
        out->children = tuple;
    else
        Py_DECREF(tuple);
    return true;
}

/* False with an exception set, and nothing to drop, if an argument is none. */
static bool parse(PyObject *args, PyObject *keywords, arguments *out)
{
    static char *names[] = {"data", "_children", "_op", "label", "children", "local_grads", NULL};
    PyObject *data, *children = NULL, *same = NULL;
    *out = (arguments){0.0, NULL, NULL, NULL, NULL};
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|OOO$OO:Value", names, &data, &children, &out->op, &out->label, &same, &out->grads))
        return false;
    if (children == NULL)
        children = same;
    Py_XINCREF(children); /* converting the number may run any code */
    Py_XINCREF(out->op);
    Py_XINCREF(out->label);
    Py_XINCREF(out->grads);
    const bool ok = to_number("Value", data, &out->data) && take_children(children, out) && (out->grads == NULL || take_grads(out));
    Py_XDECREF(children);
    if (!ok)
        drop(out);
    return ok;
}

/* Records the custom node that was asked for; 0 with an exception set on failure. */
static pgr_id record_custom(const arguments *a)
{
    const size_t n = (size_t)PyTuple_GET_SIZE(a->children);
    pgr_id *const ids = PyMem_Malloc((n + 1) * sizeof *ids);
    pgr_id id = 0;
    pgr_status status = ids == NULL ? PGR_ERR_NOMEM : make_ready(n + 1);
    for (size_t i = 0; status == PGR_OK && i < n; i++)
        if ((ids[i] = id_of(PyTuple_GET_ITEM(a->children, (Py_ssize_t)i))) == 0)
            status = PGR_ERR_HANDLE;
    if (status == PGR_OK)
        status = pgr_custom(layer.tape, a->data, n, ids, &id);
    PyMem_Free(ids);
    if (status != PGR_OK)
        pgr__fail(status, PGR_OP_CUSTOM, a->data, 0.0);
    return id;
}

static bool set_names(PyObject *self, const arguments *a)
{
    if (a->children != NULL && a->op != NULL && PyUnicode_GET_LENGTH(a->op) > 0 && pgr__set_op(self, a->op, NULL) < 0)
        return false;
    if (a->children != NULL && a->grads != NULL) {
        PyObject *const dict = pgr__own_dict(self);
        if (dict == NULL || PyDict_SetItem(dict, pgr__names._local_grads, a->grads) < 0)
            return false;
    }
    return a->label == NULL || PyUnicode_GET_LENGTH(a->label) == 0 || PyObject_SetAttr(self, pgr__names.label, a->label) == 0;
}

/* For subclasses and explicit calls; Value() itself goes through value_vectorcall. */
static int operand_init(PyObject *self, PyObject *args, PyObject *keywords)
{
    arguments a;
    if (!parse(args, keywords, &a))
        return -1;
    pgr_tape *const tape = layer.tape;
    if (live_node(self) == NULL) {
        drop(&a);
        return -1;
    }
    if (a.children == NULL) {
        node_of(self)->data = a.data;
    } else {
        const pgr_id id = record_custom(&a);
        if (id == 0) {
            drop(&a);
            return -1;
        }
        const uint32_t slot = ((operand *)self)->slot;
        pgr_node *const before = node_of(self);
        before->slot = 0;
        before->flags &= (uint8_t)~TAPE_HELD;
        tape->slots[slot].id = id;
        tape_name(tape, id, slot);
    }
    const bool named = set_names(self, &a);
    drop(&a);
    return named ? 0 : -1;
}

static PyObject *new_value(PyObject *args, PyObject *keywords)
{
    arguments a;
    if (!parse(args, keywords, &a))
        return NULL;
    PyObject *value = NULL;
    if (a.children == NULL) {
        value = new_leaf(PGR_OP_LEAF, a.data);
    } else {
        const pgr_id id = record_custom(&a);
        if (id != 0 && (value = wrap_new(id, 0)) == NULL)
            tape_pop(layer.tape); /* its pairs */
    }
    if (value != NULL && !set_names(value, &a))
        Py_CLEAR(value);
    drop(&a);
    return value;
}

/* Value(...) short of type.__call__, unless the program has put an __init__ of its own into the class. */
static PyObject *value_vectorcall(PyObject *callable, PyObject *const *args, size_t flags, PyObject *names)
{
    const PyTypeObject *const type = (PyTypeObject *)callable;
    const bool is_plain = type->tp_init == operand_init && type->tp_new == operand_new;
    const Py_ssize_t n = PyVectorcall_NARGS(flags);
    if (n == 1 && names == NULL && is_plain) {
        double number;
        return to_number("Value", args[0], &number) ? new_leaf(PGR_OP_LEAF, number) : NULL;
    }
    PyObject *const tuple = PyTuple_New(n);
    PyObject *const keywords = names == NULL ? NULL : PyDict_New();
    PyObject *result = NULL;
    if (tuple == NULL || (names != NULL && keywords == NULL))
        goto done;
    for (Py_ssize_t i = 0; i < n; i++)
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    for (Py_ssize_t i = 0; names != NULL && i < PyTuple_GET_SIZE(names); i++)
        if (PyDict_SetItem(keywords, PyTuple_GET_ITEM(names, i), args[n + i]) < 0)
            goto done;
    result = is_plain ? new_value(tuple, keywords) : PyType_Type.tp_call(callable, tuple, keywords);
done:
    Py_XDECREF(tuple);
    Py_XDECREF(keywords);
    return result;
}

/* ---- dot ----------------------------------------------------------------------------------- */

/* One factor of a dot product: a Value, or the number to record as a constant. */
typedef struct {
    PyObject *value; /* owned; NULL: a number */
    double number;
} factor;

static int as_factor(PyObject *o, factor *out)
{
    if (is_operand(o)) {
        *out = (factor){Py_NewRef(o), 0.0};
        return 0;
    }
    *out = (factor){NULL, 0.0};
    const int known = as_number(o, &out->number);
    if (known == 0)
        pgr__reject("dot", o);
    return known > 0 ? 0 : -1;
}

static inline pgr_id factor_id(const factor *f)
{
    return f->value != NULL ? id_of(f->value) : tape_append(layer.tape, PGR_OP_CONST, f->number, 0, 0);
}

/* The node of a Value, or of a float, recorded as a constant; 0 for a Value whose node is gone, NOT_PLAIN for others. */
#define NOT_PLAIN UINT32_MAX
static inline pgr_id plain_id(PyObject *o)
{
    if (Py_TYPE(o) == layer.value_type)
        return id_of(o);
    return PyFloat_CheckExact(o) ? tape_append(layer.tape, PGR_OP_CONST, PyFloat_AS_DOUBLE(o), 0, 0) : NOT_PLAIN;
}

/* The usual case, lists of Values and floats: nothing can run between the first element and the last, so they need
 * neither be held nor looked at twice. NULL without an exception if there is anything else among them. */
static PyObject *dot_of_plain(PyObject *const *ws, PyObject *const *xs, Py_ssize_t n, PyObject *bias)
{
    pgr_tape *const tape = layer.tape;
    const uint32_t before = tape->size;
    pgr_id sum = bias != NULL ? id_of(bias) : tape_append(tape, PGR_OP_CONST, 0.0, 0, 0);
    if (sum == 0)
        return gone();
    double v = tape->nodes[sum].data;
    for (Py_ssize_t i = 0; i < n; i++) {
        const pgr_id w = plain_id(ws[i]), x = plain_id(xs[i]);
        if (PGR_UNLIKELY((w == 0) | (x == 0) | (w == NOT_PLAIN) | (x == NOT_PLAIN))) {
            tape->size = before;
            return w == 0 || x == 0 ? gone() : NULL;
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

static PyObject *dot(PyObject *unused, PyObject *const *args, Py_ssize_t nargs)
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
    const bool usual = n > 0 && n < UINT32_MAX / 8 && (nargs < 3 || Py_TYPE(args[2]) == layer.value_type);
    if (usual && tape_has_room(layer.tape, 4 * (uint32_t)n + 1) && layer.tape->free_slot != 0) {
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
    pgr_tape *const tape = layer.tape;
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

/* ---- Scopes -------------------------------------------------------------------------------- */

static PyObject *present_scope(PyObject *unused, PyObject *no_arguments)
{
    (void)unused, (void)no_arguments;
    return PyLong_FromUnsignedLong(scope);
}

static bool set_scope(unsigned long number)
{
    if (number > UINT32_MAX) {
        PyErr_SetString(PyExc_OverflowError, "a scope's number must be below 2**32");
        return false;
    }
    const pgr_status status = pgr__set_tag(layer.tape, PGR_TAG_SCOPE, (uint32_t)number);
    if (status != PGR_OK) {
        pgr__fail(status, PGR_OP_LEAF, 0.0, 0.0);
        return false;
    }
    scope = (uint32_t)number;
    return true;
}

static PyObject *enter_scope(PyObject *unused, PyObject *number)
{
    (void)unused;
    const unsigned long wanted = PyLong_AsUnsignedLong(number);
    if ((wanted == (unsigned long)-1 && PyErr_Occurred()) || !set_scope(wanted))
        return NULL;
    Py_RETURN_NONE;
}

/* A call of _call_in_scopes under way: not on the stack, since greenlets move theirs. */
typedef struct scopes_call {
    struct scopes_call *previous, *next;
    unsigned long first, count;
    uint32_t before;
} scopes_call;

static scopes_call *calls;

/* _call_in_scopes(functions, x, first): [f(x) for f in functions], each in a scope of its own: first, first + 1, ...
 * In Python, entering them costs a fifth of a network's forward pass. */
static PyObject *call_in_scopes(PyObject *unused, PyObject *const *args, Py_ssize_t nargs)
{
    (void)unused;
    if (nargs != 3 || !PyList_Check(args[0])) {
        PyErr_SetString(PyExc_TypeError, "_call_in_scopes(functions, x, first): functions must be a list");
        return NULL;
    }
    const unsigned long first = PyLong_AsUnsignedLong(args[2]);
    if (first == (unsigned long)-1 && PyErr_Occurred())
        return NULL;
    const uint32_t before = scope;
    PyObject *results = PyList_New(0);
    scopes_call *const this = results == NULL ? NULL : PyMem_Malloc(sizeof *this);
    if (this == NULL) {
        Py_XDECREF(results);
        return PyErr_NoMemory();
    }
    *this = (scopes_call){NULL, calls, first, (unsigned long)PyList_GET_SIZE(args[0]), before};
    if (calls != NULL)
        calls->previous = this;
    calls = this;
    for (Py_ssize_t i = 0; results != NULL && i < PyList_GET_SIZE(args[0]); i++) {
        PyObject *const function = Py_NewRef(PyList_GET_ITEM(args[0], i));
        PyObject *const result = set_scope(first + (unsigned long)i) ? PyObject_CallFunctionObjArgs(function, args[1], NULL) : NULL;
        if (result == NULL || PyList_Append(results, result) < 0)
            Py_CLEAR(results);
        Py_XDECREF(result);
        Py_DECREF(function);
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (set_scope(before))
        PyErr_Restore(type, value, traceback);
    else
        Py_CLEAR(results);
    *(this->previous != NULL ? &this->previous->next : &calls) = this->next;
    if (this->next != NULL)
        this->next->previous = this->previous;
    PyMem_Free(this);
    return results;
}

/* _active_scopes(): (first, count, before) of each call under way: scopes that nodes may yet be recorded in. */
static PyObject *active_scopes(PyObject *unused, PyObject *no_arguments)
{
    (void)unused, (void)no_arguments;
    PyObject *list = PyList_New(0);
    for (const scopes_call *c = calls; list != NULL && c != NULL; c = c->next) {
        PyObject *const tuple = Py_BuildValue("kkk", c->first, c->count, (unsigned long)c->before);
        if (tuple == NULL || PyList_Append(list, tuple) < 0)
            Py_CLEAR(list);
        Py_XDECREF(tuple);
    }
    return list;
}

/* ---- Installation -------------------------------------------------------------------------- */

/* _adopt(Value, notes, fail, reject, unknown, leave, refuse_operand, as_number, plain_numbers): results are made of `Value` from now on. */
static PyObject *adopt(PyObject *unused, PyObject *args)
{
    (void)unused;
    PyTypeObject *type;
    PyObject *notes, *fail_fn, *reject_fn, *unknown_fn, *leave_fn, *refuse_fn, *as_number_fn, *plain;
    if (!PyArg_ParseTuple(args, "O!O!OOOOOOO!:_adopt", &PyType_Type, &type, &PyDict_Type, &notes, &fail_fn, &reject_fn, &unknown_fn,
                          &leave_fn, &refuse_fn, &as_number_fn, &PySet_Type, &plain))
        return NULL;
    if (!PyType_IsSubtype(type, layer.operand_type) || type->tp_basicsize != layer.operand_type->tp_basicsize) {
        PyErr_SetString(PyExc_TypeError, "Value must be a subclass of Operand with empty __slots__");
        return NULL;
    }
    /* A class statement gives its type a cyclic-GC header and a dealloc, free and traverse that go with
     * it, whether it adds fields or not. This one adds none and has no instances yet, so it becomes what
     * Operand is. */
    type->tp_flags &= ~Py_TPFLAGS_HAVE_GC;
    type->tp_traverse = NULL;
    type->tp_clear = NULL;
    type->tp_free = PyObject_Free;
    type->tp_dealloc = operand_dealloc;
    type->tp_vectorcall = value_vectorcall;
    PyType_Modified(type);
    while (layer.free_objects != NULL) { /* of the type before, where engine.py is loaded again */
        operand *const o = layer.free_objects;
        layer.free_objects = (operand *)o->dict;
        tape_free_slot(layer.tape, o->slot);
        Py_TYPE(o)->tp_free((PyObject *)o);
        Py_DECREF(layer.value_type);
    }
    layer.free_count = 0;
    layer.value_type = (PyTypeObject *)Py_NewRef(type); /* the one before may have instances: it stays, as do the others */
    layer.notes = Py_NewRef(notes);
    layer.fail = Py_NewRef(fail_fn);
    layer.reject = Py_NewRef(reject_fn);
    layer.unknown = Py_NewRef(unknown_fn);
    layer.leave = Py_NewRef(leave_fn);
    layer.refuse_operand = Py_NewRef(refuse_fn);
    layer.as_number = Py_NewRef(as_number_fn);
    layer.plain_numbers = Py_NewRef(plain);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"_adopt", adopt, METH_VARARGS, "Makes results of this subclass of Operand."},
    {"_present_scope", present_scope, METH_NOARGS, "The number of the thread's scope."},
    {"_enter_scope", enter_scope, METH_O, "From now on, what the thread records is in the scope of this number."},
    {"_active_scopes", active_scopes, METH_NOARGS, "Of the calls of _call_in_scopes under way."},
    {"_call_in_scopes", (PyCFunction)(void (*)(void))call_in_scopes, METH_FASTCALL, "See csrc/operand.c."},
    {"dot", (PyCFunction)(void (*)(void))dot, METH_FASTCALL,
     "dot(ws, xs, b=0.0): b + ws[0]*xs[0] + ws[1]*xs[1] + ..., from left to right, recorded by one call.\n\n"
     "ws and xs are sequences of one length, of Values and numbers. Every product and sum is a node.\n"
     "Raises ValueError if the lengths differ, TypeError for what is no number; then nothing is recorded."},
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

static PyType_Slot slots[] = {
    {Py_tp_dealloc, operand_dealloc}, {Py_tp_new, operand_new},      {Py_tp_init, operand_init},
    {Py_tp_methods, methods},         {Py_tp_getset, attributes},    {Py_tp_members, members},
    {Py_tp_getattro, get_attribute}, {Py_tp_setattro, set_attribute},  {Py_tp_richcompare, slot_compare}, {Py_tp_hash, slot_hash},      {Py_nb_add, slot_add},
    {Py_nb_subtract, slot_sub},       {Py_nb_multiply, slot_mul},    {Py_nb_true_divide, slot_div},
    {Py_nb_power, slot_pow},          {Py_nb_negative, slot_neg},    {Py_nb_absolute, slot_abs},
    {Py_nb_positive, slot_pos},       {Py_nb_remainder, slot_mod},  {Py_nb_float, slot_float},     {Py_nb_int, slot_int},
    {Py_nb_bool, slot_bool},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "pygrad._pgr.Operand",
    .basicsize = sizeof(operand),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = slots,
};

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

/* An exception can't pass through cffi's calls. */
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

/* Whether Ctrl-C waits for its handler, which does not run yet: it is put back. */
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
    layer.tape = pgr_default_tape();
    if (layer.tape == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    pgr_tape_use_gil(layer.tape);
    layer.tape->collector = collect;
    pgr_tape_on_custom(layer.tape, run_custom, NULL);
    PyObject *const module = PyImport_ImportModule("pygrad._pgr");
    if (module == NULL)
        return -1;
    int result = -1;
    layer.operand_type = (PyTypeObject *)PyType_FromSpec(&spec);
    layer.value_type = layer.operand_type;
    if (pgr__make_graph_names() && pgr__make_method_type() && layer.operand_type != NULL &&
        PyObject_SetAttrString(module, "Operand", (PyObject *)layer.operand_type) == 0 &&
        add_functions(module, functions) == 0 && add_functions(module, pgr__program_methods) == 0)
        result = 0;
    Py_DECREF(module);
    return result;
}

int pgr_install_operand_type(void)
{
    const PyGILState_STATE state = PyGILState_Ensure();
    const int result = layer.operand_type != NULL ? 0 : install();
    if (result < 0)
        PyErr_WriteUnraisable(NULL);
    PyGILState_Release(state);
    return result;
}
