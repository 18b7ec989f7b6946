/* Preloaded into a process, makes its file system fail or seem another one; see shim.py.
 *
 * SHIM_NETWORK   statfs says NFS of paths that begin with this
 * SHIM_FAILING   while this file exists, fsync and fdatasync fail with EIO
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

static int synced(const char *name, int fd) {
    const char *failing = getenv("SHIM_FAILING"), *syncs = getenv("SHIM_SYNCS");
    int (*real)(int) = dlsym(RTLD_NEXT, name);
    int failed;
    if (failing && access(failing, F_OK) == 0) {
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
