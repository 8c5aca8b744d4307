/* uniform.h: uniform segments and their slots. */
#ifndef PGR_INTERNAL_UNIFORM_H
#define PGR_INTERNAL_UNIFORM_H

#include "program/builder.h"

/* Slots of uniform values: when each is free again, and which are free now. */
typedef struct {
    uint32_t *last_use;  /* by value, its place in `sorted` */
    uint32_t *free;
    uint32_t free_count;
} uniform_slots;

/* Gives constants and inputs their slots, and finds the last uses of the others. */
void program_begin_uniform(builder *b, uniform_slots *s);
void program_end_uniform(builder *b, uniform_slots *s);

/* Emits the segment of an even stage. */
void program_emit_uniform(builder *b, uniform_slots *s, uint32_t stage);

#endif
