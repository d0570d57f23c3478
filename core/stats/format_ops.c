/* SPDX-License-Identifier: Apache-2.0 */
/* The values of format operators. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "core/identity/identity.h"
#include "core/stats/format_priv.h"
#include "envoy/data/accesslog/v3/accesslog.pb-c.h"

#define OP(fn) static bool fn(const struct format_op *op, const struct hb_log_entry *e, struct hb_text *t)

static bool
put(struct hb_text *t, struct hb_str s)
{
	hb_text_add(t, s.p, s.len);
	return (s.len > 0);
}

static bool
putz(struct hb_text *t, const char *z)
{
	return (put(t, hb_str(z)));
}

static bool
number(struct hb_text *t, uint64_t n)
{
	hb_text_printf(t, "%llu", (unsigned long long)n);
	return (true);
}

static bool
address(struct hb_text *t, const struct hb_addr *a, bool with_port)
{
	char buf[HB_ADDR_TEXT_MAX];

	if (a == NULL || a->kind == HB_ADDR_NONE)
		return (false);
	if (with_port)
		hb_addr_format(a, buf, sizeof buf);
	else
		hb_addr_format_ip(a, buf, sizeof buf);
	return (putz(t, buf));
}

static bool
port(struct hb_text *t, const struct hb_addr *a)
{
	if (a->kind != HB_ADDR_V4 && a->kind != HB_ADDR_V6)
		return (false);
	return (number(t, a->port));
}

/* %f and %1f … %9f are fractions of a second, which strftime does not know. */
static bool
put_time(struct hb_text *t, const char *fmt, int64_t us)
{
	time_t s = (time_t)(us / 1000000);
	char spec[8], out[64];
	struct tm tm;

	gmtime_r(&s, &tm);
	for (const char *p = fmt; *p != '\0'; p++) {
		if (*p != '%') {
			hb_text_addc(t, *p);
			continue;
		}
		if (p[1] == 's') {
			hb_text_printf(t, "%lld", (long long)s);
			p++;
		} else if (p[1] == 'f' || (p[1] >= '1' && p[1] <= '9' && p[2] == 'f')) {
			int digits = p[1] == 'f' ? 9 : p[1] - '0';

			snprintf(out, sizeof out, "%06lld000", (long long)(us % 1000000));
			hb_text_add(t, out, (size_t)digits);
			p += p[1] == 'f' ? 1 : 2;
		} else if (p[1] != '\0') {
			snprintf(spec, sizeof spec, "%%%c", p[1]);
			hb_text_add(t, out, strftime(out, sizeof out, spec, &tm));
			p++;
		}
	}
	return (true);
}

OP(op_start_time)
{
	return (put_time(t, op->arg != NULL && *op->arg != '\0' ? op->arg : "%Y-%m-%dT%H:%M:%S.%3fZ",
	    e->start_us));
}

OP(op_bytes_received) { return (number(t, e->bytes_received)); }
OP(op_bytes_sent) { return (number(t, e->bytes_sent)); }
OP(op_upstream_sent) { return (number(t, e->upstream_bytes_sent)); }
OP(op_upstream_received) { return (number(t, e->upstream_bytes_received)); }
OP(op_duration) { return (number(t, e->duration_ms)); }
OP(op_connection_id) { return (number(t, e->conn_id)); }
OP(op_response_code) { return (number(t, e->response_code)); }
OP(op_attempts) { return (number(t, e->attempts)); }
OP(op_connect_ms) { return (e->attempts > 0 && number(t, e->connect_ms)); }

OP(op_flags)
{
	const char *flag = hb_close_info(e->reason)->flag;

	return (strcmp(flag, "-") != 0 && putz(t, flag));
}

OP(op_close_reason) { return (putz(t, hb_close_info(e->reason)->counter)); }

OP(op_detail)
{
	const struct hb_close_info *info = hb_close_info(e->reason);

	if (e->detail.len > 0)
		return (put(t, e->detail));
	return (strcmp(info->detail, "-") != 0 && putz(t, info->detail));
}

OP(op_log_type)
{
	switch (e->log_type) {
	case ENVOY__DATA__ACCESSLOG__V3__ACCESS_LOG_TYPE__TcpUpstreamConnected:
		return (putz(t, "TcpUpstreamConnected"));
	case ENVOY__DATA__ACCESSLOG__V3__ACCESS_LOG_TYPE__TcpPeriodic:
		return (putz(t, "TcpPeriodic"));
	case ENVOY__DATA__ACCESSLOG__V3__ACCESS_LOG_TYPE__TcpConnectionStart:
		return (putz(t, "TcpConnectionStart"));
	default:
		return (putz(t, "TcpConnectionEnd"));
	}
}

