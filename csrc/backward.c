/* backward.c: the reverse sweep.
 *
 * One descending pass that marks and sweeps at once: a node pushes its grad to its operands, and an
 * operand that is reached for the first time is marked and, unless it is a leaf, overwritten, which
 * saves a pass that clears. Stale grads of other roots' nodes never flow, since those are not marked.
 * Partials are computed here, from the operands' present values. */
#include "marks.h"

/* One node's step of the chain rule, with GIVE(operand, adjoint) for what each operand gets. An op
 * missing here would be a row missing in the table. */
#define STEP_UNARY(da, db)  GIVE(node->lhs, g * (da));
#define STEP_BINARY(da, db) GIVE(node->lhs, g * (da)); GIVE(node->rhs, g * (db));
#define STEP_PARAM(da, db)  GIVE(node->lhs, g * (da));
#define STEP_CUT(da, db)
#define STEP(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
    case PGR_OP_##ID: { \
        STEP_##KIND(da, db) \
        break; \
    }
#define STEP_BUILT_IN(node) \
    const double a = nodes[(node)->lhs].data, b = nodes[(node)->rhs].data; \
    const double v = (node)->data, g = (node)->grad; \
    (void)a, (void)b, (void)v, (void)g; \
    switch ((node)->op) { \
        PGR_OPS(STEP) \
    default: \
        break; \
    }

static inline void give(pgr_tape *tape, uint8_t bit, pgr_id id, double adjoint)
{
    pgr_node *const node = &tape->nodes[id];
    if ((node->marks & bit) == 0) {
        marks_set(tape, bit, id);
        if (node->lhs != 0) {
            node->grad = adjoint;
            return;
        }
    }
    node->grad += adjoint;
}

static inline void step(pgr_tape *tape, uint8_t bit, const pgr_node *node)
{
    const pgr_node *const nodes = tape->nodes;
#define GIVE(operand, adjoint) give(tape, bit, operand, adjoint)
    STEP_BUILT_IN(node)
#undef GIVE
}

static pgr_status step_custom(pgr_tape *tape, uint8_t bit, pgr_id id)
{
    /* The function adds to its operands' grads, so they are made ready first. */
    for (operand_walk walk = {id, false};;) {
        const pgr_id operand = operand_next(tape->nodes, &walk);
        if (operand == 0)
            break;
        give(tape, bit, operand, 0.0);
    }
    return tape->on_custom == NULL || tape->on_custom(tape->custom_ctx, tape, id) == 0 ? PGR_OK : PGR_ERR_CUSTOM;
}

pgr_status pgr_backward(pgr_tape *tape, pgr_id root)
{
    const uint8_t bit = marks_begin(tape);
    if (bit == 0)
        return PGR_ERR_NESTED;
    pgr_status status = PGR_OK;
    tape->nodes[root].grad = 1.0;
    marks_set(tape, bit, root);
    for (pgr_id id = root + 1; (id = marks_next(tape, bit, id)) != 0;) {
        if (status != PGR_OK)
            continue; /* after a failure: only takes the marks off */
        const pgr_node *const node = &tape->nodes[id];
        if (node->op == PGR_OP_CUSTOM)
            status = step_custom(tape, bit, id);
        else
            step(tape, bit, node);
    }
    marks_end(tape, bit);
    return status;
}

pgr_status pgr_push(pgr_tape *tape, pgr_id id)
{
    pgr_node *const nodes = tape->nodes;
    const pgr_node *const node = &nodes[id];
    if (node->op == PGR_OP_CUSTOM)
        return tape->on_custom == NULL || tape->on_custom(tape->custom_ctx, tape, id) == 0 ? PGR_OK : PGR_ERR_CUSTOM;
#define GIVE(operand, adjoint) nodes[operand].grad += (adjoint)
    STEP_BUILT_IN(node)
#undef GIVE
    return PGR_OK;
}
