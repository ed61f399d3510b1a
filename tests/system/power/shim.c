/*
 * A shim between a process and its files (LD_PRELOAD). It does two things, each of them only when asked to, for the
 * files below one folder:
 *
 *   1. It keeps a journal of everything that changes a file or a name there, and of every sync: enough to undo each
 *      change (bytes that were overwritten or cut off are kept; a file that loses its last name is linked into a
 *      graveyard first) and enough to do it again. tests/system/power/journal.py reads it.
 *   2. It injects: an error, a delay, or SIGKILL, at chosen calls on chosen files, by rules in a small file that both
 *      sides map, so that rules can be set and read while the process runs. shim.py writes them.
 *
 * Environment, all paths absolute, all four on one file system:
 *   SHIM_ROOT       the folder that is watched; it must exist. What is not below it passes untouched.
 *   SHIM_JOURNAL    the journal. Without it nothing is journalled. Later processes append: a journal spans restarts.
 *   SHIM_GRAVEYARD  a folder outside of the root; needed with SHIM_JOURNAL.
 *   SHIM_CONTROL    the rules. Without it nothing is injected.
 *
 * A change is written down before it is made, marked as done afterwards: whoever reads the journal of a killed process
 * finds at most one unfinished change, and undoing that one is right whether it happened, partly or not at all. A sync
 * is written down when it begins, which is what it covers, and counts only when it is marked as done.
 *
 * A call that changes files below the root and is not known here ends the process by abort(), after a line on standard
 * error and a record in the journal: nothing is missed silently. What goes round the C library altogether is found by
 * journal.py, which replays the journal and compares.
 *
 * Not followed, and refused: writing by stdio or mmap, copy_file_range and its like, symbolic links, renaming
 * directories or across them, a second process at the same time. io_uring is answered with ENOSYS.
 */

#define _GNU_SOURCE
#undef _FORTIFY_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(long) == 8, "64-bit only: file offsets are passed to system calls in one register");

#define EXPORT __attribute__((visibility("default")))

/* ------------------------------------------------------------------------------------- formats (also in *.py) --- */

enum kind { CREATE = 1, WRITE, TRUNCATE, SYNC, RENAME, UNLINK, MKDIR, RMDIR, LINK, SYNC_ALL, START, UNKNOWN };
enum state { PENDING, DONE, FAILED };

struct record {
    uint32_t magic, kind;
    uint64_t size; /* of the record with what follows it, rounded up to 8 */
    int32_t state, error;
    uint64_t inode;  /* of the file; CREATE and MKDIR fill it in afterwards */
    uint64_t second; /* RENAME: the inode that lost this name, 0 for none. SYNC: 1 for a directory */
    int64_t offset;  /* WRITE: where. TRUNCATE: the new length. SYNC: the tail when it ended. START: the process id */
    int64_t before;  /* length of the file before */
    int64_t result;  /* WRITE: how many bytes were taken */
    uint32_t path_size, second_size;   /* names below the root; the root itself is "" */
    uint64_t old_size, new_size;       /* bytes that were replaced or cut off; bytes written */
    /* then: path, second path (RENAME, LINK: the new name), old bytes, new bytes */
};

struct journal {
    uint64_t magic, capacity;
    uint64_t tail; /* where the next record goes, from the start of the file */
};

struct rule {
    uint32_t active;   /* 0: free */
    uint32_t kinds;    /* bits, 1 << kind */
    int32_t error;     /* what the call fails with; 0: it is made; -1: SIGKILL instead of the call */
    uint32_t after;    /* 0, or 1 + the number of a rule that must have hit first */
    uint64_t skip;     /* how many matching calls pass first */
    uint64_t times;    /* how many are hit then; 0: all */
    uint64_t delay_us; /* each call that is hit waits so long first */
    uint64_t seen, hit; /* counted here */
    char pattern[200]; /* fnmatch(3) of the name below the root; '*' also matches '/' */
};

#define RECORD_MAGIC 0x4452u
#define JOURNAL_MAGIC 0x4c4e524a4d494853ull
#define CAPACITY (8ull << 30) /* sparse */
#define RULES 32

/* ---------------------------------------------------------------------------------------------------- set-up --- */

static long (*system_call)(long, ...);
static char root[PATH_MAX], graveyard[PATH_MAX];
static size_t root_size;
static dev_t root_device;
static struct journal *journal;
static struct rule *rules;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* held while a change is made and written down */
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pid_t owner;

