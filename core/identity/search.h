/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/identity/search.h: where a workload's certificate, key and roots lie when nobody says so.
 *
 * The first place with a certificate and its key wins:
 *   the directory that is given (any of the names below in it)
 *   key.pem, cert-chain.pem                in the working directory
 *   /var/run/secrets/workload-spiffe-credentials/{private_key.pem,certificates.pem,
 *       ca_certificates.pem}               mesh certificates of a cloud's nodes
 *   /etc/certs/{key.pem,cert-chain.pem,root-cert.pem}
 *   /var/run/secrets/istio/                the same names, and Kubernetes' tls.key, tls.crt, ca.crt
 * Roots are those beside them, else ./var/run/secrets/istio/root-cert.pem.
 */
#ifndef HB_CORE_IDENTITY_SEARCH_H
#define HB_CORE_IDENTITY_SEARCH_H

#include "core/base/err.h"
#include "core/base/str.h"

struct hb_identity_paths { /* owned; NULL = there is none */
	char *chain, *key, *roots, *crl;
};

/*
 * `dir` NULL or "" = the usual places. 0 when a certificate and a key were found (roots may still
 * be NULL); -ENOENT names the places that were looked at.
 */
int  hb_identity_search(const char *dir, struct hb_identity_paths *ret, struct hb_err *reterr);
void hb_identity_paths_fini(struct hb_identity_paths *);

#endif
