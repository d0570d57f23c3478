/* SPDX-License-Identifier: Apache-2.0 */
#include "filters/listener/tls_inspector/client_hello.h"

#define RECORD_HANDSHAKE 22u
#define RECORD_HEADER    5u
#define RECORD_LEN_MAX   16384u
#define HANDSHAKE_HEADER 4u
#define HANDSHAKE_HELLO  1u
#define HELLO_MIN        41u /* version, random, no session id, one suite, one method */
#define EXT_SERVER_NAME  0u
#define EXT_ALPN         16u
#define EXT_ECH          0xfe0du
#define ECH_OUTER        0u
#define SESSION_ID_MAX   32u

void
hb_hello_init(struct hb_hello *h, size_t raw_max)
{
	memset(h, 0, sizeof *h);
	h->raw_max = HB_MIN(HB_MAX(raw_max, HB_HELLO_RAW_MIN), HB_HELLO_RAW_MAX);
}

void
hb_hello_fini(struct hb_hello *h)
{
	hb_text_fini(&h->msg);
}

/* ------------------------------------------------------------------ the message */

/* What is left to read. A read beyond it fails and leaves it empty, so later ones fail too. */
struct cursor {
	const uint8_t *p;
	size_t n;
	bool bad;
};

static uint32_t
take_uint(struct cursor *c, unsigned bytes)
{
	uint32_t v = 0;

	if (c->n < bytes) {
		*c = (struct cursor){ .bad = true };
		return (0);
	}
	for (unsigned i = 0; i < bytes; i++)
		v = v << 8 | c->p[i];
	c->p += bytes;
	c->n -= bytes;
	return (v);
}

static struct cursor
take_bytes(struct cursor *c, size_t n)
{
	struct cursor part = { c->p, n, false };

	if (c->bad || c->n < n) {
		*c = (struct cursor){ .bad = true };
		return (*c);
	}
	c->p += n;
	c->n -= n;
	return (part);
}

static struct cursor
take_vector(struct cursor *c, unsigned length_bytes)
{
	return (take_bytes(c, take_uint(c, length_bytes)));
}

/* RFC 6066 allows several names of different types; nobody sends or understands them, and two
 * readers that pick different ones could be played against each other. */
static bool
read_server_name(struct hb_hello *h, struct cursor ext)
{
	struct cursor list = take_vector(&ext, 2), name;

	if (take_uint(&list, 1) != 0)
		return (false);
	name = take_vector(&list, 2);
	if (ext.bad || ext.n != 0 || list.bad || list.n != 0 || name.n == 0 ||
		name.n > HB_HELLO_SNI_MAX)
		return (false);
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] <= ' ' || name.p[i] >= 0x7f)
			return (false);
	h->sni = hb_strn(name.p, name.n);
	return (true);
}

static bool
read_alpn(struct hb_hello *h, struct cursor ext)
{
	struct cursor list = take_vector(&ext, 2);

	if (ext.bad || ext.n != 0 || list.n == 0)
		return (false);
	while (list.n > 0) {
		struct cursor name = take_vector(&list, 1);

		if (name.n == 0)
			return (false);
		if (h->n_alpn < HB_HELLO_ALPN_MAX)
			h->alpn[h->n_alpn++] = hb_strn(name.p, name.n);
	}
	return (!list.bad);
}

static bool
read_extensions(struct hb_hello *h, struct cursor list)
{
	bool seen_name = false, seen_alpn = false;

	while (list.n > 0) {
		uint32_t type = take_uint(&list, 2);
		struct cursor ext = take_vector(&list, 2);

		if (list.bad)
			return (false);
		switch (type) {
		case EXT_SERVER_NAME:
			if (seen_name || !read_server_name(h, ext))
				return (false);
			seen_name = true;
			break;
		case EXT_ALPN:
			if (seen_alpn || !read_alpn(h, ext))
				return (false);
			seen_alpn = true;
			break;
		case EXT_ECH:
			h->ech = ext.n > 0 && ext.p[0] == ECH_OUTER;
			break;
		default:
			break;
		}
	}
	return (!list.bad);
}

