/* A fake model vendor for benchmarks: HTTP/1.1 on 127.0.0.1, one thread, one epoll, no TLS.
 *
 *     upstream [port]        port 0 or none: the system chooses; the first line of output is `listening <port>`
 *
 * The model's name says what the answer looks like, so that a test needs nothing but a request:
 *
 *     bench-<events>-<delay ms>[-<events per write>][anything]
 *
 * With `"stream": true` (Gemini: `:streamGenerateContent`) the answer is <events> text deltas. They leave in writes of
 * <events per write>, <delay ms> apart; a delay of 0 means as fast as the socket takes them. Otherwise the answer is one
 * JSON body of about 1 KB. The path picks the dialect. What follows the numbers is ignored, which lets a gateway
 * configure one behaviour under several names. Any other model is refused with 404: a request that was routed wrongly
 * must not look like a fast one.
 *
 * One connection goes through these states, and only `advance` moves it:
 *
 *     reading the head -> reading the body (by length, or chunk by chunk) -> answering -> reading the head ...
 *
 * A connection that fails is marked `broken` wherever that is noticed and freed in one place, `serve`, so that nothing
 * below it can touch freed memory. A stream that waits for its next write sits in a binary heap ordered by time.
 *
 * The program ends by itself: with its parent (Linux's parent-death signal), and in any case after four hours.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "marks.h"

#define LIFETIME_SECONDS (4 * 3600)
#define EVENTS_PER_WAIT 512
#define READ_BYTES 65536
#define MAX_REQUEST_BYTES (64u << 20)
#define MAX_TARGET_BYTES 512
#define MAX_MODEL_BYTES 96
#define MAX_RENDERED_BYTES 8192
#define MAX_STREAMS 65536

/* --- what each dialect says ------------------------------------------------------------------------------------- */

/* Templates: `$M` is the model the caller asked for, `$T` a stamp, `$N` a number that counts up within the stream. */
struct voice {
    const char *answer;  /* the JSON body of an answer that is not a stream */
    const char *opening; /* the events before the first delta */
    const char *delta;   /* one text delta, with one stamp */
    const char *closing; /* the events after the last delta, terminal event included */
};

enum dialect { CHAT, RESPONSES, MESSAGES, GEMINI };

#define FOX "The quick brown fox jumps over the lazy dog and runs on. "
#define TEXT(dialect) FOX FOX FOX FOX FOX FOX FOX FOX FOX ANSWER_END dialect " answer."

#define CHAT_CHUNK(delta, finish)                                                                                       \
    "data: {\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx\",\"object\":\"chat.completion.chunk\",\"created\":1732000000,"    \
    "\"model\":\"$M\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0123456789\",\"choices\":[{\"index\":0,"   \
    "\"delta\":" delta ",\"logprobs\":null,\"finish_reason\":" finish "}]}\n\n"

#define RESPONSE_OBJECT(status, output, usage)                                                                          \
    "{\"id\":\"resp_0123456789abcdef\",\"object\":\"response\",\"created_at\":1732000000,\"status\":\"" status "\","      \
    "\"error\":null,\"incomplete_details\":null,\"instructions\":null,\"model\":\"$M\",\"output\":" output ","           \
    "\"parallel_tool_calls\":true,\"store\":false,\"temperature\":1.0,\"tool_choice\":\"auto\",\"tools\":[],"            \
    "\"top_p\":1.0,\"usage\":" usage "}"

#define RESPONSE_ITEM(status, content)                                                                                  \
    "{\"id\":\"msg_0123456789abcdef\",\"type\":\"message\",\"status\":\"" status "\",\"role\":\"assistant\","            \
    "\"content\":[" content "]}"

#define RESPONSE_PART(text) "{\"type\":\"output_text\",\"text\":\"" text "\",\"annotations\":[]}"

#define RESPONSE_USAGE                                                                                                  \
    "{\"input_tokens\":19,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":150,"                         \
    "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":169}"

