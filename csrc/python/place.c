/* place.c: what programs read and change of a Value's place in the graph: `_prev`, `_op`, `_backward`.
 *
 * `_prev` is a set, as in micrograd, made when it is first asked for and kept from then on with the objects in it: so a walk
 * meets the same objects every time, and the second one reads attributes only. The set is the program's: what is added to
 * it or taken from it becomes the node's operands before anything reads those (`settle`). A node whose operands are
 * changed is a custom one from then on, whose step goes to the operands that it was recorded with, as in micrograd. */
#include "python/place.h"

#include "python/object.h"
#include "python/sets.h"

#include <math.h>
#include <stdlib.h>

#define tape  (pgr__layer.tape)
#define names pgr__names

static PyObject *symbols[PGR_OP_COUNT]; /* interned */
static PyObject *steps[PGR_OP_COUNT];   /* functions of a Value: its step as that operation */

/* The id of a Value, 0 with an exception if its node is gone. */
static inline pgr_id live_id(PyObject *o)
{
    const pgr_id id = id_of(o);
    if (PGR_UNLIKELY(id == 0))
        pgr__fail(PGR_ERR_HANDLE, PGR_OP_LEAF, 0.0, 0.0);
    return id;
}

static bool is_param(int op) { return pgr_op_row(op)->kind == PGR_KIND_PARAM; }
static bool is_leaf(int op) { return op < PGR_OP_FIRST && op != PGR_OP_CUSTOM; }

/* What hangs on a Value by that name, borrowed; NULL, perhaps with an exception. */
static inline PyObject *own(PyObject *self, PyObject *name)
{
    PyObject *const dict = ((operand *)self)->dict;
    return dict == NULL ? NULL : PyDict_GetItemWithError(dict, name);
}

/* ---- The operands, as objects ---------------------------------------------------------------- */

/* New holds on a node's operands, in order, `few` or more of them: `*slots` is few or to be freed. Runs no code. */
static pgr_status hold_operands(pgr_id id, bool with_param, uint32_t *few, size_t capacity, uint32_t **slots, size_t *count)
{
    const operand_walk start = {id, !with_param && is_param(tape->nodes[id].op)};
    operand_walk walk = start;
    size_t n = 0;
    while (operand_next(tape->nodes, &walk) != 0)
        n++;
    *count = 0;
    *slots = n <= capacity ? few : PyMem_Malloc(n * sizeof **slots);
    if (*slots == NULL)
        return PGR_ERR_NOMEM;
    walk = start; /* they come last to first */
    for (size_t at = n; at > 0;) {
        const int64_t h = pgr_hold(tape, operand_next(tape->nodes, &walk));
        if (h < 0) {
            for (; at < n; at++)
                tape_release(tape, (*slots)[at], false);
            if (*slots != few)
                PyMem_Free(*slots);
            return (pgr_status)-h;
        }
        (*slots)[--at] = (uint32_t)h;
    }
    *count = n;
    return PGR_OK;
}

/* The same for few operands whose objects can be had without running code: their number, or -1. */
static int few_operands(pgr_id id, PyObject *values[2])
{
    const pgr_node node = tape->nodes[id];
    const pgr_id ids[2] = {node.lhs, is_param(node.op) ? 0 : node.rhs};
    int n = 0;
    if (tape->nodes[node.lhs].op == PGR_OP_PAIR)
        return -1;
    for (int i = 0; i < 2; i++) {
        if (ids[i] == 0)
            continue;
        values[n] = pgr__object_at(ids[i]);
        if (values[n] == NULL) {
            if (n > 0)
                Py_DECREF(values[0]);
            return -1;
        }
        n++;
    }
    return n;
}

