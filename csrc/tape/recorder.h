/* recorder.h: recording the nodes of a derivative. */
#ifndef PGR_INTERNAL_RECORDER_H
#define PGR_INTERNAL_RECORDER_H

#include "tape/tape.h"

typedef struct {
    pgr_tape *tape;
    pgr_status status; /* the first failure; later results are 0 */
    pgr_id bad;        /* the node that failed */
    pgr_id zero, one;  /* constants; 0: not recorded yet */
    uint32_t size, line; /* the tape's size and line before */
} recorder;

/* The end returns the status. On failure it takes back what was recorded, and writes the node that failed to `*bad`
 * unless that is NULL. */
recorder pgr__recorder_begin(pgr_tape *tape);
pgr_status pgr__recorder_end(recorder *e, pgr_id *bad);

/* Nodes from here on derive `id`, the i-th that is visited, and have its line. Calls on_stop now and then. */
void pgr__recorder_at(recorder *e, pgr_id id, size_t i);

pgr_id pgr__zero(recorder *e);
pgr_id pgr__one(recorder *e);

/* Records op(a, b), simplified. */
pgr_id pgr__record_derived(recorder *e, int op, pgr_id a, pgr_id b);

/* Records an adjoint or a tangent times a partial; 0 if either is 0, no node, or the partial is zero. */
pgr_id pgr__times(recorder *e, pgr_id a, pgr_id partial);

/* Records a + b; 0 is no node. */
pgr_id pgr__plus(recorder *e, pgr_id a, pgr_id b);

/* A lane in another group; other nodes as they are. */
pgr_id pgr__pass(recorder *e, pgr_id value, uint32_t group);

typedef struct {
    pgr_id da, db; /* 0: not recorded */
} id_pair;

/* Records a node's partials by its operands, those that are wanted. PGR_ERR_OPAQUE for a custom node. */
id_pair pgr__record_partials(recorder *e, pgr_id v, bool want_a, bool want_b);

#endif
