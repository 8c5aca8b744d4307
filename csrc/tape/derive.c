/* derive.c: derivatives as further nodes of the same tape.
 *
 * A vector-Jacobian or Jacobian-vector product of a recorded function is recorded node by node, from the table's
 * expressions for the local derivatives. The result is a graph like any other: it can be derived again, and built into
 * a program. See Griewank & Walther, Evaluating Derivatives (2nd ed., 2008), ch. 3 and 5. */
#include "tape/derive.h"

/* Adds up a node's adjoint from lanes. */
static void gather_lanes(recorder *e, sheet *s, size_t i)
{
    if (s->lane_adjoint[i] == 0)
        return;
    const pgr_id sum = pgr__record_derived(e, PGR_OP_LANE_SUM, s->lane_adjoint[i], s->witness[i]);
    s->lane_adjoint[i] = 0;
    s->adjoint[i] = pgr__plus(e, s->adjoint[i], sum);
}

/* Adds to the adjoint of `to`; 0: nothing. From a lane to a node that is not one, it adds once per lane, unless each
 * lane has a derivative of its own. */
static void accumulate(recorder *e, sheet *s, pgr_id from, pgr_id to, pgr_id adjoint)
{
    if (e->status != PGR_OK || adjoint == 0)
        return;
    const size_t i = to - s->first;
    const uint32_t group = s->group[from - s->first];
    const bool by_lane = group != 0 && group != s->within && !tape_is_lane(e->tape, to);
    if (by_lane && s->lane_adjoint[i] != 0 && s->group[s->witness[i] - s->first] != group)
        gather_lanes(e, s, i);
    pgr_id *const sum = by_lane ? &s->lane_adjoint[i] : &s->adjoint[i];
    *sum = *sum == 0 ? adjoint : pgr__record_derived(e, PGR_OP_ADD, *sum, adjoint);
    if (by_lane)
        s->witness[i] = from;
}

/* Adds to the adjoints of the operands of a node, whose own is g. */
static void push(recorder *e, sheet *s, pgr_id id, pgr_id g)
{
    const pgr_node node = e->tape->nodes[id];
    const bool want_a = sheet_is_active(s, node.lhs), want_b = sheet_is_active(s, node.rhs);
    if (node.op == PGR_OP_LANE_SUM) {
        if (want_a) /* a node that is the same in all lanes is added once per lane */
            accumulate(e, s, id, node.lhs,
                       tape_is_lane(e->tape, node.lhs) ? g : pgr__record_derived(e, PGR_OP_LANE_SUM, g, node.rhs));
        return;
    }
    if (node.op == PGR_OP_LANE_PASS) {
        if (want_a)
            accumulate(e, s, id, node.lhs, pgr__pass(e, g, s->group[node.lhs - s->first] - 1));
        return;
    }
    if (!want_a && !want_b)
        return;
    const id_pair p = pgr__record_partials(e, id, want_a, want_b);
    accumulate(e, s, id, node.lhs, pgr__times(e, g, p.da));
    accumulate(e, s, id, node.rhs, pgr__times(e, g, p.db));
}

pgr_id pgr__tangent(recorder *e, const sheet *s, pgr_id id, id_pair p, pgr_id ta, pgr_id tb)
{
    const pgr_node node = e->tape->nodes[id];
    if (node.op == PGR_OP_LANE_SUM)
        return ta == 0 ? 0 : pgr__record_derived(e, PGR_OP_LANE_SUM, ta, node.rhs);
    if (node.op == PGR_OP_LANE_PASS)
        return ta == 0 ? 0 : pgr__pass(e, ta, s->group[id - s->first] - 1);
    return pgr__plus(e, pgr__times(e, ta, p.da), pgr__times(e, tb, p.db));
}

pgr_status pgr__derive_begin(derivation *d, size_t n, const pgr_id *nodes, const pgr_id *weights, size_t m,
                             const pgr_id *others)
{
    sheet *const s = &d->sheet;
    d->recorder = pgr__recorder_begin(d->tape);
    const bool has_memory = d->is_vjp ? pgr__new_sheet(d->tape, s, m, others, n, nodes)
                                      : pgr__new_sheet(d->tape, s, n, nodes, m, others);
    if (!has_memory)
        return PGR_ERR_NOMEM;
    if (!d->is_vjp)
        pgr__sheet_mark_needed(d->tape, s, m, others);
    for (size_t i = 0; i < n; i++)
        if (sheet_is_active(s, nodes[i]))
            accumulate(&d->recorder, s, nodes[i], nodes[i], weights[i]);
    d->at = d->is_vjp ? s->count : 0;
    return PGR_OK;
}

/* At an out of a region: whether its rule is to record the derivative now. */
static bool stops(derivation *d, sheet_region *region, size_t i)
{
    sheet *const s = &d->sheet;
    const pgr_id id = s->first + (pgr_id)i;
    if (d->is_vjp)
        region->is_reached |= s->adjoint[i] != 0;
    if (region->is_reached && region->is_captured) {
        d->recorder.status = PGR_ERR_CAPTURED;
        d->recorder.bad = id;
    }
    return id == region->first_out && region->is_reached && d->recorder.status == PGR_OK;
}

