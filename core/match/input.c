/* SPDX-License-Identifier: Apache-2.0 */
#include "core/match/matcher_priv.h"

#include <stdio.h>

#include "core/identity/identity.h"
#include "core/match/chain_priv.h"
#include "envoy/extensions/matching/common_inputs/network/v3/network_inputs.pb-c.h"
#include "envoy/extensions/matching/common_inputs/ssl/v3/ssl_inputs.pb-c.h"
#include "envoy/type/matcher/v3/metadata.pb-c.h"

typedef Envoy__Extensions__Matching__CommonInputs__Network__V3__FilterStateInput state_input_msg;
typedef Envoy__Extensions__Matching__CommonInputs__Network__V3__DynamicMetadataInput
	metadata_input_msg;

static const struct {
	const ProtobufCMessageDescriptor *desc;
	const char *text;
} inputs[HB_INPUT_MAX] = {
#define X(e, d, t) { &envoy__extensions__matching__common_inputs__##d##__descriptor, t },
	HB_INPUTS(X)
#undef X
};

/* Their segments go through hb_match__metadata_key. */
_Static_assert(
	offsetof(
		Envoy__Extensions__Matching__CommonInputs__Network__V3__DynamicMetadataInput__PathSegment,
		key) == offsetof(Envoy__Type__Matcher__V3__MetadataMatcher__PathSegment, key),
	"PathSegment.key");

static int
input_keys(struct hb_cfg *cfg, const void *msg, struct hb_input *in)
{
	if (in->kind == HB_INPUT_STATE) {
		const state_input_msg *m = msg;

		if (*m->key == '\0')
			return (hb_cfg_error(cfg, m, "key", -1, "must not be empty"));
		in->key = hb_strdup(m->key);
	} else if (in->kind == HB_INPUT_METADATA) {
		const metadata_input_msg *m = msg;

		in->key = hb_match__metadata_key(
			cfg, m, m->filter, m->n_path, (const void *const *)m->path);
		if (in->key == NULL)
			return (-EINVAL);
		in->ns = hb_strdup(m->filter);
	}
	return (0);
}

int
hb_match__input_compile(struct hb_cfg *cfg, const void *owner_msg, const char *field,
	const Xds__Core__V3__TypedExtensionConfig *msg, struct hb_input *ret)
{
	const ProtobufCMessage *m;

	if (msg == NULL)
		return (hb_cfg_error(cfg, owner_msg, field, -1,
			"is missing: name what is looked at, for example an input of @type "
			"type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3."
			"ServerNameInput"));
	m = hb_cfg_any(cfg, msg, "typed_config", -1, msg->typed_config);
	if (m == NULL)
		return (-EINVAL);
	for (unsigned i = 0; i < HB_INPUT_MAX; i++) {
		if (inputs[i].desc == m->descriptor) {
			ret->kind = (uint8_t)i;
			return (input_keys(cfg, m, ret));
		}
	}
	return (hb_cfg_error(cfg, msg, "typed_config", -1, "%s is not an input of a matcher",
		m->descriptor->name));
}

void
hb_match__input_fini(struct hb_input *in)
{
	hb_free(in->ns);
	hb_free(in->key);
	in->ns = in->key = NULL;
}

static bool
is_ip(const struct hb_addr *a)
{
	return (a->kind == HB_ADDR_V4 || a->kind == HB_ADDR_V6);
}

static const struct hb_addr *
input_addr(const struct hb_input *in, const struct hb_facts *f)
{
	return (in->kind == HB_INPUT_DST_IP || in->kind == HB_INPUT_DST_PORT ? &f->local :
			in->kind == HB_INPUT_DIRECT_IP ? hb_facts_direct_remote(f) :
							 &f->remote);
}

/* Appends s between quotes to what is joined in buf; false when it does not fit. */
static bool
join(char *buf, size_t *n, struct hb_str s, const char *quote)
{
	size_t comma = *n > 0, q = strlen(quote);

	if (s.len > HB_INPUT_BUF - *n - comma - 2 * q)
		return (false);
	if (comma)
		buf[(*n)++] = ',';
	memcpy(buf + *n, quote, q);
	if (s.len > 0)
		memcpy(buf + *n + q, s.p, s.len);
	memcpy(buf + *n + q + s.len, quote, q);
	*n += s.len + 2 * q;
	return (*n < HB_INPUT_BUF - 8);
}

