/* children.c: see children.h. */
#include "python/children.h"

#include "python/object.h"

#define tape (pgr__layer.tape)

/* Takes holds on a node's operands, in order. `*slots` is `few`, or new memory if `capacity` is too small. Runs no
 * code. */
static pgr_status hold_operands(pgr_id id, bool with_param, uint32_t *few, size_t capacity, uint32_t **slots,
                                size_t *count)
{
    const operand_walk start = {id, !with_param && is_param(tape->nodes[id].op)};
    operand_walk walk = start;
    size_t n = 0;
    while (operand_next(tape->nodes, &walk) != 0)
        n++;
    *count = 0;
    *slots = n <= capacity ? few : PyMem_Malloc(n * sizeof **slots);
    if (*slots == NULL)
        return PGR_ERR_NOMEM;
    walk = start; /* they come last to first */
    for (size_t at = n; at > 0;) {
        const int64_t h = pgr_hold(tape, operand_next(tape->nodes, &walk));
        if (h < 0) {
            for (; at < n; at++)
                tape_release(tape, (*slots)[at], false);
            if (*slots != few)
                PyMem_Free(*slots);
            return (pgr_status)-h;
        }
        (*slots)[--at] = (uint32_t)h;
    }
    *count = n;
    return PGR_OK;
}

/* The objects of one or two operands, if they can be had without running code: their number, or -1. */
static int few_operands(pgr_id id, PyObject *values[2])
{
    const pgr_node node = tape->nodes[id];
    const pgr_id ids[2] = {node.lhs, is_param(node.op) ? 0 : node.rhs};
    int n = 0;
    if (tape->nodes[node.lhs].op == PGR_OP_PAIR)
        return -1;
    for (int i = 0; i < 2; i++) {
        if (ids[i] == 0)
            continue;
        values[n] = pgr__object_at(ids[i]);
        if (values[n] == NULL) {
            if (n > 0)
                Py_DECREF(values[0]);
            return -1;
        }
        n++;
    }
    return n;
}

bool pgr__each_operand(PyObject *self, bool with_param, bool (*take)(PyObject *into, PyObject *value), PyObject *into)
{
    uint32_t few[4], *slots = few;
    size_t n = 0;
    const pgr_id id = live_id(self);
    if (id == 0)
        return false;
    PyObject *values[2];
    const int quick = with_param ? -1 : few_operands(id, values);
    if (quick >= 0) {
        bool ok = true;
        for (int i = 0; i < quick; i++) {
            if (ok)
                ok = take(into, values[i]);
            else
                Py_DECREF(values[i]);
        }
        return ok;
    }
    const pgr_status status = hold_operands(id, with_param, few, sizeof few / sizeof *few, &slots, &n);
    if (status != PGR_OK) {
        pgr__raise(status);
        return false;
    }
    bool ok = true;
    for (size_t i = 0; i < n; i++) {
        if (!ok) {
            tape_release(tape, slots[i], false);
            continue;
        }
        PyObject *const value = pgr__object_of(slots[i]);
        ok = value != NULL && take(into, value);
    }
    if (slots != few)
        PyMem_Free(slots);
    return ok;
}

bool pgr__into_set(PyObject *set, PyObject *value)
{
    const int failed = PySet_Add(set, value);
    Py_DECREF(value);
    return !failed;
}

bool pgr__into_list(PyObject *list, PyObject *value)
{
    const int failed = PyList_Append(list, value);
    Py_DECREF(value);
    return !failed;
}
