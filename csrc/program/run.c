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
#include "program/run.h"

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#endif

/* Numbers of two packs by their places in both. */
#if defined(__clang__) || (defined(__GNUC__) && __GNUC__ >= 12)
#define PACK_SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#endif

/* Goes through what the next block of lanes will load and store. */
typedef struct {
    const instruction *next, *end;
    const char *at, *stop;
    size_t step;
} fetcher;

static inline fetcher fetch_for_next_block(const block *b)
{
    const segment *const s = b->segment;
    const instruction *const code = b->program->instructions + s->first;
    const bool is_last = b->first + b->count >= b->program->group_lanes[s->group];
    return (fetcher){.next = code, .end = is_last ? code : code + s->count};
}

static inline bool is_fetching(const fetcher *f) { return f->next < f->end || f->at < f->stop; }

static void find_numbers(fetcher *f, const block *b)
{
    enum { LINE = 64 };
    for (; f->next < f->end && f->at == f->stop; f->next++) {
        const instruction *const i = f->next;
        const pgr_lane_input *const x = i->op == PROGRAM_LOAD ? lane_input_of(b, i) : NULL;
        const pgr_output *const y = i->op == PROGRAM_STORE ? &b->program->outputs[i->b] : NULL;
        const size_t stride = (size_t)(x != NULL ? x->stride : y != NULL ? y->stride : 0);
        if (stride == 0)
            continue;
        const uint64_t from = b->first + b->count, left = b->program->group_lanes[b->segment->group] - from;
        const any_double *const array = x != NULL ? b->in[x->array] + x->offset : b->out[y->array] + y->offset;
        f->at = (const char *)(array + from * stride);
        f->stop = f->at + (left < b->count ? left : b->count) * stride * sizeof(double);
        f->step = stride * sizeof(double) < LINE ? LINE : stride * sizeof(double);
    }
}

/* Has the processor fetch a few lines: at each instruction, since all at once would wait for each other. */
static inline void fetch_some(fetcher *f, const block *b)
{
#if defined(__GNUC__)
    for (int k = 0; k < 6; k++) {
        if (f->at == f->stop)
            find_numbers(f, b);
        if (f->at == f->stop)
            return;
        __builtin_prefetch(f->at, 0, 2);
        f->at = (size_t)(f->stop - f->at) > f->step ? f->at + f->step : f->stop;
    }
#else
    f->next = f->end;
    (void)b;
#endif
}

/* Says to the compiler that no vector is left over: 6 % of a small network's time. */
static inline size_t whole_chunks(size_t numbers) { return numbers & ~(size_t)(LANE_CHUNK - 1); }

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
#define LANES_WIDE   14
#define LANES_MAX    _mm256_max_pd
#include "program/lanes.h"
#undef LANES
#undef LANES_TARGET
#undef LANES_VECTOR
#undef LANES_WIDE
#undef LANES_MAX
#define LANES(name)  name##_avx512
#if defined(__clang__)
#define LANES_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma")))
#else
#define LANES_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")))
#endif
#define LANES_VECTOR 8
#define LANES_WIDE   16
#define LANES_MAX    _mm512_max_pd
#define LANES_MASKED
#if defined(__OPTIMIZE__) /* otherwise they are macros, whose conversions gcc warns of */
#define LANES_GATHER(from, index)   _mm512_i32gather_pd(_mm256_loadu_si256((const void *)(index)), from, sizeof *(from))
#define LANES_STRIDED(from, places) _mm512_i64gather_pd((__m512i)(places), from, sizeof *(from))
#endif
#include "program/lanes.h"
#undef LANES_STRIDED
#undef LANES_GATHER
#undef LANES_MASKED
#undef LANES_MAX
#undef LANES
#undef LANES_TARGET
#undef LANES_VECTOR
#undef LANES_WIDE
#endif

