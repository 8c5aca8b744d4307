/* builder.h: a program under construction: its values, and what one pass hands to the next.
 *
 * Values are in SSA form: each is made once, after its operands, so ascending order is topological. A value's number is
 * its index. */
#ifndef PGR_INTERNAL_BUILDER_H
#define PGR_INTERNAL_BUILDER_H

#include "tape/tape.h"
#include "program/program.h"

#include <string.h>

#define NONE UINT32_MAX

/* op(a, b). An input's a and b are its offset and array, a lane's its index and group, a constant's its bits. A call's
 * a is its number; its results, of PGR_OP_CALL, have the call as a and their place among the results as b. */
typedef struct {
    uint32_t a, b;         /* values; NONE */
    uint32_t uses;
    uint32_t dot;          /* the dot that ends here; NONE */
    uint32_t reg;
    uint16_t stage, group; /* group: 1 and up; 0: the same in all lanes */
    uint32_t output;       /* the first output that is this value; NONE */
    uint32_t line;         /* see pgr_program_lines */
    uint8_t op;
    uint8_t is_fused;      /* part of a dot or lane dot, so without an instruction of its own */
    uint8_t is_live;       /* an output depends on it */
    uint8_t is_listed;     /* in the list of the lane segment being emitted */
} value;

/* A term of a dot: a * b, or a alone. */
typedef struct {
    uint32_t a, b, next;
} link;

/* A dot: init plus `count` terms, a list of links. */
typedef struct {
    uint32_t init, first, last, count, products;
} dot;

/* What a node from outside, or one of the program's own inputs, stands for. */
typedef struct {
    pgr_id node;
    int op;
    uint64_t number;
} binding;

/* The values of one call. */
typedef struct {
    uint32_t made;                 /* its value; NONE */
    uint32_t operand_count, result_count;
    pgr_id *nodes;                 /* of the operands .. */
    uint32_t *operands, *results;  /* .. their values, and those of the results; NONE */
} call_values;

typedef struct {
    pgr_tape *tape;
    pgr_status status; /* the first failure: later passes do nothing */
    pgr_program *program;
    pgr_id start;      /* the recording's first node */
    uint32_t captures_array;

    bool is_called;       /* see pgr_inner */
    binding *bindings;    /* by ascending node */
    size_t binding_count;
    call_values *calls;

    value *values;
    uint32_t value_count;
    pgr_id node;       /* being lowered .. */
    uint32_t line;     /* .. and its line */
    uint32_t *table;   /* simplify.c: hash of (op, a, b) */
    uint32_t table_mask;

    size_t group_count;    /* groups.c: the caller's groups .. */
    uint16_t *merged;      /* .. by group, the program's group that it became .. */
    uint32_t *first_input; /* .. by group, its first lane input, counted through all groups .. */
    uint32_t *lane_input;  /* .. and by lane input, its index in the program's group */

    link *links;           /* fuse.c */
    uint32_t link_count;
    dot *dots;
    uint32_t dot_count;
    uint32_t *next_output; /* by output, the next that is the same value; NONE */

    uint32_t *sorted;      /* schedule.c: live values by stage, each after its operands .. */
    uint32_t *stage_end;   /* .. where each stage ends in it .. */
    uint32_t last_stage;
    uint32_t *level;       /* .. and by uniform value a level: values of equal levels are independent */
} builder;

/* New memory for `count` elements and one more; NULL, with PGR_ERR_NOMEM, on failure. Raw memory stays untouched, so
 * that pages nobody writes to cost nothing. */
static inline void *grab_raw(builder *b, size_t count, size_t size)
{
    if (b->status != PGR_OK)
        return NULL;
    void *const p = count < SIZE_MAX / size ? tape_resize(b->tape, NULL, (count + 1) * size) : NULL;
    if (p == NULL)
        b->status = PGR_ERR_NOMEM;
    return p;
}

static inline void *grab(builder *b, size_t count, size_t size)
{
    void *const p = grab_raw(b, count, size);
    if (p != NULL)
        memset(p, 0, (count + 1) * size);
    return p;
}

/* The array with room for `more` elements after `count`; as it was, with PGR_ERR_NOMEM, on failure. */
static inline void *grow(builder *b, void *array, size_t count, size_t more, size_t size)
{
    void *const grown = tape_grow(b->tape, array, count, more, size);
    if (grown == NULL)
        b->status = PGR_ERR_NOMEM;
    return grown != NULL ? grown : array;
}

/* Whether a pass at its i-th step goes on. Asks the tape now and then whether to stop. */
static inline bool goes_on(builder *b, uint64_t i)
{
    if (PGR_UNLIKELY(i % TAPE_ASK_EVERY == 0) && b->status == PGR_OK)
        b->status = pgr__ask(b->tape);
    return b->status == PGR_OK;
}

/* Whether a value has no operands. */
static inline bool is_source(const value *v)
{
    return v->op == PGR_OP_CONST || v->op == PGR_OP_INPUT || v->op == PGR_OP_LANE;
}

/* Calls visit(value) for each operand of a call value. */
#define FOR_CALL_OPERANDS(b, v, visit) \
    do { \
        const call_values *const call_ = &(b)->calls[(v)->a]; \
        for (uint32_t k_ = 0; k_ < call_->operand_count; k_++) \
            visit(call_->operands[k_]); \
    } while (0)

static inline bool is_lane_value(const builder *b, uint32_t id) { return b->values[id].group != 0; }

#endif
