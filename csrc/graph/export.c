/* export.c: a table of the nodes that are reachable from a root, for drawing and copying. */
#include "tape/tape.h"
#include "tape/marks.h"
#include "tape/slots.h"
#include "tape/tags.h"

/* Reachable ids, descending. */
typedef struct {
    pgr_id *ids;
    uint32_t count, capacity;
    uint64_t operands;
} found;

static bool found_add(pgr_tape *tape, found *f, pgr_id id)
{
    if (f->count == f->capacity) {
        pgr_id *const ids = tape_double(tape, f->ids, &f->capacity, sizeof *ids);
        if (ids == NULL)
            return false;
        f->ids = ids;
    }
    f->ids[f->count++] = id;
    return true;
}

static bool has_param(const pgr_node *node) { return pgr_op_row(node->op)->kind == PGR_KIND_PARAM; }

/* A walk over a node's operands; a parameter is not one. */
static operand_walk walk_from(const pgr_node *nodes, pgr_id id)
{
    return (operand_walk){id, has_param(&nodes[id])};
}

static pgr_status find(pgr_tape *tape, pgr_id root, found *f)
{
    marks_heap heap;
    marks m = marks_begin(tape, root, offsetof(pgr_node, read_mark), &heap);
    pgr_status status = heap.failed ? PGR_ERR_NOMEM : PGR_OK;
    pgr_node *node = &m.nodes[root] + 1;
    while ((node = marks_next_of_any(m, node)) != m.nodes) {
        const pgr_id id = (pgr_id)(node - m.nodes);
        if (!found_add(tape, f, id))
            status = PGR_ERR_NOMEM;
        else if (f->count % TAPE_ASK_EVERY == 0)
            node = marks_ask(&m, tape, node, &status);
        if (status != PGR_OK)
            break;
        operand_walk walk = walk_from(m.nodes, id);
        for (pgr_id o; (o = operand_next(m.nodes, &walk)) != 0; f->operands++)
            marks_reach(m, o, node);
        if (heap.failed) {
            status = PGR_ERR_NOMEM;
            break;
        }
    }
    marks_abandon(m, node);
    marks_end(m, tape);
    return status;
}

/* The row of `id`, by binary search. */
static uint32_t row_of(const found *f, pgr_id id)
{
    uint32_t low = 0, high = f->count;
    while (low + 1 < high) {
        const uint32_t middle = low + (high - low) / 2;
        *(f->ids[middle] >= id ? &low : &high) = middle;
    }
    return f->count - 1 - low;
}

/* Fills the table. `row_at[id - lowest]` is scratch for the rows of ids; NULL: search for them. */
static pgr_status fill(pgr_tape *tape, const found *f, uint32_t *row_at, pgr_table *table)
{
    const pgr_node *nodes = tape->nodes;
    const pgr_id lowest = f->ids[f->count - 1];
    uint32_t end = 0, runs[PGR_TAG_CHANNELS];
    for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++)
        runs[channel] = pgr__run_of(tape, channel, lowest);
    for (uint32_t i = 0; i < f->count; i++) {
        if (i % TAPE_ASK_EVERY == TAPE_ASK_EVERY - 1) {
            if (pgr__ask(tape) != PGR_OK)
                return PGR_ERR_STOPPED;
            nodes = tape->nodes;
        }
        const pgr_id id = f->ids[f->count - 1 - i];
        const pgr_node *const node = &nodes[id];
        const uint32_t first = end;
        if (row_at != NULL)
            row_at[id - lowest] = i;
        operand_walk walk = walk_from(nodes, id);
        for (pgr_id o; (o = operand_next(nodes, &walk)) != 0;)
            table->operands[end++] = row_at != NULL ? row_at[o - lowest] : row_of(f, o);
        for (uint32_t p = first, q = end; p + 1 < q; p++) { /* they come last to first */
            const uint32_t swap = table->operands[--q];
            table->operands[q] = table->operands[p];
            table->operands[p] = swap;
        }
        uint32_t tags[PGR_TAG_CHANNELS];
        for (int channel = 0; channel < PGR_TAG_CHANNELS; channel++) {
            const tape_tags *const all = &tape->tags[channel];
            while (runs[channel] < all->count && all->runs[runs[channel]].start <= id)
                runs[channel]++;
            tags[channel] = runs[channel] == 0 ? 0 : all->runs[runs[channel] - 1].tag;
        }
        table->rows[i] = (pgr_row){
            .data = node->data,
            .grad = node->grad,
            .param = has_param(node) ? nodes[node->rhs].data : NAN,
            .handle = node->slot == 0 ? 0 : tape_handle(tape, node->slot),
            .first_operand = first,
            .operand_count = end - first,
            .op = node->op,
            .scope = tags[PGR_TAG_SCOPE],
            .line = tags[PGR_TAG_LINE],
            .call = runs[PGR_TAG_SCOPE],
        };
    }
    table->row_count = f->count;
    table->operand_count = end;
    return PGR_OK;
}

/* Holds every row's node; on failure, none. */
static pgr_status hold_rows(pgr_tape *tape, const found *f, pgr_row *rows)
{
    for (uint32_t i = 0; i < f->count; i++) {
        const int64_t h = pgr_hold(tape, f->ids[f->count - 1 - i]);
        if (h < 0) {
            while (i > 0)
                tape_release(tape, (uint32_t)rows[--i].handle, false);
            return (pgr_status)-h;
        }
        rows[i].handle = (pgr_handle)h;
    }
    return PGR_OK;
}

pgr_status pgr_export(pgr_tape *tape, pgr_id root, int hold, pgr_table *table)
{
    found f = {NULL, 0, 0, 0};
    pgr_table t = {NULL, NULL, 0, 0};
    const bool is_first = tape_begin_root(tape, root);
    pgr_status status = find(tape, root, &f);
    if (status == PGR_OK && (f.operands > UINT32_MAX || f.operands >= SIZE_MAX / sizeof *t.operands))
        status = PGR_ERR_FULL;
    if (status == PGR_OK) {
        t.rows = tape_resize(tape, NULL, f.count * sizeof *t.rows);
        t.operands = tape_resize(tape, NULL, ((size_t)f.operands + 1) * sizeof *t.operands);
        if (t.rows == NULL || t.operands == NULL)
            status = PGR_ERR_NOMEM;
    }
    if (status == PGR_OK) {
        /* An array finds operands' rows, unless the graph is spread thinly over the tape. */
        const size_t span = (size_t)root - f.ids[f.count - 1] + 1;
        uint32_t *const row_at = span / 16 > f.count ? NULL : tape_resize(tape, NULL, span * sizeof *row_at);
        status = fill(tape, &f, row_at, &t);
        tape_resize(tape, row_at, 0);
        if (status == PGR_OK && hold)
            status = hold_rows(tape, &f, t.rows);
    }
    tape_end_root(tape, root, is_first);
    if (status == PGR_OK)
        *table = t;
    else
        pgr_table_free(tape, &t);
    tape_resize(tape, f.ids, 0);
    return status;
}

void pgr_table_free(pgr_tape *tape, pgr_table *table)
{
    tape_resize(tape, table->rows, 0);
    tape_resize(tape, table->operands, 0);
    *table = (pgr_table){NULL, NULL, 0, 0};
}