#define RESPONSE_EVENT(type, members) "event: " type "\ndata: {\"type\":\"" type "\",\"sequence_number\":$N," members "}\n\n"

#define RESPONSE_PLACE "\"item_id\":\"msg_0123456789abcdef\",\"output_index\":0,\"content_index\":0,"

#define GEMINI_CHUNK(text, finish)                                                                                      \
    "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"" text "\"}],\"role\":\"model\"}," finish "\"index\":0}],"     \
    "\"usageMetadata\":{\"promptTokenCount\":19,\"candidatesTokenCount\":150,\"totalTokenCount\":169},"                  \
    "\"modelVersion\":\"$M\",\"responseId\":\"0123456789abcdef\"}"

/* The Responses events that a vendor would fill with the whole text say "(text)" here: a fake need not remember it. */
static const struct voice voices[] = {
    [CHAT] =
        {
            .answer =
                "{\"id\":\"chatcmpl-AbCdEfGhIjKlMnOpQrStUvWx\",\"object\":\"chat.completion\",\"created\":1732000000,"
                "\"model\":\"$M\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"" TEXT("chat") "\","
                "\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
                "\"usage\":{\"prompt_tokens\":19,\"completion_tokens\":150,\"total_tokens\":169,"
                "\"prompt_tokens_details\":{\"cached_tokens\":0,\"audio_tokens\":0},"
                "\"completion_tokens_details\":{\"reasoning_tokens\":0}},"
                "\"service_tier\":\"default\",\"system_fingerprint\":\"fp_0123456789\"}",
            .opening = CHAT_CHUNK("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}", "null"),
            .delta = CHAT_CHUNK("{\"content\":\" $T\"}", "null"),
            .closing = CHAT_CHUNK("{}", "\"stop\"") "data: [DONE]\n\n",
        },
    [RESPONSES] =
        {
            .answer = RESPONSE_OBJECT("completed", "[" RESPONSE_ITEM("completed", RESPONSE_PART(TEXT("responses"))) "]", RESPONSE_USAGE),
            .opening = RESPONSE_EVENT("response.created", "\"response\":" RESPONSE_OBJECT("in_progress", "[]", "null"))
                RESPONSE_EVENT("response.in_progress", "\"response\":" RESPONSE_OBJECT("in_progress", "[]", "null"))
                RESPONSE_EVENT("response.output_item.added", "\"output_index\":0,\"item\":" RESPONSE_ITEM("in_progress", ""))
                RESPONSE_EVENT("response.content_part.added", RESPONSE_PLACE "\"part\":" RESPONSE_PART("")),
            .delta = RESPONSE_EVENT("response.output_text.delta", RESPONSE_PLACE "\"delta\":\" $T\",\"logprobs\":[]"),
            .closing = RESPONSE_EVENT("response.output_text.done", RESPONSE_PLACE "\"text\":\"(text)\",\"logprobs\":[]")
                RESPONSE_EVENT("response.content_part.done", RESPONSE_PLACE "\"part\":" RESPONSE_PART("(text)"))
                RESPONSE_EVENT("response.output_item.done",
                               "\"output_index\":0,\"item\":" RESPONSE_ITEM("completed", RESPONSE_PART("(text)")))
                RESPONSE_EVENT("response.completed",
                               "\"response\":" RESPONSE_OBJECT(
                                   "completed", "[" RESPONSE_ITEM("completed", RESPONSE_PART("(text)")) "]", RESPONSE_USAGE)),
        },
    [MESSAGES] =
        {
            .answer =
                "{\"id\":\"msg_0123456789abcdefghijklmn\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"$M\","
                "\"content\":[{\"type\":\"text\",\"text\":\"" TEXT("messages") "\"}],\"stop_reason\":\"end_turn\","
                "\"stop_sequence\":null,\"usage\":{\"input_tokens\":19,\"cache_creation_input_tokens\":0,"
                "\"cache_read_input_tokens\":0,\"output_tokens\":150,\"service_tier\":\"standard\"}}",
            .opening =
                "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_0123456789abcdefghijklmn\","
                "\"type\":\"message\",\"role\":\"assistant\",\"model\":\"$M\",\"content\":[],\"stop_reason\":null,"
                "\"stop_sequence\":null,\"usage\":{\"input_tokens\":19,\"output_tokens\":1}}}\n\n"
                "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
                "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n",
            .delta = "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,"
                     "\"delta\":{\"type\":\"text_delta\",\"text\":\" $T\"}}\n\n",
            .closing = "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
                       "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\","
                       "\"stop_sequence\":null},\"usage\":{\"output_tokens\":150}}\n\n"
                       "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        },
    [GEMINI] =
        {
            .answer = GEMINI_CHUNK(TEXT("gemini"), "\"finishReason\":\"STOP\","),
            .opening = "",
            .delta = "data: " GEMINI_CHUNK(" $T", "") "\n\n",
            .closing = "data: " GEMINI_CHUNK("", "\"finishReason\":\"STOP\",") "\n\n",
        },
};

/* The headers that real vendors send along, because a proxy has to look at them. */
#define VENDOR_HEADERS                                                                                                  \
    "x-request-id: req_0123456789abcdef\r\nopenai-processing-ms: 12\r\nx-ratelimit-remaining-requests: 9999\r\n"

static const char stream_head[] = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
                                  "cache-control: no-cache\r\n" VENDOR_HEADERS "transfer-encoding: chunked\r\n\r\n";
static const char json_head[] = "HTTP/1.1 %s\r\ncontent-type: application/json\r\n" VENDOR_HEADERS
                                "content-length: %zu\r\n\r\n";
static const char refusal[] = "{\"error\":{\"message\":\"no model `$M`: the name must be bench-<events>-<delay ms>\"}}";
static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

/* --- connections -------------------------------------------------------------------------------------------------- */

struct buffer {
    char *bytes;
    size_t start, end, capacity; /* the content is bytes[start..end) */
};

struct request {
    size_t head_bytes; /* 0: the head is not complete yet */
    size_t wire_bytes; /* head and body as they came; with chunks: as far as they are unwrapped */
    size_t body_bytes; /* with chunks: as far as they are unwrapped */
    bool chunked;
    char target[MAX_TARGET_BYTES];
};

struct plan {
    long events, delay_ms, per_write;
};

struct connection {
    int fd;
    bool broken;
    bool awaits_socket; /* EPOLLOUT is armed, because `out` did not fit into the socket */
    struct buffer in, out;
    struct request request;

    const struct voice *voice;
    char model[MAX_MODEL_BYTES];
    bool streaming;
    struct plan plan;
    long written; /* deltas of this stream */
    int sequence; /* next `$N` of this stream */
    uint64_t due_us;
    int timer; /* place in `timers`, 0: none */
};

static int poller;

/* --- buffers ------------------------------------------------------------------------------------------------------ */

static void *grown(void *memory, size_t bytes)
{
    void *result = realloc(memory, bytes);

    if (result == NULL) {
        perror("upstream: memory");
        exit(1);
    }
    return result;
}

static size_t length(const struct buffer *buffer)
{
    return buffer->end - buffer->start;
}

/* Makes room for `bytes` more after the content, which may move. */
static void reserve(struct buffer *buffer, size_t bytes)
{
    if (buffer->start == buffer->end)
        buffer->start = buffer->end = 0;
    if (buffer->capacity - buffer->end >= bytes)
        return;
    if (buffer->start > 0) {
        memmove(buffer->bytes, buffer->bytes + buffer->start, length(buffer));
        buffer->end -= buffer->start;
        buffer->start = 0;
    }
    if (buffer->capacity - buffer->end < bytes) {
        buffer->capacity = 2 * buffer->end + bytes;
        buffer->bytes = grown(buffer->bytes, buffer->capacity);
    }
}

static void put(struct buffer *buffer, const char *bytes, size_t count)
{
    reserve(buffer, count);
    memcpy(buffer->bytes + buffer->end, bytes, count);
    buffer->end += count;
}

/* --- timers: a binary heap of the streams that wait, the earliest at 1 ------------------------------------------- */

static struct connection *timers[MAX_STREAMS + 1];
static int timer_count;

static void place(struct connection *connection, int at)
{
    timers[at] = connection;
    connection->timer = at;
}

static void sift_up(struct connection *connection, int at)
{
    while (at > 1 && connection->due_us < timers[at / 2]->due_us) {
        place(timers[at / 2], at);
        at /= 2;
    }
    place(connection, at);
}

static void sift_down(struct connection *connection, int at)
{
    for (int child = 2 * at; child <= timer_count; child = 2 * at) {
        if (child < timer_count && timers[child + 1]->due_us < timers[child]->due_us)
            child++;
        if (connection->due_us <= timers[child]->due_us)
            break;
        place(timers[child], at);
        at = child;
    }
    place(connection, at);
}

static void start_timer(struct connection *connection)
{
    if (timer_count == MAX_STREAMS) {
        connection->broken = true;
        return;
    }
    sift_up(connection, ++timer_count);
}

static void stop_timer(struct connection *connection)
{
    int at = connection->timer;
    struct connection *last;

    if (at == 0)
        return;
    connection->timer = 0;
    last = timers[timer_count--];
    if (last == connection)
        return;
    sift_down(last, at);
    sift_up(last, last->timer);
}

/* Milliseconds until the first timer for epoll_wait, rounded up; -1 without timers. */
static int wait_ms(void)
{
    uint64_t now;

    if (timer_count == 0)
        return -1;
    now = now_us();
    return timers[1]->due_us <= now ? 0 : (int)((timers[1]->due_us - now + 999) / 1000);
}

/* --- writing ------------------------------------------------------------------------------------------------------ */

static void await_socket(struct connection *connection, bool awaits)
{
    struct epoll_event event = {.events = EPOLLIN | (awaits ? EPOLLOUT : 0u), .data.ptr = connection};

    if (awaits == connection->awaits_socket)
        return;
    connection->awaits_socket = awaits;
    epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event);
}

