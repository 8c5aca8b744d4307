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

#include "python/sets.h"

enum { DEPTH_AT_MOST = 32, LENGTH_AT_MOST = 256, OBJECTS_PER_ROOT = 64 };
enum { AHEAD = 16 }; /* how far to prefetch objects, which lie anywhere */

/* An object that the search has met. It does not enter Values: what hangs on them hangs on their nodes. */
typedef struct {
    PyObject *object;
    Py_ssize_t refs;     /* references from outside */
    uint32_t first_edge; /* its children are edges[first_edge] and on, up to those of the next thing */
    uint32_t hub;        /* 0: not a hub */
    uint16_t depth;
    bool outside;
} thing;

typedef struct {
    const PyObject *object;
    uint32_t index; /* into things */
} entry;

typedef struct {
    const pgr_tape *tape;
    thing *things;
    size_t count, capacity;
    uint32_t *edges;   /* children, by index into things */
    size_t edge_count, edge_capacity;
    entry *table;      /* open addressing: the things that have more than one reference */
    size_t table_count;
    int table_bits;    /* 0: no table yet */
    size_t budget;
    size_t long_left;  /* references in long containers that may still be followed */
    pgr_tie *ties;
    size_t tie_count, tie_capacity;
    uint32_t *stack, *hubs;
    size_t stack_count, hub_count;
    size_t root_count;
    PyObject *parent;  /* whose children are being visited */
    uint32_t depth;    /* of these */
    bool failed;
} search;

/* ---- Things --------------------------------------------------------------------------------- */

/* The place of an object in the table, or the free one where it belongs. */
static entry *place_of(const search *s, const PyObject *o)
{
    const size_t mask = ((size_t)1 << s->table_bits) - 1;
    size_t at = (size_t)(((uint64_t)(uintptr_t)o >> 4) * 0x9E3779B97F4A7C15ull >> (64 - s->table_bits));
    while (s->table[at].object != NULL && s->table[at].object != o)
        at = (at + 1) & mask;
    return &s->table[at];
}

static bool grow_table(search *s)
{
    entry *const before = s->table;
    const size_t size = s->table_bits == 0 ? 0 : (size_t)1 << s->table_bits;
    const int bits = s->table_bits == 0 ? 9 : s->table_bits + 1;
    entry *const table = PyMem_Calloc((size_t)1 << bits, sizeof *table);
    if (table == NULL)
        return false;
    s->table = table;
    s->table_bits = bits;
    for (size_t i = 0; i < size; i++)
        if (before[i].object != NULL)
            *place_of(s, before[i].object) = before[i];
    PyMem_Free(before);
    return true;
}

static bool is_container(PyObject *o)
{
    PyTypeObject *const type = Py_TYPE(o);
    return type == &PyDict_Type || type == &PyTuple_Type || type == &PyList_Type || PyAnySet_Check(o);
}

static size_t length(PyObject *o)
{
    PyTypeObject *const type = Py_TYPE(o);
    return (size_t)(type == &PyDict_Type                               ? PyDict_GET_SIZE(o)
                    : type == &PyTuple_Type || type == &PyList_Type ? Py_SIZE(o)
                                                                       : PySet_GET_SIZE(o));
}

/* Whether objects of this type may lead to a Value: besides containers, functions and what they are made of, instances
 * of Python classes, and functools.partial. */
static bool leads_on(PyObject *o)
{
    PyTypeObject *const type = Py_TYPE(o);
    if (type == &PyFunction_Type || type == &PyCell_Type || type == &PyMethod_Type || type == &PyCFunction_Type)
        return true;
    if ((type->tp_flags & Py_TPFLAGS_HEAPTYPE) == 0)
        return is_container(o);
    return (PyType_IS_GC(type) && type->tp_traverse != NULL && !PyType_Check(o)) || is_container(o);
}

/* Whether to enter an object that leads on. Long containers, such as a graph's order, are entered while they hold no
 * more than there are Values. */
static bool may_enter(const search *s, PyObject *o)
{
    return !is_container(o) || length(o) <= LENGTH_AT_MOST || length(o) <= s->long_left;
}

