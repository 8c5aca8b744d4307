/* check.h: CHECK counts and reports; TEST runs one test; each program ends with its counts. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgr.h"
#include "tape/slots.h"
#include "tape/tags.h"
#include "tape/tape.h"

static int check_failures, check_passed, check_failed;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            printf("%s:%d: %s: %s\n", __FILE__, __LINE__, __func__, #condition); \
            check_failures++; \
        } \
    } while (0)

#define CHECK_EQ(actual, expected) \
    do { \
        const double actual_ = (double)(actual), expected_ = (double)(expected); \
        if (!(actual_ == expected_ || (isnan(actual_) && isnan(expected_)))) { \
            printf("%s:%d: %s: %s is %.17g, not %.17g\n", __FILE__, __LINE__, __func__, #actual, actual_, expected_); \
            check_failures++; \
        } \
    } while (0)

#define TEST(name) \
    do { \
        check_failures = 0; \
        name(); \
        *(check_failures == 0 ? &check_passed : &check_failed) += 1; \
    } while (0)

static inline int check_report(void)
{
    printf("%d passed, %d failed\n", check_passed, check_failed);
    return check_failed != 0;
}

/* SEED=... runs a random test again. */
static inline unsigned check_seed(void)
{
    const char *const given = getenv("SEED");
    const unsigned seed = given != NULL ? (unsigned)strtoul(given, NULL, 10) : 20260101u;
    printf("SEED=%u\n", seed);
    srand(seed);
    return seed;
}

static inline unsigned pick(unsigned n) { return (unsigned)rand() % n; }

/* The op of a name, -1 if there is none. */
static inline int op_named(const char *name)
{
    for (int op = 0; op < pgr_op_count(); op++)
        if (strcmp(pgr_op_row(op)->name, name) == 0)
            return op;
    return -1;
}

static inline pgr_id leaf(pgr_tape *tape, double value)
{
    pgr_id id = 0;
    CHECK(pgr_leaf(tape, value, &id) == PGR_OK);
    return id;
}

static inline pgr_id record(pgr_tape *tape, const char *name, pgr_id lhs, pgr_id rhs)
{
    pgr_id id = 0;
    CHECK(pgr_record(tape, op_named(name), lhs, rhs, &id) == PGR_OK);
    return id;
}

static inline pgr_handle held(int64_t handle)
{
    CHECK(handle > 0);
    return (pgr_handle)handle;
}

/* An allocator that fails, and counts its blocks. */
typedef struct {
    long until;  /* allocations that succeed; then they fail */
    long blocks; /* not yet freed */
} failing;

static inline void *failing_resize(void *ctx, void *p, size_t size)
{
    failing *const f = ctx;
    if (size == 0) {
        f->blocks -= p != NULL;
        free(p);
        return NULL;
    }
    if (f->until-- <= 0)
        return NULL;
    void *const q = realloc(p, size);
    f->blocks += p == NULL;
    return q;
}

#endif