static void say(const char *what, const char *detail)
{
    char text[PATH_MAX + 200];
    int size = snprintf(text, sizeof text, "shim: %s: %s\n", what, detail);
    system_call(SYS_write, 2, text, (size_t)size);
}

static void die(const char *what, const char *detail)
{
    say(what, detail);
    abort();
}

static void *map_file(const char *path, size_t size, int create)
{
    int fd = (int)system_call(SYS_openat, AT_FDCWD, path, O_RDWR | O_CLOEXEC | create, 0600);
    if (fd < 0 || (create && system_call(SYS_ftruncate, fd, size) != 0))
        die("cannot open", path);
    if (create && system_call(SYS_flock, fd, LOCK_EX | LOCK_NB) != 0)
        die("another process has the journal", path); /* the descriptor stays open, and with it the lock */
    void *at = (void *)system_call(SYS_mmap, NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0L);
    if (at == MAP_FAILED)
        die("cannot map", path);
    if (!create)
        system_call(SYS_close, fd);
    return at;
}

static struct record *note(enum kind kind, const char *path, const char *second, size_t old_size, size_t new_size);

static void set_up(void)
{
    system_call = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    const char *given = getenv("SHIM_ROOT"), *path;
    struct stat info;
    if (given == NULL)
        return;
    if (realpath(given, root) == NULL || stat(root, &info) != 0)
        die("SHIM_ROOT is not there", given);
    root_size = strlen(root);
    root_device = info.st_dev;
    owner = getpid();
    if ((path = getenv("SHIM_CONTROL")) != NULL)
        rules = map_file(path, RULES * sizeof(struct rule), 0);
    if ((path = getenv("SHIM_JOURNAL")) != NULL) {
        const char *place = getenv("SHIM_GRAVEYARD");
        if (place == NULL || realpath(place, graveyard) == NULL)
            die("SHIM_GRAVEYARD is not there", place ? place : "");
        journal = map_file(path, CAPACITY, O_CREAT);
        if (journal->magic == 0)
            *journal = (struct journal){JOURNAL_MAGIC, CAPACITY, sizeof(struct journal)};
        struct record *start = note(START, "", NULL, 0, 0);
        start->offset = owner;
        start->state = DONE;
    }
}

__attribute__((constructor)) static void begin(void) { pthread_once(&once, set_up); }

/* --------------------------------------------------------------------------------------------------- journal --- */

/* A new record with room for its bytes; the caller holds the lock, fills it and then calls `publish`. */
static struct record *note(enum kind kind, const char *path, const char *second, size_t old_size, size_t new_size)
{
    size_t path_size = strlen(path), second_size = second ? strlen(second) : 0;
    size_t size = (sizeof(struct record) + path_size + second_size + old_size + new_size + 7) & ~7ull;
    if (journal->tail + size > journal->capacity)
        die("the journal is full", path);
    struct record *made = (struct record *)((char *)journal + journal->tail);
    *made = (struct record){.magic = RECORD_MAGIC, .kind = kind, .size = size, .path_size = (uint32_t)path_size,
                            .second_size = (uint32_t)second_size, .old_size = old_size, .new_size = new_size};
    char *names = (char *)(made + 1);
    memcpy(names, path, path_size);
    memcpy(names + path_size, second ? second : "", second_size);
    if (kind == START) /* nothing else is to be filled in */
        __atomic_store_n(&journal->tail, journal->tail + size, __ATOMIC_RELEASE);
    return made;
}

static char *old_bytes(struct record *of) { return (char *)(of + 1) + of->path_size + of->second_size; }

static void publish(struct record *made)
{
    __atomic_store_n(&journal->tail, journal->tail + made->size, __ATOMIC_RELEASE);
}

static void finish(struct record *made, long result)
{
    made->error = result < 0 ? errno : 0;
    made->result = result;
    __atomic_store_n(&made->state, result < 0 ? FAILED : DONE, __ATOMIC_RELEASE);
}

static void unknown(const char *call, const char *path)
{
    if (journal != NULL) {
        pthread_mutex_lock(&lock);
        struct record *made = note(UNKNOWN, call, path, 0, 0);
        publish(made);
        finish(made, 0);
    }
    die(call, path);
}

/* Whether a change is to be journalled; a process that was forked off may not make any. */
static int journalled(const char *path)
{
    if (journal == NULL)
        return 0;
    if (getpid() != owner)
        unknown("a child process changes files", path);
    return 1;
}

/* ----------------------------------------------------------------------------------------- what is below root --- */

