/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Changed files: what can be used replaces what is used, each part by itself. A key that does not
 * belong to its certificate, or half a file, is refused and the last good pair stays; a revocation
 * list that cannot be read stays the last good one, and certificates go on being renewed meanwhile.
 */
#include <openssl/sha.h>
#include <time.h>
#include "core/base/log.h"
#include "core/event/table.h"
#include "core/event/worker.h"
#include "core/filter/conn.h"
#include "core/filter/transport_socket.h"
#include "core/identity/expiry.h"
#include "core/stats/stats.h"
#include "filters/transport/tls/tls_conf_priv.h"

#define TURN_US      1000  /* of the control loop, before others get their turn  */
#define EXPIRY_EVERY 720   /* ticks: once an hour                                */
#define SAID_MAX     4096u /* files whose last change is remembered, to tell of it once */

#define IDENTITY_STATS(X)                                                                        \
	X(ID_RELOADS, "reloads", COUNTER,                                                        \
		"TLS contexts replaced because files of theirs have changed.")                   \
	X(ID_REFUSED, "reload_refused", COUNTER,                                                 \
		"Changes of files that were refused; what was good before is used on.")          \
	X(ID_REVOKED, "revoked_connections", COUNTER,                                            \
		"Live connections ended because new trust, revocation lists or rules, of files " \
		"or of a reload, would not let in their peers.")                                 \
	X(ID_RETIRED, "retired_contexts", GAUGE,                                                 \
		"Replaced TLS contexts that live connections still use.")                        \
	X(ID_FILES, "watched_files", GAUGE, "Files that are watched.")                           \
	X(ID_WATCH_FAILURES, "watch_failures", GAUGE,                                            \
		"Directories that could not be watched since the start; their files are looked " \
		"at every 5 s.")                                                                 \
	X(ID_EXPIRED, "certs_expired", GAUGE, "Our certificates in use that have ended.")        \
	X(ID_WARNINGS, "expiry_warnings", GAUGE,                                                 \
		"Warnings since the start: a certificate near its end or not replaced in time, " \
		"a revocation list overdue.")

enum identity_stat { IDENTITY_STATS(HB_STAT_ENUM) ID_STAT_MAX };
HB_STAT_FAMILY(identity_family, "identity", "hbone_identity", NULL, IDENTITY_STATS);

/* A context that nobody finds any more. */
struct retired {
	struct hb_list node;
	struct hb_tls_conf *conf;
	struct hb_tls_ctx *ctx; /* owned */
};

static struct {
	struct hb_list dirty, retired;
	size_t n_confs, n_retired;
	struct hb_run run;
	bool queued;           /* run is in the run queue */
	bool trust_changed;    /* live connections must be looked at again */
	bool upstream_changed; /* … those to upstreams */
	struct hb_identity_tick tick;
	unsigned ticks;
	struct hb_stats *stats; /* NULL = there are no workers */
	struct hb_map *said;    /* kind and file -> digest of the change that was logged last */
} all = { .dirty = { &all.dirty, &all.dirty }, .retired = { &all.retired, &all.retired } };

/* ------------------------------------------------------------------ counters and log */

static int64_t
wall_s(void)
{
	return ((int64_t)time(NULL));
}

static int64_t
compute(void *arg)
{
	switch ((enum identity_stat)(uintptr_t)arg) {
	case ID_RETIRED:
		return ((int64_t)all.n_retired);
	case ID_FILES:
		return ((int64_t)hb_identity_files());
	case ID_WATCH_FAILURES:
		return ((int64_t)hb_identity_watch_failures());
	case ID_EXPIRED:
		return ((int64_t)hb_identity_expired(wall_s()));
	case ID_WARNINGS:
		return ((int64_t)hb_identity_expiry_warnings());
	case ID_RELOADS:
	case ID_REFUSED:
	case ID_REVOKED:
	case ID_STAT_MAX:
		break;
	}
	HB_WRONG("computed statistic");
}

