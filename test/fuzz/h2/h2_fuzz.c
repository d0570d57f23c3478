/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Byte 0 chooses the role and what the sinks do, byte 1 the size of the pieces; the rest is what the
 * peer sends. A server's input begins behind the preface, and behind SETTINGS when bit 7 is set.
 */
#include <stdlib.h>

#include "core/http/h2.h"
#include "test/support/harness.h"

#define STREAMS 16

static struct {
	uint8_t how;
	struct hb_h2 *h2;
	struct hbt_sink s[STREAMS];
	unsigned n;
} f;

static void
attach(struct hb_transport *t)
{
	struct hbt_sink *s = &f.s[f.n];

	s->echo = f.how & 2;
	s->pause_each = f.how & 4 && f.n % 2 == 1;
	s->end_on_end = f.how & 8;
	if (f.how & 16 && f.n % 3 == 2)
		s->let_go_in = HBT_DATA | HBT_END;
	s->let_go_finish = f.how & 32;
	f.n++;
	hbt_attach(s, t);
}

static void
on_request(
	void *sink, struct hb_h2 *h2, const struct hb_h2_request *req, struct hb_transport *stream)
{
	if (f.n == STREAMS || req->n_headers > 8) {
		hb_transport_reject(&stream, HB_CLOSE_NO_ROUTE);
		return;
	}
	attach(stream);
	if (!(f.how & 64) || f.n % 2 == 0)
		hb_transport_accept(stream);
}

static void
on_closed(void *sink, struct hb_h2 *h2, enum hb_close_reason reason)
{
	f.h2 = NULL;
}

static const struct hb_h2_events events = { .on_request = on_request, .on_closed = on_closed };

static void
begin(struct hbt_sink *peer)
{
	const struct hb_h2_options opt = {
		.streams_max = 8, .headers_max = 20, .header_bytes_max = 2048, .buffered_max = 4096
	};
	const struct hb_h2_request req = { .authority = HB_STR("a:1") };
	struct hb_transport *a, *b;
	unsigned i;

	hb_pair_new(hbt_worker(), &a, &b);
	hb_transport_accept(b);
	hbt_attach(peer, a);
	f.h2 = hb_h2_new(b, !(f.how & 1), &opt, &events, NULL);
	for (i = 0; f.how & 1 && i < 4; i++) {
		attach(hb_h2_open(f.h2, &req));
		hbt_writez(&f.s[i], "from the client", false);
	}
	hbt_turns(2);
	if (!(f.how & 1))
		hbt_writez(peer, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", false);
	if (f.how & 128)
		hbt_write(peer, "\0\0\0\4\0\0\0\0\0", 9, false);
}

/* What sessions keep on the worker would pass for a leak. */
static void
fini(void)
{
	hb_h2_worker_fini(hbt_worker());
	hbt_fini();
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	static bool ready;
	struct hbt_sink peer = { 0 };
	size_t piece, k;
	unsigned i;

	if (!ready) {
		(void)hbt_init(HB_IO_EPOLL);
		(void)atexit(fini);
	}
	ready = true;
	if (n < 2 || n > 65536)
		return (0);
	memset(&f, 0, sizeof f);
	f.how = p[0];
	piece = p[1] == 0 ? n : (size_t)p[1] * 4;
	begin(&peer);
	for (p += 2, n -= 2; n > 0 && peer.t != NULL; p += k, n -= k) {
		k = HB_MIN(piece, n);
		hbt_write(&peer, p, k, false);
		hbt_turns(1);
	}
	hbt_turns(2);
	for (i = 0; i < STREAMS; i++)
		hbt_sink_fini(&f.s[i]);
	hbt_sink_fini(&peer);
	hbt_turns(2);
	if (f.h2 != NULL)
		hb_h2_abort(&f.h2, HB_CLOSE_LOCAL_CLOSE);
	hbt_turns(2);
	HBT_UNTIL(hb_transport_lingering(hbt_worker()) == 0);
	return (0);
}
