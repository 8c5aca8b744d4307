/* sparse.c: a Jacobian's nonzero entries as further nodes of the tape.
 *
 * Forward, each node has a vector of tangents, one for each variable that it depends on. First the variables of every
 * vector are found, then, from the roots down, which of its entries they need; only these are recorded. In reverse,
 * each root has a sweep of its own, over the nodes that it depends on. The cheaper way is taken: forward is quadratic
 * for a long sum, reverse for many roots that share a long chain. Neither needs colours: an entry costs two products
 * and a sum at each node between, wherever the others are. See Griewank & Walther, Evaluating Derivatives (2nd ed.,
 * 2008), ch. 7.1. */
#include "tape/derive.h"

#include <stdlib.h>
#include <string.h>

/* Vectors of the nodes of a sheet, one after another: node i's entries are numbers starts[i] up to starts[i + 1]. */
typedef struct {
    pgr_tape *tape;
    sheet s;
    uint32_t *variable; /* node i is number variable[i] - 1 of those that are derived by; 0: none of them */
    uint8_t *reached;   /* from the roots */
    uint32_t *starts;
    uint32_t *variables; /* of each entry; ascending in a vector */
    uint8_t *needed;     /* by the roots */
    pgr_id *tangents;    /* 0: zero */
    uint32_t capacity;
    uint64_t limit; /* more entries than this are not worth it */
    bool has_lanes; /* some node reached is one */
} vectors;

/* The result: a matrix whose values are ids so far. */
typedef struct {
    pgr_sparse *matrix;
    pgr_id *ids;
    uint32_t capacity;
} rows;

static pgr_status add_entry(pgr_tape *tape, rows *r, uint32_t column, pgr_id id)
{
    pgr_sparse *const m = r->matrix;
    if (m->count == r->capacity) {
        uint32_t *const columns = tape_double(tape, m->columns, &r->capacity, sizeof *columns);
        if (columns == NULL)
            return PGR_ERR_NOMEM;
        m->columns = columns;
        pgr_id *const ids = tape_resize(tape, r->ids, r->capacity * sizeof *ids);
        if (ids == NULL)
            return PGR_ERR_NOMEM;
        r->ids = ids;
    }
    m->columns[m->count] = column;
    r->ids[m->count++] = id;
    return PGR_OK;
}

/* A node's operands that depend on the variables, as indices in the sheet, counted from 1; 0: none. */
typedef struct {
    size_t a, b;
} active_pair;

static active_pair operands_of(const vectors *v, size_t i)
{
    const sheet *const s = &v->s;
    const pgr_node *const node = &v->tape->nodes[s->first + i];
    if (!sheet_is_active(s, s->first + (pgr_id)i))
        return (active_pair){0, 0};
    /* A sum over lanes does not depend on its witness. */
    const bool by_rhs = node->op != PGR_OP_LANE_SUM && sheet_is_active(s, node->rhs);
    return (active_pair){sheet_is_active(s, node->lhs) ? (size_t)node->lhs - s->first + 1 : 0,
                         by_rhs ? (size_t)node->rhs - s->first + 1 : 0};
}

static void free_vectors(vectors *v)
{
    pgr__free_sheet(v->tape, &v->s);
    tape_resize(v->tape, v->variable, 0);
    tape_resize(v->tape, v->reached, 0);
    tape_resize(v->tape, v->starts, 0);
    tape_resize(v->tape, v->variables, 0);
    tape_resize(v->tape, v->needed, 0);
    tape_resize(v->tape, v->tangents, 0);
}

