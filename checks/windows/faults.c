/* What wine does otherwise than the kernel below it: a line for each fault, as
   `name: seen` or `name: not seen`. Run on Linux itself, it must see none. */
#ifdef _WIN32
#define _WIN32_WINNT 0x0A00
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#define nap(milliseconds) Sleep(milliseconds)
#else
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>
#define closesocket close
#define nap(milliseconds) usleep((milliseconds) * 1000)
typedef int SOCKET;
#endif
#include <stdio.h>
#include <string.h>

#define NONE ((SOCKET)-1)

static void tell(const char *name, int is_seen) {
    printf("%s: %s\n", name, is_seen ? "seen" : "not seen");
    fflush(stdout);
}

static struct sockaddr_in at(unsigned long ip, unsigned short port) {
    struct sockaddr_in addr;
    memset(&addr, 0, sizeof addr);
    addr.sin_family = AF_INET;
    addr.sin_addr.s_addr = htonl(ip);
    addr.sin_port = port;
    return addr;
}

/* Binds to a port of the system's choice and returns the address. */
static struct sockaddr_in bound(SOCKET socket, unsigned long ip) {
    struct sockaddr_in addr = at(ip, 0);
    socklen_t size = sizeof addr;
    bind(socket, (void *)&addr, sizeof addr);
    getsockname(socket, (void *)&addr, &size);
    return addr;
}

static int is_readable(SOCKET socket) {
    struct timeval half_a_second = {0, 500000};
    fd_set set;
    FD_ZERO(&set);
    FD_SET(socket, &set);
    return select((int)socket + 1, &set, 0, 0, &half_a_second) == 1;
}

static void reset(SOCKET socket) {
    struct linger at_once = {1, 0};
    setsockopt(socket, SOL_SOCKET, SO_LINGER, (void *)&at_once, sizeof at_once);
    closesocket(socket);
    nap(100);
}

/* A peer resets; the reader is told of an end of the stream, as if all had been said. */
static void a_reset_is_read_as_an_end(SOCKET listener, struct sockaddr_in addr) {
    SOCKET client = socket(AF_INET, SOCK_STREAM, 0);
    char byte;
    connect(client, (void *)&addr, sizeof addr);
    SOCKET server = accept(listener, 0, 0);
    reset(client);
    tell("reset", recv(server, &byte, 1, 0) == 0);
    closesocket(server);
}

/* A client connects, sends and resets before it is accepted: accept fails with WSAENOTCONN, since
   the address of the peer cannot be had. */
static void a_client_that_reset_cannot_be_accepted(SOCKET listener, struct sockaddr_in addr) {
    SOCKET client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in peer;
    socklen_t size = sizeof peer;
    connect(client, (void *)&addr, sizeof addr);
    send(client, "hello", 5, 0);
    reset(client);
    SOCKET server = accept(listener, (void *)&peer, &size);
    tell("accept", server == NONE);
    if (server != NONE) closesocket(server);
}

/* What a connected socket sends to a port that nobody has is answered by ICMP; it is not told. */
static void an_unreachable_port_is_not_told(void) {
    SOCKET gone = socket(AF_INET, SOCK_DGRAM, 0), sender = socket(AF_INET, SOCK_DGRAM, 0);
    struct sockaddr_in addr = bound(gone, INADDR_LOOPBACK);
    closesocket(gone);
    connect(sender, (void *)&addr, sizeof addr);
    send(sender, "x", 1, 0);
    tell("unreachable", !is_readable(sender));
    closesocket(sender);
}

/* A socket hears the groups that others joined. That is Linux's way where IP_MULTICAST_ALL is not
   turned off, which Windows does not know: there each socket hears its own groups, as is said of
   IP_ADD_MEMBERSHIP. */
