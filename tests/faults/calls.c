// Makes one call of the C library fail: the MEDDINO_FAIL_AT-th of those that concern files below MEDDINO_FAIL_BELOW (0: none fails). Loaded with LD_PRELOAD.
// At the end the number of calls goes into the file MEDDINO_FAIL_COUNT.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FDS 4096

static atomic_int calls;
static atomic_char ours[FDS];

// Whether this call, the next of those that count, is the one that fails.
static int fails(void) {
    const char *at = getenv("MEDDINO_FAIL_AT");
    return atomic_fetch_add(&calls, 1) + 1 == (at ? atoi(at) : 0);
}

static int below(const char *path) {
    const char *root = getenv("MEDDINO_FAIL_BELOW");
    if (!root || !path) return 0;
    if (path[0] == '/') return strncmp(path, root, strlen(root)) == 0;
    char here[4096];
    return getcwd(here, sizeof here) && strncmp(here, root, strlen(root)) == 0;
}

static int is_ours(int fd) { return fd >= 0 && fd < FDS && ours[fd]; }

static int opened(int fd, int mine) {
    if (fd >= 0 && fd < FDS) ours[fd] = mine;
    return fd;
}

static int open_any(int dir, const char *path, int flags, mode_t mode) {
    int mine = below(path);
    if (mine && fails()) { errno = EMFILE; return -1; }
    return opened(NEXT(openat)(dir, path, flags, mode), mine);
}

int open(const char *path, int flags, ...) {
    va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list);
    return open_any(AT_FDCWD, path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list);
    return open_any(AT_FDCWD, path, flags | O_LARGEFILE, mode);
}
int openat64(int dir, const char *path, int flags, ...) {
    va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list);
    return open_any(dir, path, flags | O_LARGEFILE, mode);
}
int close(int fd) {
    if (fd >= 0 && fd < FDS) ours[fd] = 0;
    return NEXT(close)(fd);
}
ssize_t read(int fd, void *to, size_t n) {
    if (is_ours(fd) && fails()) { errno = EIO; return -1; }
    return NEXT(read)(fd, to, n);
}
ssize_t write(int fd, const void *from, size_t n) {
    if (is_ours(fd) && fails()) { errno = ENOSPC; return -1; }
    return NEXT(write)(fd, from, n);
}
ssize_t copy_file_range(int in, off64_t *off_in, int out, off64_t *off_out, size_t n, unsigned flags) {
    if ((is_ours(in) || is_ours(out)) && fails()) { errno = EIO; return -1; }
    return NEXT(copy_file_range)(in, off_in, out, off_out, n, flags);
}
int ftruncate64(int fd, off64_t length) {
    if (is_ours(fd) && fails()) { errno = ENOSPC; return -1; }
    return NEXT(ftruncate64)(fd, length);
}
off64_t lseek64(int fd, off64_t to, int whence) {
    if (is_ours(fd) && fails()) { errno = EIO; return -1; }
    return NEXT(lseek64)(fd, to, whence);
}
int fsync(int fd) {
    if (is_ours(fd) && fails()) { errno = EIO; return -1; }
    return NEXT(fsync)(fd);
}
int fdatasync(int fd) {
    if (is_ours(fd) && fails()) { errno = EIO; return -1; }
    return NEXT(fdatasync)(fd);
}
int flock(int fd, int operation) {
    if (is_ours(fd) && fails()) { errno = ENOLCK; return -1; }
    return NEXT(flock)(fd, operation);
}
int rename(const char *from, const char *to) {
    if (below(to) && fails()) { errno = EIO; return -1; }
    return NEXT(rename)(from, to);
}
int mkdir(const char *path, mode_t mode) {
    if (below(path) && fails()) { errno = ENOSPC; return -1; }
    return NEXT(mkdir)(path, mode);
}

__attribute__((destructor)) static void tell(void) {
    const char *path = getenv("MEDDINO_FAIL_COUNT");
    if (!path) return;
    int fd = NEXT(openat)(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    char text[32];
    int n = snprintf(text, sizeof text, "%d", atomic_load(&calls));
    if (fd >= 0 && NEXT(write)(fd, text, n) == n) NEXT(close)(fd);
}
