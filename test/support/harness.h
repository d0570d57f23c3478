/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/support/harness.h: what tests of transports, filters and protocols have in common.
 *
 * One worker on the calling thread with a fake clock (time stands still until hbt_advance), sinks
 * that record and check every event, wrappers that cut reads into pieces or hold writes back, and
 * makers of connected transports. Nothing sleeps: HBT_UNTIL turns the loop until a condition holds,
 * and panics with the condition's text when it does not within 10 seconds.
 */
#ifndef HB_TEST_SUPPORT_HARNESS_H
#define HB_TEST_SUPPORT_HARNESS_H

#include "core/event/io.h"
#include "core/transport/pair.h"
#include "core/transport/tcp.h"

/* ------------------------------------------------------------------ worker */

/* Makes one worker, entered by the calling thread, clock at 1,000,000 ms. */
struct hb_worker *hbt_init(enum hb_io_backend);
/* Turns the loop until it is quiet, proves that nothing lingers, frees all. */
void hbt_fini(void);
struct hb_worker *hbt_worker(void);
void hbt_turns(unsigned n);
/* Advances the clock far enough that a timer of `ms` fires, then turns the loop a few times. */
void hbt_advance(uint64_t ms);

uint64_t hbt__deadline(void);
bool hbt__turn(uint64_t deadline);
#define HBT_UNTIL(cond)                                                             \
	do {                                                                        \
		uint64_t until_ = hbt__deadline();                                  \
		while (!(cond))                                                     \
			if (!hbt__turn(until_))                                     \
				hb_panic(__FILE__, __LINE__, __func__, "never: " #cond); \
	} while (0)

/* ------------------------------------------------------------------ recording sink */

enum hbt_event { /* bits: for let_go_in */
	HBT_CONNECTED = 1,
	HBT_SECURED = 2,
	HBT_DATA = 4,
	HBT_END = 8,
	HBT_HIGH = 16,
	HBT_LOW = 32,
	HBT_SENT = 64,
	HBT_CLOSED = 128,
};

/*
 * Zeroed before hbt_attach. Proves for every event: legal order, no event after the end, no slot
 * entered inside another one (but for the high watermark), no data while reading is disabled.
 */
struct hbt_sink {
	struct hb_transport *t; /* owned; NULL when gone */
	/* options */
	unsigned let_go_in;      /* events in which it lets go (first one that comes)           */
	bool     let_go_finish;  /* by finish, else by abort                                    */
	bool     echo;           /* writes back what it receives, ends included                 */
	bool     pause_each;     /* disables reading once after every on_data                   */
	bool     end_on_end;     /* answers an end with an end                                  */
	unsigned char *answer;   /* written in on_connected when not NULL, answer_len bytes     */
	size_t   answer_len;
	void (*hook)(struct hbt_sink *, enum hbt_event); /* after the options; may let go       */
	void    *arg;            /* for the hook */
	/* what happened */
	unsigned connected, secured, data, ends, highs, lows, closed;
	uint64_t sent;
	enum hb_close_reason reason;
	struct hb_text got;      /* received bytes                                              */
	char     trace[256];     /* c s d e H L S X: the order of events, d only once in a row  */
	/* private */
	unsigned inside;
	bool     above, source_paused;
};

/* Attaches and enables reading (drops the count that the transport starts with). */
void hbt_attach(struct hbt_sink *, struct hb_transport *);
/* Attaches and leaves reading disabled. */
void hbt_attach_paused(struct hbt_sink *, struct hb_transport *);
void hbt_write(struct hbt_sink *, const void *p, size_t n, bool end);
void hbt_writez(struct hbt_sink *, const char *z, bool end);
/* Borrowed bytes are overwritten after the call, so that keeping them shows. */
void hbt_write_borrowed(struct hbt_sink *, const void *p, size_t n, bool end);
bool hbt_got(const struct hbt_sink *, const void *p, size_t n);
bool hbt_gotz(const struct hbt_sink *, const char *z);
/* Lets go of what is left (abort) and frees the record. */
void hbt_sink_fini(struct hbt_sink *);

/* n bytes of a repeatable pattern, so that loss and reordering show. Freed by hb_free. */
uint8_t *hbt_pattern(size_t n, unsigned seed);

/* ------------------------------------------------------------------ wrappers */

/* Delivers what lies below in pieces of n bytes (0 = as it comes); takes `inner`. */
struct hb_transport *hbt_splitter(struct hb_transport *inner, size_t n);
/* Holds every written byte and end back until released; takes `inner`. */
struct hb_transport *hbt_blocker(struct hb_transport *inner);
/* Passes n of the held bytes on (SIZE_MAX: all, and stops holding; a held end goes with them). */
void hbt_release(struct hb_transport *blocker, size_t n);

/* ------------------------------------------------------------------ makers */

/* A connected pair of TCP transports over loopback. */
void hbt_tcp_pair(struct hb_transport **ret_a, struct hb_transport **ret_b);
void hbt_unix_pair(struct hb_transport **ret_a, struct hb_transport **ret_b);
/* A TCP transport and the raw, non-blocking descriptor at its other end (the caller's). With
 * small_buffers both sockets hold a few KiB, so that a peer that does not read blocks soon. */
struct hb_transport *hbt_tcp_and_fd(int *ret_fd, bool small_buffers,
    const struct hb_tcp_options *);
/* Two connected loopback descriptors, non-blocking. */
void hbt_loopback(int fd[2], bool small_buffers);
/* A listening TCP socket on 127.0.0.1, port in *ret_addr. */
int hbt_listen(struct sockaddr_storage *ret_addr, socklen_t *ret_len);
/* Closes with a reset. */
void hbt_fd_reset(int fd);
/* Reads what is there; returns bytes, 0 at the end, -1 = nothing (EAGAIN) or error (errno). */
ssize_t hbt_fd_read(int fd, void *p, size_t n);
/* Turns the loop until n bytes were read. */
void hbt_fd_read_n(int fd, void *p, size_t n);
void hbt_fd_write(int fd, const void *p, size_t n);

#endif
