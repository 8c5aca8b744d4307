/* Any bytes as the parts of a program: refused, or run without access to other memory than its workspace and arrays,
 * with results that do not depend on what was in memory before.
 *
 * With libFuzzer (-fsanitize=fuzzer), or with REPLAY a main that reads files. The input, little-endian: the counts
 * of `header`, IN_COUNT + OUT_COUNT sizes of arrays, and then the parts in the order of pgr_program_parts; bytes that
 * are missing are zeros, bytes that are left are ignored. If `has_calls`, the counts of `calls_header` follow, the
 * calls, their memory, and the programs that are called, each as the whole input. seeds.py writes such files. */
#include "program/program.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { IN_COUNT = 3, OUT_COUNT = 3, MOST = 512, MOST_WORK = 20000, MOST_PROGRAMS = 4, MOST_DEPTH = 3 };

typedef struct {
    uint16_t instructions, args, dots, segments, constants, inputs, outputs, lane_inputs, groups;
    uint16_t uniform_registers, lane_registers, block, kernels, has_calls;
    uint16_t in_sizes[IN_COUNT], out_sizes[OUT_COUNT];
} header;

typedef struct {
    uint16_t calls, memory, programs;
} calls_header;

typedef struct {
    const uint8_t *at;
    size_t left;
} input;

static void take(input *from, void *to, size_t size)
{
    const size_t n = size < from->left ? size : from->left;
    memset(to, 0, size);
    if (n > 0)
        memcpy(to, from->at, n);
    from->at += n;
    from->left -= n;
}

static void *allocated(size_t size)
{
    void *const p = malloc(size > 0 ? size : 1);
    if (p == NULL)
        abort();
    return p;
}

/* An array of exactly its size, so that the sanitizer sees what is read beside it. */
static void *taken(input *from, size_t count, size_t size)
{
    void *const p = allocated(count * size);
    take(from, p, count * size);
    return p;
}

static int accepted;

/* The byte that fills new memory, and so a run's workspace. */
static int filling;

static void *filled_resize(void *ctx, void *p, size_t size)
{
    (void)ctx;
    if (size == 0) {
        free(p);
        return NULL;
    }
    void *const q = realloc(p, size);
    if (q != NULL && p == NULL)
        memset(q, filling, size);
    return q;
}

static void fill_stack(void)
{
    volatile uint8_t below[16384];
    for (size_t i = 0; i < sizeof below; i++)
        below[i] = (uint8_t)filling;
}

static uint64_t work_of(const pgr_program *p);

/* How long a call takes, for each lane. */
static uint64_t work_of_call(const pgr_program *p, const call *c)
{
    uint64_t step = 1;
    for (uint32_t i = 0; i < c->program_count; i++) {
        const uint64_t work = work_of(p->programs[c->first_program + i]);
        step = work > MOST_WORK ? MOST_WORK + 1 : step + work;
    }
    return c->steps > MOST_WORK || step > MOST_WORK ? MOST_WORK + 1 : (c->steps + 1) * step;
}

/* How long a run takes: its instructions, terms of dots and lanes, and its calls. */
static uint64_t work_of(const pgr_program *p)
{
    uint64_t work = 0;
    for (uint32_t s = 0; s < p->segment_count; s++) {
        const segment *const segment = &p->segments[s];
        uint64_t once = segment->count;
        for (uint32_t i = segment->first; i < segment->first + segment->count && once <= MOST_WORK; i++) {
            const instruction *const at = &p->instructions[i];
            once += at->op == PROGRAM_DOT ? p->dots[at->b].count : 0;
            once += at->op == PROGRAM_CALL ? work_of_call(p, &p->calls[at->a]) : 0;
        }
        const uint64_t lanes = segment->group == UINT32_MAX ? 1 : p->group_lanes[segment->group];
        if (once > MOST_WORK || lanes > MOST_WORK)
            return UINT64_MAX;
        work += once * lanes;
    }
    return work;
}

static void complain(const char *what)
{
    fprintf(stderr, "fuzz_program: %s\n", what);
    abort();
}

static void run_twice(pgr_program *program, const header *h)
{
    double *in[IN_COUNT], *out[2][OUT_COUNT];
    for (int i = 0; i < IN_COUNT; i++) {
        in[i] = allocated(h->in_sizes[i] * sizeof(double));
        for (int k = 0; k < h->in_sizes[i]; k++)
            in[i][k] = (k * 7 + i) % 11 - 5.25;
    }
    program->allocator = (pgr_allocator){filled_resize, NULL};
    const pgr_run_options options = {.kernels = (pgr_kernels)(h->kernels % 4)};
    for (int run = 0; run < 2; run++) {
        for (int i = 0; i < OUT_COUNT; i++) {
            out[run][i] = allocated(h->out_sizes[i] * sizeof(double));
            memset(out[run][i], 0x5a, h->out_sizes[i] * sizeof(double));
        }
        filling = run == 0 ? 0x11 : 0x43; /* two different numbers of ordinary size */
        fill_stack();
        if (pgr_program_run(program, (const double *const *)in, out[run], &options) != PGR_OK)
            complain("a run failed");
    }
    for (int i = 0; i < OUT_COUNT; i++) {
        for (int k = 0; k < h->out_sizes[i]; k++)
            if (memcmp(&out[0][i][k], &out[1][i][k], sizeof(double)) != 0 && !(isnan(out[0][i][k]) && isnan(out[1][i][k])))
                complain("the result depends on what was in memory");
        free(out[0][i]);
        free(out[1][i]);
    }
    for (int i = 0; i < IN_COUNT; i++)
        free(in[i]);
}

