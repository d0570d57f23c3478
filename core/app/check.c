/* SPDX-License-Identifier: Apache-2.0 */
/* hbone validate, explain, version. */
#include <stdio.h>
#include "core/app/app.h"
#include "core/event/worker.h"
#include "core/filter/explain.h"
#include "listeners/listeners.h"

static struct hb_str
optional(const char *z)
{
	return (hb_str(z == NULL ? "" : z));
}

/* Compiles the file with nothing bound; with `publish` its tables can be asked. */
static int
offline_setup(const struct hb_args *args, bool publish)
{
	struct hb_err err = { 0 };
	struct hb_cfg *cfg = NULL;
	const ProtobufCMessage *msg;
	int r;

	if (hb_app_register(args) != 0 || (msg = hb_app_load(args, &cfg)) == NULL)
		return (HB_EXIT_USAGE);
	if (hb_workers_init(1, &err) != 0) {
		fprintf(stderr, "hbone: %s\n", err.text);
		return (HB_EXIT_RUNTIME);
	}
	r = hb_app_options(cfg, msg);
	if (hb_app_rooms(true, &err) != 0) {
		fprintf(stderr, "hbone: %s\n", err.text);
		return (HB_EXIT_RUNTIME);
	}
	if (hb_bootstrap_apply(cfg, msg, !publish, true) != 0)
		r = -EINVAL;
	if (!publish)
		hb_app_print(hb_cfg_notes(cfg), "note");
	hb_app_print(hb_cfg_warnings(cfg), "warning");
	hb_app_print(hb_cfg_errs(cfg), "error");
	hb_cfg_free(&cfg);
	return (r == 0 ? HB_EXIT_OK : HB_EXIT_USAGE);
}

int
hb_cmd_validate(const struct hb_args *args)
{
	int exit_code = offline_setup(args, false);

	if (exit_code == HB_EXIT_OK)
		printf("%s is good\n", args->config);
	return (exit_code);
}

static int
explain_address(struct hb_str text, const char *what, struct hb_addr *ret, struct hb_err *reterr)
{
	if (text.len == 0 || hb_addr_parse(text, ret))
		return (0);
	return (hb_err_set(reterr, -EINVAL,
		"%s wants ADDRESS:PORT (or [ADDRESS]:PORT), not \"%.*s\"", what, HB_STR_FMT(text)));
}

static void
explain_alpn(struct hb_facts *f, struct hb_str list)
{
	while (list.len > 0) {
		const char *comma = memchr(list.p, ',', list.len);
		size_t n = comma == NULL ? list.len : (size_t)(comma - list.p);

		(void)hb_facts_alpn_add(f, hb_strn(list.p, n));
		list = hb_strn(list.p + n, list.len - n);
		if (list.len > 0)
			list = hb_strn(list.p + 1, list.len - 1);
	}
}

int
hb_app_explain(
	const struct hb_explain_query *q, bool json, struct hb_text *out, struct hb_err *reterr)
{
	struct hb_facts_hello *hello;
	struct hb_facts f;
	struct hb_explain *e;
	int r;

	hb_facts_init(&f);
	hb_addr_parse(HB_STR("127.0.0.1:40000"), &f.remote);
	r = explain_address(q->src, "src", &f.remote, reterr);
	if (r == 0)
		r = explain_address(q->dst, "dst", &f.local, reterr);
	if (r == 0 && q->dst.len == 0 && q->listener.len == 0)
		r = hb_err_set(reterr, -EINVAL,
			"say where the connection goes: dst (ADDRESS:PORT) or listener (its name)");
	if (r != 0) {
		hb_facts_fini(&f);
		return (r);
	}
	hello = hb_facts_hello_edit(&f);
	hello->sni = hb_arena_str(&f.arena, q->sni);
	hb_str_lower((char *)(uintptr_t)hello->sni.p, hello->sni.len);
	explain_alpn(&f, q->alpn);
	hello->transport_protocol = q->sni.len > 0 || q->alpn.len > 0 ? "tls" : "raw_buffer";
	hb_facts_tls_edit(&f)->principal = hb_arena_str(&f.arena, q->peer);
	f.authority = hb_arena_str(&f.arena, q->authority);
	e = hb_explain_new();
	hb_listeners_explain(q->listener, &f, e);
	(json ? hb_explain_json : hb_explain_text)(e, out);
	hb_explain_free(&e);
	hb_facts_fini(&f);
	return (0);
}

int
hb_cmd_explain(const struct hb_args *args)
{
	struct hb_explain_query q = { .listener = optional(args->listener),
		.sni = optional(args->sni),
		.alpn = optional(args->alpn),
		.src = optional(args->src),
		.dst = optional(args->dst),
		.peer = optional(args->peer),
		.authority = optional(args->authority) };
	struct hb_text out = { 0 };
	struct hb_err err;
	int exit_code = offline_setup(args, true);

	if (exit_code != HB_EXIT_OK)
		return (exit_code);
	if (hb_app_explain(&q, args->json != 0, &out, &err) != 0) {
		fprintf(stderr, "hbone: %s\n", err.text);
		return (HB_EXIT_USAGE);
	}
	fputs(out.p, stdout);
	hb_text_fini(&out);
	return (fflush(stdout) == 0 ? HB_EXIT_OK : HB_EXIT_RUNTIME);
}

int
hb_cmd_version(const struct hb_args *args)
{
	(void)args;
	printf("%s\n", hb_version);
	return (fflush(stdout) == 0 ? HB_EXIT_OK : HB_EXIT_RUNTIME);
}
