/*
 * Stands between a server and its C library (LD_PRELOAD) and makes about half of all calls that
 * move bytes do less than they could: a short count, EINTR, or EAGAIN. What comes when follows
 * from WATERWHEEL_SHIM_SEED; how often it came is written to the file WATERWHEEL_SHIM_COUNTS at
 * exit, since a shim that nobody calls would prove nothing.
 *
 * It must not lie. What an edge-triggered reader may rely on is in epoll(7), and a server that
 * does so is right:
 *
 * - EAGAIN from a socket says that it is empty (or full, or that no connection queues), and that
 *   an edge will tell when this is over.
 * - A short count of a stream socket says the same (epoll(7), questions and answers, 9).
 *
 * So after either, the shim registers the socket anew with the interest that it had
 * (EPOLL_CTL_MOD). The kernel looks at the socket then, and if it is ready puts it on the ready
 * list, as it would at an edge. For the server the bytes, the room or the connection are as if
 * they had come a moment after the call; no other order of events is invented. Should the socket
 * not be ready, nothing is reported, and the true edge comes later.
 *
 * EINTR promises nothing and needs no such care. A short count of epoll_wait is one event where
 * more were asked for: the kernel keeps the others on its ready list.
 *
 * Blocking descriptors (standard output, files) get short counts and EINTR but never EAGAIN, and
 * only through read and write. Sockets that no epoll watches are left alone: one is the end of a
 * pair that a signal handler writes to, which nothing in the kernel interrupts.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { READ, RECV, RECVFROM, WRITE, SEND, SENDTO, WRITEV, SENDMSG, ACCEPT4, EPOLL_WAIT, KINDS };
enum fault { NONE, SHORT, INTERRUPT, AGAIN, FAULTS };

static const char *const NAMES[KINDS] = {
    "read", "recv", "recvfrom", "write", "send", "sendto", "writev", "sendmsg", "accept4",
    "epoll_wait",
};

/* Calls by what was done to them. */
static unsigned long counts[KINDS][FAULTS];

/* How each socket is registered with an epoll; the servers here have one. */
#define MOST_FDS 65536
static struct { int epoll; struct epoll_event event; char is_watched; } table[MOST_FDS];

static uint64_t state;

/* The C library's own function of this name. */
#define NEXT(name) ((__typeof__(&name))next(#name))

static void *next(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        abort();
    return found;
}

/* splitmix64: any seed will do, 0 too. */
static uint64_t draw(void)
{
    uint64_t z = (state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

__attribute__((constructor)) static void begin(void)
{
    const char *seed = getenv("WATERWHEEL_SHIM_SEED");
    state = seed ? strtoull(seed, NULL, 10) : 0;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("WATERWHEEL_SHIM_COUNTS");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file)
        return;
    for (int kind = 0; kind < KINDS; kind++)
        fprintf(file, "%s %lu %lu %lu %lu\n", NAMES[kind], counts[kind][NONE],
                counts[kind][SHORT], counts[kind][INTERRUPT], counts[kind][AGAIN]);
    fclose(file);
}

static int is_watched(int fd)
{
    return fd >= 0 && fd < MOST_FDS && table[fd].is_watched;
}

/* Has the kernel look at the socket again, as the comment above explains. */
static void rearm(int fd)
{
    struct epoll_event event = table[fd].event;
    NEXT(epoll_ctl)(table[fd].epoll, EPOLL_CTL_MOD, fd, &event);
}

int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    int type;
    socklen_t size = sizeof type;
    int result = NEXT(epoll_ctl)(epoll, operation, fd, event);
    if (result == 0 && fd < MOST_FDS) {
        table[fd].epoll = epoll;
        table[fd].is_watched = operation != EPOLL_CTL_DEL
            && getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) == 0;
        if (operation != EPOLL_CTL_DEL)
            table[fd].event = *event;
    }
    return result;
}

int close(int fd)
{
    if (fd >= 0 && fd < MOST_FDS)
        table[fd].is_watched = 0;
    return NEXT(close)(fd);
}

/* Whether a descriptor without an edge may do less than it could: files, pipes, terminals. */
static int is_plain(int fd, enum kind kind)
{
    struct stat status;
    return (kind == READ || kind == WRITE) && fstat(fd, &status) == 0
        && (S_ISREG(status.st_mode) || S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode));
}

