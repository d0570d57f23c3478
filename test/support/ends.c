/* SPDX-License-Identifier: Apache-2.0 */
#include "test/support/ends.h"

struct hbt_pki hbt_ends_pki;

int
hbt_ends_setup(void **state)
{
	(void)state;
	(void)hbt_init(HB_IO_EPOLL);
	hbt_pki_init(&hbt_ends_pki);
	return (0);
}

int
hbt_ends_teardown(void **state)
{
	(void)state;
	hbt_pki_fini(&hbt_ends_pki);
	hbt_fini();
	return (0);
}

void
hbt_ends(enum hbt_below below, size_t piece, struct hb_transport **a, struct hb_transport **b)
{
	if (below == HBT_OVER_PAIR) {
		hb_pair_new(hbt_worker(), a, b);
		hb_transport_accept(*b);
	} else {
		hbt_tcp_pair(a, b);
	}
	if (piece > 0) {
		*a = hbt_splitter(*a, piece);
		*b = hbt_splitter(*b, piece);
	}
	if (below == HBT_OVER_TLS) {
		*a = hb_tls_new(*a, hbt_ends_pki.client_ctx, NULL);
		*b = hb_tls_new(*b, hbt_ends_pki.server_ctx, NULL);
	}
}

void
hbt_feed(struct hbt_sink *s, enum hbt_event event)
{
	struct hbt_feed *f = s->arg;
	size_t n;

	if (event != HBT_SECURED && event != HBT_LOW)
		return;
	while (s->t != NULL && !s->above && f->off < f->len) {
		n = HB_MIN(f->chunk, f->len - f->off);
		f->off += n;
		hbt_write_borrowed(s, f->p + f->off - n, n, f->off == f->len);
	}
}
