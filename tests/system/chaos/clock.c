/*
 * Moves the wall clock of a process (LD_PRELOAD), by as many seconds as a small file says that both sides map: CLOCK_FILE
 * holds a signed 64-bit integer. Steady clocks are left alone. libfaketime does this too, and more; it takes most of a
 * node's speed with it.
 *
 * A wait until a moment of the wall clock is moved back before the kernel sees it: its own clock does not jump.
 */

#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define SINCE_BOOT 1000000000 /* no steady clock shows more seconds, and every wall clock does */

static volatile int64_t *offset;

static void *next_of(const char *name, const char *version)
{
    void *found = version ? dlvsym(RTLD_NEXT, name, version) : dlsym(RTLD_NEXT, name);
    if (found == NULL)
        abort();
    return found;
}

#define NEXT(name, version)                                                                                            \
    static __typeof__(name) *next;                                                                                     \
    if (next == NULL)                                                                                                  \
        next = (__typeof__(name) *)next_of(#name, version);

__attribute__((constructor)) static void set_up(void)
{
    const char *path = getenv("CLOCK_FILE");
    if (path == NULL)
        return;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    void *at = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof *offset, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        abort();
    close(fd);
    offset = at;
}

static int64_t ahead(void)
{
    return offset ? *offset : 0;
}

static struct timespec kernels(const struct timespec *until)
{
    struct timespec moved = *until;
    if (moved.tv_sec > SINCE_BOOT)
        moved.tv_sec -= ahead();
    return moved;
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *now)
{
    NEXT(clock_gettime, NULL)
    int failed = next(clock, now);
    if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += ahead();
    return failed;
}

EXPORT int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &exact) != 0)
        return -1;
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}

EXPORT time_t time(time_t *now)
{
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME_COARSE, &exact);
    if (now != NULL)
        *now = exact.tv_sec;
    return exact.tv_sec;
}

EXPORT int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                                  const struct timespec *restrict until)
{
    NEXT(pthread_cond_timedwait, "GLIBC_2.3.2")
    struct timespec moved = kernels(until);
    return next(condition, mutex, &moved);
}

EXPORT int pthread_cond_clockwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex, clockid_t clock,
                                  const struct timespec *restrict until)
{
    NEXT(pthread_cond_clockwait, NULL)
    struct timespec moved = kernels(until);
    return next(condition, mutex, clock, &moved);
}

EXPORT int pthread_mutex_timedlock(pthread_mutex_t *restrict mutex, const struct timespec *restrict until)
{
    NEXT(pthread_mutex_timedlock, NULL)
    struct timespec moved = kernels(until);
    return next(mutex, &moved);
}

EXPORT int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until)
{
    NEXT(sem_timedwait, NULL)
    struct timespec moved = kernels(until);
    return next(semaphore, &moved);
}

EXPORT int sem_clockwait(sem_t *restrict semaphore, clockid_t clock, const struct timespec *restrict until)
{
    NEXT(sem_clockwait, NULL)
    struct timespec moved = kernels(until);
    return next(semaphore, clock, &moved);
}

EXPORT long syscall(long number, ...)
{
    NEXT(syscall, NULL)
    va_list more;
    long given[6];
    va_start(more, number);
    for (int each = 0; each < 6; each++)
        given[each] = va_arg(more, long);
    va_end(more);
    struct timespec moved;
    if (number == SYS_futex && (given[1] & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET && given[3] != 0) {
        moved = kernels((const struct timespec *)given[3]);
        given[3] = (long)&moved;
    }
    return next(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
