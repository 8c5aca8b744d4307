/* derive.c: derivatives as further nodes of the same tape.
 *
 * A vector-Jacobian or Jacobian-vector product of a recorded function is recorded node by node, from the table's
 * expressions for the local derivatives. The result is a graph like any other: it can be derived again, and built into
 * a program. See Griewank & Walther, Evaluating Derivatives (2nd ed., 2008), ch. 3 and 5. */
#include "tape/derive.h"
#include "tape/tags.h"

typedef derive_recorder recorder;

static recorder begin(pgr_tape *tape)
{
    return (recorder){.tape = tape, .size = tape->size, .line = tape->tags[PGR_TAG_LINE].tag};
}

/* Nodes from here on derive `id`, and have its line. */
static void derive_node(recorder *e, pgr_id id)
{
    if (e->status == PGR_OK && e->tape->tags[PGR_TAG_LINE].count > 0)
        e->status = pgr__set_tag(e->tape, PGR_TAG_LINE, pgr_tag(e->tape, PGR_TAG_LINE, id));
}

/* Calls on_stop now and then. */
static void ask(recorder *e, size_t i)
{
    if (e->status == PGR_OK && i % TAPE_ASK_EVERY == 0)
        e->status = pgr__ask(e->tape);
}

static pgr_status end(recorder *e, pgr_id *bad)
{
    pgr_tape *const tape = e->tape;
    if (e->status == PGR_OK)
        e->status = pgr__set_tag(tape, PGR_TAG_LINE, e->line);
    if (e->status != PGR_OK) {
        if (bad != NULL)
            *bad = e->bad;
        tape->tags[PGR_TAG_LINE].tag = e->line;
        pgr__take_back(tape, e->size);
    }
    return e->status;
}

static pgr_id number(recorder *e, double value)
{
    pgr_id id = 0;
    if (e->status == PGR_OK)
        e->status = pgr_constant(e->tape, value, &id);
    return id;
}

static pgr_id zero(recorder *e) { return e->zero != 0 ? e->zero : (e->zero = number(e, 0.0)); }
static pgr_id one(recorder *e) { return e->one != 0 ? e->one : (e->one = number(e, 1.0)); }

static bool is_constant(const recorder *e, pgr_id id, double *value)
{
    *value = e->tape->nodes[id].data;
    return e->tape->nodes[id].op == PGR_OP_CONST;
}

static bool is_number(const recorder *e, pgr_id id, double value)
{
    double number;
    return is_constant(e, id, &number) && number == value;
}

/* Records op(a, b), simplified. */
static pgr_id record(recorder *e, int op, pgr_id a, pgr_id b)
{
    if (e->status != PGR_OK)
        return 0;
    if (op == PGR_OP_MUL && (is_number(e, a, 1.0) || is_number(e, b, 0.0)))
        return b;
    if ((op == PGR_OP_MUL && (is_number(e, b, 1.0) || is_number(e, a, 0.0))) ||
        ((op == PGR_OP_ADD || op == PGR_OP_SUB) && is_number(e, b, 0.0)))
        return a;
    if (op == PGR_OP_ADD && is_number(e, a, 0.0))
        return b;
    if (op == PGR_OP_MUL && is_number(e, b, -1.0))
        return record(e, PGR_OP_NEG, a, 0);
    if (op == PGR_OP_NEG && e->tape->nodes[a].op == PGR_OP_CONST)
        return number(e, -e->tape->nodes[a].data);
    pgr_id id = 0;
    e->status = op == PGR_OP_LANE_SUM ? pgr_lane_sum(e->tape, a, b, &id) : pgr__record_ieee(e->tape, op, a, b, &id);
    return id;
}

static bool is_lane(const pgr_tape *tape, pgr_id id) { return (tape->nodes[id].flags & TAPE_LANE) != 0; }

/* A lane in another group; other nodes as they are. */
static pgr_id pass(recorder *e, pgr_id value, uint32_t group)
{
    pgr_id id = value;
    if (e->status == PGR_OK && is_lane(e->tape, value))
        e->status = pgr_lane_pass(e->tape, value, group, &id);
    return id;
}

/* ---- Derivatives as nodes: see ops/words.h --------------------------------------------------- */

#define NUMBER_(x)       number(e, x)
#define ZERO             zero(e)
#define ONE              one(e)
#define HALF             number(e, 0.5)
#define ADD_(x, y)       record(e, PGR_OP_ADD, x, y)
#define SUB_(x, y)       record(e, PGR_OP_SUB, x, y)
#define MUL_(x, y)       record(e, PGR_OP_MUL, x, y)
#define DIV_(x, y)       record(e, PGR_OP_DIV, x, y)
#define NEG_(x)          record(e, PGR_OP_NEG, x, 0)
#define OF_(ID, ...)     OPERANDS_(PGR_OP_##ID, __VA_ARGS__, 0, 0)
#define OPERANDS_(op, x, y, ...) record(e, op, x, y)
#define WORD_(number, nodes, text) (nodes)
#define WORDS_NODES
#include "ops/words.h"

typedef struct {
    pgr_id da, db; /* 0: not recorded */
} id_pair;

