/* pgr.h: reverse-mode automatic differentiation of scalar code on a tape of nodes.
 *
 * A node is a number that remembers how it was made: its value, its grad, its op and up to two operands. Nodes are
 * recorded one after another, so an operand's id is always smaller than its result's, and descending ids are a reverse
 * topological order: the backward pass is one descending sweep, liveness is one descending pass, and neither recurses.
 * See Griewank & Walther, Evaluating Derivatives (2nd ed., SIAM 2008), ch. 3 and 4 for the method and its vocabulary.
 *
 * Two ways to name a node:
 *   - pgr_id: its place on the tape, valid until the next collection, which slides live nodes down. Functions on ids
 *     are the fastest: they never collect and take no lock. They are for programs in C.
 *   - pgr_handle: a stable name that also keeps the node alive. Functions on handles (pgr_h_...) collect when the tape
 *     has doubled, and hold the tape's lock for the length of the call.
 *
 * The library never prints, exits or aborts on a caller's mistake: a call that can fail returns a status, and then the
 * tape is as it was before. Python's cffi reads this header between the markers below, so nothing is declared twice.
 * pgr_id and its functions stand outside them: another thread may collect between two calls from Python, so Python must
 * not keep ids. */
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

typedef uint32_t pgr_id; /* a node's place on its tape; 0: no node */

/* cdef: begin */

/* ---- Vocabulary ---------------------------------------------------------------------------- */

typedef uint64_t pgr_handle;  /* a stable name of a node, below 2^63; 0: no node */

typedef enum {
    PGR_OK = 0,
    PGR_ERR_NOMEM,    /* the allocator returned NULL */
    PGR_ERR_FULL,     /* the tape cannot hold more nodes */
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
    PGR_ERR_STOPPED,  /* the caller's function said so (pgr_tape_on_stop) */
    PGR_ERR_NOT_FINITE, /* a number or a grad is inf or nan */
    PGR_ERR_LANES,    /* lanes of different vmaps meet, or a lane is used outside of its vmap */
    PGR_ERR_CYCLE,    /* a node would depend on itself */
    PGR_ERR_BUSY,     /* nodes would have to move while a pass goes through them */
    PGR_ERR_CAPTURED  /* a call with a rule for its derivative uses a variable that is not one of its inputs */
} pgr_status;

/* The tape's own ops; pgr_ops.h's start at PGR_OP_FIRST. */
enum {
    PGR_OP_LEAF = 0,  /* an input or a parameter */
    PGR_OP_CONST,     /* a number written in an expression; otherwise a leaf */
    PGR_OP_CUSTOM,    /* its backward step is the caller's function */
    PGR_OP_PAIR,      /* holds operands of a custom node with more than two; never shown */
    PGR_OP_INPUT,     /* of a function being recorded: a leaf without a value */
    PGR_OP_LANE,      /* an input with a value for each lane of a vmap */
    PGR_OP_LANE_SUM,  /* the sum over lanes */
    PGR_OP_LANE_PASS, /* a lane's value, passed to the same lane of another vmap */
    PGR_OP_CALL,      /* a result of a call of programs; its operands are a chain, as a custom node's */
    PGR_OP_FIRST
};

/* PGR_KIND_OWN: one of the tape's own ops. */
typedef enum { PGR_KIND_OWN = 0, PGR_KIND_UNARY, PGR_KIND_BINARY, PGR_KIND_PARAM, PGR_KIND_CUT } pgr_kind;

typedef struct {
    const char *name;      /* "tanh": the method's name */
    const char *symbol;    /* "tanh", "+": what is drawn */
    const char *rule;      /* what an error says: "the argument must be positive" */
    const char *doc;       /* one sentence */
    const char *c;         /* the value, as a C99 expression in a and b */
    const char *da, *db;   /* the partial derivatives in words (see ops/words.h); db of PGR_KIND_BINARY only */
    pgr_kind kind;
    double param_default;  /* of PGR_KIND_PARAM; NAN: no default */
} pgr_op_info;

/* The row of an op, from 0 to pgr_op_count() - 1, the tape's own first; NULL for other numbers. Borrowed for ever. */
const pgr_op_info *pgr_op_row(int op);
int pgr_op_count(void);

/* The source of the i-th function, counted from 0, that the rows' C calls beside libm; it may call those before it.
 * NULL for other numbers. Borrowed for ever. */
const char *pgr_op_special(int i);

/* Evaluates `*out` = op(a, b); unary ops ignore b. Returns PGR_OK; PGR_ERR_DOMAIN, _DIVZERO or _RANGE where Python's
 * float and math raise for the same numbers, though `*out` is still the IEEE 754 result; PGR_ERR_OP if `op` is not in
 * the table. */
pgr_status pgr_op_value(int op, double a, double b, double *out);

/* ---- Tapes --------------------------------------------------------------------------------- */

typedef struct pgr_tape pgr_tape;

/* resize(ctx, p, size): realloc, or free where size is 0. NULL for size > 0 leaves p as it was. */
typedef struct {
    void *(*resize)(void *ctx, void *p, size_t size);
    void *ctx;
} pgr_allocator;

/* A new tape, or NULL when out of memory. Copies `allocator`; NULL means malloc. The caller frees the tape with
 * pgr_tape_free. */
pgr_tape *pgr_tape_new(const pgr_allocator *allocator);

/* Frees the tape and all its nodes. NULL is allowed. No other call on the tape may be under way. */
void pgr_tape_free(pgr_tape *tape);

