/* call.h: a call of programs: its numbers, and its memory, which measure.c counts and call.c shares out. */
#ifndef PGR_INTERNAL_CALL_H
#define PGR_INTERNAL_CALL_H

#include "program/run.h"

enum { ROW = BLOCK_USUAL + LANE_CHUNK }; /* the most numbers of a lane register */

static inline bool call_has(const call *c, uint32_t flag) { return (c->flags & flag) != 0; }

/* The numbers that the first program reads, and writes. */
static inline size_t call_inputs(const call *c)
{
    return call_has(c, PGR_CALL_SWITCH) ? c->const_count : (size_t)c->const_count + c->carry_count + c->x_count;
}
static inline size_t call_outputs(const call *c) { return (size_t)c->carry_count + c->y_count; }

/* Memory is taken in whole multiples of ALIGN numbers. */
static inline size_t whole(size_t numbers) { return (numbers + ALIGN - 1) / ALIGN * ALIGN; }

/* The numbers that pointers take. */
static inline size_t pointers(size_t count) { return whole(count * sizeof(double *) / sizeof(double) + 1); }

#endif