static void flush(struct connection *connection)
{
    struct buffer *out = &connection->out;

    while (length(out) > 0) {
        ssize_t sent = send(connection->fd, out->bytes + out->start, length(out), MSG_NOSIGNAL);

        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0) {
            connection->broken = errno != EAGAIN;
            break;
        }
        out->start += (size_t)sent;
    }
    await_socket(connection, length(out) > 0);
}

static char *write_stamp(char *at)
{
    uint64_t stamp = now_us();

    memcpy(at, STAMP_PREFIX, STAMP_PREFIX_BYTES);
    for (int digit = STAMP_BYTES - 1; digit >= STAMP_PREFIX_BYTES; digit--, stamp /= 10)
        at[digit] = (char)('0' + stamp % 10);
    return at + STAMP_BYTES;
}

/* Fills the template's places and returns the text's size. The templates above render to less than half of the limit. */
static size_t render(struct connection *connection, const char *template, char *text)
{
    char *at = text;

    for (;;) {
        const char *place = strchrnul(template, '$');
        size_t literal = (size_t)(place - template);

        memcpy(at, template, literal);
        at += literal;
        if (*place == '\0')
            return (size_t)(at - text);
        if (place[1] == 'M')
            at = stpcpy(at, connection->model);
        else if (place[1] == 'T')
            at = write_stamp(at);
        else
            at += sprintf(at, "%d", connection->sequence++);
        template = place + 2;
    }
}

