/* tape.c: the node array's memory, and recording by id.
 *
 * Touching a fresh page costs more than recording a node, so the array only grows, and is reused while the tape
 * lives. */
#include "tape/tape.h"
#include "tape/slots.h"
#include "tape/tags.h"

#include <stdlib.h>
#include <string.h>

enum { COLLECT_AT_LEAST = 1 << 14 };

static void *malloc_resize(void *ctx, void *p, size_t size)
{
    (void)ctx;
    if (size == 0) {
        free(p);
        return NULL;
    }
    return realloc(p, size);
}

pgr_allocator tape_allocator(const pgr_allocator *allocator)
{
    return allocator != NULL ? *allocator : (pgr_allocator){malloc_resize, NULL};
}

pgr_tape *pgr_tape_new(const pgr_allocator *allocator)
{
    const pgr_allocator a = tape_allocator(allocator);
    pgr_tape *const tape = a.resize(a.ctx, NULL, sizeof *tape);
    if (tape == NULL)
        return NULL;
    *tape = (pgr_tape){
        .allocator = a,
        .collect_at = COLLECT_AT_LEAST,
        .full_at = COLLECT_AT_LEAST,
        .young = 1,
        .middle = 1,
        .young_most = COLLECT_AT_LEAST,
        .collect_at_least = COLLECT_AT_LEAST,
        .max_nodes = TAPE_MAX_NODES,
    };
    if (pgr__make_room(tape, 1) != PGR_OK || pgr__make_slot(tape) != PGR_OK) {
        pgr_tape_free(tape);
        return NULL;
    }
    tape_append(tape, PGR_OP_LEAF, 0.0, 0, 0);
    tape->nodes[0].data = NAN;
    return tape;
}

void pgr_tape_free(pgr_tape *tape)
{
    if (tape == NULL)
        return;
    const pgr_allocator a = tape->allocator;
    a.resize(a.ctx, tape->nodes, 0);
    a.resize(a.ctx, tape->slots, 0);
    a.resize(a.ctx, tape->blocks, 0);
    a.resize(a.ctx, tape->supers, 0);
    for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++)
        a.resize(a.ctx, tape->tags[channel].runs, 0);
    a.resize(a.ctx, tape->numbers, 0);
    if (tape->leave != NULL)
        tape->leave(tape->lock_ctx, -1);
    a.resize(a.ctx, tape, 0);
}

pgr_tape *pgr_default_tape(void)
{
    static pgr_tape *tape;
    if (tape == NULL)
        tape = pgr_tape_new(NULL);
    return tape;
}

/* Grows one summary array to `count` bytes, the new ones zero. */
static bool grow_summary(pgr_tape *tape, uint8_t **array, size_t old_count, size_t count)
{
    uint8_t *const p = tape_resize(tape, *array, count);
    if (p == NULL)
        return false;
    memset(p + old_count, 0, count - old_count);
    *array = p;
    return true;
}

static size_t summary_count(uint32_t capacity, int shift)
{
    return capacity == 0 ? 0 : ((size_t)capacity >> shift) + 1;
}

static bool grow_summaries(pgr_tape *tape, uint32_t capacity)
{
    const uint32_t old = tape->capacity;
    return grow_summary(tape, &tape->blocks, summary_count(old, TAPE_BLOCK), summary_count(capacity, TAPE_BLOCK)) &&
           grow_summary(tape, &tape->supers, summary_count(old, TAPE_SUPER), summary_count(capacity, TAPE_SUPER));
}

pgr_status pgr__make_room(pgr_tape *tape, uint32_t k)
{
    const uint64_t need = (uint64_t)tape->size + k;
    const uint64_t most = (uint64_t)tape->max_nodes + 1; /* with nodes[0] */
    if (need > most)
        return PGR_ERR_FULL;
    if (need > tape->capacity) {
        uint64_t wanted = tape->full_at > need ? tape->full_at : 2 * (uint64_t)tape->capacity;
        wanted = wanted < need ? need : wanted > most ? most : wanted;
        const uint32_t capacity = (uint32_t)wanted;
        if (!grow_summaries(tape, capacity)) /* first: summaries that are too large do no harm if the next call fails */
            return PGR_ERR_NOMEM;
        pgr_node *const nodes = tape_resize(tape, tape->nodes, capacity * sizeof *nodes);
        if (nodes == NULL)
            return PGR_ERR_NOMEM;
        tape->nodes = nodes;
        tape->capacity = capacity;
    }
    const bool collects_first = need <= tape->collect_at && tape->collect_at < tape->capacity;
    const uint64_t limit = collects_first ? tape->collect_at : tape->capacity;
    tape->limit = (uint32_t)(limit < most ? limit : most);
    return PGR_OK;
}

