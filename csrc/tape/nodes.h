/* nodes.h: the tape's insides, for the library and for CPython's layer, whose number slots record inline. All of it
 * assumes that the caller holds the tape's lock. */
#ifndef PGR_INTERNAL_NODES_H
#define PGR_INTERNAL_NODES_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>

#include "ops/ops.h"
#include "pgr.h"

/* Hints: cold code beside hot code, loops, constant arguments. */
#if defined(__GNUC__)
#define PGR_NOINLINE __attribute__((noinline))
#define PGR_HOT      __attribute__((noinline, aligned(64))) /* a loop whose speed depends on its alignment */
#define PGR_INLINE   static inline __attribute__((always_inline)) /* where an argument must stay a constant */
#define PGR_UNLIKELY(condition) __builtin_expect((condition), 0)
#define PGR_PREFETCH(address) __builtin_prefetch((const void *)(address), 1)
#else
#define PGR_NOINLINE
#define PGR_HOT
#define PGR_INLINE static inline
#define PGR_UNLIKELY(condition) (condition)
#define PGR_PREFETCH(address) ((void)(address))
#endif

#ifdef _MSC_VER
#define TAPE_THREAD_LOCAL __declspec(thread)
#else
#define TAPE_THREAD_LOCAL _Thread_local
#endif
#ifdef __GLIBC__ /* one load finds it, in shared libraries too */
#define TAPE_AT_HAND __attribute__((tls_model("initial-exec")))
#else
#define TAPE_AT_HAND
#endif
extern TAPE_THREAD_LOCAL bool pgr__is_recording TAPE_AT_HAND; /* see pgr_set_recording */

/* 32 bytes, two to a cache line. A constant parameter (an exponent, a slope) is a PGR_OP_CONST node as rhs: that keeps
 * the record small, and rules about operands hold for it too. */
typedef struct {
    double data;
    double grad;
    pgr_id lhs, rhs; /* smaller than the node's own id; 0: no operand. lhs == 0: a leaf */
    uint8_t op;
    uint8_t flags;
    uint8_t mark;    /* of the sweep that has reached the node and not yet visited it; 0: no such sweep */
    uint8_t read_mark; /* the same for read-only passes: exports, and the search for inf and nan */
    uint32_t slot;   /* its handle's slot; 0: no handle */
} pgr_node;

_Static_assert(sizeof(pgr_node) == 32, "a node is half a cache line");
_Static_assert(offsetof(pgr_node, rhs) == offsetof(pgr_node, lhs) + 4, "as tape_write writes them");
_Static_assert(offsetof(pgr_node, flags) == offsetof(pgr_node, op) + 1, "so here");
_Static_assert(offsetof(pgr_node, slot) == offsetof(pgr_node, op) + 4, "and here");

enum {
    TAPE_HELD = 1, /* held by a handle: a root of liveness */
    TAPE_LIVE = 2, /* found live by a collection under way, or by a stopped one */
    TAPE_ROOT = 4, /* a pass from it is under way */
    TAPE_UNKNOWN = 8, /* depends on an input of a recorded function: has no value */
    TAPE_LANE = 16,   /* depends on a lane of a vmap */
    TAPE_INHERITED = TAPE_UNKNOWN | TAPE_LANE
};

/* A handle's slot. Free slots form a list through `link`, and so do dead ones (see tape->dead). */
typedef struct {
    void *owner;       /* the binding's object for the node, if it has one */
    pgr_id id;         /* 0: free, or the node died before its last hold */
    uint32_t holds : 30;
    uint32_t is_kept : 1; /* stays the node's until it dies */
    uint32_t is_dead : 1; /* on the list of dead slots */
    uint32_t generation;  /* a handle of an older one is stale; it has the lower 31 bits */
    uint32_t link;
} pgr_slot;

/* Nodes from `start` on carry `tag` (see tags.c). */
typedef struct {
    pgr_id start;
    uint32_t tag;
} tape_run;

