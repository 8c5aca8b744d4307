/* object.c: objects of nodes: made, freed and found again; and collections, which drop what hung on dead nodes. */
#include "python/object.h"

#include "python/sets.h"
#include "python/ties.h"

/* ---- Objects ------------------------------------------------------------------------------- */

PGR_NOINLINE object *pgr__new_object(void)
{
    pgr_tape *const tape = pgr__layer.tape;
    if (pgr__make_slot(tape) != PGR_OK) {
        PyErr_NoMemory();
        return NULL;
    }
    object *const o = PyObject_New(object, pgr__layer.value_type);
    if (o == NULL)
        return NULL;
    o->weakrefs = NULL;
    o->dict = NULL;
    o->prev = NULL;
    o->slot = tape_reserve_slot(tape);
    tape->slots[o->slot].owner = o;
    return o;
}

/* A new object. Takes over one hold on `slot`, which the caller has. NULL when out of memory. */
static PyObject *make_object(uint32_t slot, PyTypeObject *type)
{
    object *const o = type == pgr__layer.value_type ? PyObject_New(object, type) : (object *)type->tp_alloc(type, 0);
    if (o == NULL)
        return NULL;
    o->slot = slot;
    o->weakrefs = NULL;
    o->dict = NULL;
    o->prev = NULL;
    pgr__layer.tape->slots[slot].owner = o;
    return (PyObject *)o;
}

/* Keeps an object's __dict__ under its node's handle; of a subclass, its class as well. False if there is nothing to
 * keep. */
static bool keep_notes(object *o)
{
    const bool is_own_type = Py_TYPE(o) != pgr__layer.value_type && pgr__layer.tape->slots[o->slot].id != 0;
    if (o->dict == NULL && !is_own_type)
        return false;
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyObject *const dict = own_dict((PyObject *)o);
    o->dict = NULL;
    bool kept = false;
    if (dict != NULL && is_own_type && PyDict_SetItem(dict, pgr__names.__class__, (PyObject *)Py_TYPE(o)) < 0)
        PyErr_Clear();
    if (dict != NULL && PyDict_GET_SIZE(dict) > 0 && pgr__layer.tape->slots[o->slot].id != 0) {
        PyObject *const key = PyLong_FromUnsignedLongLong(handle_of((PyObject *)o));
        kept = key != NULL && PyDict_SetItem(pgr__layer.notes, key, dict) == 0;
        Py_XDECREF(key);
    }
    PyErr_Restore(type, value, traceback);
    if (kept)
        Py_DECREF(dict);
    else
        o->dict = dict; /* the caller drops it after releasing the slot */
    return kept;
}

void pgr__free_object(object *o)
{
    PyObject *const self = (PyObject *)o;
    PyTypeObject *const type = Py_TYPE(self);
    /* The slot first: a weak reference's callback or a destructor may ask for the node's object. */
    const bool kept = keep_notes(o);
    if (o->slot != 0) {
        pgr_tape *const tape = pgr__layer.tape;
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

PyObject *pgr__object_of(uint32_t slot)
{
    pgr_slot *const s = &pgr__layer.tape->slots[slot];
    if (s->owner != NULL) {
        tape_release(pgr__layer.tape, slot, false); /* the owner has a hold of its own */
        return Py_NewRef((PyObject *)s->owner);
    }
    if (!s->is_kept) /* nothing is kept for the node */
        return make_object(slot, pgr__layer.value_type);
    PyObject *const key = PyLong_FromUnsignedLongLong(tape_handle(pgr__layer.tape, slot));
    if (key == NULL)
        return NULL;
    PyObject *const dict = Py_XNewRef(PyDict_GetItemWithError(pgr__layer.notes, key));
    PyObject *const type = dict == NULL ? NULL : Py_XNewRef(PyDict_GetItemWithError(dict, pgr__names.__class__));
    PyObject *const o = make_object(slot, type == NULL ? pgr__layer.value_type : (PyTypeObject *)type);
    if (o != NULL && dict != NULL) {
        ((object *)o)->dict = dict;
        if (PyDict_DelItem(pgr__layer.notes, key) < 0 ||
            (type != NULL && PyDict_DelItem(dict, pgr__names.__class__) < 0))
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
    pgr_tape *const tape = pgr__layer.tape;
    const uint32_t slot = tape->nodes[id].slot;
    pgr_slot *const s = &tape->slots[slot];
    if (slot == 0) {
        object *const o = take_object();
        if (o == NULL) {
            PyErr_Clear();
            return NULL;
        }
        tape->slots[o->slot].id = id;
        tape->slots[o->slot].holds = 1;
        tape->held++;
        tape_name(tape, id, o->slot);
        return (PyObject *)o;
    }
    if (s->owner != NULL)
        return Py_NewRef((PyObject *)s->owner);
    PyObject *const o = s->is_kept ? NULL : make_object(slot, pgr__layer.value_type);
    if (o != NULL && s->holds++ == 0) {
        tape->held++;
        tape->nodes[id].flags |= TAPE_HELD;
    }
    return o;
}

/* ---- Room ---------------------------------------------------------------------------------- */

/* Drops what belonged to dead nodes, with the tape in order, since that may run any code. */
static void drop_dead(void)
{
    pgr_tape *const tape = pgr__layer.tape;
    for (uint32_t slot; (slot = pgr__next_dead(tape)) != 0;) {
        pgr_slot *const s = &tape->slots[slot];
        if (s->holds > 0) { /* its object is kept only by its own attributes: a tie */
            object *const o = s->owner;
            Py_INCREF(o);
            Py_CLEAR(o->dict);
            if (o->prev != NULL)
                pgr__drop_prev(pgr__take_prev(o));
            Py_DECREF(o);
            continue;
        }
        PyObject *const key = PyLong_FromUnsignedLongLong(tape_handle(pgr__layer.tape, slot));
        tape_free_slot(tape, slot);
        if (key == NULL)
            continue;
        PyObject *const dict = Py_XNewRef(PyDict_GetItemWithError(pgr__layer.notes, key));
        if (dict != NULL)
            PyDict_DelItem(pgr__layer.notes, key);
        Py_DECREF(key);
        Py_XDECREF(dict);
    }
}

pgr_status pgr__collect_ties(pgr_tape *tape, bool thorough)
{
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    size_t count = 0;
    pgr_tie *const ties = tape_collects_all(tape, thorough) ? pgr__find_ties(tape, &count) : NULL;
    const pgr_status status = pgr__collect(tape, ties, count, thorough);
    PyMem_Free(ties);
    drop_dead();
    pgr__drop_dead_orphans();
    PyErr_Restore(type, value, traceback);
    return status;
}

PGR_NOINLINE pgr_status pgr__make_ready(size_t k)
{
    if (k >= UINT32_MAX)
        return PGR_ERR_FULL;
    pgr_status status;
    do { /* collecting may run code that uses up the room */
        status = pgr__make_room_by_handle(pgr__layer.tape, (uint32_t)k);
        if (status == PGR_OK)
            status = pgr__make_slot(pgr__layer.tape);
    } while (status == PGR_OK && !tape_has_room(pgr__layer.tape, (uint32_t)k));
    return status;
}

PyObject *pgr__new_leaf(int op, double value)
{
    const pgr_status status = ready(1);
    if (status != PGR_OK)
        return pgr__fail(status, op, value, 0.0);
    return append(op, value, 0, 0);
}
