/* packs.h: what a program computes once, as packs: alike operations, eight at a time.
 *
 * Packs are made from a program's instructions, which stay what listings, files and to_c know. A stretch of uniform
 * instructions is ordered by level (what depends on nothing that the stretch computes, then what depends on that, ..),
 * and within a level by operation. Each result gets a place of its own in the workspace, after the registers, and
 * those of alike operations are neighbours, so that their readers often find eight operands in a row. */
#ifndef PGR_INTERNAL_PACKS_H
#define PGR_INTERNAL_PACKS_H

#include "program/program.h"

enum { PACK = 8 };

/* How a pack finds the eight numbers of an operand at x: from place x on, all at place x, or where index[x ..] says. */
enum { IN_A_ROW, THE_SAME, GATHERED, OPERAND_KINDS };

/* Steps beyond the table's operations. */
enum {
    PACK_SUMS = 192, /* eight dots side by side, term by term */
    PACK_ROWS,       /* eight dots, each by eight terms at a time .. */
    PACK_LONG_SUM,   /* .. and one */
    PACK_ADD_UP,     /* most terms of a very long one */
    PACK_PLAIN       /* instructions that are too few of their kind */
};

/* `count` packs, or sums, or plain instructions. Numbers of packs are in `code` from `first` on. Of an operation, three
 * for each pack: its place, and its operands. Of sums: their place, the kind of what they start from, that operand, and
 * the number of runs, with the runs; of rows, these for each of eight. A run is `terms * RUN_KINDS + kinds` and two
 * operands for each of its terms. To add up: two operands for each of its terms, to SUMMANDS sums at `place`, from
 * which a long sum starts, then, whose kind is IN_A_ROW.
 *
 * `strip` steps from here on, if there are two or more, have equally many packs, and pack k of each reads nothing of
 * the others but pack k: they run STRIP_CHUNK packs at a time, which stay in the cache. Results that nothing else reads
 * have places for one such chunk only. */
typedef struct {
    uint32_t op, kinds, count, first, place, strip;
    uint32_t goes_on; /* adding up: not from 0 */
} pack_step;
#define RUN_KINDS 16u
enum { SUMMANDS = 4 * PACK, STRIP_CHUNK = 32, SHORTEST_STRIP = 2 * STRIP_CHUNK };

/* Instructions first .. first + count of the program. After its steps, `copy_count` numbers are copied from places to
 * registers, which something else reads. */
typedef struct {
    uint32_t first, count, first_step, step_count, first_copy, copy_count;
} pack_stretch;

typedef struct {
    uint32_t to, from;
} pack_copy;

struct program_packs { /* see program.h */
    pack_stretch *stretches;
    pack_step *steps;
    uint32_t *code, *index;
    instruction *plain;
    uint32_t *args; /* of plain instructions .. */
    program_dot *dots;
    pack_copy *copies;
    uint32_t stretch_count, step_count, code_count, index_count, plain_count, arg_count, dot_count, copy_count;
    uint32_t first; /* the first two places hold 1 and -0 */
};

/* Makes packs of a program's stretches that gain by them, if any do. Sets `numbers`, and output_registers to where
 * results are then. PGR_ERR_NOMEM. */
pgr_status program_pack(pgr_program *p);

void program_free_packs(pgr_program *p);

#endif
