/* run.c: evaluating programs.
 *
 * Uniform segments go through a switch, one instruction a number. Lane segments take a block of lanes
 * through all their instructions, one dispatch an instruction, so that what a block works on stays in the cache; their
 * loops are in lanes.h, compiled for each instruction set that is worth it. */
#include "program.h"

#include <string.h>

/* A lane segment's work: one block of lanes. */
typedef struct {
    const pgr_program *program;
    const segment *segment;
    double *uniform, *lanes; /* slots; lanes by slot, LANE_BLOCK numbers each */
    double *spare;           /* three blocks, for operands that are the same in all lanes */
    const double *const *in;
    double *const *out;
    uint64_t first;          /* lane */
    size_t count, padded;    /* lanes; up to a multiple of LANE_CHUNK */
} block;

enum { LANE_CHUNK = 8, LANE_BLOCK = 256 };

#if defined(__GNUC__)
#pragma GCC optimize("fp-contract=fast") /* lanes may fuse a multiply and an add */
#define LANES_IN_PLACE _Pragma("GCC ivdep") /* a result's block may be an operand's, but each lane its own */
#else
#define LANES_IN_PLACE
#endif

#define LANES(name) name##_plain
#define LANES_TARGET
#include "lanes.h"
#undef LANES
#undef LANES_TARGET

#if defined(__GNUC__) && defined(__x86_64__)
#define LANES(name)  name##_avx2
#define LANES_TARGET __attribute__((target("avx2,fma")))
#include "lanes.h"
#undef LANES
#undef LANES_TARGET
#define LANES(name)  name##_avx512
#define LANES_TARGET __attribute__((target("avx512f,avx512dq,avx512vl,avx2,fma,prefer-vector-width=512")))
#include "lanes.h"
#undef LANES
#undef LANES_TARGET
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

static double uniform_dot(const pgr_program *p, const instruction *i, const double *u)
{
    const program_dot dot = p->dots[i->b];
    const uint32_t *arg = &p->args[dot.first];
    double sum = i->a == SLOT_NONE ? 0.0 : u[i->a];
    for (uint32_t k = 0; k < dot.count; k++, arg += 2) {
        const double x = u[arg[0]];
        sum = k == 0 && i->a == SLOT_NONE ? (arg[1] == SLOT_NONE ? x : x * u[arg[1]]) : sum + (arg[1] == SLOT_NONE ? x : x * u[arg[1]]);
    }
    return sum;
}

static void run_uniform(const pgr_program *p, const segment *s, double *u)
{
    const instruction *const end = p->instructions + s->first + s->count;
    for (const instruction *i = p->instructions + s->first; i < end; i++) {
        double out;
        const double a = i->a < SLOT_NONE ? u[i->a] : 0.0, b = i->b < SLOT_NONE && i->op != PROGRAM_DOT ? u[i->b] : 0.0;
        switch (i->op) {
        case PGR_OP_ADD: u[i->out] = a + b; break;
        case PGR_OP_MUL: u[i->out] = a * b; break;
        case PROGRAM_DOT: u[i->out] = uniform_dot(p, i, u); break;
        default:
            ops_eval((int)i->op, a, b, &out);
            u[i->out] = out;
        }
    }
}

static void run_lanes(const pgr_program *p, const segment *s, run_block run, double *uniform, double *lanes, double *spare,
                      const double *const *in, double *const *out)
{
    const uint64_t count = p->group_lanes[s->group];
    for (uint32_t k = 0; k < s->count; k++) {
        const instruction *const i = &p->instructions[s->first + k];
        if (i->op == PROGRAM_LANE_SUM || i->op == PROGRAM_LANE_DOT)
            uniform[i->out] = 0.0;
        else if (i->op == PROGRAM_COUNT)
            uniform[i->out] = (double)count * uniform[i->a];
    }
    for (uint64_t first = 0; first < count; first += LANE_BLOCK) {
        const size_t here = (size_t)(count - first < LANE_BLOCK ? count - first : LANE_BLOCK);
        const block b = {p, s, uniform, lanes, spare, in, out, first, here, (here + LANE_CHUNK - 1) / LANE_CHUNK * LANE_CHUNK};
        run(&b);
    }
}

pgr_status pgr_program_run(const pgr_program *program, const double *const *in, double *const *out)
{
    enum { ON_STACK = 256, ALIGN = 8 };
    const pgr_program *const p = program;
    const size_t lane_numbers = p->lane_slots == 0 ? 0 : ((size_t)p->lane_slots + 3) * LANE_BLOCK;
    const size_t numbers = p->uniform_slots + lane_numbers + 2 * ALIGN;
    double on_stack[ON_STACK], *memory = on_stack;
    if (numbers > ON_STACK) {
        memory = p->allocator.resize(p->allocator.ctx, NULL, numbers * sizeof *memory);
        if (memory == NULL)
            return PGR_ERR_NOMEM;
    }
    double *const lanes = (double *)(((uintptr_t)memory + 63) & ~(uintptr_t)63); /* whole cache lines */
    double *const uniform = lanes + lane_numbers;
    memcpy(uniform, p->constants, p->constant_count * sizeof *uniform);
    for (uint32_t i = 0; i < p->input_count; i++)
        uniform[p->inputs[i].slot] = in[p->inputs[i].array][p->inputs[i].offset];
    const run_block run = p->group_count != 0 ? best_run_block() : NULL;
    for (uint32_t s = 0; s < p->segment_count; s++) {
        if (p->segments[s].group == UINT32_MAX)
            run_uniform(p, &p->segments[s], uniform);
        else
            run_lanes(p, &p->segments[s], run, uniform, lanes, lanes + (size_t)p->lane_slots * LANE_BLOCK, in, out);
    }
    for (uint32_t i = 0; i < p->output_count; i++) {
        const pgr_output *const o = &p->outputs[i];
        if (o->node != SLOT_LANE)
            out[o->array][o->offset] = uniform[o->node];
    }
    if (memory != on_stack)
        p->allocator.resize(p->allocator.ctx, memory, 0);
    return PGR_OK;
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
        .block = p->lane_slots == 0 ? 0 : LANE_BLOCK,
        .bytes = sizeof *p + p->instruction_count * sizeof *p->instructions + p->arg_count * sizeof *p->args +
                 p->dot_count * sizeof *p->dots + p->segment_count * sizeof *p->segments,
    };
}
