/* SPDX-License-Identifier: Apache-2.0 */
#include "core/facts/facts.h"
#include "core/base/pack.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/un.h>

#define UNIX_NAME_MAX 107u

static const uint8_t v4_mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };

/*
 * One form for one address: a client that reaches a dual-stack socket over IPv4 must not slip past
 * a policy that names IPv4 ranges.
 */
static void
set_v6(struct hb_addr *a, const uint8_t ip[16])
{
	if (memcmp(ip, v4_mapped, sizeof v4_mapped) == 0) {
		a->kind = HB_ADDR_V4;
		memcpy(a->u.ip, ip + 12, 4);
	} else {
		a->kind = HB_ADDR_V6;
		memcpy(a->u.ip, ip, 16);
	}
}

/* Bytes of a unix name, the leading NUL of an abstract one included. */
static size_t
unix_len(const char *name)
{
	if (name[0] != '\0')
		return (strlen(name));
	return (name[1] == '\0' ? 0 : 1 + strlen(name + 1));
}

static void
from_unix(struct hb_addr *a, const struct sockaddr_un *sun, socklen_t len)
{
	size_t n = len > offsetof(struct sockaddr_un, sun_path) ?
		len - offsetof(struct sockaddr_un, sun_path) :
		0;

	a->kind = HB_ADDR_UNIX;
	a->u.name = "\0"; /* two NULs: unix_len looks at the second one */
	if (n == 0)
		return;
	/* A name without its NUL cannot be borrowed. */
	if (n > UNIX_NAME_MAX + 1 || (n == UNIX_NAME_MAX + 1 && sun->sun_path[n - 1] != '\0') ||
		(n <= UNIX_NAME_MAX && sun->sun_path[n - 1] != '\0' && sun->sun_path[n] != '\0')) {
		a->kind = HB_ADDR_NONE;
		return;
	}
	a->u.name = sun->sun_path;
}

void
hb_addr_from_sockaddr(struct hb_addr *a, const struct sockaddr *sa, socklen_t len)
{
	memset(a, 0, sizeof *a);
	if (len < sizeof(sa_family_t))
		return;
	if (sa->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) {
		const struct sockaddr_in *sin = (const void *)sa;

		a->kind = HB_ADDR_V4;
		a->port = ntohs(sin->sin_port);
		memcpy(a->u.ip, &sin->sin_addr, 4);
	} else if (sa->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)) {
		const struct sockaddr_in6 *sin6 = (const void *)sa;

		set_v6(a, sin6->sin6_addr.s6_addr);
		a->port = ntohs(sin6->sin6_port);
	} else if (sa->sa_family == AF_UNIX) {
		from_unix(a, (const void *)sa, len);
	}
}

socklen_t
hb_addr_to_sockaddr(const struct hb_addr *a, struct sockaddr_storage *ss)
{
	memset(ss, 0, sizeof *ss);
	if (a->kind == HB_ADDR_V4) {
		struct sockaddr_in *sin = (void *)ss;

		sin->sin_family = AF_INET;
		sin->sin_port = htons(a->port);
		memcpy(&sin->sin_addr, a->u.ip, 4);
		return (sizeof *sin);
	}
	if (a->kind == HB_ADDR_V6) {
		struct sockaddr_in6 *sin6 = (void *)ss;

		sin6->sin6_family = AF_INET6;
		sin6->sin6_port = htons(a->port);
		memcpy(&sin6->sin6_addr, a->u.ip, 16);
		return (sizeof *sin6);
	}
	if (a->kind == HB_ADDR_UNIX) {
		struct sockaddr_un *sun = (void *)ss;
		size_t n = unix_len(a->u.name);

		if (n > UNIX_NAME_MAX)
			return (0);
		sun->sun_family = AF_UNIX;
		memcpy(sun->sun_path, a->u.name, n);
		/* The kernel takes every byte of an abstract name as part of it, also a NUL. */
		return ((socklen_t)(offsetof(struct sockaddr_un, sun_path) + n +
			(n > 0 && a->u.name[0] != '\0')));
	}
	return (0);
}