typedef struct {
    tape_run *runs; /* by ascending start; nodes before the first carry 0 */
    uint32_t count, capacity;
    uint32_t tag;   /* of the next node */
} tape_tags;

/* The caller's number of an input or a lane. */
typedef struct {
    pgr_id node;
    uint64_t number;
} tape_number;

/* Of a lane: group << 32 | index. */
static inline uint32_t tape_number_group(uint64_t number) { return (uint32_t)(number >> 32); }

/* Two levels of summary find marks again, one byte for 64 nodes and one for 64 of those bytes, so that a sweep skips
 * what it does not reach. Each pass under way has a bit. */
enum { TAPE_BLOCK = 6, TAPE_SUPER = 12 };

struct pgr_tape {
    pgr_node *nodes; /* nodes[0] stands for a missing operand: reading it is harmless */
    uint32_t size;   /* the next node's id */
    uint32_t limit;  /* the size at which to call pgr__make_room; at most capacity */
    uint32_t capacity;
    uint32_t collect_at;
    uint32_t full_at;     /* a collection at this size is a full one */
    pgr_id young, middle; /* nodes from `young` on no collection has seen, those from `middle` on only small ones */
    uint32_t young_most;  /* so many nodes become young before the next collection */

    pgr_slot *slots;
    uint32_t slot_count, slot_capacity; /* only the first so many slots have been in use or are on the free list */
    uint32_t free_slot; /* first of the list; 0: empty */
    uint32_t dead;      /* first of the list of slots whose nodes have died */
    uint32_t held;
    pgr_id named; /* no node above this has a slot */

    tape_tags tags[PGR_TAG_CHANNELS];
    tape_number *numbers; /* by ascending node */
    uint32_t number_count, number_capacity;
    uint32_t trim_below; /* a size below this leaves tags, numbers or `young` to be put in order: see pgr__trim */

    uint8_t *blocks, *supers;
    uint8_t marks_used;    /* by passes under way, a bit each (see marks.h) */
    bool is_reading;       /* a pass under way uses read_mark */
    uint32_t passes;       /* under way: meanwhile nodes don't move, and none is taken back */
    bool is_marked;        /* a stopped collection has left TAPE_LIVE on some nodes */
    bool has_custom;       /* there may be custom nodes */
    uint32_t collect_at_least, max_nodes;
    uint64_t collections;

    pgr_allocator allocator;
    pgr_status (*collector)(pgr_tape *tape, bool thorough); /* NULL: pgr__collect without ties */
    bool (*is_interrupted)(void); /* whether on_stop would stop; runs no code. NULL: never */
    pgr_custom_fn on_custom;
    void *custom_ctx;
    int (*on_stop)(void *ctx);
    void *stop_ctx;
    int (*enter)(void *ctx);
    void (*leave)(void *ctx, int token);
    void *lock_ctx;
};

/* The most nodes of a tape: ids have 32 bits, and two ids are reserved. */
#define TAPE_MAX_NODES (UINT32_MAX - 1)

/* A tie: what hangs on `from` keeps `to`, so `to` lives if `from` does. Each is a node or, from TAPE_HUB on, a hub: the
 * caller's number for something that several nodes share, which saves ties from each of them to all that it keeps. The
 * handle of a node that is a `to` does not count as a root. */
typedef struct {
    uint64_t from, to;
} pgr_tie;

#define TAPE_HUB (UINT64_C(1) << 32)

/* Below this many nodes, about a second-level cache full, a graph is swept again and again, and the branch predictor
 * learns its order. Above, code avoids branches that depend on the order. */
enum { TAPE_FAMILIAR = 1 << 17 };

/* Prefetches for a descending pass, which hardware predicts badly: halves a sweep's time beyond the second-level cache,
 * and costs nothing within it. */
enum { TAPE_AHEAD = 1200 };
static inline void tape_prefetch_below(const pgr_node *node)
{
    PGR_PREFETCH((uintptr_t)node - TAPE_AHEAD * sizeof *node);
}

