/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Credentials and trust by content: a thousand clusters with the same files have one certificate
 * and one bundle in memory, and when the files change they are parsed once.
 */
#include "core/identity/info_priv.h"

#include <stdio.h>
#include <openssl/sha.h>

static struct hb_map *shared; /* name -> object; NULL = empty */

static void
add_text(SHA256_CTX *sha, struct hb_str s)
{
	uint64_t n = s.len;

	SHA256_Update(sha, &n, sizeof n);
	if (n > 0)
		SHA256_Update(sha, s.p, s.len);
}

/* A letter for the kind, then the digest in hex. */
static char *
name_of(char kind, const uint8_t digest[SHA256_DIGEST_LENGTH])
{
	char *name = hb_malloc(2 * SHA256_DIGEST_LENGTH + 2);

	name[0] = kind;
	for (size_t i = 0; i < SHA256_DIGEST_LENGTH; i++)
		(void)snprintf(name + 1 + 2 * i, 3, "%02x", digest[i]);
	return (name);
}

static void *
find(const char *name)
{
	return (shared == NULL ? NULL : hb_map_get(shared, hb_str(name)));
}

static void
share(const char *name, void *obj)
{
	if (shared == NULL)
		shared = hb_map_new();
	HB_ASSERT(hb_map_put(shared, hb_str(name), obj) == NULL);
}

void
hb_identity__unshare(char **name)
{
	if (*name == NULL)
		return;
	HB_ASSERT(hb_map_del(shared, hb_str(*name)) != NULL);
	hb_free(*name);
	*name = NULL;
	if (hb_map_count(shared) == 0)
		hb_map_free(&shared);
}

int
hb_credential_shared(
	const struct hb_credential_pem *pem, struct hb_credential **ret, struct hb_err *reterr)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	struct hb_credential *c;
	SHA256_CTX sha;
	char *name;
	int r;

	SHA256_Init(&sha);
	add_text(&sha, pem->chain);
	add_text(&sha, pem->key);
	add_text(&sha, pem->password);
	SHA256_Final(digest, &sha);
	name = name_of('c', digest);
	c = find(name);
	if (c != NULL) {
		hb_free(name);
		*ret = hb_credential_ref(c);
		return (0);
	}
	r = hb_credential_new(pem, &c, reterr);
	if (r != 0) {
		hb_free(name);
		return (r);
	}
	c->shared_as = name;
	share(name, c);
	*ret = c;
	return (0);
}

void
hb_identity__trust_digest(const struct hb_trust_options *o, uint8_t ret[SHA256_DIGEST_LENGTH])
{
	uint32_t flags[3] = { o->crl_leaf_only, o->allow_expired, o->max_depth };
	SHA256_CTX sha;

	SHA256_Init(&sha);
	add_text(&sha, o->pem);
	add_text(&sha, o->crl_pem);
	SHA256_Update(&sha, flags, sizeof flags);
	SHA256_Final(ret, &sha);
}

int
hb_trust_shared(const struct hb_trust_options *o, struct hb_trust **ret, struct hb_err *reterr)
{
	uint8_t digest[SHA256_DIGEST_LENGTH];
	struct hb_trust *t;
	char *name;
	int r;

	hb_identity__trust_digest(o, digest);
	name = name_of('t', digest);
	t = find(name);
	if (t != NULL) {
		hb_free(name);
		*ret = hb_trust_ref(t);
		return (0);
	}
	r = hb_trust_new(o, &t, reterr);
	if (r != 0) {
		hb_free(name);
		return (r);
	}
	*hb_identity__trust_name(t) = name;
	share(name, t);
	*ret = t;
	return (0);
}
