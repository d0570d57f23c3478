/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The TLS transport. Ciphertext is decrypted where the lower transport delivered it, plaintext is
 * encrypted into scratch memory and handed down in the same call. What waits, waits below (in a
 * socket or a stream), so the level of the queue is the lower transport's.
 */
#include <openssl/err.h>
#include "core/transport/tls_priv.h"

#define RECORD_HEADER 5u
/* Runs of records in a batch that did not lie in one place, at most. */
#define APART_MAX     8u
/* Session tickets of a server in one connection: OpenSSL sends 2, some send 4. */
#define TICKETS_MAX  32u
#define ALERT_OFFSET 1000 /* SSL_AD_REASON_OFFSET: errors above are alerts of the peer  */

static const struct hb_transport_ops tls_ops;

static void tls_fail(struct hb_tls *, enum hb_close_reason);
static void finish_lower(struct hb_tls *);
static void tls_timeout(struct hb_timer *);
static void tls_free(struct hb_transport *);

static struct hb_tls *
tls_of(const struct hb_transport *base)
{
	HB_CHECK(base, HB_TRANSPORT_MAGIC);
	HB_ASSERT(base->ops == &tls_ops);
	return (HB_CONTAINER((struct hb_transport *)(uintptr_t)base, struct hb_tls, base));
}

static struct hb_tls *
tls_of_sink(void *sink)
{
	return (tls_of(sink));
}

/* Somebody still wants this transport to work: its sink, or the lingerer. */
static bool
alive(const struct hb_tls *t)
{
	return (t->base.close_due == HB_CLOSE_NONE && (!t->base.dead || t->base.lingering));
}

static void
pause_lower(struct hb_tls *t, bool on)
{
	if (t->lower == NULL || t->paused == on)
		return;
	t->paused = on;
	hb_transport_read_disable(t->lower, on ? 1 : -1);
}

static size_t
early_len(const struct hb_tls *t)
{
	return (t->early == NULL ? 0 : t->early->buf.len);
}

static size_t
tls_pending(const struct hb_transport *base)
{
	const struct hb_tls *t = tls_of(base);

	return (early_len(t) + (t->lower == NULL ? 0 : hb_transport_pending(t->lower)));
}

/* ------------------------------------------------------------------ writing */

/* Hands down the records that were written, enc before out. */
static void
flush(struct hb_tls *t, bool end)
{
	struct hb_buf b = { NULL, NULL, 0 };
	struct hb_slice s;

	if (t->enc_len > 0)
		hb_buf_borrow(&b, &s, t->enc, t->enc_len);
	t->enc_len = 0;
	hb_buf_move(&b, &t->out);
	if (t->lower == NULL)
		hb_buf_fini(&b);
	else if (b.len > 0 || end)
		hb_transport_write(t->lower, &b, end);
}

/* The first bytes in one piece: a long slice as it is, short ones gathered to a full record. */
static const uint8_t *
piece(const struct hb_buf *buf, uint8_t stage[HB_TLS_RECORD_MAX], size_t room, size_t *ret_n)
{
	struct iovec iov;
	int used = hb_buf_iov(buf, &iov, 1);

	HB_ASSERT(used == 1);
	if (iov.iov_len == buf->len) {
		*ret_n = HB_MIN(iov.iov_len, room);
		return (iov.iov_base);
	}
	if (iov.iov_len >= HB_TLS_RECORD_MAX) {
		*ret_n = HB_MIN(iov.iov_len, room) / HB_TLS_RECORD_MAX * HB_TLS_RECORD_MAX;
		return (iov.iov_base);
	}
	*ret_n = hb_buf_copyout(buf, 0, stage, HB_TLS_RECORD_MAX);
	return (stage);
}

static size_t
plaintext_room(const struct hb_tls *t)
{
	uint32_t all = HB_MIN(HB_SCRATCH_SIZE, hb_tls_batch_records * (HB_TLS_RECORD_MAX + HB_TLS_RECORD_EXTRA));

	return ((all - HB_MIN(all, t->enc_len)) / (HB_TLS_RECORD_MAX + HB_TLS_RECORD_EXTRA) * HB_TLS_RECORD_MAX);
}