/* pgr__make_room for calls on handles: collects first if that is due, through the tape's collector, which may run any
 * code. Read ids afterwards. */
pgr_status pgr__make_room_by_handle(pgr_tape *tape, uint32_t k);

/* pgr_tape_collect with ties, which it sorts and overwrites. Unless `thorough`, looks only at young nodes where that
 * will do, and moves nothing where little would be gained. PGR_ERR_STOPPED, with nothing moved, if is_interrupted says
 * so. */
pgr_status pgr__collect(pgr_tape *tape, pgr_tie *ties, size_t tie_count, bool thorough);

/* Whether a collection looks at all nodes, as one with ties does: if not, ties need not be looked for. */
static inline bool tape_collects_all(const pgr_tape *tape, bool thorough)
{
    return thorough || tape->size >= tape->full_at;
}

/* Steps between two calls of on_stop: 0.1 ms of the cheapest nodes, 60 ms of the most expensive (powers with subnormal
 * results, 1.7 us each). A call costs less than 0.1 us. */
enum { TAPE_ASK_EVERY = 1 << 15 };

/* Collects through the tape's collector, which may run any code. When interrupted, calls on_stop: PGR_ERR_STOPPED with
 * the tape as it was, or starts again. */
pgr_status pgr__collect_by_handle(pgr_tape *tape, bool thorough);

/* Takes and releases the tape's lock (see pgr_tape_on_lock). */
int pgr__enter(pgr_tape *tape);
void pgr__leave(pgr_tape *tape, int token);

/* Whether `root` is `id` or was made from it; true when out of memory, too. O(nodes recorded since `id`). */
bool pgr__is_made_from(pgr_tape *tape, pgr_id root, pgr_id id);

static inline bool tape_has_room(const pgr_tape *tape, uint32_t k) { return k <= tape->limit - tape->size; }

/* Whether a call on handles should collect before it records. */
static inline bool tape_collect_is_due(const pgr_tape *tape)
{
    return tape->size >= tape->collect_at && tape->passes == 0;
}

/* Flags that a node inherits from its operands. */
static inline uint8_t tape_inherited(const pgr_tape *tape, pgr_id lhs, pgr_id rhs)
{
    return (tape->nodes[lhs].flags | tape->nodes[rhs].flags) & TAPE_INHERITED;
}

/* Whether to compute op. Operands without a value have nan as data, so sums, differences, products, quotients and
 * negations come out as nan: cheaper to compute than to test. */
static inline bool tape_is_known(const pgr_tape *tape, int op, pgr_id lhs, pgr_id rhs)
{
    return ops_is_linear(op) || op == PGR_OP_DIV || op == PGR_OP_NEG ||
           !PGR_UNLIKELY(tape_inherited(tape, lhs, rhs) & TAPE_UNKNOWN);
}

/* A new node's flags. Only a node whose data are nan can be without a value. */
static inline uint8_t tape_flags(const pgr_tape *tape, double data, pgr_id lhs, pgr_id rhs)
{
    return PGR_UNLIKELY(data != data) ? tape_inherited(tape, lhs, rhs) : 0;
}

/* Between these two calls no node moves that a pass from `root` may need. end takes begin's result. */
static inline bool tape_begin_root(pgr_tape *tape, pgr_id root)
{
    const bool is_first = (tape->nodes[root].flags & TAPE_ROOT) == 0;
    tape->nodes[root].flags |= TAPE_ROOT;
    return is_first;
}
static inline void tape_end_root(pgr_tape *tape, pgr_id root, bool is_first)
{
    if (is_first)
        tape->nodes[root].flags &= (uint8_t)~TAPE_ROOT;
}