/* The name below the root, or NULL. */
static const char *below(const char *full)
{
    if (strncmp(full, root, root_size) != 0 || (full[root_size] != '/' && full[root_size] != 0))
        return NULL;
    return full[root_size] == 0 ? full + root_size : full + root_size + 1;
}

/* The name below the root of what a descriptor is open on, or NULL; sockets and pipes cost one fstat. */
static const char *name_of(int fd, struct stat *info, char full[PATH_MAX])
{
    char link[40];
    if (!root_size || fstat(fd, info) != 0 || info->st_dev != root_device ||
        !(S_ISREG(info->st_mode) || S_ISDIR(info->st_mode)))
        return NULL;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long size = system_call(SYS_readlinkat, AT_FDCWD, link, full, PATH_MAX - 1);
    if (size <= 0)
        return NULL;
    full[size] = 0;
    return below(full);
}

/* The same for a path that may not exist, relative to a directory; `full` gets the whole of it. */
static const char *name_at(int directory, const char *path, char full[PATH_MAX])
{
    char whole[PATH_MAX], parent[PATH_MAX], link[40];
    if (!root_size || path == NULL)
        return NULL;
    if (path[0] == '/' || directory == AT_FDCWD) {
        snprintf(whole, sizeof whole, "%s", path);
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        long size = system_call(SYS_readlinkat, AT_FDCWD, link, whole, PATH_MAX - 1);
        if (size <= 0)
            return NULL;
        snprintf(whole + size, sizeof whole - (size_t)size, "/%s", path);
    }
    size_t size = strlen(whole);
    while (size > 1 && whole[size - 1] == '/')
        whole[--size] = 0;
    char *slash = strrchr(whole, '/');
    const char *last = slash ? slash + 1 : whole;
    if (strcmp(last, ".") == 0 || strcmp(last, "..") == 0 || *last == 0)
        return realpath(whole, full) ? below(full) : NULL;
    if (slash == whole)
        return NULL; /* directly in "/" */
    if (slash != NULL)
        *slash = 0;
    if (realpath(slash ? whole : ".", parent) == NULL)
        return NULL;
    if ((size_t)snprintf(full, PATH_MAX, "%s/%s", parent, last) >= PATH_MAX)
        return NULL;
    return below(full);
}

/* ---------------------------------------------------------------------------------------------------- inject --- */

/* Obey the rules for one call: wait, die, or give back -1 with errno set. 0: make the call. */
static int obey(enum kind kind, const char *name)
{
    int error = 0;
    for (int each = 0; rules != NULL && each < RULES; each++) {
        struct rule *rule = &rules[each];
        if (!__atomic_load_n(&rule->active, __ATOMIC_ACQUIRE) || !(rule->kinds & 1u << kind) ||
            fnmatch(rule->pattern, name, 0) != 0)
            continue;
        if (rule->after && !__atomic_load_n(&rules[rule->after - 1].hit, __ATOMIC_ACQUIRE))
            continue;
        uint64_t seen = __atomic_fetch_add(&rule->seen, 1, __ATOMIC_ACQ_REL);
        if (seen < rule->skip || (rule->times && seen >= rule->skip + rule->times))
            continue;
        __atomic_fetch_add(&rule->hit, 1, __ATOMIC_ACQ_REL);
        if (rule->delay_us) {
            struct timespec wait = {(time_t)(rule->delay_us / 1000000), (long)(rule->delay_us % 1000000) * 1000};
            system_call(SYS_nanosleep, &wait, NULL);
        }
        if (rule->error < 0)
            system_call(SYS_kill, getpid(), SIGKILL);
        if (rule->error > 0)
            error = rule->error;
    }
    if (error)
        errno = error;
    return error ? -1 : 0;
}

/* ----------------------------------------------------------------------------------------------- file contents --- */

static void read_fully(int fd, char *into, size_t size, int64_t from, const char *name)
{
    while (size > 0) {
        long got = system_call(SYS_pread64, fd, into, size, from);
        if (got <= 0)
            die("cannot read what is overwritten", name);
        into += got, from += got, size -= (size_t)got;
    }
}

/* Bytes about to be replaced in [from, to). The descriptor may be write-only: read through another. */
static void keep_old(struct record *made, int fd, int64_t from, size_t size, const char *name)
{
    char link[40];
    if (size == 0)
        return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int reader = (int)system_call(SYS_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC, 0);
    if (reader < 0)
        die("cannot open what is overwritten", name);
    read_fully(reader, old_bytes(made), size, from, name);
    system_call(SYS_close, reader);
}

enum { AT_POSITION = -1 };

