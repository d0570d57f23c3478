/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/expiry.h"

#include "core/base/log.h"
#include "core/identity/info_priv.h"

#define DAY 86400

/* Occasions, the worst last; a bit each in hb_credential.warned. */
enum occasion { DAYS_30, LATE, DAYS_7, DAYS_1, ENDED, N_OCCASIONS };

static struct hb_list creds = { &creds, &creds };
static struct hb_list trusts = { &trusts, &trusts };
static uint64_t warnings;

void
hb_credential_serves(struct hb_credential *c, bool on)
{
	HB_CHECK(c, HB_CREDENTIAL_MAGIC);
	if (on && c->serves++ == 0) {
		hb_list_init(&c->serving);
		hb_list_add_tail(&creds, &c->serving);
	} else if (!on) {
		HB_ASSERT(c->serves > 0);
		if (--c->serves == 0)
			hb_list_del(&c->serving);
	}
}

void
hb_trust_serves(struct hb_trust *t, bool on)
{
	struct hb_identity__serving *s = hb_identity__trust_serving(t);

	if (on && s->n++ == 0) {
		hb_list_init(&s->node);
		hb_list_add_tail(&trusts, &s->node);
		s->trust = t;
	} else if (!on) {
		HB_ASSERT(s->n > 0);
		if (--s->n == 0)
			hb_list_del(&s->node);
	}
}

/* The chain's certificate that ends first. */
static const struct hb_cert_info *
first_to_end(const struct hb_credential *c)
{
	const struct hb_cert_info *first = c->info[0];

	for (size_t i = 1; i < c->n; i++)
		if (c->info[i]->not_after < first->not_after)
			first = c->info[i];
	return (first);
}

int64_t
hb_identity_first_expiry(void)
{
	int64_t first = INT64_MAX;
	struct hb_list *n;

	HB_LIST_FOREACH (n, &creds)
		first = HB_MIN(first,
			first_to_end(HB_LIST_ENTRY(n, struct hb_credential, serving))->not_after);
	return (first);
}

int64_t
hb_identity_days_left(int64_t now_s)
{
	int64_t end = hb_identity_first_expiry();

	if (end == INT64_MAX)
		return (UINT32_MAX);
	return (end <= now_s ? 0 : (end - now_s) / DAY);
}

size_t
hb_identity_expired(int64_t now_s)
{
	struct hb_list *n;
	size_t expired = 0;

	HB_LIST_FOREACH (n, &creds)
		expired +=
			first_to_end(HB_LIST_ENTRY(n, struct hb_credential, serving))->not_after <
			now_s;
	return (expired);
}

uint64_t
hb_identity_expiry_warnings(void)
{
	return (warnings);
}

/* Which occasions have come. A certificate of a day is no reason to warn of its last day. */
static unsigned
occasions_of(const struct hb_cert_info *c, int64_t now_s)
{
	static const int64_t days[N_OCCASIONS] = { [DAYS_30] = 30, [DAYS_7] = 7, [DAYS_1] = 1 };
	int64_t life = c->not_after - c->not_before, left = c->not_after - now_s;
	unsigned bits = 0;

	for (int i = 0; i < N_OCCASIONS; i++)
		if (days[i] != 0 && left <= days[i] * DAY && life > days[i] * DAY * 2)
			bits |= 1u << i;
	if (left < life / 5)
		bits |= 1u << LATE;
	if (left < 0)
		bits |= 1u << ENDED;
	return (bits);
}

static void
check_credential(struct hb_credential *c, int64_t now_s)
{
	const struct hb_cert_info *first = first_to_end(c);
	unsigned news = occasions_of(first, now_s) & ~c->warned;
	int64_t left = first->not_after - now_s;
	int at = N_OCCASIONS - 1;

	if (news == 0)
		return;
	while ((news & 1u << at) == 0)
		at--;
	c->warned |= news;
	warnings++;
	HB_LOG(TLS, WARN,
		at == ENDED ? "our certificate has expired: peers refuse it" :
			at == LATE ?
			      "our certificate is past 80 % of its life and was not replaced" :
			      "our certificate expires soon",
		"identity=%s subject=%s sha256=%s hours_left=%lld",
		c->info[0]->spiffe_id == NULL ? "-" : c->info[0]->spiffe_id, first->subject,
		first->sha256, (long long)(left / 3600));
}

static void
check_trust(struct hb_identity__serving *s, int64_t now_s)
{
	int64_t due = hb_trust_crl_due(s->trust);

	if (now_s <= due || now_s < s->warned_s + DAY)
		return;
	s->warned_s = now_s;
	warnings++;
	HB_LOG(TLS, WARN, "a revocation list is overdue: no peer of its authority is accepted",
		"hours_overdue=%lld", (long long)((now_s - due) / 3600));
}

void
hb_identity_check_expiry(int64_t now_s)
{
	struct hb_list *n;

	HB_LIST_FOREACH (n, &creds)
		check_credential(HB_LIST_ENTRY(n, struct hb_credential, serving), now_s);
	HB_LIST_FOREACH (n, &trusts)
		check_trust(HB_LIST_ENTRY(n, struct hb_identity__serving, node), now_s);
}
