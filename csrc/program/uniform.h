/* uniform.h: uniform segments and their registers. */
#ifndef PGR_INTERNAL_UNIFORM_H
#define PGR_INTERNAL_UNIFORM_H

#include "program/builder.h"

/* Registers of uniform values: when each is free again, and which are free now. */
typedef struct {
    uint32_t *last_use;  /* by value, its place in `sorted` */
    uint32_t *free;
    uint32_t free_count;
} uniform_scratch;

/* Gives constants and inputs their registers, and finds the last uses of the others. */
void program_begin_uniform(builder *b, uniform_scratch *s);
void program_end_uniform(builder *b, uniform_scratch *s);

/* Emits the segment of an even stage. */
void program_emit_uniform(builder *b, uniform_scratch *s, uint32_t stage);

#endif