/* Each connection has its addresses written a few times: printf would be a tenth of what it costs. */
static char *
put_u16(char *p, uint16_t n)
{
	char digits[5];
	int i = 0;

	do
		digits[i++] = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	while (i > 0)
		*p++ = digits[--i];
	return (p);
}

/* INET6_ADDRSTRLEN bytes are enough; returns the end, without a NUL. */
static char *
put_ip(char *p, const struct hb_addr *a)
{
	if (a->kind == HB_ADDR_V4) {
		for (int i = 0; i < 4; i++) {
			if (i > 0)
				*p++ = '.';
			p = put_u16(p, a->u.ip[i]);
		}
		return (p);
	}
	if (inet_ntop(AF_INET6, a->u.ip, p, INET6_ADDRSTRLEN) == NULL)
		HB_WRONG("inet_ntop");
	return (p + strlen(p));
}

/* As snprintf of all that lies between. */
static int
give(const char *from, const char *end, char *dst, size_t cap)
{
	size_t n = (size_t)(end - from), fits = n < cap ? n : cap - 1;

	if (cap > 0) {
		memcpy(dst, from, fits);
		dst[fits] = '\0';
	}
	return ((int)n);
}

int
hb_addr_format_ip(const struct hb_addr *a, char *dst, size_t cap)
{
	char ip[INET6_ADDRSTRLEN];

	switch (a->kind) {
	case HB_ADDR_V4:
	case HB_ADDR_V6:
		return (give(ip, put_ip(ip, a), dst, cap));
	case HB_ADDR_UNIX:
		if (a->u.name[0] == '\0' && a->u.name[1] != '\0')
			return (snprintf(dst, cap, "@%s", a->u.name + 1));
		return (snprintf(dst, cap, "%s", a->u.name[0] == '\0' ? "@" : a->u.name));
	case HB_ADDR_INTERNAL:
		return (snprintf(dst, cap, "envoy://%s/", a->u.name));
	default:
		return (snprintf(dst, cap, "-"));
	}
}

int
hb_addr_format(const struct hb_addr *a, char *dst, size_t cap)
{
	char text[INET6_ADDRSTRLEN + sizeof "[]:65535"], *p = text;

	if (a->kind != HB_ADDR_V4 && a->kind != HB_ADDR_V6)
		return (hb_addr_format_ip(a, dst, cap));
	if (a->kind == HB_ADDR_V6)
		*p++ = '[';
	p = put_ip(p, a);
	if (a->kind == HB_ADDR_V6)
		*p++ = ']';
	*p++ = ':';
	p = put_u16(p, a->port);
	return (give(text, p, dst, cap));
}

bool
hb_addr_parse_ip(struct hb_str text, struct hb_addr *ret)
{
	char z[INET6_ADDRSTRLEN];
	struct hb_addr a = { 0 };
	uint8_t ip[16];

	if (text.len == 0 || text.len >= sizeof z || memchr(text.p, '\0', text.len) != NULL)
		return (false);
	memcpy(z, text.p, text.len);
	z[text.len] = '\0';
	if (inet_pton(AF_INET, z, a.u.ip) == 1)
		a.kind = HB_ADDR_V4;
	else if (inet_pton(AF_INET6, z, ip) == 1)
		set_v6(&a, ip);
	else
		return (false);
	*ret = a;
	return (true);
}

bool
hb_addr_parse(struct hb_str text, struct hb_addr *ret)
{
	struct hb_addr a;
	struct hb_str ip, port;
	const char *colon = NULL;
	uint64_t n;
	bool bracket;

	if (text.len > 0)
		colon = memrchr(text.p, ':', text.len);
	if (colon == NULL)
		return (false);
	ip = hb_strn(text.p, (size_t)(colon - text.p));
	port = hb_strn(colon + 1, text.len - ip.len - 1);
	bracket = ip.len >= 2 && ip.p[0] == '[' && ip.p[ip.len - 1] == ']';
	if (bracket)
		ip = hb_strn(ip.p + 1, ip.len - 2);
	/* Brackets go with colons: "::1:80" says nothing about where its port begins. */
	if (bracket != (ip.len > 0 && memchr(ip.p, ':', ip.len) != NULL))
		return (false);
	if (!hb_addr_parse_ip(ip, &a) || !hb_str_u64(port, UINT16_MAX, &n))
		return (false);
	a.port = (uint16_t)n;
	*ret = a;
	return (true);
}

