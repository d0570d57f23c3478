/* SPDX-License-Identifier: Apache-2.0 */
#include "core/transport/fd_priv.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

struct stdio {
	struct hb_fdt fdt;
	struct hb_io out;
	int in_flags, out_flags; /* before they were switched */
	bool out_is_socket;
};

static const struct hb_fdt_ops stdio_ops;

static struct stdio *
stdio_of(struct hb_fdt *f)
{
	HB_ASSERT(hb_fdt__ops(f) == &stdio_ops);
	return (HB_CONTAINER(f, struct stdio, fdt));
}

/* ------------------------------------------------------------------ system calls */

static ssize_t
stdio_read(struct hb_fdt *f, void *p, size_t n)
{
	return (read(f->in.fd, p, n));
}

static ssize_t
stdio_write(struct hb_fdt *f, const struct iovec *iov, int n)
{
	return (writev(stdio_of(f)->out.fd, iov, n));
}

static int
stdio_peek(struct hb_fdt *f)
{
	struct pollfd p = { .fd = f->in.fd, .events = POLLIN };
	int n = 0;

	if (poll(&p, 1, 0) < 0)
		return (-1);
	if (p.revents & POLLIN)
		return (ioctl(f->in.fd, FIONREAD, &n) == 0 && n > 0);
	if (p.revents != 0)
		return (0);
	errno = EAGAIN;
	return (-1);
}

/* The other end's pipe is known to be broken by the first write, and there is none to be made. */
static int
stdio_hangup_error(struct hb_fdt *f)
{
	struct pollfd p = { .fd = stdio_of(f)->out.fd };

	return (poll(&p, 1, 0) == 1 && (p.revents & POLLERR) ? EPIPE : 0);
}

/* Gives the descriptor back as it was found, closed for our part. */
static void
let_go(struct hb_io *io, int flags)
{
	int fd = io->fd, null;

	if (fd < 0)
		return;
	hb_io_stop(io);
	(void)fcntl(fd, F_SETFL, flags);
	io->fd = -1;
	if (fd > STDERR_FILENO) {
		(void)close(fd);
		return;
	}
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0) {
		(void)close(fd);
		return;
	}
	(void)dup2(null, fd);
	(void)close(null);
}

static void
stdio_half_close(struct hb_fdt *f)
{
	struct stdio *s = stdio_of(f);

	if (s->out_is_socket)
		(void)shutdown(s->out.fd, SHUT_WR);
	else
		let_go(&s->out, s->out_flags);
}

static void
stdio_close(struct hb_fdt *f, bool reset)
{
	struct stdio *s = stdio_of(f);

	let_go(&s->out, s->out_flags);
	let_go(&f->in, s->in_flags);
}

static struct hb_io *
stdio_out(struct hb_fdt *f)
{
	return (&stdio_of(f)->out);
}

static size_t
stdio_unacked(struct hb_fdt *f)
{
	return (0);
}

static enum hb_close_reason
stdio_reason(const struct hb_fdt *f, int err)
{
	return (err == EPIPE || err == ECONNRESET ? HB_CLOSE_PEER_RESET : HB_CLOSE_IO_ERROR);
}

static const struct hb_fdt_ops stdio_ops = {
	.t = {
		.name = "stdio",
		.write = hb_fdt__write,
		.read_enable = hb_fdt__read_enable,
		.finish = hb_fdt__finish,
		.abort = hb_fdt__abort,
		.pending = hb_fdt__pending,
		.closed = hb_fdt__closed,
		.run = hb_fdt__run,
	},
	.out = stdio_out,
	.read = stdio_read,
	.write = stdio_write,
	.peek = stdio_peek,
	.hangup_error = stdio_hangup_error,
	.half_close = stdio_half_close,
	.close = stdio_close,
	.unacked = stdio_unacked,
	.reason = stdio_reason,
};

/* ------------------------------------------------------------------ making */

static void
on_in(struct hb_io *io, unsigned events)
{
	struct hb_fdt *f = HB_CONTAINER(io, struct hb_fdt, in);

	if (events & (HB_IO_READ | HB_IO_HUP))
		hb_fdt__events(f, HB_IO_READ);
}

