/* A closed-loop load generator for benchmarks: one thread, one epoll, HTTP/1.1 keep-alive, loopback only.
 *
 *     load --port N --path /v1/chat/completions --kind chat --model bench-10-0 [options]      see `usage` below
 *
 * Each of N callers sends a request, reads the whole answer, and sends the next one, until the time is up; then it
 * finishes what it is reading. A number counts only if it was earned: the answer is parsed strictly (one stray byte is
 * an error), a stream must carry each of its events once and the dialect's terminal event, and a plain answer must
 * contain its last words. Results are one JSON line on stdout, the first few problems are told on stderr.
 *
 * A caller goes through these states:
 *
 *     WAITING (for its turn to connect) -> CONNECTING -> SENDING -> READING -> SENDING ... -> GONE
 *         ^------------------- after any error, a little later -------+
 *
 * With --hold the callers do not loop: each opens one stream and keeps it. When all have their first bytes the program
 * prints {"held": N} and waits for the end of its standard input, so that a driver can look at the candidate meanwhile.
 *
 * The program ends by itself: at the latest DRAIN_SECONDS after --seconds, and with its parent.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "marks.h"

#define DRAIN_SECONDS 5
#define RETRY_US 10000
#define EVENTS_PER_WAIT 512
#define READ_BYTES 262144
#define MAX_HEAD_BYTES 16384
#define MAX_LINE_BYTES (16u << 20)
#define MAX_HEADERS 16
#define MAX_CALLERS 20000
#define MAX_TOLD 3

/* --- what is asked for and how the answer is recognised ----------------------------------------------------------- */

/* One row per dialect. In the body `$M` is the model, `$S` true or false, `$P` the padding that brings it to size. */
struct kind {
    const char *name;
    const char *body;
    const char *delta;    /* in every SSE line that carries text */
    const char *terminal; /* in the SSE line that ends the stream properly */
};

#define SYSTEM "You are a helpful assistant. Answer tersely and do not apologise."
#define QUESTION "Write a haiku about recursion in programming, and explain each line."
#define REPLY "Function calls itself, / smaller each time it returns, / base case ends the dream."
#define AGAIN "Another one please.$P"

static const struct kind kinds[] = {
    {"chat",
     "{\"model\":\"$M\",\"messages\":[{\"role\":\"system\",\"content\":\"" SYSTEM "\"},"
     "{\"role\":\"user\",\"content\":\"" QUESTION "\"},{\"role\":\"assistant\",\"content\":\"" REPLY "\"},"
     "{\"role\":\"user\",\"content\":\"" AGAIN "\"}],\"stream\":$S,\"max_tokens\":1024,\"temperature\":0.7}",
     "\"delta\"", "[DONE]"},
    {"messages",
     "{\"model\":\"$M\",\"max_tokens\":1024,\"system\":\"" SYSTEM "\",\"messages\":["
     "{\"role\":\"user\",\"content\":\"" QUESTION "\"},{\"role\":\"assistant\",\"content\":\"" REPLY "\"},"
     "{\"role\":\"user\",\"content\":\"" AGAIN "\"}],\"stream\":$S,\"temperature\":0.7}",
     "\"text_delta\"", "\"message_stop\""},
    {"responses",
     "{\"model\":\"$M\",\"instructions\":\"" SYSTEM "\",\"input\":["
     "{\"role\":\"user\",\"content\":\"" QUESTION "\"},{\"role\":\"assistant\",\"content\":\"" REPLY "\"},"
     "{\"role\":\"user\",\"content\":\"" AGAIN "\"}],\"stream\":$S,\"max_output_tokens\":1024,\"temperature\":0.7}",
     "\"response.output_text.delta\"", "\"response.completed\""},
    {"gemini",
     "{\"systemInstruction\":{\"parts\":[{\"text\":\"" SYSTEM "\"}]},\"contents\":["
     "{\"role\":\"user\",\"parts\":[{\"text\":\"" QUESTION "\"}]},{\"role\":\"model\",\"parts\":[{\"text\":\"" REPLY "\"}]},"
     "{\"role\":\"user\",\"parts\":[{\"text\":\"" AGAIN "\"}]}],"
     "\"generationConfig\":{\"maxOutputTokens\":1024,\"temperature\":0.7}}",
     "\"text\"", "\"STOP\""},
};

