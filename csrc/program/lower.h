/* lower.h: from nodes to values. */
#ifndef PGR_INTERNAL_LOWER_H
#define PGR_INTERNAL_LOWER_H

#include "program/builder.h"

/* Makes the values of the nodes that the outputs depend on; outputs[i].node of the program becomes a value.
 * Statuses are pgr_program_build's; `node` is where it failed. */
void program_lower(builder *b, size_t output_count, const pgr_output *outputs);

#endif
