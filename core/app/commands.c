/* SPDX-License-Identifier: Apache-2.0 */
#include "core/app/cli.h"

#define AT(field) offsetof(struct hb_args, field)

static const struct hb_opt opt_config = { "config", 'c', HB_OPT_TEXT, "FILE",
	"YAML or JSON bootstrap; \"-\" reads standard input", 0, AT(config) };
static const struct hb_opt opt_concurrency = { "concurrency", 0, HB_OPT_NUMBER, "N",
	"worker threads; default: CPUs that the process may use (cpuset, cgroup quota)", 256,
	AT(concurrency) };
static const struct hb_opt opt_drain = { "drain-time", 0, HB_OPT_SECONDS, "SECONDS",
	"how long connections may go on after SIGTERM (default 25)", 86400, AT(drain_time_ms) };
static const struct hb_opt opt_level = { "log-level", 'l', HB_OPT_TEXT, "LEVEL",
	"trace, debug, info (default), warn, error, critical or off", 0, AT(log_level) };
static const struct hb_opt opt_components = { "component-log-level", 0, HB_OPT_TEXT, "LIST",
	"levels of components: listener:debug,tls:trace", 0, AT(component_log_level) };
static const struct hb_opt opt_format = { "log-format", 0, HB_OPT_TEXT, "FORMAT",
	"text (default) or json", 0, AT(log_format) };
static const struct hb_opt opt_log = { "log-path", 0, HB_OPT_TEXT, "FILE",
	"application log; default: standard error", 0, AT(log_path) };
static const struct hb_opt opt_admin = { "admin-address-path", 0, HB_OPT_TEXT, "FILE",
	"write the admin address there once it listens (for port 0)", 0, AT(admin_path) };
static const struct hb_opt opt_load = { "load", 0, HB_OPT_TEXT, "FILE[,FILE]",
	"filters from shared objects; only load what you trust as this program", 0, AT(load) };
static const struct hb_opt opt_pipes = { "max-pipes", 0, HB_OPT_LIMIT, "N",
	"pipes for splice(2); 0 copies instead; default: an eighth of the descriptor limit",
	1000000, AT(max_pipes) };
static const struct hb_opt opt_heap = { "heap-trim", 0, HB_OPT_NUMBER, "MIB",
	"give free memory back to the system when there is so much of it and the heap is still, in "
	"about 0.1 ms a MiB; default: never",
	1048576, AT(heap_trim) };
static const struct hb_opt opt_rest = { "rest-above", 0, HB_OPT_LIMIT, "N",
	"idle connections that a worker keeps as they are; further ones rest, packed into less memory; 0 lets "
	"each rest at once, 1000000 none; default: 32",
	1000000, AT(rest_above) };
static const struct hb_opt opt_backend = { "event-backend", 0, HB_OPT_TEXT, "NAME",
	"epoll (default) or uv, the portable way to wait for descriptors", 0, AT(event_backend) };
static const struct hb_opt opt_help = { "help", 'h', HB_OPT_FLAG, NULL, "this text", 0, AT(help) };
static const struct hb_opt opt_json = { "json", 0, HB_OPT_FLAG, NULL, "answer as JSON", 0,
	AT(json) };
static const struct hb_opt opt_listener = { "listener", 0, HB_OPT_TEXT, "NAME",
	"the listener; default: the one bound to --dst", 0, AT(listener) };
static const struct hb_opt opt_sni = { "sni", 0, HB_OPT_TEXT, "NAME",
	"server name in the ClientHello; given, the connection is TLS", 0, AT(sni) };
static const struct hb_opt opt_alpn = { "alpn", 0, HB_OPT_TEXT, "LIST",
	"protocols the client offers, in its order: h2,http/1.1", 0, AT(alpn) };
static const struct hb_opt opt_src = { "src", 0, HB_OPT_TEXT, "ADDRESS",
	"the client: 10.1.2.3:40000 (default 127.0.0.1:40000)", 0, AT(src) };
static const struct hb_opt opt_dst = { "dst", 0, HB_OPT_TEXT, "ADDRESS",
	"where it connects: 10.0.0.1:15443", 0, AT(dst) };
static const struct hb_opt opt_peer = { "peer", 0, HB_OPT_TEXT, "ID",
	"verified identity of the client: spiffe://…", 0, AT(peer) };
static const struct hb_opt opt_authority = { "authority", 0, HB_OPT_TEXT, "HOST:PORT",
	"authority of the tunnel request, for streams", 0, AT(authority) };

static const struct hb_opt *const run_opts[] = { &opt_config, &opt_concurrency, &opt_drain,
	&opt_level, &opt_components, &opt_format, &opt_log, &opt_admin, &opt_load, &opt_pipes,
	&opt_heap, &opt_rest, &opt_backend, &opt_help, NULL };
static const struct hb_command cmd_run = { "run", "-c FILE [OPTIONS]",
	"Runs the proxy in the foreground until SIGTERM or ctrl-c.",
	"  hbone run -c gateway.yaml\n"
	"  hbone run -c gateway.yaml --concurrency 2 -l debug\n\n"
	"SIGTERM (or ctrl-c) fails readiness, stops accepting and lets connections end by themselves for\n"
	"--drain-time; a second one ends at once. SIGHUP reads the file again: connections of what did\n"
	"not change go on, and a bad file changes nothing. The admin pages are on 127.0.0.1:15000 unless\n"
	"the file says otherwise.\n",
	run_opts, hb_cmd_run };

