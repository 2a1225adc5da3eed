/* Hands resets back that wine takes away; preloaded into wine's server and its programs.

   wine's server reads SO_ERROR of a socket that was reset, which clears the error, and then the
   program reads an end of the stream. So what the server took is noted in a file that all of them
   map (RESETS names it), by the kernel's cookie of the socket; recvmsg looks there before it says
   that a stream has ended. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SLOTS = 1 << 16 };
static uint64_t *taken;
static int (*real_getsockopt)(int, int, int, void *, socklen_t *);
static ssize_t (*real_recvmsg)(int, struct msghdr *, int);

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("RESETS");
    int file = path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
    real_getsockopt = (int (*)(int, int, int, void *, socklen_t *))dlsym(RTLD_NEXT, "getsockopt");
    real_recvmsg = (ssize_t(*)(int, struct msghdr *, int))dlsym(RTLD_NEXT, "recvmsg");
    if (file < 0 || ftruncate(file, SLOTS * sizeof *taken)) return;
    void *map = mmap(0, SLOTS * sizeof *taken, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map != MAP_FAILED) taken = map;
    close(file);
}

/* Where a reset of this socket is noted, or null where it is no TCP connection. */
static uint64_t *slot(int fd, uint64_t *cookie) {
    int protocol = 0;
    socklen_t size = sizeof protocol, wide = sizeof *cookie;
    if (!taken || real_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) ||
        protocol != 6 || real_getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, &wide))
        return 0;
    return &taken[*cookie % SLOTS];
}

int getsockopt(int fd, int level, int name, void *value, socklen_t *size) {
    int failed = real_getsockopt(fd, level, name, value, size), before = errno;
    uint64_t cookie, *at;
    if (!failed && level == SOL_SOCKET && name == SO_ERROR && *(int *)value == ECONNRESET &&
        (at = slot(fd, &cookie)))
        *at = cookie;
    errno = before;
    return failed;
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags) {
    ssize_t received = real_recvmsg(fd, message, flags);
    uint64_t cookie, *at;
    size_t room = 0;
    if (received) return received;
    for (size_t i = 0; i < message->msg_iovlen; i++) room += message->msg_iov[i].iov_len;
    if (!room || !(at = slot(fd, &cookie)) || *at != cookie) return 0;
    errno = ECONNRESET;
    return -1;
}
