/* derive.c: derivatives as further nodes of the same tape.
 *
 * A vector-Jacobian or Jacobian-vector product of a recorded function is recorded node by node, from the table's
 * expressions for the local derivatives. The result is a graph like any other: it can be derived again, and built into
 * a program. See Griewank & Walther, Evaluating Derivatives (2nd ed., 2008), ch. 3 and 5. */
#include "tape/tape.h"
#include "tape/tags.h"

#include <string.h>

typedef struct {
    pgr_tape *tape;
    pgr_status status; /* the first failure; later results are 0 */
    pgr_id bad;        /* the node that failed */
    pgr_id zero, one;  /* constants; 0: not recorded yet */
    uint32_t size, line; /* the tape's size and line before */
} recorder;

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

/* The nodes from `first` to the last root. Groups are counted from 1; 0: not a lane. */
typedef struct {
    pgr_id first;
    size_t count;
    uint32_t within;      /* the group whose function is being recorded; 0: no group's */
    uint8_t *active;      /* depends on a node that is derived by */
    pgr_id *adjoint;      /* or tangent */
    pgr_id *lane_adjoint; /* of a node that is not a lane: the adjoint from lanes, not yet summed over them .. */
    pgr_id *witness;      /* .. and one of these lanes */
    uint32_t *group;      /* of a lane */
} sheet;

static bool in_sheet(const sheet *s, pgr_id id) { return id >= s->first && id - s->first < s->count; }
static bool is_active(const sheet *s, pgr_id id) { return in_sheet(s, id) && s->active[id - s->first] != 0; }

static void free_sheet(pgr_tape *tape, sheet *s)
{
    tape_resize(tape, s->active, 0);
    tape_resize(tape, s->adjoint, 0);
    tape_resize(tape, s->lane_adjoint, 0);
    tape_resize(tape, s->witness, 0);
    tape_resize(tape, s->group, 0);
}

/* Groups of earlier nodes of the sheet are known. A lane from before the sheet belongs to the group whose function is
 * being recorded; if there is none, operands lead down to an input of the group. */
static uint32_t group_of(const pgr_tape *tape, const sheet *s, pgr_id id)
{
    const pgr_node *node = &tape->nodes[id];
    if ((node->flags & TAPE_LANE) == 0)
        return 0;
    while (node->op != PGR_OP_LANE && node->op != PGR_OP_LANE_PASS) {
        id = is_lane(tape, node->lhs) ? node->lhs : node->rhs;
        if (in_sheet(s, id))
            return s->group[id - s->first];
        if (s->within != 0)
            return s->within;
        node = &tape->nodes[id];
    }
    return tape_number_group(pgr__number_of(tape, id)) + 1;
}

static bool allocate_sheet(pgr_tape *tape, sheet *s)
{
    const size_t n = s->count + 1;
    s->active = tape_resize(tape, NULL, n);
    s->adjoint = tape_resize(tape, NULL, n * sizeof *s->adjoint);
    s->lane_adjoint = tape_resize(tape, NULL, n * sizeof *s->lane_adjoint);
    s->witness = tape_resize(tape, NULL, n * sizeof *s->witness);
    s->group = tape_resize(tape, NULL, n * sizeof *s->group);
    if (s->active == NULL || s->adjoint == NULL || s->lane_adjoint == NULL || s->witness == NULL || s->group == NULL) {
        free_sheet(tape, s);
        return false;
    }
    memset(s->active, 0, n);
    memset(s->adjoint, 0, n * sizeof *s->adjoint);
    memset(s->lane_adjoint, 0, n * sizeof *s->lane_adjoint);
    return true;
}