/* Gives the objects of a node's operands to `take`, in order. False with an exception. */
static bool each_operand(PyObject *self, bool with_param, bool (*take)(PyObject *into, PyObject *value), PyObject *into)
{
    uint32_t few[4], *slots = few;
    size_t n = 0;
    const pgr_id id = live_id(self);
    if (id == 0)
        return false;
    PyObject *values[2];
    const int quick = with_param ? -1 : few_operands(id, values);
    if (quick >= 0) {
        bool ok = true;
        for (int i = 0; i < quick; i++) {
            if (ok)
                ok = take(into, values[i]);
            else
                Py_DECREF(values[i]);
        }
        return ok;
    }
    const pgr_status status = hold_operands(id, with_param, few, sizeof few / sizeof *few, &slots, &n);
    if (status != PGR_OK) {
        pgr__fail(status, PGR_OP_LEAF, 0.0, 0.0);
        return false;
    }
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        if (!ok) {
            tape_release(tape, slots[i], false);
            continue;
        }
        PyObject *const value = pgr__object_of(slots[i]);
        ok = value != NULL && take(into, value);
    }
    if (slots != few)
        PyMem_Free(slots);
    return ok;
}

static bool into_set(PyObject *set, PyObject *value)
{
    const int failed = PySet_Add(set, value);
    Py_DECREF(value);
    return !failed;
}

static bool into_list(PyObject *list, PyObject *value)
{
    const int failed = PyList_Append(list, value);
    Py_DECREF(value);
    return !failed;
}

/* ---- The set, kept --------------------------------------------------------------------------- */

PGR_NOINLINE static PyObject *make_prev(PyObject *self)
{
    operand *const o = (operand *)self;
    PyObject *const set = pgr__take_set();
    if (set == NULL)
        return NULL;
    if (!each_operand(self, false, into_set, set)) {
        Py_DECREF(set);
        return NULL;
    }
    if (o->prev != NULL) { /* code that ran meanwhile has asked, too */
        Py_DECREF(set);
        return Py_NewRef(o->prev);
    }
    return pgr__keep_prev(o, set) ? Py_NewRef(set) : NULL;
}

PyObject *pgr__get_prev(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *const prev = ((operand *)self)->prev;
    return prev != NULL ? Py_NewRef(prev) : make_prev(self);
}

/* ---- The set, changed ------------------------------------------------------------------------ */

static int by_value(const void *p, const void *q)
{
    const uintptr_t a = (uintptr_t)*(void *const *)p, b = (uintptr_t)*(void *const *)q;
    return (a > b) - (a < b);
}

/* How many different ones there are among n objects, which it sorts. */
static Py_ssize_t distinct(PyObject **values, Py_ssize_t n)
{
    Py_ssize_t count = n > 0;
    qsort(values, (size_t)n, sizeof *values, by_value);
    for (Py_ssize_t i = 1; i < n; i++)
        count += values[i] != values[i - 1];
    return count;
}

/* Whether `prev` holds the node's operands and nothing else. Runs no code; 0 when out of memory. */
bool pgr__agrees(const operand *o)
{
    const pgr_id id = tape->slots[o->slot].id;
    const bool is_set = PyAnySet_Check(o->prev);
    if (id == 0 || !(is_set || PyList_Check(o->prev)))
        return true; /* the others can't change */
    const operand_walk start = {id, is_param(tape->nodes[id].op)};
    operand_walk walk = start;
    Py_ssize_t n = 0;
    while (operand_next(tape->nodes, &walk) != 0)
        n++;
    PyObject *few[4], **values = n <= 4 ? few : PyMem_Malloc((size_t)n * sizeof *values);
    bool same = values != NULL && (is_set || PyList_GET_SIZE(o->prev) == n);
    walk = start;
    for (Py_ssize_t at = n; same && at-- > 0;) { /* they come last to first */
        const uint32_t slot = tape->nodes[operand_next(tape->nodes, &walk)].slot;
        values[at] = slot == 0 ? NULL : tape->slots[slot].owner;
        same = values[at] != NULL && (is_set ? PySet_Contains(o->prev, values[at]) > 0 : PyList_GET_ITEM(o->prev, at) == values[at]);
    }
    if (same && is_set)
        same = PySet_GET_SIZE(o->prev) == distinct(values, n);
    if (values != few)
        PyMem_Free(values);
    return same;
}