/* Encrypts the n bytes at p, or the first of them; returns how many, 0 = an error is queued. */
static size_t
seal(struct hb_tls *t, const uint8_t *p, size_t n)
{
	size_t done = 0, used;
	int r;

	/* What went to `out` must stay in front: see bio_write. */
	while (done < n && t->enc != NULL && t->out.len == 0) {
		used = hb_tls__seal(t->ssl, t->enc + t->enc_len, p + done, n - done);
		if (used == 0)
			break;
		t->enc_len += (uint32_t)used;
		done += HB_MIN(n - done, HB_TLS_RECORD_MAX);
	}
	if (done > 0)
		return (done);
	ERR_clear_error();
	r = SSL_write(t->ssl, p, (int)n);
	return (r <= 0 ? 0 : (size_t)r);
}

/* Takes all of buf. The sink may have ended us when it returns. */
static void
encrypt(struct hb_tls *t, struct hb_buf *buf, bool end)
{
	uint8_t stage[HB_TLS_RECORD_MAX];
	const uint8_t *p;
	uint8_t *lease;
	size_t n;

	HB_ASSERT(!t->encrypting && t->enc_len == 0);
	t->encrypting = true;
	lease = buf->len == 0 ? NULL : hb_scratch_lease(t->base.worker);
	t->enc = lease;
	while (buf->len > 0 && alive(t) && t->lower != NULL) {
		p = piece(buf, stage, lease == NULL ? HB_TLS_RECORD_MAX : plaintext_room(t), &n);
		n = seal(t, p, n);
		if (n == 0)
			break;
		hb_buf_drain(buf, n);
		if (lease == NULL || plaintext_room(t) == 0)
			flush(t, false);
	}
	if (buf->len == 0 && end && alive(t) && t->lower != NULL) {
		ERR_clear_error();
		(void)SSL_shutdown(t->ssl);
		t->end_sent = true;
		flush(t, true);
	} else {
		flush(t, false);
	}
	t->enc = NULL;
	t->encrypting = false;
	if (lease != NULL)
		hb_scratch_release(t->base.worker, lease);
	if (buf->len > 0 && alive(t) && t->lower != NULL) {
		hb_tls__failure(t, "a record could not be written");
		tls_fail(t, HB_CLOSE_TLS_ERROR);
	}
	ERR_clear_error();
	hb_buf_fini(buf);
}

static void
early_drop(struct hb_tls *t)
{
	if (t->early == NULL)
		return;
	hb_timer_stop(&t->early->timer);
	hb_buf_fini(&t->early->buf);
	hb_free(t->early);
	t->early = NULL;
}

static struct hb_tls_early *
early_of(struct hb_tls *t)
{
	if (t->early != NULL)
		return (t->early);
	t->early = hb_calloc(1, sizeof *t->early);
	hb_timer_init(&t->early->timer, t->base.worker, tls_timeout);
	t->early->tls = t;
	return (t->early);
}

/* What was written before the handshake was done, or from inside a watermark event of flush. */
static void
encrypt_early(struct hb_tls *t)
{
	struct hb_buf early = { NULL, NULL, 0 };

	while (alive(t) && t->lower != NULL &&
		(early_len(t) > 0 || (t->base.write_ended && !t->end_sent))) {
		if (t->early != NULL)
			hb_buf_move(&early, &t->early->buf);
		encrypt(t, &early, t->base.write_ended);
	}
	if (t->secured && early_len(t) == 0)
		early_drop(t);
}

/* The lower transport's queue has changed. */
static void
level_changed(struct hb_tls *t)
{
	if (t->base.dead || !alive(t))
		return;
	hb_transport_level(&t->base, tls_pending(&t->base));
	if (!t->base.dead && alive(t) && t->base.write_ended && !t->base.write_flushed &&
		t->secured && t->lower != NULL && hb_transport_pending(t->lower) == 0)
		hb_transport_write_flushed(&t->base);
}

static void
tls_write(struct hb_transport *base, struct hb_buf *buf, bool end)
{
	struct hb_tls *t = tls_of(base);

	if (t->lower == NULL) {
		hb_buf_fini(buf);
		return;
	}
	if (!t->secured || t->encrypting) {
		hb_buf_own(buf);
		hb_buf_move(&early_of(t)->buf, buf);
	} else {
		encrypt(t, buf, end);
		encrypt_early(t);
		/* The sink let go from inside a watermark event. */
		if (alive(t) && t->base.lingering)
			finish_lower(t);
	}
	level_changed(t);
}

