/* ties.h: finds Values that only attributes of nodes keep. */
#ifndef PGR_INTERNAL_TIES_H
#define PGR_INTERNAL_TIES_H

#include "python/layer.h"

/* The tape's ties (see ties.c), in memory that the caller frees with PyMem_Free; NULL and a count of 0 without ties.
 * Runs no Python code. */
pgr_tie *pgr__find_ties(pgr_tape *tape, size_t *count);

#endif