static void
on_out(struct hb_io *io, unsigned events)
{
	struct hb_fdt *f = &HB_CONTAINER(io, struct stdio, out)->fdt;

	if (f->base.close_due != HB_CLOSE_NONE)
		return;
	/* The reader of our pipe is gone: nothing that we write can arrive any more. */
	if ((events & HB_IO_HUP) && !f->write_shut && f->write_failed == 0 &&
		stdio_ops.hangup_error(f) != 0) {
		hb_fdt__write_failed(f, EPIPE);
		return;
	}
	if (events & HB_IO_WRITE)
		hb_fdt__events(f, HB_IO_WRITE);
}

/* Regular files cannot be watched, and need not: they are always ready. */
static int
watch(struct hb_io *io, struct hb_worker *w, int fd, void (*fn)(struct hb_io *, unsigned),
	struct hb_err *reterr)
{
	int r = hb_io_start(io, w, fd, fn, reterr);

	return (r == -EPERM ? 0 : r);
}

static int
set_nonblocking(int fd, int *ret_flags, struct hb_err *reterr)
{
	*ret_flags = fcntl(fd, F_GETFL);
	if (*ret_flags < 0 || fcntl(fd, F_SETFL, *ret_flags | O_NONBLOCK) != 0)
		return (hb_err_set(reterr, -errno, "descriptor %d cannot be used: %s; is it open?",
			fd, strerror(errno)));
	return (0);
}

/* Nothing was taken after all. */
static void
give_back(struct stdio *s, int fd_in, int fd_out)
{
	hb_io_stop(&s->fdt.in);
	hb_io_stop(&s->out);
	if (s->out.fd != fd_out)
		(void)close(s->out.fd);
	(void)fcntl(fd_out, F_SETFL, s->out_flags);
	(void)fcntl(fd_in, F_SETFL, s->in_flags);
}

static int
open_both(struct stdio *s, struct hb_worker *w, int fd_in, int fd_out, struct hb_err *reterr)
{
	struct stat st;
	int r, fd = fd_out;

	r = set_nonblocking(fd_in, &s->in_flags, reterr);
	if (r != 0)
		return (r);
	s->out_flags = s->in_flags;
	if (fd_out == fd_in)
		fd = fcntl(fd_out, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	else
		r = set_nonblocking(fd_out, &s->out_flags, reterr);
	if (fd < 0)
		r = hb_err_set(reterr, -errno, "cannot duplicate descriptor %d: %s", fd_out,
			strerror(errno));
	if (r != 0) {
		(void)fcntl(fd_in, F_SETFL, s->in_flags);
		return (r);
	}
	s->fdt.in.fd = fd_in;
	s->out.fd = fd;
	s->out_is_socket = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode);
	r = watch(&s->fdt.in, w, fd_in, on_in, reterr);
	if (r == 0)
		r = watch(&s->out, w, fd, on_out, reterr);
	if (r != 0)
		give_back(s, fd_in, fd_out);
	return (r);
}

struct hb_transport *
hb_stdio_transport(struct hb_worker *w, int fd_in, int fd_out, struct hb_err *reterr)
{
	struct stdio *s = hb_calloc(1, sizeof *s);

	(void)signal(SIGPIPE, SIG_IGN);
	hb_transport_init(&s->fdt.base, &stdio_ops.t, w);
	s->fdt.in.fd = s->out.fd = -1;
	s->fdt.flush_timeout_ms = HB_FLUSH_TIMEOUT_MS;
	if (open_both(s, w, fd_in, fd_out, reterr) != 0) {
		s->fdt.base.dead = true;
		hb_free(s);
		return (NULL);
	}
	s->fdt.readable = !hb_io_watched(&s->fdt.in);
	s->fdt.writable = true;
	hb_transport_emit_connected(&s->fdt.base);
	hb_transport_emit_secured(&s->fdt.base);
	return (&s->fdt.base);
}
