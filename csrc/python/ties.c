/* ties.c: finds Values that only attributes of nodes keep.
 *
 * micrograd's way to write an operation is a closure that captures its own output:
 *
 *     out = Value(math.sinh(x.data), (x,), 'sinh')
 *     def _backward(): x.grad += math.cosh(x.data) * out.grad
 *     out._backward = _backward
 *
 * The closure belongs to the node, the closure's cell holds the Value, and the Value would hold the node for ever.
 * Values have no cyclic-GC header, so this file does for them what the cyclic collector does: it visits the objects
 * that hang on nodes and subtracts the references among them from their reference counts. A Value with a count of zero
 * is held from inside only. It stops being a root and lives while the node whose attributes hold it lives (a tie, see
 * nodes.h); when both die, the attributes are cleared, and Python's own counts free the rest. An object that several
 * nodes share, such as a model that their closures use, is a hub, which is entered once: so the time is proportional to
 * the references.
 *
 * In doubt, objects count as held from outside: those more than a few references deep, large containers, types and
 * modules. Too much doubt costs memory, never a live node. */
#include "python/ties.h"

#include <stdlib.h>

enum { DEPTH_AT_MOST = 32, LENGTH_AT_MOST = 256, OBJECTS_PER_ROOT = 64 };

/* An object that the search has met. It does not enter Values: what hangs on them hangs on their nodes. */
typedef struct {
    PyObject *object;
    Py_ssize_t refs;  /* references from outside */
    uint32_t depth;
    bool outside;
    bool is_hub;
} thing;

typedef struct {
    const pgr_tape *tape;
    thing *things;
    size_t count, capacity;
    uint32_t *table; /* open addressing: index + 1 into things */
    size_t mask;
    size_t budget;
    size_t long_left; /* references in long containers that may still be followed */
    pgr_tie *ties;
    size_t tie_count, tie_capacity;
    uint32_t *stack, *hubs;
    size_t stack_count, hub_count;
    /* Of the present visit: */
    PyObject *parent;
    uint32_t depth;
    uint64_t from;
    size_t root_count;
    bool failed;
} search;

static size_t place_of(const search *s, const PyObject *o)
{
    size_t at = (size_t)(((uintptr_t)o >> 4) * 0x9E3779B97F4A7C15ull) & s->mask;
    while (s->table[at] != 0 && s->things[s->table[at] - 1].object != o)
        at = (at + 1) & s->mask;
    return at;
}

static bool grow(search *s)
{
    const size_t capacity = s->capacity == 0 ? 256 : 2 * s->capacity;
    thing *const things = PyMem_Realloc(s->things, capacity * sizeof *things);
    if (things == NULL)
        return false;
    s->things = things;
    uint32_t *const table = PyMem_Calloc(2 * capacity, sizeof *table);
    uint32_t *const stack = PyMem_Realloc(s->stack, capacity * sizeof *stack);
    if (stack != NULL)
        s->stack = stack;
    if (table == NULL || stack == NULL) {
        PyMem_Free(table);
        return false;
    }
    PyMem_Free(s->table);
    s->table = table;
    s->mask = 2 * capacity - 1;
    s->capacity = capacity;
    for (size_t i = 0; i < s->count; i++)
        s->table[place_of(s, s->things[i].object)] = (uint32_t)i + 1;
    return true;
}

static bool is_container(PyObject *o)
{
    PyTypeObject *const type = Py_TYPE(o);
    return type == &PyDict_Type || type == &PyTuple_Type || type == &PyList_Type || PyAnySet_Check(o);
}

static size_t length(PyObject *o)
{
    if (PyAnySet_Check(o))
        return (size_t)PySet_GET_SIZE(o);
    return (size_t)(Py_TYPE(o) == &PyDict_Type ? PyDict_GET_SIZE(o) : Py_SIZE(o));
}

/* Whether to enter an object, since it may lead to a Value. Long containers, such as a graph's order, are entered while
 * they hold no more than there are Values. */
static bool may_enter(const search *s, PyObject *o)
{
    PyTypeObject *const type = Py_TYPE(o);
    if (is_container(o))
        return length(o) <= LENGTH_AT_MOST || length(o) <= s->long_left;
    if (type == &PyFunction_Type || type == &PyCell_Type || type == &PyMethod_Type)
        return true;
    /* Instances of Python classes, and functools.partial. */
    return (type->tp_flags & Py_TPFLAGS_HEAPTYPE) != 0 && PyType_IS_GC(type) && type->tp_traverse != NULL &&
           !PyType_Check(o);
}

