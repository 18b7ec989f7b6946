/* Preloaded into a process, makes its file system fail or seem another one; see shim.py.
 *
 * SHIM_NETWORK   statfs says NFS of paths that begin with this
 * SHIM_FAILING   while this file exists, fsync and fdatasync fail with EIO
 * SHIM_READ_ONLY while this file exists, pwrite fails with EROFS
 * SHIM_SYNCS     a line is added to this file for each fsync and fdatasync that succeeds: the
 *                path of the file that was synced
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#define NFS 0x6969

static int is_network(const char *path) {
    const char *prefix = getenv("SHIM_NETWORK");
    return prefix && strncmp(path, prefix, strlen(prefix)) == 0;
}

int statfs(const char *path, struct statfs *found) {
    int (*real)(const char *, struct statfs *) = dlsym(RTLD_NEXT, "statfs");
    int failed = real(path, found);
    if (!failed && is_network(path))
        found->f_type = NFS;
    return failed;
}

static int is_there(const char *variable) {
    const char *path = getenv(variable);
    return path && access(path, F_OK) == 0;
}

static ssize_t written(const char *name, int fd, const void *data, size_t size, off64_t offset) {
    ssize_t (*real)(int, const void *, size_t, off64_t) = dlsym(RTLD_NEXT, name);
    if (is_there("SHIM_READ_ONLY")) {
        errno = EROFS;
        return -1;
    }
    return real(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) {
    return written("pwrite", fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset) {
    return written("pwrite64", fd, data, size, offset);
}

static int synced(const char *name, int fd) {
    const char *syncs = getenv("SHIM_SYNCS");
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    int failed;
    if (is_there("SHIM_FAILING")) {
        errno = EIO;
        return -1;
    }
    failed = real(fd);
    if (!failed && syncs) {
        char link[64], line[PATH_MAX + 1];
        int length, log = open(syncs, O_WRONLY | O_APPEND | O_CREAT, 0600);
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        length = readlink(link, line, PATH_MAX);
        if (log >= 0 && length > 0) {
            line[length] = '\n';
            if (write(log, line, length + 1) < 0)
                abort();
            close(log);
        }
    }
    return failed;
}

int fsync(int fd) { return synced("fsync", fd); }

int fdatasync(int fd) { return synced("fdatasync", fd); }