static const struct hb_opt *const validate_opts[] = { &opt_config, &opt_load, &opt_help, NULL };
static const struct hb_command cmd_validate = { "validate", "-c FILE",
	"Checks a configuration completely and prints every mistake.",
	"  hbone validate -c gateway.yaml && echo good\n\n"
	"Nothing is bound, resolved or connected. Each mistake is printed as file:line:column, path and\n"
	"what to do; the exit code is 2 when there is one. Warnings name what is rarely meant, such as a\n"
	"gateway that lets everybody in, notes name a default that decides, such as whom a workload lets in;\n"
	"they do not change the exit code.\n",
	validate_opts, hb_cmd_validate };

static const struct hb_opt *const explain_opts[] = { &opt_config, &opt_listener, &opt_sni,
	&opt_alpn, &opt_src, &opt_dst, &opt_peer, &opt_authority, &opt_json, &opt_load, &opt_help,
	NULL };
static const struct hb_command cmd_explain = { "explain", "-c FILE --dst ADDRESS [OPTIONS]",
	"Tells which way a connection would go, and why the other ways lost.",
	"  hbone explain -c gateway.yaml --dst 0.0.0.0:15443 --sni web.example --alpn h2\n"
	"  hbone explain -c eastwest.yaml --dst 127.0.0.1:15008 --peer spiffe://cluster.local/ns/a/sa/b \\\n"
	"      --authority web.default:80\n\n"
	"Nothing is bound or connected. A running process answers the same on its admin page /explain.\n",
	explain_opts, hb_cmd_explain };

static const struct hb_opt opt_id = { "id", 0, HB_OPT_TEXT, "ID",
	"the identity: spiffe://TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT", 0, AT(id) };
static const struct hb_opt opt_dns = { "dns", 0, HB_OPT_TEXT, "NAME[,NAME…]",
	"DNS names beside the identity", 0, AT(dns) };
static const struct hb_opt opt_days = { "days", 0, HB_OPT_LIMIT, "N",
	"how long it is valid; default: 365 for an authority, 30 for a certificate", 3650,
	AT(days) };
static const struct hb_opt opt_trust_domain = { "trust-domain", 0, HB_OPT_TEXT, "NAME",
	"trust domain of the authority (default cluster.local)", 0, AT(trust_domain) };
static const struct hb_opt opt_out = { "out", 0, HB_OPT_TEXT, "DIR",
	"where the files go (default DIR/NAMESPACE/ACCOUNT)", 0, AT(out) };

static const struct hb_opt *const cert_opts[] = { &opt_json, &opt_help, NULL };
static const struct hb_command cmd_cert_show = { "cert show", "[DIR | FILE…] [--json]",
	"Prints a certificate, its roots, and what is wrong with them.",
	"  hbone cert show /etc/certs\n"
	"  hbone cert show tls.crt tls.key ca.crt\n\n"
	"Files are told apart by what they hold. Without any, the certificate is looked for as a workload\n"
	"does: in the working directory, /var/run/secrets/workload-spiffe-credentials, /etc/certs,\n"
	"/var/run/secrets/istio.\n",
	cert_opts, hb_cmd_cert_show, HB_WORDS_MAX };
static const struct hb_command cmd_cert_check = { "cert check", "[DIR | FILE…] [--json]",
	"Says whether a certificate can be used, and what to do if not.",
	"  hbone cert check /etc/certs && echo good\n\n"
	"Key and certificate belong together, dates, one SPIFFE identity, the chain verifies as client and\n"
	"as server, revocation. The exit code is 1 when something is wrong.\n",
	cert_opts, hb_cmd_cert_check, HB_WORDS_MAX };

static const struct hb_opt *const ca_init_opts[] = { &opt_trust_domain, &opt_days, &opt_help,
	NULL };
static const struct hb_command cmd_ca_init = { "ca init", "DIR [--trust-domain NAME] [--days N]",
	"Makes an authority for tests. Not for production.",
	"  hbone ca init ca --trust-domain cluster.local\n\n"
	"Writes DIR/ca.pem and DIR/ca-key.pem, which is not encrypted: who reads it can be anybody.\n",
	ca_init_opts, hb_cmd_ca_init, 1 };
static const struct hb_opt *const ca_issue_opts[] = { &opt_id, &opt_dns, &opt_days, &opt_out,
	&opt_help, NULL };
static const struct hb_command cmd_ca_issue = { "ca issue",
	"DIR --id spiffe://… [--dns NAME,…] [--days N] [--out DIR]",
	"Issues a workload's certificate with the authority in DIR. Not for production.",
	"  hbone ca issue ca --id spiffe://cluster.local/ns/default/sa/web\n"
	"  hbone cert check ca/default/web\n\n"
	"Writes key.pem (mode 600), cert-chain.pem and root-cert.pem, each replaced as a whole: a running\n"
	"process that uses them takes the new ones.\n",
	ca_issue_opts, hb_cmd_ca_issue, 1 };

static const struct hb_opt *const bare_opts[] = { &opt_help, NULL };
static const struct hb_command cmd_version = { "version", "", "Prints version and build.", "",
	bare_opts, hb_cmd_version };
static const struct hb_command cmd_completion = { "completion", "",
	"Prints the completion script for bash.", "  source <(hbone completion)\n", bare_opts,
	hb_cmd_completion };
static const struct hb_command cmd_man = { "man", "", "Prints the manual page.",
	"  hbone man | man -l -\n", bare_opts, hb_cmd_man };

const struct hb_command *const hb_commands[] = { &cmd_run, &cmd_validate, &cmd_explain,
	&cmd_cert_show, &cmd_cert_check, &cmd_ca_init, &cmd_ca_issue, &cmd_version, &cmd_completion,
	&cmd_man, NULL };
