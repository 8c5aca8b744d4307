/* sheet.h: what a derivative needs to know of the nodes between its variables and its roots.
 *
 * A region is a call whose derivative is a rule of the caller's. Its inputs are copied to cuts, of which the call makes
 * its results; these are copied to outs. The derivative ends at the outs and goes on at the inputs, by the rule. */
#ifndef PGR_INTERNAL_SHEET_H
#define PGR_INTERNAL_SHEET_H

#include "tape/tape.h"

typedef struct {
    size_t cut_count, input_count, out_count;
    const pgr_id *cuts, *inputs, *outs;
    pgr_id first_out;
    bool is_active;   /* an input is */
    bool is_captured; /* a result depends on a variable by another way than the inputs */
    bool is_reached;  /* an out has an adjoint, or a root depends on one */
} sheet_region;

enum { SHEET_ACTIVE = 1, SHEET_CUT = 2, SHEET_NEEDED = 4 };

/* The nodes from `first` to the last root. Groups are counted from 1; 0: not a lane. */
typedef struct {
    pgr_id first;
    size_t count;
    uint32_t within;      /* the group whose function is being recorded; 0: no group's */
    uint8_t *state;       /* SHEET_ACTIVE: depends on a node that is derived by; SHEET_NEEDED: a root depends on it */
    pgr_id *adjoint;      /* or tangent */
    pgr_id *lane_adjoint; /* of a node that is not a lane: the adjoint from lanes, not yet summed over them .. */
    pgr_id *witness;      /* .. and one of these lanes */
    uint32_t *group;      /* of a lane */
    size_t region_count;
    sheet_region *regions;
    uint32_t *out_of;     /* the region whose out it is, counted from 1; 0: none. NULL without regions */
} sheet;

static inline bool sheet_has(const sheet *s, pgr_id id) { return id >= s->first && id - s->first < s->count; }

static inline bool sheet_is_active(const sheet *s, pgr_id id)
{
    return sheet_has(s, id) && (s->state[id - s->first] & SHEET_ACTIVE) != 0;
}

/* The region whose out a node of the sheet is, or NULL. A cut ends the derivative anyway. */
static inline sheet_region *sheet_region_of(const sheet *s, size_t i)
{
    if (s->out_of == NULL || s->out_of[i] == 0 || (s->state[i] & SHEET_CUT) != 0)
        return NULL;
    return &s->regions[s->out_of[i] - 1];
}

/* Fills a sheet, whose `within` and regions are set; the regions are the caller's, in any order. False when out of
 * memory. O(nodes of the sheet and of the regions). */
bool pgr__new_sheet(pgr_tape *tape, sheet *s, size_t wrt_count, const pgr_id *wrt, size_t root_count,
                    const pgr_id *roots);
void pgr__free_sheet(pgr_tape *tape, sheet *s);

/* Marks the active nodes that roots depend on. */
void pgr__sheet_mark_needed(const pgr_tape *tape, sheet *s, size_t root_count, const pgr_id *roots);

#endif