/* The process's default tape, made on first use and never freed; NULL when out of memory. */
pgr_tape *pgr_default_tape(void);

/* cdef: end */

/* Frees dead nodes: a node lives while a handle names it or a live node has it as an operand. Live nodes slide down in
 * order, so ids are void afterwards; handles stay. Does nothing inside a backward pass. On PGR_ERR_NOMEM or
 * PGR_ERR_STOPPED nothing has moved. O(nodes). */
pgr_status pgr_tape_collect(pgr_tape *tape);

/* cdef: begin */

/* The same through the tape's collector, with the lock. */
pgr_status pgr_h_collect(pgr_tape *tape);

/* Sets the least number of nodes at which calls on handles collect, and the least number of new ones after which they
 * do (2^14 at first), and the number at which the tape is full (2^32 - 2 at first). Small numbers are for tests. Takes
 * the lock, as does the next. */
void pgr_tape_limits(pgr_tape *tape, uint32_t collect_at_least, uint32_t max_nodes);

typedef struct {
    uint32_t nodes;       /* recorded since the last collection, or kept by it */
    uint32_t capacity;    /* nodes that fit into reserved memory */
    uint32_t handles;     /* held now */
    uint32_t collect_at;  /* nodes at which the next call on handles collects */
    uint64_t bytes;       /* reserved in total */
    uint64_t collections; /* so far */
} pgr_tape_stats;

pgr_tape_stats pgr_tape_stat(pgr_tape *tape);
uint32_t pgr_tape_size(pgr_tape *tape); /* its nodes alone */

/* cdef: end */

/* ---- Nodes, by id -------------------------------------------------------------------------- */

/* Each records one node and writes its id to `*out`. Operands are on `tape`. On failure nothing is recorded and `*out`
 * is unchanged. PGR_ERR_NOMEM, PGR_ERR_FULL; amortised O(1). */
pgr_status pgr_leaf(pgr_tape *tape, double value, pgr_id *out);
pgr_status pgr_constant(pgr_tape *tape, double value, pgr_id *out);

/* Records op(lhs, rhs); rhs is 0 for unary ops, and a constant's id for PGR_KIND_PARAM. Also returns pgr_op_value's
 * statuses. */
pgr_status pgr_record(pgr_tape *tape, int op, pgr_id lhs, pgr_id rhs, pgr_id *out);

/* Records b + w[0]*x[0] + ... + w[n-1]*x[n-1], from left to right, as 2n nodes or none. `*out` is the last sum's id, b
 * if n is 0. O(n). */
pgr_status pgr_dot(pgr_tape *tape, size_t n, const pgr_id *w, const pgr_id *x, pgr_id b, pgr_id *out);

/* Records a custom node of n operands (any n, repeats allowed). O(n). */
pgr_status pgr_custom(pgr_tape *tape, double value, size_t n, const pgr_id *operands, pgr_id *out);

/* Gives a node other operands (any n, repeats allowed) and makes it a custom one; it keeps its number, grad and names.
 * If an operand was recorded after the node, or n > 2, the node and all that was made from it move to the tape's end,
 * with new ids. PGR_ERR_CYCLE if an operand was made from the node; PGR_ERR_BUSY if a node would move while a pass
 * goes through it; PGR_ERR_UNKNOWN if an operand alone, or a node that would move, has no value; PGR_ERR_NOMEM,
 * PGR_ERR_FULL. On failure nothing is changed. O(n), or O(nodes recorded since the node). */
pgr_status pgr_set_operands(pgr_tape *tape, pgr_id id, size_t n, const pgr_id *operands);

double pgr_data(const pgr_tape *tape, pgr_id id);
double pgr_grad(const pgr_tape *tape, pgr_id id);
void pgr_set_data(pgr_tape *tape, pgr_id id, double value);
void pgr_set_grad(pgr_tape *tape, pgr_id id, double value);

/* Reverse sweep: sets root's grad to 1; then each node reachable from it, in descending order, adds its grad times its
 * local derivatives to its operands' grads. Leaves accumulate into the grads they had, interior nodes are overwritten,
 * other nodes are not touched. Does not recurse. O(reachable nodes), plus a fraction of a nanosecond for every 4096
 * nodes below root. Sweeps may nest, in custom nodes' functions, and alternate in threads; from the ninth on they
 * allocate and take O(n log n). PGR_ERR_CUSTOM if a custom node's function fails, PGR_ERR_STOPPED and PGR_ERR_NOMEM:
 * then grads above that node are final, and those below it partial. Source: Griewank & Walther, Evaluating
 * Derivatives, ch. 3.2. */
pgr_status pgr_backward(pgr_tape *tape, pgr_id root);

/* The same, but stops at the first inf or nan, with PGR_ERR_NOT_FINITE. Non-finite values, and non-finite grads of
 * leaves, are reported before anything changes; `*bad` is the earliest such node. Otherwise `*bad` is the node whose
 * step made an operand's grad inf or nan; grads above it are final, those below it partial. */
pgr_status pgr_backward_checked(pgr_tape *tape, pgr_id root, pgr_id *bad);

/* The local derivatives of a node by its two operands, at their present numbers; 0 for a missing operand, for leaves
 * and for custom nodes. */
void pgr_partials(const pgr_tape *tape, pgr_id id, double *out);

/* One step of the sweep: adds the node's grad times its local derivatives to its operands' grads. */
pgr_status pgr_push(pgr_tape *tape, pgr_id id);