/* One node of the sweep. True if it ends a region. */
static bool visit_down(derivation *d, size_t i)
{
    recorder *const e = &d->recorder;
    sheet *const s = &d->sheet;
    sheet_region *const region = sheet_region_of(s, i);
    const bool has_adjoint = s->adjoint[i] != 0 || s->lane_adjoint[i] != 0;
    if (!sheet_is_active(s, s->first + (pgr_id)i) || (!has_adjoint && region == NULL))
        return false;
    const pgr_id id = s->first + (pgr_id)i;
    pgr__recorder_at(e, id, i);
    gather_lanes(e, s, i);
    if (region != NULL)
        return stops(d, region, i);
    if ((s->state[i] & SHEET_CUT) == 0)
        push(e, s, id, s->adjoint[i]);
    return false;
}

static bool visit_up(derivation *d, size_t i)
{
    sheet *const s = &d->sheet;
    const pgr_id id = s->first + (pgr_id)i;
    const pgr_node *const node = &d->tape->nodes[id];
    sheet_region *const region = sheet_region_of(s, i);
    const pgr_id ta = sheet_is_active(s, node->lhs) ? s->adjoint[node->lhs - s->first] : 0;
    const pgr_id tb = sheet_is_active(s, node->rhs) ? s->adjoint[node->rhs - s->first] : 0;
    if (region == NULL && ((s->state[i] & SHEET_NEEDED) == 0 || (s->state[i] & SHEET_CUT) != 0 || (ta == 0 && tb == 0)))
        return false;
    pgr__recorder_at(&d->recorder, id, i);
    if (region != NULL)
        return stops(d, region, i);
    const id_pair p = pgr__record_partials(&d->recorder, id, ta != 0, tb != 0);
    s->adjoint[i] = pgr__plus(&d->recorder, s->adjoint[i], pgr__tangent(&d->recorder, s, id, p, ta, tb));
    return false;
}

sheet_region *pgr__derive_go_on(derivation *d)
{
    const sheet *const s = &d->sheet;
    while (d->recorder.status == PGR_OK && d->at != (d->is_vjp ? 0 : s->count)) {
        const size_t i = d->is_vjp ? --d->at : d->at++;
        if (d->is_vjp ? visit_down(d, i) : visit_up(d, i))
            return sheet_region_of(s, i);
    }
    return NULL;
}

void pgr__derive_answer(derivation *d, sheet_region *region, const pgr_id *answer)
{
    sheet *const s = &d->sheet;
    const size_t n = d->is_vjp ? region->input_count : region->out_count;
    for (size_t k = 0; k < n; k++) {
        const pgr_id to = d->is_vjp ? region->inputs[k] : region->outs[k];
        if (answer[k] != 0 && sheet_is_active(s, to))
            accumulate(&d->recorder, s, d->is_vjp ? region->first_out : to, to, answer[k]);
    }
}

pgr_status pgr__derive_end(derivation *d, size_t m, const pgr_id *others, pgr_id *out, pgr_id *bad)
{
    for (size_t i = 0; i < m && d->recorder.status == PGR_OK; i++) {
        const pgr_id g = sheet_has(&d->sheet, others[i]) ? d->sheet.adjoint[others[i] - d->sheet.first] : 0;
        out[i] = g != 0 ? g : pgr__zero(&d->recorder);
    }
    pgr__free_sheet(d->tape, &d->sheet);
    return pgr__recorder_end(&d->recorder, bad);
}

static pgr_status derive(derivation d, size_t n, const pgr_id *nodes, const pgr_id *weights, size_t m,
                         const pgr_id *others, pgr_id *out, pgr_id *bad)
{
    if (pgr__derive_begin(&d, n, nodes, weights, m, others) != PGR_OK)
        return PGR_ERR_NOMEM;
    pgr__derive_go_on(&d);
    return pgr__derive_end(&d, m, others, out, bad);
}

pgr_status pgr_vjp(pgr_tape *tape, uint32_t within, size_t root_count, const pgr_id *roots, const pgr_id *seeds,
                   size_t wrt_count, const pgr_id *wrt, pgr_id *out, pgr_id *bad)
{
    const derivation d = {.tape = tape, .is_vjp = true, .sheet = {.within = within + 1}};
    return derive(d, root_count, roots, seeds, wrt_count, wrt, out, bad);
}

pgr_status pgr_jvp(pgr_tape *tape, size_t wrt_count, const pgr_id *wrt, const pgr_id *tangents, size_t root_count,
                   const pgr_id *roots, pgr_id *out, pgr_id *bad)
{
    return derive((derivation){.tape = tape}, wrt_count, wrt, tangents, root_count, roots, out, bad);
}
