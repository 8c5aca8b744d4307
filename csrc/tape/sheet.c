/* sheet.c: see sheet.h. */
#include "tape/sheet.h"
#include "tape/tags.h"

#include <string.h>

/* Groups of earlier nodes of the sheet are known. A lane from before the sheet belongs to the group whose function is
 * being recorded; if there is none, operands lead down to an input of the group. */
static uint32_t group_of(const pgr_tape *tape, const sheet *s, pgr_id id)
{
    const pgr_node *node = &tape->nodes[id];
    if ((node->flags & TAPE_LANE) == 0)
        return 0;
    while (node->op != PGR_OP_LANE && node->op != PGR_OP_LANE_PASS) {
        id = tape_is_lane(tape, node->lhs) ? node->lhs : node->rhs;
        if (sheet_has(s, id))
            return s->group[id - s->first];
        if (s->within != 0)
            return s->within;
        node = &tape->nodes[id];
    }
    return tape_number_group(pgr__number_of(tape, id)) + 1;
}

void pgr__free_sheet(pgr_tape *tape, sheet *s)
{
    tape_resize(tape, s->state, 0);
    tape_resize(tape, s->adjoint, 0);
    tape_resize(tape, s->lane_adjoint, 0);
    tape_resize(tape, s->witness, 0);
    tape_resize(tape, s->group, 0);
    tape_resize(tape, s->out_of, 0);
}

static bool allocate(pgr_tape *tape, sheet *s)
{
    const size_t n = s->count + 1;
    s->state = tape_resize(tape, NULL, n);
    s->adjoint = tape_resize(tape, NULL, n * sizeof *s->adjoint);
    s->lane_adjoint = tape_resize(tape, NULL, n * sizeof *s->lane_adjoint);
    s->witness = tape_resize(tape, NULL, n * sizeof *s->witness);
    s->group = tape_resize(tape, NULL, n * sizeof *s->group);
    s->out_of = s->region_count == 0 ? NULL : tape_resize(tape, NULL, n * sizeof *s->out_of);
    if (s->state == NULL || s->adjoint == NULL || s->lane_adjoint == NULL || s->witness == NULL || s->group == NULL ||
        (s->region_count > 0 && s->out_of == NULL)) {
        pgr__free_sheet(tape, s);
        return false;
    }
    memset(s->state, 0, n);
    memset(s->adjoint, 0, n * sizeof *s->adjoint);
    memset(s->lane_adjoint, 0, n * sizeof *s->lane_adjoint);
    if (s->out_of != NULL)
        memset(s->out_of, 0, n * sizeof *s->out_of);
    return true;
}

/* Marks cuts and outs. */
static void place_regions(sheet *s)
{
    for (size_t r = 0; r < s->region_count; r++) {
        sheet_region *const region = &s->regions[r];
        for (size_t k = 0; k < region->cut_count; k++)
            if (sheet_has(s, region->cuts[k]))
                s->state[region->cuts[k] - s->first] |= SHEET_CUT;
        region->first_out = UINT32_MAX;
        for (size_t k = 0; k < region->out_count; k++) {
            const pgr_id out = region->outs[k];
            if (sheet_has(s, out))
                s->out_of[out - s->first] = (uint32_t)r + 1;
            region->first_out = out < region->first_out ? out : region->first_out;
        }
    }
}

/* Whether a node depends on a variable by its operands. A sum over lanes does not depend on its witness. */
static bool depends(const pgr_tape *tape, const sheet *s, pgr_id id)
{
    const pgr_node *const node = &tape->nodes[id];
    if (node->op == PGR_OP_DETACH)
        return false;
    return sheet_is_active(s, node->lhs) || (node->op != PGR_OP_LANE_SUM && sheet_is_active(s, node->rhs));
}

static bool out_depends(const pgr_tape *tape, const sheet *s, sheet_region *region, pgr_id id)
{
    if (depends(tape, s, id))
        region->is_captured = true;
    for (size_t k = 0; id == region->first_out && k < region->input_count; k++)
        region->is_active |= sheet_is_active(s, region->inputs[k]);
    return region->is_active || region->is_captured;
}

bool pgr__new_sheet(pgr_tape *tape, sheet *s, size_t wrt_count, const pgr_id *wrt, size_t root_count,
                    const pgr_id *roots)
{
    pgr_id first = UINT32_MAX, last = 0;
    for (size_t i = 0; i < wrt_count; i++)
        first = wrt[i] < first ? wrt[i] : first;
    for (size_t i = 0; i < root_count; i++)
        last = roots[i] > last ? roots[i] : last;
    s->first = first;
    s->count = last >= first ? (size_t)last - first + 1 : 0;
    if (!allocate(tape, s))
        return false;
    for (size_t i = 0; i < wrt_count; i++)
        if (sheet_has(s, wrt[i]))
            s->state[wrt[i] - first] = SHEET_ACTIVE;
    place_regions(s);
    for (size_t i = 0; i < s->count; i++) {
        const pgr_id id = first + (pgr_id)i;
        sheet_region *const region = sheet_region_of(s, i);
        if (region != NULL ? out_depends(tape, s, region, id)
                           : (s->state[i] & SHEET_CUT) == 0 && depends(tape, s, id))
            s->state[i] |= SHEET_ACTIVE;
        s->group[i] = group_of(tape, s, id);
    }
    return true;
}

static void need(sheet *s, pgr_id id)
{
    if (sheet_is_active(s, id))
        s->state[id - s->first] |= SHEET_NEEDED;
}

void pgr__sheet_mark_needed(const pgr_tape *tape, sheet *s, size_t root_count, const pgr_id *roots)
{
    for (size_t i = 0; i < root_count; i++)
        need(s, roots[i]);
    for (size_t i = s->count; i-- > 0;) {
        if ((s->state[i] & SHEET_NEEDED) == 0)
            continue;
        const pgr_node *const node = &tape->nodes[s->first + i];
        sheet_region *const region = sheet_region_of(s, i);
        if (region == NULL && (s->state[i] & SHEET_CUT) == 0) {
            need(s, node->lhs);
            need(s, node->rhs);
        }
        for (size_t k = 0; region != NULL && !region->is_reached && k < region->input_count; k++)
            need(s, region->inputs[k]);
        if (region != NULL)
            region->is_reached = true;
    }
}
