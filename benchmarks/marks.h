/* What the fake upstream writes and the load generator looks for: the only things the two programs share.
 *
 * Every text delta of a stream carries a stamp, `tok` and sixteen digits: CLOCK_MONOTONIC microseconds at the moment of
 * writing. Both programs run on one machine, so "now minus stamp" is the time the event spent in sockets and in the
 * candidate between them. An answer that is not a stream ends its text with ANSWER_END, which proves that it is whole.
 */
#ifndef MARKS_H
#define MARKS_H

#include <stdint.h>
#include <time.h>

#define STAMP_PREFIX "tok"
#define STAMP_PREFIX_BYTES 3
#define STAMP_DIGITS 16
#define STAMP_BYTES (STAMP_PREFIX_BYTES + STAMP_DIGITS)
#define ANSWER_END "End of the "

static inline uint64_t now_us(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000u + (uint64_t)time.tv_nsec / 1000u;
}

#endif
