/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/filters/transport/tls/rig.h: both sides of TLS, made from configuration and connected over
 * loopback. The control thread's loop is turned by the same thread, with a fake clock.
 */
#ifndef HB_TEST_FILTERS_TRANSPORT_TLS_RIG_H
#define HB_TEST_FILTERS_TRANSPORT_TLS_RIG_H

#include "core/filter/transport_socket.h"
#include "core/transport/tls.h"
#include "test/support/certs/certs.h"
#include "test/support/harness.h"

void rig_init(void);
void rig_fini(void);

/* `common` is the YAML of a CommonTlsContext (flow style); a server requires a client certificate.
 * Fails the test with the error's text. */
struct hb_transport_socket *rig_server(const char *common);
struct hb_transport_socket *rig_client(const char *common);
/* The text of the first error instead; borrowed until the next call. */
const char *rig_server_error(const char *common);

/* Inline parts of a CommonTlsContext, to be freed: "tls_certificates: [...]", and
 * "validation_context: {trusted_ca: ..., MORE}". */
char *rig_certs(const struct hb_test_cert *);
char *rig_trust(const struct hb_test_cert *root, const char *more);

/* One connection; text is what the TLS transport says of a failure. */
struct rig_conn {
	struct hbt_sink client, server;
	char client_text[512], server_text[512];
	struct hb_transport *watched[2]; /* client, server */
};
/* Until both are secured, or both are closed. */
void rig_connect(struct rig_conn *, const struct hb_transport_socket *client,
    const struct hb_transport_socket *server);
void rig_conn_fini(struct rig_conn *);
/* Serial number of the certificate that the client has seen. */
const char *rig_serial_seen(const struct rig_conn *);
const char *rig_serial(const struct hb_test_cert *);

/* Turns the control loop; its clock goes on. */
void rig_control(uint64_t ms);
/* Turns the control loop until the generation is past `from`, for at most 3 s of its clock. */
void rig_until_generation(const struct hb_transport_socket *, uint64_t from);
/* Value of a counter or gauge by its full name. */
int64_t rig_stat(const char *name);

#endif
