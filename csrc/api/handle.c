/* handle.c: nodes by handle: recording, reading, changing and sweeping them, with the tape's lock. */
#include "api/calls.h"
#include "tape/tags.h"

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

static void release(pgr_tape *tape, pgr_handle h, bool keep)
{
    const uint32_t slot = tape_slot_of(tape, h); /* a hold may outlast its node (see pgr_tie) */
    if (slot != 0 && tape->slots[slot].holds > 0)
        tape_release(tape, slot, keep);
}

void pgr_h_release(pgr_tape *tape, pgr_handle h, int keep)
{
    const int token = pgr__enter(tape);
    release(tape, h, keep != 0);
    pgr__leave(tape, token);
}

void pgr_h_release_all(pgr_tape *tape, size_t n, const pgr_handle *handles)
{
    const int token = pgr__enter(tape);
    for (size_t i = 0; i < n; i++)
        release(tape, handles[i], false);
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
    pgr_status status = op == PGR_OP_LEAF || op == PGR_OP_CONST ? call_make_room(tape, 1) : PGR_ERR_OP;
    const pgr_id id = status == PGR_OK ? tape_append(tape, op, value, 0, 0) : 0;
    const int64_t result = call_result(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_record(pgr_tape *tape, int op, pgr_handle a, pgr_handle b)
{
    const int token = pgr__enter(tape);
    pgr_status status = call_make_room(tape, 1);
    pgr_id id = 0;
    if (status == PGR_OK) {
        const pgr_id lhs = tape_id_of(tape, a), rhs = tape_id_of(tape, b);
        status = lhs == 0 || (b != 0 && rhs == 0) ? PGR_ERR_HANDLE : pgr_record(tape, op, lhs, rhs, &id);
    }
    const int64_t result = call_result(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_record_number(pgr_tape *tape, int op, pgr_handle a, double number, int reflected)
{
    const int token = pgr__enter(tape);
    pgr_status status = call_make_room(tape, 2);
    pgr_id id = 0;
    if (status == PGR_OK) {
        const pgr_id operand = tape_id_of(tape, a);
        status = operand == 0 ? PGR_ERR_HANDLE : PGR_OK;
        if (status == PGR_OK) {
            const pgr_id constant = tape_append(tape, PGR_OP_CONST, number, 0, 0);
            status = pgr_record(tape, op, reflected ? constant : operand, reflected ? operand : constant, &id);
            if (status != PGR_OK)
                tape->size--; /* the constant's */
        }
    }
    const int64_t result = call_result(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_dot(pgr_tape *tape, size_t n, const pgr_handle *w, const pgr_handle *x, pgr_handle b)
{
    const int token = pgr__enter(tape);
    pgr_status status = n >= UINT32_MAX / 2 ? PGR_ERR_FULL : call_make_room(tape, (uint32_t)(2 * n));
    pgr_id id = 0;
    pgr_id *const ws = pgr__ids_of(tape, n, w, &status), *const xs = pgr__ids_of(tape, n, x, &status);
    if (status == PGR_OK && (id = tape_id_of(tape, b)) == 0)
        status = PGR_ERR_HANDLE;
    if (status == PGR_OK)
        status = pgr_dot(tape, n, ws, xs, id, &id);
    tape_resize(tape, ws, 0);
    tape_resize(tape, xs, 0);
    const int64_t result = call_result(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_custom(pgr_tape *tape, double value, size_t n, const pgr_handle *operands)
{
    const int token = pgr__enter(tape);
    pgr_status status = n >= UINT32_MAX ? PGR_ERR_FULL : call_make_room(tape, (uint32_t)n + 1);
    pgr_id id = 0;
    pgr_id *const ids = pgr__ids_of(tape, n, operands, &status);
    if (status == PGR_OK)
        status = pgr_custom(tape, value, n, ids, &id);
    tape_resize(tape, ids, 0);
    const int64_t result = call_result(tape, status, id);
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

/* Runs a statement on a live node. */
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
    size_t held = count; /* operands come last to first */
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
    pgr_id *const ids = pgr__ids_of(tape, n, operands, &status);
    if (status == PGR_OK)
        status = pgr_set_operands(tape, id, n, ids);
    tape_resize(tape, ids, 0);
    return status;
}

pgr_status pgr_h_set_operands(pgr_tape *tape, pgr_handle h, size_t n, const pgr_handle *operands)
{
    const int token = pgr__enter(tape);
    /* Collect first if that is due: the call may copy many nodes. */
    pgr_status status = tape_collect_is_due(tape) ? pgr__make_room_by_handle(tape, 1) : PGR_OK;
    if (status == PGR_OK)
        status = set_operands(tape, h, n, operands);
    if (status == PGR_ERR_UNKNOWN) { /* perhaps because of garbage that a recording has left */
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

/* Evaluates `call` with the id of a live node. */
#define CALL_ON_NODE(call) \
    const int token = pgr__enter(tape); \
    const pgr_id id = tape_id_of(tape, h); \
    const pgr_status status = id == 0 ? PGR_ERR_HANDLE : (call); \
    pgr__leave(tape, token); \
    return status

/* The same; PGR_ERR_UNKNOWN if the node has no value. */
#define CALL_ON_VALUE(call) CALL_ON_NODE((tape->nodes[id].flags & TAPE_UNKNOWN) != 0 ? PGR_ERR_UNKNOWN : (call))

pgr_status pgr_h_backward(pgr_tape *tape, pgr_handle h) { CALL_ON_VALUE(pgr_backward(tape, id)); }
pgr_status pgr_h_push(pgr_tape *tape, pgr_handle h) { CALL_ON_VALUE(pgr_push(tape, id)); }

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
    CALL_ON_VALUE(backward_checked(tape, id, bad));
}

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

void pgr_h_release_rows(pgr_tape *tape, const pgr_table *table)
{
    const int token = pgr__enter(tape);
    for (uint32_t i = 0; i < table->row_count; i++)
        release(tape, table->rows[i].handle, false);
    pgr__leave(tape, token);
}