/* A program, and the programs that it calls, which live as long. */
typedef struct made {
    pgr_program *program; /* NULL: refused */
    struct made *called[MOST_PROGRAMS];
    header header;
} made;

static void free_made(made *m)
{
    if (m->program != NULL)
        pgr_program_free(m->program);
    for (int i = 0; i < MOST_PROGRAMS; i++)
        if (m->called[i] != NULL)
            free_made(m->called[i]);
    free(m);
}

static made *take_program(input *from, int depth)
{
    made *const m = allocated(sizeof *m);
    *m = (made){0};
    header h;
    take(from, &h, sizeof h);
    uint16_t *const counts[] = {&h.instructions, &h.args, &h.dots, &h.segments, &h.constants, &h.inputs, &h.outputs,
                                &h.lane_inputs, &h.groups};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        *counts[i] = (uint16_t)(*counts[i] % MOST);
    uint64_t in_sizes[IN_COUNT], out_sizes[OUT_COUNT];
    for (int i = 0; i < IN_COUNT; i++)
        in_sizes[i] = h.in_sizes[i] = (uint16_t)(h.in_sizes[i] % MOST);
    for (int i = 0; i < OUT_COUNT; i++)
        out_sizes[i] = h.out_sizes[i] = (uint16_t)(h.out_sizes[i] % MOST);
    m->header = h;
    pgr_program_parts parts = {
        .instruction_count = h.instructions, .arg_count = h.args, .dot_count = h.dots, .segment_count = h.segments,
        .constant_count = h.constants, .input_count = h.inputs, .output_count = h.outputs,
        .lane_input_count = h.lane_inputs, .group_count = h.groups, .uniform_registers = h.uniform_registers,
        .lane_registers = h.lane_registers, .block = h.block,
    };
    calls_header c = {0};
    void *const arrays[] = {
        taken(from, h.instructions, sizeof(pgr_instruction)), taken(from, h.args, sizeof(uint32_t)),
        taken(from, h.dots, sizeof(pgr_program_dot)), taken(from, h.segments, sizeof(pgr_segment)),
        taken(from, h.constants, sizeof(double)), taken(from, h.inputs, sizeof(pgr_uniform_input)),
        taken(from, h.outputs, sizeof(pgr_output)), taken(from, h.lane_inputs, sizeof(pgr_lane_input)),
        taken(from, h.groups + (size_t)1, sizeof(uint32_t)), taken(from, h.groups, sizeof(uint64_t)),
    };
    if (h.has_calls != 0 && depth < MOST_DEPTH)
        take(from, &c, sizeof c);
    void *const of_calls[] = {taken(from, c.calls % MOST, sizeof(pgr_call)),
                              taken(from, c.memory % MOST, sizeof(pgr_lane_input))};
    const pgr_program *programs[MOST_PROGRAMS] = {NULL};
    bool are_made = true;
    for (int i = 0; i < c.programs % (MOST_PROGRAMS + 1); i++) {
        m->called[i] = take_program(from, depth + 1);
        programs[i] = m->called[i]->program;
        are_made = are_made && programs[i] != NULL;
    }
    parts.instructions = arrays[0];
    parts.args = arrays[1];
    parts.dots = arrays[2];
    parts.segments = arrays[3];
    parts.constants = arrays[4];
    parts.inputs = arrays[5];
    parts.outputs = arrays[6];
    parts.lane_inputs = arrays[7];
    parts.group_first_input = arrays[8];
    parts.group_lanes = arrays[9];
    parts.calls = of_calls[0];
    parts.memory = of_calls[1];
    parts.call_count = c.calls % MOST;
    parts.memory_count = c.memory % MOST;
    parts.programs = programs;
    parts.program_count = c.programs % (MOST_PROGRAMS + 1);
    const pgr_status status = !are_made ? PGR_ERR_PROGRAM
        : pgr_program_from_parts(&parts, IN_COUNT, in_sizes, OUT_COUNT, out_sizes, &m->program);
    if (status != PGR_OK && status != PGR_ERR_PROGRAM)
        complain("another status than PGR_OK and PGR_ERR_PROGRAM");
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        free(arrays[i]);
    free(of_calls[0]);
    free(of_calls[1]);
    return m;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    input from = {data, size};
    made *const m = take_program(&from, 0);
    if (m->program != NULL && work_of(m->program) <= MOST_WORK)
        run_twice(m->program, &m->header);
    accepted += m->program != NULL;
    free_made(m);
    return 0;
}

#if defined(REPLAY)
int main(int argc, char **argv)
{
    enum { LARGEST = 1 << 20 };
    uint8_t *const buffer = allocated(LARGEST);
    for (int i = 1; i < argc; i++) {
        FILE *const file = fopen(argv[i], "rb");
        if (file == NULL)
            complain(argv[i]);
        const size_t size = fread(buffer, 1, LARGEST, file);
        fclose(file);
        uint8_t *const exact = allocated(size); /* so that the sanitizer sees its end */
        memcpy(exact, buffer, size);
        LLVMFuzzerTestOneInput(exact, size);
        free(exact);
    }
    free(buffer);
    printf("%d inputs replayed, %d of them programs\n", argc - 1, accepted);
    return accepted == 0; /* a corpus without a program shows nothing */
}
#endif
