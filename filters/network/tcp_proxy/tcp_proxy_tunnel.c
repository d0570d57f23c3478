/* SPDX-License-Identifier: Apache-2.0 */
/* tunneling_config: what a tunnel's request is made of, and what is kept of its answer. */
#include "envoy/extensions/filters/network/tcp_proxy/v3/tcp_proxy.pb-c.h"
#include "filters/network/tcp_proxy/tcp_proxy_priv.h"

#define PATH_MAX_BYTES 1024u
#define RESPONSE_MAX   8192u
#define STATE_RESPONSE "envoy.tcp_proxy.propagate_response_headers"

typedef Envoy__Extensions__Filters__Network__TcpProxy__V3__TcpProxy__TunnelingConfig msg_tunnel;

void
tcp_proxy_tunnel_free(struct tcp_proxy_tunnel **tp)
{
	struct tcp_proxy_tunnel *t = *tp;

	if (t == NULL)
		return;
	*tp = NULL;
	if (t->authority != NULL)
		hb_format_free(&t->authority);
	hb_header_adds_free(&t->adds);
	hb_free(t->path);
	hb_free(t);
}

static int
compile_path(struct hb_cfg *cfg, const msg_tunnel *m, struct tcp_proxy_tunnel *t)
{
	t->post = m->use_post;
	t->path = hb_strdup(*m->post_path == '\0' ? "/" : m->post_path);
	if (*m->post_path != '\0' && !m->use_post)
		return (hb_cfg_error(
			cfg, m, "post_path", -1, "is for use_post; CONNECT has no path"));
	if (t->path[0] != '/' || strlen(t->path) > PATH_MAX_BYTES)
		return (hb_cfg_error(cfg, m, "post_path", -1,
			"must begin with / and have at most %u bytes", PATH_MAX_BYTES));
	return (0);
}

struct tcp_proxy_tunnel *
tcp_proxy_tunnel_compile(struct hb_cfg *cfg, const void *tunneling_msg)
{
	const msg_tunnel *m = tunneling_msg;
	struct tcp_proxy_tunnel *t = hb_calloc(1, sizeof *t);
	bool ok;
	int r;

	r = compile_path(cfg, m, t);
	t->propagate_headers = m->propagate_response_headers;
	t->adds = hb_header_adds_compile(cfg, m, "headers_to_add", (void *const *)m->headers_to_add,
		m->n_headers_to_add, &ok);
	if (*m->hostname == '\0')
		r = hb_cfg_error(cfg, m, "hostname", -1,
			"must not be empty; for example \"%%DOWNSTREAM_LOCAL_ADDRESS%%\"");
	else
		t->authority = hb_format_compile(cfg, m, "hostname", -1, hb_str(m->hostname));
	if (r != 0 || !ok || t->authority == NULL) {
		tcp_proxy_tunnel_free(&t);
		return (NULL);
	}
	hb_format_omit_empty(t->authority);
	return (t);
}

void
tcp_proxy_authority(const struct tcp_proxy_tunnel *t, struct hb_filter *f, struct hb_text *to)
{
	struct hb_log_entry e;

	hb_filter_log_entry(f, &e);
	hb_format_write(t->authority, &e, to);
}

struct tcp_proxy_request *
tcp_proxy_request_make(const struct tcp_proxy_tunnel *t, struct hb_filter *f)
{
	struct tcp_proxy_request *r = hb_calloc(1, sizeof *r);
	struct hb_header_list l = { &r->arena, r->headers, 0, HB_ARRAY_LEN(r->headers) };
	struct hb_text text = { 0 };
	struct hb_log_entry e;

	tcp_proxy_authority(t, f, &text);
	r->tunnel.authority = hb_arena_str(&r->arena, hb_strn(text.p, text.len));
	hb_text_fini(&text);
	hb_filter_log_entry(f, &e);
	r->tunnel.post = t->post;
	r->tunnel.path = hb_str(t->path);
	hb_header_adds_apply(t->adds, &e, &l);
	r->tunnel.headers = r->headers;
	r->tunnel.n_headers = l.n;
	return (r);
}

void
tcp_proxy_request_free(struct tcp_proxy_request **rp)
{
	struct tcp_proxy_request *r = *rp;

	if (r == NULL)
		return;
	*rp = NULL;
	hb_arena_fini(&r->arena);
	hb_free(r);
}

void
tcp_proxy_keep_response(struct hb_filter *f, const struct hb_header *v, size_t n)
{
	struct hb_text t = { .cap_max = RESPONSE_MAX };

	for (size_t i = 0; i < n; i++) {
		if (t.len + v[i].name.len + v[i].value.len + 3 > RESPONSE_MAX)
			break;
		hb_text_printf(&t, "%s%.*s: %.*s", i == 0 ? "" : "\n", HB_STR_FMT(v[i].name),
			HB_STR_FMT(v[i].value));
	}
	(void)hb_facts_state_set(
		hb_filter_facts(f), HB_STR(STATE_RESPONSE), hb_strn(t.p, t.len), false, 0);
	hb_text_fini(&t);
}