/* Every kind of write ends here: `number` and its arguments are the real call. */
static ssize_t write_call(long number, int fd, const struct iovec *parts, int count, int64_t offset, int flags)
{
    struct stat info;
    char full[PATH_MAX];
    const char *name = name_of(fd, &info, full);
    if (name != NULL && obey(WRITE, name) != 0)
        return -1;
    struct record *made = NULL;
    if (name != NULL && journalled(name)) {
        size_t size = 0;
        for (int each = 0; each < count; each++)
            size += parts[each].iov_len;
        if (flags)
            unknown("write with flags", name);
        pthread_mutex_lock(&lock);
        if (fstat(fd, &info) != 0)
            die("fstat failed", name);
        int64_t at = offset == AT_POSITION ? (int64_t)system_call(SYS_lseek, fd, 0L, SEEK_CUR) : offset;
        if (system_call(SYS_fcntl, fd, F_GETFL) & O_APPEND)
            at = info.st_size;
        size_t old = at < info.st_size ? (size_t)(info.st_size - at) : 0;
        old = old < size ? old : size;
        made = note(WRITE, name, NULL, old, size);
        made->inode = info.st_ino, made->offset = at, made->before = info.st_size;
        keep_old(made, fd, at, old, name);
        char *into = old_bytes(made) + old;
        for (int each = 0; each < count; into += parts[each].iov_len, each++)
            memcpy(into, parts[each].iov_base, parts[each].iov_len);
        publish(made);
    }
    long result;
    switch (number) {
    case SYS_write: result = system_call(number, fd, parts->iov_base, parts->iov_len); break;
    case SYS_pwrite64: result = system_call(number, fd, parts->iov_base, parts->iov_len, offset); break;
    case SYS_writev: result = system_call(number, fd, parts, count); break;
    default: result = system_call(number, fd, parts, count, offset, 0L, flags); break; /* pwritev, pwritev2 */
    }
    if (made != NULL) {
        finish(made, result);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

/* Every change of a length that is no write; `mode` is that of fallocate, or -1 for ftruncate. */
static int length_call(int fd, int64_t offset, int64_t length, int mode)
{
    struct stat info;
    char full[PATH_MAX];
    const char *name = name_of(fd, &info, full);
    if (name != NULL && obey(TRUNCATE, name) != 0)
        return -1;
    struct record *made = NULL;
    if (name != NULL && mode > 0 && mode != FALLOC_FL_KEEP_SIZE)
        unknown("fallocate that changes bytes", name);
    if (name != NULL && mode != FALLOC_FL_KEEP_SIZE && journalled(name)) {
        pthread_mutex_lock(&lock);
        if (fstat(fd, &info) != 0)
            die("fstat failed", name);
        int64_t now = mode < 0 ? length : offset + length > info.st_size ? offset + length : info.st_size;
        size_t old = now < info.st_size ? (size_t)(info.st_size - now) : 0;
        made = note(TRUNCATE, name, NULL, old, 0);
        made->inode = info.st_ino, made->offset = now, made->before = info.st_size;
        keep_old(made, fd, now, old, name);
        publish(made);
    }
    long result = mode < 0 ? system_call(SYS_ftruncate, fd, length)
                           : system_call(SYS_fallocate, fd, (long)mode, offset, length);
    if (made != NULL) {
        finish(made, result);
        pthread_mutex_unlock(&lock);
    }
    return (int)result;
}

/* fsync, fdatasync and syncfs. Not under the lock: others write meanwhile, and are not covered. */
static int sync_call(long number, int fd)
{
    struct stat info;
    char full[PATH_MAX];
    const char *name = name_of(fd, &info, full);
    if (name != NULL && obey(SYNC, name) != 0) {
        int error = errno;
        if (journalled(name)) {
            pthread_mutex_lock(&lock);
            struct record *failed = note(SYNC, name, NULL, 0, 0);
            failed->inode = info.st_ino, failed->second = S_ISDIR(info.st_mode);
            publish(failed);
            errno = error;
            finish(failed, -1);
            pthread_mutex_unlock(&lock);
        }
        errno = error;
        return -1;
    }
    struct record *made = NULL;
    if (name != NULL && journalled(name)) {
        pthread_mutex_lock(&lock);
        made = note(number == SYS_syncfs ? SYNC_ALL : SYNC, name, NULL, 0, 0);
        made->inode = info.st_ino, made->second = S_ISDIR(info.st_mode);
        publish(made);
        pthread_mutex_unlock(&lock);
    }
    long result = system_call(number, fd);
    if (made != NULL) {
        made->offset = (int64_t)__atomic_load_n(&journal->tail, __ATOMIC_ACQUIRE);
        finish(made, result);
    }
    return (int)result;
}

/* ------------------------------------------------------------------------------------------------------- names --- */

/* Keep a file that is about to lose a name. */
static void bury(const char *full, uint64_t inode)
{
    char grave[PATH_MAX + 32];
    snprintf(grave, sizeof grave, "%s/%llu", graveyard, (unsigned long long)inode);
    if (system_call(SYS_linkat, AT_FDCWD, full, AT_FDCWD, grave, 0L) != 0 && errno != EEXIST)
        die("cannot link into the graveyard", full);
}

static int open_call(int directory, const char *path, int flags, mode_t mode)
{
    char full[PATH_MAX];
    struct stat info;
    int changes = (flags & (O_CREAT | O_TRUNC)) != 0;
    int writes = (flags & O_ACCMODE) != O_RDONLY || changes;
    const char *name = writes ? name_at(directory, path, full) : NULL;
    struct record *made = NULL;
    if (name != NULL && ((flags & O_TMPFILE) == O_TMPFILE || flags & O_DSYNC))
        unknown("open with O_TMPFILE, O_SYNC or O_DSYNC", name);
    if (name != NULL && changes) {
        int there = lstat(full, &info) == 0;
        if (!there && (flags & O_CREAT) && obey(CREATE, name) != 0)
            return -1;
        if (there && flags & O_TRUNC && obey(TRUNCATE, name) != 0)
            return -1;
        if (there && S_ISLNK(info.st_mode))
            unknown("open through a symbolic link", name);
        if (journalled(name)) {
            pthread_mutex_lock(&lock);
            there = lstat(full, &info) == 0;
            if (!there && flags & O_CREAT) {
                made = note(CREATE, name, NULL, 0, 0);
                publish(made);
            } else if (there && flags & O_TRUNC && S_ISREG(info.st_mode)) {
                int reader = (int)system_call(SYS_openat, AT_FDCWD, full, O_RDONLY | O_CLOEXEC, 0);
                if (reader < 0)
                    die("cannot open what is truncated", name);
                made = note(TRUNCATE, name, NULL, (size_t)info.st_size, 0);
                made->inode = info.st_ino, made->before = info.st_size;
                read_fully(reader, old_bytes(made), (size_t)info.st_size, 0, name);
                system_call(SYS_close, reader);
                publish(made);
            }
            if (made == NULL)
                pthread_mutex_unlock(&lock);
        }
    }
    int fd = (int)system_call(SYS_openat, directory, path, flags, mode);
    if (made != NULL) {
        if (fd >= 0 && fstat(fd, &info) == 0)
            made->inode = info.st_ino;
        finish(made, fd);
        pthread_mutex_unlock(&lock);
    }
    return fd;
}

static int unlink_call(int directory, const char *path, int flags)
{
    char full[PATH_MAX];
    struct stat info;
    const char *name = name_at(directory, path, full);
    enum kind kind = flags & AT_REMOVEDIR ? RMDIR : UNLINK;
    if (name == NULL)
        return (int)system_call(SYS_unlinkat, directory, path, flags);
    if (obey(kind, name) != 0)
        return -1;
    if (!journalled(name) || lstat(full, &info) != 0)
        return (int)system_call(SYS_unlinkat, directory, path, flags);
    pthread_mutex_lock(&lock);
    struct record *made = note(kind, name, NULL, 0, 0);
    made->inode = info.st_ino;
    if (kind == UNLINK && S_ISREG(info.st_mode))
        bury(full, info.st_ino);
    publish(made);
    int result = (int)system_call(SYS_unlinkat, directory, path, flags);
    finish(made, result);
    pthread_mutex_unlock(&lock);
    return result;
}

static size_t parent_size(const char *name)
{
    const char *slash = strrchr(name, '/');
    return slash ? (size_t)(slash - name) : 0;
}

static int rename_call(int from_directory, const char *from, int to_directory, const char *to, unsigned flags)
{
    char from_full[PATH_MAX], to_full[PATH_MAX];
    struct stat info, target;
    const char *name = name_at(from_directory, from, from_full), *second = name_at(to_directory, to, to_full);
    if (name == NULL && second == NULL)
        return (int)system_call(SYS_renameat2, from_directory, from, to_directory, to, flags);
    if (obey(RENAME, second ? second : name) != 0)
        return -1;
    struct record *made = NULL;
    if (journalled(second ? second : name)) {
        if (name == NULL || second == NULL || flags || parent_size(name) != parent_size(second) ||
            strncmp(name, second, parent_size(name)) != 0)
            unknown("rename across directories, or with flags", from);
        pthread_mutex_lock(&lock);
        if (lstat(from_full, &info) == 0) {
            int replaces = lstat(to_full, &target) == 0;
            if (S_ISDIR(info.st_mode)) {
                pthread_mutex_unlock(&lock);
                unknown("rename of a directory", name);
            }
            made = note(RENAME, name, second, 0, 0);
            made->inode = info.st_ino;
            if (replaces) {
                made->second = target.st_ino;
                bury(to_full, target.st_ino);
            }
            publish(made);
        } else {
            pthread_mutex_unlock(&lock);
        }
    }
    int result = (int)system_call(SYS_renameat2, from_directory, from, to_directory, to, flags);
    if (made != NULL) {
        finish(made, result);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

static int link_call(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
    char from_full[PATH_MAX], to_full[PATH_MAX];
    struct stat info;
    const char *name = name_at(from_directory, from, from_full), *second = name_at(to_directory, to, to_full);
    if (second != NULL && obey(LINK, second) != 0)
        return -1;
    struct record *made = NULL;
    if (second != NULL && journalled(second)) {
        if (name == NULL)
            unknown("link from outside", second);
        pthread_mutex_lock(&lock);
        if (lstat(from_full, &info) == 0 && S_ISREG(info.st_mode)) {
            made = note(LINK, name, second, 0, 0);
            made->inode = info.st_ino;
            publish(made);
        } else {
            pthread_mutex_unlock(&lock);
        }
    }
    int result = (int)system_call(SYS_linkat, from_directory, from, to_directory, to, flags);
    if (made != NULL) {
        finish(made, result);
        pthread_mutex_unlock(&lock);
    }
    return result;
}

static int mkdir_call(int directory, const char *path, mode_t mode)
{
    char full[PATH_MAX];
    struct stat info;
    const char *name = name_at(directory, path, full);
    if (name == NULL)
        return (int)system_call(SYS_mkdirat, directory, path, mode);
    if (obey(MKDIR, name) != 0)
        return -1;
    if (!journalled(name))
        return (int)system_call(SYS_mkdirat, directory, path, mode);
    pthread_mutex_lock(&lock);
    struct record *made = note(MKDIR, name, NULL, 0, 0);
    publish(made);
    int result = (int)system_call(SYS_mkdirat, directory, path, mode);
    if (result == 0 && lstat(full, &info) == 0)
        made->inode = info.st_ino;
    finish(made, result);
    pthread_mutex_unlock(&lock);
    return result;
}

/* Give up when the descriptor is open on something below the root. */
static void refuse_descriptor(const char *call, int fd)
{
    struct stat info;
    char full[PATH_MAX];
    const char *name = name_of(fd, &info, full);
    if (name != NULL && journal != NULL)
        unknown(call, name);
}

static void refuse_path(const char *call, int directory, const char *path)
{
    char full[PATH_MAX];
    const char *name = name_at(directory, path, full);
    if (name != NULL && journal != NULL)
        unknown(call, name);
}

/* ------------------------------------------------------------------------------------ what the process calls --- */

#define ONE(data, size) (&(struct iovec){(void *)(data), (size)})
#define MODE(last) ({ mode_t m = 0; if (flags & (O_CREAT | __O_TMPFILE)) { va_list more; va_start(more, last); \
                      m = va_arg(more, mode_t); va_end(more); } m; })
#define READY begin()

EXPORT int open(const char *path, int flags, ...) { READY; return open_call(AT_FDCWD, path, flags, MODE(flags)); }
EXPORT int open64(const char *path, int flags, ...) { READY; return open_call(AT_FDCWD, path, flags, MODE(flags)); }
EXPORT int openat(int at, const char *path, int flags, ...) { READY; return open_call(at, path, flags, MODE(flags)); }
EXPORT int openat64(int at, const char *path, int flags, ...) { READY; return open_call(at, path, flags, MODE(flags)); }
EXPORT int __open_2(const char *path, int flags) { READY; return open_call(AT_FDCWD, path, flags, 0); }
EXPORT int __open64_2(const char *path, int flags) { READY; return open_call(AT_FDCWD, path, flags, 0); }
EXPORT int __openat_2(int at, const char *path, int flags) { READY; return open_call(at, path, flags, 0); }
EXPORT int __openat64_2(int at, const char *path, int flags) { READY; return open_call(at, path, flags, 0); }
#define NEW (O_CREAT | O_WRONLY | O_TRUNC)
EXPORT int creat(const char *path, mode_t mode) { READY; return open_call(AT_FDCWD, path, NEW, mode); }
EXPORT int creat64(const char *path, mode_t mode) { READY; return open_call(AT_FDCWD, path, NEW, mode); }

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
    READY;
    return write_call(SYS_write, fd, ONE(data, size), 1, AT_POSITION, 0);
}
EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    READY;
    return write_call(SYS_pwrite64, fd, ONE(data, size), 1, at, 0);
}
EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t at) { return pwrite64(fd, data, size, at); }
EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    READY;
    return write_call(SYS_writev, fd, parts, count, AT_POSITION, 0);
}
EXPORT ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at)
{
    READY;
    return write_call(SYS_pwritev, fd, parts, count, at, 0);
}
EXPORT ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    return pwritev64(fd, parts, count, at);
}
EXPORT ssize_t pwritev64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags)
{
    READY;
    return write_call(SYS_pwritev2, fd, parts, count, at, flags);
}
EXPORT ssize_t pwritev2(int fd, const struct iovec *parts, int count, off_t at, int flags)
{
    return pwritev64v2(fd, parts, count, at, flags);
}

