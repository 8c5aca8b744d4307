/* lock.c: the lock that calls on handles take, and a recursive mutex to be that lock. */
#define _XOPEN_SOURCE 700 /* recursive mutexes */
#include "tape/nodes.h"

#include <stdlib.h>

#ifdef _WIN32
#include <windows.h>
#else
#include <pthread.h>
#endif

int pgr__enter(pgr_tape *tape) { return tape->enter != NULL ? tape->enter(tape->lock_ctx) : 0; }

void pgr__leave(pgr_tape *tape, int token)
{
    if (tape->leave != NULL)
        tape->leave(tape->lock_ctx, token);
}

void pgr_tape_on_lock(pgr_tape *tape, int (*enter_fn)(void *ctx), void (*leave_fn)(void *ctx, int token), void *ctx)
{
    tape->enter = enter_fn;
    tape->leave = leave_fn;
    tape->lock_ctx = ctx;
}

/* Recursive, since a custom operation's function may call the tape. */
#ifdef _WIN32
typedef CRITICAL_SECTION mutex;
static pgr_status mutex_init(mutex *m) { InitializeCriticalSection(m); return PGR_OK; }
#define mutex_lock(m) EnterCriticalSection(m)
#define mutex_unlock(m) LeaveCriticalSection(m)
#define mutex_destroy(m) DeleteCriticalSection(m)
#else
typedef pthread_mutex_t mutex;
static pgr_status mutex_init(mutex *m)
{
    pthread_mutexattr_t attributes;
    if (pthread_mutexattr_init(&attributes) != 0)
        return PGR_ERR_NOMEM;
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    const int failed = pthread_mutex_init(m, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return failed ? PGR_ERR_NOMEM : PGR_OK;
}
#define mutex_lock(m) pthread_mutex_lock(m)
#define mutex_unlock(m) pthread_mutex_unlock(m)
#define mutex_destroy(m) pthread_mutex_destroy(m)
#endif

static int mutex_enter(void *ctx)
{
    mutex_lock((mutex *)ctx);
    return 0;
}

void pgr_tape_lock(pgr_tape *tape, int lock)
{
    if (lock)
        pgr__enter(tape);
    else
        pgr__leave(tape, 0);
}

static void mutex_leave(void *ctx, int token)
{
    if (token >= 0) { /* -1 comes from pgr_tape_free */
        mutex_unlock((mutex *)ctx);
        return;
    }
    mutex_destroy((mutex *)ctx);
    free(ctx);
}

pgr_status pgr_tape_use_mutex(pgr_tape *tape)
{
    mutex *const m = malloc(sizeof *m);
    if (m == NULL)
        return PGR_ERR_NOMEM;
    const pgr_status status = mutex_init(m);
    if (status == PGR_OK)
        pgr_tape_on_lock(tape, mutex_enter, mutex_leave, m);
    else
        free(m);
    return status;
}
