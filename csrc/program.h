/* program.h: a recorded function as a flat list of instructions over slots.
 *
 * Slots hold numbers: uniform ones a single number, lane ones a block of them, one for each of some lanes of a
 * vmap. A program is a list of segments, run in order: uniform ones once, lane ones block after block. What
 * a lane segment sums over its lanes goes to uniform slots, for segments after it. */
#ifndef PGR_INTERNAL_PROGRAM_H
#define PGR_INTERNAL_PROGRAM_H

#include "tape.h"

/* Instructions besides those of the table. */
enum {
    PROGRAM_DOT = PGR_OP_COUNT, /* out = [a] + args[b][0] * args[b][1] + ...: see program_dot */
    PROGRAM_LANE_SUM,           /* out += sum over lanes of a */
    PROGRAM_LANE_DOT,           /* out += sum over lanes of a * b */
    PROGRAM_LOAD,               /* lane input number a */
    PROGRAM_STORE,              /* a, to output number b */
    PROGRAM_RUN                 /* the next `a` instructions are alike, and none needs another's result */
};

/* A slot's index; lane slots carry this bit, uniform ones do not. */
#define SLOT_LANE UINT32_C(0x80000000)
#define SLOT_NONE UINT32_C(0x7fffffff)

typedef struct {
    uint32_t op, out, a, b;
} instruction;

/* The operands of a dot: args[first] .. args[first + 2 * count - 1], in pairs. The second is SLOT_NONE where there is
 * one alone; of a uniform and a lane one, the uniform one is the first. */
typedef struct {
    uint32_t first, count;
} program_dot;

typedef struct {
    uint32_t first, count; /* of its instructions */
    uint32_t group;        /* of lanes; UINT32_MAX: uniform */
    uint32_t first_sum, sum_count; /* uniform slots of its sums over lanes */
} segment;

typedef struct { /* slot + i is in[array][offset + i], for i < count */
    uint32_t slot, array;
    uint64_t offset;
    uint64_t count;
} uniform_input;

typedef struct { /* out[array][offset + i], for i < count: the next of output_slots */
    uint32_t array;
    uint64_t offset, count;
} uniform_output;

struct pgr_program {
    instruction *instructions;
    uint32_t *origins; /* see pgr_program_origins */
    uint32_t *args;
    program_dot *dots;
    segment *segments;
    double *constants; /* of the first uniform slots */
    uniform_input *inputs;
    pgr_output *outputs; /* `node` is a slot, SLOT_LANE for what lanes store */
    uint32_t *output_slots;
    uniform_output *output_runs;
    pgr_lane_input *lane_inputs;
    uint32_t *group_first_input; /* of lane_inputs, by group; one more than there are groups */
    uint64_t *group_lanes;
    uint32_t instruction_count, arg_count, dot_count, segment_count, constant_count, input_count, output_count, output_run_count, group_count;
    uint32_t uniform_slots, lane_slots, nodes;
    uint32_t block; /* lanes that are worked on together, at most */
    pgr_id *captures;
    uint32_t capture_count;
    pgr_allocator allocator;
};

/* Makes runs of the uniform ones among the outputs. There is room for as many. */
void program_join_outputs(pgr_program *p);

#endif
