/* recorded.c: recorded functions by handle: their inputs and lanes, derivatives and programs, with the tape's lock. */
#include "api/calls.h"
#include "program/program.h"

int64_t pgr_h_input(pgr_tape *tape, int op, uint64_t number)
{
    const int token = pgr__enter(tape);
    pgr_status status = call_make_room(tape, 1);
    pgr_id id = 0;
    if (status == PGR_OK)
        status = pgr_input(tape, op, number, &id);
    const int64_t result = call_result(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_lane_sum(pgr_tape *tape, pgr_handle value, pgr_handle witness)
{
    const int token = pgr__enter(tape);
    pgr_status status = call_make_room(tape, 1);
    pgr_id id = 0;
    if (status == PGR_OK) {
        const pgr_id v = tape_id_of(tape, value), w = tape_id_of(tape, witness);
        status = v == 0 || w == 0 ? PGR_ERR_HANDLE : pgr_lane_sum(tape, v, w, &id);
    }
    const int64_t result = call_result(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_lane_pass(pgr_tape *tape, pgr_handle value, uint32_t group)
{
    const int token = pgr__enter(tape);
    pgr_status status = call_make_room(tape, 1);
    pgr_id id = tape_id_of(tape, value);
    if (status == PGR_OK)
        status = id == 0 ? PGR_ERR_HANDLE : pgr_lane_pass(tape, id, group, &id);
    const int64_t result = call_result(tape, status, id);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_chain(pgr_tape *tape, size_t n, const pgr_handle *operands)
{
    if (n == 0)
        return 0;
    const int token = pgr__enter(tape);
    pgr_status status = n > TAPE_MAX_NODES ? PGR_ERR_FULL : call_make_room(tape, (uint32_t)n);
    pgr_id id = 0, *const ids = pgr__ids_of(tape, n, operands, &status);
    if (status == PGR_OK)
        status = pgr_chain(tape, n, ids, &id);
    const int64_t result = call_result(tape, status, id);
    tape_resize(tape, ids, 0);
    pgr__leave(tape, token);
    return result;
}

int64_t pgr_h_result(pgr_tape *tape, pgr_handle chain, uint64_t number)
{
    const int token = pgr__enter(tape);
    pgr_status status = call_make_room(tape, 1);
    pgr_id id = 0;
    if (status == PGR_OK) {
        const pgr_id end = chain == 0 ? 0 : tape_id_of(tape, chain);
        status = chain != 0 && end == 0 ? PGR_ERR_HANDLE : pgr_result(tape, end, number, &id);
    }
    const int64_t result = call_result(tape, status, id);
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

/* Returns `status`, and holds the node that failed if the status names one. */
static pgr_status hold_bad(pgr_tape *tape, pgr_status status, pgr_id id, pgr_handle *bad)
{
    const bool names_node = status == PGR_ERR_OPAQUE || status == PGR_ERR_LANES || status == PGR_ERR_UNKNOWN;
    if (!names_node || bad == NULL)
        return status;
    const int64_t h = pgr_hold(tape, id);
    if (h < 0)
        return (pgr_status)-h;
    *bad = (pgr_handle)h;
    return status;
}

/* Arrays of ids for one call, freed together. Later ones are NULL once `status` is a failure. */
typedef struct {
    pgr_tape *tape;
    pgr_status status;
    pgr_id *arrays[4];
    size_t count;
} id_arrays;

static pgr_id *ids_of(id_arrays *a, size_t n, const pgr_handle *handles)
{
    return a->arrays[a->count++] = pgr__ids_of(a->tape, n, handles, &a->status);
}

/* Room for n results. */
static pgr_id *room_for(id_arrays *a, size_t n)
{
    pgr_id *const ids = a->status == PGR_OK ? tape_resize(a->tape, NULL, (n + 1) * sizeof *ids) : NULL;
    if (ids == NULL && a->status == PGR_OK)
        a->status = PGR_ERR_NOMEM;
    return a->arrays[a->count++] = ids;
}

static pgr_status free_ids(id_arrays *a)
{
    for (size_t i = 0; i < a->count; i++)
        tape_resize(a->tape, a->arrays[i], 0);
    return a->status;
}

/* A vjp, where nodes are roots and weights seeds, or a jvp, where nodes are wrt and weights tangents. */
static pgr_status derive(pgr_tape *tape, bool is_vjp, uint32_t within, size_t n, const pgr_handle *nodes,
                         const pgr_handle *weights, size_t m, const pgr_handle *others, pgr_handle *out,
                         pgr_handle *bad)
{
    const int token = pgr__enter(tape);
    id_arrays a = {.tape = tape};
    pgr_id failed = 0;
    const pgr_id *const node_ids = ids_of(&a, n, nodes), *const weight_ids = ids_of(&a, n, weights);
    const pgr_id *const other_ids = ids_of(&a, m, others);
    pgr_id *const results = room_for(&a, m);
    if (a.status == PGR_OK)
        a.status = is_vjp ? pgr_vjp(tape, within, n, node_ids, weight_ids, m, other_ids, results, &failed)
                          : pgr_jvp(tape, n, node_ids, weight_ids, m, other_ids, results, &failed);
    a.status = a.status == PGR_OK ? pgr__hold_all(tape, m, results, out) : hold_bad(tape, a.status, failed, bad);
    const pgr_status status = free_ids(&a);
    pgr__leave(tape, token);
    return status;
}

pgr_status pgr_h_vjp(pgr_tape *tape, uint32_t within, size_t root_count, const pgr_handle *roots,
                     const pgr_handle *seeds, size_t wrt_count, const pgr_handle *wrt, pgr_handle *out,
                     pgr_handle *bad)
{
    return derive(tape, true, within, root_count, roots, seeds, wrt_count, wrt, out, bad);
}

pgr_status pgr_h_jvp(pgr_tape *tape, size_t wrt_count, const pgr_handle *wrt, const pgr_handle *tangents,
                     size_t root_count, const pgr_handle *roots, pgr_handle *out, pgr_handle *bad)
{
    return derive(tape, false, PGR_NO_GROUP, wrt_count, wrt, tangents, root_count, roots, out, bad);
}

pgr_status pgr_h_jacobian(pgr_tape *tape, size_t root_count, const pgr_handle *roots, size_t wrt_count,
                          const pgr_handle *wrt, int lower, pgr_sparse *out, pgr_handle *bad)
{
    const int token = pgr__enter(tape);
    pgr_status status = PGR_OK;
    pgr_id failed = 0, *ids = NULL;
    pgr_id *const root_ids = pgr__ids_of(tape, root_count, roots, &status);
    pgr_id *const wrt_ids = pgr__ids_of(tape, wrt_count, wrt, &status);
    *out = (pgr_sparse){0};
    if (status == PGR_OK)
        status = pgr_jacobian(tape, root_count, root_ids, wrt_count, wrt_ids, lower, out, &ids, &failed);
    if (status == PGR_OK && (out->values = tape_resize(tape, NULL, (out->count + 1) * sizeof *out->values)) == NULL)
        status = PGR_ERR_NOMEM;
    if (status == PGR_OK)
        status = pgr__hold_all(tape, out->count, ids, out->values);
    else
        status = hold_bad(tape, status, failed, bad);
    if (status != PGR_OK)
        pgr_sparse_free(tape, out);
    tape_resize(tape, ids, 0);
    tape_resize(tape, root_ids, 0);
    tape_resize(tape, wrt_ids, 0);
    pgr__leave(tape, token);
    return status;
}

int pgr_h_is_linear(pgr_tape *tape, pgr_handle unknown, size_t count, const pgr_handle *results, size_t cut_count,
                    const pgr_handle *cuts)
{
    const int token = pgr__enter(tape);
    id_arrays a = {.tape = tape};
    const pgr_id *const start = ids_of(&a, 1, &unknown), *const result_ids = ids_of(&a, count, results);
    const pgr_id *const cut_ids = ids_of(&a, cut_count, cuts);
    int is_linear = 0;
    if (a.status == PGR_OK)
        a.status = pgr_is_linear(tape, *start, count, result_ids, cut_count, cut_ids, &is_linear);
    const pgr_status status = free_ids(&a);
    pgr__leave(tape, token);
    return status == PGR_OK ? is_linear : -(int)status;
}

pgr_status pgr_h_lane_places(pgr_tape *tape, size_t place_count, const pgr_handle *places, size_t root_count,
                             const pgr_handle *roots, uint8_t *used)
{
    const int token = pgr__enter(tape);
    id_arrays a = {.tape = tape};
    const pgr_id *const place_ids = ids_of(&a, place_count, places), *const root_ids = ids_of(&a, root_count, roots);
    if (a.status == PGR_OK)
        a.status = pgr_lane_places(tape, place_count, place_ids, root_count, root_ids, used);
    const pgr_status status = free_ids(&a);
    pgr__leave(tape, token);
    return status;
}

pgr_status pgr_h_lane_values(pgr_tape *tape, size_t place_count, const pgr_handle *places, size_t root_count,
                             const pgr_handle *roots, size_t lane_count, const pgr_handle *values, pgr_handle *out)
{
    const int token = pgr__enter(tape);
    id_arrays a = {.tape = tape};
    const pgr_id *const place_ids = ids_of(&a, place_count, places), *const root_ids = ids_of(&a, root_count, roots);
    const pgr_id *const value_ids = ids_of(&a, lane_count * place_count, values);
    pgr_id *const results = room_for(&a, lane_count * root_count);
    if (a.status == PGR_OK)
        a.status = pgr_lane_values(tape, place_count, place_ids, root_count, root_ids, lane_count, value_ids, results);
    if (a.status == PGR_OK)
        a.status = pgr__hold_all(tape, lane_count * root_count, results, out);
    const pgr_status status = free_ids(&a);
    pgr__leave(tape, token);
    return status;
}

static pgr_status hold_captures(pgr_tape *tape, pgr_program *program)
{
    const uint32_t count = program->capture_count;
    program->held_captures = tape_resize(tape, NULL, (count + 1) * sizeof *program->held_captures);
    if (program->held_captures == NULL)
        return PGR_ERR_NOMEM;
    return pgr__hold_all(tape, count, program->captures, program->held_captures);
}

pgr_status pgr_h_program_build(pgr_tape *tape, pgr_handle start, size_t output_count, const pgr_handle *nodes,
                               pgr_output *outputs, size_t group_count, const pgr_lane_group *groups,
                               uint32_t captures_array, const pgr_inner *inner, pgr_program **out, pgr_handle *bad)
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
    pgr_id failed = 0;
    if (status == PGR_OK) {
        status = pgr_program_build(tape, first, output_count, outputs, group_count, groups, captures_array, inner,
                                   &program, &failed);
        if (status != PGR_OK)
            status = hold_bad(tape, status, failed, bad);
    }
    if (status == PGR_OK)
        status = hold_captures(tape, program);
    if (status == PGR_OK)
        *out = program;
    else
        pgr_program_free(program);
    pgr__leave(tape, token);
    return status;
}