/* Puts the rendered events into the stream as one HTTP chunk. */
static void put_events(struct connection *connection, const char *template)
{
    char text[MAX_RENDERED_BYTES], size[20];
    size_t bytes = render(connection, template, text);

    if (bytes == 0)
        return; /* a chunk of size 0 would end the body */
    put(&connection->out, size, (size_t)sprintf(size, "%zx\r\n", bytes));
    put(&connection->out, text, bytes);
    put(&connection->out, "\r\n", 2);
}

static void put_json(struct connection *connection, const char *status, const char *template)
{
    char text[MAX_RENDERED_BYTES], head[512];
    size_t bytes = render(connection, template, text);

    put(&connection->out, head, (size_t)sprintf(head, json_head, status, bytes));
    put(&connection->out, text, bytes);
}

/* Writes what is due of the stream; returns at its end, or when the clock or the socket makes it wait. */
static void write_stream(struct connection *connection)
{
    const struct plan *plan = &connection->plan;

    while (connection->written < plan->events) {
        if (connection->broken || connection->awaits_socket || connection->timer != 0)
            return;
        if (plan->delay_ms > 0 && now_us() < connection->due_us) {
            start_timer(connection);
            return;
        }
        for (long i = 0; i < plan->per_write && connection->written < plan->events; i++, connection->written++)
            put_events(connection, connection->voice->delta);
        connection->due_us += (uint64_t)plan->delay_ms * 1000u;
        flush(connection);
    }
    if (connection->broken || connection->awaits_socket)
        return;
    put_events(connection, connection->voice->closing);
    put(&connection->out, "0\r\n\r\n", 5);
    connection->streaming = false;
    flush(connection);
}

