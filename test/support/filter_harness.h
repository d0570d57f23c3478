/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/support/filter_harness.h: any filter chain between a client and fake upstreams.
 *
 * hbf_open connects a recording client to a chain compiled from YAML, over a pair, a unix or a TCP
 * socket, with reads cut into pieces when asked (splitter) and writes held back (blocker). Dials
 * of filters are answered here: at once, when the test says so, or with a failure; each upstream
 * is a recording sink too.
 */
#ifndef HB_TEST_SUPPORT_FILTER_HARNESS_H
#define HB_TEST_SUPPORT_FILTER_HARNESS_H

#include "core/filter/conn.h"
#include "core/filter/dial.h"
#include "core/stats/stats.h"
#include "test/support/harness.h"

/* Worker, types, fake dialler. hbf_fini proves that no connection and no dial is left. */
void hbf_init(void);
void hbf_fini(void);
/* May be called again with the same type. */
void hbf_register(const struct hb_filter_type *);

/* ------------------------------------------------------------------ chains */

/* From the YAML of a FilterChain; panics when it has errors. Freed by hb_chain_free. */
struct hb_chain *hbf_chain(const char *yaml);
/* From the YAML of a list of filters, each line "- name: …". */
struct hb_chain *hbf_filters(const char *yaml);
/* The errors of a FilterChain, one a line "line:column: path: text"; "" = none. */
struct hb_text hbf_errors(const char *yaml);
/* The first error of a list of filters has this in its text. */
void hbf_expect_error(const char *yaml, const char *part);
/* Explains the chain for these facts (taken; NULL = none); the text. */
struct hb_text hbf_explain(const struct hb_chain *, struct hb_facts *);

/* ------------------------------------------------------------------ connections */

enum hbf_wire { HBF_PAIR, HBF_UNIX, HBF_TCP };

struct hbf_options {
	enum hbf_wire wire;
	size_t split;           /* bytes a read, 0 = as they come           */
	bool   block;           /* writes to the client wait: hbt_release(blocker) */
	struct hb_facts *facts; /* taken; NULL = 127.0.0.1:4000 to :443      */
	const struct hb_access_log *log;
	size_t buffer_high;
	bool   paused;          /* the client does not read yet              */
};

struct hbf { /* zeroed before hbf_open */
	struct hbt_sink client;
	struct hb_conn *conn;    /* NULL once closed                         */
	struct hb_transport *blocker; /* NULL unless asked for; borrowed      */
	bool closed;
	enum hb_close_reason reason;
	uint64_t bytes_in, bytes_out; /* at the end                           */
	char detail[128], cluster[64], state_value[128];
	const char *state_key;   /* filter state copied to state_value at the end */
};

void hbf_open(struct hbf *, const struct hb_chain *, const struct hbf_options *);
/* Resets what is left and waits until the connection is gone. */
void hbf_close(struct hbf *);
/* Facts of 127.0.0.1:4000 -> 127.0.0.1:443 with this SNI (NULL = none). */
struct hb_facts hbf_facts(const char *sni);

/* ------------------------------------------------------------------ upstreams */

#define HBF_UPSTREAMS 64u

enum hbf_dialling { HBF_CONNECT, HBF_HOLD, HBF_FAIL };

struct hbf_dialler {
	enum hbf_dialling mode;
	enum hb_close_reason failure;  /* for HBF_FAIL                             */
	enum hbf_wire wire;            /* of upstreams                             */
	const char *missing;           /* cluster that does not exist; NULL = none */
	unsigned dials, canceled;      /* so far                                   */
	unsigned waiting;              /* held or about to be answered             */
	unsigned attempts_max;         /* of the last request                      */
	bool     speaks_first, local;  /* the same                                 */
	char     cluster[64];          /* of the last request                      */
	unsigned n;                    /* upstreams connected so far               */
	struct hbt_sink up[HBF_UPSTREAMS];
	bool     up_paused;            /* new upstreams do not read                */
	bool     up_echo;              /* new upstreams send everything back       */
};
extern struct hbf_dialler hbf_dialler; /* reset by hbf_init */

/* Answers the oldest held dial: NONE connects, else it fails. */
void hbf_answer(enum hb_close_reason);

/* ------------------------------------------------------------------ numbers */

/* Value of a counter by its text name ("tcp.p.downstream_cx_total"); panics when there is none. */
int64_t hbf_stat(const char *name);

#endif
