/* program.h: a recorded function as a flat list of instructions over registers.
 *
 * A uniform register holds one number, a lane register a block of numbers, one for each of some lanes of a vmap. A
 * program is a list of segments, run in order: uniform segments once, lane segments block after block. A lane segment's
 * sums over its lanes go to uniform registers, for later segments. */
#ifndef PGR_INTERNAL_PROGRAM_H
#define PGR_INTERNAL_PROGRAM_H

#include "tape/nodes.h"

#define PROGRAM_DOT      PGR_PROGRAM_DOT
#define PROGRAM_LANE_SUM PGR_PROGRAM_LANE_SUM
#define PROGRAM_LANE_DOT PGR_PROGRAM_LANE_DOT
#define PROGRAM_LOAD     PGR_PROGRAM_LOAD
#define PROGRAM_STORE    PGR_PROGRAM_STORE
#define PROGRAM_RUN      PGR_PROGRAM_RUN
#define PROGRAM_CALL     PGR_PROGRAM_CALL
#define REGISTER_LANE        PGR_REGISTER_LANE
#define REGISTER_NONE        PGR_REGISTER_NONE
_Static_assert((int)PGR_OP_COUNT <= (int)PGR_PROGRAM_DOT, "the program's own instructions come after the table's");

typedef pgr_instruction instruction;
typedef pgr_program_dot program_dot;
typedef pgr_segment segment;
typedef pgr_call call;
typedef pgr_uniform_input uniform_input;

/* Functions that take long and leave the processor's divider alone: F(ID, function). */
#define LONG_FUNCTIONS(F) \
    F(EXP, exp) F(EXPM1, expm1) F(LOG, log) F(LOG1P, log1p) F(SIN, sin) F(COS, cos) F(TANH, tanh) \
    F(ERF, erf) F(ERFC, erfc)

static inline bool takes_long(int op)
{
    switch (op) {
#define CASE(ID, function) case PGR_OP_##ID:
        LONG_FUNCTIONS(CASE)
#undef CASE
        return true;
    }
    return false;
}

/* Lanes to a block: BLOCK_MOST if their registers fit in half of a first-level cache, BLOCK_NEAR bytes. Otherwise
 * BLOCK_USUAL, or fewer until the registers fit in half of a second-level cache, BLOCK_BYTES. */
enum { BLOCK_FEWEST = 16, BLOCK_USUAL = 256, BLOCK_MOST = 512, BLOCK_NEAR = 3 << 13, BLOCK_BYTES = 1 << 20 };

typedef struct { /* out[array][offset + i], for i < count: the next of output_registers, in a row or not */
    uint32_t array, in_a_row;
    uint64_t offset, count;
} uniform_output;

typedef struct program_packs program_packs; /* packs.h */

/* See pgr_program_parts. */
struct pgr_program {
    instruction *instructions;
    uint32_t *args;
    program_dot *dots;
    segment *segments;
    double *constants;
    uniform_input *inputs;
    pgr_output *outputs;
    pgr_lane_input *lane_inputs;
    uint32_t *group_first_input;
    uint64_t *group_lanes;
    call *calls;
    pgr_lane_input *memory;
    const pgr_program **programs;
    uint32_t call_count, memory_count, program_count;
    uint32_t instruction_count, arg_count, dot_count, segment_count;
    uint32_t constant_count, input_count, output_count, group_count;
    uint32_t uniform_registers, lane_registers, block, nodes;

    uint32_t *output_registers;      /* of uniform outputs .. */
    uniform_output *output_runs; /* .. and where they go */
    uint32_t output_run_count;

    program_packs *packs;            /* how uniform instructions run; NULL: one by one */
    uint32_t numbers;                /* of the workspace: uniform registers, and places of packs */

    /* What calls need to know: see program_measure. */
    size_t call_numbers, lane_call_numbers; /* memory beside registers, in uniform and in lane segments */
    uint64_t reads[1 + PGR_MAX_MEMORY];     /* by array, the end of what it reads; UINT64_MAX: no call gives it */
    uint64_t writes;                        /* the end of what it writes to out[0] */
    double work, lane_work;                 /* of a run, at most: see pgr_program_work; of its calls, for a lane */
    uint32_t depth;                         /* of programs that call programs; 0: it calls none */

    uint32_t *lines; /* see pgr_program_lines; NULL: unknown */
    pgr_id *captures;
    pgr_handle *held_captures; /* of a program built by handle */
    uint32_t capture_count;
    pgr_allocator allocator;
};

/* PGR_OK if the parts are a program (see pgr_program_from_parts), else PGR_ERR_PROGRAM; PGR_ERR_NOMEM. Sizes may be
 * NULL: arrays of any length. */
pgr_status program_verify(const pgr_program_parts *parts, size_t in_count, const uint64_t *in_sizes, size_t out_count,
                          const uint64_t *out_sizes);

/* Whether a program passes these checks, with arrays of any length. */
bool program_is_sound(const pgr_program *p);

/* The number of a call's operands, and of its results. */
uint64_t program_operands_of(const call *c);
uint64_t program_results_of(const call *c);

/* Sets what calls need to know. The other parts are set. False if it is too much memory, or too deep. */
bool program_measure(pgr_program *p);

/* Fills output_registers, and joins those to runs. Both have room for all outputs. */
void program_list_outputs(pgr_program *p);
void program_join_outputs(pgr_program *p);

#endif