/* ------------------------------------------------------------------ ending */

static void
let_go(struct hb_tls *t)
{
	hb_buf_fini(&t->in);
	early_drop(t);
}

static void
bury(struct hb_tls *t)
{
	let_go(t);
	HB_ASSERT(t->lower == NULL);
	hb_transport_bury(&t->base, tls_free);
}

/* Ends by ourselves: an alert that waits is flushed before the lower transport closes. */
static void
tls_fail(struct hb_tls *t, enum hb_close_reason reason)
{
	bool alert = t->out.len > 0;

	HB_ASSERT(alive(t));
	let_go(t);
	if (t->lower != NULL && alert)
		flush(t, false);
	/* Inside flush the sink may have been told of a watermark and have let go of us. */
	if (!alive(t))
		return;
	if (t->lower != NULL) {
		if (alert)
			hb_transport_finish(&t->lower, reason);
		else
			hb_transport_abort(&t->lower, reason);
	}
	if (t->base.lingering)
		bury(t);
	else
		hb_transport_emit_closed(&t->base, reason);
}

static void
tls_closed(struct hb_transport *base)
{
	struct hb_tls *t = tls_of(base);

	if (t->lower != NULL)
		hb_transport_finish(&t->lower, HB_CLOSE_DONE);
	bury(t);
}

static void
tls_abort(struct hb_transport *base, enum hb_close_reason reason)
{
	struct hb_tls *t = tls_of(base);

	if (t->lower != NULL)
		hb_transport_abort(&t->lower, reason);
	bury(t);
}

/* Everything is encrypted: the lower transport does the waiting. */
static void
finish_lower(struct hb_tls *t)
{
	struct hb_buf none = { NULL, NULL, 0 };

	if (!t->end_sent && t->lower != NULL)
		encrypt(t, &none, true);
	if (t->lower != NULL)
		hb_transport_finish(&t->lower, HB_CLOSE_DONE);
	bury(t);
}

/* A stream's client waits for the answer: without one it would wait for its own timeout. */
static void
accept_lower(struct hb_tls *t)
{
	if (!t->ctx->server || t->accepted)
		return;
	t->accepted = true;
	hb_transport_accept(t->lower);
}

static void
tls_reject(struct hb_transport *base, enum hb_close_reason reason)
{
	struct hb_tls *t = tls_of(base);

	if (t->lower != NULL && t->ctx->server && !t->accepted)
		hb_transport_reject(&t->lower, reason);
	else if (t->lower != NULL)
		hb_transport_abort(&t->lower, reason);
	bury(t);
}

static void
tls_finish(struct hb_transport *base, enum hb_close_reason reason)
{
	struct hb_tls *t = tls_of(base);

	if (t->lower != NULL && !t->secured && early_len(t) == 0) {
		accept_lower(t);
		hb_transport_finish(&t->lower, reason);
		bury(t);
	} else if (!t->encrypting && (t->secured || t->lower == NULL)) {
		finish_lower(t);
	}
	/* Else: linger until the handshake is done or its timer fires, or the write returns. */
}

static void
tls_timeout(struct hb_timer *timer)
{
	struct hb_tls *t = HB_CONTAINER(timer, struct hb_tls_early, timer)->tls;

	HB_CHECK(&t->base, HB_TRANSPORT_MAGIC);
	if (!alive(t))
		return;
	if (t->base.lingering)
		hb_transport_flush_timed_out(&t->base);
	hb_tls__failure(t, "the handshake was not done in time");
	tls_fail(t, HB_CLOSE_TLS_TIMEOUT);
}

/* ------------------------------------------------------------------ handshake */

static void
fill_info(struct hb_tls *t)
{
	const SSL_CIPHER *cipher = SSL_get_current_cipher(t->ssl);
	const uint8_t *alpn;
	unsigned n;

	t->info.version = SSL_get_version(t->ssl);
	t->info.cipher = cipher == NULL ? "" : SSL_CIPHER_get_name(cipher);
	SSL_get0_alpn_selected(t->ssl, &alpn, &n);
	t->info.alpn = hb_strn(alpn, n);
	t->info.sni = hb_str(t->sni);
	t->info.resumed = SSL_session_reused(t->ssl) != 0;
	if (t->info.resumed)
		hb_tls__resumed(t);
	hb_tls__peer_unref(&t->offered);
	t->info.peer = t->peer == NULL ? NULL : t->peer->info;
	t->info.local = t->cred == NULL ? NULL : t->cred->info[0];
}

