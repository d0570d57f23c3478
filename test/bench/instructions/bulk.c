/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One HTTP/2 stream over mutual TLS over loopback TCP, both ends in this process; and handshakes of
 * mutual TLS over a pair, full ones and resumed ones.
 */
#include "core/http/h2.h"
#include "test/bench/instructions/instructions.h"
#include "test/support/certs/pki.h"
#include "test/support/harness.h"

#define MIB   (1024u * 1024u)
#define CHUNK (256u * 1024u)

/* Writes until `left` is 0 or its peer does not keep up, drops what it receives. */
struct bulk_end {
	struct hb_transport *t;
	uint64_t left, received;
	bool secured, blocked;
};

static struct {
	struct hbt_pki pki;
	struct hb_h2 *h2[2]; /* client, server */
	struct bulk_end end[2];
	uint8_t *data;
	struct hb_tls_ctx *keeps; /* of a client that resumes sessions */
} b;

/* ------------------------------------------------------------------ ends */

static void
bulk_write(struct bulk_end *e)
{
	while (e->left > 0 && !e->blocked && e->t != NULL) {
		size_t n = HB_MIN(e->left, (uint64_t)CHUNK);
		struct hb_buf buf = { 0 };
		struct hb_slice s;

		hb_buf_borrow(&buf, &s, b.data, n);
		e->left -= n;
		hb_transport_write(e->t, &buf, false);
	}
}

static void
on_secured(void *sink, struct hb_transport *t)
{
	((struct bulk_end *)sink)->secured = true;
}

static void
on_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	((struct bulk_end *)sink)->received += buf->len;
	hb_buf_drain(buf, buf->len);
}

static void
on_watermark(void *sink, struct hb_transport *t, bool high)
{
	((struct bulk_end *)sink)->blocked = high;
}

static void
on_sent(void *sink, struct hb_transport *t, size_t n)
{
	bulk_write(sink);
}

static void
on_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	((struct bulk_end *)sink)->t = NULL;
}

static const struct hb_transport_events bulk_events = {
	.on_secured = on_secured,
	.on_data = on_data,
	.on_watermark = on_watermark,
	.on_sent = on_sent,
	.on_closed = on_closed,
};

static void
bulk_attach(struct bulk_end *e, struct hb_transport *t)
{
	*e = (struct bulk_end){ .t = t };
	hb_transport_attach(t, &bulk_events, e);
	hb_transport_read_disable(t, -1);
}

/* ------------------------------------------------------------------ sessions */

static void
on_request(
	void *sink, struct hb_h2 *h2, const struct hb_h2_request *rq, struct hb_transport *stream)
{
	bulk_attach(&b.end[1], stream);
	hb_transport_accept(stream);
}

static void
on_session_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	b.h2[h2 == b.h2[1]] = NULL;
}

static const struct hb_h2_events session_events = {
	.on_request = on_request,
	.on_closed = on_session_closed,
};

static void
bulk_setup(void)
{
	const struct hb_h2_request rq = { .authority = HB_STR("10.0.0.1:80") };
	struct hb_transport *t[2];

	(void)hbt_init(HB_IO_EPOLL);
	hbt_pki_init(&b.pki);
	b.data = hbt_pattern(CHUNK, 1);
	hbt_tcp_pair(&t[0], &t[1]);
	b.h2[0] = hb_h2_new(
		hb_tls_new(t[0], b.pki.client_ctx, NULL), false, NULL, &session_events, NULL);
	b.h2[1] = hb_h2_new(
		hb_tls_new(t[1], b.pki.server_ctx, NULL), true, NULL, &session_events, NULL);
	bulk_attach(&b.end[0], hb_h2_open(b.h2[0], &rq));
	HBI_UNTIL(b.end[0].secured && b.end[1].secured);
}