static const char padding[] = " Explain how the parser walks the tree.";

struct options {
    const char *host, *path, *model;
    const struct kind *kind;
    int port, callers;
    bool stream, hold;
    long events; /* each stream's, -1: not checked */
    size_t body_bytes;
    double seconds, ramp_seconds;
    const char *headers[MAX_HEADERS];
    int header_count;
};

static struct options options = {
    .host = "127.0.0.1", .path = "/v1/chat/completions", .model = "bench-10-0", .kind = &kinds[0],
    .callers = 1, .events = -1, .seconds = 2, .ramp_seconds = 0.1,
};

/* --- durations ---------------------------------------------------------------------------------------------------- */

/* A histogram of microseconds with 64 steps per power of two: no value is reported more than 1.6 % off. */
#define STEPS 64
#define STEP_BITS 6

struct histogram {
    uint64_t count;
    uint32_t buckets[STEPS * (64 - STEP_BITS + 1)];
};

static void record(struct histogram *histogram, uint64_t us)
{
    int shift = us < 2 * STEPS ? 0 : 63 - __builtin_clzll(us) - STEP_BITS;

    histogram->buckets[((uint64_t)shift << STEP_BITS) + (us >> shift)]++;
    histogram->count++;
}

/* Milliseconds below which `share` of the values lie; 0 without values. */
static double quantile_ms(const struct histogram *histogram, double share)
{
    uint64_t wanted = (uint64_t)(share * (double)histogram->count), seen = 0;

    for (uint64_t i = 0; i < sizeof histogram->buckets / sizeof histogram->buckets[0]; i++) {
        uint64_t shift = i < 2 * STEPS ? 0 : i / STEPS - 1;

        seen += histogram->buckets[i];
        if (seen > wanted)
            return ((double)((i - shift * STEPS) << shift) + (double)(1ull << shift) / 2 - 0.5) / 1000;
    }
    return 0;
}

/* --- callers ------------------------------------------------------------------------------------------------------ */

enum state { WAITING, CONNECTING, SENDING, READING, GONE };

/* Where the next byte of the answer belongs. */
enum part { HEAD, BODY, BODY_TO_EOF, CHUNK_SIZE, CHUNK, CHUNK_END, TRAILER };

struct caller {
    enum state state;
    int fd;
    bool awaits_socket; /* EPOLLOUT is armed */
    uint64_t turn_us;   /* when to connect */
    size_t sent;

    /* the answer */
    uint64_t asked_us;
    enum part part;
    int status;
    bool closes, answered, ended;
    uint64_t left; /* bytes of this body or chunk */
    int digits;    /* of this chunk's size */
    long events;
    char *line; /* the unfinished line: of the head, of the chunk framing, or of the body */
    size_t line_bytes, line_capacity;
};

static struct {
    uint64_t done, events, errors, short_answers, refused;
    struct histogram ttft, latency, transit;
} totals;

static int poller;
static struct caller *callers;
static int waiting, gone, held;
static char *request;
static size_t request_bytes;
static uint64_t started_us, end_us;

static void *grown(void *memory, size_t bytes)
{
    void *result = realloc(memory, bytes);

    if (result == NULL) {
        perror("load: memory");
        exit(1);
    }
    return result;
}

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
    static int told;
    va_list arguments;

    if (told++ >= MAX_TOLD)
        return;
    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
}

static void watch(struct caller *caller, int operation, bool awaits_socket)
{
    struct epoll_event event = {.events = EPOLLIN | (awaits_socket ? EPOLLOUT : 0u), .data.ptr = caller};

    caller->awaits_socket = awaits_socket;
    epoll_ctl(poller, operation, caller->fd, &event);
}

static void leave(struct caller *caller)
{
    close(caller->fd);
    caller->fd = -1;
    caller->state = GONE;
    gone++;
}

static void wait_turn(struct caller *caller, uint64_t turn_us)
{
    caller->state = WAITING;
    caller->turn_us = turn_us;
    waiting++;
}

