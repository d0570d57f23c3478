/* SPDX-License-Identifier: Apache-2.0 */
/* hbone cert show, cert check. */
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include "core/app/cli.h"
#include "core/identity/inspect.h"
#include "core/identity/reload.h"

static bool
holds(const struct hb_text *t, const char *what)
{
	return (t->p != NULL && strstr(t->p, what) != NULL);
}

/* By what it holds: a key, a revocation list, a chain, then roots. */
static int
sort_file(const char *path, struct hb_identity_paths *p, struct hb_err *reterr)
{
	struct hb_text t;
	char **to;
	int r = hb_file_read(path, &t, reterr);

	if (r != 0)
		return (r);
	if (holds(&t, "PRIVATE KEY-----") && !holds(&t, "BEGIN CERTIFICATE-----"))
		to = &p->key;
	else if (!holds(&t, "BEGIN CERTIFICATE-----"))
		to = &p->crl;
	else
		to = p->chain == NULL ? &p->chain : &p->roots;
	hb_free(*to);
	*to = hb_strdup(path);
	/* One file may hold the certificate and its key. */
	if (to == &p->chain && p->key == NULL && holds(&t, "PRIVATE KEY-----"))
		p->key = hb_strdup(path);
	hb_text_fini(&t);
	return (0);
}

static int
find_paths(const struct hb_args *args, struct hb_identity_paths *ret, struct hb_err *reterr)
{
	struct stat st;
	int r = 0;

	memset(ret, 0, sizeof *ret);
	if (args->n_words == 0)
		return (hb_identity_search(NULL, ret, reterr));
	if (args->n_words == 1 && stat(args->words[0], &st) == 0 && S_ISDIR(st.st_mode))
		return (hb_identity_search(args->words[0], ret, reterr));
	for (size_t i = 0; i < args->n_words && r == 0; i++) {
		if (stat(args->words[i], &st) == 0 && S_ISDIR(st.st_mode))
			r = hb_err_set(reterr, -EISDIR,
				"%s is a directory: give one directory alone, or files",
				args->words[i]);
		else
			r = sort_file(args->words[i], ret, reterr);
	}
	return (r);
}

/* ------------------------------------------------------------------ text */

static const char *
san_name(enum hb_san_type type)
{
	switch (type) {
	case HB_SAN_EMAIL:
		return ("email");
	case HB_SAN_DNS:
		return ("DNS");
	case HB_SAN_URI:
		return ("URI");
	case HB_SAN_IP:
		return ("IP");
	}
	HB_WRONG("kind of name");
}

static void
text_cert(struct hb_text *t, const char *what, size_t number, const struct hb_cert_info *c,
	int64_t now_s)
{
	char from[32], to[32];
	int64_t left = c->not_after - now_s;

	hb_inspect_date(c->not_before, from);
	hb_inspect_date(c->not_after, to);
	hb_text_printf(t,
		"%s %zu\n  subject   %s\n  issuer    %s\n  serial    %s\n  sha256    %s\n", what,
		number, c->subject, c->issuer, c->serial, c->sha256);
	hb_text_printf(t, "  valid     %s to %s (%lld days and %lld hours %s)\n", from, to,
		(long long)((left < 0 ? -left : left) / 86400),
		(long long)((left < 0 ? -left : left) % 86400 / 3600), left < 0 ? "ago" : "left");
	if (c->spiffe_id != NULL)
		hb_text_printf(t, "  identity  %s\n", c->spiffe_id);
	for (size_t i = 0; i < c->n_san; i++)
		hb_text_printf(t, "  name      %s:%s\n", san_name(c->san[i].type), c->san[i].value);
}

static void
text_errs(struct hb_text *t, const char *grade, const struct hb_errs *errs)
{
	for (size_t i = 0; i < errs->n; i++)
		hb_text_printf(t, "%s: %s\n", grade, errs->v[i].text);
}

static void
text_verdict(struct hb_text *t, const struct hb_inspection *in)
{
	char date[32];

	text_errs(t, "wrong", &in->problems);
	text_errs(t, "warning", &in->warnings);
	if (hb_errs_any(&in->problems) || in->n_chain == 0)
		return;
	hb_inspect_date(in->chain[0]->not_after, date);
	hb_text_printf(t, "good: %s until %s%s%s\n",
		in->chain[0]->spiffe_id != NULL ? in->chain[0]->spiffe_id : in->chain[0]->subject,
		date, in->key_matches ? ", with its key" : "",
		in->as_client && in->as_server ? ", verified as client and server" : "");
}

static void
text_show(struct hb_text *t, const struct hb_identity_paths *p, const struct hb_inspection *in,
	int64_t now_s)
{
	hb_text_printf(t, "files: chain %s, key %s, roots %s, revocation %s\n",
		p->chain == NULL ? "-" : p->chain, p->key == NULL ? "-" : p->key,
		p->roots == NULL ? "-" : p->roots, p->crl == NULL ? "-" : p->crl);
	for (size_t i = 0; i < in->n_chain; i++)
		text_cert(t, "certificate", i + 1, in->chain[i], now_s);
	if (in->key_matches)
		hb_text_printf(t, "key\n  kind      %s\n", in->key_kind);
	for (size_t i = 0; i < in->n_roots; i++)
		text_cert(t, "root", i + 1, in->roots[i], now_s);
}

