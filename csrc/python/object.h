/* object.h: objects of nodes, and room for both. Inline: what every operation does. */
#ifndef PGR_INTERNAL_OBJECT_H
#define PGR_INTERNAL_OBJECT_H

#include "python/layer.h"

/* The object of a slot. Takes over one hold, which the caller has. */
PyObject *pgr__object_of(uint32_t slot);

/* The object of a node. Runs no code: NULL without an exception if making it would, or when out of memory. */
PyObject *pgr__object_at(pgr_id id);

/* Frees an object without a prev. */
void pgr__free_object(object *o);

/* The tape's collector: collects with the ties of CPython's objects. */
pgr_status pgr__collect_ties(pgr_tape *tape, bool thorough);

/* Makes room for k nodes and one handle. May run any code. */
pgr_status pgr__make_ready(size_t k);

/* A new object with a slot, which names no node yet. Runs no code. NULL with an exception when out of memory. */
object *pgr__new_object(void); /* where none waits */
PGR_INLINE object *take_object(void)
{
    object *const o = pgr__layer.free_objects;
    if (PGR_UNLIKELY(o == NULL))
        return pgr__new_object();
    pgr__layer.free_objects = (object *)o->dict; /* it has kept its slot, its type, and its reference to the type */
    pgr__layer.free_count--;
#if defined(Py_REF_DEBUG) || defined(Py_TRACE_REFS)
    _Py_NewReference((PyObject *)o);
#else
    Py_SET_REFCNT((PyObject *)o, 1);
#endif
    o->dict = NULL;
    return o;
}

/* The object of the tape's last node; takes it, and `more` nodes before it, back when out of memory. */
static inline PyObject *wrap_new(pgr_id id, uint32_t more)
{
    object *const o = take_object();
    if (o == NULL) {
        pgr__layer.tape->size -= 1 + more;
        return NULL;
    }
    pgr_slot *const s = &pgr__layer.tape->slots[o->slot];
    s->id = id;
    s->holds = 1;
    pgr__layer.tape->held++;
    tape_name(pgr__layer.tape, id, o->slot);
    return (PyObject *)o;
}

/* Records a node and makes its object. The caller has called ready. */
PGR_INLINE PyObject *append(int op, double data, pgr_id lhs, pgr_id rhs)
{
    object *const o = take_object();
    if (o != NULL)
        tape_append_named(pgr__layer.tape, op, data, lhs, rhs, o->slot);
    return (PyObject *)o;
}

/* Makes room for k nodes; take_object sees to a slot. May run any code. */
PGR_INLINE pgr_status ready(uint32_t k)
{
    return tape_has_room(pgr__layer.tape, k) ? PGR_OK : pgr__make_ready(k);
}

enum { FREE_OBJECTS_AT_MOST = 1024 };

/* The usual end of an object, which alone holds its node and has no attributes: it waits, with its slot, for the next
 * node. False, with nothing done, for other objects. */
PGR_INLINE bool set_aside(object *o)
{
    pgr_tape *const tape = pgr__layer.tape;
    pgr_slot *const s = &tape->slots[o->slot];
    const pgr_id id = s->id;
    if (Py_TYPE(o) != pgr__layer.value_type || ((uintptr_t)o->dict | (uintptr_t)o->weakrefs) != 0 || id == 0 ||
        !tape_is_held_once(s) || pgr__layer.free_count >= FREE_OBJECTS_AT_MOST)
        return false;
    tape_clear_slot(s);
    s->generation++;
    tape->held--;
    if (id + 1 == tape->size && tape->passes == 0) {
        tape_pop_from(tape, id - 1);
    } else {
        tape->nodes[id].slot = 0;
        tape->nodes[id].flags &= (uint8_t)~TAPE_HELD;
    }
    o->dict = (PyObject *)pgr__layer.free_objects;
    pgr__layer.free_objects = o;
    pgr__layer.free_count++;
    return true;
}

/* A leaf and its object; NULL with an exception. */
PyObject *pgr__new_leaf(int op, double value);

#endif
