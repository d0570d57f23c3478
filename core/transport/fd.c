/* SPDX-License-Identifier: Apache-2.0 */
#include "core/transport/tcp_spare_priv.h"
#include "core/transport/transport_priv.h"

#define READ_MIN ((size_t)256 * 1024)
/* As DATA frames in TLS records it fits into one scratch buffer, too. */
#define READ_MAX ((size_t)1024 * 1024)

static struct hb_fdt *
fdt_of(struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	HB_ASSERT(t->ops->write == hb_fdt__write);
	return (HB_CONTAINER(t, struct hb_fdt, base));
}

static bool
is_raw(const struct hb_fdt *f, enum hb_dir dir)
{
	return (!f->lingers && f->raw != NULL && f->raw[dir].fn != NULL);
}

void
hb_fdt__again(struct hb_fdt *f, enum hb_dir dir)
{
	const struct hb_fdt_ops *ops = hb_fdt__ops(f);
	struct hb_io *io = dir == HB_DIR_WRITE && ops->out != NULL ? ops->out(f) : &f->in;

	if (dir == HB_DIR_READ)
		f->readable = false;
	else
		f->writable = false;
	/* A regular file is not watched. */
	if (hb_io_watched(io))
		hb_io_again(io, dir == HB_DIR_READ ? HB_IO_READ : HB_IO_WRITE);
}

/* ------------------------------------------------------------------ endings */

static void
fdt_free(struct hb_transport *t)
{
	struct hb_fdt *f = fdt_of(t);

	HB_ASSERT(f->released && !f->lingers && f->raw == NULL);
	t->magic = 0;
	if (hb_fdt__ops(f)->free_fn != NULL)
		hb_fdt__ops(f)->free_fn(f);
	else
		hb_free(f);
}

static void
queue_drop(struct hb_fdt *f)
{
	if (f->queue == NULL)
		return;
	hb_buf_fini(f->queue);
	hb_free(f->queue);
	f->queue = NULL;
}

void
hb_fdt__release(struct hb_fdt *f, bool reset)
{
	HB_ASSERT(f->base.dead && !f->released);
	f->released = true;
	queue_drop(f);
	if (f->lingers) {
		hb_timer_stop(&f->linger->timer);
		hb_list_del(&f->linger->node);
		hb_free(f->linger);
		f->lingers = false;
	} else {
		hb_free(f->raw);
	}
	f->raw = NULL;
	hb_fdt__ops(f)->close(f, reset);
	hb_transport_bury(&f->base, fdt_free);
}

void
hb_fdt__closed(struct hb_transport *t)
{
	hb_fdt__release(fdt_of(t), false);
}

void
hb_fdt__abort(struct hb_transport *t, enum hb_close_reason reason)
{
	hb_fdt__release(fdt_of(t), true);
}

void
hb_fdt__fail(struct hb_fdt *f, int err)
{
	if (f->error == 0)
		f->error = (uint16_t)err;
	if (f->base.dead) {
		hb_fdt__release(f, false);
		return;
	}
	queue_drop(f);
	hb_io_stop(&f->in);
	if (hb_fdt__ops(f)->out != NULL)
		hb_io_stop(hb_fdt__ops(f)->out(f));
	hb_transport_emit_closed(&f->base, hb_fdt__ops(f)->reason(f, f->error));
}

void
hb_fdt__write_failed(struct hb_fdt *f, int err)
{
	HB_ASSERT(err != 0);
	queue_drop(f);
	if (f->base.dead) {
		hb_fdt__release(f, false);
		return;
	}
	if (f->error == 0)
		f->error = (uint16_t)err;
	f->write_failed = (uint16_t)err;
	/* Whatever the kernel still has to tell must be looked for: no edge may come. */
	f->hup = true;
	f->readable = true;
	hb_transport_run_soon(&f->base);
}

/* Shuts the write direction down once everything before the end is with the kernel. */
static void
try_shut(struct hb_fdt *f)
{
	if (!f->base.write_ended || f->write_shut || hb_fdt__queued(f) > 0 || f->connecting ||
		f->write_failed != 0)
		return;
	/* When both directions are over the transport closes, which sends the end as well. */
	if (f->base.dead || !f->base.read_ended || !hb_fdt__ops(f)->socket)
		hb_fdt__ops(f)->half_close(f);
	f->write_shut = true;
	if (!f->base.dead)
		hb_transport_write_flushed(&f->base);
	else if (f->eof || !hb_fdt__ops(f)->linger_reads)
		hb_fdt__release(f, false);
}

/* ------------------------------------------------------------------ writing */

