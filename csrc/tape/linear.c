/* linear.c: whether nodes are sums of multiples of an unknown, as far as their operations tell. */
#include "tape/nodes.h"

#include <string.h>

/* What a node is of the unknown. */
typedef enum {
    FIXED,  /* not made from it */
    ZERO,   /* the number 0, or a multiple of it */
    LINEAR, /* a sum of multiples */
    OTHER
} kind;

typedef struct {
    const pgr_tape *tape;
    pgr_id unknown;
    uint8_t *kinds; /* of the nodes from the unknown on */
} kinds;

static kind kind_of(const kinds *k, pgr_id id)
{
    if (id >= k->unknown)
        return (kind)k->kinds[id - k->unknown];
    return k->tape->nodes[id].op == PGR_OP_CONST && k->tape->nodes[id].data == 0.0 ? ZERO : FIXED;
}

static kind sum_of(kind a, kind b)
{
    if (a == ZERO || b == ZERO)
        return a == ZERO ? b : a;
    return a == b ? a : OTHER;
}

static kind product_of(kind a, kind b)
{
    if (a == ZERO || b == ZERO)
        return ZERO;
    return a == FIXED ? b : b == FIXED ? a : OTHER;
}

static bool depends(kind a) { return a == LINEAR || a == OTHER; }

/* Earlier nodes are known. */
static kind find_kind(const kinds *k, pgr_id id)
{
    const pgr_node *const node = &k->tape->nodes[id];
    const kind a = kind_of(k, node->lhs), b = kind_of(k, node->rhs);
    switch (node->op) {
    case PGR_OP_LEAF:
    case PGR_OP_CONST:
        return node->data == 0.0 ? ZERO : FIXED;
    case PGR_OP_INPUT:
    case PGR_OP_LANE:
        return FIXED;
    case PGR_OP_ADD:
    case PGR_OP_SUB:
        return sum_of(a, b);
    case PGR_OP_MUL:
        return product_of(a, b);
    case PGR_OP_DIV:
        return depends(b) ? OTHER : a;
    case PGR_OP_NEG:
    case PGR_OP_LANE_SUM: /* of its first operand */
    case PGR_OP_LANE_PASS:
        return a;
    case PGR_OP_PICK:
    case PGR_OP_KEEP:
        return a == ZERO ? ZERO : depends(a) ? OTHER : b;
    default:
        return depends(a) || depends(b) ? OTHER : FIXED;
    }
}

pgr_status pgr_is_linear(pgr_tape *tape, pgr_id unknown, size_t count, const pgr_id *results, size_t cut_count,
                         const pgr_id *cuts, int *is_linear)
{
    pgr_id last = unknown;
    for (size_t i = 0; i < count; i++)
        last = results[i] > last ? results[i] : last;
    const size_t n = (size_t)(last - unknown) + 1;
    uint8_t *const found = tape_resize(tape, NULL, n), *const is_cut = tape_resize(tape, NULL, n);
    if (found != NULL && is_cut != NULL) {
        const kinds k = {tape, unknown, found};
        memset(is_cut, 0, n);
        for (size_t i = 0; i < cut_count; i++)
            if (cuts[i] >= unknown && cuts[i] <= last)
                is_cut[cuts[i] - unknown] = 1;
        found[0] = LINEAR;
        for (size_t i = 1; i < n; i++) {
            const kind own = find_kind(&k, unknown + (pgr_id)i);
            found[i] = is_cut[i] && own == LINEAR ? OTHER : (uint8_t)own;
        }
        *is_linear = 1;
        for (size_t i = 0; i < count; i++) {
            const kind own = kind_of(&k, results[i]);
            *is_linear &= own == ZERO || own == LINEAR;
        }
    }
    const pgr_status status = found == NULL || is_cut == NULL ? PGR_ERR_NOMEM : PGR_OK;
    tape_resize(tape, found, 0);
    tape_resize(tape, is_cut, 0);
    return status;
}
