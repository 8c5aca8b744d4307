/* pgr.h: reverse-mode automatic differentiation of scalar code on a tape of nodes.
 *
 * A node is a number that remembers how it was made: its value, its grad, its op and up to two
 * operands. Nodes are recorded one after another, so an operand's id is always smaller than its
 * result's, and descending ids are a reverse topological order: the backward pass is one descending
 * sweep, liveness is one descending pass, and neither recurses. See Griewank & Walther, Evaluating
 * Derivatives (2nd ed., SIAM 2008), ch. 3 and 4 for the method and its vocabulary.
 *
 * Two ways to name a node:
 *   - pgr_id: its place on the tape. The fastest; valid until the next collection, which slides live
 *     nodes down. Functions on ids never collect, and take no lock: they are for programs in C.
 *   - pgr_handle: a stable name that also keeps the node alive. Functions on handles (pgr_h_...)
 *     collect when the tape has doubled, and hold the tape's lock for the length of the call.
 *
 * The library never prints, exits or aborts on a caller's mistake: a call that can fail returns a
 * status, and then the tape is as it was before. This header is also what Python's cffi reads, between
 * the markers below; nothing is declared twice. pgr_id and its functions stand outside: between two calls
 * from Python another thread may collect, so Python cannot even name an id. */
#ifndef PGR_H
#define PGR_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#pragma GCC visibility push(default)
#endif
#ifdef __cplusplus
extern "C" {
#endif

typedef uint32_t pgr_id; /* a node's place on its tape; 0 is none */

/* cdef: begin */

/* ---- Vocabulary ---------------------------------------------------------------------------- */

typedef uint64_t pgr_handle;  /* a stable name of a node, below 2^63; 0 is none */

typedef enum {
    PGR_OK = 0,
    PGR_ERR_NOMEM,    /* the allocator returned NULL */
    PGR_ERR_FULL,     /* the tape has as many nodes as ids allow */
    PGR_ERR_DOMAIN,   /* an argument outside the function's domain */
    PGR_ERR_DIVZERO,  /* division by zero, or zero to a negative power */
    PGR_ERR_RANGE,    /* finite operands, infinite result */
    PGR_ERR_CUSTOM,   /* a custom operation's function reported failure */
    PGR_ERR_HANDLE,   /* not a handle of a node that is alive */
    PGR_ERR_OP,       /* not an operation of the table, or not one that this call takes */
    PGR_ERR_OPAQUE,   /* a custom node, whose function can't be recorded, where a derivative or program needs it */
    PGR_ERR_PROGRAM,  /* the parts are not a program */
    PGR_ERR_ARGUMENT, /* a number, or a kind of node, that this call excludes */
    PGR_ERR_UNKNOWN,  /* the node has no value: a function is being recorded */
    PGR_ERR_STOPPED,  /* it was told to stop (pgr_tape_on_stop) */
    PGR_ERR_NOT_FINITE, /* a number or a grad is inf or nan */
    PGR_ERR_LANES,    /* lanes of different vmaps meet, or a lane is used outside of its vmap */
    PGR_ERR_CYCLE,    /* a node would be made from itself */
    PGR_ERR_BUSY      /* a pass goes through nodes that would have to move */
} pgr_status;

/* Ops that the tape itself knows; those of pgr_ops.h follow from PGR_OP_FIRST on. */
enum {
    PGR_OP_LEAF = 0,  /* an input or a parameter */
    PGR_OP_CONST,     /* a number written in an expression; a leaf in all else */
    PGR_OP_CUSTOM,    /* the backward step is the caller's function */
    PGR_OP_PAIR,      /* holds the operands of a custom node with more than two; never shown */
    PGR_OP_INPUT,     /* of a function being recorded: a leaf without a value */
    PGR_OP_LANE,      /* the same, with a value for each lane of a vmap */
    PGR_OP_LANE_SUM,  /* the sum over lanes */
    PGR_OP_LANE_PASS, /* a lane's value, handed to the same lane of another vmap */
    PGR_OP_FIRST
};

typedef enum { PGR_KIND_LEAF = 0, PGR_KIND_UNARY, PGR_KIND_BINARY, PGR_KIND_PARAM, PGR_KIND_CUT } pgr_kind;

typedef struct {
    const char *name;      /* "tanh": the method's name */
    const char *symbol;    /* "tanh", "+": what is drawn */
    const char *rule;      /* what an error says: "the argument must be positive" */
    const char *doc;       /* one sentence */
    const char *c;         /* the value, as a C99 expression in a and b */
    const char *da, *db;   /* the partial derivatives in pgr_ops.h's words; db of PGR_KIND_BINARY only */
    pgr_kind kind;
    double param_default;  /* of PGR_KIND_PARAM; NAN: none */
} pgr_op_info;

/* The table of operations by op, `pgr_op_count()` rows, the tape's own first. Never fails for a
 * smaller op; NULL for others. Borrowed for ever. */
const pgr_op_info *pgr_op_row(int op);
int pgr_op_count(void);

/* Evaluates one operation: `*out` = op(a, b); b is ignored by unary ones. Returns PGR_OK, or
 * PGR_ERR_DOMAIN, _DIVZERO or _RANGE where Python's float and math raise for the same numbers, with
 * `*out` the IEEE 754 result all the same; PGR_ERR_OP if `op` is not in the table. */
pgr_status pgr_op_value(int op, double a, double b, double *out);

/* ---- Tapes --------------------------------------------------------------------------------- */

typedef struct pgr_tape pgr_tape;

/* resize(ctx, p, size): as realloc, and free where size is 0. Returning NULL for size > 0 leaves
 * p as it was. */
typedef struct {
    void *(*resize)(void *ctx, void *p, size_t size);
    void *ctx;
} pgr_allocator;

/* A new tape, or NULL when out of memory. `allocator` is copied; NULL means malloc's. The caller
 * frees it with pgr_tape_free. */
pgr_tape *pgr_tape_new(const pgr_allocator *allocator);

/* Frees the tape and all its nodes. NULL is allowed. No function may be inside the tape. */
void pgr_tape_free(pgr_tape *tape);

/* The process's default tape, made on first use and never freed; NULL when out of memory. */
pgr_tape *pgr_default_tape(void);

/* cdef: end */

/* Frees what no handle needs: a node lives while a handle, or a live node's operand, needs it. Live
 * nodes slide down, keeping their order, so every pgr_id is void afterwards; handles stay. Does
 * nothing inside a backward pass. On failure (PGR_ERR_NOMEM, PGR_ERR_STOPPED) nothing has moved. O(nodes). */
pgr_status pgr_tape_collect(pgr_tape *tape);

/* cdef: begin */

/* The same by way of the tape's collector, with the lock. */
pgr_status pgr_h_collect(pgr_tape *tape);

/* Sets the least number of nodes at which handles collect (2^14 at first), and the number of nodes
 * at which the tape is full (2^32 - 2 at first). Small numbers are for tests. Takes the lock, as the next two do. */
void pgr_tape_limits(pgr_tape *tape, uint32_t collect_at_least, uint32_t max_nodes);

/* While the tape is held, calls on handles do not collect, and ids stay as they are. */
void pgr_tape_hold(pgr_tape *tape, int hold);

typedef struct {
    uint32_t nodes;       /* recorded since the last collection, or kept by it */
    uint32_t capacity;    /* nodes that memory is reserved for */
    uint32_t handles;     /* held now */
    uint32_t collect_at;  /* nodes at which the next call on handles collects */
    uint64_t bytes;       /* reserved by the tape in all */
    uint64_t collections; /* made so far */
} pgr_tape_stats;

pgr_tape_stats pgr_tape_stat(pgr_tape *tape);

/* cdef: end */

/* ---- Nodes, by id -------------------------------------------------------------------------- */

/* Each records one node and writes its id to `*out`. Operand ids are on `tape`. On failure nothing is
 * recorded and `*out` is unchanged. PGR_ERR_NOMEM, PGR_ERR_FULL; amortised O(1). */
pgr_status pgr_leaf(pgr_tape *tape, double value, pgr_id *out);
pgr_status pgr_constant(pgr_tape *tape, double value, pgr_id *out);

/* Records op(lhs, rhs); rhs is 0 for unary ops and a constant's id for PGR_KIND_PARAM. Besides the
 * above PGR_ERR_OP, and what pgr_op_value returns. */
pgr_status pgr_record(pgr_tape *tape, int op, pgr_id lhs, pgr_id rhs, pgr_id *out);

/* Records b + w[0]*x[0] + ... + w[n-1]*x[n-1], from left to right, as 2n nodes: all or none of them.
 * `*out` is the last sum's id (b's own if n is 0). O(n). */
pgr_status pgr_dot(pgr_tape *tape, size_t n, const pgr_id *w, const pgr_id *x, pgr_id b, pgr_id *out);

/* Records a custom node of n operands (any n, repeats allowed). O(n). */
pgr_status pgr_custom(pgr_tape *tape, double value, size_t n, const pgr_id *operands, pgr_id *out);

/* Gives a node other operands (any n, repeats allowed) and makes it a custom one, with its number, grad and names. Where
 * an operand was recorded after it, or n > 2, ids change: the node and what was made from it move to the tape's end.
 * PGR_ERR_CYCLE if an operand was made from the node; PGR_ERR_BUSY if one of these would move while a pass goes through it; PGR_ERR_UNKNOWN if an
 * operand alone, or a node that would move, has no value; PGR_ERR_NOMEM, PGR_ERR_FULL. On failure nothing is changed. O(n), or O(nodes recorded since). */
pgr_status pgr_set_operands(pgr_tape *tape, pgr_id id, size_t n, const pgr_id *operands);

double pgr_data(const pgr_tape *tape, pgr_id id);
double pgr_grad(const pgr_tape *tape, pgr_id id);
void pgr_set_data(pgr_tape *tape, pgr_id id, double value);
void pgr_set_grad(pgr_tape *tape, pgr_id id, double value);

/* Reverse sweep: sets root's grad to 1, then every node reachable from it, in descending id order,
 * pushes its grad to its operands. Leaves accumulate into the grad they had; interior nodes are
 * overwritten; other nodes are not touched. No recursion. O(reachable nodes), plus a fraction of a nanosecond for every
 * 4096 nodes below root. Any number may be under way at once, inside each other's custom functions or in threads that
 * take turns in them; from the ninth on they allocate, and take O(n log n). PGR_ERR_CUSTOM at a custom node's failure,
 * PGR_ERR_STOPPED and PGR_ERR_NOMEM with the grads of the nodes above it done and those below it partial.
 * Source: Griewank & Walther, Evaluating Derivatives, ch. 3.2. */
pgr_status pgr_backward(pgr_tape *tape, pgr_id root);

/* The same, but stops at the first inf or nan. A number that is none, or a leaf's grad, is found before anything is
 * changed: the earliest of them. Else `*bad` is the node whose step made an operand's grad inf or nan, with the grads
 * above it done and those below it partial. PGR_ERR_NOT_FINITE. */
pgr_status pgr_backward_checked(pgr_tape *tape, pgr_id root, pgr_id *bad);

/* The partial derivatives of a node by its two operands, from their present numbers: 0 where there is none, and for
 * leaves and custom nodes. */
void pgr_partials(const pgr_tape *tape, pgr_id id, double *out);

/* One step of it: adds to the grads of the node's operands what its own grad gives them. */
pgr_status pgr_push(pgr_tape *tape, pgr_id id);

/* The same as if the node were op(lhs, rhs), which it was before its operation or its operands were changed. PGR_ERR_OP for
 * a custom one. */
pgr_status pgr_push_into(pgr_tape *tape, pgr_id id, int op, pgr_id lhs, pgr_id rhs);

/* A hold on a node, see pgr_h_hold; or -status. And the node of a handle, 0 if it is not alive. */
int64_t pgr_hold(pgr_tape *tape, pgr_id id);
pgr_id pgr_h_id(pgr_tape *tape, pgr_handle h);

/* The node's tag, see pgr_tape_tag. */
uint32_t pgr_tag(const pgr_tape *tape, int channel, pgr_id id);

/* cdef: begin */

/* The backward step of custom nodes: adds to the grads of the node's operands. The handle is good until it returns.
 * May record, and may run other backward passes; nodes don't move meanwhile. Nonzero return: failure. */
typedef int (*pgr_custom_fn)(void *ctx, pgr_tape *tape, pgr_handle node);
void pgr_tape_on_custom(pgr_tape *tape, pgr_custom_fn fn, void *ctx);

/* Asked every few milliseconds by sweeps, exports, collections and builds: nonzero to stop. May do what custom nodes'
 * functions may. */
void pgr_tape_on_stop(pgr_tape *tape, int (*stop)(void *ctx), void *ctx);

/* ---- Where nodes come from ------------------------------------------------------------------- */

/* Each channel tags nodes with numbers of the caller's. */
enum { PGR_TAG_SCOPE = 0, PGR_TAG_LINE, PGR_TAG_CHANNELS };

/* Nodes recorded from now on carry `tag`, 0 at first. PGR_ERR_NOMEM, with nothing changed; PGR_ERR_ARGUMENT for another
 * channel. Takes the lock. Amortised O(1), in time and memory a constant for each change of a tag between two nodes. */
pgr_status pgr_tape_tag(pgr_tape *tape, int channel, uint32_t tag);

/* The tag of a node; 0 for another channel or a stale handle. O(log of the number of runs). */
uint32_t pgr_h_tag(pgr_tape *tape, int channel, pgr_handle h);

/* Writes the tags of all nodes, with repeats, and the next node's, at most `capacity`; returns how many there are. */
uint32_t pgr_tape_tags(pgr_tape *tape, int channel, uint32_t capacity, uint32_t *out);

/* ---- Nodes, by handle ---------------------------------------------------------------------- */

/* Those that return int64_t give a new handle, or -status. The caller gives every handle back with
 * pgr_h_release; a node has one handle however often it is held. Stale handles give PGR_ERR_HANDLE
 * (getters: NAN or 0). */
int64_t pgr_h_hold(pgr_tape *tape, pgr_handle h); /* one hold more */
int pgr_h_alive(pgr_tape *tape, pgr_handle h);

/* Gives one hold back. With `keep` the handle's name stays on the node until it dies, whoever holds it and gives it
 * back later, without keeping it alive: for those who store something under that name (see pgr_h_next_dead). */
void pgr_h_release(pgr_tape *tape, pgr_handle h, int keep);

/* A handle whose node died while its name was kept, once each; 0 when there is none. */
pgr_handle pgr_h_next_dead(pgr_tape *tape);

int64_t pgr_h_leaf(pgr_tape *tape, int op, double value);
int64_t pgr_h_record(pgr_tape *tape, int op, pgr_handle a, pgr_handle b);

/* op(a, number), or op(number, a) if `reflected`; the number is recorded as a constant. */
int64_t pgr_h_record_number(pgr_tape *tape, int op, pgr_handle a, double number, int reflected);
int64_t pgr_h_dot(pgr_tape *tape, size_t n, const pgr_handle *w, const pgr_handle *x, pgr_handle b);
int64_t pgr_h_custom(pgr_tape *tape, double value, size_t n, const pgr_handle *operands);

double pgr_h_data(pgr_tape *tape, pgr_handle h);
pgr_status pgr_h_read(pgr_tape *tape, size_t n, const pgr_handle *nodes, double *data); /* all data at once */
double pgr_h_grad(pgr_tape *tape, pgr_handle h);
pgr_status pgr_h_set_data(pgr_tape *tape, pgr_handle h, double value);
pgr_status pgr_h_set_grad(pgr_tape *tape, pgr_handle h, double value);
pgr_status pgr_h_add_grad(pgr_tape *tape, pgr_handle h, double value);
int pgr_h_op(pgr_tape *tape, pgr_handle h); /* -PGR_ERR_HANDLE */
double pgr_h_param(pgr_tape *tape, pgr_handle h); /* of PGR_KIND_PARAM, else NAN */

/* Makes any node a custom one, or a built-in one again (op from pgr_h_op before). */
pgr_status pgr_h_set_op(pgr_tape *tape, pgr_handle h, int op);

/* Writes a new handle for each operand, at most `capacity`, in order and with repeats, and returns how
 * many there are; a parameter is none. -status on failure, PGR_ERR_HANDLE or out of memory (nothing is held then). */
int64_t pgr_h_operands(pgr_tape *tape, pgr_handle h, size_t capacity, pgr_handle *out);
pgr_status pgr_h_set_operands(pgr_tape *tape, pgr_handle h, size_t n, const pgr_handle *operands);
int pgr_h_is_made_from(pgr_tape *tape, pgr_handle root, pgr_handle h); /* or is it; 1 when out of memory, too */

pgr_status pgr_h_backward(pgr_tape *tape, pgr_handle root);
pgr_status pgr_h_backward_checked(pgr_tape *tape, pgr_handle root, pgr_handle *bad); /* with PGR_ERR_NOT_FINITE a new hold */
pgr_status pgr_h_push(pgr_tape *tape, pgr_handle h);
pgr_status pgr_h_push_into(pgr_tape *tape, pgr_handle h, int op, pgr_handle lhs, pgr_handle rhs);
pgr_status pgr_h_push_as(pgr_tape *tape, pgr_handle h, int op); /* into its operands */
void pgr_h_partials(pgr_tape *tape, pgr_handle h, double *out);

/* The lock that calls on handles take. enter's result, which is not negative, is handed to leave;
 * pgr_tape_free calls leave once with -1. On CPython the lock is the GIL, elsewhere pgr_tape_use_mutex's recursive mutex; without either there is none. */
void pgr_tape_on_lock(pgr_tape *tape, int (*enter)(void *ctx), void (*leave)(void *ctx, int token), void *ctx);
pgr_status pgr_tape_use_mutex(pgr_tape *tape);

/* Takes that mutex once more, or with 0 gives it back, for what must not be parted from calls on the tape. */
void pgr_tape_lock(pgr_tape *tape, int lock);

/* ---- Recorded functions: derivatives -------------------------------------------------------- */

/* Records a leaf without a value: PGR_OP_INPUT or PGR_OP_LANE, with a number of the caller's, which for a lane is
 * group << 32 | index. Nodes recorded from it have no value either; their data are nan. */
int64_t pgr_h_input(pgr_tape *tape, int op, uint64_t number);

/* Records `value`, a lane, as one of another group that has as many lanes. PGR_ERR_ARGUMENT if it is not a lane. */
int64_t pgr_h_lane_pass(pgr_tape *tape, pgr_handle value, uint32_t group);

/* Whether the calling thread is recording a function: detach() then keeps its operand, which may change until the
 * function runs. */
void pgr_set_recording(int on);
int pgr_is_recording(void);

/* Records the sum of `value`, which may differ from lane to lane, over the lanes of `witness`, which does. */
int64_t pgr_h_lane_sum(pgr_tape *tape, pgr_handle value, pgr_handle witness);

/* 0; 1: the node has no value; 2: nor is it the same in all lanes. */
int pgr_h_unknown(pgr_tape *tape, pgr_handle h);

#define PGR_NO_GROUP 0xffffffffu

/* Records the nodes of a vector-Jacobian product: out[j] = sum over i of seeds[i] * d roots[i] / d wrt[j], each a new
 * hold. They depend on the nodes that they are made from, and can be derived again. `within` is the group whose
 * function is being recorded: each lane then has a derivative of its own, by nodes that are the same in all lanes too.
 * With PGR_NO_GROUP such a node gets the sum over lanes. On failure nothing is recorded; with PGR_ERR_OPAQUE `*bad`, if
 * not NULL, is a new hold on the custom node.
 * O(nodes between the first of wrt and the last of roots). Source: Griewank & Walther, ch. 3.2. */
pgr_status pgr_h_vjp(pgr_tape *tape, uint32_t within, size_t root_count, const pgr_handle *roots, const pgr_handle *seeds,
                     size_t wrt_count, const pgr_handle *wrt, pgr_handle *out, pgr_handle *bad);

/* A Jacobian-vector product: out[i] = sum over j of tangents[j] * d roots[i] / d wrt[j]. Source: ch. 3.1. */
pgr_status pgr_h_jvp(pgr_tape *tape, size_t wrt_count, const pgr_handle *wrt, const pgr_handle *tangents, size_t root_count,
                     const pgr_handle *roots, pgr_handle *out, pgr_handle *bad);

/* Which of `places`, lanes that a vmap's function was given, the roots are made from: sets used[i] to 1 or 0.
 * PGR_ERR_LANES if a root is also made from other lanes, PGR_ERR_OPAQUE if from a lane that is a custom node. */
pgr_status pgr_h_lane_places(pgr_tape *tape, size_t place_count, const pgr_handle *places, size_t root_count,
                             const pgr_handle *roots, uint8_t *used);

/* Records the roots for single lanes: out[k * root_count + i], a new hold, is what roots[i] is where places[j] is
 * values[k * place_count + j], for k < lane_count. Nodes that are the same in all lanes are shared. On failure nothing
 * is recorded. */
pgr_status pgr_h_lane_values(pgr_tape *tape, size_t place_count, const pgr_handle *places, size_t root_count,
                             const pgr_handle *roots, size_t lane_count, const pgr_handle *values, pgr_handle *out);

/* cdef: end */

/* The same by id. */
pgr_status pgr_input(pgr_tape *tape, int op, uint64_t number, pgr_id *out);
pgr_status pgr_lane_sum(pgr_tape *tape, pgr_id value, pgr_id witness, pgr_id *out);
pgr_status pgr_vjp(pgr_tape *tape, uint32_t within, size_t root_count, const pgr_id *roots, const pgr_id *seeds,
                   size_t wrt_count, const pgr_id *wrt, pgr_id *out, pgr_id *bad);
pgr_status pgr_jvp(pgr_tape *tape, size_t wrt_count, const pgr_id *wrt, const pgr_id *tangents, size_t root_count,
                   const pgr_id *roots, pgr_id *out, pgr_id *bad);

pgr_status pgr_lane_places(pgr_tape *tape, size_t place_count, const pgr_id *places, size_t root_count,
                           const pgr_id *roots, uint8_t *used);
pgr_status pgr_lane_values(pgr_tape *tape, size_t place_count, const pgr_id *places, size_t root_count, const pgr_id *roots,
                           size_t lane_count, const pgr_id *values, pgr_id *out);
pgr_status pgr_lane_pass(pgr_tape *tape, pgr_id value, uint32_t group, pgr_id *out);

/* cdef: begin */

/* ---- Recorded functions: programs ------------------------------------------------------------ */

typedef struct pgr_program pgr_program;

/* An input's `number` (pgr_input) is array << 32 | offset. */
typedef struct {
    uint32_t array;          /* lane i reads in[array][offset + i * stride] */
    uint64_t offset, stride;
} pgr_lane_input;

typedef struct {
    uint64_t lanes;
    uint32_t input_count;
    const pgr_lane_input *inputs; /* by index */
} pgr_lane_group;

typedef struct {
    uint32_t node;           /* its id */
    uint32_t array;          /* written to out[array][offset], by lane i to out[array][offset + i * stride] */
    uint64_t offset, stride;
} pgr_output;

/* Builds the program that works out the outputs, outputs[i].node from nodes[i]: without what they do not need, equal subexpressions shared,
 * constants folded, chains of multiply-adds made dot products, what depends on no lane worked out once.
 * Groups of equally many lanes are built as one. PGR_ERR_OPAQUE if an output depends on a custom node of the recording;
 * PGR_ERR_LANES if lanes of different groups meet without pgr_h_lane_pass, or an output of stride 0 is a lane;
 * PGR_ERR_UNKNOWN if a node from before the recording has no value: with these three `*bad`, if not NULL, is a new hold
 * on that node. PGR_ERR_ARGUMENT if a group has no lanes, or 2^48 or more. `start` is the first node of the recording; leaves from there on that have values
 * are constants. The caller frees it with pgr_program_free. O(nodes between first and last). */
pgr_status pgr_h_program_build(pgr_tape *tape, pgr_handle start, size_t output_count, const pgr_handle *nodes,
                               pgr_output *outputs, size_t group_count, const pgr_lane_group *groups,
                               uint32_t captures_array, pgr_program **out, pgr_handle *bad);

/* Nodes older than `start`, with values, that nodes from it on are made from: the function's surroundings. They
 * are inputs like others: in[captures_array][i] is the value of the i-th. Each is a hold that pgr_h_program_build has
 * taken and that the caller gives back; the array is borrowed. */
size_t pgr_h_program_captures(const pgr_program *program, const pgr_handle **handles);

/* cdef: end */

/* By id, with outputs[i].node filled in; captures are valid until the next collection. */
pgr_status pgr_program_build(pgr_tape *tape, pgr_id start, size_t output_count, const pgr_output *outputs, size_t group_count,
                             const pgr_lane_group *groups, uint32_t captures_array, pgr_program **out, pgr_id *bad);
size_t pgr_program_captures(const pgr_program *program, const pgr_id **ids);

/* cdef: begin */

/* What a program consists of: for listings, and for files. Slots are numbers; those of lanes, which hold one for each
 * lane, have the bit PGR_SLOT_LANE; PGR_SLOT_NONE is none. Arrays belong to the program. */
#define PGR_SLOT_LANE 0x80000000u
#define PGR_SLOT_NONE 0x7fffffffu

/* Instructions besides those of the table; each is out = ..., but for the last two. */
enum {
    PGR_PROGRAM_DOT = 128, /* a + args[first] * args[first + 1] + ..., of dots[b] */
    PGR_PROGRAM_LANE_SUM,  /* out += sum over lanes of a */
    PGR_PROGRAM_LANE_DOT,  /* out += sum over lanes of a * b */
    PGR_PROGRAM_LOAD,      /* lane input number a */
    PGR_PROGRAM_STORE,     /* a, to output number b */
    PGR_PROGRAM_RUN        /* the next `a` instructions are alike, and none needs another's result */
};

typedef struct {
    uint32_t op, out, a, b;
} pgr_instruction;

/* `count` pairs, args[first] and args[first + 1] the first. The second is PGR_SLOT_NONE where there is one alone; of a
 * uniform and a lane one, the uniform one is the first. */
typedef struct {
    uint32_t first, count;
} pgr_program_dot;

typedef struct {
    uint32_t first, count;         /* of its instructions */
    uint32_t group;                /* of lanes; UINT32_MAX: uniform, run once */
    uint32_t first_sum, sum_count; /* uniform slots of its sums over lanes */
} pgr_segment;

typedef struct { /* slot + i is in[array][offset + i], for i < count */
    uint32_t slot, array;
    uint64_t offset, count;
} pgr_uniform_input;

typedef struct {
    uint32_t instruction_count, arg_count, dot_count, segment_count, constant_count, input_count, output_count;
    uint32_t lane_input_count, group_count;
    uint32_t uniform_slots, lane_slots;
    uint32_t block;                      /* lanes that are worked on together: a power of two from 16 to 256 */
    uint32_t nodes;
    const pgr_instruction *instructions;
    const uint32_t *args;
    const pgr_program_dot *dots;
    const pgr_segment *segments;         /* one after the other, all instructions */
    const double *constants;             /* of the first uniform slots */
    const pgr_uniform_input *inputs;
    const pgr_output *outputs;           /* `node` is a uniform slot; PGR_SLOT_LANE: stored by lanes */
    const pgr_lane_input *lane_inputs;
    const uint32_t *group_first_input;   /* of lane_inputs, by group; one more than there are groups */
    const uint64_t *group_lanes;
} pgr_program_parts;

void pgr_program_to_parts(const pgr_program *program, pgr_program_parts *parts);

/* A program of parts that anybody may have written: PGR_ERR_PROGRAM if they are no program, or one that would read or
 * write beside its slots, read a slot that nothing is written to, or go beyond in_sizes[i] and out_sizes[i] numbers of
 * array i. Copies all that it needs. The caller frees it with pgr_program_free. O(instructions). */
pgr_status pgr_program_from_parts(const pgr_program_parts *parts, size_t in_count, const uint64_t *in_sizes,
                                  size_t out_count, const uint64_t *out_sizes, pgr_program **out);

/* For each instruction the line, PGR_TAG_LINE, of the node that it comes from. Nodes of a derivative have the line of
 * the node that they derive. Borrowed; NULL for a program from parts. */
const uint32_t *pgr_program_lines(const pgr_program *program);
void pgr_program_free(pgr_program *program); /* NULL is allowed */

#define PGR_MAX_WORKERS 64

/* Instruction sets that lanes are compiled for. They differ in the last places: AVX fuses multiplies and adds. */
typedef enum { PGR_KERNELS_BEST = 0, PGR_KERNELS_PLAIN, PGR_KERNELS_AVX2, PGR_KERNELS_AVX512 } pgr_kernels;

typedef struct {
    unsigned workers;        /* threads that share a vmap's lanes, with the caller's; 0 is 1 */
    int (*stop)(void *ctx);  /* asked every few milliseconds by the caller's thread: whether to stop. May be NULL */
    void *ctx;
    pgr_kernels kernels;     /* at most these: for tests, and for the same bits on other machines */
} pgr_run_options;

/* Runs it: reads in[array][...], writes out[array][...]. Results follow IEEE 754, and do not depend on the number
 * of workers. Programs do not change, so one may run in several threads. `options` may be NULL. PGR_ERR_NOMEM with
 * nothing written; PGR_ERR_STOPPED with the results undefined. */
pgr_status pgr_program_run(const pgr_program *program, const double *const *in, double *const *out, const pgr_run_options *options);

typedef struct {
    uint32_t instructions, dots, segments, uniform_slots, lane_slots, constants;
    uint32_t nodes;      /* of the graph that it was built from */
    uint64_t block;      /* lanes that are worked on together; 0: there are none */
    uint64_t bytes;      /* of the program */
} pgr_program_stats;

pgr_program_stats pgr_program_stat(const pgr_program *program);

/* ---- Optimisers ---------------------------------------------------------------------------- */

/* One update of n nodes' data from their grads, in one call. Names, defaults' meaning and order of the
 * arithmetic are PyTorch's. PGR_ERR_HANDLE with nothing changed. O(n). */
typedef struct {
    double lr, momentum, dampening, weight_decay;
    int nesterov, maximize;
} pgr_sgd;

/* `buffer`: n momenta, not read at step 1; NULL if momentum is 0. */
pgr_status pgr_h_sgd(pgr_tape *tape, size_t n, const pgr_handle *nodes, const pgr_sgd *options, uint64_t step, double *buffer);

typedef struct {
    double lr, beta1, beta2, eps, weight_decay;
    int decoupled; /* weight decay apart from the grad: AdamW */
    int maximize;
} pgr_adam;

/* `m`, `v`: n first and second moments, zero before step 1; `v_max`: their largest so far, for AMSGrad, or
 * NULL. Sources: Kingma & Ba, Adam, ICLR 2015; Loshchilov & Hutter, ICLR 2019; Reddi et al., ICLR 2018. */
pgr_status pgr_h_adam(pgr_tape *tape, size_t n, const pgr_handle *nodes, const pgr_adam *options, uint64_t step, double *m,
                      double *v, double *v_max);

/* The same for arrays of n numbers. */
void pgr_sgd_array(size_t n, double *data, const double *grad, const pgr_sgd *options, uint64_t step, double *buffer);
void pgr_adam_array(size_t n, double *data, const double *grad, const pgr_adam *options, uint64_t step, double *m, double *v,
                    double *v_max);

pgr_status pgr_h_zero_grads(pgr_tape *tape, size_t n, const pgr_handle *nodes);

/* ---- The node table ------------------------------------------------------------------------ */

typedef struct {
    double data;
    double grad;
    double param;            /* of PGR_KIND_PARAM, else NAN */
    pgr_handle handle;       /* 0 if the node has no name; see pgr_h_export */
    uint32_t first_operand;  /* this row's operands are operands[first_operand] .. */
    uint32_t operand_count;  /* .. and so many, in order, with repeats */
    int op;
    uint32_t scope, line;    /* tags */
    uint32_t call;           /* nodes of one scope that were recorded without another between have one number */
} pgr_row;

typedef struct {
    pgr_row *rows;        /* in the order of recording: operands first, root last */
    uint32_t *operands;   /* indices of rows */
    uint32_t row_count;
    uint32_t operand_count;
} pgr_table;

/* Exports what is reachable from root in one call. Fills `*table`; the caller frees its arrays with
 * pgr_table_free. With `hold` each row's handle is a new hold, which the caller gives back; without it may have become
 * stale since. On failure, PGR_ERR_STOPPED too, `*table` is unchanged. O(reachable nodes). */
pgr_status pgr_h_export(pgr_tape *tape, pgr_handle root, int hold, pgr_table *table);
void pgr_table_free(pgr_tape *tape, pgr_table *table);

/* ---- Large graphs, folded -------------------------------------------------------------------- */

/* What is shown in place of a graph's nodes: a node itself, or a fold of several. */
typedef struct {
    uint32_t row;    /* the node, or the fold's last one */
    uint32_t count;  /* nodes that it stands for */
    uint32_t leaves; /* as many of them are leaves */
    uint32_t calls;  /* how often its one scope was entered; 0: it has nodes of several */
    uint32_t fold;   /* PGR_OPEN: the node itself; else which fold */
} pgr_vertex;

#define PGR_OPEN 0xffffffffu

typedef struct {
    uint32_t source, target; /* vertices: operand, result */
    uint32_t count;
} pgr_edge;

typedef struct {
    pgr_vertex *vertices; /* in the order of their first nodes */
    pgr_edge *edges;      /* in the order of results and operands */
    uint32_t vertex_count, edge_count;
} pgr_folding;

/* Folds by the caller's numbers, from PGR_FOLD_FIRST on; of these the library forms the first ones itself. */
enum {
    PGR_FOLD_REST = 0,    /* operations further from the root than what is shown */
    PGR_FOLD_INPUTS,      /* leaves that no scope is tagged with */
    PGR_FOLD_PARAMETERS,  /* leaves of the scope `parameters` */
    PGR_FOLD_FIRST
};

typedef struct {
    uint32_t scope_count;
    const uint32_t *folds;      /* by scope: the fold that its nodes go to, PGR_OPEN: none */
    const uint32_t *more_folds; /* by scope: where those of all calls but the first go, PGR_OPEN: as the first's */
    uint32_t fold_count;        /* with the library's own */
    uint32_t parameters;        /* the scope that leaves are tagged with which are parameters */
    uint32_t max_open;          /* nodes that are shown as themselves at most .. */
    uint32_t max_near;          /* .. and of them beside the root and those of scopes that are not folded */
} pgr_fold_options;

/* Folds the graph of a table. A parameter, or a constant, that nodes of just one fold use goes with them. Of nodes that
 * no scope folds, the nearest to the root and to scopes that are not folded are shown, the others folded. The caller frees the
 * arrays with pgr_folding_free. PGR_ERR_NOMEM. O(nodes and operands). */
pgr_status pgr_fold(pgr_tape *tape, const pgr_table *table, const pgr_fold_options *options, pgr_folding *folding);
/* Sets used[s] to 1 for each scope s below `count` that nodes of a table are in. */
void pgr_table_scopes(const pgr_table *table, uint32_t count, uint8_t *used);
void pgr_folding_free(pgr_tape *tape, pgr_folding *folding);

/* cdef: end */

/* pgr_h_export by id. */
pgr_status pgr_export(pgr_tape *tape, pgr_id root, int hold, pgr_table *table);

#ifdef __cplusplus
}
#endif
#if defined(__GNUC__)
#pragma GCC visibility pop
#endif
#endif
