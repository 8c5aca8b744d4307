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

/* A vjp, where nodes are roots and weights seeds, or a jvp, where nodes are wrt and weights tangents. */
static pgr_status derive(pgr_tape *tape, bool is_vjp, uint32_t within, size_t n, const pgr_handle *nodes,
                         const pgr_handle *weights, size_t m, const pgr_handle *others, pgr_handle *out,
                         pgr_handle *bad)
{
    const int token = pgr__enter(tape);
    pgr_status status = PGR_OK;
    pgr_id failed = 0;
    pgr_id *const node_ids = pgr__ids_of(tape, n, nodes, &status);
    pgr_id *const weight_ids = pgr__ids_of(tape, n, weights, &status);
    pgr_id *const other_ids = pgr__ids_of(tape, m, others, &status);
    pgr_id *const results = pgr__ids_of(tape, m, others, &status); /* for its memory */
    if (status == PGR_OK)
        status = is_vjp ? pgr_vjp(tape, within, n, node_ids, weight_ids, m, other_ids, results, &failed)
                        : pgr_jvp(tape, n, node_ids, weight_ids, m, other_ids, results, &failed);
    if (status == PGR_OK)
        status = pgr__hold_all(tape, m, results, out);
    else
        status = hold_bad(tape, status, failed, bad);
    tape_resize(tape, node_ids, 0);
    tape_resize(tape, weight_ids, 0);
    tape_resize(tape, other_ids, 0);
    tape_resize(tape, results, 0);
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

pgr_status pgr_h_lane_places(pgr_tape *tape, size_t place_count, const pgr_handle *places, size_t root_count,
                             const pgr_handle *roots, uint8_t *used)
{
    const int token = pgr__enter(tape);
    pgr_status status = PGR_OK;
    pgr_id *const place_ids = pgr__ids_of(tape, place_count, places, &status);
    pgr_id *const root_ids = pgr__ids_of(tape, root_count, roots, &status);
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
    pgr_id *const place_ids = pgr__ids_of(tape, place_count, places, &status);
    pgr_id *const root_ids = pgr__ids_of(tape, root_count, roots, &status);
    pgr_id *const value_ids = pgr__ids_of(tape, lane_count * place_count, values, &status);
    pgr_id *const results = tape_resize(tape, NULL, (lane_count * root_count + 1) * sizeof *results);
    if (status == PGR_OK && results == NULL)
        status = PGR_ERR_NOMEM;
    if (status == PGR_OK)
        status = pgr_lane_values(tape, place_count, place_ids, root_count, root_ids, lane_count, value_ids, results);
    if (status == PGR_OK)
        status = pgr__hold_all(tape, lane_count * root_count, results, out);
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
    if (program->held_captures == NULL)
        return PGR_ERR_NOMEM;
    return pgr__hold_all(tape, count, program->captures, program->held_captures);
}

pgr_status pgr_h_program_build(pgr_tape *tape, pgr_handle start, size_t output_count, const pgr_handle *nodes,
                               pgr_output *outputs, size_t group_count, const pgr_lane_group *groups,
                               uint32_t captures_array, pgr_program **out, pgr_handle *bad)
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
        status = pgr_program_build(tape, first, output_count, outputs, group_count, groups, captures_array, &program,
                                   &failed);
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
