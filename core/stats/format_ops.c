/* SPDX-License-Identifier: Apache-2.0 */
/* The values of format operators. */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "core/identity/identity.h"
#include "core/stats/format_priv.h"
#include "envoy/data/accesslog/v3/accesslog.pb-c.h"

#define OP(fn) \
	static bool fn(const struct format_op *op, const struct hb_log_entry *e, struct hb_text *t)

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
	return (put_time(t,
		op->arg != NULL && *op->arg != '\0' ? op->arg : "%Y-%m-%dT%H:%M:%S.%3fZ",
		e->start_us));
}

OP(op_bytes_received)
{
	return (number(t, e->bytes_received));
}
OP(op_bytes_sent)
{
	return (number(t, e->bytes_sent));
}
OP(op_upstream_sent)
{
	return (number(t, e->upstream_bytes_sent));
}
OP(op_upstream_received)
{
	return (number(t, e->upstream_bytes_received));
}
OP(op_duration)
{
	return (number(t, e->duration_ms));
}
OP(op_connection_id)
{
	return (number(t, e->conn_id));
}
OP(op_response_code)
{
	return (number(t, e->response_code));
}
OP(op_attempts)
{
	return (number(t, e->attempts));
}
OP(op_connect_ms)
{
	return (e->attempts > 0 && number(t, e->connect_ms));
}

OP(op_flags)
{
	const char *flag = hb_close_info(e->reason)->flag;

	return (strcmp(flag, "-") != 0 && putz(t, flag));
}

OP(op_close_reason)
{
	return (putz(t, hb_close_info(e->reason)->counter));
}

/* As Envoy: of an upstream that was connected. */
OP(op_upstream_close)
{
	if (e->upstream_remote == NULL || e->attempts == 0 || e->reason == HB_CLOSE_NONE ||
		e->upstream_failure.len > 0)
		return (false);
	if (e->reason == HB_CLOSE_UPSTREAM_RESET)
		return (putz(t, "RemoteReset"));
	return (putz(t, hb_close_info(e->reason)->is_error ? "LocalReset" : "Normal"));
}

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

OP(op_upstream_host)
{
	return (address(t, e->upstream_remote, true));
}
OP(op_upstream_host_ip)
{
	return (address(t, e->upstream_remote, false));
}
OP(op_upstream_host_name)
{
	return (put(t, e->upstream_host_name));
}
OP(op_upstream_local)
{
	return (address(t, e->upstream_local, true));
}
OP(op_upstream_local_ip)
{
	return (address(t, e->upstream_local, false));
}
OP(op_cluster)
{
	return (put(t, e->cluster));
}
OP(op_upstream_failure)
{
	return (put(t, e->upstream_failure));
}
OP(op_upstream_peer)
{
	return (put(t, e->upstream_peer));
}
OP(op_downstream_failure)
{
	return (put(t, e->downstream_tls_failure));
}
OP(op_chain)
{
	return (put(t, e->chain_name));
}
OP(op_listener)
{
	return (put(t, e->listener_name));
}
OP(op_none)
{
	return (false);
}

OP(op_remote)
{
	return (address(t, &e->facts->remote, true));
}
OP(op_remote_ip)
{
	return (address(t, &e->facts->remote, false));
}
OP(op_remote_port)
{
	return (port(t, &e->facts->remote));
}
OP(op_direct)
{
	return (address(t, hb_facts_direct_remote(e->facts), true));
}
OP(op_direct_ip)
{
	return (address(t, hb_facts_direct_remote(e->facts), false));
}
OP(op_local)
{
	return (address(t, &e->facts->local, true));
}
OP(op_local_ip)
{
	return (address(t, &e->facts->local, false));
}
OP(op_local_port)
{
	return (port(t, &e->facts->local));
}
OP(op_sni)
{
	return (put(t, hb_facts_hello(e->facts)->sni));
}
OP(op_authority)
{
	return (put(t, e->facts->authority));
}

/* A stream in the clear has the TLS of the connection that carries it. */
static const struct hb_facts *
secured(const struct hb_log_entry *e)
{
	const struct hb_facts *f = e->facts;

	while (hb_facts_tls(f)->version == NULL && f->parent != NULL)
		f = f->parent;
	return (f);
}

static const struct hb_cert_info *
peer_cert(const struct hb_log_entry *e)
{
	const struct hb_facts *f = hb_facts_identity(e->facts);

	return (f == NULL ? NULL : hb_facts_tls(f)->peer_cert);
}

