/*
 * The floor: how cheap can a relay on one core be, when it does nothing but relay?
 *
 * It knows HELLO, JOIN and SEND (text or counted bytes) as the relay protocol spells them, keeps no limits,
 * tells nobody about presence and trusts its input (it listens on loopback, for the length of one
 * measurement).  Names are one letter and a number below 100000: "r" names can be sent to, all others only
 * send.
 *
 * What one read brought is one batch: lines for a receiver gather in its outbox, lines for the room gather
 * once, and every outbox is written with one send() at the end.  Sockets stay blocking, so a receiver
 * that is behind makes the whole relay wait: back-pressure at no cost in code.
 *
 *   cc -O2 -o floor floor.c && ./floor PORT
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
#include <unistd.h>

enum { NAMES = 100000, READ_SIZE = 256 * 1024, EVENTS = 256 };

struct bytes {
    char *data;
    size_t size, room;
};

struct client {
    int fd;
    int number;           /* of an "r" name, otherwise -1 */
    int seat;             /* index in the room, otherwise -1 */
    bool touched;         /* its outbox holds something of this batch */
    size_t head_size;
    char head[24];        /* "MSG name ", said before everything that it sends */
    struct bytes partial; /* a line whose end has not come yet */
    struct bytes outbox;
};

static struct client *directory[NAMES];
static struct client **seats, **touched;
static int seat_count, seat_room, touched_count, touched_room;
static struct bytes room_outbox;
static char input[READ_SIZE];

static void *grow(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (!memory) {
        perror("floor");
        exit(1);
    }
    return memory;
}

static void append(struct bytes *to, const char *data, size_t size) {
    if (to->size + size > to->room) {
        to->room = 2 * (to->size + size);
        to->data = grow(to->data, to->room);
    }
    memcpy(to->data + to->size, data, size);
    to->size += size;
}

static void touch(struct client *client) {
    if (client->touched) return;
    if (touched_count == touched_room) {
        touched_room = 2 * touched_room + 64;
        touched = grow(touched, touched_room * sizeof *touched);
    }
    client->touched = true;
    touched[touched_count++] = client;
}

static void push(int fd, const char *data, size_t size) {
    while (size) {
        ssize_t gone = send(fd, data, size, MSG_NOSIGNAL);
        if (gone < 0 && errno == EINTR) continue;
        if (gone < 0) return; /* the reading side will notice and close it */
        data += gone;
        size -= gone;
    }
}

static void finish_batch(struct client *sender) {
    for (int i = 0; i < touched_count; i++) {
        struct client *client = touched[i];
        push(client->fd, client->outbox.data, client->outbox.size);
        client->outbox.size = 0;
        client->touched = false;
    }
    touched_count = 0;
    if (!room_outbox.size) return;
    for (int i = 0; i < seat_count; i++)
        if (seats[i] != sender) push(seats[i]->fd, room_outbox.data, room_outbox.size);
    room_outbox.size = 0;
}

static int number_at(const char *digits) { /* ends at the first byte that is no digit: a line has one */
    int number = 0;
    for (; *digits >= '0' && *digits <= '9' && number < NAMES; digits++) number = number * 10 + *digits - '0';
    return number < NAMES ? number : -1;
}

static void hello(struct client *client, const char *name, size_t size) { /* size without the line's end */
    if (size < 2 || size > 12) return;
    client->head_size = snprintf(client->head, sizeof client->head, "MSG %.*s ", (int)size, name);
    if (name[0] == 'r' && (client->number = number_at(name + 1)) >= 0) directory[client->number] = client;
    touch(client);
    append(&client->outbox, "WELCOME ", 8);
    append(&client->outbox, name, size);
    append(&client->outbox, "\n", 1);
}

static void join(struct client *client, const char *room, size_t size) {
    if (client->seat < 0) {
        if (seat_count == seat_room) {
            seat_room = 2 * seat_room + 64;
            seats = grow(seats, seat_room * sizeof *seats);
        }
        client->seat = seat_count;
        seats[seat_count++] = client;
    }
    touch(client);
    append(&client->outbox, "JOINED ", 7);
    append(&client->outbox, room, size);
    append(&client->outbox, client->head + 3, client->head_size - 4); /* " name" */
    append(&client->outbox, "\n", 1);
}

static size_t counted(const char *line, size_t size) { /* the bytes that follow the line of a SEND */
    const char *argument = line[0] == 'S' && size > 6 ? memchr(line + 5, ' ', size - 5) : NULL;
    if (!argument || argument[1] == ':') return 0;
    size_t count = 0;
    while (*++argument >= '0' && *argument <= '9') count = count * 10 + *argument - '0';
    return count;
}

static void handle_line(struct client *client, const char *line, size_t size) { /* with what follows it */
    if (size > 6 && line[0] == 'S') {
        struct bytes *outbox = &room_outbox;
        if (line[5] != '#') {
            int number = number_at(line + 6);
            struct client *receiver = number < 0 ? NULL : directory[number];
            if (!receiver) return;
            touch(receiver);
            outbox = &receiver->outbox;
        }
        append(outbox, client->head, client->head_size);
        append(outbox, line + 5, size - 5);
    } else if (size > 6 && line[0] == 'H') {
        hello(client, line + 6, size - 7);
    } else if (size > 6 && line[0] == 'J' && client->head_size) {
        join(client, line + 5, size - 6);
    }
}

static void forget(struct client *client) {
    if (client->number >= 0 && directory[client->number] == client) directory[client->number] = NULL;
    if (client->seat >= 0) {
        seats[client->seat] = seats[--seat_count];
        seats[client->seat]->seat = client->seat;
    }
    close(client->fd);
    free(client->partial.data);
    free(client->outbox.data);
    free(client);
}

static void serve(struct client *client) {
    size_t held = client->partial.size;
    if (held) memcpy(input, client->partial.data, held);
    ssize_t got = recv(client->fd, input + held, sizeof input - held, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) { /* also a line that does not fit: there was no room to read into */
        forget(client);
        return;
    }
    const char *line = input, *end = input + held + got, *newline;
    while ((newline = memchr(line, '\n', end - line))) {
        size_t size = newline + 1 - line;
        size += counted(line, size);
        if (size > (size_t)(end - line)) break;
        handle_line(client, line, size);
        line += size;
    }
    finish_batch(client);
    client->partial.size = 0;
    if (line < end) append(&client->partial, line, end - line);
}

static void welcome(int listener, int poller) {
    int fd = accept(listener, NULL, NULL), on = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct client *client = grow(NULL, sizeof *client);
    memset(client, 0, sizeof *client);
    client->fd = fd;
    client->number = client->seat = -1;
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = client};
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &interest);
}

int main(int argc, char **argv) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons(argc > 1 ? atoi(argv[1]) : 0);
    int listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(EPOLL_CLOEXEC), on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (argc != 2 || bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 1024)) {
        fprintf(stderr, "usage: floor PORT (a free one, on loopback): %s\n", strerror(errno));
        return 2;
    }
    struct epoll_event interest = {.events = EPOLLIN, .data.ptr = NULL}, ready[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &interest);
    for (;;) {
        int count = epoll_wait(poller, ready, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.ptr) serve(ready[i].data.ptr);
            else welcome(listener, poller);
        }
    }
}
