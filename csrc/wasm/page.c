/* page.c: the engine as pages in a browser call it. JavaScript holds ids and reads nodes where they are: they never
 * move here, since nothing collects. */
#include "tape/tape.h"

#include <stdlib.h>
#include <string.h>

#ifndef PAGE_BUILT_FROM /* by the Makefile */
#define PAGE_BUILT_FROM "unknown sources"
#endif
#if defined(__wasm__)
#define EXPORT(name) __attribute__((export_name(#name)))
#else
#define EXPORT(name)
#endif

EXPORT(page_built_from) const char *page_built_from(void) { return "built from " PAGE_BUILT_FROM; }

EXPORT(page_memory) void *page_memory(size_t size) { return malloc(size); }
EXPORT(page_release) void page_release(void *p) { free(p); }

/* The op of this name, or -1: numbers may differ between this build and the package's. */
EXPORT(page_op) int page_op(const char *name)
{
    for (int op = 0; op < pgr_op_count(); op++)
        if (strcmp(pgr_op_row(op)->name, name) == 0)
            return op;
    return -1;
}

EXPORT(page_has_param) int page_has_param(int op) { return pgr_op_row(op)->kind == PGR_KIND_PARAM; }
EXPORT(page_param) double page_param(int op) { return pgr_op_row(op)->param_default; }
EXPORT(page_rule) const char *page_rule(int op) { return pgr_op_row(op)->rule; }

EXPORT(page_tape) pgr_tape *page_tape(void) { return pgr_tape_new(NULL); }
EXPORT(page_free) void page_free(pgr_tape *tape) { pgr_tape_free(tape); }
EXPORT(page_nodes) const pgr_node *page_nodes(const pgr_tape *tape) { return tape->nodes; }
EXPORT(page_size) uint32_t page_size(const pgr_tape *tape) { return tape->size; }

/* Each returns the new node's id, 0 when out of memory. Outside of an op's domain the number is IEEE 754's. */
EXPORT(page_leaf) pgr_id page_leaf(pgr_tape *tape, double value)
{
    pgr_id id = 0;
    pgr_leaf(tape, value, &id);
    return id;
}

EXPORT(page_record) pgr_id page_record(pgr_tape *tape, int op, pgr_id lhs, pgr_id rhs)
{
    pgr_id id = 0;
    pgr__record_ieee(tape, op, lhs, rhs, &id);
    return id;
}

EXPORT(page_dot) pgr_id page_dot(pgr_tape *tape, size_t n, const pgr_id *w, const pgr_id *x, pgr_id b)
{
    pgr_id id = 0;
    pgr_dot(tape, n, w, x, b, &id);
    return id;
}

/* Records n nodes, the operands as ids; leaves have none. Returns the first one's id, 0 when out of memory. */
EXPORT(page_record_all)
pgr_id page_record_all(pgr_tape *tape, uint32_t n, const uint8_t *ops, const pgr_id *lhs, const pgr_id *rhs,
                       const double *values)
{
    if (pgr__make_room(tape, n) != PGR_OK)
        return 0;
    const pgr_id first = tape->size;
    for (uint32_t i = 0; i < n; i++)
        tape_append(tape, ops[i], values[i], lhs[i], rhs[i]);
    return first;
}

/* What stopped being defined in the last replay: the first such node's id, and its status. */
static pgr_id failed;
static pgr_status failed_status;
EXPORT(page_failed) pgr_id page_failed(void) { return failed; }

/* op(a, b) without a node; see page_failed_status. */
EXPORT(page_op_value) double page_op_value(int op, double a, double b)
{
    double value = 0.0;
    failed_status = ops_eval(op, a, b, &value);
    return value;
}

EXPORT(page_failed_status) int page_failed_status(void) { return (int)failed_status; }

/* Computes the numbers of the nodes from `first` up to `end` again, from their operands' present numbers. */
EXPORT(page_replay) void page_replay(pgr_tape *tape, pgr_id first, pgr_id end)
{
    pgr_node *const nodes = tape->nodes;
    failed = 0;
    for (pgr_id id = first; id < end; id++) {
        pgr_node *const node = &nodes[id];
        if (node->lhs == 0)
            continue;
        const double a = nodes[node->lhs].data, b = nodes[node->rhs].data;
        if (ops_is_linear(node->op)) {
            node->data = ops_linear(node->op, a, b);
            continue;
        }
        const pgr_status status = ops_eval(node->op, a, b, &node->data);
        if (status != PGR_OK && failed == 0) {
            failed = id;
            failed_status = status;
        }
    }
}

/* Sets the grads from `first` up to `end` to 0, then sweeps from `root`. */
EXPORT(page_backward) int page_backward(pgr_tape *tape, pgr_id first, pgr_id end, pgr_id root)
{
    for (pgr_id id = first; id < end; id++)
        tape->nodes[id].grad = 0.0;
    return (int)pgr_backward(tape, root);
}

EXPORT(page_partials) void page_partials(const pgr_tape *tape, pgr_id id, double *out) { pgr_partials(tape, id, out); }

/* (root at x + h - root at x - h) / 2h for a node whose number is x. Afterwards all numbers are as before. */
EXPORT(page_difference) double page_difference(pgr_tape *tape, pgr_id id, pgr_id root, double h)
{
    pgr_node *const node = &tape->nodes[id];
    const double x = node->data, above = x + h, below = x - h;
    node->data = above;
    page_replay(tape, id + 1, root + 1);
    const double high = tape->nodes[root].data;
    node->data = below;
    page_replay(tape, id + 1, root + 1);
    const double low = tape->nodes[root].data;
    node->data = x;
    page_replay(tape, id + 1, root + 1);
    return (high - low) / (above - below);
}

/* params[i].data -= rate * params[i].grad: a step of gradient descent, as Python computes it. */
EXPORT(page_descend) void page_descend(pgr_tape *tape, size_t n, const pgr_id *params, double rate)
{
    for (size_t i = 0; i < n; i++) {
        pgr_node *const p = &tape->nodes[params[i]];
        p->data -= rate * p->grad;
    }
}