static void
bulk_fini(void)
{
	for (int i = 0; i < 2; i++) {
		if (b.end[i].t != NULL)
			hb_transport_abort(&b.end[i].t, HB_CLOSE_LOCAL_CLOSE);
		if (b.h2[i] != NULL)
			hb_h2_close(&b.h2[i], HB_CLOSE_LOCAL_CLOSE);
	}
	HBI_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	for (int i = 0; i < 8; i++)
		hbi_turn();
	hb_free(b.data);
	hbt_pki_fini(&b.pki);
	hbt_fini();
}

static void
bulk_move(struct bulk_end *from, struct bulk_end *to, unsigned mib)
{
	uint64_t want = to->received + (uint64_t)mib * MIB;

	from->left = (uint64_t)mib * MIB;
	bulk_write(from);
	HBI_UNTIL((bulk_write(from), to->received == want));
}

static void
download(unsigned mib)
{
	bulk_move(&b.end[1], &b.end[0], mib);
}

static void
upload(unsigned mib)
{
	bulk_move(&b.end[0], &b.end[1], mib);
}

/* ------------------------------------------------------------------ handshakes */

static void
handshakes_setup(void)
{
	(void)hbt_init(HB_IO_EPOLL);
	hbt_pki_init(&b.pki);
}

/* A handshake, and a byte of the server, before which its tickets come. */
static bool
handshake(const struct hb_tls_ctx *client, const char *sni)
{
	struct hb_transport *t[2];
	struct hb_buf buf = { 0 };
	struct hb_slice s;
	bool resumed;

	hb_pair_new(hbt_worker(), &t[0], &t[1]);
	hb_transport_accept(t[1]);
	bulk_attach(&b.end[0], hb_tls_new(t[0], client, sni));
	bulk_attach(&b.end[1], hb_tls_new(t[1], b.pki.server_ctx, NULL));
	HBI_UNTIL(b.end[0].secured && b.end[1].secured);
	hb_buf_borrow(&buf, &s, "x", 1);
	hb_transport_write(b.end[1].t, &buf, false);
	HBI_UNTIL(b.end[0].received == 1);
	resumed = hb_transport_tls_info(b.end[1].t)->resumed;
	for (int i = 0; i < 2; i++)
		hb_transport_finish(&b.end[i].t, HB_CLOSE_LOCAL_CLOSE);
	HBI_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	return (resumed);
}

static void
handshakes(unsigned n)
{
	while (n-- > 0) {
		if (handshake(b.pki.client_ctx, NULL))
			HB_WRONG("a full handshake is resumed");
	}
}

static void
resumptions_setup(void)
{
	struct hb_tls_cert cert;

	handshakes_setup();
	cert = hbt_tls_cert(b.pki.client);
	b.keeps = hbt_tls_ctx(&(struct hb_tls_config){ .certs = &cert,
		.n_certs = 1,
		.trust_pem = hb_str(b.pki.root->pem),
		.max_sessions = 1 });
	(void)handshake(b.keeps, "server.example");
}

static void
resumptions(unsigned n)
{
	while (n-- > 0) {
		if (!handshake(b.keeps, "server.example"))
			HB_WRONG("a handshake is not resumed");
	}
}

static void
handshakes_fini(void)
{
	for (int i = 0; i < 8; i++)
		hbi_turn();
	hbt_pki_fini(&b.pki);
	hbt_fini();
}

static void
resumptions_fini(void)
{
	for (int i = 0; i < 8; i++)
		hbi_turn();
	hb_tls_ctx_free(&b.keeps);
	handshakes_fini();
}

const struct hbi_run hbi_download = { "download", "MiB", 64, 8, bulk_setup, download, bulk_fini };
const struct hbi_run hbi_upload = { "upload", "MiB", 64, 8, bulk_setup, upload, bulk_fini };
const struct hbi_run hbi_handshakes = { "handshakes", "handshakes", 1000, 2, handshakes_setup,
	handshakes, handshakes_fini };
const struct hbi_run hbi_resumptions = { "resumptions", "handshakes", 1000, 2, resumptions_setup,
	resumptions, resumptions_fini };
