/* run.c: evaluating programs.
 *
 * Uniform segments go through a switch, one instruction a number. Lane segments take a block of lanes
 * through all their instructions, one dispatch an instruction, so that what a block works on stays in the cache; their
 * loops are in lanes.h, compiled for each instruction set that is worth it. Blocks are dealt out to workers in
 * spans, whose number does not depend on who works: each span has its sums, which are added up in order. */
#if defined(__GNUC__)
/* Lanes may fuse a multiply and an add, and nobody asks for errno. */
#pragma GCC optimize("fp-contract=fast", "no-math-errno", "no-trapping-math")
#define LANES_IN_PLACE _Pragma("GCC ivdep") /* a result's block may be an operand's, but each lane its own */
#define UNROLLED       _Pragma("GCC unroll 16")
#else
#define LANES_IN_PLACE
#define UNROLLED
#endif

#include "vecmath.h"
#include "program.h"

#include <string.h>

#if defined(_WIN32)
#define PGR_NO_THREADS /* one worker */
#else
#include <pthread.h>
#endif

/* A lane segment's work: one block of lanes. */
typedef struct {
    const pgr_program *program;
    const segment *segment;
    const double *uniform;
    double *sums;            /* of the segment, from its first on */
    double *lanes;           /* slots, `stride` numbers each */
    double *spare;           /* two blocks, for operands that are the same in all lanes */
    size_t stride;
    const double *const *in;
    double *const *out;
    uint64_t first;          /* lane */
    size_t count, padded;    /* lanes; up to a multiple of LANE_CHUNK */
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
#include "lanes.h"
#undef LANES
#undef LANES_TARGET
#undef LANES_VECTOR
#undef LANES_WIDE

#if defined(__GNUC__) && defined(__x86_64__)
#define LANES(name)  name##_avx2
#define LANES_TARGET __attribute__((target("avx2,fma")))
#define LANES_VECTOR 4
#define LANES_WIDE   12
#include "lanes.h"
#undef LANES
#undef LANES_TARGET
#undef LANES_VECTOR
#undef LANES_WIDE
#define LANES(name)  name##_avx512
#define LANES_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")))
#define LANES_VECTOR 8
#define LANES_WIDE   16
#include "lanes.h"
#undef LANES
#undef LANES_TARGET
#undef LANES_VECTOR
#undef LANES_WIDE
#endif

typedef void (*run_block)(const block *b);

static run_block best_run_block(void)
{
#if defined(__GNUC__) && defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return run_block_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return run_block_avx2;
#endif
    return run_block_plain;
}

/* One call of pgr_program_run. */
typedef struct {
    const pgr_program *program;
    const double *const *in;
    double *const *out;
    const pgr_run_options *options;
    run_block run;
    double *uniform, *span_sums, *lanes;
    size_t lanes_each; /* numbers of a worker's slots and spare blocks */
    uint64_t work;     /* since the caller was last asked whether to stop */
    volatile int stopped;
    /* Of the segment under way: */
    const segment *segment;
    unsigned spans, next_span;
#if !defined(PGR_NO_THREADS)
    pthread_mutex_t lock;
#endif
} evaluation;

/* Asks now and then. For the thread that called. */
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

static double uniform_dot(const pgr_program *p, const instruction *i, const double *u)
{
    const program_dot dot = p->dots[i->b];
    const uint32_t *arg = &p->args[dot.first];
    double sum = i->a == SLOT_NONE ? -0.0 : u[i->a];
    for (const uint32_t *const end = arg + 2 * dot.count; arg < end; arg += 2)
        sum += arg[1] == SLOT_NONE ? u[arg[0]] : u[arg[0]] * u[arg[1]];
    return sum;
}

static void run_uniform_part(const pgr_program *p, const instruction *i, const instruction *end, double *u)
{
    for (; i < end; i++) {
        switch (i->op) {
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
        case PGR_OP_##ID: { \
            const double a = u[i->a], b = PGR_TWO_##KIND ? u[i->b] : 0.0; \
            (void)b; \
            u[i->out] = (value); \
            break; \
        }
#define PGR_TWO_UNARY  0
#define PGR_TWO_CUT    0
#define PGR_TWO_BINARY 1
#define PGR_TWO_PARAM  1
        PGR_OPS(X)
#undef X
        case PROGRAM_DOT: u[i->out] = uniform_dot(p, i, u); break;
        }
    }
}