/* Finds which nodes depend on variables and are reached from the roots. False when out of memory. */
static bool new_vectors(vectors *v, size_t wrt_count, const pgr_id *wrt, size_t root_count, const pgr_id *roots)
{
    sheet *const s = &v->s;
    if (!pgr__new_sheet(v->tape, s, wrt_count, wrt, root_count, roots)) {
        *s = (sheet){0};
        return false;
    }
    v->variable = tape_resize(v->tape, NULL, (s->count + 1) * sizeof *v->variable);
    v->reached = tape_resize(v->tape, NULL, s->count + 1);
    v->starts = tape_resize(v->tape, NULL, (s->count + 1) * sizeof *v->starts);
    if (v->variable == NULL || v->reached == NULL || v->starts == NULL)
        return false;
    memset(v->variable, 0, (s->count + 1) * sizeof *v->variable);
    memset(v->reached, 0, s->count + 1);
    for (size_t k = 0; k < wrt_count; k++)
        if (sheet_has(s, wrt[k]))
            v->variable[wrt[k] - s->first] = (uint32_t)k + 1;
    for (size_t k = 0; k < root_count; k++)
        if (sheet_is_active(s, roots[k]))
            v->reached[roots[k] - s->first] = 1;
    for (size_t i = s->count; i-- > 0;) {
        if (!v->reached[i])
            continue;
        const active_pair o = operands_of(v, i);
        if (o.a != 0)
            v->reached[o.a - 1] = 1;
        if (o.b != 0)
            v->reached[o.b - 1] = 1;
        v->has_lanes = v->has_lanes || s->group[i] != 0;
    }
    return true;
}

/* ---- Forward: which entries ------------------------------------------------------------------------------- */

static pgr_status reserve(vectors *v, uint64_t count)
{
    if (count > UINT32_MAX)
        return PGR_ERR_FULL;
    while (count > v->capacity) {
        uint32_t *const more = tape_double(v->tape, v->variables, &v->capacity, sizeof *more);
        if (more == NULL)
            return PGR_ERR_NOMEM;
        v->variables = more;
    }
    return PGR_OK;
}

/* Appends x unless it is the vector's last. */
static uint32_t append(uint32_t *vector, uint32_t n, uint32_t x)
{
    if (n > 0 && vector[n - 1] == x)
        return n;
    vector[n] = x;
    return n + 1;
}

/* The union of two vectors and of one more variable (its number + 1; 0: none), ascending. */
static uint32_t merge(uint32_t *out, const uint32_t *a, uint32_t m, const uint32_t *b, uint32_t n, uint32_t own)
{
    uint32_t count = 0, i = 0, j = 0;
    while (i < m || j < n || own != 0) {
        uint32_t x = own != 0 ? own - 1 : UINT32_MAX;
        x = i < m && a[i] < x ? a[i] : x;
        x = j < n && b[j] < x ? b[j] : x;
        i += i < m && a[i] == x;
        j += j < n && b[j] == x;
        own = own != 0 && own - 1 == x ? 0 : own;
        count = append(out, count, x);
    }
    return count;
}

/* Entries in a node's vector; 0 for 0. */
static uint32_t length(const vectors *v, size_t node) { return node == 0 ? 0 : v->starts[node] - v->starts[node - 1]; }
static uint32_t start(const vectors *v, size_t node) { return node == 0 ? 0 : v->starts[node - 1]; }

/* Stops early with more entries than the limit. */
static pgr_status find_variables(vectors *v)
{
    pgr_status status = PGR_OK;
    memset(v->starts, 0, (v->s.count + 1) * sizeof *v->starts);
    for (size_t i = 0; status == PGR_OK && i < v->s.count && v->starts[i] <= v->limit; i++) {
        const uint32_t at = v->starts[i];
        v->starts[i + 1] = at;
        if (!v->reached[i])
            continue;
        const active_pair o = operands_of(v, i);
        const uint32_t m = length(v, o.a), n = length(v, o.b);
        status = reserve(v, (uint64_t)at + m + n + 1);
        if (status == PGR_OK)
            v->starts[i + 1] += merge(v->variables + at, v->variables + start(v, o.a), m,
                                      v->variables + start(v, o.b), n, v->variable[i]);
        if (status == PGR_OK && i % TAPE_ASK_EVERY == 0)
            status = pgr__ask(v->tape);
    }
    return status;
}

/* Marks the entries of operand `o` for the variables that node i needs. */
static void need(vectors *v, size_t i, size_t o)
{
    uint32_t k = start(v, o);
    const uint32_t last = k + length(v, o);
    for (uint32_t e = v->starts[i]; e < v->starts[i + 1] && k < last; e++)
        if (v->variables[e] == v->variables[k])
            v->needed[k++] |= v->needed[e];
}