/* The same as if the node were op(lhs, rhs): for nodes whose operation or operands have changed since. PGR_ERR_OP for
 * PGR_OP_CUSTOM. */
pgr_status pgr_push_into(pgr_tape *tape, pgr_id id, int op, pgr_id lhs, pgr_id rhs);

/* pgr_hold: a new hold on a node (see pgr_h_hold), or -status. pgr_h_id: a handle's node, 0 if it is not alive. */
int64_t pgr_hold(pgr_tape *tape, pgr_id id);
pgr_id pgr_h_id(pgr_tape *tape, pgr_handle h);

/* A node's tag (see pgr_tape_tag). */
uint32_t pgr_tag(const pgr_tape *tape, int channel, pgr_id id);

/* cdef: begin */

/* The backward step of custom nodes: adds to the grads of the node's operands. The handle is valid until it returns. It
 * may record and run other backward passes; nodes don't move meanwhile. Nonzero: failure. */
typedef int (*pgr_custom_fn)(void *ctx, pgr_tape *tape, pgr_handle node);
void pgr_tape_on_custom(pgr_tape *tape, pgr_custom_fn fn, void *ctx);

/* Sweeps, exports, collections and builds call `stop` every few milliseconds, and stop if it returns nonzero. It may do
 * what custom nodes' functions may. */
void pgr_tape_on_stop(pgr_tape *tape, int (*stop)(void *ctx), void *ctx);

/* ---- Where nodes come from ------------------------------------------------------------------- */

/* Each channel tags nodes with the caller's numbers. */
enum { PGR_TAG_SCOPE = 0, PGR_TAG_LINE, PGR_TAG_CHANNELS };

/* Nodes recorded from now on carry `tag`; 0 at first. PGR_ERR_NOMEM, with nothing changed; PGR_ERR_ARGUMENT for another
 * channel. Takes the lock. Amortised O(1); memory grows with the changes of tag between nodes. */
pgr_status pgr_tape_tag(pgr_tape *tape, int channel, uint32_t tag);

/* A node's tag; 0 for another channel or a stale handle. O(log changes of tag). */
uint32_t pgr_h_tag(pgr_tape *tape, int channel, pgr_handle h);

/* Writes the tags of all nodes, with repeats, and the next node's, at most `capacity`; returns their number. */
uint32_t pgr_tape_tags(pgr_tape *tape, int channel, uint32_t capacity, uint32_t *out);

/* ---- Nodes, by handle ---------------------------------------------------------------------- */

/* Calls that return int64_t return a new hold, or -status. The caller releases every hold with pgr_h_release; a node
 * has one handle however often it is held. Stale handles give PGR_ERR_HANDLE, from getters NAN or 0. */
int64_t pgr_h_hold(pgr_tape *tape, pgr_handle h);
int pgr_h_alive(pgr_tape *tape, pgr_handle h);

/* Releases one hold. With `keep`, the node has this handle until it dies, even while nobody holds it: for callers that
 * store something under the handle (see pgr_h_next_dead). A kept handle does not keep its node alive. */
void pgr_h_release(pgr_tape *tape, pgr_handle h, int keep);
void pgr_h_release_all(pgr_tape *tape, size_t n, const pgr_handle *handles); /* one hold on each; keeps none */

/* Returns each kept handle whose node has died, once; then 0. */
pgr_handle pgr_h_next_dead(pgr_tape *tape);

int64_t pgr_h_leaf(pgr_tape *tape, int op, double value);
int64_t pgr_h_record(pgr_tape *tape, int op, pgr_handle a, pgr_handle b);

/* Records op(a, number), or op(number, a) if `reflected`, the number as a constant. */
int64_t pgr_h_record_number(pgr_tape *tape, int op, pgr_handle a, double number, int reflected);
int64_t pgr_h_dot(pgr_tape *tape, size_t n, const pgr_handle *w, const pgr_handle *x, pgr_handle b);
int64_t pgr_h_custom(pgr_tape *tape, double value, size_t n, const pgr_handle *operands);

double pgr_h_data(pgr_tape *tape, pgr_handle h);
pgr_status pgr_h_read(pgr_tape *tape, size_t n, const pgr_handle *nodes, double *data); /* of n nodes */
double pgr_h_grad(pgr_tape *tape, pgr_handle h);
pgr_status pgr_h_set_data(pgr_tape *tape, pgr_handle h, double value);
pgr_status pgr_h_set_grad(pgr_tape *tape, pgr_handle h, double value);
pgr_status pgr_h_add_grad(pgr_tape *tape, pgr_handle h, double value);
int pgr_h_op(pgr_tape *tape, pgr_handle h); /* -PGR_ERR_HANDLE */
double pgr_h_param(pgr_tape *tape, pgr_handle h); /* of PGR_KIND_PARAM, else NAN */

/* Makes a node a custom one, or a built-in one again (by the op that pgr_h_op returned before). */
pgr_status pgr_h_set_op(pgr_tape *tape, pgr_handle h, int op);

/* Writes a new hold on each operand, at most `capacity`, in order and with repeats, and returns the number of operands;
 * a parameter is not one. -PGR_ERR_HANDLE or -PGR_ERR_NOMEM, with nothing held. */
int64_t pgr_h_operands(pgr_tape *tape, pgr_handle h, size_t capacity, pgr_handle *out);
pgr_status pgr_h_set_operands(pgr_tape *tape, pgr_handle h, size_t n, const pgr_handle *operands);

