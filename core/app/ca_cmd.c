/* SPDX-License-Identifier: Apache-2.0 */
/* hbone ca init, ca issue: an authority for tests and demonstrations. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "core/app/cli.h"
#include "core/identity/identity.h"
#include "core/identity/issue.h"
#include "core/identity/reload.h"

#define ROOT_DAYS 365u
#define LEAF_DAYS 30u
#define DAY       86400

static int
fail(const struct hb_err *err, int code)
{
	fprintf(stderr, "hbone: %s\n", err->text);
	return (code);
}

static void
warn(void)
{
	fputs("WARNING: this is an authority for TESTS. Its key lies unencrypted in a file: who can read it\n"
	      "WARNING: can make certificates for any identity. Do not use it in production.\n",
		stderr);
}

/* ------------------------------------------------------------------ files */

static int
write_all(int fd, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, n);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return (-errno);
		p += w;
		n -= (size_t)w;
	}
	return (0);
}

/* Replaces the file as a whole, so that nobody reads half of it. */
static int
put_file(const char *dir, const char *name, const struct hb_text *t, mode_t mode,
	struct hb_err *reterr)
{
	char *path = hb_asprintf("%s/%s", dir, name), *new = hb_asprintf("%s/.%s.new", dir, name);
	int fd, r = 0;

	(void)unlink(new);
	fd = open(new, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (fd < 0)
		r = -errno;
	if (r == 0)
		r = write_all(fd, t->p, t->len);
	if (fd >= 0 && close(fd) != 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(new, path) != 0)
		r = -errno;
	if (r != 0) {
		(void)unlink(new);
		(void)hb_err_set(reterr, r, "%s cannot be written: %s", path, strerror(-r));
	}
	hb_free(path);
	hb_free(new);
	return (r);
}

static int
make_dirs(const char *path, struct hb_err *reterr)
{
	char *part = hb_strdup(path);
	int r = 0;

	for (size_t i = 1; r == 0 && i <= strlen(path); i++) {
		if (part[i] != '/' && part[i] != '\0')
			continue;
		part[i] = '\0';
		if (mkdir(part, 0755) != 0 && errno != EEXIST)
			r = hb_err_set(
				reterr, -errno, "%s cannot be made: %s", part, strerror(errno));
		part[i] = path[i];
	}
	hb_free(part);
	return (r);
}

static int
get_file(const char *dir, const char *name, struct hb_text *ret, struct hb_err *reterr)
{
	char *path = hb_asprintf("%s/%s", dir, name);
	int r = hb_file_read(path, ret, reterr);

	hb_free(path);
	return (r);
}

/* ------------------------------------------------------------------ init */

static int
check_args(const struct hb_args *args, const char *command)
{
	if (args->n_words != 1) {
		fprintf(stderr, "hbone: which folder? hbone %s DIR\n", command);
		return (-EINVAL);
	}
	if (args->days_set && args->days == 0) {
		fprintf(stderr, "hbone: --days 0 would be over at once: give 1 or more\n");
		return (-EINVAL);
	}
	return (0);
}

int
hb_cmd_ca_init(const struct hb_args *args)
{
	const char *dir = args->words[0], *domain = args->trust_domain;
	struct hb_issued root = { 0 };
	struct hb_err err;
	char *path;
	int r;

	if (check_args(args, "ca init") != 0)
		return (HB_EXIT_USAGE);
	path = hb_asprintf("%s/ca-key.pem", dir);
	r = access(path, F_OK) == 0 ?
		hb_err_set(&err, -EEXIST,
			"%s is there already: certificates of that "
			"authority would become worthless; remove it if that is meant",
			path) :
		0;
	hb_free(path);
	if (r != 0)
		return (fail(&err, HB_EXIT_USAGE));
	if (hb_issue_root(domain == NULL ? "cluster.local" : domain,
		    !args->days_set ? ROOT_DAYS : (unsigned)args->days, (int64_t)time(NULL), &root,
		    &err) != 0)
		return (fail(&err, HB_EXIT_USAGE));
	r = make_dirs(dir, &err);
	if (r == 0)
		r = put_file(dir, "ca-key.pem", &root.key, 0600, &err);
	if (r == 0)
		r = put_file(dir, "ca.pem", &root.cert, 0644, &err);
	hb_issued_fini(&root);
	if (r != 0)
		return (fail(&err, HB_EXIT_RUNTIME));
	warn();
	printf("%s/ca.pem\n%s/ca-key.pem\n", dir, dir);
	return (fflush(stdout) == 0 ? HB_EXIT_OK : HB_EXIT_RUNTIME);
}

/* ------------------------------------------------------------------ issue */

/* NULL when the identity has no namespace and account, and no folder is given. */
static char *
out_dir(const struct hb_args *args)
{
	struct hb_spiffe id;

	if (args->out != NULL)
		return (hb_strdup(args->out));
	if (hb_spiffe_parse(hb_str(args->id), &id, NULL) != 0 || id.ns.len == 0)
		return (NULL);
	return (hb_asprintf("%s/%.*s/%.*s", args->words[0], HB_STR_FMT(id.ns), HB_STR_FMT(id.sa)));
}

/* Splits in place; false when there are too many. */
static bool
split(char *list, const char *v[HB_ISSUE_DNS_MAX], size_t *ret_n)
{
	char *save = NULL;

	*ret_n = 0;
	for (char *p = strtok_r(list, ",", &save); p != NULL; p = strtok_r(NULL, ",", &save)) {
		if (*ret_n == HB_ISSUE_DNS_MAX)
			return (false);
		v[(*ret_n)++] = p;
	}
	return (true);
}

static int
sign(const struct hb_args *args, struct hb_text *root, struct hb_issued *ret, struct hb_err *reterr)
{
	const char *dns[HB_ISSUE_DNS_MAX];
	struct hb_issue o = { .id = args->id,
		.dns = dns,
		.life_s = (int64_t)(!args->days_set ? LEAF_DAYS : args->days) * DAY };
	char *list = hb_strdup(args->dns == NULL ? "" : args->dns);
	struct hb_issued ca = { 0 }; /* its key, to be wiped */
	int r = get_file(args->words[0], "ca.pem", root, reterr);

	if (r == 0)
		r = get_file(args->words[0], "ca-key.pem", &ca.key, reterr);
	if (r == 0 && !split(list, dns, &o.n_dns))
		r = hb_err_set(reterr, -EINVAL, "at most %u names in --dns", HB_ISSUE_DNS_MAX);
	if (r == 0)
		r = hb_issue_leaf(&o, hb_strn(root->p, root->len), hb_strn(ca.key.p, ca.key.len),
			(int64_t)time(NULL), ret, reterr);
	hb_issued_fini(&ca);
	hb_free(list);
	return (r);
}

static int
write_leaf(const char *dir, const struct hb_issued *leaf, const struct hb_text *root,
	struct hb_err *reterr)
{
	int r = make_dirs(dir, reterr);