static const struct hb_cert_info *
local_cert(const struct hb_log_entry *e)
{
	return (hb_facts_tls(secured(e))->local_cert);
}

OP(op_tls_version)
{
	return (putz(t, hb_facts_tls(secured(e))->version));
}
OP(op_tls_cipher)
{
	return (putz(t, hb_facts_tls(secured(e))->cipher));
}

OP(op_principal)
{
	const struct hb_facts *f = hb_facts_identity(e->facts);

	return (f != NULL && put(t, hb_facts_tls(f)->principal));
}

OP(op_protocol)
{
	return (e->facts->authority.len > 0 && putz(t, "HTTP/2"));
}

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

/* The certificate goes with its connection, the verified name of the peer stays. */
OP(op_peer_uri)
{
	const struct hb_facts *f = hb_facts_identity(e->facts);

	return (sans(t, peer_cert(e), HB_SAN_URI) ||
		(f != NULL && hb_facts_tls(f)->peer_cert == NULL &&
			put(t, hb_facts_tls(f)->principal)));
}

OP(op_peer_dns)
{
	return (sans(t, peer_cert(e), HB_SAN_DNS));
}
OP(op_local_uri)
{
	return (sans(t, local_cert(e), HB_SAN_URI));
}
OP(op_local_dns)
{
	return (sans(t, local_cert(e), HB_SAN_DNS));
}

#define CERT(fn, which, field)                                         \
	OP(fn)                                                         \
	{                                                              \
		return (which(e) != NULL && putz(t, which(e)->field)); \
	}
CERT(op_peer_subject, peer_cert, subject)
CERT(op_peer_issuer, peer_cert, issuer)
CERT(op_peer_serial, peer_cert, serial)
CERT(op_peer_fingerprint, peer_cert, sha256)
CERT(op_local_subject, local_cert, subject)

OP(op_peer_start)
{
	return (peer_cert(e) != NULL &&
		put_time(t, "%Y-%m-%dT%H:%M:%S.000Z", peer_cert(e)->not_before * 1000000));
}