static void
handshake_done(struct hb_tls *t)
{
	t->secured = true;
	hb_timer_stop(&t->early->timer);
	fill_info(t);
	encrypt_early(t);
	if (!alive(t))
		return;
	if (t->base.lingering) {
		finish_lower(t);
		return;
	}
	level_changed(t);
	if (alive(t) && !t->base.dead)
		hb_transport_emit_secured(&t->base);
}

/* Alerts that say something about our certificate or identity, RFC 8446 6.2. */
static bool
is_refusal(int alert)
{
	switch (alert) {
	case SSL_AD_BAD_CERTIFICATE:
	case SSL_AD_UNSUPPORTED_CERTIFICATE:
	case SSL_AD_CERTIFICATE_REVOKED:
	case SSL_AD_CERTIFICATE_EXPIRED:
	case SSL_AD_CERTIFICATE_UNKNOWN:
	case SSL_AD_UNKNOWN_CA:
	case SSL_AD_ACCESS_DENIED:
	case SSL_AD_CERTIFICATE_REQUIRED:
	case SSL_AD_DECRYPT_ERROR: /* OpenSSL: the signature on the certificate is wrong */
		return (true);
	default:
		return (false);
	}
}

/* Which alert the peer has sent; 0 = the error is another one. */
static int
peer_alert(uint32_t error)
{
	int reason = ERR_GET_REASON(error);

	if (ERR_GET_LIB(error) != ERR_LIB_SSL || reason < ALERT_OFFSET)
		return (0);
	return (reason - ALERT_OFFSET);
}

/* As a server: nothing in the hello is ours. As a client: it wants a group that we did not offer. */
static bool
no_group(uint32_t error)
{
	int reason = ERR_GET_REASON(error);

	return (ERR_GET_LIB(error) == ERR_LIB_SSL &&
		(reason == SSL_R_NO_SHARED_GROUP || reason == SSL_R_WRONG_CURVE));
}

static enum hb_close_reason
classify(struct hb_tls *t)
{
	uint32_t error = ERR_peek_error();
	const char *text = ERR_reason_error_string(error);
	int alert = peer_alert(error);

	if (t->verdict != HB_CLOSE_NONE)
		return ((enum hb_close_reason)t->verdict);
	if (alert != 0) {
		if (alert == SSL_AD_HANDSHAKE_FAILURE)
			hb_tls__failure(t,
				"the peer sent alert 40 (handshake failure): no version, "
				"cipher suite or key exchange group in common (X25519MLKEM768 alone "
				"is not supported)");
		hb_tls__failure(
			t, "the peer sent alert %d (%s)", alert, SSL_alert_desc_string_long(alert));
		/* A TLS 1.3 server looks at our certificate after we have finished. */
		if (is_refusal(alert) || (t->secured && !t->ctx->server && !t->got_data))
			return (HB_CLOSE_TLS_PEER_REFUSED);
		return (t->secured ? HB_CLOSE_TLS_ERROR : HB_CLOSE_TLS_HANDSHAKE);
	}
	if (ERR_GET_LIB(error) == ERR_LIB_SSL &&
		ERR_GET_REASON(error) == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE) {
		hb_tls__failure(t, "the peer sent no certificate");
		return (HB_CLOSE_TLS_NO_CERT);
	}
	if (!t->secured && no_group(error)) {
		hb_tls__failure(t,
			"the peer accepts none of our key exchange groups (X25519MLKEM768 "
			"alone is not supported; ecdh_curves has the configured ones)");
		return (HB_CLOSE_TLS_NO_GROUP);
	}
	hb_tls__failure(t, "%s", text == NULL ? "unknown error" : text);
	return (t->secured ? HB_CLOSE_TLS_ERROR : HB_CLOSE_TLS_HANDSHAKE);
}