/* False when out of memory. */
static bool new_sheet(pgr_tape *tape, sheet *s, size_t wrt_count, const pgr_id *wrt, size_t root_count,
                      const pgr_id *roots)
{
    pgr_id first = UINT32_MAX, last = 0;
    for (size_t i = 0; i < wrt_count; i++)
        first = wrt[i] < first ? wrt[i] : first;
    for (size_t i = 0; i < root_count; i++)
        last = roots[i] > last ? roots[i] : last;
    s->first = first;
    s->count = last >= first ? (size_t)last - first + 1 : 0;
    if (!allocate_sheet(tape, s))
        return false;
    for (size_t i = 0; i < wrt_count; i++)
        if (in_sheet(s, wrt[i]))
            s->active[wrt[i] - first] = 1;
    for (size_t i = 0; i < s->count; i++) {
        const pgr_node *const node = &tape->nodes[first + i];
        /* A sum over lanes does not depend on its witness. */
        const bool by_rhs = node->op != PGR_OP_LANE_SUM && is_active(s, node->rhs);
        if (node->op != PGR_OP_DETACH && (is_active(s, node->lhs) || by_rhs))
            s->active[i] = 1;
        s->group[i] = group_of(tape, s, first + (pgr_id)i);
    }
    return true;
}

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
    const bool want_a = is_active(s, node.lhs), want_b = is_active(s, node.rhs);
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

/* Gives nodes their seeds or tangents, added up if a node comes twice. */
static void seed(recorder *e, sheet *s, size_t count, const pgr_id *nodes, const pgr_id *seeds)
{
    for (size_t i = 0; i < count; i++)
        if (is_active(s, nodes[i]))
            accumulate(e, s, nodes[i], nodes[i], seeds[i]);
}

/* Writes the adjoints or tangents of nodes to `out`, and frees the sheet. */
static pgr_status finish(recorder *e, sheet *s, size_t count, const pgr_id *nodes, pgr_id *out, pgr_id *bad)
{
    for (size_t i = 0; i < count && e->status == PGR_OK; i++) {
        const pgr_id made = in_sheet(s, nodes[i]) ? s->adjoint[nodes[i] - s->first] : 0;
        out[i] = made != 0 ? made : zero(e);
    }
    free_sheet(e->tape, s);
    return end(e, bad);
}

pgr_status pgr_vjp(pgr_tape *tape, uint32_t within, size_t root_count, const pgr_id *roots, const pgr_id *seeds,
                   size_t wrt_count, const pgr_id *wrt, pgr_id *out, pgr_id *bad)
{
    recorder e = begin(tape);
    sheet s = {.within = within + 1};
    if (!new_sheet(tape, &s, wrt_count, wrt, root_count, roots))
        return PGR_ERR_NOMEM;
    seed(&e, &s, root_count, roots, seeds);
    for (size_t i = s.count; i-- > 0 && e.status == PGR_OK;) {
        if (!s.active[i] || (s.adjoint[i] == 0 && s.lane_adjoint[i] == 0))
            continue;
        const pgr_id id = s.first + (pgr_id)i;
        derive_node(&e, id);
        ask(&e, i);
        gather_lanes(&e, &s, i);
        push(&e, &s, id, s.adjoint[i]);
    }
    return finish(&e, &s, wrt_count, wrt, out, bad);
}

pgr_status pgr_jvp(pgr_tape *tape, size_t wrt_count, const pgr_id *wrt, const pgr_id *tangents, size_t root_count,
                   const pgr_id *roots, pgr_id *out, pgr_id *bad)
{
    recorder e = begin(tape);
    sheet s = {0};
    if (!new_sheet(tape, &s, wrt_count, wrt, root_count, roots))
        return PGR_ERR_NOMEM;
    seed(&e, &s, wrt_count, wrt, tangents);
    for (size_t i = 0; i < s.count && e.status == PGR_OK; i++) {
        const pgr_id id = s.first + (pgr_id)i;
        const pgr_node *const node = &tape->nodes[id];
        const pgr_id ta = is_active(&s, node->lhs) ? s.adjoint[node->lhs - s.first] : 0;
        const pgr_id tb = is_active(&s, node->rhs) ? s.adjoint[node->rhs - s.first] : 0;
        if (!s.active[i] || (ta == 0 && tb == 0))
            continue;
        derive_node(&e, id);
        ask(&e, i);
        pull(&e, &s, id, ta, tb);
    }
    return finish(&e, &s, root_count, roots, out, bad);
}