/* --- reading ------------------------------------------------------------------------------------------------------ */

/* Reads what has arrived. The content is kept zero-terminated, which bounds the number parsing below. */
static void receive(struct connection *connection)
{
    struct buffer *in = &connection->in;

    for (;;) {
        ssize_t got;
        size_t room;

        reserve(in, READ_BYTES);
        room = in->capacity - in->end - 1;
        got = recv(connection->fd, in->bytes + in->end, room, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0 || length(in) > MAX_REQUEST_BYTES) {
            connection->broken = true;
            return;
        }
        in->end += (size_t)got;
        in->bytes[in->end] = '\0';
        if ((size_t)got < room)
            return;
    }
}

static bool starts(const char *line, const char *name)
{
    return strncasecmp(line, name, strlen(name)) == 0;
}

/* Reads the headers that say how long the body is. `line` is the first header, `end` the empty line after the last. */
static void read_headers(struct connection *connection, const char *line, const char *end)
{
    while (line < end) {
        if (starts(line, "content-length:"))
            connection->request.body_bytes = strtoul(line + strlen("content-length:"), NULL, 10);
        else if (starts(line, "transfer-encoding:"))
            connection->request.chunked = true; /* the only coding a client may use without asking */
        else if (starts(line, "expect:"))
            put(&connection->out, go_on, sizeof go_on - 1);
        line = (const char *)memmem(line, (size_t)(end - line) + 2, "\r\n", 2) + 2;
    }
}

/* Returns false until the empty line after the headers has arrived. */
static bool read_head(struct connection *connection)
{
    struct request *request = &connection->request;
    const char *head = connection->in.bytes + connection->in.start;
    const char *end = length(&connection->in) == 0 ? NULL : memmem(head, length(&connection->in), "\r\n\r\n", 4);
    const char *line, *target, *space;

    if (end == NULL)
        return false;
    line = memmem(head, (size_t)(end - head) + 2, "\r\n", 2);
    target = memchr(head, ' ', (size_t)(line - head));
    space = target == NULL ? NULL : memchr(target + 1, ' ', (size_t)(line - target - 1));
    if (space == NULL || space - target > MAX_TARGET_BYTES) {
        connection->broken = true;
        return false;
    }
    *(char *)mempcpy(request->target, target + 1, (size_t)(space - target - 1)) = '\0';
    request->head_bytes = (size_t)(end - head) + 4;
    request->wire_bytes = request->head_bytes;
    read_headers(connection, line + 2, end + 2);
    flush(connection); /* only `100 Continue` can be waiting */
    return true;
}