static void
handshake(struct hb_tls *t)
{
	int r, e;

	ERR_clear_error();
	r = SSL_do_handshake(t->ssl);
	if (r == 1) {
		flush(t, false);
		if (alive(t))
			handshake_done(t);
		return;
	}
	e = SSL_get_error(t->ssl, r);
	if (e == SSL_ERROR_WANT_READ) {
		flush(t, false);
		return;
	}
	tls_fail(t, classify(t));
	ERR_clear_error();
}

/* ------------------------------------------------------------------ reading */

enum got { GOT_MORE, GOT_ALL, GOT_CLOSE, GOT_ERROR };

/* The next record lies in one place, the beginning of *ret_iov. */
static bool
whole_record(const struct hb_tls *t, struct iovec *ret_iov)
{
	const uint8_t *p;

	if (t->in.len < RECORD_HEADER || hb_buf_iov(&t->in, ret_iov, 1) == 0 ||
		ret_iov->iov_len < RECORD_HEADER)
		return (false);
	p = ret_iov->iov_base;
	return (ret_iov->iov_len - RECORD_HEADER >= ((size_t)p[3] << 8 | p[4]));
}

/* The next record, if it lies in one place; the plaintext, a part of t->in, moves to `plain`. */
static bool
open_in_place(struct hb_tls *t, struct hb_buf *plain)
{
	struct iovec iov;
	size_t used, before, n;
	uint8_t *p;

	if (!whole_record(t, &iov))
		return (false);
	used = hb_tls__open(t->ssl, iov.iov_base, iov.iov_len, &p, &n);
	if (n == 0) {
		hb_buf_drain(&t->in, used);
		return (false);
	}
	before = (size_t)(p - (uint8_t *)iov.iov_base);
	hb_buf_drain(&t->in, before);
	hb_buf_move_n(plain, &t->in, n);
	hb_buf_drain(&t->in, used - n - before);
	return (true);
}

/* Records that do not lie in one place, into dst, while a whole one has room. *ret_r: of the last SSL_read. */
static size_t
read_apart(struct hb_tls *t, uint8_t *dst, size_t room, int *ret_r)
{
	struct iovec iov;
	size_t n = 0;
	int r;

	do {
		ERR_clear_error();
		r = SSL_read(t->ssl, dst + n, (int)(room - n));
		n += r > 0 ? (size_t)r : 0;
	} while (r > 0 && n + HB_TLS_RECORD_MAX <= room && t->tickets <= TICKETS_MAX &&
		!whole_record(t, &iov));
	*ret_r = r;
	return (n);
}

/* Decrypts records into `plain`: where they lie, or into dst, as long as that may have to take a whole one. */
static enum got
decrypt(struct hb_tls *t, uint8_t *dst, struct hb_slice apart[APART_MAX], struct hb_buf *plain)
{
	unsigned runs = 0;
	size_t n;
	int r = 1, e;

	while (r > 0 && plain->len + HB_TLS_RECORD_MAX <= HB_SCRATCH_SIZE && runs < APART_MAX &&
		t->tickets <= TICKETS_MAX) {
		if (open_in_place(t, plain))
			continue;
		n = read_apart(t, dst, HB_SCRATCH_SIZE - plain->len, &r);
		if (n > 0)
			hb_buf_borrow(plain, &apart[runs++], dst, n);
		dst += n;
	}
	t->got_data |= plain->len > 0;
	if (t->tickets > TICKETS_MAX) {
		hb_tls__failure(t, "more than %u session tickets", TICKETS_MAX);
		return (GOT_ERROR);
	}
	if (r > 0)
		return (GOT_MORE);
	e = SSL_get_error(t->ssl, r);
	if (e == SSL_ERROR_WANT_READ)
		return (GOT_ALL);
	return (e == SSL_ERROR_ZERO_RETURN ? GOT_CLOSE : GOT_ERROR);
}

/* One batch to the sink. False = no more for now. */
static bool
read_batch(struct hb_tls *t)
{
	uint8_t *scratch = hb_scratch_lease(t->base.worker);
	struct hb_buf b = { NULL, NULL, 0 };
	enum hb_close_reason reason = HB_CLOSE_NONE;
	struct hb_slice apart[APART_MAX];
	enum got got;

	if (scratch == NULL) {
		hb_transport_run_soon(&t->base);
		return (false);
	}
	got = decrypt(t, scratch, apart, &b);
	if (got == GOT_ERROR)
		reason = t->tickets > TICKETS_MAX ? HB_CLOSE_TLS_ERROR : classify(t);
	ERR_clear_error();
	t->got_close = got == GOT_CLOSE;
	/* Answers that reading caused (KeyUpdate); an alert waits for tls_fail. */
	if (got != GOT_ERROR)
		flush(t, false);
	hb_transport_emit_data(&t->base, &b, t->got_close);
	hb_scratch_release(t->base.worker, scratch);
	if (got == GOT_ERROR && alive(t))
		tls_fail(t, reason);
	return (got == GOT_MORE);
}

