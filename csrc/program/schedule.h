/* schedule.h: the order of instructions. */
#ifndef PGR_INTERNAL_SCHEDULE_H
#define PGR_INTERNAL_SCHEDULE_H

#include "program/builder.h"

/* Fills sorted, stage_end, last_stage and level. */
void program_schedule(builder *b);

/* Whether a value has an instruction in a uniform segment. */
static inline bool has_uniform_instruction(const value *v)
{
    return !v->is_fused && v->group == 0 && v->op != PGR_OP_CONST && v->op != PGR_OP_INPUT &&
           v->op != PGR_OP_LANE_SUM && v->op != PGR_OP_CALL;
}

#endif