static void
stats_start(void)
{
	all.stats = hb_stats_get(&identity_family, HB_STR(""));
	for (unsigned i = ID_RETIRED; i < ID_STAT_MAX; i++)
		hb_stat_computed(all.stats, i, compute, (void *)(uintptr_t)i);
}

/* The statistics are older than any connection: they are made with the first conf. */
void
hb_tls_reload_revoked(struct hb_worker *w)
{
	if (all.stats != NULL)
		hb_stat_inc(w, all.stats, ID_REVOKED);
}

static void
count(enum identity_stat i)
{
	if (all.stats != NULL)
		hb_stat_inc(hb_worker_control(), all.stats, i);
}

static void
said_free(void)
{
	struct hb_str key;
	size_t at = 0;
	void *digest;

	if (all.said == NULL)
		return;
	while (hb_map_next(all.said, &at, &key, &digest))
		hb_free(digest);
	hb_map_free(&all.said);
}

/* True once for each change, however many confs have the file. */
static bool
is_news(const char *kind, const char *file, const uint8_t digest[32])
{
	char *key = hb_asprintf("%s %s", kind, file);
	uint8_t *last;
	bool news;

	if (all.said != NULL && hb_map_count(all.said) >= SAID_MAX)
		said_free();
	if (all.said == NULL)
		all.said = hb_map_new();
	last = hb_map_get(all.said, hb_str(key));
	news = last == NULL || memcmp(last, digest, 32) != 0;
	if (last == NULL) {
		last = hb_malloc(32);
		(void)hb_map_put(all.said, hb_str(key), last);
	}
	memcpy(last, digest, 32);
	hb_free(key);
	return (news);
}

static void
refuse(const char *kind, const char *file, const uint8_t digest[32], const char *why)
{
	if (!is_news(kind, file, digest))
		return;
	count(ID_REFUSED);
	HB_LOG(TLS, WARN, "a changed file is refused, the last good one stays in use",
		"file=%s reason=%s", file, why);
}

/* ------------------------------------------------------------------ contexts that nobody finds */

static void
retired_free(struct retired *r)
{
	hb_tls_ctx_free(&r->ctx);
	hb_tls_conf_unref(r->conf);
	hb_free(r);
}

static void
sweep(void)
{
	struct hb_list *n, *next;

	HB_LIST_FOREACH_SAFE (n, next, &all.retired) {
		struct retired *r = HB_LIST_ENTRY(n, struct retired, node);

		if (hb_tls_ctx_users(r->ctx) > 0)
			continue;
		hb_list_del(&r->node);
		all.n_retired--;
		retired_free(r);
	}
}

static void
idle(void)
{
	if (all.n_confs > 0 || all.n_retired > 0)
		return;
	said_free();
	hb_identity_tick_stop(&all.tick);
	hb_stats_unref(&all.stats);
	hb_tls_stats_stop();
}

/* Every worker has passed the end of a turn: who used it has said so. */
static void
on_quiescent(void *arg)
{
	struct retired *r = arg;

	if (hb_tls_ctx_users(r->ctx) == 0) {
		retired_free(r);
	} else {
		hb_list_add_tail(&all.retired, &r->node);
		all.n_retired++;
	}
	idle();
}

void
hb_tls_reload_drop(struct hb_tls_conf *c, struct hb_tls_ctx *ctx)
{
	struct retired *r = hb_calloc(1, sizeof *r);

	hb_list_init(&r->node);
	r->conf = c;
	r->ctx = ctx;
	hb_retire(r, on_quiescent);
}

/* ------------------------------------------------------------------ looking at changed parts */

void
hb_tls_reload_digest(const struct hb_str *v, size_t n, uint8_t ret[32])
{
	SHA256_CTX sha;

	SHA256_Init(&sha);
	for (size_t i = 0; i < n; i++) {
		uint64_t len = v[i].len;

		SHA256_Update(&sha, &len, sizeof len);
		if (len > 0)
			SHA256_Update(&sha, v[i].p, v[i].len);
	}
	SHA256_Final(ret, &sha);
}

