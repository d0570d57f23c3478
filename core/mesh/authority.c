/* SPDX-License-Identifier: Apache-2.0 */
#include "core/mesh/authority.h"

#include <stdio.h>

#define LABEL_MAX 63u

static bool
is_digit(char c)
{
	return (c >= '0' && c <= '9');
}

static bool
is_name_char(char c)
{
	return ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '-' ||
		c == '_');
}

static enum hb_authority_error
port_parse(struct hb_str s, uint16_t *ret)
{
	uint64_t port;

	if (s.len == 0)
		return (HB_AUTHORITY_NO_PORT);
	if (s.len > 5 || s.p[0] == '0' || !hb_str_u64(s, UINT16_MAX, &port))
		return (HB_AUTHORITY_BAD_PORT);
	*ret = (uint16_t)port;
	return (HB_AUTHORITY_OK);
}

static enum hb_authority_error
v6_parse(struct hb_str text, struct hb_authority *a, struct hb_str *ret_port)
{
	const char *close = memchr(text.p, ']', text.len);
	size_t n;

	if (close == NULL)
		return (HB_AUTHORITY_BAD_IP);
	n = (size_t)(close - text.p);
	if (memchr(text.p, ':', n) == NULL || !hb_addr_parse_ip(hb_strn(text.p + 1, n - 1), &a->ip))
		return (HB_AUTHORITY_BAD_IP);
	a->is_ip = true;
	*ret_port = hb_strn(close + 1, text.len - n - 1);
	if (ret_port->len == 0)
		return (HB_AUTHORITY_NO_PORT);
	if (ret_port->p[0] != ':')
		return (HB_AUTHORITY_BAD_IP);
	ret_port->p++;
	ret_port->len--;
	return (HB_AUTHORITY_OK);
}

/* Digits only, or 0x and whatever follows: inet_aton would take a name that ends so for a number. */
static bool
label_is_number(struct hb_str label)
{
	size_t i = 0;

	if (label.len > 1 && label.p[0] == '0' && (label.p[1] == 'x' || label.p[1] == 'X'))
		return (true);
	while (i < label.len && is_digit(label.p[i]))
		i++;
	return (i == label.len);
}

static enum hb_authority_error
name_check(struct hb_str name)
{
	size_t start = 0;

	for (size_t i = 0; i <= name.len; i++) {
		if (i < name.len && name.p[i] != '.') {
			if (!is_name_char(name.p[i]))
				return (HB_AUTHORITY_BAD_HOST);
			continue;
		}
		if (i == start || i - start > LABEL_MAX || name.p[start] == '-' ||
			name.p[i - 1] == '-')
			return (HB_AUTHORITY_BAD_HOST);
		if (i == name.len && label_is_number(hb_strn(name.p + start, i - start)))
			return (HB_AUTHORITY_BAD_IP);
		start = i + 1;
	}
	return (HB_AUTHORITY_OK);
}

static enum hb_authority_error
host_parse(struct hb_str host, struct hb_authority *a)
{
	enum hb_authority_error e;

	if (host.len == 0)
		return (HB_AUTHORITY_BAD_HOST);
	if (hb_addr_parse_ip(host, &a->ip)) {
		a->is_ip = true;
		return (HB_AUTHORITY_OK);
	}
	if (host.p[host.len - 1] == '.')
		host.len--;
	if (host.len > HB_AUTHORITY_HOST_MAX)
		return (HB_AUTHORITY_TOO_LONG);
	e = name_check(host);
	if (e != HB_AUTHORITY_OK)
		return (e);
	memcpy(a->host, host.p, host.len);
	hb_str_lower(a->host, host.len);
	a->host_len = (uint8_t)host.len;
	return (HB_AUTHORITY_OK);
}

enum hb_authority_error
hb_authority_parse(struct hb_str text, struct hb_authority *ret)
{
	struct hb_authority a = { 0 };
	struct hb_str port;
	enum hb_authority_error e;
	const char *colon;

	if (text.len == 0)
		return (HB_AUTHORITY_EMPTY);
	if (text.len > HB_AUTHORITY_MAX)
		return (HB_AUTHORITY_TOO_LONG);
	if (memchr(text.p, '@', text.len) != NULL)
		return (HB_AUTHORITY_USERINFO);
	if (text.p[0] == '[') {
		e = v6_parse(text, &a, &port);
	} else {
		colon = memchr(text.p, ':', text.len);
		if (colon == NULL)
			return (HB_AUTHORITY_NO_PORT);
		if (memchr(colon + 1, ':', text.len - (size_t)(colon + 1 - text.p)) != NULL)
			return (HB_AUTHORITY_BAD_IP);
		port = hb_strn(colon + 1, text.len - (size_t)(colon + 1 - text.p));
		e = host_parse(hb_strn(text.p, (size_t)(colon - text.p)), &a);
	}
	if (e == HB_AUTHORITY_OK)
		e = port_parse(port, &a.port);
	if (e != HB_AUTHORITY_OK)
		return (e);
	if (a.is_ip)
		a.ip.port = a.port;
	*ret = a;
	return (HB_AUTHORITY_OK);
}

const char *
hb_authority_error_text(enum hb_authority_error e)
{
	static const char *const texts[] = {
		[HB_AUTHORITY_OK] = "is good",
		[HB_AUTHORITY_EMPTY] = "is empty",
		[HB_AUTHORITY_TOO_LONG] = "is too long",
		[HB_AUTHORITY_USERINFO] = "has user information",
		[HB_AUTHORITY_NO_PORT] = "has no port",
		[HB_AUTHORITY_BAD_PORT] = "has a port that is not between 1 and 65535",
		[HB_AUTHORITY_BAD_IP] = "has an IP address that is malformed",
		[HB_AUTHORITY_BAD_HOST] = "has a host name that is malformed",
	};

	HB_ASSERT((unsigned)e < HB_AUTHORITY_ERROR_MAX);
	return (texts[e]);
}

int
hb_authority_format(const struct hb_authority *a, char *dst, size_t cap)
{
	if (a->is_ip)
		return (hb_addr_format(&a->ip, dst, cap));
	return (snprintf(dst, cap, "%.*s:%u", (int)a->host_len, a->host, a->port));
}
