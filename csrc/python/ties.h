/* ties.h: Values that are kept only by what hangs on a node. */
#ifndef PGR_INTERNAL_TIES_H
#define PGR_INTERNAL_TIES_H

#include "python/layer.h"

/* The ties of a tape whose owners are operands (see ties.c), in memory that the caller frees with
 * PyMem_Free; NULL and a count of 0 if there are none. Runs no Python code. */
pgr_tie *pgr__find_ties(pgr_tape *tape, size_t *count);

#endif