/* Moves the content of complete chunks together behind the head; returns true after the last one. No trailers. */
static bool unwrap_chunks(struct connection *connection)
{
    struct request *request = &connection->request;
    char *head = connection->in.bytes + connection->in.start;

    for (;;) {
        char *chunk = head + request->wire_bytes;
        size_t arrived = length(&connection->in) - request->wire_bytes;
        char *line_end = memchr(chunk, '\n', arrived);
        size_t size, before;

        if (line_end == NULL)
            return false;
        size = strtoul(chunk, NULL, 16);
        before = (size_t)(line_end + 1 - chunk);
        if (size > MAX_REQUEST_BYTES) {
            connection->broken = true;
            return false;
        }
        if (arrived < before + size + 2)
            return false;
        if (memcmp(chunk + before + size, "\r\n", 2) != 0) {
            connection->broken = true;
            return false;
        }
        memmove(head + request->head_bytes + request->body_bytes, chunk + before, size);
        request->body_bytes += size;
        request->wire_bytes += before + size + 2;
        if (size == 0)
            return true;
    }
}

static bool read_body(struct connection *connection)
{
    struct request *request = &connection->request;

    if (request->chunked)
        return unwrap_chunks(connection);
    if (request->body_bytes > MAX_REQUEST_BYTES) {
        connection->broken = true;
        return false;
    }
    request->wire_bytes = request->head_bytes + request->body_bytes;
    return length(&connection->in) >= request->wire_bytes;
}

/* --- answering ---------------------------------------------------------------------------------------------------- */

static enum dialect dialect_of(const char *target)
{
    if (strcasestr(target, "generateContent") != NULL)
        return GEMINI;
    if (strstr(target, "/messages") != NULL)
        return MESSAGES;
    if (strstr(target, "/responses") != NULL)
        return RESPONSES;
    return CHAT;
}

/* Returns where the value of a member starts, or NULL. Finds the name at any depth, which is enough for test bodies. */
static const char *find_value(const char *body, size_t bytes, const char *quoted_name)
{
    const char *at = memmem(body, bytes, quoted_name, strlen(quoted_name)), *end = body + bytes;

    if (at == NULL)
        return NULL;
    at += strlen(quoted_name);
    while (at < end && (*at == ' ' || *at == ':' || *at == '\n'))
        at++;
    return at < end ? at : NULL;
}

/* Copies the model's name out of the path (Gemini) or the body. */
static void read_model(struct connection *connection, const char *body, size_t bytes)
{
    const char *name = strstr(connection->request.target, "bench-"), *end = body + bytes;
    size_t count = 0;

    if (name != NULL)
        end = name + strcspn(name, ":/?");
    else if ((name = find_value(body, bytes, "\"model\"")) != NULL)
        name++;
    while (name != NULL && name + count < end && name[count] != '"' && count < MAX_MODEL_BYTES - 1)
        count++;
    if (count > 0)
        memcpy(connection->model, name, count);
    connection->model[count] = '\0';
}

static bool wants_stream(const struct connection *connection, const char *body, size_t bytes)
{
    const char *value = find_value(body, bytes, "\"stream\"");

    return (value != NULL && *value == 't') || strstr(connection->request.target, ":streamGenerateContent") != NULL;
}

/* Reads `-<number>` if it stands there and moves `at` behind it; else leaves the default. */
static long read_number(const char **at, long otherwise, long least, long most)
{
    char *end;
    long number;

    if ((*at)[0] != '-' || (*at)[1] < '0' || (*at)[1] > '9')
        return otherwise;
    number = strtol(*at + 1, &end, 10);
    *at = end;
    return number < least ? least : number > most ? most : number;
}