/* Gives the kernel what it takes of buf; stops at EAGAIN or an error (*ret_err, 0 = none). */
static void
send_some(struct hb_fdt *f, struct hb_buf *buf, int *ret_err)
{
	struct iovec iov[HB_BUF_IOV_MAX];
	ssize_t n;

	*ret_err = 0;
	while (buf->len > 0 && f->writable) {
		n = hb_fdt__ops(f)->write(f, iov, hb_buf_iov(buf, iov, HB_BUF_IOV_MAX));
		if (n >= 0) {
			hb_buf_drain(buf, (size_t)n);
		} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
			hb_fdt__again(f, HB_DIR_WRITE);
		} else if (errno != EINTR) {
			*ret_err = errno;
			return;
		}
	}
}

void
hb_fdt__write(struct hb_transport *t, struct hb_buf *buf, bool end)
{
	struct hb_fdt *f = fdt_of(t);
	int err = 0;

	HB_ASSERT(!is_raw(f, HB_DIR_WRITE));
	if (f->write_failed == 0 && hb_fdt__queued(f) == 0 && !f->connecting) {
		send_some(f, buf, &err);
		if (err != 0)
			hb_fdt__write_failed(f, err);
	}
	if (f->write_failed != 0) {
		hb_buf_fini(buf);
		return;
	}
	if (buf->len > 0) {
		hb_buf_own(buf);
		if (f->queue == NULL)
			f->queue = hb_calloc(1, sizeof *f->queue);
		hb_buf_move(f->queue, buf);
		hb_transport_level(t, f->queue->len);
	}
	/* The watermark may have made the sink let go. */
	if (end && !f->released)
		try_shut(f);
}

static void
flush(struct hb_fdt *f)
{
	size_t before = hb_fdt__queued(f);
	int err = 0;

	if (f->connecting || f->write_failed != 0)
		return;
	if (before > 0)
		send_some(f, f->queue, &err);
	hb_transport_emit_sent(&f->base, before - hb_fdt__queued(f));
	if (f->released)
		return;
	if (err != 0) {
		hb_fdt__write_failed(f, err);
		return;
	}
	if (before > 0)
		hb_transport_level(&f->base, hb_fdt__queued(f));
	if (f->released)
		return;
	if (hb_fdt__queued(f) == 0)
		queue_drop(f);
	try_shut(f);
}

size_t
hb_fdt__pending(const struct hb_transport *t)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	return (hb_fdt__queued(HB_CONTAINER(t, const struct hb_fdt, base)));
}

/* ------------------------------------------------------------------ reading */

static void
read_end(struct hb_fdt *f)
{
	struct hb_buf none = { NULL, NULL, 0 };

	f->readable = false;
	/* The write has taken the reset out of the kernel, which then reports an end. */
	if (f->write_failed == ECONNRESET) {
		hb_fdt__fail(f, ECONNRESET);
		return;
	}
	f->eof = true;
	hb_transport_emit_data(&f->base, &none, true);
}

/*
 * What one read takes waits in our memory when the sink is blocked, so a connection whose limit of
 * buffered bytes is small reads less at once.
 */
static size_t
read_size(const struct hb_fdt *f)
{
	size_t high = f->base.out.high;

	if (f->read_max != 0)
		return (f->read_max);
	return (high == 0 ? READ_MAX : HB_MIN(HB_MAX(high, READ_MIN), READ_MAX));
}

/* One read; false when there is nothing to read now. */
static bool
read_once(struct hb_fdt *f, uint8_t *scratch)
{
	struct hb_slice slice;
	struct hb_buf buf = { NULL, NULL, 0 };
	size_t want = read_size(f);
	ssize_t n = hb_fdt__ops(f)->read(f, scratch, want);

	if (n > 0) {
		if ((size_t)n < want && hb_fdt__ops(f)->socket && !f->ending && !f->hup)
			hb_fdt__again(f, HB_DIR_READ);
		hb_buf_borrow(&buf, &slice, scratch, (size_t)n);
		hb_transport_emit_data(&f->base, &buf, false);
		return (true);
	}
	if (n == 0) {
		read_end(f);
		return (false);
	}
	if (errno == EINTR)
		return (true);
	if (errno != EAGAIN && errno != EWOULDBLOCK)
		hb_fdt__fail(f, errno);
	else if (f->write_failed != 0)
		hb_fdt__fail(f, f->write_failed);
	else
		hb_fdt__again(f, HB_DIR_READ);
	return (false);
}

static void
read_some(struct hb_fdt *f)
{
	struct hb_worker *w = f->base.worker;
	uint8_t *scratch = hb_scratch_lease(w);
	unsigned budget = HB_FD_READS_A_TURN;

	if (scratch == NULL) {
		hb_transport_run_soon(&f->base);
		return;
	}
	while (f->readable && hb_transport_can_read(&f->base) && !is_raw(f, HB_DIR_READ)) {
		if (budget-- == 0) {
			hb_transport_run_soon(&f->base);
			break;
		}
		if (!read_once(f, scratch))
			break;
	}
	hb_scratch_release(w, scratch);
}