bool
hb_addr_ip_eq(const struct hb_addr *a, const struct hb_addr *b)
{
	size_t n;

	if (a->kind != b->kind)
		return (false);
	switch (a->kind) {
	case HB_ADDR_V4:
		return (memcmp(a->u.ip, b->u.ip, 4) == 0);
	case HB_ADDR_V6:
		return (memcmp(a->u.ip, b->u.ip, 16) == 0);
	case HB_ADDR_UNIX:
		n = unix_len(a->u.name);
		return (n == unix_len(b->u.name) && memcmp(a->u.name, b->u.name, n) == 0);
	case HB_ADDR_INTERNAL:
		return (strcmp(a->u.name, b->u.name) == 0);
	default:
		return (true);
	}
}

bool
hb_addr_eq(const struct hb_addr *a, const struct hb_addr *b)
{
	return (a->port == b->port && hb_addr_ip_eq(a, b));
}

bool
hb_addr_is_loopback(const struct hb_addr *a)
{
	static const uint8_t one[16] = { [15] = 1 };

	if (a->kind == HB_ADDR_V4)
		return (a->u.ip[0] == 127);
	return (a->kind == HB_ADDR_V6 && memcmp(a->u.ip, one, 16) == 0);
}

static const char *
unix_copy(struct hb_arena *arena, struct hb_str name)
{
	return (name.len == 0 ? "\0" : hb_arena_str(arena, name).p); /* two NULs: see unix_len */
}

void
hb_addr_copy(struct hb_arena *arena, struct hb_addr *to, const struct hb_addr *from)
{
	struct hb_addr a = *from;

	if (a.kind == HB_ADDR_UNIX)
		a.u.name = unix_copy(arena, hb_strn(a.u.name, unix_len(a.u.name)));
	else if (a.kind == HB_ADDR_INTERNAL)
		a.u.name = hb_arena_str(arena, hb_str(a.u.name)).p;
	*to = a;
}

void
hb_addr_pack(const struct hb_addr *a, struct hb_pack *p)
{
	hb_pack_byte(p, a->kind);
	hb_pack_bytes(p, &a->port, sizeof a->port);
	if (a->kind == HB_ADDR_V4)
		hb_pack_bytes(p, a->u.ip, 4);
	else if (a->kind == HB_ADDR_V6)
		hb_pack_bytes(p, a->u.ip, 16);
	else if (a->kind == HB_ADDR_UNIX)
		hb_pack_str(p, hb_strn(a->u.name, unix_len(a->u.name)));
	else if (a->kind == HB_ADDR_INTERNAL)
		hb_pack_str(p, hb_str(a->u.name));
}

void
hb_addr_unpack(struct hb_arena *arena, struct hb_addr *ret, struct hb_unpack *u)
{
	struct hb_addr a = { .kind = hb_unpack_byte(u) };

	memcpy(&a.port, hb_unpack_bytes(u, sizeof a.port), sizeof a.port);
	if (a.kind == HB_ADDR_V4)
		memcpy(a.u.ip, hb_unpack_bytes(u, 4), 4);
	else if (a.kind == HB_ADDR_V6)
		memcpy(a.u.ip, hb_unpack_bytes(u, 16), 16);
	else if (a.kind == HB_ADDR_UNIX)
		a.u.name = unix_copy(arena, hb_unpack_str(u));
	else if (a.kind == HB_ADDR_INTERNAL)
		a.u.name = hb_arena_str(arena, hb_unpack_str(u)).p;
	*ret = a;
}
