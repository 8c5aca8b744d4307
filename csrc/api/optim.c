/* optim.c: optimisers' steps: each updates many nodes' data from their grads, and takes the lock once. */
#include "tape/slots.h"

/* Runs `statement` for every node, as `node` and `i`, after checking all handles. */
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

static inline void sgd(const pgr_sgd *o, uint64_t step, double *data, double grad, double *buffer)
{
    double g = o->maximize ? -grad : grad;
    if (o->weight_decay != 0.0)
        g += o->weight_decay * *data;
    if (buffer != NULL) {
        *buffer = step <= 1 ? g : o->momentum * *buffer + (1.0 - o->dampening) * g;
        g = o->nesterov ? g + o->momentum * *buffer : *buffer;
    }
    *data -= o->lr * g;
}

pgr_status pgr_h_sgd(pgr_tape *tape, size_t n, const pgr_handle *nodes, const pgr_sgd *options, uint64_t step,
                     double *buffer)
{
    ON_NODES(sgd(options, step, &node->data, node->grad, buffer == NULL ? NULL : &buffer[i]));
}

void pgr_sgd_array(size_t n, double *data, const double *grad, const pgr_sgd *options, uint64_t step, double *buffer)
{
    for (size_t i = 0; i < n; i++)
        sgd(options, step, &data[i], grad[i], buffer == NULL ? NULL : &buffer[i]);
}

typedef struct {
    double step_size, root_c2; /* bias-corrected */
} adam_scales;

static adam_scales scales_of(const pgr_adam *o, uint64_t step)
{
    const double t = (double)step;
    return (adam_scales){o->lr / (1.0 - pow(o->beta1, t)), sqrt(1.0 - pow(o->beta2, t))};
}

static inline void adam(const pgr_adam *o, adam_scales s, double *data, double grad, double *m, double *v,
                        double *v_max)
{
    double g = o->maximize ? -grad : grad;
    if (o->decoupled)
        *data *= 1.0 - o->lr * o->weight_decay;
    else if (o->weight_decay != 0.0)
        g += o->weight_decay * *data;
    *m += (g - *m) * (1.0 - o->beta1);
    *v = *v * o->beta2 + g * g * (1.0 - o->beta2);
    double second = *v;
    if (v_max != NULL)
        second = *v_max = *v_max > second ? *v_max : second;
    *data -= s.step_size * (*m / (sqrt(second) / s.root_c2 + o->eps));
}

pgr_status pgr_h_adam(pgr_tape *tape, size_t n, const pgr_handle *nodes, const pgr_adam *options, uint64_t step,
                      double *m, double *v, double *v_max)
{
    const adam_scales s = scales_of(options, step);
    ON_NODES(adam(options, s, &node->data, node->grad, &m[i], &v[i], v_max == NULL ? NULL : &v_max[i]));
}

void pgr_adam_array(size_t n, double *data, const double *grad, const pgr_adam *options, uint64_t step, double *m,
                    double *v, double *v_max)
{
    const adam_scales s = scales_of(options, step);
    for (size_t i = 0; i < n; i++)
        adam(options, s, &data[i], grad[i], &m[i], &v[i], v_max == NULL ? NULL : &v_max[i]);
}