static bool read_plan(const char *model, struct plan *plan)
{
    const char *at = strstr(model, "bench-");

    if (at == NULL)
        return false;
    at += strlen("bench");
    plan->events = read_number(&at, -1, 0, 1000000);
    plan->delay_ms = read_number(&at, -1, 0, 3600000);
    plan->per_write = read_number(&at, 1, 1, 100);
    return plan->events >= 0 && plan->delay_ms >= 0;
}

static void start_stream(struct connection *connection)
{
    connection->streaming = true;
    connection->written = 0;
    connection->sequence = 0;
    connection->due_us = now_us() + (uint64_t)connection->plan.delay_ms * 1000u;
    put(&connection->out, stream_head, sizeof stream_head - 1);
    put_events(connection, connection->voice->opening);
    flush(connection);
}

static void answer(struct connection *connection)
{
    const char *body = connection->in.bytes + connection->in.start + connection->request.head_bytes;
    size_t bytes = connection->request.body_bytes;

    connection->voice = &voices[dialect_of(connection->request.target)];
    read_model(connection, body, bytes);
    if (!read_plan(connection->model, &connection->plan))
        put_json(connection, "404 Not Found", refusal);
    else if (wants_stream(connection, body, bytes))
        start_stream(connection);
    else
        put_json(connection, "200 OK", connection->voice->answer);
    connection->in.start += connection->request.wire_bytes;
    connection->request.head_bytes = connection->request.body_bytes = 0;
    connection->request.chunked = false;
    flush(connection);
}

/* Takes the connection as far as it can go without waiting. */
static void advance(struct connection *connection)
{
    for (;;) {
        if (connection->streaming)
            write_stream(connection);
        if (connection->broken || connection->streaming)
            return;
        if (connection->request.head_bytes == 0 && !read_head(connection))
            return;
        if (!read_body(connection))
            return;
        answer(connection);
    }
}

/* --- the loop ----------------------------------------------------------------------------------------------------- */

static void discard(struct connection *connection)
{
    stop_timer(connection);
    close(connection->fd);
    free(connection->in.bytes);
    free(connection->out.bytes);
    free(connection);
}

static void serve(struct connection *connection, uint32_t events)
{
    if (events & EPOLLOUT)
        flush(connection);
    if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
        receive(connection);
    if (!connection->broken)
        advance(connection);
    if (connection->broken)
        discard(connection);
}

static void serve_timers(void)
{
    uint64_t now;

    if (timer_count == 0)
        return;
    now = now_us();
    while (timer_count > 0 && timers[1]->due_us <= now) {
        struct connection *connection = timers[1];

        stop_timer(connection);
        serve(connection, 0);
    }
}

static void accept_all(int listener)
{
    for (;;) {
        int on = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct connection *connection;
        struct epoll_event event = {.events = EPOLLIN};

        if (fd < 0)
            return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection = grown(NULL, sizeof *connection);
        *connection = (struct connection){.fd = fd};
        event.data.ptr = connection;
        epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
    }
}

static int listen_on_loopback(int port)
{
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;

    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, 4096) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0) {
        perror("upstream: listen");
        exit(1);
    }
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

int main(int argc, char **argv)
{
    int listener;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL}, ready[EVENTS_PER_WAIT];

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    alarm(LIFETIME_SECONDS);
    listener = listen_on_loopback(argc > 1 ? atoi(argv[1]) : 0);
    poller = epoll_create1(EPOLL_CLOEXEC);
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poller, ready, EVENTS_PER_WAIT, wait_ms());

        /* An event without a connection is the listener's. A connection is discarded only while its own event or timer
         * is served, and a descriptor appears at most once in `ready`, so the pointers here are alive. */
        for (int i = 0; i < count; i++) {
            if (ready[i].data.ptr == NULL)
                accept_all(listener);
            else
                serve(ready[i].data.ptr, ready[i].events);
        }
        serve_timers();
    }
}