static pgr_status room(pgr_tape *tape, size_t k)
{
    if (k > TAPE_MAX_NODES)
        return PGR_ERR_FULL;
    return tape_has_room(tape, (uint32_t)k) ? PGR_OK : pgr__make_room(tape, (uint32_t)k);
}

pgr_status pgr_leaf(pgr_tape *tape, double value, pgr_id *out)
{
    const pgr_status status = room(tape, 1);
    if (status == PGR_OK)
        *out = tape_append(tape, PGR_OP_LEAF, value, 0, 0);
    return status;
}

pgr_status pgr_constant(pgr_tape *tape, double value, pgr_id *out)
{
    const pgr_status status = room(tape, 1);
    if (status == PGR_OK)
        *out = tape_append(tape, PGR_OP_CONST, value, 0, 0);
    return status;
}

PGR_NOINLINE static pgr_status record(pgr_tape *tape, int op, pgr_id lhs, pgr_id rhs, pgr_id *out)
{
    pgr_status status = room(tape, 1);
    if (status != PGR_OK)
        return status;
    double v = NAN;
    if (tape_is_known(tape, op, lhs, rhs))
        status = ops_eval(op, tape->nodes[lhs].data, tape->nodes[rhs].data, &v);
    if (status == PGR_OK)
        *out = tape_append(tape, op, v, tape_is_cut(op) ? 0 : lhs, rhs);
    return status;
}

/* Sums, differences and products are most nodes, so they take no call, which would save registers; and on a long tape
 * no branch on the op, which would be mispredicted. */
pgr_status pgr_record(pgr_tape *tape, int op, pgr_id lhs, pgr_id rhs, pgr_id *out)
{
    if (!ops_is_linear(op) || !tape_has_room(tape, 1))
        return record(tape, op, lhs, rhs, out);
    const double a = tape->nodes[lhs].data, b = tape->nodes[rhs].data;
    if (tape->size >= TAPE_FAMILIAR)
        *out = tape_append(tape, op, ops_linear(op, a, b), lhs, rhs);
    else if (op == PGR_OP_ADD)
        *out = tape_append(tape, op, a + b, lhs, rhs);
    else
        *out = tape_append(tape, op, op == PGR_OP_MUL ? a * b : a - b, lhs, rhs);
    return PGR_OK;
}

pgr_status pgr_dot(pgr_tape *tape, size_t n, const pgr_id *w, const pgr_id *x, pgr_id b, pgr_id *out)
{
    const pgr_status status = n > TAPE_MAX_NODES / 2 ? PGR_ERR_FULL : room(tape, 2 * n);
    if (status != PGR_OK)
        return status;
    pgr_id sum = b;
    double v = tape->nodes[b].data;
    for (size_t i = 0; i < n; i++)
        sum = tape_append_term(tape, w[i], x[i], sum, &v);
    *out = sum;
    return PGR_OK;
}

pgr_status pgr_input(pgr_tape *tape, int op, uint64_t number, pgr_id *out)
{
    pgr_status status = op == PGR_OP_INPUT || op == PGR_OP_LANE ? room(tape, 1) : PGR_ERR_OP;
    if (status == PGR_OK)
        status = pgr__number_next(tape, number);
    if (status != PGR_OK)
        return status;
    const pgr_id id = tape_append(tape, op, NAN, 0, 0);
    tape->nodes[id].flags |= op == PGR_OP_LANE ? TAPE_UNKNOWN | TAPE_LANE : TAPE_UNKNOWN;
    *out = id;
    return PGR_OK;
}

pgr_status pgr_lane_pass(pgr_tape *tape, pgr_id value, uint32_t group, pgr_id *out)
{
    if ((tape->nodes[value].flags & TAPE_LANE) == 0)
        return PGR_ERR_ARGUMENT;
    pgr_status status = room(tape, 1);
    if (status == PGR_OK)
        status = pgr__number_next(tape, (uint64_t)group << 32);
    if (status == PGR_OK)
        *out = tape_append(tape, PGR_OP_LANE_PASS, NAN, value, 0);
    return status;
}