struct hb_trust_options
hb_tls_reload_trust_options(const struct hb_tls_conf *c, struct hb_str ca, struct hb_str crl)
{
	return ((struct hb_trust_options){ .pem = ca,
		.crl_pem = crl,
		.crl_leaf_only = c->tls.crl_leaf_only,
		.allow_expired = c->tls.allow_expired,
		.max_depth = c->tls.max_verify_depth,
		.file = c->ca.file,
		.crl_file = c->crl.file });
}

/* What the source holds now; on failure the reason instead. */
static bool
text_now(const struct hb_tls_source *s, struct hb_str *ret)
{
	const char *why = NULL;
	const struct hb_blob *b = s->user.file == NULL ? s->good : hb_file_blob(&s->user, &why);

	*ret = b == NULL ? hb_str(why) : hb_strn(b->text.p, b->text.len);
	return (b != NULL || s->user.file == NULL);
}

/* The file by which people know the pair. */
static const char *
name_of(const struct hb_tls_pair *p)
{
	return (p->chain.file != NULL ? p->chain.file : p->key.file != NULL ? p->key.file : "-");
}

static bool
looked_at(uint8_t seen[32], const struct hb_str *v, size_t n)
{
	uint8_t digest[32];

	hb_tls_reload_digest(v, n, digest);
	if (memcmp(digest, seen, sizeof digest) == 0)
		return (true);
	memcpy(seen, digest, sizeof digest);
	return (false);
}

/* A credential that is better than the good one, or NULL. */
static struct hb_credential *
look_at_pair(struct hb_tls_pair *p)
{
	const struct hb_tls_source *const v[3] = { &p->chain, &p->key, &p->password };
	struct hb_credential *c = NULL;
	struct hb_str texts[3];
	struct hb_err err;
	const char *file = NULL;

	for (size_t i = 0; i < 3; i++)
		if (!text_now(v[i], &texts[i]) && file == NULL) {
			file = v[i]->file;
			(void)hb_err_set(&err, -EINVAL, "%.*s", HB_STR_FMT(texts[i]));
		}
	if (looked_at(p->seen, texts, 3))
		return (NULL);
	if (file == NULL &&
		hb_credential_shared(&(struct hb_credential_pem){ texts[0], texts[1], texts[2],
					     p->chain.file, p->key.file },
			&c, &err) != 0)
		file = name_of(p);
	if (file != NULL)
		refuse("certificate", name_of(p), p->seen, err.text);
	if (c != p->good)
		return (c);
	hb_credential_free(&c);
	return (NULL);
}

/* The text of a changed source, when trust can be made with it; else NULL. */
static struct hb_blob *
look_at_trust(struct hb_tls_conf *c, struct hb_tls_source *s, uint8_t seen[32], struct hb_str ca)
{
	struct hb_trust_options o;
	struct hb_trust *t = NULL;
	struct hb_str text;
	struct hb_err err;
	const char *why;
	bool readable;

	if (s->user.file == NULL)
		return (NULL);
	readable = text_now(s, &text);
	if (looked_at(seen, &text, 1))
		return (NULL);
	if (!readable) {
		refuse("trust", s->file, seen, text.p);
		return (NULL);
	}
	o = s == &c->ca ? hb_tls_reload_trust_options(c, text, (struct hb_str){ 0 }) :
			  hb_tls_reload_trust_options(c, ca, text);
	if (text.len == 0)
		(void)hb_err_set(&err, -EINVAL, "is empty");
	if (text.len == 0 || hb_trust_shared(&o, &t, &err) != 0) {
		refuse("trust", s->file, seen, err.text);
		return (NULL);
	}
	hb_trust_free(&t);
	return (hb_blob_ref(hb_file_blob(&s->user, &why)));
}

