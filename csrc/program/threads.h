/* threads.h: a mutex, and threads that are joined, of POSIX or of Windows. */
#ifndef PGR_INTERNAL_THREADS_H
#define PGR_INTERNAL_THREADS_H

#include <stdbool.h>

#if defined(_WIN32)
#define WIN32_LEAN_AND_MEAN
#define NOMINMAX
#include <windows.h>
#include <process.h>

typedef SRWLOCK mutex;

static inline bool mutex_make(mutex *m)
{
    InitializeSRWLock(m);
    return true;
}
static inline void mutex_free(mutex *m) { (void)m; }
static inline void mutex_lock(mutex *m) { AcquireSRWLockExclusive(m); }
static inline void mutex_unlock(mutex *m) { ReleaseSRWLockExclusive(m); }

typedef struct {
    HANDLE handle;
    void (*work)(void *arg);
    void *arg;
} thread;

static inline unsigned __stdcall thread_main(void *arg)
{
    const thread *const t = arg;
    t->work(t->arg);
    return 0;
}

/* `t` stays where it is until the thread is joined. */
static inline bool thread_start(thread *t, void (*work)(void *arg), void *arg)
{
    t->work = work;
    t->arg = arg;
    t->handle = (HANDLE)_beginthreadex(NULL, 0, thread_main, t, 0, NULL);
    return t->handle != NULL;
}

static inline void thread_join(thread *t)
{
    WaitForSingleObject(t->handle, INFINITE);
    CloseHandle(t->handle);
}
#else
#include <pthread.h>

typedef pthread_mutex_t mutex;

static inline bool mutex_make(mutex *m) { return pthread_mutex_init(m, NULL) == 0; }
static inline void mutex_free(mutex *m) { pthread_mutex_destroy(m); }
static inline void mutex_lock(mutex *m) { pthread_mutex_lock(m); }
static inline void mutex_unlock(mutex *m) { pthread_mutex_unlock(m); }

typedef struct {
    pthread_t id;
    void (*work)(void *arg);
    void *arg;
} thread;

static inline void *thread_main(void *arg)
{
    const thread *const t = arg;
    t->work(t->arg);
    return NULL;
}

/* `t` stays where it is until the thread is joined. */
static inline bool thread_start(thread *t, void (*work)(void *arg), void *arg)
{
    t->work = work;
    t->arg = arg;
    return pthread_create(&t->id, NULL, thread_main, t) == 0;
}

static inline void thread_join(thread *t) { pthread_join(t->id, NULL); }
#endif

#endif