pgr_status pgr_lane_sum(pgr_tape *tape, pgr_id value, pgr_id witness, pgr_id *out)
{
    const pgr_status status = room(tape, 1);
    if (status != PGR_OK)
        return status;
    *out = tape_append(tape, PGR_OP_LANE_SUM, NAN, value, witness);
    tape->nodes[*out].flags &= (uint8_t)~TAPE_LANE;
    return PGR_OK;
}

pgr_status pgr__record_ieee(pgr_tape *tape, int op, pgr_id a, pgr_id b, pgr_id *out)
{
    const pgr_status status = room(tape, 1);
    if (status != PGR_OK)
        return status;
    double v = NAN;
    if (tape_is_known(tape, op, a, b))
        ops_eval(op, tape->nodes[a].data, tape->nodes[b].data, &v);
    *out = tape_append(tape, op, v, a, b);
    return PGR_OK;
}

/* A chain of n operands: pairs, each (the operands before, this operand). nan as `data` makes them inherit flags. The
 * caller has made room. */
static pgr_id append_chain(pgr_tape *tape, double data, size_t n, const pgr_id *operands)
{
    pgr_id before = n > 0 ? operands[0] : 0;
    for (size_t i = 1; i < n; i++)
        before = tape_append(tape, PGR_OP_PAIR, data, before, operands[i]);
    return before;
}

pgr_status pgr_chain(pgr_tape *tape, size_t n, const pgr_id *operands, pgr_id *out)
{
    const pgr_status status = room(tape, n);
    if (status == PGR_OK)
        *out = append_chain(tape, NAN, n, operands);
    return status;
}

pgr_status pgr_result(pgr_tape *tape, pgr_id chain, uint64_t number, pgr_id *out)
{
    pgr_status status = room(tape, 1);
    if (status == PGR_OK)
        status = pgr__number_next(tape, number);
    if (status != PGR_OK)
        return status;
    *out = tape_append(tape, PGR_OP_CALL, NAN, chain, 0);
    tape->nodes[*out].flags |= TAPE_UNKNOWN;
    return PGR_OK;
}

/* With n > 2, the last operand is rhs, and lhs a chain of the others. */
pgr_status pgr_custom(pgr_tape *tape, double value, size_t n, const pgr_id *operands, pgr_id *out)
{
    const pgr_status status = room(tape, n <= 2 ? 1 : n - 1);
    if (status != PGR_OK)
        return status;
    tape->has_custom = true;
    const pgr_id before = append_chain(tape, 0.0, n > 1 ? n - 1 : n, operands);
    *out = tape_append(tape, PGR_OP_CUSTOM, value, before, n > 1 ? operands[n - 1] : 0);
    return PGR_OK;
}

pgr_status pgr__ask(pgr_tape *tape)
{
    if (tape->on_stop == NULL)
        return PGR_OK;
    tape->passes++;
    const int stop = tape->on_stop(tape->stop_ctx);
    tape->passes--;
    return stop != 0 ? PGR_ERR_STOPPED : PGR_OK;
}

double pgr_data(const pgr_tape *tape, pgr_id id) { return tape->nodes[id].data; }
double pgr_grad(const pgr_tape *tape, pgr_id id) { return tape->nodes[id].grad; }
void pgr_set_data(pgr_tape *tape, pgr_id id, double value) { tape->nodes[id].data = value; }
void pgr_set_grad(pgr_tape *tape, pgr_id id, double value) { tape->nodes[id].grad = value; }

TAPE_THREAD_LOCAL bool pgr__is_recording TAPE_AT_HAND;

void pgr_set_recording(int on) { pgr__is_recording = on != 0; }
int pgr_is_recording(void) { return pgr__is_recording; }

pgr_tape_stats pgr__stats(const pgr_tape *tape)
{
    uint64_t runs = 0;
    for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++)
        runs += tape->tags[channel].capacity;
    return (pgr_tape_stats){
        .nodes = tape->size - 1,
        .capacity = tape->capacity,
        .handles = tape->held,
        .collect_at = tape->collect_at,
        .bytes = sizeof *tape + (uint64_t)tape->capacity * sizeof *tape->nodes +
                 (uint64_t)tape->slot_capacity * sizeof *tape->slots + runs * sizeof(tape_run) +
                 (uint64_t)tape->number_capacity * sizeof *tape->numbers +
                 summary_count(tape->capacity, TAPE_BLOCK) + summary_count(tape->capacity, TAPE_SUPER),
        .collections = tape->collections,
    };
}