/* Every key of session tickets was read and some have changed: *ret is for the caller. */
static bool
look_at_tickets(struct hb_tls_conf *c, struct hb_blob ***ret)
{
	struct hb_str *texts = hb_calloc(c->n_tickets + 1, sizeof texts[0]);
	const char *file = NULL, *why = NULL;
	bool same;

	for (size_t i = 0; i < c->n_tickets; i++) {
		if (!text_now(&c->tickets[i], &texts[i]))
			why = texts[i].p;
		else if (texts[i].len != HB_TLS_TICKET_KEY)
			why = "a key of session tickets has 80 bytes";
		if (why != NULL && file == NULL)
			file = c->tickets[i].file;
	}
	same = c->n_tickets == 0 || looked_at(c->tickets_seen, texts, c->n_tickets);
	hb_free(texts);
	if (same)
		return (false);
	if (file != NULL) {
		refuse("tickets", file, c->tickets_seen, why);
		return (false);
	}
	*ret = hb_calloc(c->n_tickets, sizeof **ret);
	for (size_t i = 0; i < c->n_tickets; i++)
		(*ret)[i] = hb_blob_ref(c->tickets[i].user.file == NULL ?
				c->tickets[i].good :
				hb_file_blob(&c->tickets[i].user, &why));
	return (true);
}

/* ------------------------------------------------------------------ the next context */

/* Parts that are better than those in use; what is NULL stays. */
struct next {
	struct hb_credential **creds; /* n_pairs; owned ones where they are new */
	struct hb_blob *ca, *crl;
	struct hb_trust *trust;
	struct hb_blob **tickets; /* n_tickets, all owned */
	bool any;
};

static struct hb_str
text_of(const struct hb_blob *next, const struct hb_tls_source *s)
{
	const struct hb_blob *b = next != NULL ? next : s->good;

	return (b == NULL ? (struct hb_str){ 0 } : hb_strn(b->text.p, b->text.len));
}

static void
next_look(struct hb_tls_conf *c, struct next *n)
{
	struct hb_trust_options o;
	struct hb_err err;

	memset(n, 0, sizeof *n);
	n->creds = hb_calloc(c->n_pairs + 1, sizeof n->creds[0]);
	for (size_t i = 0; i < c->n_pairs; i++) {
		n->creds[i] = look_at_pair(&c->pairs[i]);
		n->any |= n->creds[i] != NULL;
	}
	n->any |= look_at_tickets(c, &n->tickets);
	n->ca = look_at_trust(c, &c->ca, c->ca_seen, (struct hb_str){ 0 });
	n->crl = look_at_trust(c, &c->crl, c->crl_seen, text_of(n->ca, &c->ca));
	if (n->ca == NULL && n->crl == NULL)
		return;
	o = hb_tls_reload_trust_options(c, text_of(n->ca, &c->ca), text_of(n->crl, &c->crl));
	/* Each part was good by itself. */
	if (hb_trust_shared(&o, &n->trust, &err) != 0)
		HB_WRONG("trust of good parts");
	n->any = true;
}

static void
next_fini(const struct hb_tls_conf *c, struct next *n)
{
	for (size_t i = 0; i < c->n_pairs; i++)
		hb_credential_free(&n->creds[i]);
	hb_free(n->creds);
	for (size_t i = 0; n->tickets != NULL && i < c->n_tickets; i++)
		hb_blob_free(&n->tickets[i]);
	hb_free(n->tickets);
	hb_blob_free(&n->ca);
	hb_blob_free(&n->crl);
	hb_trust_free(&n->trust);
}