/* Whether root is h or was made from it; 1 when out of memory, too. */
int pgr_h_is_made_from(pgr_tape *tape, pgr_handle root, pgr_handle h);

pgr_status pgr_h_backward(pgr_tape *tape, pgr_handle root);
/* With PGR_ERR_NOT_FINITE `*bad` is a new hold. */
pgr_status pgr_h_backward_checked(pgr_tape *tape, pgr_handle root, pgr_handle *bad);
pgr_status pgr_h_push(pgr_tape *tape, pgr_handle h);
pgr_status pgr_h_push_into(pgr_tape *tape, pgr_handle h, int op, pgr_handle lhs, pgr_handle rhs);
pgr_status pgr_h_push_as(pgr_tape *tape, pgr_handle h, int op); /* into its present operands */
void pgr_h_partials(pgr_tape *tape, pgr_handle h, double *out);

/* Sets the lock that calls on handles take. `leave` gets the result of `enter`, which is not negative; pgr_tape_free
 * calls leave once with -1. On CPython the lock is the GIL, elsewhere pgr_tape_use_mutex's recursive mutex. A new tape
 * has no lock. */
void pgr_tape_on_lock(pgr_tape *tape, int (*enter)(void *ctx), void (*leave)(void *ctx, int token), void *ctx);
pgr_status pgr_tape_use_mutex(pgr_tape *tape);

/* Takes the tape's lock, or releases it if `lock` is 0: for work that must be one with calls on the tape. */
void pgr_tape_lock(pgr_tape *tape, int lock);

/* ---- Recorded functions: derivatives -------------------------------------------------------- */

/* Records a leaf without a value: PGR_OP_INPUT or PGR_OP_LANE, with the caller's number; a lane's is
 * group << 32 | index. Nodes made from it have no value either: their data are nan. */
int64_t pgr_h_input(pgr_tape *tape, int op, uint64_t number);

/* Records `value`, a lane, as a lane of another group of equally many. PGR_ERR_ARGUMENT if it is not a lane. */
int64_t pgr_h_lane_pass(pgr_tape *tape, pgr_handle value, uint32_t group);

/* Records n operands of a call as one node, for pgr_h_result. Returns a new hold; 0 if n is 0. */
int64_t pgr_h_chain(pgr_tape *tape, size_t n, const pgr_handle *operands);

/* Records a result of a call with a chain of operands: a node without a value, which is a lane if an operand is.
 * `number` is call << 32 | result; see pgr_inner. */
int64_t pgr_h_result(pgr_tape *tape, pgr_handle chain, uint64_t number);

/* What a recording's results are made from. */
typedef struct {
    size_t root_count, cut_count, range_count, own_count;
    const pgr_handle *roots, *cuts;
    const pgr_handle *ranges; /* pairs, the first and the last node of a recording within this one */
    const pgr_handle *own;    /* inputs, lanes and results of calls of this recording, made meanwhile */
} pgr_places;

/* Sets needed[c] to 1 for each call c below `call_count` that the roots are made from, by nodes from `start` on and not
 * through the cuts; else to 0. PGR_ERR_UNKNOWN if they are made from an input, a lane, or a result of a call, of a
 * recording within. O(n + m) for n nodes since `start` and m handles. */
pgr_status pgr_h_needed_calls(pgr_tape *tape, pgr_handle start, const pgr_places *places, size_t call_count,
                              uint8_t *needed);

/* Whether the calling thread is recording a function. detach() then keeps its operand, whose number may change before
 * the function runs. */
void pgr_set_recording(int on);
int pgr_is_recording(void);

/* Records the sum of `value`, a lane or not, over the lanes of `witness`, a lane. */
int64_t pgr_h_lane_sum(pgr_tape *tape, pgr_handle value, pgr_handle witness);

/* 0: the node has a value; 1: it has none; 2: it has none and may differ from lane to lane. */
int pgr_h_unknown(pgr_tape *tape, pgr_handle h);

#define PGR_NO_GROUP 0xffffffffu

/* Records a vector-Jacobian product: out[j], a new hold, is the sum over i of seeds[i] * d roots[i] / d wrt[j], made of
 * nodes that can be derived again. `within` is the group whose function is being recorded: then each lane gets a
 * derivative of its own, even by nodes that are the same in all lanes. With PGR_NO_GROUP such nodes get the sum over
 * lanes. On failure nothing is recorded; with PGR_ERR_OPAQUE `*bad`, if not NULL, is a new hold on the custom node.
 * O(nodes from the first of wrt to the last of roots). Source: Griewank & Walther, ch. 3.2. */
pgr_status pgr_h_vjp(pgr_tape *tape, uint32_t within, size_t root_count, const pgr_handle *roots,
                     const pgr_handle *seeds, size_t wrt_count, const pgr_handle *wrt, pgr_handle *out,
                     pgr_handle *bad);

/* Records a Jacobian-vector product: out[i] is the sum over j of tangents[j] * d roots[i] / d wrt[j]. Source: ch.
 * 3.1. */
pgr_status pgr_h_jvp(pgr_tape *tape, size_t wrt_count, const pgr_handle *wrt, const pgr_handle *tangents,
                     size_t root_count, const pgr_handle *roots, pgr_handle *out, pgr_handle *bad);

/* A call whose derivative is a rule of the caller's. Copies of its inputs, the cuts, are all that its results are made
 * from; copies of these are the outs. The derivative stops at the outs and goes on at the inputs. Cuts alone, without
 * outs, are variables or constants, whatever they are made from. */