kernels pgr__best_kernels(pgr_kernels most)
{
    (void)most;
    pgr__find_vector_functions();
#if defined(__GNUC__) && defined(__x86_64__)
    if ((most == PGR_KERNELS_BEST || most >= PGR_KERNELS_AVX512) && __builtin_cpu_supports("avx512f") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return (kernels){.run_block = run_block_avx512, .apply = apply_avx512, .run_packs = run_packs_avx512};
    if ((most == PGR_KERNELS_BEST || most >= PGR_KERNELS_AVX2) && __builtin_cpu_supports("avx2") &&
        __builtin_cpu_supports("fma"))
        return (kernels){.run_block = run_block_avx2, .apply = apply_avx2, .run_packs = run_packs_avx2};
#endif
    return (kernels){.run_block = run_block_plain, .apply = apply_plain, .run_packs = run_packs_plain};
}

/* ---- Uniform segments ---------------------------------------------------------------------------- */

/* What instructions read beside registers. */
typedef struct {
    const program_dot *dots;
    const uint32_t *args;
} plain_code;

static double term(const uint32_t *arg, const double *u)
{
    return arg[1] == REGISTER_NONE ? u[arg[0]] : u[arg[0]] * u[arg[1]];
}

/* Sums long dots in four parts, which hides the latency of additions. */
static double uniform_dot(const plain_code *c, const instruction *i, const double *u)
{
    const program_dot dot = c->dots[i->b];
    const uint32_t *arg = &c->args[dot.first];
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

/* Each instruction jumps to the code of the next, where the compiler can: processors then learn which follows which. */
#if defined(__GNUC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpedantic" /* addresses of labels */
#define AT(label)   label:
#define NEXT(count) \
    do { \
        i += (count); \
        if (i >= end) \
            return i; \
        goto *places[i->op]; \
    } while (0)
#else
#define AT(label)
#define NEXT(count) \
    i += (count); \
    if (i >= end) \
        return i; \
    break
#endif

/* Runs to `end` or beyond, and returns where it stopped. */
static const instruction *run_uniform_part(evaluation *e, const plain_code *c, const instruction *i,
                                           const instruction *end)
{
#if defined(__GNUC__)
    static const void *const places[] = {
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) [PGR_OP_##ID] = &&at_##ID,
        PGR_OPS(X)
#undef X
        [PROGRAM_DOT] = &&at_dot,
        [PROGRAM_CALL] = &&at_call,
        [PROGRAM_RUN] = &&at_run,
    };
#endif
    double *const u = e->uniform;
    while (i < end) {
        switch (i->op) {
#define PGR_TWO_UNARY  0
#define PGR_TWO_CUT    0
#define PGR_TWO_BINARY 1
#define PGR_TWO_PARAM  1
#define X(ID, name, symbol, KIND, value, da, db, check, rule, doc) \
        case PGR_OP_##ID: AT(at_##ID) { \
            const double a = u[i->a], b = PGR_TWO_##KIND ? u[i->b] : 0.0; \
            (void)b; \
            u[i->out] = (value); \
            NEXT(1); \
        }
        PGR_OPS(X)
#undef X
        case PROGRAM_DOT: AT(at_dot)
            u[i->out] = uniform_dot(c, i, u);
            NEXT(1);
        case PROGRAM_CALL: AT(at_call)
            e->kernels.call(e, i);
            NEXT(1);
        case PROGRAM_RUN: AT(at_run)
            run_alike(&e->kernels, i + 1, i->a, u);
            NEXT(i->a + 1);
        default: return end; /* does not occur */
        }
    }
    return i;
}
#undef AT
#undef NEXT
#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif

static void run_plain(evaluation *e, const instruction *i, const instruction *end)
{
    const plain_code code = {e->program->dots, e->program->args};
    while (i < end && !is_stopped(e, end - i < ASK_EVERY ? (uint64_t)(end - i) : ASK_EVERY))
        i = run_uniform_part(e, &code, i, end - i < ASK_EVERY ? end : i + ASK_EVERY);
}

static void run_stretch(evaluation *e, const pack_stretch *s)
{
    const program_packs *const p = e->program->packs;
    const plain_code code = {p->dots, p->args};
    const pack_step *step = p->steps + s->first_step, *const end = step + s->step_count;
    while (step < end && !is_stopped(e, s->count)) {
        const uint32_t some = ASK_EVERY / s->count;
        const pack_step *const pause = (uint64_t)(end - step) < some ? end : step + some + 1;
        step = e->kernels.run_packs(p, step, pause, e->uniform);
        if (step < pause) {
            run_uniform_part(e, &code, p->plain + step->first, p->plain + step->first + step->count);
            step++;
        }
    }
    for (const pack_copy *copy = p->copies + s->first_copy, *last = copy + s->copy_count; copy < last; copy++)
        e->uniform[copy->to] = e->uniform[copy->from];
}

/* The first stretch from this instruction on. */
static const pack_stretch *stretch_from(const program_packs *p, uint32_t first)
{
    uint32_t low = 0, high = p->stretch_count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        *(p->stretches[middle].first < first ? &low : &high) = p->stretches[middle].first < first ? middle + 1 : middle;
    }
    return p->stretches + low;
}

void pgr__run_uniform(evaluation *e, const segment *s)
{
    const pgr_program *const p = e->program;
    uint32_t at = s->first;
    const uint32_t end = s->first + s->count;
    if (p->packs != NULL) {
        const pack_stretch *stretch = stretch_from(p->packs, at), *last = p->packs->stretches + p->packs->stretch_count;
        for (; stretch < last && stretch->first < end; stretch++) {
            run_plain(e, p->instructions + at, p->instructions + stretch->first);
            if (is_stopped(e, stretch->count))
                return;
            run_stretch(e, stretch);
            at = stretch->first + stretch->count;
        }
    }
    run_plain(e, p->instructions + at, p->instructions + end);
}

/* ---- Lane segments -------------------------------------------------------------------------------- */