static void run_uniform(evaluation *e, const segment *s)
{
    const pgr_program *const p = e->program;
    for (uint32_t done = 0; done < s->count;) {
        const uint32_t now = s->count - done < ASK_EVERY ? s->count - done : ASK_EVERY;
        if (is_stopped(e, now))
            return;
        run_uniform_part(p, p->instructions + s->first + done, p->instructions + s->first + done + now, e->uniform);
        done += now;
    }
}

/* ---- Lane segments -------------------------------------------------------------------------------- */

static uint64_t blocks_of(const pgr_program *p, const segment *s) { return (p->group_lanes[s->group] + p->block - 1) / p->block; }

/* Whole blocks of a stride that is no power of two, so that slots do not fight for the same cache lines. */
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
    b.spare = lanes + (size_t)p->lane_slots * b.stride;
    b.sums = e->spans == 1 ? e->uniform + s->first_sum : e->span_sums + (size_t)span * s->sum_count;
    memset(b.sums, 0, s->sum_count * sizeof *b.sums);
    for (uint64_t k = from; k < to; k++) {
        b.first = k * p->block;
        b.count = (size_t)(count - b.first < p->block ? count - b.first : p->block);
        b.padded = (b.count + LANE_CHUNK - 1) / LANE_CHUNK * LANE_CHUNK;
        if (is_caller ? is_stopped(e, (uint64_t)s->count * b.count) : e->stopped != 0)
            return;
        e->run(&b);
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
            break; /* those that there are do it */
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
    for (uint32_t i = 0; i < p->input_count; i++)
        e->uniform[p->inputs[i].slot] = e->in[p->inputs[i].array][p->inputs[i].offset];
    for (uint32_t s = 0; s < p->segment_count && e->stopped == 0; s++) {
        if (p->segments[s].group == UINT32_MAX)
            run_uniform(e, &p->segments[s]);
        else
            run_lanes(e, &p->segments[s], workers);
    }
    for (uint32_t i = 0; i < p->output_count; i++) {
        const pgr_output *const o = &p->outputs[i];
        if (o->node != SLOT_LANE)
            e->out[o->array][o->offset] = e->uniform[o->node];
    }
}

pgr_status pgr_program_run(const pgr_program *program, const double *const *in, double *const *out, const pgr_run_options *options)
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
    const size_t lanes_each = most_lanes == 0 ? 0 : ((size_t)p->lane_slots + SPARE_BLOCKS) * stride_of(p, most_lanes);
    const size_t numbers = workers * lanes_each + p->uniform_slots + SPANS * most_sums + ALIGN;
    double on_stack[ON_STACK], *memory = on_stack;
    if (numbers > ON_STACK) {
        memory = p->allocator.resize(p->allocator.ctx, NULL, numbers * sizeof *memory);
        if (memory == NULL)
            return PGR_ERR_NOMEM;
    }
    evaluation e = {.program = p, .in = in, .out = out, .options = options, .lanes_each = lanes_each};
    e.lanes = (double *)(((uintptr_t)memory + 63) & ~(uintptr_t)63); /* whole cache lines */
    e.uniform = e.lanes + workers * lanes_each;
    e.span_sums = e.uniform + p->uniform_slots;
    e.run = most_lanes != 0 ? best_run_block() : NULL;
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

pgr_program_stats pgr_program_stat(const pgr_program *program)
{
    const pgr_program *const p = program;
    return (pgr_program_stats){
        .instructions = p->instruction_count,
        .dots = p->dot_count,
        .segments = p->segment_count,
        .uniform_slots = p->uniform_slots,
        .lane_slots = p->lane_slots,
        .constants = p->constant_count,
        .nodes = p->nodes,
        .block = p->lane_slots == 0 ? 0 : p->block,
        .bytes = sizeof *p + p->instruction_count * sizeof *p->instructions + p->arg_count * sizeof *p->args +
                 p->dot_count * sizeof *p->dots + p->segment_count * sizeof *p->segments,
    };
}
