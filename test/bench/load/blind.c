/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that decrypts costs as much as the proxy that is measured and hides it. So once all
 * lanes of a connection are open, ciphertext is dropped by the kernel (MSG_TRUNC) and only counted;
 * TLS and HTTP/2 above see nothing more. They still write: what must be said is flow control, and
 * since ciphertext is a little more than what it carries, credit by ciphertext never runs short. It
 * runs over after 2^30 bytes of overhead, or of difference between two streams: beyond any run.
 *
 * WINDOW_UPDATE is written past the session, which is at a frame's border whenever it is not on the
 * stack; its own windows stand still from now on.
 */
#include <sys/socket.h>
#include "core/transport/tcp_priv.h"
#include "test/bench/load/load.h"

#define CREDIT       (64u * 1024u * 1024u) /* given at once, of a window of 2^30 */
#define RECVS_A_TURN 16u
#define FRAME        13u
#define TAKE_MAX     (1u << 30)

static void
put_update(struct hb_buf *b, int32_t stream, uint32_t n)
{
	uint8_t f[FRAME] = { 0, 0, 4, 8, 0 };

	for (unsigned i = 0; i < 4; i++) {
		f[5 + i] = (uint8_t)((uint32_t)stream >> (24 - 8 * i));
		f[9 + i] = (uint8_t)(n >> (24 - 8 * i));
	}
	hb_buf_add(b, f, sizeof f);
}

static void
update(struct hb_h2 *h2, struct hb_buf *b)
{
	struct hb_transport *t = hb_h2_lower(h2);

	if (t != NULL && !t->dead && !t->write_ended)
		hb_transport_write(t, b, false);
	hb_buf_fini(b);
}

/* The same for the session and, in equal parts, for its streams. */
static void
credit(struct load_conn *c)
{
	struct hb_h2 *last = c->inner != NULL ? c->inner : c->h2;
	struct hb_buf b = { NULL, NULL, 0 };
	unsigned n = c->n_open;

	if (last == NULL || n == 0)
		return;
	put_update(&b, 0, CREDIT);
	for (uint64_t i = 0; i < c->run->o->streams; i++) {
		if (c->lanes[i].t != NULL && c->lanes[i].open)
			put_update(&b, hb_h2_stream_id(c->lanes[i].t), CREDIT / n);
	}
	update(last, &b);
	if (c->inner == NULL || c->h2 == NULL)
		return;
	put_update(&b, 0, CREDIT);
	put_update(&b, c->outer_id, CREDIT);
	update(c->h2, &b);
}

static void
take(void *arg, struct hb_transport *t, enum hb_dir dir, unsigned events)
{
	struct load_conn *c = arg;
	ssize_t n = 0;
	int err;

	(void)events;
	for (unsigned i = 0; i < RECVS_A_TURN; i++) {
		n = recv(hb_tcp_fd(t), NULL, TAKE_MAX, MSG_TRUNC);
		if (n <= 0)
			break;
		c->taken += (uint64_t)n;
		c->run->bytes += (uint64_t)n;
	}
	err = n < 0 ? errno : 0;
	while (c->taken - c->credited >= CREDIT) {
		c->credited += CREDIT;
		credit(c);
	}
	if (t->dead)
		return;
	if (n > 0 || err == EINTR)
		hb_run_soon(t->worker, &c->task);
	else if (err == EAGAIN || err == EWOULDBLOCK)
		hb_tcp_raw_again(t, dir);
	else
		hb_tcp_raw_end(t, dir, err);
}

void
load_blind_begin(struct load_conn *c)
{
	if (c->tcp == NULL || c->tcp->dead)
		return;
	if (!c->blind) {
		if (hb_transport_raw(c->tcp, HB_DIR_READ) != c->tcp)
			return; /* it has ended: the next event says so */
		hb_tcp_raw_begin(c->tcp, HB_DIR_READ, take, c);
		c->blind = true;
	}
	if (hb_tcp_is_raw(c->tcp, HB_DIR_READ))
		take(c, c->tcp, HB_DIR_READ, 0);
}

/* Not by hb_h2_close: the session knows of no answer and would reset what has ended in order. */
void
load_blind_end(struct load_conn *c)
{
	struct hb_h2 *const sessions[] = { c->inner, c->h2 };
	struct hb_buf none = { NULL, NULL, 0 };

	for (unsigned i = 0; i < HB_ARRAY_LEN(sessions); i++) {
		struct hb_transport *t = sessions[i] == NULL ? NULL : hb_h2_lower(sessions[i]);

		if (t == NULL || t->dead || t->write_ended)
			continue;
		hb_transport_write(t, &none, true);
		return;
	}
}