	if (r == 0)
		r = put_file(dir, "root-cert.pem", root, 0644, reterr);
	if (r == 0)
		r = put_file(dir, "key.pem", &leaf->key, 0600, reterr);
	if (r == 0)
		r = put_file(dir, "cert-chain.pem", &leaf->cert, 0644, reterr);
	return (r);
}

int
hb_cmd_ca_issue(const struct hb_args *args)
{
	struct hb_issued leaf = { 0 };
	struct hb_text root = { 0 };
	struct hb_err err;
	char *dir;
	int code = HB_EXIT_OK;

	if (check_args(args, "ca issue") != 0)
		return (HB_EXIT_USAGE);
	if (args->id == NULL) {
		fprintf(stderr,
			"hbone: for whom? give --id spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT\n");
		return (HB_EXIT_USAGE);
	}
	if (sign(args, &root, &leaf, &err) != 0) {
		hb_text_fini(&root);
		return (fail(&err, HB_EXIT_USAGE));
	}
	dir = out_dir(args);
	if (dir == NULL) {
		fprintf(stderr,
			"hbone: where to? this identity has no namespace and account, give --out DIR\n");
		code = HB_EXIT_USAGE;
	} else if (write_leaf(dir, &leaf, &root, &err) != 0) {
		code = fail(&err, HB_EXIT_RUNTIME);
	} else {
		warn();
		printf("%s\n", dir);
		code = fflush(stdout) == 0 ? HB_EXIT_OK : HB_EXIT_RUNTIME;
	}
	hb_free(dir);
	hb_issued_fini(&leaf);
	hb_text_fini(&root);
	return (code);
}
