/* program.h: a recorded function as a flat list of instructions over slots.
 *
 * Slots hold numbers: uniform ones a single number, lane ones a block of them, one for each of some lanes of a
 * vmap. A program is a list of segments, run in order: uniform ones once, lane ones block after block. What
 * a lane segment sums over its lanes goes to uniform slots, for segments after it. */
#ifndef PGR_INTERNAL_PROGRAM_H
#define PGR_INTERNAL_PROGRAM_H

#include "tape/nodes.h"

#define PROGRAM_DOT      PGR_PROGRAM_DOT
#define PROGRAM_LANE_SUM PGR_PROGRAM_LANE_SUM
#define PROGRAM_LANE_DOT PGR_PROGRAM_LANE_DOT
#define PROGRAM_LOAD     PGR_PROGRAM_LOAD
#define PROGRAM_STORE    PGR_PROGRAM_STORE
#define PROGRAM_RUN      PGR_PROGRAM_RUN
#define SLOT_LANE        PGR_SLOT_LANE
#define SLOT_NONE        PGR_SLOT_NONE
_Static_assert((int)PGR_OP_COUNT <= (int)PGR_PROGRAM_DOT, "instructions besides the table's come after it");

typedef pgr_instruction instruction;
typedef pgr_program_dot program_dot;
typedef pgr_segment segment;
typedef pgr_uniform_input uniform_input;

/* Lanes to a block, and bytes that its slots may take unless there are fewest: half of a second-level cache. */
enum { BLOCK_FEWEST = 16, BLOCK_MOST = 256, BLOCK_BYTES = 1 << 20 };

typedef struct { /* out[array][offset + i], for i < count: the next of output_slots */
    uint32_t array;
    uint64_t offset, count;
} uniform_output;

/* As pgr_program_parts, which says what each is. */
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
    uint32_t instruction_count, arg_count, dot_count, segment_count, constant_count, input_count, output_count, group_count;
    uint32_t uniform_slots, lane_slots, block, nodes;

    uint32_t *output_slots;      /* of the uniform outputs .. */
    uniform_output *output_runs; /* .. and where they go */
    uint32_t output_run_count;

    uint32_t *lines; /* see pgr_program_lines; NULL: not known */
    pgr_id *captures;
    pgr_handle *held_captures; /* of a program built by handle */
    uint32_t capture_count;
    pgr_allocator allocator;
};

/* Whether it passes the checks that parts go through, for arrays as long as it takes. */
bool program_is_sound(const pgr_program *p);

/* Makes runs of the uniform ones among the outputs. There is room for as many. */
void program_join_outputs(pgr_program *p);

#endif
