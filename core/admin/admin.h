/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/admin/admin.h: the admin server (HTTP/1 on libh2o, on the control thread's loop).
 *
 * Rooms register endpoints; the server does the dull parts: routing, method check (405 for GET on
 * what changes state), query parameters, help page, limits (64 connections, 16 KiB of request,
 * 30 s to send it), and a read-only public address that serves only endpoints marked PUBLIC.
 */
#ifndef HB_CORE_ADMIN_ADMIN_H
#define HB_CORE_ADMIN_ADMIN_H

#include "core/base/str.h"
#include "core/event/worker.h"
#include "core/facts/facts.h"

struct hb_admin_request;

#define HB_ADMIN_MUTATES 1u /* POST only                                        */
#define HB_ADMIN_PUBLIC  2u /* also served on public addresses (GET only)        */

struct hb_admin_endpoint {
	const char *path;    /* "/stats/prometheus"; exact match                      */
	const char *help;    /* one line for /help                                    */
	const char *params;  /* "usedonly, filter=REGEX, format=json|prometheus" or "" */
	unsigned    flags;
	/* Answers now or later (asynchronously) with hb_admin_reply, exactly once. */
	void (*fn)(struct hb_admin_request *);
};

/* Before hb_admin_start. The struct must live for ever. */
void hb_admin_add(const struct hb_admin_endpoint *);

/* Value of a query parameter ("" when present without a value; p NULL = absent). Decoded. */
struct hb_str hb_admin_param(struct hb_admin_request *, const char *name);
/* Every parameter in order; returns false at the end. */
bool hb_admin_param_at(struct hb_admin_request *, size_t i, struct hb_str *name, struct hb_str *value);
/* For pages of which only some parameters change state. */
bool hb_admin_is_post(const struct hb_admin_request *);
/* Takes the text. `type` NULL = text/plain; charset=UTF-8. The request is gone afterwards. */
void hb_admin_reply(struct hb_admin_request *, int status, const char *type, struct hb_text *);
void hb_admin_replyf(struct hb_admin_request *, int status, const char *fmt, ...) HB_PRINTF(3, 4);

struct hb_admin_config {
	struct hb_addr address;            /* NONE = no admin server                     */
	struct hb_addr public_metrics;     /* read-only: /metrics = /stats/prometheus    */
	struct hb_addr public_ready;       /* read-only: /healthz/ready = /ready         */
	mode_t         unix_mode;          /* 0 = 0600                                   */
	/* Admin.allow_paths: false answers 403. NULL = every path. */
	bool (*allowed)(struct hb_str path);
};
/* Pages that need nothing but the rooms below: / /help /stats /logging /config_dump … */
void hb_admin_pages_init(void);
/* The bootstrap as last applied, for /config_dump; copied. */
void hb_admin_set_bootstrap(struct hb_str wire);

/* Control thread. Listens at once; a bind error names the address and what to do. */
int  hb_admin_start(const struct hb_admin_config *, struct hb_err *reterr);
void hb_admin_stop(void);
/* The bound addresses (port 0 resolved). */
struct hb_addr hb_admin_address(void);
struct hb_addr hb_admin_public_metrics_address(void);
struct hb_addr hb_admin_public_ready_address(void);

/*
 * Collects text from all workers: on each worker fn(worker, &text, arg) is run, then done(arg,
 * text of all workers joined in order of index) on the control thread. For /connections.
 */
void hb_admin_gather(void (*fn)(struct hb_worker *, struct hb_text *, void *arg),
    void (*done)(void *arg, struct hb_text *), void *arg);

#endif