static pgr_status find_needed(vectors *v, size_t root_count, const pgr_id *roots, int lower)
{
    const size_t total = (size_t)v->starts[v->s.count] + 1;
    v->needed = tape_resize(v->tape, NULL, total);
    v->tangents = tape_resize(v->tape, NULL, total * sizeof *v->tangents);
    if (v->needed == NULL || v->tangents == NULL)
        return PGR_ERR_NOMEM;
    memset(v->needed, 0, total);
    memset(v->tangents, 0, total * sizeof *v->tangents);
    for (size_t k = 0; k < root_count; k++) {
        const size_t i = roots[k] - v->s.first;
        if (sheet_is_active(&v->s, roots[k]))
            for (uint32_t e = v->starts[i]; e < v->starts[i + 1] && (!lower || v->variables[e] <= k); e++)
                v->needed[e] = 1;
    }
    for (size_t i = v->s.count; i-- > 0;) {
        const active_pair o = operands_of(v, i);
        if (o.a != 0)
            need(v, i, o.a);
        if (o.b != 0)
            need(v, i, o.b);
    }
    return PGR_OK;
}

/* ---- Forward: their nodes --------------------------------------------------------------------------------- */

/* The tangent of a vector by `variable`; `*at` moves up to it. */
static pgr_id tangent_at(const vectors *v, size_t node, uint32_t *at, uint32_t variable)
{
    const uint32_t last = start(v, node) + length(v, node);
    while (*at < last && v->variables[*at] < variable)
        ++*at;
    return *at < last && v->variables[*at] == variable ? v->tangents[*at] : 0;
}

static bool any_needed(const vectors *v, size_t i)
{
    for (uint32_t e = v->starts[i]; e < v->starts[i + 1]; e++)
        if (v->needed[e])
            return true;
    return false;
}

static void record_tangents(recorder *e, vectors *v, size_t i)
{
    if (!any_needed(v, i))
        return;
    const active_pair o = operands_of(v, i);
    const pgr_id id = v->s.first + (pgr_id)i;
    pgr__recorder_at(e, id, i);
    const id_pair p = pgr__record_partials(e, id, o.a != 0, o.b != 0);
    uint32_t at_a = start(v, o.a), at_b = start(v, o.b);
    for (uint32_t k = v->starts[i]; k < v->starts[i + 1] && e->status == PGR_OK; k++) {
        if (!v->needed[k])
            continue;
        const pgr_id ta = tangent_at(v, o.a, &at_a, v->variables[k]), tb = tangent_at(v, o.b, &at_b, v->variables[k]);
        v->tangents[k] =
            v->variable[i] == v->variables[k] + 1 ? pgr__one(e) : pgr__tangent(e, &v->s, id, p, ta, tb);
    }
}

/* Copies the roots' vectors, without zeros. */
static pgr_status copy_rows(const vectors *v, size_t root_count, const pgr_id *roots, int lower, rows *out)
{
    pgr_status status = PGR_OK;
    for (size_t k = 0; k < root_count && status == PGR_OK; k++) {
        const size_t i = roots[k] - v->s.first;
        if (sheet_is_active(&v->s, roots[k]))
            for (uint32_t e = v->starts[i]; e < v->starts[i + 1] && status == PGR_OK; e++)
                if (v->tangents[e] != 0 && (!lower || v->variables[e] <= k)) /* others may need it above the diagonal */
                    status = add_entry(v->tape, out, v->variables[e], v->tangents[e]);
        out->matrix->starts[k + 1] = out->matrix->count;
    }
    return status;
}

static void record_forward(recorder *e, vectors *v, size_t root_count, const pgr_id *roots, int lower, rows *out)
{
    e->status = find_needed(v, root_count, roots, lower);
    for (size_t i = 0; i < v->s.count && e->status == PGR_OK; i++)
        record_tangents(e, v, i);
    if (e->status == PGR_OK)
        e->status = copy_rows(v, root_count, roots, lower, out);
}

/* ---- Reverse ------------------------------------------------------------------------------------- */

/* The nodes that a root depends on, as indices in the sheet. */
typedef struct {
    vectors *v;
    uint32_t *indices, *stamp; /* stamp[i] is the last root that met node i, counted from 1 */
    uint32_t count;
    id_pair *partials;
    uint8_t *has_partials;
    pgr_id *adjoint;
} sweeps;

