/* SPDX-License-Identifier: Apache-2.0 */
#include "core/transport/fd_priv.h"
#include "core/transport/park.h"

bool
hb_transport_quiet(const struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	return (!t->dead && t->ev != NULL && t->connected && t->secured && t->read_disabled == 0 &&
		t->busy == 0 && t->in_call == 0 && t->due == 0 && t->close_due == HB_CLOSE_NONE &&
		t->unread == NULL && t->sent_due == 0 && !t->read_ended && !t->write_ended &&
		!t->told_above && !t->out.above && !hb_list_linked(&t->run.node) &&
		t->ops->pending(t) == 0);
}

void
hb_transport_resink(struct hb_transport *t, const struct hb_transport_events *ev, void *sink)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(!t->buried);
	t->ev = ev;
	t->sink = sink;
}

void
hb_transport_pack(const struct hb_transport *t, struct hb_pack *p, unsigned in)
{
	hb_pack_count(p, t->bytes_in, in);
	hb_pack_count(p, t->bytes_out, !in);
	hb_pack_near(p, t->out.high, HB_TRANSPORT_HIGH_DEFAULT);
}

void
hb_transport_unpack(struct hb_transport *t, struct hb_unpack *u, unsigned in)
{
	t->connected = t->secured = true;
	t->read_disabled = 0;
	t->bytes_in = hb_unpack_count(u, in);
	t->bytes_out = hb_unpack_count(u, !in);
	t->out.high = (uint32_t)hb_unpack_near(u, HB_TRANSPORT_HIGH_DEFAULT) & HB_WATERMARK_MAX;
}

bool
hb_tcp_packable(const struct hb_transport *t)
{
	const struct hb_fdt *f;

	if (!hb_tcp_is(t) || !hb_transport_quiet(t))
		return (false);
	f = HB_CONTAINER((struct hb_transport *)(uintptr_t)t, const struct hb_fdt, base);
	return (hb_io_watched(&f->in) && f->writable && !f->readable && f->error == 0 &&
		f->write_failed == 0 && !f->connecting && !f->hup && !f->ending && !f->eof &&
		!hb_tcp_is_raw(t, HB_DIR_READ) && !hb_tcp_is_raw(t, HB_DIR_WRITE));
}

void
hb_tcp_pack(struct hb_transport **tp, struct hb_pack *p, unsigned in, struct hb_io *io,
	void (*fn)(struct hb_io *, unsigned events))
{
	struct hb_transport *t = *tp;
	struct hb_fdt *f = HB_CONTAINER(t, struct hb_fdt, base);

	HB_ASSERT(hb_tcp_packable(t) && t->watch == NULL);
	*tp = NULL;
	hb_transport_pack(t, p, in);
	hb_pack_near(p, f->flush_timeout_ms, HB_FLUSH_TIMEOUT_MS);
	hb_pack_u64(p, f->read_max);
	hb_io_move(&f->in, io, fn);
	hb_free(f->queue);
	hb_free(f->raw);
	t->magic = 0;
	hb_tcp__free(f);
}

struct hb_transport *
hb_tcp_unpack(struct hb_worker *w, struct hb_unpack *u, unsigned in, struct hb_io *io)
{
	struct hb_fdt *f = hb_tcp__new(w, io->fd, NULL);

	hb_transport_unpack(&f->base, u, in);
	f->flush_timeout_ms = (uint32_t)hb_unpack_near(u, HB_FLUSH_TIMEOUT_MS);
	f->read_max = (uint32_t)hb_unpack_u64(u);
	f->writable = true;
	hb_io_move(io, &f->in, hb_fdt__on_io);
	return (&f->base);
}

void
hb_tcp_woken(struct hb_transport *t, unsigned events)
{
	hb_fdt__events(HB_CONTAINER(t, struct hb_fdt, base), events);
}