OP(op_upstream_host) { return (address(t, e->upstream_remote, true)); }
OP(op_upstream_host_ip) { return (address(t, e->upstream_remote, false)); }
OP(op_upstream_host_name) { return (put(t, e->upstream_host_name)); }
OP(op_upstream_local) { return (address(t, e->upstream_local, true)); }
OP(op_upstream_local_ip) { return (address(t, e->upstream_local, false)); }
OP(op_cluster) { return (put(t, e->cluster)); }
OP(op_upstream_failure) { return (put(t, e->upstream_failure)); }
OP(op_upstream_peer) { return (put(t, e->upstream_peer)); }
OP(op_downstream_failure) { return (put(t, e->downstream_tls_failure)); }
OP(op_chain) { return (put(t, e->chain_name)); }
OP(op_listener) { return (put(t, e->listener_name)); }
OP(op_none) { return (false); }

OP(op_remote) { return (address(t, &e->facts->remote, true)); }
OP(op_remote_ip) { return (address(t, &e->facts->remote, false)); }
OP(op_remote_port) { return (port(t, &e->facts->remote)); }
OP(op_direct) { return (address(t, &e->facts->direct_remote, true)); }
OP(op_direct_ip) { return (address(t, &e->facts->direct_remote, false)); }
OP(op_local) { return (address(t, &e->facts->local, true)); }
OP(op_local_ip) { return (address(t, &e->facts->local, false)); }
OP(op_local_port) { return (port(t, &e->facts->local)); }
OP(op_sni) { return (put(t, e->facts->sni)); }
OP(op_authority) { return (put(t, e->facts->authority)); }
OP(op_tls_version) { return (putz(t, e->facts->tls_version)); }
OP(op_tls_cipher) { return (putz(t, e->facts->tls_cipher)); }
OP(op_principal) { return (put(t, e->facts->principal)); }

static bool
sans(struct hb_text *t, const struct hb_cert_info *c, enum hb_san_type type)
{
	bool any = false;

	for (size_t i = 0; c != NULL && i < c->n_san; i++)
		if (c->san[i].type == type) {
			if (any)
				hb_text_addc(t, ',');
			hb_text_addz(t, c->san[i].value);
			any = true;
		}
	return (any);
}

OP(op_peer_uri) { return (sans(t, e->facts->peer_cert, HB_SAN_URI)); }
OP(op_peer_dns) { return (sans(t, e->facts->peer_cert, HB_SAN_DNS)); }
OP(op_local_uri) { return (sans(t, e->facts->local_cert, HB_SAN_URI)); }
OP(op_local_dns) { return (sans(t, e->facts->local_cert, HB_SAN_DNS)); }

#define CERT(fn, which, field) \
	OP(fn) { return (e->facts->which != NULL && putz(t, e->facts->which->field)); }
CERT(op_peer_subject, peer_cert, subject)
CERT(op_peer_issuer, peer_cert, issuer)
CERT(op_peer_serial, peer_cert, serial)
CERT(op_peer_fingerprint, peer_cert, sha256)
CERT(op_local_subject, local_cert, subject)

OP(op_peer_start)
{
	return (e->facts->peer_cert != NULL &&
	    put_time(t, "%Y-%m-%dT%H:%M:%S.000Z", e->facts->peer_cert->not_before * 1000000));
}

OP(op_peer_end)
{
	return (e->facts->peer_cert != NULL &&
	    put_time(t, "%Y-%m-%dT%H:%M:%S.000Z", e->facts->peer_cert->not_after * 1000000));
}

OP(op_filter_state)
{
	size_t n = strcspn(op->arg, ":");

	return (put(t, hb_facts_state(e->facts, hb_strn(op->arg, n))));
}

OP(op_metadata)
{
	size_t n = strcspn(op->arg, ":");

	return (op->arg[n] == ':' &&
	    put(t, hb_facts_metadata(e->facts, hb_strn(op->arg, n), hb_str(op->arg + n + 1))));
}

/* A TCP connection has one header at most: the authority of its tunnel. */
OP(op_req)
{
	return ((strcmp(op->arg, ":AUTHORITY") == 0 || strcmp(op->arg, ":authority") == 0) &&
	    put(t, e->facts->authority));
}

OP(op_environment) { return (putz(t, getenv(op->arg))); }

OP(op_hostname)
{
	char name[256];

	if (gethostname(name, sizeof name) != 0)
		return (false);
	name[sizeof name - 1] = '\0';
	return (putz(t, name));
}