OP(op_peer_end)
{
	return (peer_cert(e) != NULL &&
		put_time(t, "%Y-%m-%dT%H:%M:%S.000Z", peer_cert(e)->not_after * 1000000));
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

/* A header of the request that made the tunnel stream. */
static bool
header(struct hb_text *t, const struct hb_facts *f, struct hb_str name)
{
	if (hb_str_ieq(name, HB_STR(":authority")))
		return (put(t, f->authority));
	for (const struct hb_fact_entry *m = f->metadata; m != NULL; m = m->next)
		if (hb_str_eq(m->ns, HB_STR(HB_META_REQUEST)) && hb_str_ieq(m->key, name))
			return (put(t, m->value));
	return (false);
}

/* NAME, NAME?OTHER, and then :MAXIMUM. A pseudo-header starts with a colon, too. */
OP(op_req)
{
	struct hb_str arg = hb_str(op->arg), other = { "", 0 };
	const char *colon = memchr(arg.p + 1, ':', arg.len < 1 ? 0 : arg.len - 1), *mark;
	size_t start = t->len;
	uint64_t max = SIZE_MAX;
	bool found;

	while (colon != NULL && colon[-1] == '?')
		colon = memchr(colon + 1, ':', (size_t)(arg.p + arg.len - colon) - 1);
	if (colon != NULL && hb_str_u64(hb_str(colon + 1), UINT32_MAX, &max))
		arg.len = (size_t)(colon - arg.p);
	mark = memchr(arg.p, '?', arg.len);
	if (mark != NULL) {
		other = hb_strn(mark + 1, (size_t)(arg.p + arg.len - mark) - 1);
		arg.len = (size_t)(mark - arg.p);
	}
	found = header(t, e->facts, arg) || (other.len > 0 && header(t, e->facts, other));
	if (t->len - start > max) {
		t->len = start + (size_t)max;
		t->p[t->len] = '\0';
	}
	return (found);
}

OP(op_environment)
{
	return (putz(t, getenv(op->arg)));
}

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
	{ "START_TIME", FORMAT_ARG_MAY, N, op_start_time,
		"Start; the argument is a strftime format, %3f are milliseconds." },
	{ "BYTES_RECEIVED", FORMAT_ARG_NONE, Y, op_bytes_received, "Bytes from the downstream." },
	{ "BYTES_SENT", FORMAT_ARG_NONE, Y, op_bytes_sent, "Bytes to the downstream." },
	{ "DOWNSTREAM_WIRE_BYTES_RECEIVED", FORMAT_ARG_NONE, Y, op_bytes_received,
		"Same as BYTES_RECEIVED." },
	{ "DOWNSTREAM_WIRE_BYTES_SENT", FORMAT_ARG_NONE, Y, op_bytes_sent, "Same as BYTES_SENT." },
	{ "UPSTREAM_WIRE_BYTES_SENT", FORMAT_ARG_NONE, Y, op_upstream_sent,
		"Bytes to the upstream." },
	{ "UPSTREAM_WIRE_BYTES_RECEIVED", FORMAT_ARG_NONE, Y, op_upstream_received,
		"Bytes from the upstream." },
	{ "DURATION", FORMAT_ARG_NONE, Y, op_duration, "Milliseconds from start to end." },
	{ "CONNECTION_ID", FORMAT_ARG_NONE, Y, op_connection_id,
		"Number of the connection in this process." },
	{ "RESPONSE_CODE", FORMAT_ARG_NONE, Y, op_response_code,
		"HTTP status of a tunnel; 0 on TCP." },
	{ "RESPONSE_CODE_DETAILS", FORMAT_ARG_NONE, N, op_none, "Always missing on TCP." },
	{ "RESPONSE_FLAGS", FORMAT_ARG_NONE, N, op_flags,
		"Envoy's short flag for the ending, for example UF." },
	{ "CLOSE_REASON", FORMAT_ARG_NONE, N, op_close_reason,
		"Our name of the ending, as in the counters." },
	{ "CONNECTION_TERMINATION_DETAILS", FORMAT_ARG_NONE, N, op_detail,
		"What ended it, for example the denying policy." },
	{ "ACCESS_LOG_TYPE", FORMAT_ARG_NONE, N, op_log_type,
		"Why the line was written, for example TcpConnectionEnd." },
	{ "UPSTREAM_HOST", FORMAT_ARG_NONE, N, op_upstream_host, "Address of the endpoint." },
	{ "UPSTREAM_REMOTE_ADDRESS", FORMAT_ARG_NONE, N, op_upstream_host,
		"Same as UPSTREAM_HOST." },
	{ "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", FORMAT_ARG_NONE, N, op_upstream_host_ip,
		"Without the port." },
	{ "UPSTREAM_HOST_NAME", FORMAT_ARG_NONE, N, op_upstream_host_name,
		"Host name of the endpoint." },
	{ "UPSTREAM_LOCAL_ADDRESS", FORMAT_ARG_NONE, N, op_upstream_local,
		"Our address towards the endpoint." },
	{ "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", FORMAT_ARG_NONE, N, op_upstream_local_ip,
		"Without the port." },
	{ "UPSTREAM_CLUSTER", FORMAT_ARG_NONE, N, op_cluster, "The cluster." },
	{ "UPSTREAM_CLUSTER_RAW", FORMAT_ARG_NONE, N, op_cluster, "The cluster." },
	{ "UPSTREAM_DETECTED_CLOSE_TYPE", FORMAT_ARG_NONE, N, op_upstream_close,
		"How the connection to the upstream ended: Normal, RemoteReset, or LocalReset." },
	{ "UPSTREAM_TRANSPORT_FAILURE_REASON", FORMAT_ARG_NONE, N, op_upstream_failure,
		"Why connecting or TLS failed upstream." },
	{ "UPSTREAM_PEER_URI_SAN", FORMAT_ARG_NONE, N, op_upstream_peer,
		"Identity of the endpoint." },
	{ "UPSTREAM_REQUEST_ATTEMPT_COUNT", FORMAT_ARG_NONE, Y, op_attempts, "Endpoints tried." },
	{ "UPSTREAM_CONNECT_MS", FORMAT_ARG_NONE, Y, op_connect_ms,
		"Milliseconds that connecting took." },
	{ "DOWNSTREAM_TRANSPORT_FAILURE_REASON", FORMAT_ARG_NONE, N, op_downstream_failure,
		"Why TLS failed downstream." },
	{ "DOWNSTREAM_REMOTE_ADDRESS", FORMAT_ARG_NONE, N, op_remote, "Address of the client." },
	{ "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", FORMAT_ARG_NONE, N, op_remote_ip,
		"Without the port." },
	{ "DOWNSTREAM_REMOTE_PORT", FORMAT_ARG_NONE, Y, op_remote_port, "Its port." },
	{ "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", FORMAT_ARG_NONE, N, op_direct,
		"Address of the socket's peer, before PROXY protocol." },
	{ "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT", FORMAT_ARG_NONE, N, op_direct_ip,
		"Without the port." },
	{ "DOWNSTREAM_LOCAL_ADDRESS", FORMAT_ARG_NONE, N, op_local,
		"Address that the client connected to." },
	{ "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", FORMAT_ARG_NONE, N, op_local_ip,
		"Without the port." },
	{ "DOWNSTREAM_LOCAL_PORT", FORMAT_ARG_NONE, Y, op_local_port, "Its port." },
	{ "REQUESTED_SERVER_NAME", FORMAT_ARG_NONE, N, op_sni, "Server name of the ClientHello." },
	{ "AUTHORITY", FORMAT_ARG_NONE, N, op_authority, "Authority of the tunnel request." },
	{ "DOWNSTREAM_TLS_VERSION", FORMAT_ARG_NONE, N, op_tls_version,
		"TLS version that we negotiated." },
	{ "DOWNSTREAM_TLS_CIPHER", FORMAT_ARG_NONE, N, op_tls_cipher,
		"Cipher suite that we negotiated." },
	{ "DOWNSTREAM_PRINCIPAL", FORMAT_ARG_NONE, N, op_principal,
		"Verified identity of the client." },
	{ "DOWNSTREAM_PEER_URI_SAN", FORMAT_ARG_NONE, N, op_peer_uri,
		"URI names of the client's certificate." },
	{ "DOWNSTREAM_PEER_DNS_SAN", FORMAT_ARG_NONE, N, op_peer_dns,
		"DNS names of the client's certificate." },
	{ "DOWNSTREAM_PEER_SUBJECT", FORMAT_ARG_NONE, N, op_peer_subject,
		"Subject of the client's certificate." },
	{ "DOWNSTREAM_PEER_ISSUER", FORMAT_ARG_NONE, N, op_peer_issuer, "Its issuer." },
	{ "DOWNSTREAM_PEER_SERIAL", FORMAT_ARG_NONE, N, op_peer_serial, "Its serial number." },
	{ "DOWNSTREAM_PEER_FINGERPRINT_256", FORMAT_ARG_NONE, N, op_peer_fingerprint,
		"Its SHA-256." },
	{ "DOWNSTREAM_PEER_CERT_V_START", FORMAT_ARG_NONE, N, op_peer_start,
		"Start of its validity." },
	{ "DOWNSTREAM_PEER_CERT_V_END", FORMAT_ARG_NONE, N, op_peer_end, "End of its validity." },
	{ "DOWNSTREAM_LOCAL_URI_SAN", FORMAT_ARG_NONE, N, op_local_uri,
		"URI names of our certificate." },
	{ "DOWNSTREAM_LOCAL_DNS_SAN", FORMAT_ARG_NONE, N, op_local_dns,
		"DNS names of our certificate." },
	{ "DOWNSTREAM_LOCAL_SUBJECT", FORMAT_ARG_NONE, N, op_local_subject,
		"Subject of our certificate." },
	{ "FILTER_CHAIN_NAME", FORMAT_ARG_NONE, N, op_chain, "The filter chain." },
	{ "LISTENER_NAME", FORMAT_ARG_NONE, N, op_listener, "The listener." },
	{ "ROUTE_NAME", FORMAT_ARG_NONE, N, op_none, "Always missing on TCP." },
	{ "VIRTUAL_CLUSTER_NAME", FORMAT_ARG_NONE, N, op_none, "Always missing on TCP." },
	{ "PROTOCOL", FORMAT_ARG_NONE, N, op_protocol,
		"HTTP/2 on a tunnel stream; missing on TCP." },
	{ "FILTER_STATE", FORMAT_ARG_MUST, N, op_filter_state,
		"Filter state of this key, as KEY or KEY:PLAIN." },
	{ "DYNAMIC_METADATA", FORMAT_ARG_MUST, N, op_metadata,
		"Dynamic metadata, as NAMESPACE:KEY." },
	{ "REQ", FORMAT_ARG_MUST, N, op_req,
		"Header of the request that made a tunnel stream, as NAME, NAME?OTHER or NAME:LENGTH; missing on TCP." },
	{ "RESP", FORMAT_ARG_MUST, N, op_none, "Always missing on TCP." },
	{ "TRAILER", FORMAT_ARG_MUST, N, op_none, "Always missing on TCP." },
	{ "ENVIRONMENT", FORMAT_ARG_MUST, N, op_environment, "Environment variable." },
	{ "HOSTNAME", FORMAT_ARG_NONE, N, op_hostname, "Name of this machine." },
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