/* What to do to this call, of those that it allows; counts it. A failure sets errno. */
static enum fault choose(int fd, enum kind kind, int may_be_short, int may_have_none)
{
    enum fault fault = NONE;
    uint64_t dice = draw();
    if (dice & 1)
        fault = SHORT + (dice >> 8) % (AGAIN - SHORT + 1);
    if (fault == AGAIN && !may_have_none)
        fault = INTERRUPT;
    if (fault == SHORT && !may_be_short)
        fault = may_have_none ? AGAIN : INTERRUPT;
    counts[kind][fault]++;
    if (fault == INTERRUPT)
        errno = EINTR;
    if (fault == AGAIN) {
        rearm(fd);
        errno = EAGAIN;
    }
    return fault;
}

/* The bytes to move of `size`: 0 if the call has failed already. */
static size_t limit(int fd, enum kind kind, size_t size, enum fault *fault)
{
    *fault = NONE;
    if (!is_watched(fd) && !is_plain(fd, kind)) {
        counts[kind][NONE]++;
        return size;
    }
    *fault = choose(fd, kind, size > 1, is_watched(fd));
    if (*fault == INTERRUPT || *fault == AGAIN)
        return 0;
    if (*fault == NONE)
        return size;
    /* Few bytes, so that there are more to be had as a rule: as often some tens as thousands. */
    uint64_t dice = draw();
    size_t most = dice & 1 ? 64 : 4096;
    return 1 + (dice >> 1) % ((size < most ? size : most) - 1);
}

/* The call that `limit` has let through is done. */
static ssize_t done(int fd, ssize_t result, enum fault fault)
{
    int error = errno;
    if (fault == SHORT && is_watched(fd))
        rearm(fd);
    errno = error;
    return result;
}

#define MOVE(kind, size, call)                                                                     \
    do {                                                                                           \
        enum fault fault;                                                                          \
        size_t part = limit(fd, kind, size, &fault);                                               \
        return fault > SHORT ? -1 : done(fd, call, fault);                                         \
    } while (0)

ssize_t read(int fd, void *bytes, size_t size)
{
    MOVE(READ, size, NEXT(read)(fd, bytes, part));
}

ssize_t recv(int fd, void *bytes, size_t size, int flags)
{
    MOVE(RECV, size, NEXT(recv)(fd, bytes, part, flags));
}

ssize_t recvfrom(int fd, void *restrict bytes, size_t size, int flags,
                 __SOCKADDR_ARG from, socklen_t *restrict length)
{
    MOVE(RECVFROM, size, NEXT(recvfrom)(fd, bytes, part, flags, from, length));
}

ssize_t write(int fd, const void *bytes, size_t size)
{
    MOVE(WRITE, size, NEXT(write)(fd, bytes, part));
}

ssize_t send(int fd, const void *bytes, size_t size, int flags)
{
    MOVE(SEND, size, NEXT(send)(fd, bytes, part, flags));
}

ssize_t sendto(int fd, const void *bytes, size_t size, int flags,
               __CONST_SOCKADDR_ARG to, socklen_t length)
{
    MOVE(SENDTO, size, NEXT(sendto)(fd, bytes, part, flags, to, length));
}

#define MOST_PARTS 64

static size_t total(const struct iovec *parts, size_t count)
{
    size_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += parts[i].iov_len;
    return size;
}

/* Copies as many parts as make `size` bytes; says how many these are. */
static size_t cut(struct iovec *into, const struct iovec *parts, size_t count, size_t size)
{
    size_t used = 0;
    for (; used < count && used < MOST_PARTS && size > 0; used++) {
        into[used] = parts[used];
        if (into[used].iov_len > size)
            into[used].iov_len = size;
        size -= into[used].iov_len;
    }
    return used;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    struct iovec some[MOST_PARTS];
    MOVE(WRITEV, total(parts, count), NEXT(writev)(fd, some, cut(some, parts, count, part)));
}

static ssize_t send_cut(int fd, const struct msghdr *message, size_t size, int flags)
{
    struct iovec some[MOST_PARTS];
    struct msghdr less = *message;
    less.msg_iov = some;
    less.msg_iovlen = cut(some, message->msg_iov, message->msg_iovlen, size);
    return NEXT(sendmsg)(fd, &less, flags);
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    size_t size = total(message->msg_iov, message->msg_iovlen);
    MOVE(SENDMSG, size, send_cut(fd, message, part, flags));
}

int accept4(int fd, __SOCKADDR_ARG from, socklen_t *restrict length, int flags)
{
    enum fault fault = choose(fd, ACCEPT4, 0, is_watched(fd));
    return fault == NONE ? NEXT(accept4)(fd, from, length, flags) : -1;
}

int epoll_wait(int epoll, struct epoll_event *events, int most, int timeout)
{
    enum fault fault = choose(epoll, EPOLL_WAIT, most > 1, 0);
    if (fault == INTERRUPT)
        return -1;
    return NEXT(epoll_wait)(epoll, events, fault == SHORT ? 1 : most, timeout);
}