static struct hb_str
get_protocols(const struct hb_facts *f, char *buf)
{
	size_t n = 0;

	for (unsigned i = 0; i < hb_facts_hello(f)->n_alpn; i++) {
		if (!join(buf, &n, hb_facts_hello(f)->alpn[i], "'"))
			return ((struct hb_str){ 0 });
	}
	return (n == 0 ? (struct hb_str){ 0 } : hb_strn(buf, n));
}

static struct hb_str
get_san(const struct hb_facts *f, int type, char *buf)
{
	const struct hb_facts *id = hb_facts_identity(f);
	struct hb_str name = { 0 };
	size_t n = 0;

	if (id != NULL)
		name = hb_match__identity_san(id, type, 0);
	if (name.p == NULL || hb_match__identity_san(id, type, 1).p == NULL)
		return (name);
	for (size_t i = 0; (name = hb_match__identity_san(id, type, i)).p != NULL; i++) {
		if (!join(buf, &n, name, ""))
			return ((struct hb_str){ 0 });
	}
	return (hb_strn(buf, n));
}

static struct hb_str
get_subject(const struct hb_facts *f)
{
	const struct hb_facts *id = hb_facts_identity(f);
	const char *subject = id == NULL ? "" : hb_match__identity_subject(id);

	return (*subject == '\0' ? (struct hb_str){ 0 } : hb_str(subject));
}

struct hb_str
hb_match__input_get(const struct hb_input *in, const struct hb_facts *f, char buf[HB_INPUT_BUF])
{
	const struct hb_addr *a = input_addr(in, f);
	int n;

	switch (in->kind) {
	case HB_INPUT_DST_IP:
	case HB_INPUT_SOURCE_IP:
	case HB_INPUT_DIRECT_IP:
		if (!is_ip(a))
			return ((struct hb_str){ 0 });
		n = hb_addr_format_ip(a, buf, HB_INPUT_BUF);
		return (hb_strn(buf, (size_t)n));
	case HB_INPUT_DST_PORT:
	case HB_INPUT_SOURCE_PORT:
		if (!is_ip(a))
			return ((struct hb_str){ 0 });
		n = snprintf(buf, HB_INPUT_BUF, "%u", a->port);
		return (hb_strn(buf, (size_t)n));
	case HB_INPUT_SOURCE_TYPE:
		return (hb_chain__is_local(f) ? HB_STR("local") : (struct hb_str){ 0 });
	case HB_INPUT_SNI:
		return (hb_facts_hello(f)->sni.len == 0 ? (struct hb_str){ 0 } :
							  hb_facts_hello(f)->sni);
	case HB_INPUT_TRANSPORT:
		return (hb_chain__transport(f));
	case HB_INPUT_ALPN:
		return (get_protocols(f, buf));
	case HB_INPUT_STATE:
		return (hb_facts_state(f, hb_str(in->key)));
	case HB_INPUT_METADATA:
		return (hb_facts_metadata(f, hb_str(in->ns), hb_str(in->key)));
	case HB_INPUT_URI_SAN:
		return (get_san(f, HB_SAN_URI, buf));
	case HB_INPUT_DNS_SAN:
		return (get_san(f, HB_SAN_DNS, buf));
	case HB_INPUT_SUBJECT:
		return (get_subject(f));
	default:
		HB_WRONG("no such input");
	}
}

bool
hb_match__input_ip(const struct hb_input *in, const struct hb_facts *f, struct hb_addr *ret)
{
	char buf[HB_INPUT_BUF];
	struct hb_str s;

	if (in->kind == HB_INPUT_DST_IP || in->kind == HB_INPUT_SOURCE_IP ||
		in->kind == HB_INPUT_DIRECT_IP) {
		*ret = *input_addr(in, f);
		return (is_ip(ret));
	}
	s = hb_match__input_get(in, f, buf);
	return (s.p != NULL && hb_addr_parse_ip(s, ret));
}

void
hb_match__input_text(struct hb_text *t, const struct hb_input *in)
{
	hb_text_addz(t, inputs[in->kind].text);
	if (in->ns != NULL)
		hb_text_printf(t, " %s", in->ns);
	if (in->key != NULL)
		hb_text_printf(t, " %s", in->key);
}
