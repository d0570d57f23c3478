/* SPDX-License-Identifier: Apache-2.0 */
/* The ClientHello parser: whatever comes, and however it is cut, the answer is the same. */
#include <stdlib.h>
#include "filters/listener/tls_inspector/client_hello.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct answer {
	enum hb_hello_status status;
	char sni[HB_HELLO_SNI_MAX + 1];
	struct hb_text alpn;
	uint8_t n_alpn;
	bool ech;
};

static void
parse(const uint8_t *data, size_t size, size_t raw_max, size_t piece, struct answer *ret)
{
	struct hb_hello h;
	size_t n;

	hb_hello_init(&h, raw_max);
	memset(ret, 0, sizeof *ret);
	ret->status = HB_HELLO_MORE;
	while (size > 0 && ret->status == HB_HELLO_MORE) {
		/* A copy of exactly this size: reading behind it is seen. */
		uint8_t *copy = malloc(n = HB_MIN(size, piece));

		memcpy(copy, data, n);
		ret->status = hb_hello_feed(&h, copy, n);
		HB_ASSERT(h.raw <= raw_max);
		if (ret->status == HB_HELLO_DONE) {
			memcpy(ret->sni, h.sni.p == NULL ? "" : h.sni.p, h.sni.len);
			for (unsigned i = 0; i < h.n_alpn; i++)
				hb_text_add(&ret->alpn, h.alpn[i].p, h.alpn[i].len);
			ret->n_alpn = h.n_alpn;
			ret->ech = h.ech;
		}
		free(copy);
		data += n;
		size -= n;
	}
	hb_hello_fini(&h);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const size_t pieces[] = { 1, 7, 8, 1460 }, limits[] = { 512, HB_HELLO_RAW_MAX };
	struct answer whole, cut;

	for (size_t l = 0; l < HB_ARRAY_LEN(limits); l++) {
		parse(data, size, limits[l], size, &whole);
		for (size_t i = 0; i < HB_ARRAY_LEN(pieces); i++) {
			parse(data, size, limits[l], pieces[i], &cut);
			HB_ASSERT(cut.status == whole.status && cut.ech == whole.ech);
			HB_ASSERT(strcmp(cut.sni, whole.sni) == 0 && cut.n_alpn == whole.n_alpn);
			HB_ASSERT(hb_str_eq(hb_strn(cut.alpn.p, cut.alpn.len),
				hb_strn(whole.alpn.p, whole.alpn.len)));
			hb_text_fini(&cut.alpn);
		}
		hb_text_fini(&whole.alpn);
	}
	return (0);
}
