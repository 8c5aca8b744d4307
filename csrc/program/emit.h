/* emit.h: appends instructions to a program; and the two kinds of segment. */
#ifndef PGR_INTERNAL_EMIT_H
#define PGR_INTERNAL_EMIT_H

#include "program/builder.h"

/* A value's instruction, from its operands' registers. */
instruction program_instruction_of(builder *b, uint32_t id);

void program_emit(builder *b, instruction made, uint32_t line);

/* Makes a segment of the instructions from `start` on, if there are any. */
void program_end_segment(builder *b, uint32_t start, uint32_t group, uint32_t first_sum, uint32_t sum_count);

#endif
