/* fold.c: makes large graphs small enough to draw: folds nodes by scope and by distance from the root. */
#include "tape/nodes.h"

#include <string.h>

#define NONE UINT32_MAX

/* A folding under way. */
typedef struct {
    pgr_tape *tape;
    const pgr_table *table;
    const pgr_fold_options *options;
    uint32_t *fold;      /* by row */
    uint32_t *vertex;    /* by row; in the memory of `fold`, which ends where vertices begin */
    uint32_t *scratch;   /* by row */
    uint32_t *first;     /* by scope: its first call */
    uint32_t *vertex_of; /* by fold */
    uint32_t *buckets;   /* of a hash table: edge + 1 */
    uint32_t bucket_count;
} folder;

static bool is_leaf(const pgr_row *row) { return row->operand_count == 0; }

static uint32_t by_scope(const uint32_t *folds, const pgr_fold_options *options, uint32_t scope)
{
    return scope < options->scope_count ? folds[scope] : PGR_OPEN;
}

static void fold_by_scope(folder *f)
{
    const pgr_fold_options *const options = f->options;
    for (uint32_t i = 0; i < f->table->row_count; i++) {
        const pgr_row *const row = &f->table->rows[i];
        const uint32_t more = by_scope(options->more_folds, options, row->scope);
        f->fold[i] = by_scope(options->folds, options, row->scope);
        if (more == PGR_OPEN)
            continue;
        if (f->first[row->scope] == NONE)
            f->first[row->scope] = row->call;
        else if (f->first[row->scope] != row->call)
            f->fold[i] = more;
    }
}

/* Folds a parameter or a constant with its users, if one fold has all of them. */
static void fold_with_users(folder *f)
{
    enum { UNUSED = PGR_FOLD_REST, SEVERAL = PGR_FOLD_INPUTS }; /* not folds of any scope */
    const pgr_table *const table = f->table;
    memset(f->scratch, 0, table->row_count * sizeof *f->scratch);
    for (uint32_t i = 0; i < table->row_count; i++) {
        const pgr_row *const row = &table->rows[i];
        if (f->fold[i] == PGR_OPEN)
            continue;
        for (uint32_t k = 0; k < row->operand_count; k++) {
            uint32_t *const user = &f->scratch[table->operands[row->first_operand + k]];
            *user = *user == UNUSED || *user == f->fold[i] ? f->fold[i] : SEVERAL;
        }
    }
    for (uint32_t i = 0; i < table->row_count; i++) {
        const pgr_row *const row = &table->rows[i];
        if (f->fold[i] == PGR_OPEN && is_leaf(row) && f->scratch[i] >= PGR_FOLD_FIRST &&
            (row->scope == f->options->parameters || row->op == PGR_OP_CONST))
            f->fold[i] = f->scratch[i];
    }
}

/* By row, the distance from the root or from a named scope that is not folded. Returns the largest. */
static uint32_t measure(folder *f)
{
    const pgr_table *const table = f->table;
    uint32_t *const distance = f->scratch;
    uint32_t furthest = 0;
    memset(distance, 0xff, table->row_count * sizeof *distance);
    distance[table->row_count - 1] = 0;
    for (uint32_t i = table->row_count; i-- > 0;) {
        const pgr_row *const row = &table->rows[i];
        if (f->fold[i] == PGR_OPEN && row->scope != 0 && row->scope != f->options->parameters)
            distance[i] = 0;
        if (distance[i] > furthest)
            furthest = distance[i];
        for (uint32_t k = 0; k < row->operand_count; k++) {
            const uint32_t o = table->operands[row->first_operand + k];
            const uint32_t d = distance[i] + (f->fold[i] == PGR_OPEN || f->fold[o] != f->fold[i]);
            if (d < distance[o])
                distance[o] = d;
        }
    }
    return furthest;
}

/* Folds nodes that no scope folds and that are too far from the root to be shown. */
static pgr_status fold_by_distance(folder *f)
{
    const pgr_table *const table = f->table;
    uint32_t open = 0;
    for (uint32_t i = 0; i < table->row_count; i++)
        open += f->fold[i] == PGR_OPEN;
    if (open <= f->options->max_open && open <= f->options->max_near)
        return PGR_OK;
    const size_t levels = (size_t)measure(f) + 1;
    uint32_t *const count = tape_resize(f->tape, NULL, levels * sizeof *count);
    if (count == NULL)
        return PGR_ERR_NOMEM;
    memset(count, 0, levels * sizeof *count);
    for (uint32_t i = 0; i < table->row_count; i++)
        if (f->fold[i] == PGR_OPEN)
            count[f->scratch[i]]++;
    uint32_t cut = 0, left = f->options->max_open; /* all levels below `cut` are shown, and `left` nodes of it */
    if (count[0] <= left) {
        left -= count[cut++];
        left = left < f->options->max_near ? left : f->options->max_near;
    }
    while (cut > 0 && cut < levels && count[cut] <= left)
        left -= count[cut++];
    tape_resize(f->tape, count, 0);
    for (uint32_t i = table->row_count; i-- > 0;) {
        const pgr_row *const row = &table->rows[i];
        if (f->fold[i] != PGR_OPEN || f->scratch[i] < cut)
            continue;
        if (f->scratch[i] == cut && left > 0)
            left--;
        else if (!is_leaf(row) || row->op == PGR_OP_CONST)
            f->fold[i] = PGR_FOLD_REST;
        else
            f->fold[i] = row->scope == f->options->parameters ? PGR_FOLD_PARAMETERS : PGR_FOLD_INPUTS;
    }
    return PGR_OK;
}

