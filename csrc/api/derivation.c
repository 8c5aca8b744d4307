/* derivation.c: derivatives of recorded functions through calls with rules, by handle, with the tape's lock.
 *
 * While a rule runs, the derivation waits: it counts as a pass under way, so nodes keep their ids. */
#include "api/calls.h"
#include "tape/derive.h"
#include "tape/tags.h"

#include <stdlib.h>
#include <string.h>

struct pgr_derivation {
    derivation now;
    size_t other_count;
    pgr_id *nodes, *weights, *others, *results;
    pgr_id **ids;           /* of each region's nodes */
    size_t region_count;
    sheet_region *regions;
    sheet_region *waits_at; /* its rule is running; NULL: none */
    bool has_ended;
};

/* Ids of handles, 0 for 0. */
static pgr_status read_ids(const pgr_tape *tape, size_t n, const pgr_handle *handles, pgr_id *ids)
{
    for (size_t i = 0; i < n; i++) {
        ids[i] = handles[i] == 0 ? 0 : tape_id_of(tape, handles[i]);
        if (handles[i] != 0 && ids[i] == 0)
            return PGR_ERR_HANDLE;
    }
    return PGR_OK;
}

/* New holds on nodes, 0 for 0. */
static pgr_status hold_some(pgr_tape *tape, size_t n, const pgr_id *ids, pgr_handle *out)
{
    for (size_t i = 0; i < n; i++) {
        const int64_t h = ids[i] == 0 ? 0 : pgr_hold(tape, ids[i]);
        if (h < 0) {
            for (; i > 0; out[i] = 0)
                if (out[--i] != 0)
                    tape_release(tape, (uint32_t)out[i], false);
            return (pgr_status)-h;
        }
        out[i] = (pgr_handle)h;
    }
    return PGR_OK;
}

static pgr_status take_regions(pgr_tape *tape, pgr_derivation *d, size_t count, const pgr_region *regions)
{
    d->regions = tape_resize(tape, NULL, (count + 1) * sizeof *d->regions);
    d->ids = tape_resize(tape, NULL, (count + 1) * sizeof *d->ids);
    if (d->regions == NULL || d->ids == NULL)
        return PGR_ERR_NOMEM;
    pgr_status status = PGR_OK;
    for (size_t r = 0; r < count && status == PGR_OK; r++) {
        const pgr_region given = regions[r];
        const size_t n = given.cut_count + given.input_count + given.out_count;
        pgr_id *const ids = pgr__ids_of(tape, n, given.nodes, &status);
        d->ids[d->region_count++] = ids;
        d->regions[r] = (sheet_region){
            .cut_count = given.cut_count,
            .input_count = given.input_count,
            .out_count = given.out_count,
            .cuts = ids,
            .inputs = ids + given.cut_count,
            .outs = ids + given.cut_count + given.input_count,
        };
    }
    return status;
}

static void free_derivation(pgr_tape *tape, pgr_derivation *d)
{
    for (size_t r = 0; r < d->region_count; r++)
        tape_resize(tape, d->ids[r], 0);
    void *const parts[] = {d->nodes, d->weights, d->others, d->results, d->ids, d->regions};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        tape_resize(tape, parts[i], 0);
    tape_resize(tape, d, 0);
}

pgr_status pgr_derivation_new(pgr_tape *tape, int is_vjp, uint32_t within, size_t n, const pgr_handle *nodes,
                              const pgr_handle *weights, size_t m, const pgr_handle *others, size_t region_count,
                              const pgr_region *regions, pgr_derivation **out)
{
    const int token = pgr__enter(tape);
    pgr_derivation *const d = tape_resize(tape, NULL, sizeof *d);
    pgr_status status = d == NULL ? PGR_ERR_NOMEM : PGR_OK;
    if (d != NULL) {
        *d = (pgr_derivation){.now = {.tape = tape, .is_vjp = is_vjp != 0}, .other_count = m};
        d->nodes = pgr__ids_of(tape, n, nodes, &status);
        d->weights = pgr__ids_of(tape, n, weights, &status);
        d->others = pgr__ids_of(tape, m, others, &status);
        d->results = pgr__ids_of(tape, m, others, &status); /* for its memory */
        if (status == PGR_OK)
            status = take_regions(tape, d, region_count, regions);
        d->now.sheet.within = is_vjp ? within + 1 : 0;
        d->now.sheet.region_count = d->region_count;
        d->now.sheet.regions = d->regions;
        if (status == PGR_OK)
            status = pgr__derive_begin(&d->now, n, d->nodes, d->weights, m, d->others);
    }
    if (status == PGR_OK) {
        tape->passes++;
        *out = d;
    } else if (d != NULL) {
        free_derivation(tape, d);
    }
    pgr__leave(tape, token);
    return status;
}