#define N false
#define Y true
static const struct format_op_def ops[] = {
    {"START_TIME", FORMAT_ARG_MAY, N, op_start_time, "Start; the argument is a strftime format, %3f are milliseconds."},
    {"BYTES_RECEIVED", FORMAT_ARG_NONE, Y, op_bytes_received, "Bytes from the downstream."},
    {"BYTES_SENT", FORMAT_ARG_NONE, Y, op_bytes_sent, "Bytes to the downstream."},
    {"DOWNSTREAM_WIRE_BYTES_RECEIVED", FORMAT_ARG_NONE, Y, op_bytes_received, "Same as BYTES_RECEIVED."},
    {"DOWNSTREAM_WIRE_BYTES_SENT", FORMAT_ARG_NONE, Y, op_bytes_sent, "Same as BYTES_SENT."},
    {"UPSTREAM_WIRE_BYTES_SENT", FORMAT_ARG_NONE, Y, op_upstream_sent, "Bytes to the upstream."},
    {"UPSTREAM_WIRE_BYTES_RECEIVED", FORMAT_ARG_NONE, Y, op_upstream_received, "Bytes from the upstream."},
    {"DURATION", FORMAT_ARG_NONE, Y, op_duration, "Milliseconds from start to end."},
    {"CONNECTION_ID", FORMAT_ARG_NONE, Y, op_connection_id, "Number of the connection in this process."},
    {"RESPONSE_CODE", FORMAT_ARG_NONE, Y, op_response_code, "HTTP status of a tunnel; 0 on TCP."},
    {"RESPONSE_CODE_DETAILS", FORMAT_ARG_NONE, N, op_none, "Always missing on TCP."},
    {"RESPONSE_FLAGS", FORMAT_ARG_NONE, N, op_flags, "Envoy's short flag for the ending, for example UF."},
    {"CLOSE_REASON", FORMAT_ARG_NONE, N, op_close_reason, "Our name of the ending, as in the counters."},
    {"CONNECTION_TERMINATION_DETAILS", FORMAT_ARG_NONE, N, op_detail, "What ended it, for example the denying policy."},
    {"ACCESS_LOG_TYPE", FORMAT_ARG_NONE, N, op_log_type, "Why the line was written, for example TcpConnectionEnd."},
    {"UPSTREAM_HOST", FORMAT_ARG_NONE, N, op_upstream_host, "Address of the endpoint."},
    {"UPSTREAM_REMOTE_ADDRESS", FORMAT_ARG_NONE, N, op_upstream_host, "Same as UPSTREAM_HOST."},
    {"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", FORMAT_ARG_NONE, N, op_upstream_host_ip, "Without the port."},
    {"UPSTREAM_HOST_NAME", FORMAT_ARG_NONE, N, op_upstream_host_name, "Host name of the endpoint."},
    {"UPSTREAM_LOCAL_ADDRESS", FORMAT_ARG_NONE, N, op_upstream_local, "Our address towards the endpoint."},
    {"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", FORMAT_ARG_NONE, N, op_upstream_local_ip, "Without the port."},
    {"UPSTREAM_CLUSTER", FORMAT_ARG_NONE, N, op_cluster, "The cluster."},
    {"UPSTREAM_CLUSTER_RAW", FORMAT_ARG_NONE, N, op_cluster, "The cluster."},
    {"UPSTREAM_TRANSPORT_FAILURE_REASON", FORMAT_ARG_NONE, N, op_upstream_failure, "Why connecting or TLS failed upstream."},
    {"UPSTREAM_PEER_URI_SAN", FORMAT_ARG_NONE, N, op_upstream_peer, "Identity of the endpoint."},
    {"UPSTREAM_REQUEST_ATTEMPT_COUNT", FORMAT_ARG_NONE, Y, op_attempts, "Endpoints tried."},
    {"UPSTREAM_CONNECT_MS", FORMAT_ARG_NONE, Y, op_connect_ms, "Milliseconds that connecting took."},
    {"DOWNSTREAM_TRANSPORT_FAILURE_REASON", FORMAT_ARG_NONE, N, op_downstream_failure, "Why TLS failed downstream."},
    {"DOWNSTREAM_REMOTE_ADDRESS", FORMAT_ARG_NONE, N, op_remote, "Address of the client."},
    {"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", FORMAT_ARG_NONE, N, op_remote_ip, "Without the port."},
    {"DOWNSTREAM_REMOTE_PORT", FORMAT_ARG_NONE, Y, op_remote_port, "Its port."},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", FORMAT_ARG_NONE, N, op_direct, "Address of the socket's peer, before PROXY protocol."},
    {"DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", FORMAT_ARG_NONE, N, op_direct_ip, "Without the port."},
    {"DOWNSTREAM_LOCAL_ADDRESS", FORMAT_ARG_NONE, N, op_local, "Address that the client connected to."},
    {"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", FORMAT_ARG_NONE, N, op_local_ip, "Without the port."},
    {"DOWNSTREAM_LOCAL_PORT", FORMAT_ARG_NONE, Y, op_local_port, "Its port."},
    {"REQUESTED_SERVER_NAME", FORMAT_ARG_NONE, N, op_sni, "Server name of the ClientHello."},
    {"AUTHORITY", FORMAT_ARG_NONE, N, op_authority, "Authority of the tunnel request."},
    {"DOWNSTREAM_TLS_VERSION", FORMAT_ARG_NONE, N, op_tls_version, "TLS version that we negotiated."},
    {"DOWNSTREAM_TLS_CIPHER", FORMAT_ARG_NONE, N, op_tls_cipher, "Cipher suite that we negotiated."},
    {"DOWNSTREAM_PRINCIPAL", FORMAT_ARG_NONE, N, op_principal, "Verified identity of the client."},
    {"DOWNSTREAM_PEER_URI_SAN", FORMAT_ARG_NONE, N, op_peer_uri, "URI names of the client's certificate."},
    {"DOWNSTREAM_PEER_DNS_SAN", FORMAT_ARG_NONE, N, op_peer_dns, "DNS names of the client's certificate."},
    {"DOWNSTREAM_PEER_SUBJECT", FORMAT_ARG_NONE, N, op_peer_subject, "Subject of the client's certificate."},
    {"DOWNSTREAM_PEER_ISSUER", FORMAT_ARG_NONE, N, op_peer_issuer, "Its issuer."},
    {"DOWNSTREAM_PEER_SERIAL", FORMAT_ARG_NONE, N, op_peer_serial, "Its serial number."},
    {"DOWNSTREAM_PEER_FINGERPRINT_256", FORMAT_ARG_NONE, N, op_peer_fingerprint, "Its SHA-256."},
    {"DOWNSTREAM_PEER_CERT_V_START", FORMAT_ARG_NONE, N, op_peer_start, "Start of its validity."},
    {"DOWNSTREAM_PEER_CERT_V_END", FORMAT_ARG_NONE, N, op_peer_end, "End of its validity."},
    {"DOWNSTREAM_LOCAL_URI_SAN", FORMAT_ARG_NONE, N, op_local_uri, "URI names of our certificate."},
    {"DOWNSTREAM_LOCAL_DNS_SAN", FORMAT_ARG_NONE, N, op_local_dns, "DNS names of our certificate."},
    {"DOWNSTREAM_LOCAL_SUBJECT", FORMAT_ARG_NONE, N, op_local_subject, "Subject of our certificate."},
    {"FILTER_CHAIN_NAME", FORMAT_ARG_NONE, N, op_chain, "The filter chain."},
    {"LISTENER_NAME", FORMAT_ARG_NONE, N, op_listener, "The listener."},
    {"ROUTE_NAME", FORMAT_ARG_NONE, N, op_none, "Always missing on TCP."},
    {"VIRTUAL_CLUSTER_NAME", FORMAT_ARG_NONE, N, op_none, "Always missing on TCP."},
    {"PROTOCOL", FORMAT_ARG_NONE, N, op_none, "Always missing on TCP."},
    {"FILTER_STATE", FORMAT_ARG_MUST, N, op_filter_state, "Filter state of this key, as KEY or KEY:PLAIN."},
    {"DYNAMIC_METADATA", FORMAT_ARG_MUST, N, op_metadata, "Dynamic metadata, as NAMESPACE:KEY."},
    {"REQ", FORMAT_ARG_MUST, N, op_req, ":AUTHORITY of a tunnel; any other header is missing."},
    {"RESP", FORMAT_ARG_MUST, N, op_none, "Always missing on TCP."},
    {"TRAILER", FORMAT_ARG_MUST, N, op_none, "Always missing on TCP."},
    {"ENVIRONMENT", FORMAT_ARG_MUST, N, op_environment, "Environment variable."},
    {"HOSTNAME", FORMAT_ARG_NONE, N, op_hostname, "Name of this machine."},
};
#undef N
#undef Y

const struct format_op_def *
hb_format_op_find(struct hb_str name)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(ops); i++)
		if (hb_str_eq(name, hb_str(ops[i].name)))
			return (&ops[i]);
	return (NULL);
}

const char *
hb_format_op_nearest(const char *name)
{
	const char *names[HB_ARRAY_LEN(ops) + 1];

	for (size_t i = 0; i < HB_ARRAY_LEN(ops); i++)
		names[i] = ops[i].name;
	names[HB_ARRAY_LEN(ops)] = NULL;
	return (hb_err_nearest(name, names));
}

void
hb_format_operators(void (*fn)(void *arg, const char *name, const char *help), void *arg)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(ops); i++)
		fn(arg, ops[i].name, ops[i].help);
}
