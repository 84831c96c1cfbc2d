/* A disk that fails: preloaded into a process, it makes the calls on files of one folder fail as it is told.
 *
 * FOLDER, what happens and at which call come from FAULTY_DISK="MODE:N:FOLDER" at the start, or from
 * faulty_disk_arm() at any time. Modes: 1, the disk is full from the Nth writing call on (the first write is
 * cut short, as on a real one); 2, the Nth call of any kind fails with EIO; 3, the process is killed in front
 * of the Nth writing call. Only calls through the C library are seen, which are all that Python, SQLite and
 * llama.cpp make on files here.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { NONE, FULL, BROKEN, KILLED };
enum { MOST = 4096 };

static char folder[4096];
static int mode;
static long wanted, n_calls, n_faults;
static unsigned char is_ours[MOST]; /* by descriptor */

void faulty_disk_arm(int new_mode, long n, const char *path) {
    mode = NONE;
    snprintf(folder, sizeof folder, "%s", path);
    wanted = n;
    n_calls = n_faults = 0;
    mode = new_mode;
}

long faulty_disk_calls(void) { return n_calls; }
long faulty_disk_faults(void) { return n_faults; }

__attribute__((constructor)) static void start(void) {
    const char *told = getenv("FAULTY_DISK");
    int new_mode, length;
    long n;
    if (told && sscanf(told, "%d:%ld:%n", &new_mode, &n, &length) == 2) faulty_disk_arm(new_mode, n, told + length);
}

static int lies_within(int at, const char *path) {
    size_t n = strlen(folder);
    if (!n || !path) return 0;
    if (path[0] != '/') return at >= 0 && at < MOST && is_ours[at];
    return !strncmp(path, folder, n) && (path[n] == '/' || !path[n]);
}

static int is_our_file(int descriptor) { return descriptor >= 0 && descriptor < MOST && is_ours[descriptor]; }

/* Whether this call fails, with errno set. */
static int fails(int writes) {
    if (mode == NONE || (!writes && mode != BROKEN)) return 0;
    n_calls++;
    if (mode == FULL ? n_calls < wanted : n_calls != wanted) return 0;
    n_faults++;
    if (mode == KILLED) kill(getpid(), SIGKILL);
    errno = mode == FULL ? ENOSPC : EIO;
    return 1;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static int opened(int descriptor, int at, const char *path) {
    if (descriptor >= 0 && descriptor < MOST) is_ours[descriptor] = lies_within(at, path);
    return descriptor;
}

/* A full disk still lets a file be opened that is there. */
static int open_fails(int at, const char *path, int flags) {
    if (!lies_within(at, path)) return 0;
    int creates = (flags & O_CREAT) && faccessat(at, path, F_OK, 0) != 0;
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    if (mode == FULL && !creates) return 0;
    return fails(creates || writes);
}

#define MODE_OF(flags) \
    mode_t bits = 0; \
    if (flags & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        bits = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) {
    REAL(open);
    MODE_OF(flags)
    if (open_fails(AT_FDCWD, path, flags)) return -1;
    return opened(real(path, flags, bits), AT_FDCWD, path);
}

int open64(const char *path, int flags, ...) {
    REAL(open64);
    MODE_OF(flags)
    if (open_fails(AT_FDCWD, path, flags)) return -1;
    return opened(real(path, flags, bits), AT_FDCWD, path);
}

int openat(int at, const char *path, int flags, ...) {
    REAL(openat);
    MODE_OF(flags)
    if (open_fails(at, path, flags)) return -1;
    return opened(real(at, path, flags, bits), at, path);
}

int openat64(int at, const char *path, int flags, ...) {
    REAL(openat64);
    MODE_OF(flags)
    if (open_fails(at, path, flags)) return -1;
    return opened(real(at, path, flags, bits), at, path);
}

int close(int descriptor) {
    REAL(close);
    if (descriptor >= 0 && descriptor < MOST) is_ours[descriptor] = 0;
    return real(descriptor);
}

ssize_t write(int descriptor, const void *data, size_t n) {
    REAL(write);
    if (is_our_file(descriptor) && fails(1)) {
        if (mode == FULL && n_faults == 1 && n > 1) return real(descriptor, data, n / 2);
        return -1;
    }
    return real(descriptor, data, n);
}

ssize_t pwrite(int descriptor, const void *data, size_t n, off_t at) {
    REAL(pwrite);
    if (is_our_file(descriptor) && fails(1)) {
        if (mode == FULL && n_faults == 1 && n > 1) return real(descriptor, data, n / 2, at);
        return -1;
    }
    return real(descriptor, data, n, at);
}

ssize_t pwrite64(int descriptor, const void *data, size_t n, off64_t at) { return pwrite(descriptor, data, n, at); }

ssize_t read(int descriptor, void *data, size_t n) {
    REAL(read);
    if (is_our_file(descriptor) && fails(0)) return -1;
    return real(descriptor, data, n);
}

ssize_t pread(int descriptor, void *data, size_t n, off_t at) {
    REAL(pread);
    if (is_our_file(descriptor) && fails(0)) return -1;
    return real(descriptor, data, n, at);
}

ssize_t pread64(int descriptor, void *data, size_t n, off64_t at) { return pread(descriptor, data, n, at); }

int fsync(int descriptor) {
    REAL(fsync);
    return is_our_file(descriptor) && fails(1) ? -1 : real(descriptor);
}

int fdatasync(int descriptor) {
    REAL(fdatasync);
    return is_our_file(descriptor) && fails(1) ? -1 : real(descriptor);
}

/* What makes a file shorter, or takes a name away, needs no room: a full disk lets it be. */
int ftruncate(int descriptor, off_t n) {
    REAL(ftruncate);
    return is_our_file(descriptor) && mode != FULL && fails(1) ? -1 : real(descriptor, n);
}

int ftruncate64(int descriptor, off64_t n) { return ftruncate(descriptor, n); }

int unlink(const char *path) {
    REAL(unlink);
    return lies_within(AT_FDCWD, path) && mode != FULL && fails(1) ? -1 : real(path);
}

int unlinkat(int at, const char *path, int flags) {
    REAL(unlinkat);
    return lies_within(at, path) && mode != FULL && fails(1) ? -1 : real(at, path, flags);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    return lies_within(AT_FDCWD, to) && fails(1) ? -1 : real(from, to);
}

int mkdir(const char *path, mode_t bits) {
    REAL(mkdir);
    return lies_within(AT_FDCWD, path) && access(path, F_OK) && fails(1) ? -1 : real(path, bits);
}

int chmod(const char *path, mode_t bits) {
    REAL(chmod);
    return lies_within(AT_FDCWD, path) && mode != FULL && fails(1) ? -1 : real(path, bits);
}
