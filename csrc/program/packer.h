/* packer.h: packs under construction. */
#ifndef PGR_INTERNAL_PACKER_H
#define PGR_INTERNAL_PACKER_H

#include "program/packs.h"

#include <string.h>

/* An operand is a place, or LOCAL | the number of an instruction of the stretch, whose place is not known yet. */
#define LOCAL 0x80000000u

/* To sort by, and what is sorted. */
typedef struct {
    uint64_t key;
    uint32_t id;
} keyed;

typedef struct {
    pgr_program *program;
    program_packs *packs;
    pgr_status status;
    uint32_t *current;               /* by register, where its number is now */
    uint32_t *last_read;             /* .. and the last instruction that reads it; NULL: not looked for yet */
    uint32_t top;                    /* the next place */

    const instruction *instructions; /* of the stretch: by number .. */
    uint32_t count;
    uint32_t *a, *b;                 /* .. operands; a dot's are what it starts from, and where its terms begin .. */
    uint32_t *level;                 /* .. its level, from 1 on; 0: not an instruction to run .. */
    uint32_t *place;                 /* .. and where its result goes */
    uint32_t term_count, *terms;     /* two operands for each term of a dot */
    uint32_t *before;                /* what its result's register stood for */
    uint32_t ordered, *order;        /* numbers by level, then by operation */
    uint32_t first_step, first_place; /* the stretch's .. */
    uint32_t sum_end;                /* .. and where the last sum's numbers end */
    keyed *keys, *spare;             /* room to sort a group .. */
    keyed *term_keys, *term_spare;   /* .. and the terms of a dot .. */
    uint32_t sorted_terms;           /* .. so many */
    uint8_t *kind;                   /* by pack of a group .. */
    uint32_t kinds[OPERAND_KINDS * OPERAND_KINDS]; /* .. and how many have each */
} packer;

static inline uint32_t place_of(const packer *k, uint32_t operand)
{
    return (operand & LOCAL) != 0 ? k->place[operand & ~LOCAL] : operand;
}

static inline uint32_t terms_of(const packer *k, uint32_t number)
{
    return k->instructions[number].op == PROGRAM_DOT ? k->program->dots[k->instructions[number].b].count : 0;
}

static inline void *packer_resize(const packer *k, void *array, size_t size)
{
    return k->program->allocator.resize(k->program->allocator.ctx, array, size);
}

/* The array with room for `more` elements after `count`: see tape_grow. As it was, with PGR_ERR_NOMEM, on failure. */
static inline void *packer_grow(packer *k, void *array, size_t count, size_t more, size_t size)
{
    size_t capacity = count == 0 ? 0 : 64, wanted = 64;
    while (capacity < count)
        capacity *= 2;
    if (count + more <= capacity || k->status != PGR_OK)
        return array;
    while (wanted < count + more)
        wanted *= 2;
    void *const grown = packer_resize(k, array, wanted * size);
    if (grown == NULL)
        k->status = PGR_ERR_NOMEM;
    return grown == NULL ? array : grown;
}

/* How many instructions from place i of the order on are of one level and operation. */
static inline uint32_t group_from(const packer *k, uint32_t i)
{
    uint32_t n = 1;
    while (i + n < k->ordered && k->level[k->order[i + n]] == k->level[k->order[i]] &&
           k->instructions[k->order[i + n]].op == k->instructions[k->order[i]].op)
        n++;
    return n;
}

/* pack_order.c: finds levels and the order. Returns whether packs of this stretch gain. */
bool pgr__packer_order(packer *k);

/* Sorts by key, stably. */
void pgr__packer_sort(keyed *keys, keyed *spare, uint32_t n);

/* pack_emit.c: gives the n instructions of a group, of one level and operation, their places and makes their packs. */
void pgr__packer_emit(packer *k, const uint32_t *group, uint32_t n);

/* pack_strip.c: makes strips of the stretch's steps; it ends before instruction `end`. */
void pgr__packer_strips(packer *k, uint32_t end);

#endif