typedef struct {
    size_t cut_count, input_count, out_count;
    const pgr_handle *nodes; /* the cuts, the inputs, the outs */
} pgr_region;

/* A vjp (nodes: the roots, weights: the seeds, others: wrt) or a jvp (wrt, tangents, roots) through such calls. */
typedef struct pgr_derivation pgr_derivation;

/* Begins one. The caller frees it with pgr_derivation_free; until then no node moves. */
pgr_status pgr_derivation_new(pgr_tape *tape, int is_vjp, uint32_t within, size_t n, const pgr_handle *nodes,
                              const pgr_handle *weights, size_t m, const pgr_handle *others, size_t region_count,
                              const pgr_region *regions, pgr_derivation **out);

/* Goes on to the next region whose rule it needs: writes its index to `*region`, and to `given` the adjoints of its
 * outs, or the tangents of its inputs: new holds, or 0 for none. The next call takes what the rule recorded: adjoints
 * of the inputs, or tangents of the outs, or 0s. At the end `*region` is region_count, and `given` the m results. With
 * PGR_ERR_OPAQUE and PGR_ERR_CAPTURED `*bad`, if not NULL, is a new hold on the node. */
pgr_status pgr_derivation_run(pgr_derivation *derivation, const pgr_handle *answer, size_t *region, pgr_handle *given,
                              pgr_handle *bad);
void pgr_derivation_free(pgr_derivation *derivation); /* NULL is allowed */

/* Whether an input of a region depends on the variables: known from the beginning, for outs up to the last root. */
int pgr_derivation_is_active(const pgr_derivation *derivation, size_t region);

/* Sets wanted[k] to 1 for each of a region's inputs that depends on the variables, else to 0. */
void pgr_derivation_wanted(const pgr_derivation *derivation, size_t region, uint8_t *wanted);

/* The nodes from before `start` that nodes from there on have as operands, where the roots are made from these; each
 * once, without constants. Writes new holds, at most `capacity`, and returns their number, or -status with nothing
 * held. O(n log n) for n nodes since `start`. */
int64_t pgr_h_captures(pgr_tape *tape, pgr_handle start, size_t root_count, const pgr_handle *roots, size_t capacity,
                       pgr_handle *out);

/* A sparse matrix of nodes: row i's entries are numbers starts[i] up to starts[i + 1]; columns ascend in a row. */
typedef struct {
    uint32_t count;
    uint32_t *starts, *columns;
    pgr_handle *values;
} pgr_sparse;

/* Whether the results are sums of multiples of `unknown`, as far as their operations tell: 1 or 0, or a negative
 * status. What is made from a cut that depends on it is not. O(nodes recorded since `unknown`). */
int pgr_h_is_linear(pgr_tape *tape, pgr_handle unknown, size_t count, const pgr_handle *results, size_t cut_count,
                    const pgr_handle *cuts);

/* Records the entries of the roots' Jacobian that may differ from zero. wrt are distinct. With `lower`, only those in
 * column i or before in row i: all of a symmetric matrix. Fills `*out`, whose values are new holds and whose arrays the
 * caller frees with pgr_sparse_free. On failure nothing is recorded: PGR_ERR_OPAQUE as in pgr_h_vjp, PGR_ERR_FULL where
 * a vmap's lanes depend on many variables each: then a vjp for each root is cheaper. O(nodes from the first of wrt to
 * the last of roots, and the variables that each depends on, or the roots that depend on each). Source: ch. 7.1. */
pgr_status pgr_h_jacobian(pgr_tape *tape, size_t root_count, const pgr_handle *roots, size_t wrt_count,
                          const pgr_handle *wrt, int lower, pgr_sparse *out, pgr_handle *bad);
void pgr_sparse_free(pgr_tape *tape, pgr_sparse *matrix);

/* Sets used[i] to 1 if the roots are made from places[i], a lane that a vmap's function was given, else to 0.
 * PGR_ERR_LANES if a root is also made from other lanes, PGR_ERR_OPAQUE if from a lane that is a custom node. */
pgr_status pgr_h_lane_places(pgr_tape *tape, size_t place_count, const pgr_handle *places, size_t root_count,
                             const pgr_handle *roots, uint8_t *used);

/* Records the roots once more for single lanes: out[k * root_count + i], a new hold, is roots[i] with each places[j]
 * replaced by values[k * place_count + j], for k < lane_count. Lanes share nodes that are the same in all of them. On
 * failure nothing is recorded. */
pgr_status pgr_h_lane_values(pgr_tape *tape, size_t place_count, const pgr_handle *places, size_t root_count,
                             const pgr_handle *roots, size_t lane_count, const pgr_handle *values, pgr_handle *out);

/* cdef: end */

/* The same by id. */
pgr_status pgr_input(pgr_tape *tape, int op, uint64_t number, pgr_id *out);
pgr_status pgr_lane_sum(pgr_tape *tape, pgr_id value, pgr_id witness, pgr_id *out);
pgr_status pgr_chain(pgr_tape *tape, size_t n, const pgr_id *operands, pgr_id *out);
pgr_status pgr_result(pgr_tape *tape, pgr_id chain, uint64_t number, pgr_id *out);
pgr_status pgr_vjp(pgr_tape *tape, uint32_t within, size_t root_count, const pgr_id *roots, const pgr_id *seeds,
                   size_t wrt_count, const pgr_id *wrt, pgr_id *out, pgr_id *bad);
