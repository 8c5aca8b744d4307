/* handle.c: stable names for nodes, and the whole interface by handle.
 *
 * A handle is a slot's index and its generation. Each call takes the tape's lock, makes room (which may
 * collect and so move nodes), and only then turns handles into ids. */
#include "tape/tape.h"
#include "program/program.h"
#include "tape/slots.h"
#include "tape/tags.h"

/* Room for k nodes and a handle on the last one: in this order, since collecting may run code that uses slots up. */
static pgr_status room(pgr_tape *tape, uint32_t k)
{
    pgr_status status = PGR_OK;
    if (!tape_has_room(tape, k) || tape_collect_is_due(tape))
        status = pgr__make_room_by_handle(tape, k);
    return status == PGR_OK ? pgr__make_slot(tape) : status;
}

static int64_t hold_new(pgr_tape *tape, pgr_status status, pgr_id id)
{
    return status == PGR_OK ? (int64_t)pgr__hold(tape, id) : -(int64_t)status;
}

int64_t pgr_h_hold(pgr_tape *tape, pgr_handle h)
{
    const int token = pgr__enter(tape);
    const int64_t result = pgr_hold(tape, tape_id_of(tape, h));
    pgr__leave(tape, token);
    return result;
}

int pgr_h_alive(pgr_tape *tape, pgr_handle h) { return pgr_h_id(tape, h) != 0; }

pgr_id pgr_h_id(pgr_tape *tape, pgr_handle h)
{
    const int token = pgr__enter(tape);
    const pgr_id id = tape_id_of(tape, h);
    pgr__leave(tape, token);
    return id;
}

void pgr_h_release(pgr_tape *tape, pgr_handle h, int keep)
{
    const int token = pgr__enter(tape);
    const uint32_t slot = (uint32_t)h;
    /* Not tape_id_of: a handle may outlast its node (see pgr_tie). */
    if (slot != 0 && slot < tape->slot_capacity && tape->slots[slot].generation == (uint32_t)(h >> 32) &&
        tape->slots[slot].holds > 0)
        tape_release(tape, slot, keep != 0);
    pgr__leave(tape, token);
}

pgr_handle pgr_h_next_dead(pgr_tape *tape)
{
    const int token = pgr__enter(tape);
    const uint32_t slot = pgr__next_dead(tape);
    const pgr_handle h = slot == 0 ? 0 : tape_handle(tape, slot);
    if (slot != 0 && tape->slots[slot].holds == 0)
        tape_free_slot(tape, slot);
    pgr__leave(tape, token);
    return h;
}