static void meet(sweeps *w, size_t node, uint32_t root)
{
    if (node == 0 || w->stamp[node - 1] == root)
        return;
    w->stamp[node - 1] = root;
    w->indices[w->count++] = (uint32_t)node - 1;
}

static void find_below(sweeps *w, pgr_id root, uint32_t number)
{
    w->count = 0;
    if (sheet_is_active(&w->v->s, root))
        meet(w, (size_t)root - w->v->s.first + 1, number);
    for (uint32_t at = 0; at < w->count; at++) {
        const active_pair o = operands_of(w->v, w->indices[at]);
        meet(w, o.a, number);
        meet(w, o.b, number);
    }
}

static bool new_sweeps(sweeps *w, vectors *v)
{
    const size_t n = v->s.count + 1;
    *w = (sweeps){.v = v};
    w->indices = tape_resize(v->tape, NULL, n * sizeof *w->indices);
    w->stamp = tape_resize(v->tape, NULL, n * sizeof *w->stamp);
    w->partials = tape_resize(v->tape, NULL, n * sizeof *w->partials);
    w->has_partials = tape_resize(v->tape, NULL, n);
    w->adjoint = tape_resize(v->tape, NULL, n * sizeof *w->adjoint);
    if (w->indices == NULL || w->stamp == NULL || w->partials == NULL || w->has_partials == NULL || w->adjoint == NULL)
        return false;
    memset(w->stamp, 0, n * sizeof *w->stamp);
    memset(w->has_partials, 0, n);
    memset(w->adjoint, 0, n * sizeof *w->adjoint);
    return true;
}

static void free_sweeps(sweeps *w)
{
    tape_resize(w->v->tape, w->indices, 0);
    tape_resize(w->v->tape, w->stamp, 0);
    tape_resize(w->v->tape, w->partials, 0);
    tape_resize(w->v->tape, w->has_partials, 0);
    tape_resize(w->v->tape, w->adjoint, 0);
}

/* Nodes to visit in all sweeps; counts no further than just above `limit`. */
static pgr_status count_visits(sweeps *w, size_t root_count, const pgr_id *roots, uint64_t limit, uint64_t *visits)
{
    pgr_status status = PGR_OK;
    *visits = 0;
    memset(w->stamp, 0, (w->v->s.count + 1) * sizeof *w->stamp);
    for (size_t k = 0; k < root_count && *visits <= limit && status == PGR_OK; k++) {
        find_below(w, roots[k], (uint32_t)k + 1);
        *visits += w->count;
        status = pgr__ask(w->v->tape);
    }
    memset(w->stamp, 0, (w->v->s.count + 1) * sizeof *w->stamp);
    return status;
}

static int descending(const void *p, const void *q)
{
    const uint32_t a = *(const uint32_t *)p, b = *(const uint32_t *)q;
    return (a < b) - (a > b);
}

static void visit(recorder *e, sweeps *w, size_t i)
{
    const active_pair o = operands_of(w->v, i);
    const pgr_id id = w->v->s.first + (pgr_id)i, g = w->adjoint[i];
    if (g == 0 || (o.a == 0 && o.b == 0))
        return;
    if (!w->has_partials[i]) {
        pgr__recorder_at(e, id, i);
        w->partials[i] = pgr__record_partials(e, id, o.a != 0, o.b != 0);
        w->has_partials[i] = 1;
    }
    if (o.a != 0)
        w->adjoint[o.a - 1] = pgr__plus(e, w->adjoint[o.a - 1], pgr__times(e, g, w->partials[i].da));
    if (o.b != 0)
        w->adjoint[o.b - 1] = pgr__plus(e, w->adjoint[o.b - 1], pgr__times(e, g, w->partials[i].db));
}

static int ascending(const void *p, const void *q) { return descending(q, p); }

