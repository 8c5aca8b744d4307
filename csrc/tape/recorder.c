/* recorder.c: nodes of derivatives, recorded with simplification; partials of the table's operations as nodes. */
#include "tape/recorder.h"
#include "tape/tags.h"

recorder pgr__recorder_begin(pgr_tape *tape)
{
    return (recorder){.tape = tape, .size = tape->size, .line = tape->tags[PGR_TAG_LINE].tag};
}

void pgr__recorder_at(recorder *e, pgr_id id, size_t i)
{
    if (e->status == PGR_OK && e->tape->tags[PGR_TAG_LINE].count > 0)
        e->status = pgr__set_tag(e->tape, PGR_TAG_LINE, pgr_tag(e->tape, PGR_TAG_LINE, id));
    if (e->status == PGR_OK && i % TAPE_ASK_EVERY == 0)
        e->status = pgr__ask(e->tape);
}

pgr_status pgr__recorder_end(recorder *e, pgr_id *bad)
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

pgr_id pgr__zero(recorder *e) { return e->zero != 0 ? e->zero : (e->zero = number(e, 0.0)); }
pgr_id pgr__one(recorder *e) { return e->one != 0 ? e->one : (e->one = number(e, 1.0)); }

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

pgr_id pgr__record_derived(recorder *e, int op, pgr_id a, pgr_id b)
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
        return pgr__record_derived(e, PGR_OP_NEG, a, 0);
    if (op == PGR_OP_NEG && e->tape->nodes[a].op == PGR_OP_CONST)
        return number(e, -e->tape->nodes[a].data);
    pgr_id id = 0;
    e->status = op == PGR_OP_LANE_SUM ? pgr_lane_sum(e->tape, a, b, &id) : pgr__record_ieee(e->tape, op, a, b, &id);
    return id;
}

pgr_id pgr__pass(recorder *e, pgr_id value, uint32_t group)
{
    pgr_id id = value;
    if (e->status == PGR_OK && tape_is_lane(e->tape, value))
        e->status = pgr_lane_pass(e->tape, value, group, &id);
    return id;
}

/* ---- Derivatives as nodes: see ops/words.h --------------------------------------------------- */

#define NUMBER_(x)       number(e, x)
#define ZERO             pgr__zero(e)
#define ONE              pgr__one(e)
#define HALF             number(e, 0.5)
#define ADD_(x, y)       pgr__record_derived(e, PGR_OP_ADD, x, y)
#define SUB_(x, y)       pgr__record_derived(e, PGR_OP_SUB, x, y)
#define MUL_(x, y)       pgr__record_derived(e, PGR_OP_MUL, x, y)
#define DIV_(x, y)       pgr__record_derived(e, PGR_OP_DIV, x, y)
#define NEG_(x)          pgr__record_derived(e, PGR_OP_NEG, x, 0)
#define OF_(ID, ...)     OPERANDS_(PGR_OP_##ID, __VA_ARGS__, 0, 0)
#define OPERANDS_(op, x, y, ...) pgr__record_derived(e, op, x, y)
#define WORD_(number, nodes, text) (nodes)
#define WORDS_NODES
#include "ops/words.h"

/* Records only what is wanted: nobody needs the derivative by a constant exponent. */
#define RECORD_UNARY(da, db)  (id_pair){want_a ? (da) : 0, 0}
#define RECORD_BINARY(da, db) (id_pair){want_a ? (da) : 0, want_b ? (db) : 0}
#define RECORD_PARAM(da, db)  (id_pair){want_a ? (da) : 0, 0}
#define RECORD_CUT(da, db)    (id_pair){0, 0}

id_pair pgr__record_partials(recorder *e, pgr_id v, bool want_a, bool want_b)
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

pgr_id pgr__times(recorder *e, pgr_id a, pgr_id partial)
{
    return a == 0 || partial == 0 || is_number(e, partial, 0.0) ? 0 : MUL_(a, partial);
}

pgr_id pgr__plus(recorder *e, pgr_id a, pgr_id b) { return a == 0 ? b : b == 0 ? a : ADD_(a, b); }