/* Gives up this connection and tries a new one a little later, unless the time is up. */
static void fail(struct caller *caller)
{
    totals.errors++;
    if (now_us() >= end_us) {
        leave(caller);
        return;
    }
    close(caller->fd);
    caller->fd = -1;
    wait_turn(caller, now_us() + RETRY_US);
}

static void start_connection(struct caller *caller)
{
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)options.port)};

    inet_pton(AF_INET, options.host, &address.sin_addr);
    caller->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (caller->fd < 0) {
        perror("load: socket");
        exit(1);
    }
    setsockopt(caller->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    caller->state = CONNECTING;
    watch(caller, EPOLL_CTL_ADD, true);
    if (connect(caller->fd, (struct sockaddr *)&address, sizeof address) != 0 && errno != EINPROGRESS) {
        tell("connect: %s", strerror(errno));
        fail(caller);
    }
}

/* Sends as much of the request as the socket takes. */
static void send_more(struct caller *caller)
{
    while (caller->sent < request_bytes) {
        ssize_t sent = send(caller->fd, request + caller->sent, request_bytes - caller->sent, MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN) {
            if (!caller->awaits_socket)
                watch(caller, EPOLL_CTL_MOD, true);
            return;
        }
        if (sent < 0) {
            tell("send: %s", strerror(errno));
            fail(caller);
            return;
        }
        caller->sent += (size_t)sent;
    }
    if (caller->awaits_socket)
        watch(caller, EPOLL_CTL_MOD, false);
    caller->state = READING;
}

static void ask(struct caller *caller)
{
    caller->state = SENDING;
    caller->sent = 0;
    caller->part = HEAD;
    caller->answered = caller->ended = false;
    caller->events = 0;
    caller->left = 0;
    caller->digits = 0;
    caller->line_bytes = 0;
    caller->asked_us = now_us();
    send_more(caller);
}

/* --- the answer's content ----------------------------------------------------------------------------------------- */

/* Counts the stamps of one line, each an event that has arrived now. */
static void read_stamps(struct caller *caller, const char *line, size_t bytes)
{
    const char *at = line, *end = line + bytes;
    uint64_t now = now_us();

    while ((at = memmem(at, (size_t)(end - at), STAMP_PREFIX, STAMP_PREFIX_BYTES)) != NULL) {
        uint64_t stamp = 0;
        int digits = 0;

        at += STAMP_PREFIX_BYTES;
        for (; digits < STAMP_DIGITS && at < end && isdigit((unsigned char)*at); digits++, at++)
            stamp = stamp * 10 + (uint64_t)(*at - '0');
        if (digits < STAMP_DIGITS)
            continue;
        caller->events++;
        totals.events++;
        record(&totals.transit, now > stamp ? now - stamp : 0);
    }
}

static void read_line(struct caller *caller, const char *line, size_t bytes)
{
    const char *last = options.stream ? options.kind->terminal : ANSWER_END;

    if (options.stream && memmem(line, bytes, options.kind->delta, strlen(options.kind->delta)) != NULL)
        read_stamps(caller, line, bytes);
    if (memmem(line, bytes, last, strlen(last)) != NULL)
        caller->ended = true;
}

/* Keeps the start of a line whose end has not arrived. Returns false when the line grows beyond all measure. */
static bool keep_line(struct caller *caller, const char *bytes, size_t count, size_t most)
{
    if (caller->line_bytes + count > most)
        return false;
    if (caller->line_bytes + count > caller->line_capacity) {
        caller->line_capacity = 2 * (caller->line_bytes + count) + 512;
        caller->line = grown(caller->line, caller->line_capacity);
    }
    memcpy(caller->line + caller->line_bytes, bytes, count);
    caller->line_bytes += count;
    return true;
}