int64_t pgr_h_leaf(pgr_tape *tape, int op, double value)
{
    const int token = pgr__enter(tape);
    pgr_status status = op == PGR_OP_LEAF || op == PGR_OP_CONST ? room(tape, 1) : PGR_ERR_OP;
    const pgr_id id = status == PGR_OK ? tape_append(tape, op, value, 0, 0) : 0;
    const int64_t result = hold_new(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_record(pgr_tape *tape, int op, pgr_handle a, pgr_handle b)
{
    const int token = pgr__enter(tape);
    pgr_status status = room(tape, 1);
    pgr_id id = 0;
    if (status == PGR_OK) {
        const pgr_id lhs = tape_id_of(tape, a), rhs = tape_id_of(tape, b);
        status = lhs == 0 || (b != 0 && rhs == 0) ? PGR_ERR_HANDLE : pgr_record(tape, op, lhs, rhs, &id);
    }
    const int64_t result = hold_new(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_record_number(pgr_tape *tape, int op, pgr_handle a, double number, int reflected)
{
    const int token = pgr__enter(tape);
    pgr_status status = room(tape, 2);
    pgr_id id = 0;
    if (status == PGR_OK) {
        const pgr_id operand = tape_id_of(tape, a);
        status = operand == 0 ? PGR_ERR_HANDLE : PGR_OK;
        if (status == PGR_OK) {
            const pgr_id constant = tape_append(tape, PGR_OP_CONST, number, 0, 0);
            status = reflected ? pgr_record(tape, op, constant, operand, &id) : pgr_record(tape, op, operand, constant, &id);
            if (status != PGR_OK)
                tape->size--; /* the constant's */
        }
    }
    const int64_t result = hold_new(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

/* A new hold on each of n nodes, or on none. */
static pgr_status hold_all(pgr_tape *tape, size_t n, const pgr_id *ids, pgr_handle *out)
{
    for (size_t i = 0; i < n; i++) {
        const int64_t h = pgr_hold(tape, ids[i]);
        if (h < 0) {
            while (i > 0)
                tape_release(tape, (uint32_t)out[--i], false);
            return (pgr_status)-h;
        }
        out[i] = (pgr_handle)h;
    }
    return PGR_OK;
}

/* Ids of n handles, in memory that the caller frees with tape_resize; NULL and a status if it can't be. */
static pgr_id *ids_of(pgr_tape *tape, size_t n, const pgr_handle *handles, pgr_status *status)
{
    pgr_id *const ids = tape_resize(tape, NULL, (n + 1) * sizeof *ids);
    if (ids == NULL) {
        *status = PGR_ERR_NOMEM;
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        ids[i] = tape_id_of(tape, handles[i]);
        if (ids[i] == 0)
            *status = PGR_ERR_HANDLE;
    }
    return ids;
}

int64_t pgr_h_dot(pgr_tape *tape, size_t n, const pgr_handle *w, const pgr_handle *x, pgr_handle b)
{
    const int token = pgr__enter(tape);
    pgr_status status = n >= UINT32_MAX / 2 ? PGR_ERR_FULL : room(tape, (uint32_t)(2 * n));
    pgr_id id = 0;
    pgr_id *ws = NULL, *xs = NULL;
    if (status == PGR_OK)
        ws = ids_of(tape, n, w, &status);
    if (status == PGR_OK)
        xs = ids_of(tape, n, x, &status);
    if (status == PGR_OK && (id = tape_id_of(tape, b)) == 0)
        status = PGR_ERR_HANDLE;
    if (status == PGR_OK)
        status = pgr_dot(tape, n, ws, xs, id, &id);
    tape_resize(tape, ws, 0);
    tape_resize(tape, xs, 0);
    const int64_t result = hold_new(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_custom(pgr_tape *tape, double value, size_t n, const pgr_handle *operands)
{
    const int token = pgr__enter(tape);
    pgr_status status = n >= UINT32_MAX ? PGR_ERR_FULL : room(tape, (uint32_t)n + 1);
    pgr_id id = 0;
    pgr_id *ids = NULL;
    if (status == PGR_OK)
        ids = ids_of(tape, n, operands, &status);
    if (status == PGR_OK)
        status = pgr_custom(tape, value, n, ids, &id);
    tape_resize(tape, ids, 0);
    const int64_t result = hold_new(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

double pgr_h_data(pgr_tape *tape, pgr_handle h)
{
    const int token = pgr__enter(tape);
    const pgr_id id = tape_id_of(tape, h);
    const double value = id == 0 ? NAN : tape->nodes[id].data;
    pgr__leave(tape, token);
    return value;
}

double pgr_h_grad(pgr_tape *tape, pgr_handle h)
{
    const int token = pgr__enter(tape);
    const pgr_id id = tape_id_of(tape, h);
    const double value = id == 0 ? NAN : tape->nodes[id].grad;
    pgr__leave(tape, token);
    return value;
}

/* Runs one statement on a live node. */
#define ON_NODE(statement) \
    const int token = pgr__enter(tape); \
    const pgr_id id = tape_id_of(tape, h); \
    if (id != 0) { \
        pgr_node *const node = &tape->nodes[id]; \
        statement; \
    } \
    pgr__leave(tape, token); \
    return id == 0 ? PGR_ERR_HANDLE : PGR_OK

pgr_status pgr_h_set_data(pgr_tape *tape, pgr_handle h, double value) { ON_NODE(node->data = value); }
pgr_status pgr_h_set_grad(pgr_tape *tape, pgr_handle h, double value) { ON_NODE(node->grad = value); }
pgr_status pgr_h_add_grad(pgr_tape *tape, pgr_handle h, double value) { ON_NODE(node->grad += value); }

pgr_status pgr_h_set_op(pgr_tape *tape, pgr_handle h, int op)
{
    if (pgr_op_row(op) == NULL)
        return PGR_ERR_OP;
    ON_NODE(node->op = (uint8_t)op; tape->has_custom |= op == PGR_OP_CUSTOM);
}

int64_t pgr_h_input(pgr_tape *tape, int op, uint64_t number)
{
    const int token = pgr__enter(tape);
    pgr_status status = room(tape, 1);
    pgr_id id = 0;
    if (status == PGR_OK)
        status = pgr_input(tape, op, number, &id);
    const int64_t result = hold_new(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_lane_sum(pgr_tape *tape, pgr_handle value, pgr_handle witness)
{
    const int token = pgr__enter(tape);
    pgr_status status = room(tape, 1);
    pgr_id id = 0;
    if (status == PGR_OK) {
        const pgr_id v = tape_id_of(tape, value), w = tape_id_of(tape, witness);
        status = v == 0 || w == 0 ? PGR_ERR_HANDLE : pgr_lane_sum(tape, v, w, &id);
    }
    const int64_t result = hold_new(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_lane_pass(pgr_tape *tape, pgr_handle value, uint32_t group)
{
    const int token = pgr__enter(tape);
    pgr_status status = room(tape, 1);
    pgr_id id = tape_id_of(tape, value);
    if (status == PGR_OK)
        status = id == 0 ? PGR_ERR_HANDLE : pgr_lane_pass(tape, id, group, &id);
    const int64_t result = hold_new(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int pgr_h_unknown(pgr_tape *tape, pgr_handle h)
{
    const int token = pgr__enter(tape);
    const int flags = tape->nodes[tape_id_of(tape, h)].flags;
    pgr__leave(tape, token);
    return (flags & TAPE_UNKNOWN) == 0 ? 0 : (flags & TAPE_LANE) == 0 ? 1 : 2;
}

/* Ids of handles, in new memory; NULL, with a status, if that fails. */
static pgr_id *many_ids(pgr_tape *tape, size_t n, const pgr_handle *handles, pgr_status *status)
{
    pgr_id *const ids = *status == PGR_OK ? tape_resize(tape, NULL, (n + 1) * sizeof *ids) : NULL;
    if (ids == NULL && *status == PGR_OK)
        *status = PGR_ERR_NOMEM;
    for (size_t i = 0; i < n && *status == PGR_OK; i++)
        if ((ids[i] = tape_id_of(tape, handles[i])) == 0)
            *status = PGR_ERR_HANDLE;
    return ids;
}

/* New holds on n nodes; none of them on failure. */
static pgr_status hold_many(pgr_tape *tape, size_t n, const pgr_id *ids, pgr_handle *out)
{
    for (size_t held = 0; held < n; held++) {
        const pgr_status status = pgr__make_slot(tape);
        if (status != PGR_OK) {
            while (held > 0)
                tape_release(tape, (uint32_t)out[--held], false);
            return status;
        }
        out[held] = pgr__hold(tape, ids[held]);
    }
    return PGR_OK;
}

/* A vjp, of nodes that the weights are seeds of, or a jvp, of nodes that they are tangents of. */
static pgr_status derive(pgr_tape *tape, bool is_vjp, uint32_t within, size_t n, const pgr_handle *nodes,
                         const pgr_handle *weights, size_t m, const pgr_handle *others, pgr_handle *out)
{
    const int token = pgr__enter(tape);
    pgr_status status = PGR_OK;
    pgr_id *const node_ids = many_ids(tape, n, nodes, &status), *const weight_ids = many_ids(tape, n, weights, &status);
    pgr_id *const other_ids = many_ids(tape, m, others, &status), *const results = many_ids(tape, m, others, &status);
    if (status == PGR_OK)
        status = is_vjp ? pgr_vjp(tape, within, n, node_ids, weight_ids, m, other_ids, results)
                        : pgr_jvp(tape, n, node_ids, weight_ids, m, other_ids, results);
    if (status == PGR_OK)
        status = hold_many(tape, m, results, out);
    tape_resize(tape, node_ids, 0);
    tape_resize(tape, weight_ids, 0);
    tape_resize(tape, other_ids, 0);
    tape_resize(tape, results, 0);
    pgr__leave(tape, token);
    return status;
}

pgr_status pgr_h_vjp(pgr_tape *tape, uint32_t within, size_t root_count, const pgr_handle *roots, const pgr_handle *seeds,
                     size_t wrt_count, const pgr_handle *wrt, pgr_handle *out)
{
    return derive(tape, true, within, root_count, roots, seeds, wrt_count, wrt, out);
}

pgr_status pgr_h_jvp(pgr_tape *tape, size_t wrt_count, const pgr_handle *wrt, const pgr_handle *tangents, size_t root_count,
                     const pgr_handle *roots, pgr_handle *out)
{
    return derive(tape, false, PGR_NO_GROUP, wrt_count, wrt, tangents, root_count, roots, out);
}

pgr_status pgr_h_lane_places(pgr_tape *tape, size_t place_count, const pgr_handle *places, size_t root_count,
                             const pgr_handle *roots, uint8_t *used)
{
    const int token = pgr__enter(tape);
    pgr_status status = PGR_OK;
    pgr_id *const place_ids = many_ids(tape, place_count, places, &status);
    pgr_id *const root_ids = many_ids(tape, root_count, roots, &status);
    if (status == PGR_OK)
        status = pgr_lane_places(tape, place_count, place_ids, root_count, root_ids, used);
    tape_resize(tape, place_ids, 0);
    tape_resize(tape, root_ids, 0);
    pgr__leave(tape, token);
    return status;
}

pgr_status pgr_h_lane_values(pgr_tape *tape, size_t place_count, const pgr_handle *places, size_t root_count,
                             const pgr_handle *roots, size_t lane_count, const pgr_handle *values, pgr_handle *out)
{
    const int token = pgr__enter(tape);
    pgr_status status = PGR_OK;
    pgr_id *const place_ids = many_ids(tape, place_count, places, &status);
    pgr_id *const root_ids = many_ids(tape, root_count, roots, &status);
    pgr_id *const value_ids = many_ids(tape, lane_count * place_count, values, &status);
    pgr_id *const results = status == PGR_OK ? tape_resize(tape, NULL, (lane_count * root_count + 1) * sizeof *results) : NULL;
    if (status == PGR_OK)
        status = results == NULL ? PGR_ERR_NOMEM
                                 : pgr_lane_values(tape, place_count, place_ids, root_count, root_ids, lane_count, value_ids, results);
    if (status == PGR_OK)
        status = hold_many(tape, lane_count * root_count, results, out);
    tape_resize(tape, place_ids, 0);
    tape_resize(tape, root_ids, 0);
    tape_resize(tape, value_ids, 0);
    tape_resize(tape, results, 0);
    pgr__leave(tape, token);
    return status;
}

static pgr_status hold_captures(pgr_tape *tape, pgr_program *program)
{
    const uint32_t count = program->capture_count;
    program->held_captures = tape_resize(tape, NULL, (count + 1) * sizeof *program->held_captures);
    return program->held_captures == NULL ? PGR_ERR_NOMEM : hold_all(tape, count, program->captures, program->held_captures);
}

pgr_status pgr_h_program_build(pgr_tape *tape, pgr_handle start, size_t output_count, const pgr_handle *nodes,
                               pgr_output *outputs, size_t group_count, const pgr_lane_group *groups,
                               uint32_t captures_array, pgr_program **out)
{
    const int token = pgr__enter(tape);
    pgr_status status = PGR_OK;
    const pgr_id first = tape_id_of(tape, start);
    for (size_t i = 0; i < output_count && status == PGR_OK; i++)
        if ((outputs[i].node = tape_id_of(tape, nodes[i])) == 0)
            status = PGR_ERR_HANDLE;
    if (first == 0)
        status = PGR_ERR_HANDLE;
    pgr_program *program = NULL;
    if (status == PGR_OK)
        status = pgr_program_build(tape, first, output_count, outputs, group_count, groups, captures_array, &program);
    if (status == PGR_OK)
        status = hold_captures(tape, program);
    if (status == PGR_OK)
        *out = program;
    else
        pgr_program_free(program);
    pgr__leave(tape, token);
    return status;
}

pgr_status pgr_h_read(pgr_tape *tape, size_t n, const pgr_handle *nodes, double *data)
{
    const int token = pgr__enter(tape);
    pgr_status status = PGR_OK;
    for (size_t i = 0; i < n && status == PGR_OK; i++) {
        const pgr_node *const node = pgr__node(tape, nodes[i]);
        if (node == NULL)
            status = PGR_ERR_HANDLE;
        else
            data[i] = node->data;
    }
    pgr__leave(tape, token);
    return status;
}

int pgr_h_op(pgr_tape *tape, pgr_handle h)
{
    const int token = pgr__enter(tape);
    const pgr_id id = tape_id_of(tape, h);
    const int op = id == 0 ? -(int)PGR_ERR_HANDLE : tape->nodes[id].op;
    pgr__leave(tape, token);
    return op;
}

double pgr_h_param(pgr_tape *tape, pgr_handle h)
{
    const int token = pgr__enter(tape);
    const pgr_node *const node = &tape->nodes[tape_id_of(tape, h)];
    const double param = pgr_op_row(node->op)->kind == PGR_KIND_PARAM ? tape->nodes[node->rhs].data : NAN;
    pgr__leave(tape, token);
    return param;
}

int64_t pgr_h_operands(pgr_tape *tape, pgr_handle h, size_t capacity, pgr_handle *out)
{
    const int token = pgr__enter(tape);
    const pgr_id id = tape_id_of(tape, h);
    const operand_walk start = {id, pgr_op_row(tape->nodes[id].op)->kind == PGR_KIND_PARAM};
    size_t count = 0;
    operand_walk walk = start;
    while (operand_next(tape->nodes, &walk) != 0)
        count++;
    pgr_status status = id == 0 ? PGR_ERR_HANDLE : PGR_OK;
    size_t held = count; /* they come last to first */
    walk = start;
    for (pgr_id operand; status == PGR_OK && (operand = operand_next(tape->nodes, &walk)) != 0;) {
        if (--held >= capacity)
            continue;
        status = pgr__make_slot(tape);
        if (status == PGR_OK)
            out[held] = pgr__hold(tape, operand);
        else
            for (size_t i = held + 1; i < count && i < capacity; i++)
                tape_release(tape, (uint32_t)out[i], false);
    }
    pgr__leave(tape, token);
    return status == PGR_OK ? (int64_t)count : -(int64_t)status;
}

static pgr_status set_operands(pgr_tape *tape, pgr_handle h, size_t n, const pgr_handle *operands)
{
    const pgr_id id = tape_id_of(tape, h);
    pgr_status status = id == 0 ? PGR_ERR_HANDLE : PGR_OK;
    pgr_id *const ids = many_ids(tape, n, operands, &status);
    if (status == PGR_OK)
        status = pgr_set_operands(tape, id, n, ids);
    tape_resize(tape, ids, 0);
    return status;
}

pgr_status pgr_h_set_operands(pgr_tape *tape, pgr_handle h, size_t n, const pgr_handle *operands)
{
    const int token = pgr__enter(tape);
    pgr_status status = tape_collect_is_due(tape) ? pgr__make_room_by_handle(tape, 1) : PGR_OK; /* copies are many */
    if (status == PGR_OK)
        status = set_operands(tape, h, n, operands);
    if (status == PGR_ERR_UNKNOWN) { /* perhaps because of what a recording has left behind */
        status = pgr__collect_by_handle(tape, true);
        status = status == PGR_ERR_STOPPED ? status : set_operands(tape, h, n, operands);
    }
    pgr__leave(tape, token);
    return status;
}

int pgr_h_is_made_from(pgr_tape *tape, pgr_handle root, pgr_handle h)
{
    const int token = pgr__enter(tape);
    const pgr_id id = tape_id_of(tape, h);
    const int result = id != 0 && pgr__is_made_from(tape, tape_id_of(tape, root), id);
    pgr__leave(tape, token);
    return result;
}

/* Calls f(tape, the node's id, ...) on a live node. */
#define CALL_ON_NODE(call) \
    const int token = pgr__enter(tape); \
    const pgr_id id = tape_id_of(tape, h); \
    const pgr_status status = id == 0 ? PGR_ERR_HANDLE : (call); \
    pgr__leave(tape, token); \
    return status

pgr_status pgr_h_backward(pgr_tape *tape, pgr_handle h) { CALL_ON_NODE((tape->nodes[id].flags & TAPE_UNKNOWN) != 0 ? PGR_ERR_UNKNOWN : pgr_backward(tape, id)); }
static pgr_status backward_checked(pgr_tape *tape, pgr_id root, pgr_handle *bad)
{
    pgr_id id;
    const pgr_status status = pgr_backward_checked(tape, root, &id);
    if (status != PGR_ERR_NOT_FINITE)
        return status;
    const int64_t held = pgr_hold(tape, id);
    if (held < 0)
        return (pgr_status)-held;
    *bad = (pgr_handle)held;
    return status;
}
pgr_status pgr_h_backward_checked(pgr_tape *tape, pgr_handle h, pgr_handle *bad)
{
    CALL_ON_NODE((tape->nodes[id].flags & TAPE_UNKNOWN) != 0 ? PGR_ERR_UNKNOWN : backward_checked(tape, id, bad));
}
pgr_status pgr_h_push(pgr_tape *tape, pgr_handle h) { CALL_ON_NODE((tape->nodes[id].flags & TAPE_UNKNOWN) != 0 ? PGR_ERR_UNKNOWN : pgr_push(tape, id)); }

pgr_status pgr_h_push_into(pgr_tape *tape, pgr_handle h, int op, pgr_handle lhs, pgr_handle rhs)
{
    CALL_ON_NODE(pgr_push_into(tape, id, op, tape_id_of(tape, lhs), tape_id_of(tape, rhs)));
}
pgr_status pgr_h_push_as(pgr_tape *tape, pgr_handle h, int op)
{
    CALL_ON_NODE(pgr_push_into(tape, id, op, tape->nodes[id].lhs, tape->nodes[id].rhs));
}

void pgr_h_partials(pgr_tape *tape, pgr_handle h, double *out)
{
    const int token = pgr__enter(tape);
    pgr_partials(tape, tape_id_of(tape, h), out);
    pgr__leave(tape, token);
}

uint32_t pgr_h_tag(pgr_tape *tape, int channel, pgr_handle h)
{
    const int token = pgr__enter(tape);
    const uint32_t tag = pgr_tag(tape, channel, tape_id_of(tape, h));
    pgr__leave(tape, token);
    return tag;
}

pgr_status pgr_h_export(pgr_tape *tape, pgr_handle h, int hold, pgr_table *table)
{
    CALL_ON_NODE(pgr_export(tape, id, hold, table));
}

pgr_status pgr_h_collect(pgr_tape *tape)
{
    const int token = pgr__enter(tape);
    const pgr_status status = pgr__collect_by_handle(tape, true);
    pgr__leave(tape, token);
    return status;
}

void pgr_tape_on_custom(pgr_tape *tape, pgr_custom_fn fn, void *ctx)
{
    tape->on_custom = fn;
    tape->custom_ctx = ctx;
}

void pgr_tape_on_stop(pgr_tape *tape, int (*stop)(void *ctx), void *ctx)
{
    tape->on_stop = stop;
    tape->stop_ctx = ctx;
}

void pgr_tape_limits(pgr_tape *tape, uint32_t collect_at_least, uint32_t max_nodes)
{
    const int token = pgr__enter(tape);
    tape->collect_at_least = collect_at_least;
    tape->max_nodes = max_nodes < TAPE_MAX_NODES ? max_nodes : TAPE_MAX_NODES;
    tape->collect_at = tape->size > collect_at_least ? tape->size : collect_at_least;
    tape->limit = tape->size; /* the next record looks again */
    pgr__leave(tape, token);
}

void pgr_tape_hold(pgr_tape *tape, int hold)
{
    const int token = pgr__enter(tape);
    tape->collect_at = hold ? UINT32_MAX : tape->size > tape->collect_at_least ? tape->size : tape->collect_at_least;
    tape->limit = tape->size; /* the next record looks again */
    pgr__leave(tape, token);
}

pgr_tape_stats pgr_tape_stat(pgr_tape *tape)
{
    const int token = pgr__enter(tape);
    const pgr_tape_stats stats = pgr__stats(tape);
    pgr__leave(tape, token);
    return stats;
}

pgr_status pgr_tape_tag(pgr_tape *tape, int channel, uint32_t tag)
{
    if (channel < 0 || channel >= PGR_TAG_CHANNELS)
        return PGR_ERR_OP;
    const int token = pgr__enter(tape);
    const pgr_status status = pgr__set_tag(tape, channel, tag);
    pgr__leave(tape, token);
    return status;
}

uint32_t pgr_tape_tags(pgr_tape *tape, int channel, uint32_t capacity, uint32_t *out)
{
    if (channel < 0 || channel >= PGR_TAG_CHANNELS)
        return 0;
    const int token = pgr__enter(tape);
    const tape_tags *const tags = &tape->tags[channel];
    const uint32_t count = tags->count;
    for (uint32_t k = 0; k <= count && k < capacity; k++)
        out[k] = k < count ? tags->runs[k].tag : tags->tag;
    pgr__leave(tape, token);
    return count + 1;
}
