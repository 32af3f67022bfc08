/* The exchange of runtime_c/control/ec_slot.c: all interleavings, under the memory order of C11.
 *
 *   spin -a slot.pml && gcc -O2 -DSAFETY -o pan pan.c && ./pan
 *
 * The one atomic word, `between`, is a list of messages, oldest first: an exchange reads the newest
 * and appends, a relaxed load may read any message that its thread has not gone past. Every thread
 * has a clock of two counts (how much of each thread happens before what it does next); a release
 * puts the clock into the message, an acquire takes it from there, and an exchange hands on the
 * clock of the message that it replaces (a release sequence). Slots are ordinary memory: two words
 * each, and every access to one is held to come after the other thread's last conflicting access in
 * happens-before order. Where that holds there is no data race, and C11 promises that no processor's
 * store buffers or reordering show: so this covers all weak memory, not that of one processor. The
 * words' values are followed too: both of a slot are equal, and never older than those before.
 *
 * Four orders carry the protocol. Without each one (-DWRITER_NO_RELEASE, WRITER_NO_ACQUIRE,
 * READER_NO_RELEASE, READER_NO_ACQUIRE), with a single word in the middle that is not exchanged
 * (-DTORN), or with two slots (-DTWO_SLOTS) an assertion fails. With -DWOKEN the reader waits on a
 * semaphore that the writer posts after each slot (which here orders the glance alone, as the weaker
 * guarantee): no wake is lost, the last slot is taken.
 */
#ifndef SLOTS
#define SLOTS 6 /* that are written */
#endif
#define MESSAGES (2 * SLOTS + 2)
#define NEW 4
#define NUMBER 3
#define WRITER 0
#define READER 1

byte message[MESSAGES];      /* values of `between`, oldest first */
byte carries_w[MESSAGES];    /* the clock in a message: its count of the writer */
byte carries_r[MESSAGES];    /* and of the reader */
byte last = 0;               /* the newest message */
byte seen[2];                /* the newest message that a thread has gone past */
byte w_of_w = 1, w_of_r = 0; /* the writer's clock */
byte r_of_w = 0, r_of_r = 1; /* the reader's clock */

byte low[3], high[3];       /* the two words of each slot */
byte written_at[3];         /* the writer's count when it wrote last */
byte read_at[3];            /* the reader's count when it read last */
byte posted = 0, wake_seen; /* the semaphore; the newest message at the last post */
byte newest_read = 0;
bool writer_done = false;

inline write_word(cell, slot, value) {
    d_step {
        assert(w_of_r >= read_at[slot]); /* the reader's reads come before */
        written_at[slot] = w_of_w;
        cell = value
    }
}

inline read_word(cell, slot, to) {
    d_step {
        assert(r_of_w >= written_at[slot]); /* the writer's writes come before */
        read_at[slot] = r_of_r;
        to = cell
    }
}

inline writer_exchange(value, was) {
    d_step {
        was = message[last];
#ifndef WRITER_NO_ACQUIRE
        w_of_w = (carries_w[last] > w_of_w -> carries_w[last] : w_of_w);
        w_of_r = (carries_r[last] > w_of_r -> carries_r[last] : w_of_r);
#endif
        last++;
        message[last] = value;
        carries_w[last] = carries_w[last - 1];
        carries_r[last] = carries_r[last - 1];
#ifndef WRITER_NO_RELEASE
        carries_w[last] = (w_of_w > carries_w[last] -> w_of_w : carries_w[last]);
        carries_r[last] = (w_of_r > carries_r[last] -> w_of_r : carries_r[last]);
#endif
        w_of_w++;
        seen[WRITER] = last
    }
}

inline reader_exchange(value, was) {
    d_step {
        was = message[last];
#ifndef READER_NO_ACQUIRE
        r_of_w = (carries_w[last] > r_of_w -> carries_w[last] : r_of_w);
        r_of_r = (carries_r[last] > r_of_r -> carries_r[last] : r_of_r);
#endif
        last++;
        message[last] = value;
        carries_w[last] = carries_w[last - 1];
        carries_r[last] = carries_r[last - 1];
#ifndef READER_NO_RELEASE
        carries_w[last] = (r_of_w > carries_w[last] -> r_of_w : carries_w[last]);
        carries_r[last] = (r_of_r > carries_r[last] -> r_of_r : carries_r[last]);
#endif
        r_of_r++;
        seen[READER] = last
    }
}

/* A relaxed load: any message from the newest that this thread has gone past on. */
inline glance(value) {
    atomic {
        chosen = seen[READER];
        do
        :: chosen < last -> chosen++
        :: break
        od;
        seen[READER] = chosen;
        value = message[chosen]
    }
}

proctype writer() {
    byte back = 0, was, number = 1;
    do
    :: number <= SLOTS ->
        write_word(low[back], back, number);
        write_word(high[back], back, number);
        writer_exchange(back | NEW, was);
#ifdef TWO_SLOTS
        back = 1 - back;
#else
        back = was & NUMBER;
#endif
#ifdef WOKEN
        d_step {
            wake_seen = last;
            posted++
        }
#endif
        number++
    :: else -> break
    od;
    writer_done = true
}

proctype reader() {
#ifdef TWO_SLOTS
    byte front = 1;
#else
    byte front = 2;
#endif
    byte was, value, first, second, chosen, turns = 0;
    do
#ifdef WOKEN
    :: posted > 0 ->
        d_step {
            posted--;
            seen[READER] = (wake_seen > seen[READER] -> wake_seen : seen[READER])
        };
#else
    :: turns < SLOTS + 2 ->
#endif
        turns++;
        glance(value);
        if
        :: (value & NEW) != 0 ->
#ifdef TORN
            was = value;
#else
            reader_exchange(front, was);
            assert((was & NEW) != 0);
#endif
            front = was & NUMBER;
            read_word(low[front], front, first);
            read_word(high[front], front, second);
            assert(first == second);
#ifdef TORN
            assert(first >= newest_read);
#else
            assert(first > newest_read);
#endif
            newest_read = first
        :: else
        fi
#ifdef WOKEN
    :: writer_done && posted == 0 -> break
#else
    :: turns == SLOTS + 2 -> break
#endif
    od;
#ifdef WOKEN
    assert(newest_read == SLOTS)
#endif
}

init {
    message[0] = 1;
    atomic {
        run writer();
        run reader()
    }
}