/* The lower transport has no more for us. */
static void
input_ended(struct hb_tls *t)
{
	struct hb_buf none = { NULL, NULL, 0 };

	if (!t->secured) {
		hb_tls__failure(t, "the peer closed during the handshake");
		tls_fail(t, HB_CLOSE_TLS_HANDSHAKE);
	} else if (t->ctx->bare_fin_is_end) {
		t->got_close = true;
		hb_transport_emit_data(&t->base, &none, true);
	} else {
		hb_tls__failure(t, "the peer closed without close_notify");
		tls_fail(t, HB_CLOSE_PEER_TRUNCATED);
	}
}

/* The lower transport is gone and everything it gave us was delivered. */
static void
lower_gone(struct hb_tls *t)
{
	enum hb_close_reason reason = (enum hb_close_reason)t->lower_reason;

	if (!t->secured)
		hb_tls__failure(t, "%s during the handshake", hb_close_info(reason)->text);
	if (reason == HB_CLOSE_DONE && !t->secured)
		reason = HB_CLOSE_TLS_HANDSHAKE;
	tls_fail(t, reason);
}

/* Works off t->in as far as the sink reads. */
static void
consume(struct hb_tls *t)
{
	if (!t->secured && t->in.len > 0)
		handshake(t);
	while (alive(t) && t->secured && !t->got_close && t->in.len > 0 &&
		hb_transport_can_read(&t->base)) {
		if (!read_batch(t))
			break;
	}
	if (!alive(t) || t->got_close)
		hb_buf_fini(&t->in);
	if (!alive(t))
		return;
	if (t->in.len > 0) {
		hb_buf_own(&t->in);
		pause_lower(t, true);
		return;
	}
	if (t->lower_ended && !t->got_close)
		input_ended(t);
	if (alive(t) && t->lower == NULL)
		lower_gone(t);
	else if (alive(t))
		pause_lower(t, t->secured && !t->got_close && t->base.read_disabled > 0);
}

static void
tls_read_enable(struct hb_transport *base, bool on)
{
	struct hb_tls *t = tls_of(base);

	if (!t->secured || t->got_close)
		return;
	if (!on)
		pause_lower(t, true);
	else if (t->in.len > 0)
		hb_transport_run_soon(base);
	else
		pause_lower(t, false);
}

/* ------------------------------------------------------------------ start */

static void
start(struct hb_tls *t)
{
	HB_ASSERT(!t->started);
	t->started = true;
	hb_timer_start(&early_of(t)->timer, t->ctx->handshake_timeout_ms);
	hb_transport_emit_connected(&t->base);
	if (!alive(t))
		return;
	if (t->bad_name) {
		hb_tls__failure(t, "the server name cannot be sent: it needs 1 to 255 bytes");
		tls_fail(t, HB_CLOSE_TLS_HANDSHAKE);
		return;
	}
	pause_lower(t, false);
	if (!t->ctx->server) {
		hb_tls__session_offer(t);
		handshake(t);
	} else {
		/* The handshake needs bytes, and a stream's client sends none before its 200. */
		accept_lower(t);
	}
}

static void
tls_run(struct hb_transport *base)
{
	struct hb_tls *t = tls_of(base);

	if (!alive(t))
		return;
	if (!t->started) {
		if (t->lower != NULL && t->lower->connected)
			start(t);
		return;
	}
	consume(t);
}

/* ------------------------------------------------------------------ events from below */

static void
lower_on_connected(void *sink, struct hb_transport *lower)
{
	struct hb_tls *t = tls_of_sink(sink);

	(void)lower;
	if (alive(t) && !t->started)
		start(t);
}