static pgr_status make_vertices(folder *f, pgr_folding *out)
{
    const pgr_table *const table = f->table;
    uint32_t *const scope = f->scratch, *const call = f->scratch + table->row_count; /* by vertex: of its last row */
    for (uint32_t i = 0; i < table->row_count; i++) {
        const pgr_row *const row = &table->rows[i];
        const uint32_t fold = f->fold[i];
        uint32_t v = fold == PGR_OPEN ? NONE : f->vertex_of[fold];
        if (v == NONE) {
            pgr_vertex *const vertices = tape_grow(f->tape, out->vertices, out->vertex_count, 1, sizeof *vertices);
            if (vertices == NULL)
                return PGR_ERR_NOMEM;
            out->vertices = vertices;
            v = out->vertex_count++;
            out->vertices[v] = (pgr_vertex){.fold = fold};
            scope[v] = NONE;
            if (fold != PGR_OPEN)
                f->vertex_of[fold] = v;
        }
        pgr_vertex *const vertex = &out->vertices[v];
        f->vertex[i] = v;
        vertex->row = i;
        vertex->count++;
        vertex->leaves += is_leaf(row);
        if (is_leaf(row) || vertex->calls == NONE)
            continue;
        if (scope[v] != NONE && scope[v] != row->scope)
            vertex->calls = NONE; /* several scopes: no one number */
        else
            vertex->calls += scope[v] == NONE || call[v] != row->call;
        scope[v] = row->scope;
        call[v] = row->call;
    }
    for (uint32_t v = 0; v < out->vertex_count; v++)
        if (out->vertices[v].calls == NONE)
            out->vertices[v].calls = 0;
    return PGR_OK;
}

/* The place of an edge in the hash table. */
static uint32_t bucket_of(const folder *f, const pgr_edge *edges, uint32_t from, uint32_t to)
{
    const uint64_t key = ((uint64_t)from << 32 | to) * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t bucket = (uint32_t)(key >> 32) & (f->bucket_count - 1);
    for (uint32_t found; (found = f->buckets[bucket]) != 0; bucket = (bucket + 1) & (f->bucket_count - 1))
        if (edges[found - 1].source == from && edges[found - 1].target == to)
            break;
    return bucket;
}

static bool grow_buckets(folder *f, const pgr_folding *out)
{
    const uint32_t bucket_count = f->bucket_count == 0 ? 1024 : 2 * f->bucket_count;
    uint32_t *const buckets = tape_resize(f->tape, NULL, bucket_count * sizeof *buckets);
    if (buckets == NULL)
        return false;
    memset(buckets, 0, bucket_count * sizeof *buckets);
    tape_resize(f->tape, f->buckets, 0);
    f->buckets = buckets;
    f->bucket_count = bucket_count;
    for (uint32_t e = 0; e < out->edge_count; e++)
        f->buckets[bucket_of(f, out->edges, out->edges[e].source, out->edges[e].target)] = e + 1;
    return true;
}

static pgr_status make_edges(folder *f, pgr_folding *out)
{
    const pgr_table *const table = f->table;
    if (!grow_buckets(f, out))
        return PGR_ERR_NOMEM;
    for (uint32_t i = 0; i < table->row_count; i++) {
        const pgr_row *const row = &table->rows[i];
        for (uint32_t k = 0; k < row->operand_count; k++) {
            const uint32_t from = f->vertex[table->operands[row->first_operand + k]], to = f->vertex[i];
            if (from == to)
                continue;
            const uint32_t bucket = bucket_of(f, out->edges, from, to);
            if (f->buckets[bucket] != 0) {
                out->edges[f->buckets[bucket] - 1].count++;
                continue;
            }
            pgr_edge *const edges = tape_grow(f->tape, out->edges, out->edge_count, 1, sizeof *edges);
            if (edges == NULL)
                return PGR_ERR_NOMEM;
            out->edges = edges;
            out->edges[out->edge_count++] = (pgr_edge){from, to, 1};
            f->buckets[bucket] = out->edge_count;
            if (out->edge_count > f->bucket_count / 2 && !grow_buckets(f, out))
                return PGR_ERR_NOMEM;
        }
    }
    return PGR_OK;
}

pgr_status pgr_fold(pgr_tape *tape, const pgr_table *table, const pgr_fold_options *options, pgr_folding *folding)
{
    const size_t rows = table->row_count, scopes = options->scope_count, folds = options->fold_count;
    uint32_t *const room = tape_resize(tape, NULL, (3 * rows + scopes + folds + 1) * sizeof *room);
    if (room == NULL)
        return PGR_ERR_NOMEM;
    folder f = {.tape = tape, .table = table, .options = options, .fold = room, .vertex = room,
                .scratch = room + rows, .first = room + 3 * rows, .vertex_of = room + 3 * rows + scopes};
    memset(f.first, 0xff, (scopes + folds) * sizeof *room);
    pgr_folding out = {NULL, NULL, 0, 0};
    fold_by_scope(&f);
    fold_with_users(&f);
    pgr_status status = fold_by_distance(&f);
    if (status == PGR_OK)
        status = make_vertices(&f, &out);
    if (status == PGR_OK)
        status = make_edges(&f, &out);
    tape_resize(tape, f.buckets, 0);
    tape_resize(tape, room, 0);
    if (status == PGR_OK)
        *folding = out;
    else
        pgr_folding_free(tape, &out);
    return status;
}

void pgr_table_scopes(const pgr_table *table, uint32_t count, uint8_t *used)
{
    for (uint32_t i = 0; i < table->row_count; i++)
        if (table->rows[i].scope < count)
            used[table->rows[i].scope] = 1;
}

void pgr_folding_free(pgr_tape *tape, pgr_folding *folding)
{
    tape_resize(tape, folding->vertices, 0);
    tape_resize(tape, folding->edges, 0);
    *folding = (pgr_folding){NULL, NULL, 0, 0};
}