/* The lingerer takes what the peer still sends, so that closing does not reset the connection. */
static void
discard_some(struct hb_fdt *f)
{
	struct hb_worker *w = f->base.worker;
	uint8_t *scratch;
	unsigned budget = HB_FD_READS_A_TURN;
	ssize_t n = 1;

	if (f->connecting || f->eof || !f->readable || !hb_fdt__ops(f)->linger_reads)
		return;
	scratch = hb_scratch_lease(w);
	if (scratch == NULL) {
		hb_transport_run_soon(&f->base);
		return;
	}
	while (budget-- > 0 && n != 0) {
		n = hb_fdt__ops(f)->read(f, scratch, HB_SCRATCH_SIZE);
		if (n < 0 && errno != EINTR)
			break;
	}
	if (n > 0 || (n < 0 && errno == EINTR)) {
		hb_transport_run_soon(&f->base);
	} else if (n == 0) {
		f->eof = true;
		f->readable = false;
		if (f->write_shut)
			hb_fdt__release(f, false);
	} else if (errno == EAGAIN || errno == EWOULDBLOCK) {
		hb_fdt__again(f, HB_DIR_READ);
	} else {
		hb_fdt__release(f, false);
	}
	hb_scratch_release(w, scratch);
}

/* The descriptor hung up and the sink does not read: is there anything that it must read first? */
static void
probe(struct hb_fdt *f)
{
	int r, err;

	if (!f->eof) {
		r = hb_fdt__ops(f)->peek(f);
		if (r > 0)
			return;
		if (r < 0 && errno != EAGAIN && errno != EWOULDBLOCK) {
			hb_fdt__fail(f, errno);
			return;
		}
		if (r < 0 && f->write_failed == 0)
			return;
	}
	if (f->write_failed != 0) {
		hb_fdt__fail(f, f->write_failed);
		return;
	}
	if (f->write_shut)
		return;
	err = hb_fdt__ops(f)->hangup_error(f);
	if (err != 0)
		hb_fdt__fail(f, err);
}

static void
input(struct hb_fdt *f)
{
	if (f->base.dead) {
		discard_some(f);
		return;
	}
	if (f->connecting || is_raw(f, HB_DIR_READ))
		return;
	if (f->readable && hb_transport_can_read(&f->base))
		read_some(f);
	if (f->base.dead || f->base.close_due != HB_CLOSE_NONE || !f->hup)
		return;
	if (!hb_transport_can_read(&f->base))
		probe(f);
}

void
hb_fdt__read_enable(struct hb_transport *t, bool on)
{
	struct hb_fdt *f = fdt_of(t);

	if (on && (f->readable || f->hup))
		hb_transport_run_soon(t);
}

/* ------------------------------------------------------------------ events */

static void
connect_done(struct hb_fdt *f, unsigned events)
{
	/* What can be written stands; of what hangs up the kernel knows why. */
	int err = (events & HB_IO_HUP) == 0 ? 0 : hb_fdt__ops(f)->connect_result(f);

	if (err == EINPROGRESS) {
		hb_fdt__again(f, HB_DIR_WRITE);
		return;
	}
	if (err != 0) {
		hb_fdt__fail(f, err);
		return;
	}
	f->connecting = false;
	hb_transport_emit_connected(&f->base);
	hb_transport_emit_secured(&f->base);
}

static void
raw_event(struct hb_fdt *f, enum hb_dir dir, unsigned events)
{
	/* Counts as an event: what follows from it is told when it has returned. */
	f->base.busy++;
	f->raw[dir].fn(f->raw[dir].arg, &f->base, dir, events);
	f->base.busy--;
}

void
hb_fdt__events(struct hb_fdt *f, unsigned events)
{
	HB_ASSERT(!f->released);
	if (f->base.close_due != HB_CLOSE_NONE)
		return;
	if (f->connecting && (events & (HB_IO_WRITE | HB_IO_HUP)))
		connect_done(f, events);
	if (f->released || f->base.close_due != HB_CLOSE_NONE || f->connecting)
		return;
	if (events & HB_IO_WRITE) {
		f->writable = true;
		if (is_raw(f, HB_DIR_WRITE))
			raw_event(f, HB_DIR_WRITE, events);
		else
			flush(f);
	}
	if (f->released || f->base.close_due != HB_CLOSE_NONE)
		return;
	if (events & (HB_IO_READ | HB_IO_HUP)) {
		f->readable = true;
		f->hup = f->hup || (events & HB_IO_HUP);
		f->ending = f->ending || (events & HB_IO_END);
		if (is_raw(f, HB_DIR_READ))
			raw_event(f, HB_DIR_READ, events);
		else
			input(f);
	}
}