/* Reads a piece of the decoded body line by line. */
static bool read_body(struct caller *caller, const char *bytes, size_t count)
{
    const char *end = bytes + count, *newline;

    if (!caller->answered) {
        caller->answered = true;
        record(&totals.ttft, now_us() - caller->asked_us);
        held += options.hold && caller->status == 200;
    }
    while ((newline = memchr(bytes, '\n', (size_t)(end - bytes))) != NULL) {
        size_t line_bytes = (size_t)(newline - bytes);

        if (caller->line_bytes == 0) {
            read_line(caller, bytes, line_bytes);
        } else {
            if (!keep_line(caller, bytes, line_bytes, MAX_LINE_BYTES))
                return false;
            read_line(caller, caller->line, caller->line_bytes);
            caller->line_bytes = 0;
        }
        bytes = newline + 1;
    }
    return bytes == end || keep_line(caller, bytes, (size_t)(end - bytes), MAX_LINE_BYTES);
}

/* Judges the complete answer. */
static void settle(struct caller *caller)
{
    if (caller->line_bytes > 0)
        read_line(caller, caller->line, caller->line_bytes);
    record(&totals.latency, now_us() - caller->asked_us);
    if (caller->status != 200) {
        totals.refused++;
        tell("status %d: %.*s", caller->status, (int)(caller->line_bytes < 400 ? caller->line_bytes : 400),
             caller->line_bytes > 0 ? caller->line : "");
    } else if (!caller->ended || (options.stream && options.events >= 0 && caller->events != options.events)) {
        totals.short_answers++;
        tell("%ld events of %ld, %s terminal event or last words", caller->events, options.events,
             caller->ended ? "with" : "without");
    } else {
        totals.done++;
    }
}

static void finish(struct caller *caller)
{
    settle(caller);
    if (now_us() >= end_us || options.hold) {
        leave(caller);
    } else if (caller->closes) {
        close(caller->fd);
        start_connection(caller);
    } else {
        ask(caller);
    }
}

/* --- the answer's framing ----------------------------------------------------------------------------------------- */

/* The value of a header in the zero-terminated head, or NULL. `name` as "\nname:". */
static const char *header(const char *head, const char *name)
{
    const char *at = strcasestr(head, name);

    return at == NULL ? NULL : at + strlen(name) + strspn(at + strlen(name), " ");
}

/* Reads status and framing from the complete head in `line`. */
static bool read_head(struct caller *caller)
{
    const char *head = caller->line, *size, *coding, *connection;
    int status = 0;

    if (sscanf(head, "HTTP/1.%*1d %3d", &status) != 1)
        return false;
    caller->line_bytes = 0;
    if (status >= 100 && status < 200)
        return true; /* an interim answer: the next head follows */
    caller->status = status;
    size = header(head, "\ncontent-length:");
    coding = header(head, "\ntransfer-encoding:");
    connection = header(head, "\nconnection:");
    caller->closes = connection != NULL && strncasecmp(connection, "close", 5) == 0;
    if (coding != NULL) {
        caller->part = CHUNK_SIZE;
        return size == NULL && strncasecmp(coding, "chunked\r\n", 9) == 0;
    }
    caller->part = size == NULL ? BODY_TO_EOF : BODY;
    caller->closes = caller->closes || size == NULL;
    caller->left = size == NULL ? 0 : strtoull(size, NULL, 10);
    return size == NULL || isdigit((unsigned char)*size);
}

/* Takes the head's bytes; sets `used` to how many belong to it. */
static bool take_head(struct caller *caller, const char *bytes, size_t count, size_t *used)
{
    size_t before = caller->line_bytes, from = before < 3 ? 0 : before - 3;
    const char *end;

    *used = count;
    if (!keep_line(caller, bytes, count < MAX_HEAD_BYTES ? count : MAX_HEAD_BYTES, 2 * MAX_HEAD_BYTES))
        return false;
    end = memmem(caller->line + from, caller->line_bytes - from, "\r\n\r\n", 4);
    if (end == NULL)
        return caller->line_bytes < MAX_HEAD_BYTES;
    *used = (size_t)(end - caller->line) + 4 - before;
    caller->line[end - caller->line + 3] = '\0'; /* in place of the last newline */
    return read_head(caller);
}