pgr_status pgr_jvp(pgr_tape *tape, size_t wrt_count, const pgr_id *wrt, const pgr_id *tangents, size_t root_count,
                   const pgr_id *roots, pgr_id *out, pgr_id *bad);

pgr_status pgr_is_linear(pgr_tape *tape, pgr_id unknown, size_t count, const pgr_id *results, size_t cut_count,
                         const pgr_id *cuts, int *is_linear);

/* `*ids`, which the caller frees with tape_resize, are in place of out->values. */
pgr_status pgr_jacobian(pgr_tape *tape, size_t root_count, const pgr_id *roots, size_t wrt_count, const pgr_id *wrt,
                        int lower, pgr_sparse *out, pgr_id **ids, pgr_id *bad);

pgr_status pgr_lane_places(pgr_tape *tape, size_t place_count, const pgr_id *places, size_t root_count,
                           const pgr_id *roots, uint8_t *used);
pgr_status pgr_lane_values(pgr_tape *tape, size_t place_count, const pgr_id *places, size_t root_count,
                           const pgr_id *roots, size_t lane_count, const pgr_id *values, pgr_id *out);
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

/* A call of programs by an instruction: a loop over one, or one of several, chosen by a number.
 *
 * A loop has `steps` steps, of its first program. That reads in[0]: constants, which are the same in all steps, carried
 * numbers, and numbers of the step; and writes out[0]: the carried numbers after the step, and the step's results.
 * Array in[1 + j] of step t begins at in[array] + offset + t * stride of the caller's, of memory j. The operands are
 * the constants, the carried numbers at first, and each step's numbers; the results are the carried numbers at last,
 * and each step's. With PGR_CALL_TESTED, the second program, which reads the constants, the carried numbers and the
 * memory, writes to out[0] whether to take another step; the number of steps taken is a result, after the carried
 * numbers. With PGR_CALL_COUNTED, the number of steps is an operand, after the carried numbers. Results of steps that
 * were not taken are 0.
 *
 * With PGR_CALL_SWITCH the operands are an index, which is clamped, and the constants, which the chosen program reads
 * from in[0]; its out[0], the carried numbers, are the results.
 *
 * Where operands are lanes, so are the results. The programs then have one group of lanes: lane i of operand k is
 * in[1 + k][i], and its results are lanes of out[1 + k]. */
enum {
    PGR_CALL_REVERSED = 1, /* steps are taken from the last to the first */
    PGR_CALL_TESTED = 2,
    PGR_CALL_COUNTED = 4,
    PGR_CALL_SWITCH = 8
};

typedef struct {
    uint64_t steps;
    uint32_t flags;
    uint32_t const_count, carry_count, x_count, y_count;
    uint32_t first_program, program_count;
    uint32_t first_memory, memory_count;
} pgr_call;

/* The most arrays of a call's memory, and the most programs that call one another. */
#define PGR_MAX_MEMORY 64
#define PGR_MAX_DEPTH 64

/* Further parts of a recording: what nodes stand for, and its calls. */
typedef struct {
    pgr_handle node;
    int op;          /* PGR_OP_INPUT or PGR_OP_LANE .. */
    uint64_t number; /* .. of this number: the node's own operands don't matter */
} pgr_binding;

typedef struct {
    pgr_call call;
    size_t operand_count;
    const pgr_handle *operands; /* those of its chain */
} pgr_recorded_call;

typedef struct {
    int is_called;                        /* the program is to be called by others */
    size_t binding_count, call_count, memory_count, program_count;
    const pgr_binding *bindings;
    const pgr_recorded_call *calls;       /* by number */
    const pgr_lane_input *memory;
    const pgr_program *const *programs;   /* the caller keeps them while the new one lives */
} pgr_inner;

/* Builds the program that computes the outputs, outputs[i] from nodes[i]: without dead code, with equal subexpressions
 * shared, constants folded, sums of products made dot products, and values that depend on no lane computed once.
 * Groups of equally many lanes become one. PGR_ERR_OPAQUE if an output depends on a custom node of the recording;
 * PGR_ERR_LANES if lanes of different groups meet without pgr_h_lane_pass, or an output of stride 0 is a lane;
 * PGR_ERR_UNKNOWN if a node from before the recording has no value: with these three `*bad`, if not NULL, is a new hold
 * on that node. PGR_ERR_ARGUMENT if a group has no lanes, or 2^48 or more, if a node is bound to nothing, a call has
 * other operands than it says, or programs call one another more than PGR_MAX_DEPTH deep. `start` is the
 * recording's first node; leaves from there on that have values are constants. `inner` may be NULL. The caller frees
 * the program with pgr_program_free. O(nodes from the first to the last). */
pgr_status pgr_h_program_build(pgr_tape *tape, pgr_handle start, size_t output_count, const pgr_handle *nodes,
                               pgr_output *outputs, size_t group_count, const pgr_lane_group *groups,
                               uint32_t captures_array, const pgr_inner *inner, pgr_program **out, pgr_handle *bad);

/* The captures: nodes from before `start` that the recording uses. They are inputs: in[captures_array][i] is the i-th
 * one's number. Each is a hold that pgr_h_program_build took and the caller releases; the array is borrowed. */
size_t pgr_h_program_captures(const pgr_program *program, const pgr_handle **handles);

/* cdef: end */

