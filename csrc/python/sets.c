/* sets.c: see sets.h. */
#include "python/sets.h"

uint64_t pgr__settled;

/* Changed sets whose objects are gone. */
static struct {
    pgr__orphan *all;
    size_t count, capacity;
} orphans;

bool pgr__leave_orphan(pgr_handle node, PyObject *prev)
{
    if (orphans.count == orphans.capacity) {
        pgr__orphan *const all = pgr__double(orphans.all, &orphans.capacity, sizeof *all);
        if (all == NULL)
            return false;
        orphans.all = all;
    }
    orphans.all[orphans.count++] = (pgr__orphan){node, prev};
    return true;
}

bool pgr__take_orphan(pgr__orphan *out)
{
    if (orphans.count == 0)
        return false;
    *out = orphans.all[--orphans.count];
    return true;
}

void pgr__drop_dead_orphans(void)
{
    for (size_t i = orphans.count; i-- > 0;)
        if (i < orphans.count && tape_id_of(pgr__layer.tape, orphans.all[i].node) == 0) {
            PyObject *const prev = orphans.all[i].prev;
            orphans.all[i] = orphans.all[--orphans.count];
            pgr__drop_prev(prev); /* may run code, and add more */
        }
}

/* The objects that have a prev. */
static struct {
    object **all;
    uint32_t count;
    size_t capacity;
    uint32_t doubtful; /* the first so many: every look must see them */
} walked;

/* Whether a prev reports its changes. */
static bool is_telling(PyObject *prev) { return Py_TYPE(prev) == pgr__layer.set_type; }

static bool is_strange(PyObject *prev) { return !is_telling(prev) && (PySet_Check(prev) || PyList_Check(prev)); }

bool pgr__may_have_changed(object *o)
{
    return o->walked < walked.doubtful || (is_telling(o->prev) && pgr__layer.changes != pgr__settled);
}

bool pgr__are_settled(void)
{
    return pgr__layer.changes == pgr__settled && walked.doubtful == 0 && orphans.count == 0;
}

/* Emptied sets for reuse: making a set takes twice as long as filling it. */
enum { SPARE_AT_MOST = 1024 };
static PyObject *spare[SPARE_AT_MOST];
static int spare_count;

/* Sets still to be cleared, one after another, since clearing a long chain would recurse. */
static struct {
    PyObject **all;
    size_t count, capacity;
    bool under_way;
} dropped;

/* Untracked: Python's cyclic collector can't see the Values in these sets anyway. */
PyObject *pgr__take_set(void)
{
    if (spare_count > 0)
        return spare[--spare_count];
    PyObject *const none = PyTuple_New(0);
    PyObject *const set = none == NULL ? NULL : pgr__layer.set_type->tp_new(pgr__layer.set_type, none, NULL);
    Py_XDECREF(none);
    if (set != NULL)
        PyObject_GC_UnTrack(set);
    return set;
}

static void clear_set(PyObject *set)
{
    PySet_Clear(set);
    if (spare_count < SPARE_AT_MOST && Py_REFCNT(set) == 1)
        spare[spare_count++] = set;
    else
        Py_DECREF(set);
}

void pgr__drop_prev(PyObject *prev)
{
    if (!is_telling(prev) || Py_REFCNT(prev) != 1) {
        Py_DECREF(prev);
        return;
    }
    if (dropped.under_way) {
        if (dropped.count == dropped.capacity) {
            PyObject **const all = pgr__double(dropped.all, &dropped.capacity, sizeof *all);
            if (all == NULL) {
                Py_DECREF(prev); /* may recurse as deep as Python lets containers */
                return;
            }
            dropped.all = all;
        }
        dropped.all[dropped.count++] = prev;
        return;
    }
    dropped.under_way = true;
    clear_set(prev);
    while (dropped.count > 0)
        clear_set(dropped.all[--dropped.count]);
    dropped.under_way = false;
}

static bool note_walked(object *o)
{
    if (walked.count == walked.capacity) {
        object **const all = pgr__double(walked.all, &walked.capacity, sizeof *all);
        if (all == NULL)
            return false;
        walked.all = all;
    }
    o->walked = walked.count;
    walked.all[walked.count++] = o;
    return true;
}

static void put(uint32_t i, object *o)
{
    walked.all[i] = o;
    o->walked = i;
}

static void swap(object *o, uint32_t i)
{
    object *const other = walked.all[i];
    put(o->walked, other);
    put(i, o);
}

static void set_doubtful(object *o, bool is_doubtful)
{
    if (is_doubtful && o->walked >= walked.doubtful)
        swap(o, walked.doubtful++);
    else if (!is_doubtful && o->walked < walked.doubtful)
        swap(o, --walked.doubtful);
}

void pgr__doubt(object *o, bool is_left) { set_doubtful(o, is_left || is_strange(o->prev)); }

uint32_t pgr__doubtful(void) { return walked.doubtful; }

bool pgr__keep_prev(object *o, PyObject *prev)
{
    PyObject *const before = o->prev;
    if (before == NULL && !note_walked(o)) {
        Py_DECREF(prev);
        PyErr_NoMemory();
        return false;
    }
    o->prev = prev;
    pgr__doubt(o, false);
    if (before != NULL)
        pgr__drop_prev(before);
    return true;
}

PyObject *pgr__take_prev(object *o)
{
    PyObject *const prev = o->prev;
    o->prev = NULL;
    set_doubtful(o, false);
    swap(o, --walked.count);
    return prev;
}

object *pgr__walked(uint32_t i) { return i < walked.count ? walked.all[i] : NULL; }