/* Before a node is made a custom one: what its step was, (op, its operands), and its symbol. */
typedef struct {
    PyObject *symbol, *step;
} past;

static void forget(past *p)
{
    Py_XDECREF(p->symbol);
    Py_XDECREF(p->step);
}

/* False with an exception, and nothing to forget. */
static bool remember(PyObject *self, past *p)
{
    const int op = tape->nodes[id_of(self)].op;
    *p = (past){NULL, NULL};
    if (op == PGR_OP_CUSTOM || is_leaf(op))
        return true;
    p->symbol = pgr__get_op(self, NULL);
    PyObject *const list = p->symbol == NULL ? NULL : Py_BuildValue("[i]", op);
    if (list != NULL && each_operand(self, true, into_list, list))
        p->step = PyList_AsTuple(list);
    Py_XDECREF(list);
    if (p->step != NULL)
        return true;
    forget(p);
    return false;
}

static int write_down(PyObject *self, const past *p)
{
    if (p->symbol == NULL)
        return 0;
    PyObject *const dict = own_dict(self);
    return dict == NULL || PyDict_SetItem(dict, names._op, p->symbol) < 0 || PyDict_SetItem(dict, names._pygrad_step, p->step) < 0 ? -1 : 0;
}

/* Makes the Values of a tuple a node's operands. On failure nothing has changed; RAISED: with an exception. */
static const pgr_status RAISED = PGR_ERR_CUSTOM;
static pgr_status set_operands(PyObject *self, PyObject *tuple)
{
    const Py_ssize_t n = PyTuple_GET_SIZE(tuple);
    past p;
    if (live_id(self) == 0 || !remember(self, &p))
        return RAISED;
    pgr_handle *const handles = PyMem_Malloc(((size_t)n + 1) * sizeof *handles);
    pgr_status status = handles == NULL ? PGR_ERR_NOMEM : PGR_OK;
    for (Py_ssize_t i = 0; status == PGR_OK && i < n; i++)
        handles[i] = handle_of(PyTuple_GET_ITEM(tuple, i));
    if (status == PGR_OK)
        status = pgr_h_set_operands(tape, handle_of(self), (size_t)n, handles);
    PyMem_Free(handles);
    if (status == PGR_OK && write_down(self, &p) < 0)
        status = RAISED;
    forget(&p);
    return status;
}

static int raise(pgr_status status)
{
    if (status != PGR_OK && status != RAISED)
        pgr__fail(status, PGR_OP_LEAF, 0.0, 0.0);
    return status == PGR_OK ? 0 : -1;
}

/* The tuple of an iterable's Values; NULL with an exception. */
static PyObject *values_of(PyObject *iterable)
{
    PyObject *const tuple = PySequence_Tuple(iterable);
    if (tuple == NULL) {
        if (PyErr_ExceptionMatches(PyExc_TypeError)) {
            PyErr_Clear();
            pgr__reject("_prev", iterable);
        }
        return NULL;
    }
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(tuple); i++)
        if (!pgr__is_operand(PyTuple_GET_ITEM(tuple, i))) {
            pgr__reject("_prev", PyTuple_GET_ITEM(tuple, i));
            Py_DECREF(tuple);
            return NULL;
        }
    return tuple;
}

static int settle_all(PyObject *root);

int pgr__set_prev(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    if (value == NULL) {
        PyErr_SetString(PyExc_AttributeError, "a Value's _prev can't be deleted; _prev = set() cuts the graph");
        return -1;
    }
    if (value == Py_None) { /* to be rid of a graph */
        PyObject *const none = pgr__take_set();
        const int failed = none == NULL ? -1 : pgr__set_prev(self, none, NULL);
        Py_XDECREF(none);
        return failed;
    }
    PyObject *const tuple = values_of(value);
    if (tuple == NULL)
        return -1;
    pgr_status status = set_operands(self, tuple);
    if (status != PGR_OK && status != RAISED && !pgr__are_settled()) /* a set that was changed before may have cut the circle */
        status = settle_all(self) < 0 ? RAISED : set_operands(self, tuple);
    int result = raise(status);
    if (result == 0) {
        const bool is_kept = PyAnySet_Check(value) || PyList_Check(value);
        result = pgr__keep_prev((operand *)self, Py_NewRef(is_kept ? value : tuple)) ? 0 : -1;
    }
    Py_DECREF(tuple);
    return result;
}

