/* fuse.c: dead-code elimination and fusion.
 *
 * Sums of products become dots; a lane sum of a product becomes a lane dot. A product is fused only if nobody else
 * reads it. */
#include "program/fuse.h"

/* Descending: live values make their operands live. */
static void count_uses(builder *b)
{
    for (uint32_t i = b->value_count; i-- > 0 && goes_on(b, i);) {
        value *const v = &b->values[i];
        if (v->output != NONE)
            v->is_live = 1;
        if (!v->is_live || is_source(v))
            continue;
        if (v->op == PROGRAM_CALL) {
#define USE(operand) (b->values[operand].is_live = 1, b->values[operand].uses++)
            FOR_CALL_OPERANDS(b, v, USE);
#undef USE
            continue;
        }
        b->values[v->a].is_live = 1;
        b->values[v->a].uses++;
        if (v->b != NONE && v->op != PGR_OP_CALL) {
            b->values[v->b].is_live = 1;
            if (v->op != PGR_OP_LANE_SUM)
                b->values[v->b].uses++;
        }
    }
}

static bool fusible_product(const builder *b, uint32_t id, uint16_t group)
{
    const value *const v = &b->values[id];
    return v->op == PGR_OP_MUL && v->uses == 1 && v->output == NONE && v->group == group && v->dot == NONE;
}

static void add_term(builder *b, dot *d, uint32_t id, uint16_t group)
{
    link l = {id, NONE, NONE};
    if (fusible_product(b, id, group)) {
        value *const v = &b->values[id];
        l = (link){v->a, v->b, NONE};
        v->is_fused = 1;
        d->products++;
    }
    const uint32_t at = b->link_count++;
    b->links[at] = l;
    if (d->count++ == 0)
        d->first = at;
    else
        b->links[d->last].next = at;
    d->last = at;
}

/* Whether a sum that uses `id` can extend the dot that ends there. */
static bool extends(const builder *b, uint32_t id, uint16_t group)
{
    const value *const v = &b->values[id];
    return v->dot != NONE && v->uses == 1 && v->output == NONE && v->group == group;
}

static void find_dots(builder *b)
{
    for (uint32_t id = 0; id < b->value_count && goes_on(b, id); id++) {
        value *const v = &b->values[id];
        if (v->op != PGR_OP_ADD || !v->is_live)
            continue;
        const bool left = extends(b, v->a, v->group), right = !left && extends(b, v->b, v->group);
        const uint32_t before = left ? v->a : right ? v->b : NONE, term = right ? v->a : v->b;
        if (before != NONE) {
            v->dot = b->values[before].dot;
            b->values[before].dot = NONE;
            b->values[before].is_fused = 1;
        } else {
            v->dot = b->dot_count++;
            dot *const d = &b->dots[v->dot];
            *d = (dot){.init = NONE};
            if (fusible_product(b, v->a, v->group))
                add_term(b, d, v->a, v->group);
            else
                d->init = v->a;
        }
        add_term(b, &b->dots[v->dot], term, v->group);
    }
}

/* A uniform dot of one product: two plain instructions are faster. */
static void undo_short_dots(builder *b)
{
    for (uint32_t id = 0; id < b->value_count; id++) {
        value *const v = &b->values[id];
        if (v->dot == NONE || v->group != 0 || b->dots[v->dot].count != 1 || b->dots[v->dot].products != 1)
            continue;
        value *const product = b->values[v->a].is_fused ? &b->values[v->a] : &b->values[v->b];
        product->is_fused = 0;
        v->dot = NONE;
    }
}

static void find_lane_dots(builder *b)
{
    for (uint32_t id = 0; id < b->value_count; id++) {
        const value *const v = &b->values[id];
        if (v->op != PGR_OP_LANE_SUM || !v->is_live)
            continue;
        value *const summed = &b->values[v->a];
        if (summed->group != 0 && fusible_product(b, v->a, summed->group))
            summed->is_fused = 1;
    }
}

void program_fuse(builder *b)
{
    count_uses(b);
    b->links = grab_raw(b, b->value_count, sizeof *b->links * 2);
    b->dots = grab_raw(b, b->value_count, sizeof *b->dots);
    if (b->status != PGR_OK)
        return;
    find_dots(b);
    undo_short_dots(b);
    find_lane_dots(b);
}
