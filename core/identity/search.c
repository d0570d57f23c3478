/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/search.h"

#include <sys/stat.h>

/* Names that belong together: a key is never taken from one tool and its certificate from another. */
static const struct {
	const char *chain, *key, *roots[3];
} names[] = {
	{ "cert-chain.pem", "key.pem", { "root-cert.pem" } },
	{ "certificates.pem", "private_key.pem", { "ca_certificates.pem", "ca-certificates.crt" } },
	{ "tls.crt", "tls.key", { "ca.crt" } },
	{ "cert.pem", "key.pem", { "root-cert.pem", "ca.pem" } },
	{ "svid.pem", "svid_key.pem", { "svid_bundle.pem" } },
};

static const char *const places[] = { ".", "/var/run/secrets/workload-spiffe-credentials",
	"/etc/certs", "/var/run/secrets/istio" };

static const char last_roots[] = "./var/run/secrets/istio/root-cert.pem";

static bool
is_file(const char *path)
{
	struct stat st;

	return (stat(path, &st) == 0 && S_ISREG(st.st_mode));
}

/* NULL when there is no such file. */
static char *
in_dir(const char *dir, const char *name)
{
	char *path = strcmp(dir, ".") == 0 ?
		hb_strdup(name) :
		hb_asprintf("%s%s%s", dir, dir[strlen(dir) - 1] == '/' ? "" : "/", name);

	if (is_file(path))
		return (path);
	hb_free(path);
	return (NULL);
}

static bool
look_in(const char *dir, struct hb_identity_paths *ret)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(names); i++) {
		ret->chain = in_dir(dir, names[i].chain);
		ret->key = in_dir(dir, names[i].key);
		if (ret->chain == NULL || ret->key == NULL) {
			hb_identity_paths_fini(ret);
			continue;
		}
		for (size_t k = 0; k < HB_ARRAY_LEN(names[i].roots); k++)
			if (ret->roots == NULL && names[i].roots[k] != NULL)
				ret->roots = in_dir(dir, names[i].roots[k]);
		ret->crl = in_dir(dir, "ca-crl.pem");
		return (true);
	}
	return (false);
}

int
hb_identity_search(const char *dir, struct hb_identity_paths *ret, struct hb_err *reterr)
{
	memset(ret, 0, sizeof *ret);
	if (dir != NULL && *dir != '\0')
		return (look_in(dir, ret) ?
				0 :
				hb_err_set(reterr, -ENOENT,
					"%s holds no certificate with its key: looked for cert-chain.pem and key.pem, "
					"certificates.pem and private_key.pem, tls.crt and tls.key, cert.pem and "
					"key.pem, svid.pem and svid_key.pem",
					dir));
	for (size_t i = 0; i < HB_ARRAY_LEN(places); i++) {
		if (!look_in(places[i], ret))
			continue;
		if (ret->roots == NULL && is_file(last_roots))
			ret->roots = hb_strdup(last_roots);
		return (0);
	}
	return (hb_err_set(reterr, -ENOENT,
		"no certificate with its key in the working directory, %s, "
		"%s or %s: give a directory or files",
		places[1], places[2], places[3]));
}

void
hb_identity_paths_fini(struct hb_identity_paths *p)
{
	hb_free(p->chain);
	hb_free(p->key);
	hb_free(p->roots);
	hb_free(p->crl);
	memset(p, 0, sizeof *p);
}
