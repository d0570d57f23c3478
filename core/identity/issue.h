/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/identity/issue.h: a certificate authority for tests and demonstrations. P-256 keys, X.509 v3
 * with the extensions that SPIFFE asks for (X509-SVID sections 3 and 4). Any thread.
 */
#ifndef HB_CORE_IDENTITY_ISSUE_H
#define HB_CORE_IDENTITY_ISSUE_H

#include "core/base/err.h"
#include "core/base/str.h"

#define HB_ISSUE_DAYS_MAX 3650u
#define HB_ISSUE_DNS_MAX  32u

struct hb_issued { /* PEM, owned; hb_issued_fini wipes the key */
	struct hb_text cert, key;
};
void hb_issued_fini(struct hb_issued *);

/* A root that signs itself, valid from five minutes ago for `days`. The trust domain becomes its
 * URI SAN and part of its name. */
int hb_issue_root(const char *trust_domain, unsigned days, int64_t now_s, struct hb_issued *ret,
    struct hb_err *reterr);

struct hb_issue {
	const char        *id;  /* SPIFFE id */
	const char *const *dns; /* DNS names beside it */
	size_t             n_dns;
	int64_t            life_s; /* from now; must end before the root */
};
/* A workload's certificate for client and server; ret->cert is the leaf alone, the chain below a
 * root. */
int hb_issue_leaf(const struct hb_issue *, struct hb_str root_pem, struct hb_str root_key_pem,
    int64_t now_s, struct hb_issued *ret, struct hb_err *reterr);

#endif