static bool
read_hello(struct hb_hello *h, const uint8_t *p, size_t n)
{
	struct cursor c = { p, n, false }, session, suites, compression, extensions;

	if (take_uint(&c, 2) >> 8 != 3)
		return (false);
	(void)take_bytes(&c, 32);
	session = take_vector(&c, 1);
	suites = take_vector(&c, 2);
	compression = take_vector(&c, 1);
	if (c.bad || session.n > SESSION_ID_MAX || suites.n < 2 || suites.n % 2 != 0 ||
		compression.n < 1)
		return (false);
	if (c.n == 0)
		return (true); /* TLS 1.2 and older may have no extensions */
	extensions = take_vector(&c, 2);
	return (!c.bad && c.n == 0 && read_extensions(h, extensions));
}

/* ------------------------------------------------------------------ records */

static enum hb_hello_status
take_record_header(struct hb_hello *h, const uint8_t **p, size_t *n)
{
	while (h->n_header<RECORD_HEADER && * n> 0) {
		uint8_t b = **p;

		/* The first record decides whether this is TLS at all, as early as possible. */
		if ((h->n_header == 0 && b != RECORD_HANDSHAKE) || (h->n_header == 1 && b != 3))
			return (h->raw == 0 || h->raw == 1 ? HB_HELLO_NOT_TLS : HB_HELLO_BAD);
		h->header[h->n_header++] = b;
		h->raw++;
		(*p)++;
		(*n)--;
	}
	if (h->n_header < RECORD_HEADER)
		return (HB_HELLO_MORE);
	h->record_left = (size_t)h->header[3] << 8 | h->header[4];
	if (h->record_left == 0 || h->record_left > RECORD_LEN_MAX)
		return (HB_HELLO_BAD);
	return (HB_HELLO_DONE);
}

/* Looks at the type and length of the message as soon as they are there. */
static enum hb_hello_status
check_message(struct hb_hello *h, const uint8_t *p, size_t n)
{
	if (n > 0 && p[0] != HANDSHAKE_HELLO)
		return (HB_HELLO_BAD);
	if (h->want != 0 || n < HANDSHAKE_HEADER)
		return (HB_HELLO_MORE);
	h->want = HANDSHAKE_HEADER + ((size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3]);
	if (h->want < HANDSHAKE_HEADER + HELLO_MIN)
		return (HB_HELLO_BAD);
	if (h->want + RECORD_HEADER > h->raw_max)
		return (HB_HELLO_TOO_LARGE);
	return (HB_HELLO_MORE);
}

static enum hb_hello_status
take_payload(struct hb_hello *h, const uint8_t **p, size_t *n)
{
	size_t take = HB_MIN(h->record_left, *n);
	const uint8_t *msg = *p;
	size_t have = take;
	enum hb_hello_status s;

	h->raw += take;
	h->record_left -= take;
	*p += take;
	*n -= take;
	s = h->msg.len == 0 ? check_message(h, msg, have) : HB_HELLO_MORE;
	if (s != HB_HELLO_MORE)
		return (s);
	if (h->msg.len > 0 || h->want == 0 || have < h->want) {
		hb_text_add(&h->msg, msg, take);
		msg = (const uint8_t *)h->msg.p;
		have = h->msg.len;
		s = check_message(h, msg, have);
		if (s != HB_HELLO_MORE)
			return (s);
	}
	if (h->want == 0 || have < h->want)
		return (HB_HELLO_MORE);
	return (read_hello(h, msg + HANDSHAKE_HEADER, h->want - HANDSHAKE_HEADER) ? HB_HELLO_DONE :
										    HB_HELLO_BAD);
}

static enum hb_hello_status
feed(struct hb_hello *h, const uint8_t *p, size_t n)
{
	enum hb_hello_status s;

	n = HB_MIN(n, h->raw_max - h->raw);
	while (n > 0) {
		if (h->record_left == 0) {
			s = take_record_header(h, &p, &n);
			if (s == HB_HELLO_MORE)
				break;
			if (s != HB_HELLO_DONE)
				return (s);
			h->n_header = 0;
		}
		if (n == 0)
			break;
		s = take_payload(h, &p, &n);
		if (s != HB_HELLO_MORE)
			return (s);
	}
	return (h->raw >= h->raw_max ? HB_HELLO_TOO_LARGE : HB_HELLO_MORE);
}

enum hb_hello_status
hb_hello_feed(struct hb_hello *h, const void *p, size_t n)
{
	if (h->status == HB_HELLO_MORE)
		h->status = (uint8_t)feed(h, p, n);
	return ((enum hb_hello_status)h->status);
}
