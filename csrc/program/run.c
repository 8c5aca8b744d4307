/* run.c: runs programs.
 *
 * Uniform segments run through a switch, one number per instruction. Lane segments take one block of lanes at a time
 * through all their instructions, one dispatch per instruction, so that the block stays in the cache; their loops are
 * in lanes.h, compiled for several instruction sets. Workers take blocks in spans. The number of spans does not depend
 * on the number of workers, and each span has sums of its own, which are added in order: so results don't either. */

/* Lanes may fuse a multiply and an add, and nobody reads errno. LANES_IN_PLACE: a result's block may be an operand's,
 * but lanes are independent. */
#if defined(__clang__)
#pragma clang fp contract(fast)
#pragma clang diagnostic ignored "-Wpass-failed" /* a loop with a call in it stays as it is */
#define LANES_IN_PLACE _Pragma("clang loop vectorize(assume_safety)")
#define UNROLLED       _Pragma("clang loop unroll(full)")
#elif defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast", "no-math-errno", "no-trapping-math")
#define LANES_IN_PLACE _Pragma("GCC ivdep")
#define UNROLLED       _Pragma("GCC unroll 16")
#else
#define LANES_IN_PLACE
#define UNROLLED
#endif

#include "program/vecmath.h"
#include "program/program.h"

#include <string.h>

#if defined(_WIN32)
#define PGR_NO_THREADS /* one worker */
#else
#include <pthread.h>
#endif

/* One block of lanes in a lane segment. */
typedef struct {
    const pgr_program *program;
    const segment *segment;
    const double *uniform;
    double *sums;            /* the segment's */
    double *lanes;           /* registers, `stride` numbers each */
    double *spare;           /* two blocks, for uniform operands */
    size_t stride;
    const double *const *in;
    double *const *out;
    uint64_t first;          /* lane */
    size_t count, padded;    /* lanes; rounded up to a multiple of LANE_CHUNK */
} block;

enum { LANE_CHUNK = 8, SPANS = 32, SPARE_BLOCKS = 2 };

#define LANES(name) name##_plain
#define LANES_TARGET
#if defined(__GNUC__)
#define LANES_VECTOR 2
#define LANES_WIDE   12
#else
#define LANES_VECTOR 1
#define LANES_WIDE   8
#endif
#include "program/lanes.h"
#undef LANES
#undef LANES_TARGET
#undef LANES_VECTOR
#undef LANES_WIDE

#if defined(__GNUC__) && defined(__x86_64__)
#define LANES(name)  name##_avx2
#define LANES_TARGET __attribute__((target("avx2,fma")))
#define LANES_VECTOR 4
#define LANES_WIDE   12
#include "program/lanes.h"
#undef LANES
#undef LANES_TARGET
#undef LANES_VECTOR
#undef LANES_WIDE
#define LANES(name)  name##_avx512
#if defined(__clang__)
#define LANES_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma")))
#else
#define LANES_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")))
#endif
#define LANES_VECTOR 8
#define LANES_WIDE   16
#include "program/lanes.h"
#undef LANES
#undef LANES_TARGET
#undef LANES_VECTOR
#undef LANES_WIDE
#endif

/* The code for one instruction set. */
typedef struct {
    void (*run_block)(const block *b);
    void (*apply)(int op, const double *x, const double *y, double *out, size_t n);
} kernels;

