/* What qemu-user does otherwise than the kernel. Exits with how many of the three faults are seen. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* The interface of a group can be chosen. */
static int multicast_interface(void) {
    struct in_addr here = {htonl(INADDR_LOOPBACK)};
    int s = socket(AF_INET, SOCK_DGRAM, 0);
    int failed = setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &here, sizeof here);
    printf("IP_MULTICAST_IF: %s\n", failed ? strerror(errno) : "set");
    close(s);
    return failed != 0;
}

/* A descriptor that the receiver has no room for is closed: the other end of its pair sees it. */
static int descriptor_without_room(void) {
    int link[2], pair[2];
    char sent[CMSG_SPACE(sizeof(int))] = {0}, room[64], byte;
    struct iovec text = {"take it", 7}, into = {room + 32, 16};
    struct msghdr out = {.msg_iov = &text, .msg_iovlen = 1, .msg_control = sent,
                         .msg_controllen = sizeof sent};
    struct msghdr in = {.msg_iov = &into, .msg_iovlen = 1, .msg_control = room,
                        .msg_controllen = sizeof(struct cmsghdr)};
    socketpair(AF_UNIX, SOCK_DGRAM, 0, link);
    socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
    struct cmsghdr *head = CMSG_FIRSTHDR(&out);
    head->cmsg_level = SOL_SOCKET;
    head->cmsg_type = SCM_RIGHTS;
    head->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(head), &pair[1], sizeof(int));
    sendmsg(link[0], &out, 0);
    close(pair[1]);
    recvmsg(link[1], &in, MSG_CMSG_CLOEXEC);
    fcntl(pair[0], F_SETFL, O_NONBLOCK);
    int closed = read(pair[0], &byte, 1) == 0;
    printf("a descriptor without room for it: %s\n", closed ? "closed" : "kept open");
    return !closed;
}

/* A program can run itself again. */
static int start_of_itself(char *name) {
    char *arguments[] = {name, "again", 0};
    int status = 1;
    pid_t child = fork();
    if (!child) {
        execv(name, arguments);
        _exit(1);
    }
    waitpid(child, &status, 0);
    printf("a start of itself: %s\n", status ? "failed" : "done");
    return status != 0;
}

int main(int count, char **arguments) {
    if (count > 1) return 0;
    return multicast_interface() + descriptor_without_room() + start_of_itself(arguments[0]);
}