static pgr_status take_answer(pgr_derivation *d, const pgr_handle *answer)
{
    sheet_region *const region = d->waits_at;
    if (region == NULL)
        return PGR_OK;
    pgr_tape *const tape = d->now.tape;
    const size_t n = d->now.is_vjp ? region->input_count : region->out_count;
    pgr_id *const ids = tape_resize(tape, NULL, (n + 1) * sizeof *ids);
    pgr_status status = ids == NULL ? PGR_ERR_NOMEM : read_ids(tape, n, answer, ids);
    if (status == PGR_OK)
        pgr__derive_answer(&d->now, region, ids);
    tape_resize(tape, ids, 0);
    return status;
}

/* The adjoints of the region's outs, or the tangents of its inputs. */
static pgr_status give(pgr_derivation *d, const sheet_region *region, pgr_handle *given)
{
    pgr_tape *const tape = d->now.tape;
    const sheet *const s = &d->now.sheet;
    const size_t n = d->now.is_vjp ? region->out_count : region->input_count;
    const pgr_id *const nodes = d->now.is_vjp ? region->outs : region->inputs;
    pgr_id *const weights = tape_resize(tape, NULL, (n + 1) * sizeof *weights);
    if (weights == NULL)
        return PGR_ERR_NOMEM;
    for (size_t k = 0; k < n; k++)
        weights[k] = sheet_is_active(s, nodes[k]) ? s->adjoint[nodes[k] - s->first] : 0;
    const pgr_status status = hold_some(tape, n, weights, given);
    tape_resize(tape, weights, 0);
    return status;
}

static pgr_status finish(pgr_derivation *d, pgr_handle *given, pgr_handle *bad)
{
    pgr_tape *const tape = d->now.tape;
    pgr_id failed = 0;
    d->has_ended = true;
    const pgr_status status = pgr__derive_end(&d->now, d->other_count, d->others, d->results, &failed);
    if (status == PGR_OK)
        return pgr__hold_all(tape, d->other_count, d->results, given);
    if ((status == PGR_ERR_OPAQUE || status == PGR_ERR_CAPTURED) && bad != NULL)
        return hold_some(tape, 1, &failed, bad) == PGR_OK ? status : PGR_ERR_NOMEM;
    return status;
}

pgr_status pgr_derivation_run(pgr_derivation *d, const pgr_handle *answer, size_t *region, pgr_handle *given,
                              pgr_handle *bad)
{
    pgr_tape *const tape = d->now.tape;
    const int token = pgr__enter(tape);
    pgr_status status = d->has_ended ? PGR_ERR_ARGUMENT : take_answer(d, answer);
    if (status == PGR_OK) {
        d->waits_at = pgr__derive_go_on(&d->now);
        *region = d->waits_at == NULL ? d->region_count : (size_t)(d->waits_at - d->regions);
        status = d->waits_at == NULL ? finish(d, given, bad) : give(d, d->waits_at, given);
    }
    pgr__leave(tape, token);
    return status;
}

void pgr_derivation_wanted(const pgr_derivation *derivation, size_t region, uint8_t *wanted)
{
    const sheet_region *const r = &derivation->regions[region];
    for (size_t k = 0; k < r->input_count; k++)
        wanted[k] = sheet_is_active(&derivation->now.sheet, r->inputs[k]);
}

int pgr_derivation_is_active(const pgr_derivation *d, size_t region) { return d->regions[region].is_active; }

void pgr_derivation_free(pgr_derivation *d)
{
    if (d == NULL)
        return;
    pgr_tape *const tape = d->now.tape;
    const int token = pgr__enter(tape);
    if (!d->has_ended) {
        d->now.recorder.status = PGR_ERR_STOPPED;
        pgr__derive_end(&d->now, 0, NULL, NULL, NULL);
    }
    tape->passes--;
    free_derivation(tape, d);
    pgr__leave(tape, token);
}

static int by_id(const void *p, const void *q)
{
    const pgr_id x = *(const pgr_id *)p, y = *(const pgr_id *)q;
    return (x > y) - (x < y);
}

/* Writes the ids, ascending, to `found`, which has room for two a node from `first` on; returns their number. */
static size_t find_captures(const pgr_tape *tape, pgr_id first, size_t root_count, const pgr_id *roots, uint8_t *marks,
                            pgr_id *found)
{
    size_t all = 0, count = 0;
    memset(marks, 0, tape->size - first);
    for (size_t i = 0; i < root_count; i++)
        if (roots[i] >= first)
            marks[roots[i] - first] = 1;
    for (pgr_id id = tape->size; id-- > first;) {
        const pgr_id operands[] = {tape->nodes[id].lhs, tape->nodes[id].rhs};
        for (int k = 0; k < 2 && marks[id - first] != 0; k++)
            if (operands[k] >= first)
                marks[operands[k] - first] = 1;
            else if (operands[k] != 0 && tape->nodes[operands[k]].op != PGR_OP_CONST)
                found[all++] = operands[k];
    }
    if (all > 0)
        qsort(found, all, sizeof *found, by_id);
    for (size_t i = 0; i < all; i++)
        if (count == 0 || found[count - 1] != found[i])
            found[count++] = found[i];
    return count;
}

