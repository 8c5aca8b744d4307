/* optim.c: updates of many nodes' data from their grads, each a call that takes the lock once. */
#include "tape.h"

/* Runs `statement` for every node, as `node` and `i`, once all handles are known to be good. */
#define ON_NODES(statement) \
    const int token = pgr__enter(tape); \
    pgr_status status = PGR_OK; \
    for (size_t i = 0; i < n && status == PGR_OK; i++) \
        if (pgr__node(tape, nodes[i]) == NULL) \
            status = PGR_ERR_HANDLE; \
    for (size_t i = 0; i < n && status == PGR_OK; i++) { \
        pgr_node *const node = pgr__node(tape, nodes[i]); \
        statement; \
    } \
    pgr__leave(tape, token); \
    return status

pgr_status pgr_h_zero_grads(pgr_tape *tape, size_t n, const pgr_handle *nodes) { ON_NODES(node->grad = 0.0); }

static inline void sgd(const pgr_sgd *o, uint64_t step, pgr_node *node, double *buffer)
{
    double g = o->maximize ? -node->grad : node->grad;
    if (o->weight_decay != 0.0)
        g += o->weight_decay * node->data;
    if (buffer != NULL) {
        *buffer = step <= 1 ? g : o->momentum * *buffer + (1.0 - o->dampening) * g;
        g = o->nesterov ? g + o->momentum * *buffer : *buffer;
    }
    node->data -= o->lr * g;
}

pgr_status pgr_h_sgd(pgr_tape *tape, size_t n, const pgr_handle *nodes, const pgr_sgd *options, uint64_t step, double *buffer)
{
    ON_NODES(sgd(options, step, node, buffer == NULL ? NULL : &buffer[i]));
}

typedef struct {
    double step_size, root_c2; /* both corrected for the moments' start at zero */
} adam_scales;

static inline void adam(const pgr_adam *o, adam_scales s, pgr_node *node, double *m, double *v, double *v_max)
{
    double g = o->maximize ? -node->grad : node->grad;
    if (o->decoupled)
        node->data *= 1.0 - o->lr * o->weight_decay;
    else if (o->weight_decay != 0.0)
        g += o->weight_decay * node->data;
    *m += (g - *m) * (1.0 - o->beta1);
    *v = *v * o->beta2 + g * g * (1.0 - o->beta2);
    double second = *v;
    if (v_max != NULL)
        second = *v_max = *v_max > second ? *v_max : second;
    node->data -= s.step_size * (*m / (sqrt(second) / s.root_c2 + o->eps));
}

pgr_status pgr_h_adam(pgr_tape *tape, size_t n, const pgr_handle *nodes, const pgr_adam *options, uint64_t step, double *m,
                      double *v, double *v_max)
{
    const double t = (double)step;
    const adam_scales s = {options->lr / (1.0 - pow(options->beta1, t)), sqrt(1.0 - pow(options->beta2, t))};
    ON_NODES(adam(options, s, node, &m[i], &v[i], v_max == NULL ? NULL : &v_max[i]));
}
