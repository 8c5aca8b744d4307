/* fuse.h: dead code, and sums of products as dots; what a value's instruction reads once these are known. */
#ifndef PGR_INTERNAL_FUSE_H
#define PGR_INTERNAL_FUSE_H

#include "program/builder.h"

/* Marks live values, counts uses, and finds dots. */
void program_fuse(builder *b);

/* Whether the lane sum v is one of products, so that one instruction multiplies and adds. */
static inline bool is_lane_dot(const builder *b, const value *v)
{
    return v->op == PGR_OP_LANE_SUM && b->values[v->a].is_fused && b->values[v->a].op == PGR_OP_MUL;
}

/* Calls visit(operand) for each value that v's instruction reads. */
#define FOR_OPERANDS(b, v, visit) \
    do { \
        const value *const v_ = (v); \
        if (is_source(v_)) { \
        } else if (v_->op == PROGRAM_CALL) { \
            FOR_CALL_OPERANDS(b, v_, visit); \
        } else if (v_->op == PGR_OP_CALL) { \
            visit(v_->a); \
        } else if (v_->dot != NONE) { \
            const dot *const d_ = &(b)->dots[v_->dot]; \
            if (d_->init != NONE) \
                visit(d_->init); \
            uint32_t at_ = d_->first; \
            for (uint32_t k_ = 0; k_ < d_->count; k_++, at_ = (b)->links[at_].next) { \
                visit((b)->links[at_].a); \
                if ((b)->links[at_].b != NONE) \
                    visit((b)->links[at_].b); \
            } \
        } else if (is_lane_dot(b, v_)) { \
            visit((b)->values[v_->a].a); \
            visit((b)->values[v_->a].b); \
        } else { \
            visit(v_->a); \
            if (v_->b != NONE && v_->op != PGR_OP_LANE_SUM) \
                visit(v_->b); \
        } \
    } while (0)

#endif