static pgr_status settle(operand *o)
{
    if (pgr__agrees(o))
        return PGR_OK;
    PyObject *const tuple = values_of(o->prev);
    const pgr_status status = tuple == NULL ? RAISED : set_operands((PyObject *)o, tuple);
    Py_XDECREF(tuple);
    return status;
}

/* Gives changed sets whose objects have gone to new ones, which are kept in a list. NULL with an exception. */
static PyObject *adopt_orphans(void)
{
    PyObject *list = PyList_New(0);
    for (pgr__orphan orphan; list != NULL && pgr__take_orphan(&orphan);) {
        const int64_t h = pgr_h_hold(tape, orphan.node);
        PyObject *const o = h < 0 ? NULL : pgr__object_of((uint32_t)h);
        if (h >= 0 && o == NULL)
            Py_CLEAR(list);
        if (o == NULL || ((operand *)o)->prev != NULL)
            pgr__drop_prev(orphan.prev);
        else if (!pgr__keep_prev((operand *)o, orphan.prev) || PyList_Append(list, o) < 0)
            Py_CLEAR(list);
        Py_XDECREF(o);
    }
    return list;
}

/* One look at every changed set. An error that concerns `root` is raised in the last look: one set may be told of a circle
 * that goes with the change of another, which comes later. Counts the sets that could not be settled; -1 with an exception. */
static int64_t settle_each(PyObject *root, bool is_last)
{
    int64_t left = 0;
    operand *o;
    for (uint32_t i = 0; (o = pgr__walked(i)) != NULL; i++) {
        Py_INCREF(o);
        const pgr_status status = settle(o);
        const bool concerns = status == PGR_OK || live_node((PyObject *)o) == NULL || pgr__is_made_from(tape, id_of(root), id_of((PyObject *)o));
        Py_DECREF(o);
        if (status == PGR_OK)
            continue;
        left++;
        if (is_last && concerns)
            return raise(status);
        PyErr_Clear(); /* another graph's, which will be told */
    }
    return left;
}

PGR_NOINLINE static int settle_all(PyObject *root)
{
    const uint64_t changes = pgr__layer.changes;
    PyObject *const adopted = adopt_orphans();
    if (adopted == NULL)
        return -1;
    int64_t left = settle_each(root, false);
    for (int64_t before = INT64_MAX; left > 0 && left < before;) {
        before = left;
        left = settle_each(root, false);
    }
    if (left > 0)
        left = settle_each(root, true);
    if (left == 0)
        pgr__settled = changes;
    Py_DECREF(adopted);
    return left < 0 ? -1 : 0;
}

int pgr__settle_below(PyObject *root) { return pgr__are_settled() ? 0 : settle_all(root); }

PyObject *pgr__operands(PyObject *self, PyObject *unused)
{
    (void)unused;
    if (pgr__settle_below(self) < 0)
        return NULL;
    PyObject *list = PyList_New(0);
    if (list != NULL && !each_operand(self, false, into_list, list))
        Py_CLEAR(list);
    return list;
}

/* ---- _op ------------------------------------------------------------------------------------- */

PyObject *pgr__get_op(PyObject *self, void *unused)
{
    (void)unused;
    const pgr_id id = live_id(self);
    PyObject *const symbol = id == 0 ? NULL : own(self, names._op);
    if (symbol != NULL || PyErr_Occurred())
        return Py_XNewRef(symbol);
    const pgr_node *const node = &tape->nodes[id];
    if (node->op != PGR_OP_POWC)
        return Py_NewRef(symbols[node->op]);
    const double exponent = tape->nodes[node->rhs].data;
    if (fabs(exponent) < 1e15 && exponent == floor(exponent))
        return PyUnicode_FromFormat("**%lld", (long long)exponent);
    PyObject *const number = PyFloat_FromDouble(exponent);
    PyObject *const text = number == NULL ? NULL : PyUnicode_FromFormat("**%R", number);
    Py_XDECREF(number);
    return text;
}

