/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/identity/inspect.h: what is right and wrong with a certificate, its key, and the roots and
 * revocation lists beside it, for people. Any thread that owns nothing of these files.
 */
#ifndef HB_CORE_IDENTITY_INSPECT_H
#define HB_CORE_IDENTITY_INSPECT_H

#include "core/identity/cert.h"
#include "core/identity/search.h"

struct hb_inspection {
	unsigned magic;
#define HB_INSPECTION_MAGIC 0x1225ec70
	struct hb_cert_info **chain, **roots; /* owned; leaf first                                */
	size_t                n_chain, n_roots;
	bool                  key_read, key_matches;
	char                  key_kind[32];   /* "P-256", "RSA 2048"; "" = not read               */
	bool                  as_client, as_server; /* the chain verifies against the roots        */
	struct hb_errs        problems;       /* each says what is wrong and what to do           */
	struct hb_errs        warnings;       /* what works, and may surprise                     */
};

/* Reads what the paths name (NULL parts are left out). Never fails: what cannot be read is a
 * problem. Owned by the caller. */
struct hb_inspection *hb_inspect(const struct hb_identity_paths *, int64_t now_s);
void hb_inspection_free(struct hb_inspection **);

/* "2026-01-02T03:04:05Z". */
void hb_inspect_date(int64_t s, char ret[32]);

#endif