/* Of a function only its closure and defaults are visited, not its globals. */
static bool is_passed_over(const search *s, PyObject *child)
{
    return PyFunction_Check(s->parent) && !PyTuple_CheckExact(child);
}

/* The thing of an object, new if this is the first meeting; NULL if the search does not follow it, or when out of
 * memory. */
static thing *meet(search *s, PyObject *o)
{
    if (s->mask != 0) {
        const size_t at = place_of(s, o);
        if (s->table[at] != 0)
            return &s->things[s->table[at] - 1];
    }
    if (s->depth > DEPTH_AT_MOST || !(pgr__is_operand(o) || may_enter(s, o)) || s->budget == 0)
        return NULL;
    if (s->count == s->capacity && !grow(s)) {
        s->failed = true;
        return NULL;
    }
    s->budget--;
    if (is_container(o) && length(o) > LENGTH_AT_MOST) {
        s->long_left -= length(o);
        s->budget += length(o);
    }
    Py_ssize_t refs = Py_REFCNT(o);
    if (pgr__is_operand(o)) /* handles in Python code hold the node, too */
        refs += (Py_ssize_t)s->tape->slots[((const object *)o)->slot].holds - 1;
    s->things[s->count] = (thing){.object = o, .refs = refs, .depth = s->depth};
    s->table[place_of(s, o)] = (uint32_t)++s->count;
    return &s->things[s->count - 1];
}

static void traverse(search *s, PyObject *o, visitproc visit)
{
    s->parent = o;
    Py_TYPE(o)->tp_traverse(o, visit, s);
}

/* First pass: meets children, and subtracts the parent's reference. */
static int visit_meet(PyObject *child, void *arg)
{
    search *const s = arg;
    thing *const t = is_passed_over(s, child) ? NULL : meet(s, child);
    if (t != NULL)
        t->refs--;
    return 0;
}

/* Second pass: children of an object held from outside are held from outside. */
static int visit_outside(PyObject *child, void *arg)
{
    search *const s = arg;
    if (is_passed_over(s, child))
        return 0;
    const size_t at = place_of(s, child);
    thing *const t = s->table[at] != 0 ? &s->things[s->table[at] - 1] : NULL;
    if (t != NULL && !t->outside) {
        t->outside = true;
        s->stack[s->stack_count++] = (uint32_t)(t - s->things);
    }
    return 0;
}

static bool enters(const thing *t) { return !pgr__is_operand(t->object); }

static void add_tie(search *s, uint64_t to)
{
    if (s->tie_count == s->tie_capacity) {
        pgr_tie *const ties = pgr__double(s->ties, &s->tie_capacity, sizeof *ties);
        if (ties == NULL) {
            s->failed = true;
            return;
        }
        s->ties = ties;
    }
    s->ties[s->tie_count++] = (pgr_tie){s->from, to};
}

/* Third pass, from a root or a hub: ties Values and hubs to it. A thing without other references is part of it. */
static int visit_tie(PyObject *child, void *arg)
{
    search *const s = arg;
    if (is_passed_over(s, child))
        return 0;
    const size_t at = place_of(s, child);
    thing *const t = s->table[at] != 0 ? &s->things[s->table[at] - 1] : NULL;
    if (t == NULL || t->outside)
        return 0;
    const size_t index = (size_t)(t - s->things);
    if (!enters(t)) {
        const pgr_id id = s->tape->slots[((const object *)child)->slot].id;
        if (id != 0)
            add_tie(s, id);
    } else if (index < s->root_count || Py_REFCNT(child) > 1) {
        add_tie(s, TAPE_HUB + index);
        if (!t->is_hub)
            s->hubs[s->hub_count++] = (uint32_t)index;
        t->is_hub = true;
    } else if (s->stack_count < s->capacity) { /* else a type's traverse visits objects twice */
        s->stack[s->stack_count++] = (uint32_t)index;
    } else {
        s->failed = true;
    }
    return 0;
}

static void tie_from(search *s, uint64_t from, size_t index)
{
    s->from = from;
    s->stack[s->stack_count++] = (uint32_t)index;
    while (s->stack_count > 0)
        traverse(s, s->things[s->stack[--s->stack_count]].object, visit_tie);
}

/* The object of the node of a slot in use; NULL if it has none. */
static const object *owner_of(const pgr_tape *tape, uint32_t slot)
{
    const pgr_slot *const s = &tape->slots[slot];
    return s->id == 0 ? NULL : s->owner;
}

