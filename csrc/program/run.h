/* run.h: an evaluation of a program, for run.c, call.c and evaluate.c. */
#ifndef PGR_INTERNAL_RUN_H
#define PGR_INTERNAL_RUN_H

#include "program/packs.h"
#include "program/threads.h"

#include <string.h>

enum { LANE_CHUNK = 8, SPANS = 32, SPARE_BLOCKS = 2, ALIGN = 8 };

typedef struct evaluation evaluation;

/* One block of lanes in a lane segment. */
typedef struct {
    const pgr_program *program;
    const segment *segment;
    const double *uniform;
    double *sums;            /* the segment's */
    double *lanes;           /* registers, `stride` numbers each */
    double *spare;           /* two blocks, for uniform operands */
    double *memory;          /* of calls */
    size_t stride;
    const double *const *in;
    double *const *out;
    uint64_t first;          /* lane */
    size_t count, padded;    /* lanes; rounded up to a multiple of LANE_CHUNK */
    evaluation *evaluation;
    bool is_caller;          /* in the caller's thread */
} block;

/* The code for one instruction set, and for calls, which run.c reaches only through these. */
typedef struct {
    void (*run_block)(const block *b);
    void (*apply)(int op, const double *x, const double *y, double *out, size_t n);
    const pack_step *(*run_packs)(const program_packs *p, const pack_step *s, const pack_step *end, double *u);
    void (*call)(evaluation *e, const instruction *i);
    void (*lane_call)(const block *b, const instruction *i);
} kernels;

/* One call of pgr_program_run, or of a program by another's instruction. */
struct evaluation {
    const pgr_program *program;
    const double *const *in;
    double *const *out;
    const pgr_run_options *options;
    evaluation *root;  /* of pgr_program_run: itself */
    kernels kernels;
    double *uniform, *span_sums, *lanes;
    double *memory;    /* of calls in uniform segments */
    size_t lanes_each; /* numbers in a worker's registers and spare blocks, and of its calls */
    uint64_t work;     /* of the root: since the last call of `stop` */
    volatile int stopped;
    bool is_worker;    /* not in the caller's thread */
    bool is_shared;    /* by workers: they take spans under the lock */
    /* The present segment: */
    const segment *segment;
    unsigned spans, next_span;
    mutex lock;
};

/* A number at any address: arguments come as they are, and parts of a message are rarely aligned. */
#if defined(__GNUC__)
typedef double any_double __attribute__((aligned(1)));
#else
typedef double any_double;
#endif

/* What an instruction loads. */
static inline const pgr_lane_input *lane_input_of(const block *b, const instruction *i)
{
    return &b->program->lane_inputs[b->program->group_first_input[b->segment->group] + i->a];
}

/* A few are copied faster one by one. */
static inline void copy_numbers(double *to, const any_double *from, size_t count)
{
    if (count > 16)
        memcpy(to, from, count * sizeof *to);
    else
        for (size_t k = 0; k < count; k++)
            to[k] = from[k];
}

/* Calls `stop` now and then. For the caller's thread. */
enum { ASK_EVERY = 1 << 22 };
static inline bool is_stopped(evaluation *any, uint64_t work)
{
    evaluation *const e = any->root;
    if (any->is_worker)
        return e->stopped != 0;
    e->work += work;
    if (PGR_UNLIKELY(e->work >= ASK_EVERY) && e->options != NULL && e->options->stop != NULL) {
        if (e->options->done != NULL)
            *e->options->done += e->work;
        e->work = 0;
        if (e->options->stop(e->options->ctx) != 0)
            e->stopped = 1;
    }
    return e->stopped != 0;
}

static inline bool block_is_stopped(const block *b, uint64_t work)
{
    return b->is_caller ? is_stopped(b->evaluation, work) : b->evaluation->root->stopped != 0;
}

/* Not a power of two for whole blocks, so that lane registers don't compete for the same cache lines. */
static inline size_t stride_of(const pgr_program *p, uint64_t lanes)
{
    const size_t most = lanes < p->block ? (size_t)lanes : p->block;
    const size_t stride = (most + LANE_CHUNK - 1) / LANE_CHUNK * LANE_CHUNK;
    return stride % 64 == 0 ? stride + LANE_CHUNK : stride;
}

/* The memory of an evaluation with one worker. */
typedef struct {
    size_t numbers, lanes_each;
    uint64_t most_lanes;
} frame;

static inline frame frame_of(const pgr_program *p)
{
    frame f = {0};
    size_t most_sums = 0;
    for (uint32_t s = 0; s < p->segment_count; s++)
        if (p->segments[s].group != UINT32_MAX) {
            const uint64_t lanes = p->group_lanes[p->segments[s].group];
            f.most_lanes = lanes > f.most_lanes ? lanes : f.most_lanes;
            if (lanes > p->block && p->segments[s].sum_count > most_sums)
                most_sums = p->segments[s].sum_count;
        }
    if (f.most_lanes > 0)
        f.lanes_each = ((size_t)p->lane_registers + SPARE_BLOCKS) * stride_of(p, f.most_lanes) + p->lane_call_numbers;
    f.numbers = f.lanes_each + p->numbers + SPANS * most_sums + p->call_numbers + ALIGN;
    return f;
}

/* Shares out memory for f->numbers, and f->lanes_each for each further worker. */
static inline void evaluation_place(evaluation *e, const pgr_program *p, const frame *f, unsigned workers,
                                    double *memory)
{
    e->program = p;
    e->lanes_each = f->lanes_each;
    e->lanes = (double *)(((uintptr_t)memory + 63) & ~(uintptr_t)63); /* whole cache lines */
    e->uniform = e->lanes + workers * f->lanes_each;
    e->memory = e->uniform + p->numbers;
    e->span_sums = e->memory + p->call_numbers;
}

/* The best that this processor has, up to `most`, without calls. */
kernels pgr__best_kernels(pgr_kernels most);

/* The parts of a run. Inputs of array 0 are loaded from number `first` on. */
void pgr__load_constants(evaluation *e);
void pgr__load_inputs(evaluation *e, uint64_t first);
void pgr__run_uniform(evaluation *e, const segment *s);
void pgr__run_segments(evaluation *e, unsigned workers);
void pgr__store_outputs(evaluation *e);

/* Runs a call: once, or for a block of lanes. */
void pgr__run_call(evaluation *e, const instruction *i);
void pgr__run_lane_call(const block *b, const instruction *i);

#endif
