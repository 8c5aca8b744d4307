/* backward.c: the reverse sweep.
 *
 * One descending pass marks and sweeps at once. Each node multiplies its grad by its local derivatives and adds the
 * products to its operands' grads; an operand that is reached for the first time is marked and, unless it is a leaf,
 * overwritten, which saves a pass that clears. Stale grads of other roots' nodes never flow, since those nodes are not
 * marked. Local derivatives are computed here, from the operands' present numbers. */
#include "tape/marks.h"
#include "tape/slots.h"

/* What a sweep assumes: a constant in each of its loops. */
typedef struct {
    bool familiar; /* the tape is short: see TAPE_FAMILIAR */
    bool custom;   /* there may be custom nodes */
    bool heaped;   /* eight sweeps are under way: see marks.h */
} expected;

static inline void reach(marks m, expected x, pgr_node *node, const pgr_node *from)
{
    if (x.heaped)
        marks_push(m, (pgr_id)(node - m.nodes));
    else
        marks_set(m, node, from);
}

static inline void accumulate(marks m, expected x, const pgr_node *from, pgr_id id, double adjoint)
{
    pgr_node *const node = &m.nodes[id];
    if (node->lhs == 0) { /* a leaf: nothing to visit, unless it is custom and has a function */
        node->grad += adjoint;
        if (x.custom && node->op == PGR_OP_CUSTOM && node->mark == 0)
            reach(m, x, node, from);
    } else if (node->mark == 0) {
        reach(m, x, node, from);
        node->grad = adjoint;
    } else {
        node->grad += adjoint;
    }
}

/* The same without branches that are mispredicted unless the graph is familiar. */
static inline void accumulate_branchless(marks m, expected x, const pgr_node *from, pgr_id id, double adjoint)
{
    pgr_node *const node = &m.nodes[id];
    if (PGR_UNLIKELY((from - node >= MARKS_NEAR) | (x.custom && node->op == PGR_OP_CUSTOM))) {
        accumulate(m, x, from, id, adjoint);
        return;
    }
    const uint8_t mark = node->mark, first = (node->lhs != 0) & (mark == 0);
    uint64_t bits; /* of the grad so far: 0 at first */
    memcpy(&bits, &node->grad, sizeof bits);
    bits &= (uint64_t)first - 1;
    double grad;
    memcpy(&grad, &bits, sizeof grad);
    node->grad = grad + adjoint;
    node->mark = (uint8_t)(mark | (m.mark & (0 - first)));
}

static inline void push(marks m, expected x, const pgr_node *node, int op, ops_pair p)
{
    const double g = node->grad;
    accumulate(m, x, node, node->lhs, g * p.da);
    if (ops_is_binary(op))
        accumulate(m, x, node, node->rhs, g * p.db);
}

#define ONE_BITS  UINT64_C(0x3ff0000000000000) /* IEEE 754's bits */
#define MINUS_ONE UINT64_C(0xbff0000000000000)

/* The other operand where `mask` is all ones, else the number whose bits are `constant`. */
static inline double partial(double other, uint64_t mask, uint64_t constant)
{
    uint64_t bits;
    memcpy(&bits, &other, sizeof bits);
    bits = (bits & mask) | constant;
    memcpy(&other, &bits, sizeof other);
    return other;
}

static inline void push_linear(marks m, expected x, const pgr_node *node)
{
    static const struct {
        uint64_t mask, da, db;
    } rows[] = {{0, ONE_BITS, ONE_BITS}, {0, ONE_BITS, MINUS_ONE}, {~(uint64_t)0, 0, 0}};
    const int row = node->op - PGR_OP_ADD;
    const double g = node->grad, a = m.nodes[node->lhs].data, b = m.nodes[node->rhs].data;
    accumulate_branchless(m, x, node, node->lhs, g * partial(b, rows[row].mask, rows[row].da));
    accumulate_branchless(m, x, node, node->rhs, g * partial(a, rows[row].mask, rows[row].db));
}

