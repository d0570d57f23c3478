/* SPDX-License-Identifier: Apache-2.0 */
#include "core/transport/tcp_spare_priv.h"

#include <netinet/in.h>
#include <unistd.h>
#include "core/transport/transport_priv.h"

/* What has carried more has buffers that grew with it, and its close() is no part of its price. */
#define BYTES_MAX ((uint64_t)64 * 1024)

struct spare {
	struct hb_io io; /* watched; its descriptor is owned */
	sa_family_t family;
	bool defers; /* its TCP_DEFER_ACCEPT is set, which outlives the connection */
};

struct hb_tcp_spares {
	unsigned magic;
#define SPARES_MAGIC 0x5ba7e501
	unsigned n;
	struct spare v[HB_TCP_SPARES_MAX];
};

static void
on_event(struct hb_io *io, unsigned events)
{
	/* Of what it was connected to before. */
	(void)io;
	(void)events;
}

/* ------------------------------------------------------------------ may it? */

/* Interfaces and the mapping of IPv4 stay with a socket. */
static bool
lasting_address(const struct sockaddr *sa)
{
	const struct in6_addr *a = &((const struct sockaddr_in6 *)(const void *)sa)->sin6_addr;

	if (sa->sa_family == AF_INET6)
		return (!IN6_IS_ADDR_LINKLOCAL(a) && !IN6_IS_ADDR_V4MAPPED(a) &&
			!IN6_IS_ADDR_MULTICAST(a));
	return (sa->sa_family == AF_INET);
}

bool
hb_tcp_spare__plain(const struct hb_tcp_connect *c)
{
	const struct hb_tcp_options *o = &c->options;

	return (hb_io_outlives_hangup() && lasting_address(c->addr) && c->bind_to == NULL &&
		!c->freebind && !c->transparent && c->mark == 0 && c->n_sockopts == 0 &&
		!o->nodelay_off && !o->keepalive && o->congestion[0] == '\0');
}

/* The kernel is through with the connection: it knows no peer any more. */
static bool
is_over(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;

	return (getpeername(fd, (struct sockaddr *)&ss, &len) != 0 && errno == ENOTCONN);
}

bool
hb_tcp_spare__keep(struct hb_fdt *f)
{
	const struct hb_transport_state *s = hb_transport_state(f->base.worker);

	if (!f->plain || !f->end_sent || !f->eof || f->error != 0 || f->write_failed != 0 ||
		!hb_io_watched(&f->in) || s->stopping ||
		f->base.bytes_in + f->base.bytes_out > BYTES_MAX ||
		(s->spares != NULL && s->spares->n == HB_TCP_SPARES_MAX) || !is_over(f->in.fd))
		return (false);
	f->in.fn = on_event;
	return (true);
}

/* ------------------------------------------------------------------ the store */

static struct hb_tcp_spares *
spares_of(struct hb_transport_state *s)
{
	if (s->spares == NULL)
		HB_NEW(s->spares, SPARES_MAGIC);
	HB_CHECK(s->spares, SPARES_MAGIC);
	return (s->spares);
}

void
hb_tcp_spare__put(struct hb_fdt *f)
{
	struct hb_transport_state *s = hb_transport_state(f->base.worker);
	struct hb_tcp_spares *all = spares_of(s);
	struct spare *spare = &all->v[all->n];

	if (s->stopping || all->n == HB_TCP_SPARES_MAX) {
		hb_io_close(&f->in);
		return;
	}
	spare->family = f->v6 ? AF_INET6 : AF_INET;
	spare->defers = f->defers;
	hb_io_move(&f->in, &spare->io, on_event);
	all->n++;
}

/* The last one of this kind leaves the store; its events go nowhere until it is moved. */
static bool
pop(struct hb_tcp_spares *all, sa_family_t family, bool defers, struct hb_io *ret)
{
	for (unsigned i = all->n; i-- > 0;) {
		if (all->v[i].family != family || all->v[i].defers != defers)
			continue;
		hb_io_move(&all->v[i].io, ret, on_event);
		if (i != --all->n) {
			hb_io_move(&all->v[all->n].io, &all->v[i].io, on_event);
			all->v[i].family = all->v[all->n].family;
			all->v[i].defers = all->v[all->n].defers;
		}
		return (true);
	}
	return (false);
}

/* Not connected to anything, and no error of the past waits in it. */
static bool
dissolve(int fd)
{
	static const struct sockaddr none = { .sa_family = AF_UNSPEC };
	int err = 0;
	socklen_t len = sizeof err;

	return (connect(fd, &none, sizeof none) == 0 &&
		getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) == 0 && err == 0);
}

bool
hb_tcp_spare__take(struct hb_worker *w, const struct hb_tcp_connect *c, struct hb_io *ret)
{
	struct hb_transport_state *s = hb_transport_state(w);

	while (s->spares != NULL && pop(s->spares, c->addr->sa_family, c->speaks_first, ret)) {
		if (dissolve(ret->fd))
			return (true);
		hb_io_close(ret);
	}
	return (false);
}

void
hb_tcp_spare__fini(struct hb_transport_state *s)
{
	if (s->spares == NULL)
		return;
	HB_CHECK(s->spares, SPARES_MAGIC);
	while (s->spares->n > 0)
		hb_io_close(&s->spares->v[--s->spares->n].io);
	HB_DEL(s->spares);
}
