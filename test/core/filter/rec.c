/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/filter/rec.h"

#include <stdio.h>

struct rec rec_a, rec_b, rec_t;
struct hb_text rec_trace;
bool rec_levels;

static enum hb_filter_status
slot(struct rec *r, struct hb_filter *f, enum rec_slot s, struct hb_buf *buf, bool end)
{
	if (r->hook != NULL)
		r->hook(f, s, buf, end);
	return (r->answer[s]);
}

static enum hb_filter_status
begin(struct rec *r, char name, struct hb_filter *f, enum rec_slot s)
{
	r->f = f;
	hb_text_printf(&rec_trace, " %c%c", name, s == REC_CONNECTED ? 'C' : 'S');
	return (slot(r, f, s, NULL, false));
}

static enum hb_filter_status
data(struct rec *r, char name, struct hb_filter *f, enum rec_slot s, struct hb_buf *buf, bool end)
{
	struct hb_buf copy = { NULL, NULL, 0 };
	char z[64];
	size_t n = hb_buf_copyout(buf, 0, z, sizeof z - 1);

	z[n] = '\0';
	hb_text_printf(&rec_trace, " %c%c%s%s", name, s == REC_READ ? '<' : '>', z, end ? "." : "");
	if (s == REC_READ && r->take) {
		hb_buf_own(buf);
		hb_buf_move(&r->taken, buf);
	}
	if (s == REC_READ && r->echo) {
		hb_buf_move(&copy, buf);
		hb_filter_write(f, &copy, end);
	}
	return (slot(r, f, s, buf, end));
}

static void
event(struct rec *r, char name, struct hb_filter *f, enum hb_event ev)
{
	static const char letters[] = "HLTRDG";

	if (rec_levels || ev > HB_EVENT_WRITE_LOW)
		hb_text_printf(&rec_trace, " %c%c", name, letters[ev]);
	(void)slot(r, f, REC_EVENT, NULL, false);
}

static void
fini(struct rec *r, char name)
{
	hb_text_printf(&rec_trace, " %cF", name);
	hb_buf_fini(&r->taken);
	r->f = NULL;
}

#define REC_TYPE(x, c, flags_)                                                                   \
	static enum hb_filter_status x##_on_connected(struct hb_filter *f)                       \
	{                                                                                        \
		return (begin(&rec_##x, c, f, REC_CONNECTED));                                   \
	}                                                                                        \
	static enum hb_filter_status x##_on_secured(struct hb_filter *f)                         \
	{                                                                                        \
		return (begin(&rec_##x, c, f, REC_SECURED));                                     \
	}                                                                                        \
	static enum hb_filter_status x##_on_read(struct hb_filter *f, struct hb_buf *b, bool e)  \
	{                                                                                        \
		return (data(&rec_##x, c, f, REC_READ, b, e));                                   \
	}                                                                                        \
	static enum hb_filter_status x##_on_write(struct hb_filter *f, struct hb_buf *b, bool e) \
	{                                                                                        \
		return (data(&rec_##x, c, f, REC_WRITE, b, e));                                  \
	}                                                                                        \
	static void x##_on_event(struct hb_filter *f, enum hb_event ev)                          \
	{                                                                                        \
		event(&rec_##x, c, f, ev);                                                       \
	}                                                                                        \
	static void x##_fini(struct hb_filter *f)                                                \
	{                                                                                        \
		fini(&rec_##x, c);                                                               \
	}                                                                                        \
	static const struct hb_filter_type type_##x = {                                          \
		.abi_major = HB_FILTER_ABI_MAJOR,                                                \
		.size = sizeof(struct hb_filter_type),                                           \
		.flags = (flags_) | HB_FILTER_MAY_INJECT,                                        \
		.kind = HB_FILTER_NETWORK,                                                       \
		.name = "test." #x,                                                              \
		.ctx_size = 24,                                                                  \
		.on_connected = x##_on_connected,                                                \
		.on_secured = x##_on_secured,                                                    \
		.on_read = x##_on_read,                                                          \
		.on_write = x##_on_write,                                                        \
		.on_event = x##_on_event,                                                        \
		.fini = x##_fini,                                                                \
	}

REC_TYPE(a, 'a', 0);
REC_TYPE(b, 'b', 0);
REC_TYPE(t, 't', HB_FILTER_TERMINAL);

int
rec_setup(void **state)
{
	hbf_init();
	hbf_register(&type_a);
	hbf_register(&type_b);
	hbf_register(&type_t);
	rec_levels = false;
	memset(&rec_a, 0, sizeof rec_a);
	memset(&rec_b, 0, sizeof rec_b);
	memset(&rec_t, 0, sizeof rec_t);
	return (0);
}

int
rec_teardown(void **state)
{
	hbf_fini();
	hb_text_fini(&rec_trace);
	return (0);
}

void
rec_expect(const char *trace)
{
	const char *got = rec_trace.p == NULL ? "" : rec_trace.p;

	if (strcmp(got, trace) != 0) {
		fprintf(stderr, "expected:%s\n     got:%s\n", trace, got);
		HB_WRONG("another trace");
	}
	hb_text_fini(&rec_trace);
}
