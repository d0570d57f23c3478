/* SPDX-License-Identifier: Apache-2.0 */
#include "core/event/worker_priv.h"

#include <unistd.h>

#ifdef __linux__
static const struct hb_io_ops *ops = &hb_io_epoll_ops;
#else
static const struct hb_io_ops *ops = &hb_io_uv_ops;
#endif

void
hb_io_backend(enum hb_io_backend backend)
{
	HB_ASSERT(hb_worker_control() == NULL);
#ifdef __linux__
	ops = backend == HB_IO_EPOLL ? &hb_io_epoll_ops : &hb_io_uv_ops;
#else
	(void)backend;
#endif
}

const struct hb_io_ops *
hb_io_ops(void)
{
	return (ops);
}

bool
hb_io_outlives_hangup(void)
{
	return (ops->again == NULL);
}

/* Index + 2: the control thread, whose index is the highest number, has 1. */
#define OWNER(worker) ((worker)->index + 2u)

static struct hb_worker *
owner_of(const struct hb_io *io)
{
	uint32_t index = io->owner - 2u;

	return (index == HB_WORKER_CONTROL ? hb_worker_control() : hb_worker_at(index));
}

static int
start(struct hb_io *io, struct hb_worker *w, int fd, void (*fn)(struct hb_io *, unsigned events),
	bool level, struct hb_err *reterr)
{
	int r;

	HB_CHECK(w, HB_WORKER_MAGIC);
	HB_ASSERT(fd >= 0 && fn != NULL);
	io->fd = fd;
	io->owner = OWNER(w);
	io->fn = fn;
	io->priv = NULL;
	r = ops->start(w, io, level, reterr);
	if (r != 0)
		io->owner = 0;
	return (r);
}

int
hb_io_start(struct hb_io *io, struct hb_worker *w, int fd,
	void (*fn)(struct hb_io *, unsigned events), struct hb_err *reterr)
{
	return (start(io, w, fd, fn, false, reterr));
}

int
hb_io_start_level(struct hb_io *io, struct hb_worker *w, int fd,
	void (*fn)(struct hb_io *, unsigned events), struct hb_err *reterr)
{
	return (start(io, w, fd, fn, true, reterr));
}

void
hb_io_again(struct hb_io *io, unsigned events)
{
	HB_ASSERT(hb_io_watched(io));
	if (ops->again != NULL)
		ops->again(io, events);
}

void
hb_io_move(struct hb_io *from, struct hb_io *to, void (*fn)(struct hb_io *, unsigned events))
{
	HB_ASSERT(hb_io_watched(from) && from != to && fn != NULL);
	*to = *from;
	to->fn = fn;
	from->owner = 0;
	from->priv = NULL;
	from->fd = -1;
	ops->moved(owner_of(to), to);
}

void
hb_io_stop(struct hb_io *io)
{
	if (!hb_io_watched(io))
		return;
	ops->stop(owner_of(io), io, false);
	io->owner = 0;
}

void
hb_io_close(struct hb_io *io)
{
	if (hb_io_watched(io)) {
		ops->stop(owner_of(io), io, true);
		io->owner = 0;
	}
	if (io->fd >= 0)
		(void)close(io->fd);
	io->fd = -1;
}
