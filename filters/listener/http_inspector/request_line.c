/* SPDX-License-Identifier: Apache-2.0 */
#include "filters/listener/http_inspector/request_line.h"

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
static const char version[] = "HTTP/1.";

enum line_state { METHOD, TARGET_FIRST, TARGET, VERSION, MINOR, LINE_END, LINE_FEED };

static bool
is_token(uint8_t c)
{
	return ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		(c != 0 && strchr("!#$%&'*+-.^_`|~", c) != NULL));
}

static enum hb_http_look
line_byte(struct hb_http_line *l, uint8_t c)
{
	switch ((enum line_state)l->state) {
	case METHOD:
		if (c == ' ' && l->at > 0)
			l->state = TARGET_FIRST;
		else if (!is_token(c) || l->at++ == HB_HTTP_METHOD_MAX)
			return (HB_HTTP_NOT);
		break;
	case TARGET_FIRST:
	case TARGET:
		if (c == ' ' && l->state == TARGET) {
			l->state = VERSION;
			l->at = 0;
		} else if (c <= ' ' || c == 0x7f) {
			return (HB_HTTP_NOT);
		} else {
			l->state = TARGET;
		}
		break;
	case VERSION:
		if (c != (uint8_t)version[l->at++])
			return (HB_HTTP_NOT);
		if (version[l->at] == '\0')
			l->state = MINOR;
		break;
	case MINOR:
		if (c < '0' || c > '9')
			return (HB_HTTP_NOT);
		l->minor = c - '0';
		l->state = LINE_END;
		break;
	case LINE_END:
	case LINE_FEED:
		/* A lone line feed ends a line, too (RFC 9112, 2.2). */
		if (c == '\n')
			return (l->minor == 0 ? HB_HTTP_10 : HB_HTTP_11);
		if (c != '\r' || l->state == LINE_FEED)
			return (HB_HTTP_NOT);
		l->state = LINE_FEED;
		break;
	}
	return (HB_HTTP_MORE);
}

enum hb_http_look
hb_http_line_feed(struct hb_http_line *l, const void *p, size_t n)
{
	const uint8_t *b = p;

	for (size_t i = 0; i < n && l->status == HB_HTTP_MORE; i++, l->fed++) {
		enum hb_http_look line = HB_HTTP_MORE;

		l->not_preface = l->not_preface || b[i] != (uint8_t)preface[l->fed];
		if (!l->not_line)
			line = l->fed < HB_HTTP_LINE_MAX ? line_byte(l, b[i]) : HB_HTTP_NOT;
		l->not_line = l->not_line || line == HB_HTTP_NOT;
		if (!l->not_preface && l->fed == sizeof preface - 2)
			l->status = HB_HTTP_2;
		else if (!l->not_line)
			l->status = (uint8_t)line;
		else if (l->not_preface)
			l->status = HB_HTTP_NOT;
	}
	return ((enum hb_http_look)l->status);
}