/* The best that this processor has, up to `most`. */
static kernels best_kernels(pgr_kernels most)
{
    (void)most;
#if defined(__GNUC__) && defined(__x86_64__)
    if ((most == PGR_KERNELS_BEST || most >= PGR_KERNELS_AVX512) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return (kernels){run_block_avx512, apply_avx512};
    if ((most == PGR_KERNELS_BEST || most >= PGR_KERNELS_AVX2) && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("fma"))
        return (kernels){run_block_avx2, apply_avx2};
#endif
    return (kernels){run_block_plain, apply_plain};
}

/* One call of pgr_program_run. */
typedef struct {
    const pgr_program *program;
    const double *const *in;
    double *const *out;
    const pgr_run_options *options;
    kernels kernels;
    double *uniform, *span_sums, *lanes;
    size_t lanes_each; /* numbers in a worker's registers and spare blocks */
    uint64_t work;     /* since the last call of `stop` */
    volatile int stopped;
    /* The present segment: */
    const segment *segment;
    unsigned spans, next_span;
#if !defined(PGR_NO_THREADS)
    pthread_mutex_t lock;
#endif
} evaluation;

/* Calls `stop` now and then. For the caller's thread. */
enum { ASK_EVERY = 1 << 22 };
static bool is_stopped(evaluation *e, uint64_t work)
{
    e->work += work;
    if (PGR_UNLIKELY(e->work >= ASK_EVERY) && e->options != NULL && e->options->stop != NULL) {
        e->work = 0;
        if (e->options->stop(e->options->ctx) != 0)
            e->stopped = 1;
    }
    return e->stopped != 0;
}

/* ---- Uniform segments ---------------------------------------------------------------------------- */

static double term(const uint32_t *arg, const double *u)
{
    return arg[1] == REGISTER_NONE ? u[arg[0]] : u[arg[0]] * u[arg[1]];
}

/* Sums long dots in four parts, which hides the latency of additions. */
static double uniform_dot(const pgr_program *p, const instruction *i, const double *u)
{
    const program_dot dot = p->dots[i->b];
    const uint32_t *arg = &p->args[dot.first];
    const uint32_t *const end = arg + 2 * dot.count;
    double sum = i->a == REGISTER_NONE ? -0.0 : u[i->a];
    if (dot.count >= 16) {
        double part[4] = {sum, -0.0, -0.0, -0.0};
        for (; end - arg >= 8; arg += 8)
            for (int k = 0; k < 4; k++)
                part[k] += term(arg + 2 * k, u);
        sum = (part[0] + part[1]) + (part[2] + part[3]);
    }
    for (; arg < end; arg += 2)
        sum += term(arg, u);
    return sum;
}

/* Runs `count` independent instructions of one op. */
static void run_alike(const kernels *kernels, const instruction *i, uint32_t count, double *u)
{
    enum { MOST = 64 };
    double x[MOST], y[MOST], out[MOST];
    for (const instruction *const end = i + count; i < end;) {
        const size_t n = end - i < MOST ? (size_t)(end - i) : MOST;
        const size_t padded = (n + LANE_CHUNK - 1) / LANE_CHUNK * LANE_CHUNK;
        for (size_t k = 0; k < n; k++)
            x[k] = u[i[k].a];
        for (size_t k = n; k < padded; k++)
            x[k] = x[n - 1];
        if (i->b != REGISTER_NONE) {
            for (size_t k = 0; k < n; k++)
                y[k] = u[i[k].b];
            for (size_t k = n; k < padded; k++)
                y[k] = y[n - 1];
        }
        kernels->apply((int)i->op, x, i->b != REGISTER_NONE ? y : x, out, padded);
        for (size_t k = 0; k < n; k++)
            u[i[k].out] = out[k];
        i += n;
    }
}

/* Runs to `end` or beyond, and returns where it stopped. */
static const instruction *run_uniform_part(evaluation *e, const instruction *i, const instruction *end)
{
    const pgr_program *const p = e->program;
    double *const u = e->uniform;
    while (i < end) {
        switch (i->op) {
#define PGR_TWO_UNARY  0
#define PGR_TWO_CUT    0
#define PGR_TWO_BINARY 1
#define PGR_TWO_PARAM  1
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
        case PGR_OP_##ID: \
            do { \
                const double a = u[i->a], b = PGR_TWO_##KIND ? u[i->b] : 0.0; \
                (void)b; \
                u[i->out] = (value); \
                i++; \
            } while (i < end && i->op == PGR_OP_##ID); \
            break;
        PGR_OPS(X)
#undef X
        case PROGRAM_DOT:
            do {
                u[i->out] = uniform_dot(p, i, u);
                i++;
            } while (i < end && i->op == PROGRAM_DOT);
            break;
        case PROGRAM_RUN:
            run_alike(&e->kernels, i + 1, i->a, u);
            i += i->a + 1;
            break;
        default: i++; /* does not occur */
        }
    }
    return i;
}

static void run_uniform(evaluation *e, const segment *s)
{
    const instruction *i = e->program->instructions + s->first, *const end = i + s->count;
    while (i < end && !is_stopped(e, end - i < ASK_EVERY ? (uint64_t)(end - i) : ASK_EVERY))
        i = run_uniform_part(e, i, end - i < ASK_EVERY ? end : i + ASK_EVERY);
}

/* ---- Lane segments -------------------------------------------------------------------------------- */

static uint64_t blocks_of(const pgr_program *p, const segment *s)
{
    return (p->group_lanes[s->group] + p->block - 1) / p->block;
}

/* Not a power of two for whole blocks, so that lane registers don't compete for the same cache lines. */
static size_t stride_of(const pgr_program *p, uint64_t lanes)
{
    const size_t most = lanes < p->block ? (size_t)lanes : p->block;
    const size_t stride = (most + LANE_CHUNK - 1) / LANE_CHUNK * LANE_CHUNK;
    return stride % 64 == 0 ? stride + LANE_CHUNK : stride;
}

static void run_span(evaluation *e, unsigned span, double *lanes, bool is_caller)
{
    const pgr_program *const p = e->program;
    const segment *const s = e->segment;
    const uint64_t count = p->group_lanes[s->group], blocks = blocks_of(p, s);
    const uint64_t from = blocks * span / e->spans, to = blocks * (span + 1) / e->spans;
    block b = {.program = p, .segment = s, .uniform = e->uniform, .lanes = lanes, .in = e->in, .out = e->out};
    b.stride = stride_of(p, count);
    b.spare = lanes + (size_t)p->lane_registers * b.stride;
    b.sums = e->spans == 1 ? e->uniform + s->first_sum : e->span_sums + (size_t)span * s->sum_count;
    memset(b.sums, 0, s->sum_count * sizeof *b.sums);
    for (uint64_t k = from; k < to; k++) {
        b.first = k * p->block;
        b.count = (size_t)(count - b.first < p->block ? count - b.first : p->block);
        b.padded = (b.count + LANE_CHUNK - 1) / LANE_CHUNK * LANE_CHUNK;
        if (is_caller ? is_stopped(e, (uint64_t)s->count * b.count) : e->stopped != 0)
            return;
        e->kernels.run_block(&b);
    }
}

static unsigned take_span(evaluation *e)
{
#if defined(PGR_NO_THREADS)
    return e->next_span++;
#else
    pthread_mutex_lock(&e->lock);
    const unsigned span = e->next_span++;
    pthread_mutex_unlock(&e->lock);
    return span;
#endif
}

static void run_spans(evaluation *e, double *lanes, bool is_caller)
{
    for (unsigned span; (span = take_span(e)) < e->spans && e->stopped == 0;)
        run_span(e, span, lanes, is_caller);
}

#if !defined(PGR_NO_THREADS)
typedef struct {
    evaluation *evaluation;
    double *lanes;
    pthread_t thread;
} worker;

static void *work(void *arg)
{
    const worker *const w = arg;
    run_spans(w->evaluation, w->lanes, false);
    return NULL;
}
#endif

static void run_lanes(evaluation *e, const segment *s, unsigned workers)
{
    const uint64_t blocks = blocks_of(e->program, s);
    e->segment = s;
    e->spans = blocks < SPANS ? (unsigned)blocks : SPANS;
    e->next_span = 0;
    if (e->spans == 1) {
        run_span(e, 0, e->lanes, true);
        return;
    }
#if !defined(PGR_NO_THREADS)
    worker others[PGR_MAX_WORKERS];
    unsigned started = 0;
    for (; started + 1 < workers && started + 1 < e->spans; started++) {
        worker *const w = &others[started];
        *w = (worker){.evaluation = e, .lanes = e->lanes + (started + 1) * e->lanes_each};
        if (pthread_create(&w->thread, NULL, work, w) != 0)
            break; /* fewer threads do the work */
    }
#endif
    run_spans(e, e->lanes, true);
#if !defined(PGR_NO_THREADS)
    for (unsigned k = 0; k < started; k++)
        pthread_join(others[k].thread, NULL);
#endif
    double *const sums = e->uniform + s->first_sum;
    memset(sums, 0, s->sum_count * sizeof *sums);
    for (unsigned span = 0; span < e->spans; span++)
        for (uint32_t k = 0; k < s->sum_count; k++)
            sums[k] += e->span_sums[(size_t)span * s->sum_count + k];
}

/* ---- A run ------------------------------------------------------------------------------------------ */

static void run_segments(evaluation *e, unsigned workers)
{
    const pgr_program *const p = e->program;
    memcpy(e->uniform, p->constants, p->constant_count * sizeof *e->uniform);
    for (uint32_t i = 0; i < p->input_count; i++) {
        const uniform_input input = p->inputs[i];
        const double *const from = e->in[input.array] + input.offset;
        for (uint64_t k = 0; k < input.count; k++)
            e->uniform[input.reg + k] = from[k];
    }
    for (uint32_t s = 0; s < p->segment_count && e->stopped == 0; s++) {
        if (p->segments[s].group == UINT32_MAX)
            run_uniform(e, &p->segments[s]);
        else
            run_lanes(e, &p->segments[s], workers);
    }
    const uint32_t *reg = p->output_registers;
    for (uint32_t i = 0; i < p->output_run_count; i++) {
        double *const to = e->out[p->output_runs[i].array] + p->output_runs[i].offset;
        for (uint64_t k = 0; k < p->output_runs[i].count; k++)
            to[k] = e->uniform[*reg++];
    }
}

pgr_status pgr_program_run(const pgr_program *program, const double *const *in, double *const *out,
                           const pgr_run_options *options)
{
    enum { ON_STACK = 512, ALIGN = 8 };
    const pgr_program *const p = program;
    unsigned workers = options == NULL || options->workers == 0 ? 1 : options->workers;
    uint64_t most_lanes = 0;
    size_t most_sums = 0;
    for (uint32_t s = 0; s < p->segment_count; s++)
        if (p->segments[s].group != UINT32_MAX) {
            const uint64_t lanes = p->group_lanes[p->segments[s].group];
            most_lanes = lanes > most_lanes ? lanes : most_lanes;
            if (lanes > p->block && p->segments[s].sum_count > most_sums)
                most_sums = p->segments[s].sum_count;
        }
    const uint64_t most_spans = most_lanes / p->block + 1;
    workers = workers > PGR_MAX_WORKERS ? PGR_MAX_WORKERS : workers > most_spans ? (unsigned)most_spans : workers;
    const size_t lane_arrays = (size_t)p->lane_registers + SPARE_BLOCKS;
    const size_t lanes_each = most_lanes == 0 ? 0 : lane_arrays * stride_of(p, most_lanes);
    const size_t numbers = workers * lanes_each + p->uniform_registers + SPANS * most_sums + ALIGN;
    double on_stack[ON_STACK], *memory = on_stack;
    if (numbers > ON_STACK) {
        memory = p->allocator.resize(p->allocator.ctx, NULL, numbers * sizeof *memory);
        if (memory == NULL)
            return PGR_ERR_NOMEM;
    }
    evaluation e = {.program = p, .in = in, .out = out, .options = options, .lanes_each = lanes_each};
    e.kernels = best_kernels(options == NULL ? PGR_KERNELS_BEST : options->kernels);
    e.lanes = (double *)(((uintptr_t)memory + 63) & ~(uintptr_t)63); /* whole cache lines */
    e.uniform = e.lanes + workers * lanes_each;
    e.span_sums = e.uniform + p->uniform_registers;
#if !defined(PGR_NO_THREADS)
    const bool locked = pthread_mutex_init(&e.lock, NULL) == 0;
    if (locked) {
        run_segments(&e, workers);
        pthread_mutex_destroy(&e.lock);
    }
#else
    const bool locked = true;
    run_segments(&e, workers);
#endif
    if (memory != on_stack)
        p->allocator.resize(p->allocator.ctx, memory, 0);
    return !locked ? PGR_ERR_NOMEM : e.stopped ? PGR_ERR_STOPPED : PGR_OK;
}
