/* simplify.h: makes values, each no more than once. */
#ifndef PGR_INTERNAL_SIMPLIFY_H
#define PGR_INTERNAL_SIMPLIFY_H

#include "program/builder.h"

/* Room for `most` values, and their hash table. */
void program_make_values(builder *b, uint64_t most);

/* A new value op(x, y). */
uint32_t program_new_value(builder *b, int op, uint32_t x, uint32_t y);

/* The value op(x, y): an equal one if it exists, else a new one. */
uint32_t program_share(builder *b, int op, uint32_t x, uint32_t y);

uint32_t program_constant(builder *b, double number);

/* Whether a value is a constant, and which. */
bool program_constant_of(const builder *b, uint32_t id, double *number);

/* The value op(x, y), simplified where the result is the same number, to the bit, for every x and y. */
uint32_t program_simplify(builder *b, int op, uint32_t x, uint32_t y);

#endif