/* Of a function only its closure and defaults are visited, not its globals. */
static bool is_passed_over(const search *s, PyObject *child)
{
    return PyFunction_Check(s->parent) && !PyTuple_CheckExact(child);
}

static thing *add_thing(search *s, PyObject *o)
{
    if (s->count == s->capacity) {
        thing *const things = s->count == UINT32_MAX ? NULL : pgr__double(s->things, &s->capacity, sizeof *things);
        if (things == NULL) {
            s->failed = true;
            return NULL;
        }
        s->things = things;
    }
    Py_ssize_t refs = Py_REFCNT(o);
    if (pgr__is_operand(o)) /* handles in Python code hold the node, too */
        refs += (Py_ssize_t)s->tape->slots[((const object *)o)->slot].holds - 1;
    s->things[s->count] = (thing){.object = o, .refs = refs, .depth = (uint16_t)s->depth};
    return &s->things[s->count++];
}

/* The thing of an object, new if this is the first meeting; NULL if the search does not follow it, or when out of
 * memory. An object with a single reference is met once, so it need not be found again. */
static thing *meet(search *s, PyObject *o)
{
    const bool is_operand = pgr__is_operand(o), is_shared = Py_REFCNT(o) > 1;
    if (!is_operand && !leads_on(o))
        return NULL;
    if (is_shared) {
        if (2 * s->table_count >= (s->table_bits == 0 ? 0 : (size_t)1 << s->table_bits) && !grow_table(s)) {
            s->failed = true;
            return NULL;
        }
        const entry *const found = place_of(s, o);
        if (found->object != NULL)
            return &s->things[found->index];
    }
    if (s->depth > DEPTH_AT_MOST || s->budget == 0 || !(is_operand || may_enter(s, o)))
        return NULL;
    thing *const t = add_thing(s, o);
    if (t == NULL)
        return NULL;
    if (is_shared) {
        *place_of(s, o) = (entry){o, (uint32_t)(t - s->things)};
        s->table_count++;
    }
    s->budget--;
    if (is_container(o) && length(o) > LENGTH_AT_MOST) {
        s->long_left -= length(o);
        s->budget += length(o);
    }
    return t;
}

static bool enters(const thing *t) { return !pgr__is_operand(t->object); }

/* ---- Passes ---------------------------------------------------------------------------------- */

/* First pass: meets children, subtracts the parent's reference, and notes them for the other passes. */
static int visit_meet(PyObject *child, void *arg)
{
    search *const s = arg;
    thing *const t = is_passed_over(s, child) ? NULL : meet(s, child);
    if (t == NULL)
        return 0;
    t->refs--;
    if (s->edge_count == s->edge_capacity) {
        uint32_t *const edges = s->edge_count > UINT32_MAX / 2 ? NULL
                                : pgr__double(s->edges, &s->edge_capacity, sizeof *edges);
        if (edges == NULL) {
            s->failed = true;
            return 0;
        }
        s->edges = edges;
    }
    s->edges[s->edge_count++] = (uint32_t)(t - s->things);
    return 0;
}

/* A thing's children, after the first pass: `*end` is one past the last. */
static const uint32_t *children(const search *s, uint32_t index, const uint32_t **end)
{
    *end = s->edges + (index + 1 < s->count ? s->things[index + 1].first_edge : s->edge_count);
    return s->edges + s->things[index].first_edge;
}

static void push(search *s, uint32_t index) { s->stack[s->stack_count++] = index; }

/* Second pass: children of an object held from outside are held from outside. */
static void spread_outside(search *s, uint32_t index)
{
    s->things[index].outside = true;
    push(s, index);
    while (s->stack_count > 0) {
        const uint32_t *end, *child = children(s, s->stack[--s->stack_count], &end);
        for (; child < end; child++)
            if (!s->things[*child].outside) {
                s->things[*child].outside = true;
                push(s, *child);
            }
    }
}