/* Sets what hangs on a Value by that name, or deletes it. */
static int set_own(PyObject *self, PyObject *name, PyObject *value)
{
    PyObject *const dict = own_dict(self);
    if (dict == NULL)
        return -1;
    if (value != NULL)
        return PyDict_SetItem(dict, name, value);
    if (PyDict_DelItem(dict, name) == 0)
        return 0;
    PyErr_SetObject(PyExc_AttributeError, name);
    return -1;
}

int pgr__set_op(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    return set_own(self, names._op, value);
}

/* ---- _backward ------------------------------------------------------------------------------- */

/* What write_down has left with a node, borrowed; NULL, perhaps with an exception, if there is nothing such. */
static PyObject *past_of(PyObject *self)
{
    PyObject *const past = own(self, names._pygrad_step);
    if (past == NULL || !PyTuple_CheckExact(past) || PyTuple_GET_SIZE(past) < 2 || PyTuple_GET_SIZE(past) > 3)
        return NULL;
    int overflow;
    const long op = PyLong_CheckExact(PyTuple_GET_ITEM(past, 0)) ? PyLong_AsLongAndOverflow(PyTuple_GET_ITEM(past, 0), &overflow) : 0;
    bool is_past = op >= PGR_OP_FIRST && op < PGR_OP_COUNT;
    for (Py_ssize_t i = 1; i < PyTuple_GET_SIZE(past); i++)
        is_past = is_past && pgr__is_operand(PyTuple_GET_ITEM(past, i));
    return is_past ? past : NULL;
}

/* One step as a node's own operation, into the operands that it was recorded with: `past` is (op, operands). */
static int step_of_past(PyObject *past, PyObject *self)
{
    const Py_ssize_t n = PyTuple_GET_SIZE(past);
    const int op = (int)PyLong_AsLong(PyTuple_GET_ITEM(past, 0));
    const pgr_id lhs = n > 1 ? live_id(PyTuple_GET_ITEM(past, 1)) : 0;
    const pgr_id rhs = n > 2 ? live_id(PyTuple_GET_ITEM(past, 2)) : 0;
    if (PyErr_Occurred())
        return -1;
    pgr_push_into(tape, id_of(self), op, lhs, rhs);
    return 0;
}

/* What each operand gets is the node's grad times the number that the program has given for it; what there is more of, of
 * operands or numbers, is left out. */
static int step_by_numbers(PyObject *grads, PyObject *self)
{
    const pgr_id id = id_of(self);
    const double g = tape->nodes[id].grad;
    const operand_walk start = {id, false};
    operand_walk walk = start;
    Py_ssize_t at = 0;
    while (operand_next(tape->nodes, &walk) != 0)
        at++;
    walk = start;
    for (pgr_id i; (i = operand_next(tape->nodes, &walk)) != 0;) /* they come last to first */
        if (--at < PyTuple_GET_SIZE(grads))
            tape->nodes[i].grad += g * PyFloat_AsDouble(PyTuple_GET_ITEM(grads, at));
    return PyErr_Occurred() ? -1 : 0;
}

int pgr__custom_step(PyObject *value)
{
    PyObject *const custom = Py_XNewRef(own(value, names._custom));
    if (custom != NULL) {
        PyObject *const result = PyObject_CallMethodObjArgs(custom, names.push, value, NULL);
        Py_DECREF(custom);
        Py_XDECREF(result);
        return result == NULL ? -1 : 0;
    }
    PyObject *const past = PyErr_Occurred() ? NULL : past_of(value);
    if (past != NULL)
        return step_of_past(past, value);
    PyObject *const grads = PyErr_Occurred() ? NULL : own(value, names._local_grads);
    return grads != NULL && PyTuple_CheckExact(grads) ? step_by_numbers(grads, value) : PyErr_Occurred() ? -1 : 0;
}

