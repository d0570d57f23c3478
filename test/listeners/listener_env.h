/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/listeners/listener_env.h: a house of two workers and the control thread, all turned by the
 * calling thread with one fake clock; listeners from YAML; clients on loopback sockets.
 *
 * The network filter `test.name` (terminal) first writes the name of its chain and a line end, keeps
 * what it receives, answers "ping\n" at the end of what it reads by the same, an end by an end.
 * Nothing sleeps: LE_UNTIL turns until a condition holds.
 */
#ifndef HB_TEST_LISTENERS_LISTENER_ENV_H
#define HB_TEST_LISTENERS_LISTENER_ENV_H

#include "core/config/resource.h"
#include "core/filter/conn.h"
#include "listeners/listeners.h"

#define LE_WORKERS 2u

void le_init(const struct hb_listeners_options *);
/* Closes everything, proves that nothing is left, frees all. */
void le_fini(void);
/* The same with the real clock, for workers on threads of their own; the control loop must not run
 * and what test filters note below is not noted. */
void le_init_real(const struct hb_listeners_options *);
void le_fini_real(void);
void le_turn(void);
/* All clocks, then some turns. */
void le_advance(uint64_t ms);

uint64_t le__deadline(void);
#define LE_UNTIL(cond)                                                                   \
	do {                                                                             \
		uint64_t until_ = le__deadline();                                        \
		while (!(cond)) {                                                        \
			le_turn();                                                       \
			if (le__deadline() > until_ + 10000)                             \
				hb_panic(__FILE__, __LINE__, __func__, "never: " #cond); \
		}                                                                        \
	} while (0)

/* Applies a Listener in YAML. Returns the errors, one a line, "" = good; borrowed until the next
 * call. Names are those of the message. */
const char *le_apply(const char *yaml);
void le_apply_ok(const char *yaml);
void le_remove(const char *name);
/* Bound port of the listener's n-th address. */
uint16_t le_port(const char *listener, unsigned n);
int64_t le_stat(const char *text_name); /* "listener.127.0.0.1_80.downstream_cx_total"; -1 = none */
/* The same, of the listener's own scope. */
int64_t le_lstat(const char *listener, const char *stat);
/* Connections of the worker. */
uint64_t le_conns(unsigned worker);
/* HB_EVENT_DRAIN that test filters got so far. */
extern unsigned le_drained;
/* Facts of the connection that was started last. */
extern struct hb_facts le_last_facts;
/* Bytes that test filters got, of all connections. */
extern struct hb_text le_received;

/* ------------------------------------------------------------------ clients */

struct le_client {
	int fd;
	char got[4096];
	size_t n;
	bool ended, reset;
};

void le_connect(struct le_client *, uint16_t port);
void le_connect_unix(struct le_client *, const char *path);
void le_send(struct le_client *, const void *p, size_t n);
/* Reads what is there; true once something came, ended or broke. */
bool le_poll(struct le_client *);
/* Waits for a whole line and compares it; it is taken out. */
void le_expect_line(struct le_client *, const char *line);
void le_expect_reset(struct le_client *);
/* Nothing came within some turns. */
void le_expect_silence(struct le_client *);
/* Still open: a line goes through and comes back. */
void le_expect_echo(struct le_client *);
void le_close(struct le_client *);

/* A ClientHello with this server name (NULL = none) and protocols (comma-separated; NULL = none).
 * Returns its length. */
size_t le_hello(uint8_t *to, size_t cap, const char *sni, const char *alpn);
void le_send_hello(struct le_client *, const char *sni, const char *alpn);

#endif