static void
lower_on_data(void *sink, struct hb_transport *lower, struct hb_buf *buf, bool end)
{
	struct hb_tls *t = tls_of_sink(sink);

	HB_ASSERT(lower == t->lower);
	t->lower_ended |= end;
	if (t->got_close || !alive(t))
		hb_buf_fini(buf);
	else
		hb_buf_move(&t->in, buf);
	if (alive(t))
		consume(t);
}

static void
lower_on_watermark(void *sink, struct hb_transport *lower, bool high)
{
	(void)lower;
	(void)high;
	level_changed(tls_of_sink(sink));
}

static void
lower_on_sent(void *sink, struct hb_transport *lower, size_t n)
{
	struct hb_tls *t = tls_of_sink(sink);

	(void)lower;
	hb_transport_emit_sent(&t->base, n);
	level_changed(t);
}

static void
lower_on_closed(void *sink, struct hb_transport *lower, enum hb_close_reason reason)
{
	struct hb_tls *t = tls_of_sink(sink);

	HB_ASSERT(lower == t->lower);
	t->lower = NULL;
	t->lower_reason = (uint8_t)reason;
	if (alive(t))
		consume(t);
}

static const struct hb_transport_events lower_events = {
	.on_connected = lower_on_connected,
	.on_data = lower_on_data,
	.on_watermark = lower_on_watermark,
	.on_closed = lower_on_closed,
	.on_sent = lower_on_sent,
};

/* ------------------------------------------------------------------ the rest */

static const struct hb_tls_info *
tls_tls_info(struct hb_transport *base)
{
	struct hb_tls *t = tls_of(base);

	t->info.failure = t->failure;
	t->info.peer = t->peer == NULL ? NULL : t->peer->info;
	t->info.sni = hb_str(t->sni);
	return (&t->info);
}

static struct hb_transport *
tls_inner(struct hb_transport *base)
{
	return (tls_of(base)->lower);
}

static void
tls_free(struct hb_transport *base)
{
	struct hb_tls *t = tls_of(base);

	SSL_free(t->ssl);
	hb_tls__use(t, false);
	hb_buf_fini(&t->in);
	hb_buf_fini(&t->out);
	HB_ASSERT(t->early == NULL);
	hb_tls__peer_unref(&t->peer);
	hb_tls__peer_unref(&t->offered);
	hb_free(t->sni);
	hb_free(t->failure);
	t->base.magic = 0;
	hb_free(t);
}

static const struct hb_transport_ops tls_ops = {
	.name = "tls",
	.write = tls_write,
	.read_enable = tls_read_enable,
	.finish = tls_finish,
	.abort = tls_abort,
	.reject = tls_reject,
	.pending = tls_pending,
	.tls_info = tls_tls_info,
	.inner = tls_inner,
	.closed = tls_closed,
	.run = tls_run,
};

struct hb_transport *
hb_tls_new(struct hb_transport *lower, const struct hb_tls_ctx *ctx, const char *sni)
{
	struct hb_tls *t = hb_calloc(1, sizeof *t);

	HB_CHECK(ctx, HB_TLS_CTX_MAGIC);
	HB_CHECK(lower, HB_TRANSPORT_MAGIC);
	hb_transport_init(&t->base, &tls_ops, lower->worker);
	t->ctx = ctx;
	hb_tls__use(t, true);
	t->lower = lower;
	t->paused = true;
	if (!ctx->server && (sni != NULL || ctx->sni != NULL)) {
		t->sni = hb_strdup(sni != NULL ? sni : ctx->sni);
		hb_str_lower(t->sni, strlen(t->sni));
	}
	t->ssl = hb_tls__ssl(t);
	hb_transport_attach(lower, &lower_events, &t->base);
	if (lower->connected)
		hb_transport_run_soon(&t->base);
	return (&t->base);
}

bool
hb_tls_recheck(struct hb_transport *base, const struct hb_tls_ctx *now)
{
	struct hb_tls *t;

	if (base->ops != &tls_ops)
		return (!now->require_peer_cert);
	t = tls_of(base);
	return (!t->secured || !alive(t) || hb_tls__recheck(t, now));
}

void
hb_tls_end(struct hb_transport *base, enum hb_close_reason reason)
{
	struct hb_tls *t = tls_of(base);

	HB_ASSERT(base->in_call == 0 && base->busy == 0);
	if (alive(t))
		tls_fail(t, reason);
}