EXPORT int ftruncate64(int fd, off64_t length) { READY; return length_call(fd, 0, length, -1); }
EXPORT int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }
EXPORT int fallocate64(int fd, int mode, off64_t at, off64_t size) { READY; return length_call(fd, at, size, mode); }
EXPORT int fallocate(int fd, int mode, off_t at, off_t size) { return fallocate64(fd, mode, at, size); }
EXPORT int posix_fallocate64(int fd, off64_t at, off64_t size) { return fallocate64(fd, 0, at, size) ? errno : 0; }
EXPORT int posix_fallocate(int fd, off_t at, off_t size) { return posix_fallocate64(fd, at, size); }
EXPORT int truncate64(const char *path, off64_t length)
{
    READY;
    int fd = open_call(AT_FDCWD, path, O_WRONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    int result = length_call(fd, 0, length, -1), error = errno;
    system_call(SYS_close, fd);
    errno = error;
    return result;
}
EXPORT int truncate(const char *path, off_t length) { return truncate64(path, length); }

EXPORT int fsync(int fd) { READY; return sync_call(SYS_fsync, fd); }
EXPORT int fdatasync(int fd) { READY; return sync_call(SYS_fdatasync, fd); }
EXPORT int syncfs(int fd) { READY; return sync_call(SYS_syncfs, fd); }
/* sync and sync_file_range promise nothing that survives a power cut: they pass, and nothing counts as synced. */

EXPORT int unlink(const char *path) { READY; return unlink_call(AT_FDCWD, path, 0); }
EXPORT int unlinkat(int at, const char *path, int flags) { READY; return unlink_call(at, path, flags); }
EXPORT int rmdir(const char *path) { READY; return unlink_call(AT_FDCWD, path, AT_REMOVEDIR); }
EXPORT int remove(const char *path)
{
    READY;
    int result = unlink_call(AT_FDCWD, path, 0);
    return result != 0 && (errno == EISDIR || errno == EPERM) ? unlink_call(AT_FDCWD, path, AT_REMOVEDIR) : result;
}
EXPORT int rename(const char *from, const char *to) { READY; return rename_call(AT_FDCWD, from, AT_FDCWD, to, 0); }
EXPORT int renameat(int at, const char *from, int to_at, const char *to)
{
    READY;
    return rename_call(at, from, to_at, to, 0);
}
EXPORT int renameat2(int at, const char *from, int to_at, const char *to, unsigned flags)
{
    READY;
    return rename_call(at, from, to_at, to, flags);
}
EXPORT int link(const char *from, const char *to) { READY; return link_call(AT_FDCWD, from, AT_FDCWD, to, 0); }
EXPORT int linkat(int at, const char *from, int to_at, const char *to, int flags)
{
    READY;
    return link_call(at, from, to_at, to, flags);
}
EXPORT int mkdir(const char *path, mode_t mode) { READY; return mkdir_call(AT_FDCWD, path, mode); }
EXPORT int mkdirat(int at, const char *path, mode_t mode) { READY; return mkdir_call(at, path, mode); }

/* ------------------------------------------------------------------------- what is passed on, or not supported --- */

#define REAL(type, name) ((type)dlsym(RTLD_NEXT, name))
#define STDIO_WRITES(mode) (strpbrk(mode, "wa+") != NULL)

EXPORT FILE *fopen64(const char *path, const char *mode)
{
    READY;
    if (STDIO_WRITES(mode))
        refuse_path("fopen", AT_FDCWD, path);
    return REAL(FILE * (*)(const char *, const char *), "fopen64")(path, mode);
}
EXPORT FILE *fopen(const char *path, const char *mode) { return fopen64(path, mode); }
EXPORT FILE *freopen64(const char *path, const char *mode, FILE *file)
{
    READY;
    if (path != NULL && STDIO_WRITES(mode))
        refuse_path("freopen", AT_FDCWD, path);
    return REAL(FILE * (*)(const char *, const char *, FILE *), "freopen64")(path, mode, file);
}
EXPORT FILE *freopen(const char *path, const char *mode, FILE *file) { return freopen64(path, mode, file); }
EXPORT FILE *fdopen(int fd, const char *mode)
{
    READY;
    if (STDIO_WRITES(mode))
        refuse_descriptor("fdopen", fd);
    return REAL(FILE * (*)(int, const char *), "fdopen")(fd, mode);
}
EXPORT void *mmap64(void *at, size_t size, int protection, int flags, int fd, off64_t offset)
{
    READY;
    if (protection & PROT_WRITE && flags & MAP_SHARED && !(flags & MAP_ANONYMOUS))
        refuse_descriptor("mmap", fd);
    return (void *)system_call(SYS_mmap, at, size, (long)protection, (long)flags, (long)fd, offset);
}
EXPORT void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    return mmap64(at, size, protection, flags, fd, offset);
}
EXPORT ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags)
{
    READY;
    refuse_descriptor("copy_file_range", to);
    return system_call(SYS_copy_file_range, from, from_at, to, to_at, size, flags);
}
EXPORT ssize_t sendfile64(int to, int from, off64_t *at, size_t size)
{
    READY;
    refuse_descriptor("sendfile", to);
    return system_call(SYS_sendfile, to, from, at, size);
}
EXPORT ssize_t sendfile(int to, int from, off_t *at, size_t size) { return sendfile64(to, from, at, size); }
EXPORT ssize_t splice(int from, off64_t *from_at, int to, off64_t *to_at, size_t size, unsigned flags)
{
    READY;
    refuse_descriptor("splice", to);
    return system_call(SYS_splice, from, from_at, to, to_at, size, flags);
}
EXPORT int symlinkat(const char *target, int at, const char *path)
{
    READY;
    refuse_path("symlink", at, path);
    return (int)system_call(SYS_symlinkat, target, at, path);
}
EXPORT int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }
EXPORT int mknodat(int at, const char *path, mode_t mode, dev_t device)
{
    READY;
    refuse_path("mknod", at, path);
    return (int)system_call(SYS_mknodat, at, path, mode, device);
}
EXPORT int mknod(const char *path, mode_t mode, dev_t device) { return mknodat(AT_FDCWD, path, mode, device); }

