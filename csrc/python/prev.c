/* prev.c: `_prev`: a Value's operands as a set, as in micrograd, which the program may change.
 *
 * The set is made when it is first read, and kept with its objects: so each walk meets the same objects, and a second
 * walk only reads attributes. The program may add to the set and take from it; before anything reads operands, they are
 * made equal to the set (`settle`). A node whose operands have changed is a custom one, whose step goes to the operands
 * that it was recorded with, as in micrograd. */
#include "python/prev.h"

#include "python/children.h"
#include "python/object.h"
#include "python/sets.h"
#include "python/symbol.h"

#include <stdlib.h>

#define tape  (pgr__layer.tape)
#define names pgr__names

/* ---- The set, kept --------------------------------------------------------------------------- */

PGR_NOINLINE static PyObject *make_prev(PyObject *self)
{
    object *const o = (object *)self;
    PyObject *const set = pgr__take_set();
    if (set == NULL)
        return NULL;
    if (!pgr__each_operand(self, false, pgr__into_set, set)) {
        Py_DECREF(set);
        return NULL;
    }
    if (o->prev != NULL) { /* code that ran meanwhile has made one */
        Py_DECREF(set);
        return Py_NewRef(o->prev);
    }
    return pgr__keep_prev(o, set) ? Py_NewRef(set) : NULL;
}

PyObject *pgr__get_prev(PyObject *self, void *unused)
{
    (void)unused;
    PyObject *const prev = ((object *)self)->prev;
    return prev != NULL ? Py_NewRef(prev) : make_prev(self);
}

/* ---- The set, changed ------------------------------------------------------------------------ */

static int by_value(const void *p, const void *q)
{
    const uintptr_t a = (uintptr_t)*(void *const *)p, b = (uintptr_t)*(void *const *)q;
    return (a > b) - (a < b);
}

/* The number of different objects among n, which it sorts. */
static Py_ssize_t distinct(PyObject **values, Py_ssize_t n)
{
    Py_ssize_t count = n > 0;
    qsort(values, (size_t)n, sizeof *values, by_value);
    for (Py_ssize_t i = 1; i < n; i++)
        count += values[i] != values[i - 1];
    return count;
}

/* Whether `prev` holds the node's operands and nothing else. Runs no code; 0 when out of memory. */
bool pgr__agrees(const object *o)
{
    const pgr_id id = tape->slots[o->slot].id;
    const bool is_set = PyAnySet_Check(o->prev);
    if (id == 0 || !(is_set || PyList_Check(o->prev)))
        return true; /* tuples don't change */
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
        same = values[at] != NULL;
        if (same)
            same = is_set ? PySet_Contains(o->prev, values[at]) > 0 : PyList_GET_ITEM(o->prev, at) == values[at];
    }
    if (same && is_set)
        same = PySet_GET_SIZE(o->prev) == distinct(values, n);
    if (values != few)
        PyMem_Free(values);
    return same;
}

/* What a node was before it became a custom one: its symbol, and its step: (op, operands). */
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
    if (!is_operation(op))
        return true;
    p->symbol = pgr__get_op(self, NULL);
    PyObject *const list = p->symbol == NULL ? NULL : Py_BuildValue("[i]", op);
    if (list != NULL && pgr__each_operand(self, true, pgr__into_list, list))
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
    if (dict == NULL || PyDict_SetItem(dict, names._op, p->symbol) < 0)
        return -1;
    return PyDict_SetItem(dict, names._pygrad_step, p->step);
}

/* See pgr__set_operands. */
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
    if (status != PGR_OK)
        pgr__raise(status);
    return status == PGR_OK ? 0 : -1;
}

int pgr__set_operands(PyObject *self, PyObject *tuple) { return raise(set_operands(self, tuple)); }

/* An iterable's Values as a tuple; NULL with an exception. */
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
    if (value == Py_None) { /* drops the graph */
        PyObject *const none = pgr__take_set();
        const int failed = none == NULL ? -1 : pgr__set_prev(self, none, NULL);
        Py_XDECREF(none);
        return failed;
    }
    PyObject *const tuple = values_of(value);
    if (tuple == NULL)
        return -1;
    pgr_status status = set_operands(self, tuple);
    if (status != PGR_OK && status != RAISED && !pgr__are_settled()) /* a set changed before may have cut the circle */
        status = settle_all(self) < 0 ? RAISED : set_operands(self, tuple);
    int result = raise(status);
    if (result == 0) {
        const bool is_kept = PyAnySet_Check(value) || PyList_Check(value);
        result = pgr__keep_prev((object *)self, Py_NewRef(is_kept ? value : tuple)) ? 0 : -1;
    }
    Py_DECREF(tuple);
    return result;
}

static pgr_status settle(object *o)
{
    if (pgr__agrees(o))
        return PGR_OK;
    PyObject *const tuple = values_of(o->prev);
    const pgr_status status = tuple == NULL ? RAISED : set_operands((PyObject *)o, tuple);
    Py_XDECREF(tuple);
    return status;
}

/* Makes new objects for changed sets whose objects are gone, and returns them in a list. NULL with an exception. */
static PyObject *adopt_orphans(void)
{
    PyObject *list = PyList_New(0);
    for (pgr__orphan orphan; list != NULL && pgr__take_orphan(&orphan);) {
        const int64_t h = pgr_h_hold(tape, orphan.node);
        PyObject *const o = h < 0 ? NULL : pgr__object_of((uint32_t)h);
        if (h >= 0 && o == NULL)
            Py_CLEAR(list);
        if (o == NULL || ((object *)o)->prev != NULL)
            pgr__drop_prev(orphan.prev);
        else if (!pgr__keep_prev((object *)o, orphan.prev) || PyList_Append(list, o) < 0)
            Py_CLEAR(list);
        else
            pgr__doubt((object *)o, true);
        Py_XDECREF(o);
    }
    return list;
}

/* One look at all sets, or at the doubtful ones. A set that is no longer doubtful gives its place to another. An error
 * that concerns `root` is raised in the last look: a circle that one set seems to close may go with the change of
 * another, which comes later. Returns how many sets could not be settled; -1 with an exception. */
static int64_t settle_each(PyObject *root, bool all, bool is_last)
{
    int64_t left = 0;
    object *o;
    for (uint32_t i = 0; (all || i < pgr__doubtful()) && (o = pgr__walked(i)) != NULL; i += pgr__walked(i) == o) {
        Py_INCREF(o);
        const pgr_status status = settle(o);
        const bool concerns = status == PGR_OK || live_node((PyObject *)o) == NULL ||
                              pgr__is_made_from(tape, id_of(root), id_of((PyObject *)o));
        if (o->prev != NULL)
            pgr__doubt(o, status != PGR_OK);
        Py_DECREF(o);
        if (status == PGR_OK)
            continue;
        left++;
        if (is_last && concerns)
            return raise(status);
        PyErr_Clear(); /* another graph's, which will report it */
    }
    return left;
}

PGR_NOINLINE static int settle_all(PyObject *root)
{
    const uint64_t changes = pgr__layer.changes;
    PyObject *const adopted = adopt_orphans();
    if (adopted == NULL)
        return -1;
    const bool all = changes != pgr__settled;
    int64_t left = settle_each(root, all, false);
    for (int64_t before = INT64_MAX; left > 0 && left < before;) {
        before = left;
        left = settle_each(root, all, false);
    }
    pgr__settled = changes; /* those that are left are doubtful */
    if (left > 0)
        left = settle_each(root, all, true);
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
    if (list != NULL && !pgr__each_operand(self, false, pgr__into_list, list))
        Py_CLEAR(list);
    return list;
}