static struct hb_tls_ctx *
next_ctx(const struct hb_tls_conf *c, const struct next *n, struct hb_err *reterr)
{
	struct hb_credential **creds = hb_calloc(c->n_pairs + 1, sizeof creds[0]);
	struct hb_str *keys = hb_calloc(c->n_tickets + 1, sizeof keys[0]);
	struct hb_tls_config tls = c->tls;
	struct hb_tls_ctx *ctx;

	for (size_t i = 0; i < c->n_pairs; i++)
		creds[i] = n->creds[i] != NULL ? n->creds[i] : c->pairs[i].good;
	tls.credentials = creds;
	if (n->trust != NULL)
		tls.trust = n->trust;
	for (size_t i = 0; n->tickets != NULL && i < c->n_tickets; i++) {
		keys[i] = hb_strn(n->tickets[i]->text.p, n->tickets[i]->text.len);
		tls.ticket_keys = keys;
	}
	ctx = hb_tls_ctx_new(&tls, reterr);
	hb_free(keys);
	hb_free(creds);
	return (ctx);
}

static void
log_credential(const struct hb_tls_pair *p)
{
	const struct hb_cert_info *leaf = p->good->info[0];

	if (is_news("certificate", name_of(p), p->seen))
		HB_LOG(TLS, INFO, "certificate replaced",
			"file=%s identity=%s serial=%s hours_left=%lld", name_of(p),
			leaf->spiffe_id == NULL ? "-" : leaf->spiffe_id, leaf->serial,
			(long long)((leaf->not_after - wall_s()) / 3600));
}

static void
log_source(const struct hb_tls_source *s, const uint8_t seen[32], const char *what)
{
	if (is_news("trust", s->file, seen))
		HB_LOG(TLS, INFO, what, "file=%s", s->file);
}

static void
adopt_credential(struct hb_tls_pair *p, struct hb_credential **next)
{
	hb_credential_serves(*next, true);
	hb_credential_serves(p->good, false);
	hb_credential_free(&p->good);
	p->good = *next;
	*next = NULL;
	log_credential(p);
}

static void
adopt_source(struct hb_tls_source *s, struct hb_blob **next)
{
	hb_blob_free(&s->good);
	s->good = *next;
	*next = NULL;
}

static void
adopt(struct hb_tls_conf *c, struct next *n)
{
	for (size_t i = 0; i < c->n_pairs; i++) {
		if (n->creds[i] == NULL)
			continue;
		adopt_credential(&c->pairs[i], &n->creds[i]);
		c->creds[i] = c->pairs[i].good;
	}
	for (size_t i = 0; n->tickets != NULL && i < c->n_tickets; i++)
		adopt_source(&c->tickets[i], &n->tickets[i]);
	hb_tls_conf_ticket_keys(c);
	if (n->trust == NULL)
		return;
	hb_trust_serves(n->trust, true);
	hb_trust_serves(c->trust, false);
	hb_trust_free(&c->trust);
	c->tls.trust = c->trust = n->trust;
	all.trust_changed |= c->tls.server;
	n->trust = NULL;
	if (n->ca != NULL) {
		log_source(&c->ca, c->ca_seen, "trust bundle replaced");
		adopt_source(&c->ca, &n->ca);
	}
	if (n->crl != NULL) {
		log_source(&c->crl, c->crl_seen, "revocation lists replaced");
		adopt_source(&c->crl, &n->crl);
	}
}

static void
rebuild(struct hb_tls_conf *c)
{
	struct hb_tls_ctx *ctx = NULL, *old;
	struct hb_err err;
	struct next n;

	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	next_look(c, &n);
	if (n.any) {
		ctx = next_ctx(c, &n, &err);
		if (ctx == NULL)
			refuse("context", c->n_pairs > 0 ? name_of(&c->pairs[0]) : "-",
				c->n_pairs > 0 ? c->pairs[0].seen : c->ca_seen, err.text);
	}
	if (ctx != NULL) {
		adopt(c, &n);
		c->refs++;
		old = atomic_exchange_explicit(&c->ctx, ctx, memory_order_acq_rel);
		(void)atomic_fetch_add_explicit(&c->generation, 1, memory_order_release);
		count(ID_RELOADS);
		hb_tls_reload_drop(c, old);
		all.upstream_changed |= !c->tls.server;
		all.ticks = 0; /* look at the dates soon */
	}
	next_fini(c, &n);
}