/* By id, with outputs[i].node filled in; captures are valid until the next collection. inner's handles are read. */
pgr_status pgr_program_build(pgr_tape *tape, pgr_id start, size_t output_count, const pgr_output *outputs,
                             size_t group_count, const pgr_lane_group *groups, uint32_t captures_array,
                             const pgr_inner *inner, pgr_program **out, pgr_id *bad);
size_t pgr_program_captures(const pgr_program *program, const pgr_id **ids);

/* cdef: begin */

/* A program's parts, for listings and files. A uniform register holds one number, a lane register one for each lane;
 * lane registers have the bit PGR_REGISTER_LANE. PGR_REGISTER_NONE stands for no operand. Arrays belong to the
 * program. */
#define PGR_REGISTER_LANE 0x80000000u
#define PGR_REGISTER_NONE 0x7fffffffu

/* Instructions beyond the table's. All but the last three set or add to `out`. */
enum {
    PGR_PROGRAM_DOT = 128, /* a + args[first] * args[first + 1] + ..., of dots[b] */
    PGR_PROGRAM_LANE_SUM,  /* out += sum over lanes of a */
    PGR_PROGRAM_LANE_DOT,  /* out += sum over lanes of a * b */
    PGR_PROGRAM_LOAD,      /* lane input number a */
    PGR_PROGRAM_STORE,     /* a, to output number b */
    PGR_PROGRAM_RUN,       /* the next `a` instructions have one op, and are independent */
    PGR_PROGRAM_CALL       /* call number a: operands from args[b] on, results to args[out] on, or nowhere */
};

typedef struct {
    uint32_t op, out, a, b;
} pgr_instruction;

/* `count` pairs of factors from args[first] on. A term of one factor has PGR_REGISTER_NONE as its second; of a uniform
 * and a lane factor, the uniform one comes first. */
typedef struct {
    uint32_t first, count;
} pgr_program_dot;

typedef struct {
    uint32_t first, count;         /* of its instructions */
    uint32_t group;                /* of lanes; UINT32_MAX: uniform, run once */
    uint32_t first_sum, sum_count; /* uniform registers of its sums over lanes */
} pgr_segment;

typedef struct { /* register reg + i is in[array][offset + i], for i < count */
    uint32_t reg, array;
    uint64_t offset, count;
} pgr_uniform_input;

typedef struct {
    uint32_t instruction_count, arg_count, dot_count, segment_count, constant_count, input_count, output_count;
    uint32_t lane_input_count, group_count, call_count, memory_count, program_count;
    uint32_t uniform_registers, lane_registers;
    uint32_t block;                      /* lanes computed together: a power of two from 16 to 512 */
    uint32_t nodes;
    const pgr_instruction *instructions;
    const uint32_t *args;
    const pgr_program_dot *dots;
    const pgr_segment *segments;         /* in order; together, all instructions */
    const double *constants;             /* of the first uniform registers */
    const pgr_uniform_input *inputs;
    const pgr_output *outputs;           /* `node` is a uniform register; PGR_REGISTER_LANE: stored by lanes */
    const pgr_lane_input *lane_inputs;
    const uint32_t *group_first_input;   /* of lane_inputs, by group; one more than there are groups */
    const uint64_t *group_lanes;
    const pgr_call *calls;
    const pgr_lane_input *memory;        /* of calls */
    const pgr_program *const *programs;  /* that are called: the caller keeps them while this one lives */
} pgr_program_parts;

void pgr_program_to_parts(const pgr_program *program, pgr_program_parts *parts);

/* Makes a program of untrusted parts. PGR_ERR_PROGRAM if they are malformed, or would access registers that don't
 * exist, read registers before they are written, or go beyond in_sizes[i] and out_sizes[i] numbers of array i. Copies
 * the parts. The caller frees the program with pgr_program_free. O(instructions). */
pgr_status pgr_program_from_parts(const pgr_program_parts *parts, size_t in_count, const uint64_t *in_sizes,
                                  size_t out_count, const uint64_t *out_sizes, pgr_program **out);

/* By instruction, the line (PGR_TAG_LINE) of the node that it comes from. A derivative's nodes have the line of the
 * node that they derive. Borrowed; NULL for a program from parts. */
const uint32_t *pgr_program_lines(const pgr_program *program);
void pgr_program_free(pgr_program *program); /* NULL is allowed */

#define PGR_MAX_WORKERS 64

/* Instruction sets that lanes are compiled for. Results differ in the last places: AVX fuses multiplies and adds. */
typedef enum { PGR_KERNELS_BEST = 0, PGR_KERNELS_PLAIN, PGR_KERNELS_AVX2, PGR_KERNELS_AVX512 } pgr_kernels;

typedef struct {
    unsigned workers;        /* threads that share a vmap's lanes, the caller's included; 0 means 1 */
    int (*stop)(void *ctx);  /* called every few milliseconds by the caller's thread; nonzero stops. May be NULL */
    void *ctx;
    uint64_t *done;          /* grows by the work of the caller's thread before `stop` is called. May be NULL */
    pgr_kernels kernels;     /* the best to use: for tests, and for equal bits on all machines */
} pgr_run_options;

/* Runs a program: reads in[array][...], which need not be aligned, and writes out[array][...]. Results follow IEEE 754
 * and do not depend on the number of workers. A program does not change, so several threads may run it at once.
 * `options` may be NULL. PGR_ERR_NOMEM, with nothing written; PGR_ERR_STOPPED, with the results undefined. */
pgr_status pgr_program_run(const pgr_program *program, const double *const *in, double *const *out,
                           const pgr_run_options *options);