/* steps[op]: one step of a Value's node as `op`, which it was when this was asked for. */
static PyObject *step(PyObject *number, PyObject *self)
{
    if (!pgr__is_operand(self))
        return pgr__reject("_backward", self);
    const int op = (int)PyLong_AsLong(number);
    const pgr_id id = live_id(self);
    if (id == 0)
        return NULL;
    if ((tape->nodes[id].flags & TAPE_UNKNOWN) != 0)
        return pgr__fail(PGR_ERR_UNKNOWN, op, 0.0, 0.0);
    if (op == PGR_OP_CUSTOM || past_of(self) != NULL) {
        if (!is_leaf(op) && pgr__custom_step(self) < 0)
            return NULL;
    } else if (!is_leaf(op)) {
        pgr_push_into(tape, id, op, tape->nodes[id].lhs, tape->nodes[id].rhs);
    }
    if (PyErr_Occurred())
        return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef step_method = {"_backward", step, METH_O, "One step of backward, from a Value to its operands."};

PyObject *pgr__get_backward(PyObject *self, void *unused)
{
    (void)unused;
    const pgr_id id = live_id(self);
    PyObject *const function = id == 0 ? NULL : own(self, names._backward);
    if (function != NULL || PyErr_Occurred())
        return Py_XNewRef(function);
    PyObject **const f = &steps[tape->nodes[id].op];
    if (*f == NULL) {
        PyObject *const number = PyLong_FromLong(tape->nodes[id].op);
        *f = number == NULL ? NULL : PyCFunction_New(&step_method, number);
        Py_XDECREF(number);
    }
    return *f == NULL ? NULL : PyMethod_New(*f, self);
}

static PyObject *do_nothing(PyObject *unused, PyObject *no_arguments)
{
    (void)unused, (void)no_arguments;
    Py_RETURN_NONE;
}

int pgr__set_backward(PyObject *self, PyObject *value, void *unused)
{
    (void)unused;
    static PyMethodDef nothing = {"_backward", do_nothing, METH_NOARGS, "No step."};
    if (value == Py_None) { /* to be rid of a closure */
        PyObject *const none = PyCFunction_New(&nothing, NULL);
        const int failed = none == NULL ? -1 : pgr__set_backward(self, none, NULL);
        Py_XDECREF(none);
        return failed;
    }
    if (value == NULL || !PyCallable_Check(value)) {
        if (value != NULL)
            pgr__reject("_backward", value);
        else
            PyErr_SetString(PyExc_AttributeError, "a Value's _backward can't be deleted");
        return -1;
    }
    const pgr_id id = live_id(self);
    if (id == 0)
        return -1;
    const int op = tape->nodes[id].op;
    if (op != PGR_OP_CUSTOM && !is_leaf(op)) { /* its symbol and its step stay, with the operands that it has now */
        PyObject *const list = PyList_New(0);
        PyObject *const tuple = list != NULL && each_operand(self, false, into_list, list) ? PyList_AsTuple(list) : NULL;
        const int failed = tuple == NULL || raise(set_operands(self, tuple)) < 0;
        Py_XDECREF(list);
        Py_XDECREF(tuple);
        if (failed)
            return -1;
    }
    if (set_own(self, names._backward, value) < 0)
        return -1;
    pgr_node *const node = &tape->nodes[id_of(self)];
    node->op = PGR_OP_CUSTOM;
    tape->has_custom = true;
    return 0;
}

bool pgr__make_symbols(void)
{
    bool ok = true;
    for (int op = 0; op < PGR_OP_COUNT; op++) {
        symbols[op] = PyUnicode_InternFromString(is_leaf(op) || op == PGR_OP_CUSTOM ? "" : pgr_op_row(op)->symbol);
        ok = ok && symbols[op] != NULL;
    }
    return ok;
}