void
hb_fdt__on_io(struct hb_io *io, unsigned events)
{
	struct hb_fdt *f = HB_CONTAINER(io, struct hb_fdt, in);

	HB_CHECK(&f->base, HB_TRANSPORT_MAGIC);
	hb_fdt__events(f, events);
}

void
hb_fdt__run(struct hb_transport *t)
{
	struct hb_fdt *f = fdt_of(t);

	if (!f->released)
		input(f);
}

/* ------------------------------------------------------------------ finish */

static size_t
outstanding(struct hb_fdt *f)
{
	return (hb_fdt__queued(f) + hb_fdt__ops(f)->unacked(f));
}

static void
linger_timeout(struct hb_timer *timer)
{
	struct hb_fdt_linger *l = HB_CONTAINER(timer, struct hb_fdt_linger, timer);
	struct hb_fdt *f = l->fdt;
	size_t left = outstanding(f);

	if (left > 0 && left < l->outstanding && ++l->rounds < HB_FD_LINGER_ROUNDS) {
		l->outstanding = left;
		hb_timer_start(timer, f->flush_timeout_ms);
		return;
	}
	if (left > 0 || f->connecting)
		hb_transport_flush_timed_out(&f->base);
	hb_fdt__release(f, left > 0);
}

void
hb_fdt__finish(struct hb_transport *t, enum hb_close_reason reason)
{
	struct hb_fdt *f = fdt_of(t);

	hb_free(f->raw);
	f->raw = NULL;
	t->write_ended = true;
	if (f->write_failed != 0 || (f->write_shut && (f->eof || !hb_fdt__ops(f)->linger_reads))) {
		hb_fdt__release(f, false);
		return;
	}
	f->linger = hb_calloc(1, sizeof *f->linger);
	f->lingers = true;
	f->linger->fdt = f;
	hb_timer_init(&f->linger->timer, t->worker, linger_timeout);
	hb_timer_start(&f->linger->timer, f->flush_timeout_ms);
	hb_list_add_tail(&hb_transport_state(t->worker)->lingerers, &f->linger->node);
	flush(f);
	if (f->released)
		return;
	if (hb_transport_state(t->worker)->stopping) {
		hb_fdt__release(f, hb_fdt__queued(f) > 0);
		return;
	}
	f->linger->outstanding = outstanding(f);
	hb_transport_run_soon(t);
}

void
hb_transport_worker_stop(struct hb_worker *w)
{
	struct hb_transport_state *s = hb_transport_state(w);

	s->stopping = true;
	hb_tcp_spare__fini(s);
	while (!hb_list_empty(&s->lingerers)) {
		struct hb_fdt *f =
			HB_LIST_ENTRY(s->lingerers.next, struct hb_fdt_linger, node)->fdt;

		hb_fdt__release(f, hb_fdt__queued(f) > 0);
	}
}

/* ------------------------------------------------------------------ raw access */

void
hb_tcp_raw_begin(struct hb_transport *t, enum hb_dir dir, hb_tcp_raw_f *fn, void *arg)
{
	struct hb_fdt *f = fdt_of(t);

	HB_ASSERT(hb_transport_raw(t, dir) == t && fn != NULL && !is_raw(f, dir));
	if (f->raw == NULL)
		f->raw = hb_calloc(2, sizeof *f->raw);
	f->raw[dir].fn = fn;
	f->raw[dir].arg = arg;
}

void
hb_tcp_raw_again(struct hb_transport *t, enum hb_dir dir)
{
	struct hb_fdt *f = fdt_of(t);

	HB_ASSERT(!t->dead && is_raw(f, dir));
	hb_fdt__again(f, dir);
}

void
hb_tcp_raw_count(struct hb_transport *t, enum hb_dir dir, size_t n)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	if (dir == HB_DIR_READ)
		t->bytes_in += n;
	else
		t->bytes_out += n;
}

void
hb_tcp_raw_end(struct hb_transport *t, enum hb_dir dir, int err)
{
	struct hb_fdt *f = fdt_of(t);

	HB_ASSERT(!t->dead);
	if (!is_raw(f, dir))
		return;
	f->raw[dir].fn = NULL;
	if (err != 0) {
		t->in_call++;
		if (dir == HB_DIR_READ)
			hb_fdt__fail(f, err);
		else
			hb_fdt__write_failed(f, err);
		t->in_call--;
		return;
	}
	if (dir == HB_DIR_READ)
		f->readable = true;
	else
		f->writable = true;
	hb_transport_run_soon(t);
}

bool
hb_tcp_is_raw(const struct hb_transport *t, enum hb_dir dir)
{
	HB_CHECK(t, HB_TRANSPORT_MAGIC);
	return (is_raw(HB_CONTAINER(t, const struct hb_fdt, base), dir));
}