typedef struct {
    uint32_t instructions, dots, segments, uniform_registers, lane_registers, constants;
    uint32_t nodes;      /* of the graph that it was built from */
    uint64_t block;      /* lanes computed together; 0: no lanes */
    uint64_t bytes;      /* of the program */
} pgr_program_stats;

pgr_program_stats pgr_program_stat(const pgr_program *program);

/* The most work that a run can be, in the unit of pgr_run_options.done: instructions, for each lane and each step. Of a
 * switch's branches the longest counts. */
double pgr_program_work(const pgr_program *program);

/* ---- Optimisers ---------------------------------------------------------------------------- */

/* Updates the data of n nodes from their grads. Names, their meaning and the order of the arithmetic are PyTorch's.
 * PGR_ERR_HANDLE, with nothing changed. O(n). */
typedef struct {
    double lr, momentum, dampening, weight_decay;
    int nesterov, maximize;
} pgr_sgd;

/* `buffer`: n momenta, not read at step 1; NULL if momentum is 0. */
pgr_status pgr_h_sgd(pgr_tape *tape, size_t n, const pgr_handle *nodes, const pgr_sgd *options, uint64_t step,
                     double *buffer);

typedef struct {
    double lr, beta1, beta2, eps, weight_decay;
    int decoupled; /* AdamW: weight decay acts on the data, not on the grad */
    int maximize;
} pgr_adam;

/* `m`, `v`: n first and second moments, zero before step 1; `v_max`: the largest second moments so far, for AMSGrad, or
 * NULL. Sources: Kingma & Ba, Adam, ICLR 2015; Loshchilov & Hutter, ICLR 2019; Reddi et al., ICLR 2018. */
pgr_status pgr_h_adam(pgr_tape *tape, size_t n, const pgr_handle *nodes, const pgr_adam *options, uint64_t step,
                      double *m, double *v, double *v_max);

/* The same for arrays of n numbers. */
void pgr_sgd_array(size_t n, double *data, const double *grad, const pgr_sgd *options, uint64_t step, double *buffer);
void pgr_adam_array(size_t n, double *data, const double *grad, const pgr_adam *options, uint64_t step, double *m,
                    double *v, double *v_max);

pgr_status pgr_h_zero_grads(pgr_tape *tape, size_t n, const pgr_handle *nodes);

/* ---- The node table ------------------------------------------------------------------------ */

typedef struct {
    double data;
    double grad;
    double param;            /* of PGR_KIND_PARAM, else NAN */
    pgr_handle handle;       /* 0 if the node has no handle; see pgr_h_export */
    uint32_t first_operand;  /* of the table's operands .. */
    uint32_t operand_count;  /* .. in order, with repeats */
    int op;
    uint32_t scope, line;    /* tags */
    uint32_t call;           /* one number for nodes of a scope with no other scope's recorded in between */
} pgr_row;

typedef struct {
    pgr_row *rows;        /* in the order of recording: operands first, root last */
    uint32_t *operands;   /* indices of rows */
    uint32_t row_count;
    uint32_t operand_count;
} pgr_table;

/* Exports all that is reachable from root. Fills `*table`, whose arrays the caller frees with pgr_table_free. With
 * `hold` each row's handle is a new hold, which the caller releases; otherwise handles may become stale. On failure,
 * PGR_ERR_STOPPED too, `*table` is unchanged. O(reachable nodes). */
pgr_status pgr_h_export(pgr_tape *tape, pgr_handle root, int hold, pgr_table *table);
void pgr_table_free(pgr_tape *tape, pgr_table *table);

/* ---- Large graphs, folded -------------------------------------------------------------------- */

/* What a drawing shows: a node itself, or a fold of several. */
typedef struct {
    uint32_t row;    /* the node, or the fold's last */
    uint32_t count;  /* of its nodes .. */
    uint32_t leaves; /* .. and how many of them are leaves */
    uint32_t calls;  /* how often its scope was entered; 0: several scopes */
    uint32_t fold;   /* PGR_OPEN: a node itself */
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

/* The library's own folds; the caller's numbers start at PGR_FOLD_FIRST. */
enum {
    PGR_FOLD_REST = 0,    /* operations too far from the root to be shown */
    PGR_FOLD_INPUTS,      /* leaves without a scope */
    PGR_FOLD_PARAMETERS,  /* leaves of the scope `parameters` */
    PGR_FOLD_FIRST
};

typedef struct {
    uint32_t scope_count;
    const uint32_t *folds;      /* by scope: the fold of its nodes; PGR_OPEN: not folded */
    const uint32_t *more_folds; /* by scope: the fold of its calls after the first; PGR_OPEN: the same */
    uint32_t fold_count;        /* the library's own included */
    uint32_t parameters;        /* the scope of leaves that are parameters */
    uint32_t max_open;          /* the most nodes to show as themselves .. */
    uint32_t max_near;          /* .. and of these, beside the root and scopes that are not folded */
} pgr_fold_options;

/* Folds the graph of a table. A parameter or constant used by one fold only is folded with it. Of nodes that no scope
 * folds, those nearest to the root and to scopes that are not folded are shown, the others folded. The caller frees the
 * arrays with pgr_folding_free. PGR_ERR_NOMEM. O(nodes and operands). */
pgr_status pgr_fold(pgr_tape *tape, const pgr_table *table, const pgr_fold_options *options, pgr_folding *folding);

/* Sets used[s] to 1 for each scope s below `count` that a node of the table has. */
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