/* Takes one byte of a chunk's first line; the size is collected in `left`. Chunk extensions are not accepted. */
static bool take_size(struct caller *caller, char byte)
{
    if (isxdigit((unsigned char)byte)) {
        caller->digits++;
        caller->left = caller->left << 4 | (uint64_t)(isdigit((unsigned char)byte) ? byte - '0' : (byte | 32) - 'a' + 10);
        return caller->left < MAX_LINE_BYTES;
    }
    if (caller->digits == 0 || (byte != '\r' && byte != '\n'))
        return false;
    if (byte == '\n') {
        caller->part = caller->left > 0 ? CHUNK : TRAILER;
        caller->digits = 0;
    }
    return true;
}

/* Takes one byte of the line end behind a chunk, or behind the last one (no trailers); `left` counts the bytes. */
static bool take_line_end(struct caller *caller, char byte)
{
    return byte == "\r\n"[caller->left++];
}

/* Feeds received bytes to the parser. Returns false at a violation of the protocol. */
static bool feed(struct caller *caller, const char *bytes, size_t count)
{
    while (count > 0) {
        size_t used = 1;
        bool good = true, over = false;

        if (caller->state != READING)
            return false; /* more than was asked for, or an answer before the request was complete */
        switch (caller->part) {
        case HEAD:
            good = take_head(caller, bytes, count, &used);
            over = caller->part == BODY && caller->left == 0;
            break;
        case BODY:
        case CHUNK:
            used = count < caller->left ? count : caller->left;
            good = read_body(caller, bytes, used);
            caller->left -= used;
            over = caller->part == BODY && caller->left == 0;
            if (caller->part == CHUNK && caller->left == 0)
                caller->part = CHUNK_END;
            break;
        case BODY_TO_EOF:
            used = count;
            good = read_body(caller, bytes, used);
            break;
        case CHUNK_SIZE:
            good = take_size(caller, *bytes);
            break;
        case CHUNK_END:
            good = take_line_end(caller, *bytes);
            if (caller->left == 2) {
                caller->left = 0;
                caller->part = CHUNK_SIZE;
            }
            break;
        case TRAILER:
            good = take_line_end(caller, *bytes);
            over = caller->left == 2;
            break;
        }
        if (!good)
            return false;
        bytes += used;
        count -= used;
        if (over && count > 0)
            return false;
        if (over) {
            caller->left = 0;
            finish(caller);
        }
    }
    return true;
}

