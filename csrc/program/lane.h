/* lane.h: lane segments and their registers. */
#ifndef PGR_INTERNAL_LANE_H
#define PGR_INTERNAL_LANE_H

#include "program/builder.h"

/* Scratch of lane segments, `value_count` each. */
typedef struct {
    uint32_t *list, *stack; /* values of the segment */
    uint32_t *last_use;     /* by value, its place in the list */
    uint32_t *free;         /* registers */
    uint32_t *next;         /* by value, the one that follows it in its chain; NONE */
    uint32_t free_count, registers;
} lane_scratch;

void program_begin_lanes(builder *b, lane_scratch *s);
void program_end_lanes(builder *b, lane_scratch *s);

/* Emits the segments of an odd stage, one for each group. */
void program_emit_lanes(builder *b, lane_scratch *s, uint32_t stage);

#endif