static void add_tie(search *s, uint64_t from, uint64_t to)
{
    if (s->tie_count == s->tie_capacity) {
        pgr_tie *const ties = pgr__double(s->ties, &s->tie_capacity, sizeof *ties);
        if (ties == NULL) {
            s->failed = true;
            return;
        }
        s->ties = ties;
    }
    s->ties[s->tie_count++] = (pgr_tie){from, to};
}

/* Ties a thing to a root or a hub, `from`. A thing without other references is part of it. */
static void tie(search *s, uint64_t from, uint32_t index)
{
    thing *const t = &s->things[index];
    if (t->outside)
        return;
    if (!enters(t)) {
        const pgr_id id = s->tape->slots[((const object *)t->object)->slot].id;
        if (id != 0)
            add_tie(s, from, id);
    } else if (index < s->root_count || Py_REFCNT(t->object) > 1) {
        if (t->hub == 0) {
            s->hubs[s->hub_count++] = index;
            t->hub = (uint32_t)s->hub_count;
        }
        add_tie(s, from, TAPE_HUB + t->hub);
    } else if (s->stack_count < s->count) { /* else a type's traverse visits objects twice */
        push(s, index);
    } else {
        s->failed = true;
    }
}

/* Third pass, from a root or a hub. */
static void tie_from(search *s, uint64_t from, uint32_t index)
{
    push(s, index);
    while (s->stack_count > 0) {
        const uint32_t *end, *child = children(s, s->stack[--s->stack_count], &end);
        for (; child < end; child++)
            tie(s, from, *child);
    }
}

/* ---- Roots ----------------------------------------------------------------------------------- */

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
        if (pgr__is_operand(value) || (leads_on(value) && may_enter(s, value)))
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
    for (uint32_t slot = 1; slot < tape->slot_count; slot++) {
        if (slot + AHEAD < tape->slot_count)
            PGR_PREFETCH(tape->slots[slot + AHEAD].owner);
        const object *const o = owner_of(tape, slot);
        if (o != NULL && o->dict != NULL && !add_root(s, r, o->dict, tape->slots[slot].id))
            return false;
    }
    PyObject *key, *dict;
    Py_ssize_t at = 0;
    while (PyDict_Next(pgr__layer.notes, &at, &key, &dict)) {
        const uint32_t slot = (uint32_t)PyLong_AsUnsignedLongLong(key);
        if (slot < tape->slot_count && tape->slots[slot].id != 0 && !add_root(s, r, dict, tape->slots[slot].id))
            return false;
    }
    if (r->count == 0) /* sets alone lead only down, so they can't close a cycle */
        return true;
    const object *o;
    for (uint32_t i = 0; (o = pgr__walked(i)) != NULL; i++)
        if (tape->slots[o->slot].id != 0 && !add_root(s, r, o->prev, tape->slots[o->slot].id))
            return false;
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
        if (i + AHEAD < s->count)
            PGR_PREFETCH(s->things[i + AHEAD].object);
        s->things[i].first_edge = (uint32_t)s->edge_count;
        s->depth = s->things[i].depth + 1u;
        s->parent = s->things[i].object;
        if (enters(&s->things[i]))
            Py_TYPE(s->parent)->tp_traverse(s->parent, visit_meet, s);
        if (s->failed || is_interrupted(s, i))
            return false;
    }
    s->stack = PyMem_Malloc(s->count * sizeof *s->stack);
    s->hubs = PyMem_Malloc(s->count * sizeof *s->hubs);
    s->failed = s->stack == NULL || s->hubs == NULL;
    for (size_t i = 0; i < s->count && !s->failed; i++)
        if (s->things[i].refs != 0 && !s->things[i].outside)
            spread_outside(s, (uint32_t)i);
    s->root_count = r->count;
    for (size_t i = 0; i < r->count && !s->failed; i++)
        if (!s->things[i].outside)
            tie_from(s, r->ids[i], (uint32_t)i);
    for (size_t i = 0; i < s->hub_count && !s->failed; i++) { /* so does this one */
        tie_from(s, TAPE_HUB + s->things[s->hubs[i]].hub, s->hubs[i]);
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
    PyMem_Free(s.edges);
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