/* ------------------------------------------------------------------ queue */

static void
on_run(struct hb_run *r)
{
	struct hb_worker *w = hb_worker_control();
	uint64_t began = hb_now_us(w);

	all.queued = false;
	while (!hb_list_empty(&all.dirty)) {
		struct hb_tls_conf *c = HB_LIST_ENTRY(all.dirty.next, struct hb_tls_conf, dirty);

		hb_list_del(&c->dirty);
		rebuild(c);
		if (hb_now_us(w) - began > TURN_US)
			break;
	}
	if (!hb_list_empty(&all.dirty)) {
		all.queued = true;
		hb_run_soon(w, r);
		return;
	}
	if (all.trust_changed)
		hb_conns_revalidate();
	if (all.upstream_changed)
		hb_transport_sockets_changed();
	all.trust_changed = all.upstream_changed = false;
}

static void
on_changed(struct hb_file_user *u)
{
	struct hb_tls_conf *c = HB_CONTAINER(u, struct hb_tls_source, user)->conf;

	HB_CHECK(c, HB_TLS_CONF_MAGIC);
	if (hb_list_linked(&c->dirty))
		return;
	hb_list_add_tail(&all.dirty, &c->dirty);
	if (all.queued)
		return;
	all.queued = true;
	hb_run_init(&all.run, on_run);
	hb_run_soon(hb_worker_control(), &all.run);
}

static void
on_tick(struct hb_identity_tick *t)
{
	(void)t;
	sweep();
	hb_tls_tickets_rotate(wall_s());
	if (all.ticks++ % EXPIRY_EVERY == 0)
		hb_identity_check_expiry(wall_s());
	idle();
}

/* ------------------------------------------------------------------ start and end of a conf */

static void
watch(struct hb_tls_source *s)
{
	if (s->file != NULL)
		hb_file_watch(&s->user, s->file, on_changed);
}

void
hb_tls_reload_start(struct hb_tls_conf *c)
{
	for (size_t i = 0; i < c->n_pairs; i++) {
		watch(&c->pairs[i].chain);
		watch(&c->pairs[i].key);
		watch(&c->pairs[i].password);
		hb_credential_serves(c->pairs[i].good, true);
	}
	watch(&c->ca);
	watch(&c->crl);
	for (size_t i = 0; i < c->n_tickets; i++)
		watch(&c->tickets[i]);
	if (c->trust != NULL)
		hb_trust_serves(c->trust, true);
	if (all.n_confs++ == 0)
		hb_identity_tick_start(&all.tick, on_tick);
	if (all.stats == NULL && hb_worker_control() != NULL)
		stats_start();
	hb_tls_stats_start();
	all.ticks = 0;
}

void
hb_tls_reload_stop(struct hb_tls_conf *c)
{
	for (size_t i = 0; i < c->n_pairs; i++) {
		hb_file_unwatch(&c->pairs[i].chain.user);
		hb_file_unwatch(&c->pairs[i].key.user);
		hb_file_unwatch(&c->pairs[i].password.user);
		hb_credential_serves(c->pairs[i].good, false);
	}
	for (size_t i = 0; i < c->n_tickets; i++)
		hb_file_unwatch(&c->tickets[i].user);
	hb_file_unwatch(&c->ca.user);
	hb_file_unwatch(&c->crl.user);
	if (c->trust != NULL)
		hb_trust_serves(c->trust, false);
	hb_list_del(&c->dirty);
	if (all.queued && hb_list_empty(&all.dirty)) {
		hb_run_cancel(&all.run);
		all.queued = false;
	}
	all.n_confs--;
	idle();
}
