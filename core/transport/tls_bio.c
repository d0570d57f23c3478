/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tls_record.cc cannot do: SSL_read and SSL_write take their bytes from the slices that the lower
 * transport delivered, and put them into scratch memory, so neither side has a buffer of its own.
 */
#include <openssl/bio.h>
#include "core/transport/tcp.h"
#include "core/transport/tls_priv.h"

static struct hb_tls *
tls_of(BIO *bio)
{
	struct hb_tls *t = BIO_get_data(bio);

	HB_CHECK(&t->base, HB_TRANSPORT_MAGIC);
	return (t);
}

static int
bio_read(BIO *bio, char *dst, int cap)
{
	struct hb_tls *t = tls_of(bio);
	size_t n;

	BIO_clear_retry_flags(bio);
	if (cap <= 0)
		return (0);
	if (t->in.len == 0) {
		if (hb_tls_batch_records == 1 && t->lower != NULL)
			hb_tcp_read_at_most(t->lower, (uint32_t)cap);
		BIO_set_retry_read(bio);
		return (-1);
	}
	n = hb_buf_copyout(&t->in, 0, dst, (size_t)cap);
	hb_buf_drain(&t->in, n);
	return ((int)n);
}

static int
bio_write(BIO *bio, const char *p, int n)
{
	struct hb_tls *t = tls_of(bio);

	BIO_clear_retry_flags(bio);
	if (n <= 0)
		return (0);
	/* Once something went to `out` the rest must follow it there until both are flushed. */
	if (t->enc != NULL && t->out.len == 0 && t->enc_len + (size_t)n <= HB_SCRATCH_SIZE) {
		memcpy(t->enc + t->enc_len, p, (size_t)n);
		t->enc_len += (uint32_t)n;
	} else {
		hb_buf_add(&t->out, p, (size_t)n);
	}
	return (n);
}

static long
bio_ctrl(BIO *bio, int cmd, long num, void *ptr)
{
	(void)bio;
	(void)num;
	(void)ptr;
	return (cmd == BIO_CTRL_FLUSH ? 1 : 0);
}

static int
bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return (1);
}

static const BIO_METHOD method = {
	.type = BIO_TYPE_SOURCE_SINK,
	.name = "transport",
	.bwrite = bio_write,
	.bread = bio_read,
	.ctrl = bio_ctrl,
	.create = bio_create,
};

struct hb_tls *
hb_tls__of(const SSL *ssl)
{
	return (tls_of(SSL_get_rbio(ssl)));
}

BIO *
hb_tls__bio(struct hb_tls *t)
{
	BIO *bio = BIO_new(&method);

	HB_ASSERT(bio != NULL);
	BIO_set_data(bio, t);
	return (bio);
}
