/* derive.h: a derivative under way, which stops at regions (see sheet.h). */
#ifndef PGR_INTERNAL_DERIVE_H
#define PGR_INTERNAL_DERIVE_H

#include "tape/recorder.h"
#include "tape/sheet.h"

typedef struct {
    pgr_tape *tape;
    bool is_vjp;
    sheet sheet; /* the caller sets `within` and the regions */
    recorder recorder;
    size_t at;   /* nodes of the sheet still to visit, or visited so far */
} derivation;

/* For a vjp, nodes are roots, weights seeds and others wrt; for a jvp, wrt, tangents and roots. No node may move until
 * the end. PGR_ERR_NOMEM, with nothing to end. */
pgr_status pgr__derive_begin(derivation *d, size_t n, const pgr_id *nodes, const pgr_id *weights, size_t m,
                             const pgr_id *others);

/* Goes on to the next region whose rule is needed; NULL at the end, or after a failure. The adjoints of the region's
 * outs, or the tangents of its inputs, are complete. */
sheet_region *pgr__derive_go_on(derivation *d);

/* Takes what the rule recorded: adjoints of the inputs, or tangents of the outs; 0: none. */
void pgr__derive_answer(derivation *d, sheet_region *region, const pgr_id *answer);

/* Frees the sheet. Writes the m results, or returns the failure, with the tape as it was if nobody holds nodes recorded
 * since. */
pgr_status pgr__derive_end(derivation *d, size_t m, const pgr_id *others, pgr_id *out, pgr_id *bad);

/* Records the tangent of `id` from its partials and its operands' tangents; 0: no tangent. */
pgr_id pgr__tangent(recorder *e, const sheet *s, pgr_id id, id_pair p, pgr_id ta, pgr_id tb);

#endif