/* A step of an op known to the compiler. */
#define STEP_KNOWN(ID) \
    push(m, x, node, PGR_OP_##ID, ops_partials_##ID(m.nodes[node->lhs].data, m.nodes[node->rhs].data, node->data))

/* Not inlined, so that the loop around it need not save registers for libm. */
PGR_NOINLINE static ops_pair partials(const pgr_node *nodes, const pgr_node *node)
{
    return ops_partials(node->op, nodes[node->lhs].data, nodes[node->rhs].data, node->data);
}

/* Sums, products and rectifiers are most nodes: a well-predicted branch costs less than a call and the switch's jump
 * (on the moons MLP 2.5 ns a node instead of 2.8; 3.3 with sums in the switch, too). */
PGR_INLINE void step(marks m, expected x, const pgr_node *node)
{
    if (!x.familiar && ops_is_linear(node->op))
        push_linear(m, x, node);
    else if (node->op == PGR_OP_ADD)
        STEP_KNOWN(ADD);
    else if (node->op == PGR_OP_MUL)
        STEP_KNOWN(MUL);
    else if (node->op == PGR_OP_RELU)
        STEP_KNOWN(RELU);
    else if (node->lhs != 0)
        push(m, x, node, node->op, partials(m.nodes, node));
}

/* Calls the function of a custom node, whose handle it holds meanwhile. */
static pgr_status call_custom(pgr_tape *tape, pgr_id id)
{
    if (tape->on_custom == NULL)
        return PGR_OK;
    const int64_t h = pgr_hold(tape, id);
    if (h < 0)
        return (pgr_status)-h;
    const int failed = tape->on_custom(tape->custom_ctx, tape, (pgr_handle)h);
    tape_release(tape, (uint32_t)h, false);
    return failed ? PGR_ERR_CUSTOM : PGR_OK;
}

/* Where a pass calls on_stop next. */
static pgr_id floor_below(pgr_id id) { return id > TAPE_ASK_EVERY ? id - TAPE_ASK_EVERY : 0; }

/* Prepares a sweep at node `here` for custom nodes, whose functions may add to the grad of any node below: marks all
 * that it has yet to reach, and clears their grads, so that no later visit is a first one, which would overwrite. Other
 * sweeps that meet these nodes add to them, as where this one had reached them by an edge. */
PGR_NOINLINE static pgr_status reach_all(pgr_tape *tape, marks *sweep, expected x, pgr_id here)
{
    marks_heap heap;
    marks m = marks_begin(tape, sweep->root, offsetof(pgr_node, read_mark), &heap);
    pgr_status status = heap.failed ? PGR_ERR_NOMEM : PGR_OK;
    pgr_id floor = sweep->root;
    pgr_node *node = &m.nodes[sweep->root] + 1;
    while (status == PGR_OK && (node = marks_next_of_any(m, node)) != m.nodes) {
        if (node <= m.nodes + floor) {
            floor = floor_below((pgr_id)(node - m.nodes));
            node = marks_ask(&m, tape, node, &status);
            marks_refresh(sweep, tape);
            if (status != PGR_OK)
                break;
        }
        if (node < m.nodes + here && node->mark == 0 && (node->lhs != 0 || node->op == PGR_OP_CUSTOM)) {
            reach(*sweep, x, node, m.nodes + here);
            if (node->lhs != 0)
                node->grad = 0.0;
        }
        operand_walk walk = {(pgr_id)(node - m.nodes), false};
        for (pgr_id operand; (operand = operand_next(m.nodes, &walk)) != 0;)
            marks_reach(m, operand, node);
        if (heap.failed || (x.heaped && sweep->heap->failed))
            status = PGR_ERR_NOMEM;
    }
    marks_abandon(m, node);
    marks_end(m, tape);
    return status;
}

PGR_NOINLINE static pgr_status step_custom(pgr_tape *tape, marks m, expected x, const pgr_node *node)
{
    /* The function adds to its operands' grads, so they are marked and cleared first. */
    const pgr_id id = (pgr_id)(node - m.nodes);
    operand_walk walk = {id, false};
    for (pgr_id operand; (operand = operand_next(m.nodes, &walk)) != 0;)
        accumulate(m, x, node, operand, 0.0);
    return call_custom(tape, id);
}

/* Nobody reads, or can set to 0, the grads of constants, such as the 2 of x * 2: they are not asked for. */
static bool gave_finite(marks m, const pgr_node *node)
{
    operand_walk walk = {(pgr_id)(node - m.nodes), false};
    bool finite = true;
    for (pgr_id operand; (operand = operand_next(m.nodes, &walk)) != 0;)
        finite = finite && (m.nodes[operand].op == PGR_OP_CONST || isfinite(m.nodes[operand].grad));
    return finite;
}

/* Steps at `node` and the marked nodes below it; returns the first at or below `floor`. Told that the end is unlikely,
 * gcc 12 lays out the loop better: 4.4 ns instead of 5.7 per node of a random graph, 1.9 instead of 2.3 of the moons
 * MLP. */
PGR_INLINE pgr_node *descend(marks m, expected x, pgr_node *node, const pgr_node *floor)
{
    for (;;) {
        step(m, x, node);
        node = marks_next(m, node, !x.familiar);
        if (PGR_UNLIKELY(node <= floor))
            return node;
    }
}

/* One function per case, so that the compiler optimises each loop alone. */
PGR_HOT static pgr_node *descend_familiar(marks m, pgr_node *node)
{
    return descend(m, (expected){.familiar = true}, node, m.nodes);
}

PGR_HOT static pgr_node *descend_unfamiliar(marks m, pgr_node *node, pgr_id floor)
{
    return descend(m, (expected){.familiar = false}, node, m.nodes + floor);
}

/* Stays at a node that fails. */
static inline pgr_node *descend_all(pgr_tape *tape, marks *m, expected x, pgr_node *node, pgr_id floor, bool checked,
                                    bool *is_prepared, pgr_status *status)
{
    do {
        if (node->op != PGR_OP_CUSTOM) {
            step(*m, x, node);
        } else {
            /* Its function may give to any node below, not to its operands alone. */
            const ptrdiff_t id = node - m->nodes;
            *status = *is_prepared ? PGR_OK : reach_all(tape, m, x, (pgr_id)id);
            *is_prepared = true;
            if (*status == PGR_OK)
                *status = step_custom(tape, *m, x, m->nodes + id);
            marks_refresh(m, tape);
            node = m->nodes + id;
        }
        if (x.heaped && *status == PGR_OK && m->heap->failed)
            *status = PGR_ERR_NOMEM;
        if (checked && *status == PGR_OK && !gave_finite(*m, node))
            *status = PGR_ERR_NOT_FINITE;
        if (*status != PGR_OK)
            return node;
        node = x.heaped ? marks_next_of_any(*m, node) : marks_next(*m, node, true);
    } while (node > m->nodes + floor);
    return node;
}

PGR_HOT static pgr_node *descend_with_custom(pgr_tape *tape, marks *m, pgr_node *node, pgr_id floor, bool checked,
                                             bool *is_prepared, pgr_status *status)
{
    return descend_all(tape, m, (expected){.custom = true}, node, floor, checked, is_prepared, status);
}

PGR_NOINLINE static pgr_node *descend_heaped(pgr_tape *tape, marks *m, pgr_node *node, pgr_id floor, bool checked,
                                             bool *is_prepared, pgr_status *status)
{
    const expected x = {.familiar = true, .custom = true, .heaped = true};
    return descend_all(tape, m, x, node, floor, checked, is_prepared, status);
}

typedef enum { FAMILIAR, UNFAMILIAR, WITH_CUSTOM, CHECKED } manner;

/* Writes the node that failed to `*last`. */
static pgr_status sweep(pgr_tape *tape, pgr_id root, manner how, pgr_id *last)
{
    marks_heap heap;
    marks m = marks_begin(tape, root, offsetof(pgr_node, mark), &heap);
    if (heap.failed) {
        marks_end(m, tape);
        return PGR_ERR_NOMEM;
    }
    pgr_status status = PGR_OK;
    bool is_prepared = false;
    pgr_node *node = marks_next_of_any(m, &m.nodes[root] + 1);
    node->grad = 1.0;
    while (status == PGR_OK && node != m.nodes) {
        const pgr_id floor = floor_below((pgr_id)(node - m.nodes));
        node = m.heap != NULL      ? descend_heaped(tape, &m, node, floor, how == CHECKED, &is_prepared, &status)
               : how == FAMILIAR   ? descend_familiar(m, node)
               : how == UNFAMILIAR ? descend_unfamiliar(m, node, floor)
                                   : descend_with_custom(tape, &m, node, floor, how == CHECKED, &is_prepared, &status);
        if (status == PGR_OK && node != m.nodes)
            node = marks_ask(&m, tape, node, &status);
    }
    *last = (pgr_id)(node - m.nodes);
    marks_abandon(m, node);
    marks_end(m, tape);
    return status;
}

pgr_status pgr_backward(pgr_tape *tape, pgr_id root)
{
    pgr_id last;
    return sweep(tape, root, tape->has_custom ? WITH_CUSTOM : root < TAPE_FAMILIAR ? FAMILIAR : UNFAMILIAR, &last);
}

/* Finds the earliest node below root whose number, or a leaf's grad, is inf or nan; 0: all are finite. */
static pgr_status find_not_finite(pgr_tape *tape, pgr_id root, pgr_id *first)
{
    marks_heap heap;
    marks m = marks_begin(tape, root, offsetof(pgr_node, read_mark), &heap);
    *first = 0;
    pgr_status status = heap.failed ? PGR_ERR_NOMEM : PGR_OK;
    pgr_id floor = root;
    pgr_node *node = &m.nodes[root] + 1;
    while ((node = marks_next_of_any(m, node)) != m.nodes) {
        if (node <= m.nodes + floor) {
            floor = floor_below((pgr_id)(node - m.nodes));
            node = marks_ask(&m, tape, node, &status);
            if (status != PGR_OK)
                break;
        }
        const bool has_grad = node->lhs == 0 && node->op != PGR_OP_CONST; /* from before this pass */
        if (node->op != PGR_OP_PAIR && !(isfinite(node->data) && (!has_grad || isfinite(node->grad))))
            *first = (pgr_id)(node - m.nodes);
        operand_walk walk = {(pgr_id)(node - m.nodes), false};
        for (pgr_id operand; (operand = operand_next(m.nodes, &walk)) != 0;)
            marks_reach(m, operand, node);
        if (heap.failed) {
            status = PGR_ERR_NOMEM;
            break;
        }
    }
    marks_abandon(m, node);
    marks_end(m, tape);
    return status != PGR_OK ? status : *first == 0 ? PGR_OK : PGR_ERR_NOT_FINITE;
}

pgr_status pgr_backward_checked(pgr_tape *tape, pgr_id root, pgr_id *bad)
{
    const pgr_status status = find_not_finite(tape, root, bad);
    return status == PGR_OK ? sweep(tape, root, CHECKED, bad) : status;
}

void pgr_partials(const pgr_tape *tape, pgr_id id, double *out)
{
    const pgr_node *const node = &tape->nodes[id];
    const ops_pair p = node->lhs == 0 ? (ops_pair){0.0, 0.0} : partials(tape->nodes, node);
    out[0] = p.da;
    out[1] = p.db;
}

pgr_status pgr_push_into(pgr_tape *tape, pgr_id id, int op, pgr_id lhs, pgr_id rhs)
{
    if (op < PGR_OP_FIRST)
        return op == PGR_OP_CUSTOM ? PGR_ERR_OP : PGR_OK;
    pgr_node *const nodes = tape->nodes;
    const double g = nodes[id].grad;
    const ops_pair p = ops_partials(op, nodes[lhs].data, nodes[rhs].data, nodes[id].data);
    nodes[lhs].grad += g * p.da;
    if (ops_is_binary(op))
        nodes[rhs].grad += g * p.db;
    return PGR_OK;
}

pgr_status pgr_push(pgr_tape *tape, pgr_id id)
{
    const pgr_node *const node = &tape->nodes[id];
    if (node->op == PGR_OP_CUSTOM)
        return call_custom(tape, id);
    return node->lhs == 0 ? PGR_OK : pgr_push_into(tape, id, node->op, node->lhs, node->rhs);
}
