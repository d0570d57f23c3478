/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/upstreams/support.h: the room on one worker and the control thread, both with a fake clock,
 * with clusters from YAML, name servers that are tables, and servers that are descriptors.
 */
#ifndef HB_TEST_UPSTREAMS_SUPPORT_H
#define HB_TEST_UPSTREAMS_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "core/filter/dial.h"
#include "test/support/harness.h"
#include "upstreams/cluster.h"
#include "upstreams/dial.h"
#include "upstreams/show.h"
#include "upstreams/upstreams.h"

int up_setup(void **state);
int up_teardown(void **state);

/* Turns both loops until `cond`, at most 10 s. */
bool up__turn(uint64_t deadline);
#define UP_UNTIL(cond)                                                                      \
	do {                                                                                \
		uint64_t until_ = hbt__deadline();                                          \
		while (!(cond))                                                             \
			if (!up__turn(until_))                                              \
				hb_panic(__FILE__, __LINE__, __func__, "never: " #cond);    \
	} while (0)
void up_turns(unsigned n);
/* Both clocks; timers of `ms` fire. */
void up_advance(uint64_t ms);

/* ------------------------------------------------------------------ clusters */

/* Applies a cluster; it must be good. The text is formatted. */
struct hb_cluster *up_cluster(const char *fmt, ...) HB_PRINTF(1, 2);
/* Compiles only. */
struct hb_cluster *up_compile(const char *yaml);
/* It must be refused with these errors ("LINE:COL: path: text"), ended by NULL. */
void up_refused(const char *yaml, ...);
/* The message only warns of this. */
void up_warns(const char *yaml, const char *part);
void up_remove(const char *name);
int64_t up_stat(const struct hb_cluster *, enum hb_cluster_stat);
/* "[{endpoint: …}]" of ports on 127.0.0.1, static memory. */
const char *up_endpoints(const uint16_t *ports, size_t n);

/* ------------------------------------------------------------------ servers */

/* Listens on 127.0.0.1 (or ::1); the kernel completes connections by itself. */
int up_listen(uint16_t *ret_port);
int up_listen6(uint16_t port);
/* A port on which nobody listens. */
uint16_t up_closed_port(void);
/* Listens, but connections to it hang: its queue is full. *ret_extra are to be closed, too. */
int up_hanging(uint16_t *ret_port, int ret_extra[4]);
/* Takes a connection that must be there; turns the loops. */
int up_accept(int fd);

/* ------------------------------------------------------------------ dials */

struct up_dial {
	struct hb_dial *dial;
	unsigned done;
	struct hb_transport *t;       /* owned by the test */
	enum hb_close_reason reason;
	struct hb_addr endpoint, local;
	uint32_t attempts;
	char host[256], peer[256], failure[256];
};
/* Starts; the record is zeroed before. */
void up_dial_start(struct up_dial *, const char *cluster, unsigned attempts, const struct hb_facts *);
/* Starts and waits for the end. Returns the port of the endpoint, 0 when it failed. */
uint16_t up_dial(struct up_dial *, const char *cluster, unsigned attempts, const struct hb_facts *);
/* Takes the transport of a dial that is done: received bytes are dropped. */
void up_hold(struct up_dial *);
void up_close(struct up_dial *);

/* ------------------------------------------------------------------ names */

/* Answers come from what up_answer set, when up_dns_deliver is called. */
void up_dns_fake(void);
/* `addrs`: "10.0.0.1 ::1 …"; "" = no such name, NULL = it fails. */
void up_answer(const char *name, const char *addrs, uint64_t ttl_ms);
/* Number of queries waiting for delivery / asked in all. */
unsigned up_dns_waiting(void);
unsigned up_dns_asked(void);
void up_dns_deliver(void);

#endif