/* ------------------------------------------------------------------ JSON */

static void
json_text(struct hb_text *t, const char *name, const char *value)
{
	hb_text_printf(t, "\"%s\": ", name);
	if (value == NULL)
		hb_text_addz(t, "null");
	else
		hb_text_json(t, value, strlen(value));
}

static void
json_cert(struct hb_text *t, const struct hb_cert_info *c)
{
	const struct {
		const char *name, *value;
	} v[] = { { "subject", c->subject }, { "issuer", c->issuer }, { "serial", c->serial },
		{ "sha256", c->sha256 }, { "identity", c->spiffe_id } };
	char date[32];

	hb_text_addc(t, '{');
	for (size_t i = 0; i < HB_ARRAY_LEN(v); i++) {
		json_text(t, v[i].name, v[i].value);
		hb_text_addz(t, ", ");
	}
	hb_inspect_date(c->not_before, date);
	json_text(t, "not_before", date);
	hb_inspect_date(c->not_after, date);
	hb_text_addz(t, ", ");
	json_text(t, "not_after", date);
	hb_text_addz(t, ", \"names\": [");
	for (size_t i = 0; i < c->n_san; i++) {
		hb_text_addz(t, i == 0 ? "{" : ", {");
		json_text(t, "type", san_name(c->san[i].type));
		hb_text_addz(t, ", ");
		json_text(t, "value", c->san[i].value);
		hb_text_addc(t, '}');
	}
	hb_text_addz(t, "]}");
}

static void
json_certs(struct hb_text *t, const char *name, struct hb_cert_info *const *v, size_t n)
{
	hb_text_printf(t, " \"%s\": [", name);
	for (size_t i = 0; i < n; i++) {
		hb_text_addz(t, i == 0 ? "\n  " : ",\n  ");
		json_cert(t, v[i]);
	}
	hb_text_addz(t, "],\n");
}

static void
json_errs(struct hb_text *t, const char *name, const struct hb_errs *errs, const char *end)
{
	hb_text_printf(t, " \"%s\": [", name);
	for (size_t i = 0; i < errs->n; i++) {
		hb_text_addz(t, i == 0 ? "\n  " : ",\n  ");
		hb_text_json(t, errs->v[i].text, strlen(errs->v[i].text));
	}
	hb_text_printf(t, "]%s\n", end);
}

static void
json_show(struct hb_text *t, const struct hb_identity_paths *p, const struct hb_inspection *in)
{
	hb_text_printf(t, "{\n \"good\": %s,\n \"files\": {",
		hb_errs_any(&in->problems) ? "false" : "true");
	json_text(t, "chain", p->chain);
	hb_text_addz(t, ", ");
	json_text(t, "key", p->key);
	hb_text_addz(t, ", ");
	json_text(t, "roots", p->roots);
	hb_text_addz(t, ", ");
	json_text(t, "crl", p->crl);
	hb_text_printf(t, "},\n \"key\": {\"matches\": %s, ", in->key_matches ? "true" : "false");
	json_text(t, "kind", in->key_kind[0] == '\0' ? NULL : in->key_kind);
	hb_text_printf(t, "},\n \"verifies_as_client\": %s,\n \"verifies_as_server\": %s,\n",
		in->as_client ? "true" : "false", in->as_server ? "true" : "false");
	json_certs(t, "chain", in->chain, in->n_chain);
	json_certs(t, "roots", in->roots, in->n_roots);
	json_errs(t, "problems", &in->problems, ",");
	json_errs(t, "warnings", &in->warnings, "");
	hb_text_addz(t, "}\n");
}

/* ------------------------------------------------------------------ commands */

static int
cert_command(const struct hb_args *args, bool check)
{
	int64_t now_s = (int64_t)time(NULL);
	struct hb_identity_paths paths;
	struct hb_inspection *in;
	struct hb_text t = { 0 };
	struct hb_err err;
	int code = HB_EXIT_OK;

	if (find_paths(args, &paths, &err) != 0) {
		fprintf(stderr, "hbone: %s\n", err.text);
		hb_identity_paths_fini(&paths);
		return (HB_EXIT_USAGE);
	}
	in = hb_inspect(&paths, now_s);
	if (check && hb_errs_any(&in->problems))
		code = HB_EXIT_RUNTIME;
	if (args->json != 0) {
		json_show(&t, &paths, in);
	} else {
		if (!check)
			text_show(&t, &paths, in, now_s);
		text_verdict(&t, in);
	}
	if ((t.p != NULL && fputs(t.p, stdout) < 0) || fflush(stdout) != 0)
		code = HB_EXIT_RUNTIME;
	hb_text_fini(&t);
	hb_inspection_free(&in);
	hb_identity_paths_fini(&paths);
	return (code);
}

int
hb_cmd_cert_show(const struct hb_args *args)
{
	return (cert_command(args, false));
}

int
hb_cmd_cert_check(const struct hb_args *args)
{
	return (cert_command(args, true));
}