/* Writes all of a node. In whole words, where the compiler would write zeros and then each field. */
static inline void tape_write(pgr_node *node, int op, double data, pgr_id lhs, pgr_id rhs, uint8_t flags, uint32_t slot)
{
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    const uint64_t operands = lhs | (uint64_t)rhs << 32;
    const uint64_t rest = (uint8_t)op | (uint32_t)flags << 8 | (uint64_t)slot << 32;
    node->data = data;
    node->grad = 0.0;
    memcpy((char *)node + offsetof(pgr_node, lhs), &operands, sizeof operands);
    memcpy((char *)node + offsetof(pgr_node, op), &rest, sizeof rest);
#else
    *node = (pgr_node){.data = data, .lhs = lhs, .rhs = rhs, .op = (uint8_t)op, .flags = flags, .slot = slot};
#endif
}

/* Appends a node. The caller has made room. */
static inline pgr_id tape_append(pgr_tape *tape, int op, double data, pgr_id lhs, pgr_id rhs)
{
    const pgr_id id = tape->size++;
    assert(id == 0 || (lhs < id && rhs < id));
    tape_write(&tape->nodes[id], op, data, lhs, rhs, tape_flags(tape, data, lhs, rhs), 0);
    return id;
}

/* Appends w * x and sum + w * x; `*v` is the sum's number. The caller has made room for two. */
static inline pgr_id tape_append_term(pgr_tape *tape, pgr_id w, pgr_id x, pgr_id sum, double *v)
{
    const double p = tape->nodes[w].data * tape->nodes[x].data;
    const pgr_id product = tape_append(tape, PGR_OP_MUL, p, w, x);
    *v += p;
    return tape_append(tape, PGR_OP_ADD, *v, sum, product);
}

/* Whether an op is recorded without its operand. */
static inline bool tape_is_cut(int op) { return op == PGR_OP_DETACH && !pgr__is_recording; }

/* Iterates over a node's operands, last to first: start with {id, false}, or {id, true} to skip the last, and stop at
 * 0. Opens a custom node's pairs; a parameter counts as an operand. */
typedef struct {
    pgr_id open;
    bool rhs_done;
} operand_walk;

static inline pgr_id operand_next(const pgr_node *nodes, operand_walk *walk)
{
    if (walk->open == 0)
        return 0;
    const pgr_node *const node = &nodes[walk->open];
    if (!walk->rhs_done && node->rhs != 0) {
        walk->rhs_done = true;
        return node->rhs;
    }
    walk->rhs_done = false;
    walk->open = nodes[node->lhs].op == PGR_OP_PAIR ? node->lhs : 0;
    return walk->open != 0 ? operand_next(nodes, walk) : node->lhs;
}

static inline void *tape_resize(pgr_tape *tape, void *p, size_t size)
{
    return tape->allocator.resize(tape->allocator.ctx, p, size);
}

static inline bool tape_is_lane(const pgr_tape *tape, pgr_id id) { return (tape->nodes[id].flags & TAPE_LANE) != 0; }

/* An array of `*capacity` elements with room for twice as many. NULL when out of memory, with nothing changed. */
static inline void *tape_double(pgr_tape *tape, void *array, uint32_t *capacity, size_t size)
{
    const uint32_t wanted = *capacity == 0 ? 64 : *capacity > UINT32_MAX / 2 ? UINT32_MAX : 2 * *capacity;
    void *const grown = wanted == *capacity ? NULL : tape_resize(tape, array, wanted * size);
    if (grown != NULL)
        *capacity = wanted;
    return grown;
}

/* Room for `more` elements after `count`, in an array whose capacity is the power of two that holds `count`, at least
 * 64. NULL when out of memory, with the array as it was. */
static inline void *tape_grow(pgr_tape *tape, void *array, size_t count, size_t more, size_t size)
{
    size_t capacity = count == 0 ? 0 : 64;
    while (capacity < count)
        capacity *= 2;
    if (count + more <= capacity)
        return array;
    size_t wanted = 64;
    while (wanted < count + more)
        wanted *= 2;
    return tape_resize(tape, array, wanted * size);
}

#endif