int64_t pgr_h_captures(pgr_tape *tape, pgr_handle start, size_t root_count, const pgr_handle *roots, size_t capacity,
                       pgr_handle *out)
{
    const int token = pgr__enter(tape);
    pgr_status status = PGR_OK;
    const pgr_id first = tape_id_of(tape, start);
    const size_t nodes = tape->size - first;
    pgr_id *const root_ids = pgr__ids_of(tape, root_count, roots, &status);
    pgr_id *const found = tape_resize(tape, NULL, (2 * nodes + 1) * sizeof *found);
    uint8_t *const marks = tape_resize(tape, NULL, nodes + 1);
    size_t count = 0;
    if (status == PGR_OK)
        status = first == 0 ? PGR_ERR_HANDLE : found == NULL || marks == NULL ? PGR_ERR_NOMEM : PGR_OK;
    if (status == PGR_OK) {
        count = find_captures(tape, first, root_count, root_ids, marks, found);
        status = pgr__hold_all(tape, count < capacity ? count : capacity, found, out);
    }
    tape_resize(tape, root_ids, 0);
    tape_resize(tape, found, 0);
    tape_resize(tape, marks, 0);
    pgr__leave(tape, token);
    return status == PGR_OK ? (int64_t)count : -(int64_t)status;
}

enum { NEEDED = 1, CUT = 2, OWN = 4, FOREIGN = 8 }; /* of nodes; CUT: nothing behind it is needed */

/* Whether a node stands for a number of one recording only. */
static bool is_place(int op) { return op == PGR_OP_INPUT || op == PGR_OP_LANE || op == PGR_OP_CALL; }

/* False if a place is needed that is foreign. */
static bool find_calls(const pgr_tape *tape, pgr_id first, uint8_t *marks, size_t call_count, uint8_t *needed)
{
    for (pgr_id id = tape->size; id-- > first;) {
        const pgr_node *const node = &tape->nodes[id];
        const pgr_id operands[] = {node->lhs, node->rhs};
        if ((marks[id - first] & (NEEDED | CUT)) != NEEDED)
            continue;
        if (is_place(node->op) && (marks[id - first] & (OWN | FOREIGN)) == FOREIGN)
            return false;
        for (int k = 0; k < 2; k++)
            if (operands[k] >= first)
                marks[operands[k] - first] |= NEEDED;
        const uint32_t call = node->op == PGR_OP_CALL ? (uint32_t)(pgr__number_of(tape, id) >> 32) : UINT32_MAX;
        if (call < call_count)
            needed[call] = 1;
    }
    return true;
}

static void mark(pgr_tape *tape, pgr_id first, size_t count, const pgr_handle *handles, uint8_t *marks, uint8_t with)
{
    for (size_t i = 0; i < count; i++) {
        const pgr_id id = tape_id_of(tape, handles[i]);
        if (id >= first)
            marks[id - first] |= with;
    }
}

/* Marks what lies between two nodes. */
static void mark_between(pgr_tape *tape, pgr_id first, const pgr_handle *ends, uint8_t *marks)
{
    const pgr_id from = tape_id_of(tape, ends[0]), to = tape_id_of(tape, ends[1]);
    for (pgr_id id = from < first ? first : from; id < to; id++)
        marks[id - first] |= FOREIGN;
}

pgr_status pgr_h_needed_calls(pgr_tape *tape, pgr_handle start, const pgr_places *places, size_t call_count,
                              uint8_t *needed)
{
    const int token = pgr__enter(tape);
    const pgr_id first = tape_id_of(tape, start);
    const size_t nodes = tape->size - first;
    uint8_t *const marks = tape_resize(tape, NULL, nodes + 1);
    pgr_status status = first == 0 ? PGR_ERR_HANDLE : marks == NULL ? PGR_ERR_NOMEM : PGR_OK;
    memset(needed, 0, call_count);
    if (status == PGR_OK) {
        memset(marks, 0, nodes);
        mark(tape, first, places->root_count, places->roots, marks, NEEDED);
        mark(tape, first, places->cut_count, places->cuts, marks, CUT);
        mark(tape, first, places->own_count, places->own, marks, OWN);
        for (size_t i = 0; i < places->range_count; i++)
            mark_between(tape, first, places->ranges + 2 * i, marks);
        status = find_calls(tape, first, marks, call_count, needed) ? PGR_OK : PGR_ERR_UNKNOWN;
    }
    tape_resize(tape, marks, 0);
    pgr__leave(tape, token);
    return status;
}