/* Sweeps from root k; writes the numbers of the variables whose adjoints there are, ascending, to `indices`. */
static uint32_t sweep_from(recorder *e, sweeps *w, const pgr_id *roots, size_t k, int lower)
{
    vectors *const v = w->v;
    uint32_t found = 0;
    find_below(w, roots[k], (uint32_t)k + 1);
    qsort(w->indices, w->count, sizeof *w->indices, descending);
    if (w->count > 0)
        w->adjoint[w->indices[0]] = pgr__one(e);
    for (uint32_t at = 0; at < w->count; at++) {
        const uint32_t i = w->indices[at], variable = v->variable[i];
        visit(e, w, i);
        if (variable != 0 && w->adjoint[i] != 0 && (!lower || variable - 1 <= k))
            w->indices[found++] = variable - 1;
        else
            w->adjoint[i] = 0;
    }
    qsort(w->indices, found, sizeof *w->indices, ascending);
    return found;
}

static void record_reverse(recorder *e, sweeps *w, size_t root_count, const pgr_id *roots, const pgr_id *wrt, int lower,
                           rows *out)
{
    for (size_t k = 0; k < root_count && e->status == PGR_OK; k++) {
        const uint32_t found = sweep_from(e, w, roots, k, lower);
        for (uint32_t at = 0; at < found && e->status == PGR_OK; at++) {
            const uint32_t variable = w->indices[at];
            pgr_id *const adjoint = &w->adjoint[wrt[variable] - w->v->s.first];
            e->status = add_entry(w->v->tape, out, variable, *adjoint);
            *adjoint = 0;
        }
        out->matrix->starts[k + 1] = out->matrix->count;
    }
}

/* ---- The cheaper way ----------------------------------------------------------------------------- */

/* Finds the vectors' variables, or that sweeps are cheaper. Lanes need vectors: PGR_ERR_FULL if these are long. */
static pgr_status choose(vectors *v, sweeps *w, size_t root_count, const pgr_id *roots, bool *is_reverse)
{
    *is_reverse = false;
    v->limit = (v->has_lanes ? 16 : 4) * (uint64_t)v->s.count;
    for (;;) {
        const pgr_status status = find_variables(v);
        if (status != PGR_OK || v->starts[v->s.count] != 0 || v->s.count == 0)
            return status;
        if (v->has_lanes)
            return PGR_ERR_FULL;
        uint64_t visits;
        const pgr_status counted = count_visits(w, root_count, roots, v->limit, &visits);
        *is_reverse = counted == PGR_OK && visits <= v->limit;
        if (counted != PGR_OK || *is_reverse)
            return counted;
        v->limit *= 4;
    }
}

pgr_status pgr_jacobian(pgr_tape *tape, size_t root_count, const pgr_id *roots, size_t wrt_count, const pgr_id *wrt,
                        int lower, pgr_sparse *out, pgr_id **ids, pgr_id *bad)
{
    *out = (pgr_sparse){0};
    vectors v = {.tape = tape};
    sweeps w = {.v = &v};
    rows r = {.matrix = out};
    recorder e = pgr__recorder_begin(tape);
    bool is_reverse = false;
    out->starts = tape_resize(tape, NULL, (root_count + 1) * sizeof *out->starts);
    if (out->starts == NULL || !new_vectors(&v, wrt_count, wrt, root_count, roots) || !new_sweeps(&w, &v))
        e.status = PGR_ERR_NOMEM;
    else
        memset(out->starts, 0, (root_count + 1) * sizeof *out->starts);
    if (e.status == PGR_OK)
        e.status = choose(&v, &w, root_count, roots, &is_reverse);
    if (e.status == PGR_OK && is_reverse)
        record_reverse(&e, &w, root_count, roots, wrt, lower, &r);
    else if (e.status == PGR_OK)
        record_forward(&e, &v, root_count, roots, lower, &r);
    free_sweeps(&w);
    free_vectors(&v);
    const pgr_status status = pgr__recorder_end(&e, bad);
    if (status != PGR_OK) {
        pgr_sparse_free(tape, out);
        tape_resize(tape, r.ids, 0);
        r.ids = NULL;
    }
    *ids = r.ids;
    return status;
}

void pgr_sparse_free(pgr_tape *tape, pgr_sparse *matrix)
{
    tape_resize(tape, matrix->starts, 0);
    tape_resize(tape, matrix->columns, 0);
    tape_resize(tape, matrix->values, 0);
    *matrix = (pgr_sparse){0};
}
