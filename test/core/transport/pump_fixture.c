/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/transport/pump_fixture.h"

struct hb_worker *w;

/* ------------------------------------------------------------------ what a peer sees */

static void
peer_connected(void *sink, struct hb_transport *t)
{
	((struct peer *)sink)->connected = true;
}

static void
peer_data(void *sink, struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct peer *e = sink;

	hb_buf_own(buf);
	hb_buf_move(&e->got, buf);
	e->end = end;
}

static void
peer_watermark(void *sink, struct hb_transport *t, bool high)
{
	((struct peer *)sink)->high = high;
}

static void
peer_closed(void *sink, struct hb_transport *t, enum hb_close_reason reason)
{
	struct peer *e = sink;

	e->closed = reason;
	e->t = NULL;
}

static const struct hb_transport_events peer_events = {
	.on_connected = peer_connected,
	.on_data = peer_data,
	.on_watermark = peer_watermark,
	.on_closed = peer_closed,
};

void
peer_attach(struct peer *e, struct hb_transport *t)
{
	memset(e, 0, sizeof *e);
	e->t = t;
	hb_transport_attach(t, &peer_events, e);
}

void
peer_write(struct peer *e, const char *text, bool end)
{
	struct hb_buf b = { 0 };

	hb_buf_addz(&b, text);
	hb_transport_write(e->t, &b, end);
}

void
peer_expect(struct peer *e, const char *text)
{
	char got[256];
	size_t n = hb_buf_copyout(&e->got, 0, got, sizeof got - 1);

	got[n] = '\0';
	assert_string_equal(got, text);
	hb_buf_fini(&e->got);
}

/* ------------------------------------------------------------------ the pump under test */

static void
on_progress(struct hb_pump *p, enum hb_pump_side from, size_t n)
{
	struct fixture *f = HB_CONTAINER(p, struct fixture, pump);

	assert_true(n > 0);
	f->progress[from] += n;
	if (f->abort_on_progress != HB_CLOSE_NONE)
		hb_pump_abort(p, f->abort_on_progress);
}

static void
on_half_closed(struct hb_pump *p, enum hb_pump_side from)
{
	struct fixture *f = HB_CONTAINER(p, struct fixture, pump);

	f->half_closed[from]++;
	if (f->abort_on_half_close != HB_CLOSE_NONE)
		hb_pump_abort(p, f->abort_on_half_close);
}

static void
on_done(struct hb_pump *p, enum hb_pump_side by, enum hb_close_reason reason)
{
	struct fixture *f = HB_CONTAINER(p, struct fixture, pump);

	assert_null(p->t[HB_PUMP_A]);
	assert_null(p->t[HB_PUMP_B]);
	f->done++;
	f->by = by;
	f->reason = reason;
}

const struct hb_pump_ops pump_ops = {
	.on_progress = on_progress,
	.on_half_closed = on_half_closed,
	.on_done = on_done,
};

void
turns(int n)
{
	while (n-- > 0)
		hb_worker_turn(w, false);
}

/* What the loop does until the pump ends; waits for the kernel, bounded. */
void
until_done(struct fixture *f)
{
	for (int i = 0; i < TURNS_MAX && f->done == 0; i++)
		turns(1);
	assert_int_equal(f->done, 1);
}

static int
setup_with(enum hb_io_backend backend)
{
	hb_io_backend(backend);
	assert_int_equal(hb_workers_init(1, NULL), 0);
	w = hb_worker_at(0);
	hb_worker_enter(w);
	return (0);
}

int
setup(void **state)
{
	return (setup_with(HB_IO_EPOLL));
}

int
setup_uv(void **state)
{
	return (setup_with(HB_IO_UV));
}

int
teardown(void **state)
{
	turns(3);
	assert_int_equal(hb_transport_lingering(w), 0);
	hb_transport_worker_fini(w);
	hb_workers_fini();
	return (0);
}