static void read_more(struct caller *caller)
{
    static char bytes[READ_BYTES];
    ssize_t got = recv(caller->fd, bytes, sizeof bytes, 0);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got > 0) {
        if (feed(caller, bytes, (size_t)got))
            return;
        tell("the answer breaks HTTP (part %d) near `%.60s`", (int)caller->part, bytes);
        fail(caller);
    } else if (got == 0 && caller->state == READING && caller->part == BODY_TO_EOF) {
        finish(caller);
    } else {
        tell("closed in the middle of an answer (part %d): %s", (int)caller->part, got < 0 ? strerror(errno) : "end");
        fail(caller);
    }
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static void serve(struct caller *caller, uint32_t events)
{
    int problem = 0;
    socklen_t size = sizeof problem;

    if (caller->state == CONNECTING) {
        getsockopt(caller->fd, SOL_SOCKET, SO_ERROR, &problem, &size);
        if (problem != 0 || events & (EPOLLERR | EPOLLHUP)) {
            tell("connect: %s", strerror(problem));
            fail(caller);
        } else {
            ask(caller);
        }
        return;
    }
    if (caller->state == SENDING && events & EPOLLOUT)
        send_more(caller);
    if (caller->state == READING || (caller->state == SENDING && events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
        read_more(caller);
}

/* Lets those connect whose turn has come; after the end they leave instead. */
static void give_turns(uint64_t now)
{
    for (int i = 0; waiting > 0 && i < options.callers; i++) {
        struct caller *caller = &callers[i];

        if (caller->state != WAITING || (now < caller->turn_us && now < end_us))
            continue;
        waiting--;
        if (now < end_us)
            start_connection(caller);
        else
            leave(caller);
    }
}

/* Returns true when the driver has closed our standard input. */
static bool released(void)
{
    char byte;

    return read(STDIN_FILENO, &byte, 1) == 0;
}

static void run(void)
{
    struct epoll_event ready[EVENTS_PER_WAIT], input = {.events = EPOLLIN, .data.ptr = NULL};
    uint64_t next_turns_us = 0, latest_us = end_us + (options.hold ? 0 : DRAIN_SECONDS * 1000000u);
    bool announced = false;

    if (options.hold)
        epoll_ctl(poller, EPOLL_CTL_ADD, STDIN_FILENO, &input); /* a file cannot be watched: then the time ends us */
    while (gone < options.callers) {
        uint64_t now = now_us();
        int count;

        if (now >= latest_us)
            return;
        if (waiting > 0 && now >= next_turns_us) {
            give_turns(now);
            next_turns_us = now + 1000;
        }
        count = epoll_wait(poller, ready, EVENTS_PER_WAIT, waiting > 0 ? 1 : 20);
        for (int i = 0; i < count; i++) {
            if (ready[i].data.ptr != NULL)
                serve(ready[i].data.ptr, ready[i].events);
            else if (released())
                return;
        }
        if (options.hold && !announced && held == options.callers) {
            printf("{\"held\": %d}\n", held);
            fflush(stdout);
            announced = true;
        }
    }
}

/* --- the request -------------------------------------------------------------------------------------------------- */

static void write_padding(FILE *file, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        fputc(padding[i % (sizeof padding - 1)], file);
}

/* Renders the kind's body with `pad` bytes of padding. The caller frees it. */
static char *render_body(size_t pad, size_t *bytes)
{
    char *body = NULL;
    FILE *file = open_memstream(&body, bytes);

    for (const char *at = options.kind->body; *at != '\0'; at++) {
        if (*at != '$') {
            fputc(*at, file);
            continue;
        }
        at++;
        if (*at == 'M')
            fputs(options.model, file);
        else if (*at == 'S')
            fputs(options.stream ? "true" : "false", file);
        else
            write_padding(file, pad);
    }
    fclose(file);
    return body;
}

static void build_request(void)
{
    size_t bytes;
    char *body = render_body(0, &bytes);
    FILE *file = open_memstream(&request, &request_bytes);

    if (bytes < options.body_bytes) {
        size_t pad = options.body_bytes - bytes;

        free(body);
        body = render_body(pad, &bytes);
    }
    fprintf(file, "POST %s HTTP/1.1\r\nHost: %s:%d\r\nContent-Type: application/json\r\nAccept: */*\r\n", options.path,
            options.host, options.port);
    fprintf(file, "User-Agent: bench/1.0\r\nX-Stainless-Lang: python\r\nX-Stainless-Runtime: CPython\r\n");
    for (int i = 0; i < options.header_count; i++)
        fprintf(file, "%s\r\n", options.headers[i]);
    fprintf(file, "Content-Length: %zu\r\n\r\n", bytes);
    fwrite(body, 1, bytes, file);
    fclose(file);
    free(body);
}

/* --- the command line --------------------------------------------------------------------------------------------- */

static const char usage[] =
    "usage: load --port N [--host 127.0.0.1] [--path PATH] [--kind chat|messages|responses|gemini] [--model NAME]\n"
    "            [--stream] [--events N]      each stream must carry N events\n"
    "            [--body-bytes N]             pad the request's body to N bytes\n"
    "            [--header 'Name: value']...  up to 16\n"
    "            [--callers N] [--seconds S]  for how long new requests are sent\n"
    "            [--ramp S]                   the callers start within S seconds\n"
    "            [--hold]                     open one stream per caller and keep it\n";

__attribute__((noreturn)) static void refuse(const char *problem)
{
    fprintf(stderr, "load: %s\n%s", problem, usage);
    exit(2);
}

static const struct kind *find_kind(const char *name)
{
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (strcmp(kinds[i].name, name) == 0)
            return &kinds[i];
    refuse("unknown --kind");
}

static void add_header(const char *line)
{
    if (options.header_count == MAX_HEADERS)
        refuse("too many headers");
    options.headers[options.header_count++] = line;
}

static void read_options(int argc, char **argv)
{
    static const struct option names[] = {
        {"port", required_argument, NULL, 'p'},   {"host", required_argument, NULL, 'o'},
        {"path", required_argument, NULL, 'u'},   {"kind", required_argument, NULL, 'k'},
        {"model", required_argument, NULL, 'm'},  {"stream", no_argument, NULL, 's'},
        {"events", required_argument, NULL, 'e'}, {"body-bytes", required_argument, NULL, 'b'},
        {"header", required_argument, NULL, 'h'}, {"callers", required_argument, NULL, 'c'},
        {"seconds", required_argument, NULL, 't'}, {"ramp", required_argument, NULL, 'r'},
        {"hold", no_argument, NULL, 'l'},         {NULL, 0, NULL, 0},
    };
    int name;

    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        switch (name) {
        case 'p': options.port = atoi(optarg); break;
        case 'o': options.host = optarg; break;
        case 'u': options.path = optarg; break;
        case 'k': options.kind = find_kind(optarg); break;
        case 'm': options.model = optarg; break;
        case 's': options.stream = true; break;
        case 'e': options.events = atol(optarg); break;
        case 'b': options.body_bytes = strtoul(optarg, NULL, 10); break;
        case 'h': add_header(optarg); break;
        case 'c': options.callers = atoi(optarg); break;
        case 't': options.seconds = atof(optarg); break;
        case 'r': options.ramp_seconds = atof(optarg); break;
        case 'l': options.hold = true; break;
        default: refuse("unknown option");
        }
    }
}

static void check_options(void)
{
    struct in_addr address;

    if (inet_pton(AF_INET, options.host, &address) != 1 || ntohl(address.s_addr) >> 24 != 127)
        refuse("--host must be a loopback address (127.x.x.x): this tool is not for other people's servers");
    if (options.port < 1 || options.port > 65535)
        refuse("--port must be 1 to 65535");
    if (options.callers < 1 || options.callers > MAX_CALLERS)
        refuse("--callers must be 1 to 20000");
    if (!(options.seconds > 0 && options.seconds <= 600) || !(options.ramp_seconds >= 0 && options.ramp_seconds <= 60))
        refuse("--seconds must be above 0 and at most 600, --ramp at most 60");
    if (options.body_bytes > MAX_LINE_BYTES)
        refuse("--body-bytes must be at most 16 MiB");
}

static void report(void)
{
    double seconds = (double)(now_us() - started_us) / 1e6;

    printf("{\"seconds\": %.3f, \"done\": %llu, \"requests_per_second\": %.1f, \"events\": %llu, "
           "\"events_per_second\": %.1f, ",
           seconds, (unsigned long long)totals.done, (double)totals.done / seconds, (unsigned long long)totals.events,
           (double)totals.events / seconds);
    printf("\"errors\": %llu, \"short\": %llu, \"non_200\": %llu, \"unfinished\": %d, \"held\": %d, ",
           (unsigned long long)totals.errors, (unsigned long long)totals.short_answers,
           (unsigned long long)totals.refused, options.callers - gone, held);
    printf("\"ttft_p50_ms\": %.3f, \"ttft_p99_ms\": %.3f, \"latency_p50_ms\": %.3f, \"latency_p99_ms\": %.3f, ",
           quantile_ms(&totals.ttft, 0.5), quantile_ms(&totals.ttft, 0.99), quantile_ms(&totals.latency, 0.5),
           quantile_ms(&totals.latency, 0.99));
    printf("\"transit_p50_ms\": %.3f, \"transit_p99_ms\": %.3f}\n", quantile_ms(&totals.transit, 0.5),
           quantile_ms(&totals.transit, 0.99));
}

int main(int argc, char **argv)
{
    read_options(argc, argv);
    check_options();
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    alarm((unsigned)options.seconds + DRAIN_SECONDS + 10); /* should all else fail */
    build_request();
    poller = epoll_create1(EPOLL_CLOEXEC);
    callers = calloc((size_t)options.callers, sizeof *callers);
    if (callers == NULL || poller < 0) {
        perror("load: start");
        return 1;
    }
    started_us = now_us();
    end_us = started_us + (uint64_t)(options.seconds * 1e6);
    for (int i = 0; i < options.callers; i++)
        wait_turn(&callers[i], started_us + (uint64_t)(options.ramp_seconds * 1e6 * i / options.callers));
    run();
    report();
    return 0;
}
