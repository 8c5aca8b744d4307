/* evaluate.c: one run of a program: its memory, and its way through run.c and call.c. */
#include "program/run.h"

static void run(evaluation *e, unsigned workers)
{
    pgr__load_constants(e);
    pgr__load_inputs(e, 0);
    pgr__run_segments(e, workers);
    pgr__store_outputs(e);
}

pgr_status pgr_program_run(const pgr_program *program, const double *const *in, double *const *out,
                           const pgr_run_options *options)
{
    enum { ON_STACK = 2048 };
    const pgr_program *const p = program;
    const frame f = frame_of(p);
    unsigned workers = options == NULL || options->workers == 0 ? 1 : options->workers;
    const uint64_t most_spans = f.most_lanes / p->block + 1;
    workers = workers > PGR_MAX_WORKERS ? PGR_MAX_WORKERS : workers > most_spans ? (unsigned)most_spans : workers;
    const size_t numbers = f.numbers + (workers - 1) * f.lanes_each;
    double on_stack[ON_STACK], *memory = on_stack;
    if (numbers > ON_STACK || p->call_count > 0) { /* calls keep pointers there, too */
        memory = p->allocator.resize(p->allocator.ctx, NULL, numbers * sizeof *memory);
        if (memory == NULL)
            return PGR_ERR_NOMEM;
    }
    evaluation e = {.in = in, .out = out, .options = options, .root = &e};
    e.kernels = pgr__best_kernels(options == NULL ? PGR_KERNELS_BEST : options->kernels);
    e.kernels.call = pgr__run_call;
    e.kernels.lane_call = pgr__run_lane_call;
    evaluation_place(&e, p, &f, workers, memory);
    e.is_shared = workers > 1;
    const bool is_ready = !e.is_shared || mutex_make(&e.lock);
    if (is_ready)
        run(&e, workers);
    if (is_ready && e.is_shared)
        mutex_free(&e.lock);
    if (memory != on_stack)
        p->allocator.resize(p->allocator.ctx, memory, 0);
    return !is_ready ? PGR_ERR_NOMEM : e.stopped ? PGR_ERR_STOPPED : PGR_OK;
}