/* Records only what is wanted: nobody needs the derivative by a constant exponent. */
#define RECORD_UNARY(da, db)  (id_pair){want_a ? (da) : 0, 0}
#define RECORD_BINARY(da, db) (id_pair){want_a ? (da) : 0, want_b ? (db) : 0}
#define RECORD_PARAM(da, db)  (id_pair){want_a ? (da) : 0, 0}
#define RECORD_CUT(da, db)    (id_pair){0, 0}

static id_pair record_partials(recorder *e, pgr_id v, bool want_a, bool want_b)
{
    const pgr_node node = e->tape->nodes[v];
    const pgr_id a = node.lhs, b = node.rhs;
    (void)a, (void)b, (void)want_b;
    switch (node.op) {
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
    case PGR_OP_##ID: \
        return RECORD_##KIND(da, db);
        PGR_OPS(X)
#undef X
    case PGR_OP_CUSTOM:
    case PGR_OP_PAIR:
        e->status = PGR_ERR_OPAQUE;
        e->bad = v;
        return (id_pair){0, 0};
    default:
        return (id_pair){0, 0};
    }
}

/* ---- Vector-Jacobian and Jacobian-vector products ------------------------------------------------ */

/* Adds up a node's adjoint from lanes. */
static void gather_lanes(recorder *e, sheet *s, size_t i)
{
    if (s->lane_adjoint[i] == 0)
        return;
    const pgr_id sum = record(e, PGR_OP_LANE_SUM, s->lane_adjoint[i], s->witness[i]);
    s->lane_adjoint[i] = 0;
    s->adjoint[i] = s->adjoint[i] == 0 ? sum : record(e, PGR_OP_ADD, s->adjoint[i], sum);
}

/* Adds to the adjoint of `to`. From a lane to a node that is not one, it adds once per lane, unless each lane has a
 * derivative of its own. */
static void accumulate(recorder *e, sheet *s, pgr_id from, pgr_id to, pgr_id adjoint)
{
    if (e->status != PGR_OK)
        return;
    const size_t i = to - s->first;
    const uint32_t group = s->group[from - s->first];
    const bool by_lane = group != 0 && group != s->within && !is_lane(e->tape, to);
    if (by_lane && s->lane_adjoint[i] != 0 && s->group[s->witness[i] - s->first] != group)
        gather_lanes(e, s, i);
    pgr_id *const sum = by_lane ? &s->lane_adjoint[i] : &s->adjoint[i];
    *sum = *sum == 0 ? adjoint : record(e, PGR_OP_ADD, *sum, adjoint);
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
            accumulate(e, s, id, node.lhs, is_lane(e->tape, node.lhs) ? g : record(e, PGR_OP_LANE_SUM, g, node.rhs));
        return;
    }
    if (node.op == PGR_OP_LANE_PASS) {
        if (want_a)
            accumulate(e, s, id, node.lhs, pass(e, g, s->group[node.lhs - s->first] - 1));
        return;
    }
    if (!want_a && !want_b)
        return;
    const id_pair p = record_partials(e, id, want_a, want_b);
    if (p.da != 0 && !is_number(e, p.da, 0.0))
        accumulate(e, s, id, node.lhs, record(e, PGR_OP_MUL, g, p.da));
    if (p.db != 0 && !is_number(e, p.db, 0.0))
        accumulate(e, s, id, node.rhs, record(e, PGR_OP_MUL, g, p.db));
}

/* Adds to the tangent of a node, whose operands' are ta and tb; 0: no tangent. */
static void pull(recorder *e, sheet *s, pgr_id id, pgr_id ta, pgr_id tb)
{
    const pgr_node node = e->tape->nodes[id];
    if (node.op == PGR_OP_LANE_SUM || node.op == PGR_OP_LANE_PASS) {
        if (ta != 0 && node.op == PGR_OP_LANE_SUM)
            accumulate(e, s, id, id, record(e, PGR_OP_LANE_SUM, ta, node.rhs));
        else if (ta != 0)
            accumulate(e, s, id, id, pass(e, ta, s->group[id - s->first] - 1));
        return;
    }
    const id_pair p = record_partials(e, id, ta != 0, tb != 0);
    if (p.da != 0 && ta != 0 && !is_number(e, p.da, 0.0))
        accumulate(e, s, id, id, record(e, PGR_OP_MUL, ta, p.da));
    if (p.db != 0 && tb != 0 && !is_number(e, p.db, 0.0))
        accumulate(e, s, id, id, record(e, PGR_OP_MUL, tb, p.db));
}


pgr_status pgr__derive_begin(derivation *d, size_t n, const pgr_id *nodes, const pgr_id *weights, size_t m,
                             const pgr_id *others)
{
    sheet *const s = &d->sheet;
    d->recorder = begin(d->tape);
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
    derive_node(e, id);
    ask(e, i);
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
    derive_node(&d->recorder, id);
    ask(&d->recorder, i);
    if (region != NULL)
        return stops(d, region, i);
    pull(&d->recorder, s, id, ta, tb);
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
        out[i] = g != 0 ? g : zero(&d->recorder);
    }
    pgr__free_sheet(d->tape, &d->sheet);
    return end(&d->recorder, bad);
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