/* Programs that make system calls by number. */
EXPORT long syscall(long number, ...)
{
    va_list more;
    va_start(more, number);
    long a = va_arg(more, long), b = va_arg(more, long), c = va_arg(more, long);
    long d = va_arg(more, long), e = va_arg(more, long), f = va_arg(more, long);
    va_end(more);
    READY;
    switch (number) {
    case SYS_io_uring_setup: errno = ENOSYS; return -1;
    case SYS_write: return write(a, (const void *)b, (size_t)c);
    case SYS_pwrite64: return pwrite64((int)a, (const void *)b, (size_t)c, d);
    case SYS_writev: return writev((int)a, (const struct iovec *)b, (int)c);
    case SYS_openat: return open_call((int)a, (const char *)b, (int)c, (mode_t)d);
    case SYS_fsync: return fsync((int)a);
    case SYS_fdatasync: return fdatasync((int)a);
    case SYS_ftruncate: return ftruncate64((int)a, b);
    case SYS_fallocate: return fallocate64((int)a, (int)b, c, d);
    case SYS_renameat2: return renameat2((int)a, (const char *)b, (int)c, (const char *)d, (unsigned)e);
    case SYS_unlinkat: return unlinkat((int)a, (const char *)b, (int)c);
    case SYS_copy_file_range: refuse_descriptor("copy_file_range", (int)c); break;
    case SYS_pwritev: case SYS_pwritev2: refuse_descriptor("pwritev by number", (int)a); break;
    case SYS_sendfile: refuse_descriptor("sendfile", (int)a); break;
    case SYS_splice: refuse_descriptor("splice", (int)c); break;
    default: break;
    }
    return system_call(number, a, b, c, d, e, f);
}