static void groups_of_others_are_heard(void) {
    SOCKET member = socket(AF_INET, SOCK_DGRAM, 0), other = socket(AF_INET, SOCK_DGRAM, 0);
    SOCKET sender = socket(AF_INET, SOCK_DGRAM, 0);
    struct in_addr loopback = {.s_addr = htonl(INADDR_LOOPBACK)};
    struct ip_mreq group = {.imr_interface = loopback};
    int one = 1;
    group.imr_multiaddr.s_addr = htonl(0xefff4d02);
    setsockopt(member, SOL_SOCKET, SO_REUSEADDR, (void *)&one, sizeof one);
    setsockopt(other, SOL_SOCKET, SO_REUSEADDR, (void *)&one, sizeof one);
#ifndef _WIN32
    int off = 0;
    setsockopt(other, IPPROTO_IP, IP_MULTICAST_ALL, &off, sizeof off);
#endif
    struct sockaddr_in addr = bound(member, INADDR_ANY);
    bind(other, (void *)&addr, sizeof addr);
    setsockopt(member, IPPROTO_IP, IP_ADD_MEMBERSHIP, (void *)&group, sizeof group);
    setsockopt(sender, IPPROTO_IP, IP_MULTICAST_IF, (void *)&loopback, sizeof loopback);
    struct sockaddr_in to = at(0xefff4d02, addr.sin_port);
    sendto(sender, "all", 3, 0, (void *)&to, sizeof to);
    if (!is_readable(member)) printf("group: the member itself hears nothing\n");
    tell("group", is_readable(other));
    closesocket(member);
    closesocket(other);
    closesocket(sender);
}

static void create(const char *name) {
    FILE *file = fopen(name, "w");
    fclose(file);
}

#ifdef _WIN32
static int rename_onto(const WCHAR *from, const WCHAR *to) {
    DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    HANDLE file = CreateFileW(from, DELETE | SYNCHRONIZE, share, 0, OPEN_EXISTING, 0, 0);
    /* A FILE_RENAME_INFO with room for a name. The first field is a flag, or flags for the class
       FileRenameInfoEx (22): replace, and as POSIX has it. */
    struct { DWORD flags; HANDLE root; DWORD bytes; WCHAR name[200]; } info = {3, 0, 0, {0}};
    info.bytes = sizeof(WCHAR) * GetFullPathNameW(to, 200, info.name, 0);
    int is_done = SetFileInformationByHandle(file, 22, &info, sizeof info);
    info.flags = 1;
    is_done = is_done || SetFileInformationByHandle(file, FileRenameInfo, &info, sizeof info);
    CloseHandle(file);
    return is_done;
}
#endif

static int replaces(int is_open) {
    create("faults.old");
    create("faults.new");
#ifdef _WIN32
    HANDLE file = INVALID_HANDLE_VALUE;
    if (is_open)
        file = CreateFileW(L"faults.old", GENERIC_READ,
                           FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE, 0,
                           OPEN_EXISTING, 0, 0);
    int is_done = rename_onto(L"faults.new", L"faults.old");
    if (is_open) CloseHandle(file);
#else
    int file = is_open ? open("faults.old", O_RDONLY) : -1;
    int is_done = rename("faults.new", "faults.old") == 0;
    if (is_open) close(file);
#endif
    remove("faults.new");
    remove("faults.old");
    return is_done;
}

/* A file cannot be renamed onto one that is open, though whoever opened that one lets it be deleted
   and the rename asks for the semantics of POSIX, which Windows 10 knows. */
static void a_file_that_is_open_is_not_replaced(void) {
    if (!replaces(0)) printf("rename: not even onto one that is closed\n");
    tell("rename", !replaces(1));
}

int main(void) {
#ifdef _WIN32
    WSADATA data;
    WSAStartup(0x202, &data);
#endif
    SOCKET listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in addr = bound(listener, INADDR_LOOPBACK);
    listen(listener, 5);
    a_reset_is_read_as_an_end(listener, addr);
    a_client_that_reset_cannot_be_accepted(listener, addr);
    closesocket(listener);
    an_unreachable_port_is_not_told();
    groups_of_others_are_heard();
    a_file_that_is_open_is_not_replaced();
    return 0;
}
