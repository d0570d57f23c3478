/* SPDX-License-Identifier: Apache-2.0 */
/* A certificate of a peer: what it says, and a chain of it twice against a root that never issued it. */
#include <time.h>
#include <openssl/pool.h>
#include "core/identity/cert.h"
#include "core/identity/issue.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

static struct hb_trust *
trust(void)
{
	static struct hb_trust *t;
	struct hb_trust_options o = { 0 };
	struct hb_issued root = { 0 };

	if (t != NULL)
		return (t);
	HB_ASSERT(hb_issue_root("cluster.local", 10, (int64_t)time(NULL), &root, NULL) == 0);
	o.pem = hb_strn(root.cert.p, root.cert.len);
	HB_ASSERT(hb_trust_new(&o, &t, NULL) == 0);
	hb_issued_fini(&root);
	return (t);
}

static void
check(const struct hb_cert_info *info)
{
	struct hb_spiffe s;
	size_t i, uris = 0;

	HB_ASSERT(info->n_san <= HB_SANS_MAX && strlen(info->sha256) == 64);
	for (i = 0; i < info->n_san; i++) {
		HB_ASSERT(info->san[i].value[0] != '\0');
		for (const char *z = info->san[i].value; *z != '\0'; z++)
			HB_ASSERT(*z > 0x20 && *z < 0x7f);
		uris += info->san[i].type == HB_SAN_URI;
	}
	if (info->spiffe_id != NULL)
		HB_ASSERT(uris == 1 && hb_spiffe_parse(hb_str(info->spiffe_id), &s, NULL) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
	CRYPTO_BUFFER *der = CRYPTO_BUFFER_new(p, n, NULL), *chain[2] = { der, der };
	struct hb_cert_info *info = NULL;
	struct hb_verdict v;
	struct hb_err err;
	uint8_t digest[32];

	HB_ASSERT(der != NULL);
	if (hb_cert_info_new(der, &info, &err) == 0) {
		check(info);
		HB_ASSERT(hb_cert_spki_sha256(der, digest));
	} else {
		HB_ASSERT(err.text[0] != '\0');
	}
	hb_cert_info_free(&info);
	v = hb_trust_verify(trust(), chain, 2, HB_PURPOSE_CLIENT, (int64_t)time(NULL));
	HB_ASSERT(v.error != 0 && v.text != NULL);
	CRYPTO_BUFFER_free(der);
	return (0);
}