static bool is_of_interest(const search *s, PyObject *dict)
{
    PyObject *key, *value;
    Py_ssize_t at = 0;
    while (PyDict_Next(dict, &at, &key, &value))
        if (pgr__is_operand(value) || may_enter(s, value))
            return true;
    return false;
}

/* Roots hang on nodes: attribute dicts, and the sets of `_prev`, which keep operands' objects. They are the first
 * things, in the order of `ids`. */
typedef struct {
    pgr_id *ids;
    size_t count, capacity;
} roots;

static bool add_root(search *s, roots *r, PyObject *root, pgr_id id)
{
    if (PyDict_CheckExact(root) && !is_of_interest(s, root))
        return true;
    if (r->count == r->capacity) {
        pgr_id *const ids = pgr__double(r->ids, &r->capacity, sizeof *ids);
        if (ids == NULL)
            return false;
        r->ids = ids;
    }
    s->budget += OBJECTS_PER_ROOT;
    s->depth = 0;
    thing *const t = meet(s, root);
    if (t == NULL)
        return !s->failed; /* large: left out */
    if (t != &s->things[r->count])
        return true; /* two nodes share it: left out */
    t->refs--; /* the node's own reference */
    r->ids[r->count++] = id;
    return true;
}

static bool find_roots(search *s, roots *r, pgr_tape *tape)
{
    for (uint32_t slot = 1; slot < tape->slot_capacity; slot++) {
        const object *const o = owner_of(tape, slot);
        if (o != NULL && o->dict != NULL && !add_root(s, r, o->dict, tape->slots[slot].id))
            return false;
    }
    PyObject *key, *dict;
    Py_ssize_t at = 0;
    while (PyDict_Next(pgr__layer.notes, &at, &key, &dict)) {
        const uint32_t slot = (uint32_t)PyLong_AsUnsignedLongLong(key);
        if (slot < tape->slot_capacity && tape->slots[slot].id != 0 && !add_root(s, r, dict, tape->slots[slot].id))
            return false;
    }
    if (r->count == 0) /* sets alone lead only down, so they can't close a cycle */
        return true;
    for (uint32_t slot = 1; slot < tape->slot_capacity; slot++) {
        const object *const o = owner_of(tape, slot);
        if (o != NULL && o->prev != NULL && !add_root(s, r, o->prev, tape->slots[slot].id))
            return false;
    }
    return true;
}

/* Asks now and then. */
static bool is_interrupted(const search *s, size_t i)
{
    return i % 4096 == 4095 && s->tape->is_interrupted != NULL && s->tape->is_interrupted();
}

static bool find_ties(search *s, const roots *r)
{
    for (size_t i = 0; i < s->count; i++) { /* the list grows meanwhile */
        const thing t = s->things[i];
        s->depth = t.depth + 1;
        if (enters(&t))
            traverse(s, t.object, visit_meet);
        if (s->failed || is_interrupted(s, i))
            return false;
    }
    for (size_t i = 0; i < s->count; i++)
        if (s->things[i].refs != 0 && !s->things[i].outside) {
            s->things[i].outside = true;
            s->stack[s->stack_count++] = (uint32_t)i;
            while (s->stack_count > 0) {
                const thing *const t = &s->things[s->stack[--s->stack_count]];
                if (enters(t))
                    traverse(s, t->object, visit_outside);
            }
        }
    s->root_count = r->count;
    s->hubs = PyMem_Malloc(s->count * sizeof *s->hubs);
    s->failed = s->hubs == NULL;
    for (size_t i = 0; i < r->count && !s->failed; i++)
        if (!s->things[i].outside)
            tie_from(s, r->ids[i], i);
    for (size_t i = 0; i < s->hub_count && !s->failed; i++) { /* so does this one */
        tie_from(s, TAPE_HUB + s->hubs[i], s->hubs[i]);
        if (is_interrupted(s, i))
            return false;
    }
    return !s->failed;
}

pgr_tie *pgr__find_ties(pgr_tape *tape, size_t *count)
{
    search s = {.tape = tape, .long_left = 4 * (size_t)tape->held};
    roots r = {0};
    *count = 0;
    if (!find_roots(&s, &r, tape) || r.count == 0 || !find_ties(&s, &r))
        s.tie_count = 0; /* out of memory or interrupted: nothing is tied this time */
    PyMem_Free(s.things);
    PyMem_Free(s.table);
    PyMem_Free(s.stack);
    PyMem_Free(s.hubs);
    PyMem_Free(r.ids);
    if (s.tie_count == 0) {
        PyMem_Free(s.ties);
        return NULL;
    }
    *count = s.tie_count;
    return s.ties;
}