static uint64_t blocks_of(const pgr_program *p, const segment *s)
{
    return (p->group_lanes[s->group] + p->block - 1) / p->block;
}

static void run_span(evaluation *e, unsigned span, double *lanes, bool is_caller)
{
    const pgr_program *const p = e->program;
    const segment *const s = e->segment;
    const uint64_t count = p->group_lanes[s->group], blocks = blocks_of(p, s);
    const uint64_t from = blocks * span / e->spans, to = blocks * (span + 1) / e->spans;
    block b = {.program = p, .segment = s, .uniform = e->uniform, .lanes = lanes, .in = e->in, .out = e->out};
    b.evaluation = e;
    b.is_caller = is_caller;
    b.stride = stride_of(p, count);
    b.spare = lanes + (size_t)p->lane_registers * b.stride;
    b.memory = b.spare + SPARE_BLOCKS * b.stride;
    b.sums = e->spans == 1 ? e->uniform + s->first_sum : e->span_sums + (size_t)span * s->sum_count;
    memset(b.sums, 0, s->sum_count * sizeof *b.sums);
    for (uint64_t k = from; k < to; k++) {
        b.first = k * p->block;
        b.count = (size_t)(count - b.first < p->block ? count - b.first : p->block);
        b.padded = (b.count + LANE_CHUNK - 1) / LANE_CHUNK * LANE_CHUNK;
        if (block_is_stopped(&b, (uint64_t)s->count * b.count))
            return;
        e->kernels.run_block(&b);
    }
}

static unsigned take_span(evaluation *e)
{
    if (!e->is_shared)
        return e->next_span++;
    mutex_lock(&e->lock);
    const unsigned span = e->next_span++;
    mutex_unlock(&e->lock);
    return span;
}

static void run_spans(evaluation *e, double *lanes, bool is_caller)
{
    for (unsigned span; (span = take_span(e)) < e->spans && e->root->stopped == 0;)
        run_span(e, span, lanes, is_caller);
}

typedef struct {
    evaluation *evaluation;
    double *lanes;
    thread thread;
} worker;

static void work(void *arg)
{
    const worker *const w = arg;
    run_spans(w->evaluation, w->lanes, false);
}

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
    worker others[PGR_MAX_WORKERS];
    unsigned started = 0;
    for (; started + 1 < workers && started + 1 < e->spans; started++) {
        worker *const w = &others[started];
        *w = (worker){.evaluation = e, .lanes = e->lanes + (started + 1) * e->lanes_each};
        if (!thread_start(&w->thread, work, w))
            break; /* fewer threads do the work */
    }
    run_spans(e, e->lanes, true);
    for (unsigned k = 0; k < started; k++)
        thread_join(&others[k].thread);
    double *const sums = e->uniform + s->first_sum;
    memset(sums, 0, s->sum_count * sizeof *sums);
    for (unsigned span = 0; span < e->spans; span++)
        for (uint32_t k = 0; k < s->sum_count; k++)
            sums[k] += e->span_sums[(size_t)span * s->sum_count + k];
}

/* ---- Ends ------------------------------------------------------------------------------------------- */

void pgr__load_constants(evaluation *e)
{
    copy_numbers(e->uniform, e->program->constants, e->program->constant_count);
    if (e->program->packs != NULL) {
        e->uniform[e->program->packs->first] = 1.0;
        e->uniform[e->program->packs->first + 1] = -0.0;
    }
}

void pgr__load_inputs(evaluation *e, uint64_t first)
{
    const pgr_program *const p = e->program;
    for (uint32_t i = 0; i < p->input_count; i++) {
        const uniform_input input = p->inputs[i];
        const any_double *const from = e->in[input.array] + input.offset;
        const uint64_t skipped = input.array != 0 || input.offset >= first ? 0 : first - input.offset;
        if (skipped < input.count)
            copy_numbers(e->uniform + input.reg + skipped, from + skipped, (size_t)(input.count - skipped));
    }
}

void pgr__run_segments(evaluation *e, unsigned workers)
{
    const pgr_program *const p = e->program;
    for (uint32_t s = 0; s < p->segment_count && e->root->stopped == 0; s++) {
        if (p->segments[s].group == UINT32_MAX)
            pgr__run_uniform(e, &p->segments[s]);
        else
            run_lanes(e, &p->segments[s], workers);
    }
}

void pgr__store_outputs(evaluation *e)
{
    const pgr_program *const p = e->program;
    const uint32_t *reg = p->output_registers;
    for (uint32_t i = 0; i < p->output_run_count; i++) {
        const uniform_output run = p->output_runs[i];
        double *const to = e->out[run.array] + run.offset;
        if (run.in_a_row)
            copy_numbers(to, e->uniform + *reg, (size_t)run.count);
        else
            for (uint64_t k = 0; k < run.count; k++)
                to[k] = e->uniform[reg[k]];
        reg += run.count;
    }
}
