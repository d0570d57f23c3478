/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/identity.h"
#include "core/match/match_priv.h"

struct hb_str
hb_match__identity_san(const struct hb_facts *f, int san_type, size_t i)
{
	const struct hb_cert_info *c = hb_facts_tls(f)->peer_cert;

	if (c == NULL)
		return (san_type == HB_SAN_URI && i == 0 && hb_facts_tls(f)->principal.len > 0 ?
				hb_facts_tls(f)->principal :
				(struct hb_str){ 0 });
	for (size_t k = 0; k < c->n_san; k++) {
		if ((int)c->san[k].type == san_type && i-- == 0)
			return (hb_str(c->san[k].value));
	}
	return ((struct hb_str){ 0 });
}

const char *
hb_match__identity_subject(const struct hb_facts *f)
{
	const struct hb_cert_info *c = hb_facts_tls(f)->peer_cert;

	return (c == NULL || c->subject == NULL ? "" : c->subject);
}
