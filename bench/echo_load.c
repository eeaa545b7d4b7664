/*
 * The load on an echo server: each connection sends a batch of lines, waits until all of it has come back,
 * byte for byte, and sends it again.
 *
 *   echo_load PORT CONNECTIONS SIZE PIPELINE TURNS
 *
 * connects, says "ready" and waits for orders on standard input.  Each order is a number of seconds; its answer
 * is "MESSAGES SECONDS BUSY", BUSY being the seconds of processor time that this program took.  SIZE is
 * that of a message without its newline, PIPELINE the lines of a batch.  After TURNS batches a connection is
 * closed and another takes its place (0: never): a server that serves one connection at a time gets to
 * the next.  With turns, the answers under way at the end of an order stay for the next.
 *
 *   cc -O2 -o echo_load echo_load.c
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { READ_SIZE = 256 * 1024, EVENTS = 256, STALL = 20000 /* milliseconds */ };

struct connection {
    int fd, turns;
    bool idle, waits_for_room;
    size_t sent, came; /* of the batch */
};

static char input[READ_SIZE], *batch;
static size_t batch_size;
static int poller, pipeline, turns, in_flight;
static long messages;
static struct sockaddr_in address;

static void fail(const char *what) {
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "the server is wrong");
    exit(1);
}

static double seconds(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void watch(struct connection *connection, int operation) {
    struct epoll_event interest = {.data.ptr = connection};
    interest.events = EPOLLIN | (connection->waits_for_room ? EPOLLOUT : 0);
    if (epoll_ctl(poller, operation, connection->fd, &interest)) fail("epoll_ctl");
}

static void dial(struct connection *connection) {
    int on = 1;
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address)) fail("connect");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    connection->turns = turns;
    connection->idle = true;
    connection->waits_for_room = false;
    watch(connection, EPOLL_CTL_ADD);
}

static void push(struct connection *connection) {
    while (connection->sent < batch_size) {
        ssize_t gone = send(connection->fd, batch + connection->sent, batch_size - connection->sent,
                            MSG_DONTWAIT | MSG_NOSIGNAL);
        if (gone < 0 && errno == EAGAIN) break;
        if (gone < 0) fail("send");
        connection->sent += gone;
    }
    bool waits = connection->sent < batch_size;
    if (waits != connection->waits_for_room) {
        connection->waits_for_room = waits;
        watch(connection, EPOLL_CTL_MOD);
    }
}

static void start(struct connection *connection) {
    connection->sent = connection->came = 0;
    connection->idle = false;
    in_flight++;
    push(connection);
}

static void pull(struct connection *connection, bool over) {
    ssize_t got = recv(connection->fd, input, sizeof input, MSG_DONTWAIT);
    if (got < 0 && errno == EAGAIN) return;
    if (got < 0) fail("recv");
    errno = 0;
    if (!got) fail("it closed a connection");
    if (connection->idle || connection->came + got > batch_size) fail("it sent more than it was sent");
    if (memcmp(input, batch + connection->came, got)) fail("it sent other bytes than it was sent");
    connection->came += got;
    if (connection->came < batch_size) return;
    messages += pipeline;
    in_flight--;
    connection->idle = true;
    if (connection->turns && !--connection->turns) {
        close(connection->fd);
        dial(connection);
    }
    if (!over) start(connection);
}

static void run(struct connection *connections, int count, double length) {
    struct epoll_event ready[EVENTS];
    double begin = seconds(CLOCK_MONOTONIC), spent = seconds(CLOCK_PROCESS_CPUTIME_ID);
    bool over = false;
    messages = 0;
    for (int i = 0; i < count; i++)
        if (connections[i].idle) start(connections + i);
    while (!over || (in_flight && !turns)) {
        int events = epoll_wait(poller, ready, EVENTS, STALL);
        if (events < 0) fail("epoll_wait");
        if (!events && !(errno = 0)) fail("nothing came back for 20 seconds");
        for (int i = 0; i < events; i++) {
            struct connection *connection = ready[i].data.ptr;
            if (ready[i].events & EPOLLOUT) push(connection);
            if (ready[i].events & ~EPOLLOUT) pull(connection, over);
        }
        over = seconds(CLOCK_MONOTONIC) - begin >= length;
    }
    printf("%ld %f %f\n", messages, seconds(CLOCK_MONOTONIC) - begin, seconds(CLOCK_PROCESS_CPUTIME_ID) - spent);
    fflush(stdout);
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    if (argc != 6) {
        fprintf(stderr, "usage: echo_load PORT CONNECTIONS SIZE PIPELINE TURNS\n");
        return 2;
    }
    address.sin_family = AF_INET;
    address.sin_port = htons(atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int count = atoi(argv[2]), size = atoi(argv[3]);
    pipeline = atoi(argv[4]);
    turns = atoi(argv[5]);
    batch_size = (size_t)pipeline * (size + 1);
    batch = malloc(batch_size + 16);
    struct connection *connections = calloc(count, sizeof *connections);
    if (!batch || !connections) fail("memory");
    for (int i = 0; i < pipeline; i++) { /* numbered, so that a line lost or out of order is seen */
        char *line = batch + (size_t)i * (size + 1), number[16];
        memset(line, 'a' + i % 26, size);
        snprintf(number, sizeof number, "%06d", i % 1000000);
        memcpy(line, number, size < 6 ? size : 6);
        line[size] = '\n';
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    for (int i = 0; i < count; i++) dial(connections + i);
    printf("ready\n");
    fflush(stdout);
    double length;
    while (scanf("%lf", &length) == 1) run(connections, count, length);
    return 0;
}
