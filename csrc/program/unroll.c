/* unroll.c: single lanes of a vmap.
 *
 * A vmap's function is recorded once for all lanes. Where the result of a single lane is used outside the vmap, its
 * nodes are recorded once more, with that lane's numbers in place of the lanes that the function was given. */
#include "tape/tape.h"
#include "tape/tags.h"

#include <string.h>

/* The lanes from `first` on that the roots are made from. */
typedef struct {
    pgr_id first;
    size_t count;
    uint8_t *state;  /* by node: NEEDED, PLACE or both */
    pgr_id *needed;  /* ascending, without places */
    size_t needed_count;
    size_t recorded; /* nodes so far, of all lanes */
    pgr_id *now;     /* by node: its copy in the present lane */
} part;

enum { NEEDED = 1, PLACE = 2 };

static void free_part(pgr_tape *tape, part *p)
{
    tape_resize(tape, p->state, 0);
    tape_resize(tape, p->needed, 0);
    tape_resize(tape, p->now, 0);
}

static pgr_status new_part(pgr_tape *tape, part *p, size_t place_count, const pgr_id *places, size_t root_count,
                           const pgr_id *roots)
{
    pgr_id first = UINT32_MAX, last = 0;
    for (size_t i = 0; i < place_count; i++)
        first = places[i] < first ? places[i] : first;
    for (size_t i = 0; i < root_count; i++)
        if (tape_is_lane(tape, roots[i])) {
            last = roots[i] > last ? roots[i] : last;
            if (roots[i] < first)
                return PGR_ERR_LANES;
        }
    *p = (part){.first = first, .count = last >= first ? (size_t)last - first + 1 : 0};
    p->state = tape_resize(tape, NULL, p->count + 1);
    p->needed = tape_resize(tape, NULL, (p->count + 1) * sizeof *p->needed);
    p->now = tape_resize(tape, NULL, (p->count + 1) * sizeof *p->now);
    if (p->state == NULL || p->needed == NULL || p->now == NULL)
        return PGR_ERR_NOMEM;
    memset(p->state, 0, p->count);
    for (size_t i = 0; i < place_count; i++)
        if (places[i] - first < p->count)
            p->state[places[i] - first] = PLACE;
    for (size_t i = 0; i < root_count; i++)
        if (tape_is_lane(tape, roots[i]))
            p->state[roots[i] - first] |= NEEDED;
    return PGR_OK;
}

static pgr_status find(pgr_tape *tape, part *p)
{
    for (size_t i = p->count; i-- > 0;) {
        if (p->state[i] != NEEDED)
            continue;
        const pgr_node *const node = &tape->nodes[p->first + i];
        const pgr_id operands[] = {node->lhs, node->rhs};
        if (node->op == PGR_OP_CUSTOM || node->op == PGR_OP_PAIR)
            return PGR_ERR_OPAQUE;
        if (node->lhs == 0)
            return PGR_ERR_LANES; /* a lane of another vmap */
        for (int k = 0; k < 2; k++)
            if (tape_is_lane(tape, operands[k])) {
                if (operands[k] < p->first)
                    return PGR_ERR_LANES;
                p->state[operands[k] - p->first] |= NEEDED;
            }
        p->needed_count++;
    }
    size_t at = 0;
    for (size_t i = 0; i < p->count; i++)
        if (p->state[i] == NEEDED)
            p->needed[at++] = p->first + (pgr_id)i;
    return PGR_OK;
}

pgr_status pgr_lane_places(pgr_tape *tape, size_t place_count, const pgr_id *places, size_t root_count,
                           const pgr_id *roots, uint8_t *used)
{
    part p = {0};
    pgr_status status = new_part(tape, &p, place_count, places, root_count, roots);
    if (status == PGR_OK)
        status = find(tape, &p);
    for (size_t i = 0; i < place_count && status == PGR_OK; i++)
        used[i] = places[i] - p.first < p.count && p.state[places[i] - p.first] == (NEEDED | PLACE);
    free_part(tape, &p);
    return status;
}

/* A node in the present lane. */
static pgr_id now(const pgr_tape *tape, const part *p, pgr_id id)
{
    return tape_is_lane(tape, id) ? p->now[id - p->first] : id;
}

static pgr_status record_lane(pgr_tape *tape, part *p)
{
    for (size_t i = 0; i < p->needed_count; i++) {
        if (++p->recorded % TAPE_ASK_EVERY == 0 && pgr__ask(tape) != PGR_OK)
            return PGR_ERR_STOPPED;
        const pgr_id id = p->needed[i];
        const pgr_node node = tape->nodes[id];
        const pgr_id a = now(tape, p, node.lhs), b = now(tape, p, node.rhs);
        pgr_id *const out = &p->now[id - p->first];
        *out = a;
        const pgr_status status = node.op == PGR_OP_LANE_PASS ? PGR_OK : pgr__record_ieee(tape, node.op, a, b, out);
        if (status != PGR_OK)
            return status;
    }
    return PGR_OK;
}

pgr_status pgr_lane_values(pgr_tape *tape, size_t place_count, const pgr_id *places, size_t root_count,
                           const pgr_id *roots, size_t lane_count, const pgr_id *values, pgr_id *out)
{
    const uint32_t before = tape->size;
    part p = {0};
    pgr_status status = new_part(tape, &p, place_count, places, root_count, roots);
    if (status == PGR_OK)
        status = find(tape, &p);
    for (size_t k = 0; k < lane_count && status == PGR_OK; k++) {
        for (size_t i = 0; i < place_count; i++)
            if (places[i] - p.first < p.count)
                p.now[places[i] - p.first] = values[k * place_count + i];
        status = record_lane(tape, &p);
        for (size_t i = 0; i < root_count && status == PGR_OK; i++)
            out[k * root_count + i] = now(tape, &p, roots[i]);
    }
    free_part(tape, &p);
    if (status != PGR_OK)
        pgr__take_back(tape, before);
    return status;
}
