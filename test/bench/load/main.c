/* SPDX-License-Identifier: Apache-2.0 */
/* The command line of the load tool. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include "test/bench/load/load.h"

static const char help[] =
	"load: load for the proxy, and the endpoint behind it. One thread each; one JSON object on\n"
	"standard output, errors on standard error, exit code 1 when there was any.\n"
	"\n"
	"load serve --listen ADDR [--listen ADDR...]\n"
	"    Plain TCP endpoint. Skips a TLS ClientHello record, and answers an HTTP/1.1 CONNECT, if there\n"
	"    is one; then a byte says what the client wants: D source, d + 8 bytes (big endian) that many bytes, U sink that answers\n"
	"    its count (8 bytes) at the end, E echo, X and I one byte. Prints\n"
	"    {\"ready\":true,\"listen\":[...]}; ends on SIGTERM.\n"
	"\n"
	"load run --mode MODE --via VIA --to ADDR [options]\n"
	"  MODE  download | upload | echo (64 bytes to and fro) | connect (new connection, 1 byte, close) |\n"
	"        stream (the same with a new CONNECT stream on a warm connection; without streams: connect) |\n"
	"        idle (opens all, prints {\"idle\":true,\"open\":K}, closes at a line on standard input)\n"
	"  VIA   raw | sni (a ClientHello first) | tls | h2 (CONNECT over mutual TLS) | double (CONNECT in\n"
	"        CONNECT)\n"
	"  --to ADDR              127.0.0.1:15008, [::1]:15008, unix:/path\n"
	"  --sni NAME             server name; must for sni\n"
	"  --authority A          of the CONNECT; must for h2 and double\n"
	"  --inner-authority A    of the CONNECT inside; must for double\n"
	"  --ca F --cert F --key F   PEM files of tls, h2 and double; without --ca any server is accepted\n"
	"  --peer SPIFFE          URI that the server's certificate must have\n"
	"  --connections N        at once (1)\n"
	"  --streams M            on each connection, h2 and double (1)\n"
	"  --seconds S            length of the window (1)\n"
	"  --warmup S             between the last connection and the window (0.3)\n"
	"  --count N              end the window after N operations\n"
	"  --max-frame BYTES      MAX_FRAME_SIZE of HTTP/2 that we accept (16384)\n"
	"  --honest               download: decrypt, and count payload instead of ciphertext\n"
	"  --unchecked            upload: do not wait for the endpoint's count (a proxy that cannot pass a\n"
	"                         half-closed stream on never gives it)\n"
	"  --resume               connect by tls and h2: resume TLS sessions (\"resumed\" counts those)\n"
	"  --timeout S            for all connections to be open (10)\n"
	"  --pid PID              (repeat) also report the CPU time of this process in the window\n"
	"\n"
	"A download by tls, h2 and double is blind: after the answers ciphertext is dropped undecrypted,\n"
	"and bytes are ciphertext's (\"bytes_are\"). A connection to which nothing comes in the second half of\n"
	"the window is an error. An upload is checked at its end: the endpoint's count must be the number\n"
	"of bytes sent.\n";

enum kind { TEXT, LIST, PIDS, NUMBER, SECONDS, FLAG };

struct option {
	const char *name;
	enum kind kind;
	size_t at; /* in struct load_options */
	uint64_t min, max;
};

#define AT(field) offsetof(struct load_options, field)
static const struct option options[] = {
	{ "--listen", LIST, 0, 0, 0 },
	{ "--mode", TEXT, AT(mode), 0, 0 },
	{ "--via", TEXT, AT(via), 0, 0 },
	{ "--to", TEXT, AT(to), 0, 0 },
	{ "--sni", TEXT, AT(sni), 0, 0 },
	{ "--authority", TEXT, AT(authority), 0, 0 },
	{ "--inner-authority", TEXT, AT(inner_authority), 0, 0 },
	{ "--ca", TEXT, AT(ca), 0, 0 },
	{ "--cert", TEXT, AT(cert), 0, 0 },
	{ "--key", TEXT, AT(key), 0, 0 },
	{ "--peer", TEXT, AT(peer), 0, 0 },
	{ "--connections", NUMBER, AT(connections), 1, 1000000 },
	{ "--streams", NUMBER, AT(streams), 1, 1000000 },
	{ "--seconds", SECONDS, AT(seconds_us), 0, 86400 },
	{ "--warmup", SECONDS, AT(warmup_us), 0, 3600 },
	{ "--timeout", SECONDS, AT(timeout_us), 0, 3600 },
	{ "--count", NUMBER, AT(count), 1, UINT32_MAX },
	{ "--max-frame", NUMBER, AT(max_frame), 16384, 16777215 },
	{ "--honest", FLAG, AT(honest), 0, 0 },
	{ "--unchecked", FLAG, AT(unchecked), 0, 0 },
	{ "--resume", FLAG, AT(resume), 0, 0 },
	{ "--pid", PIDS, 0, 1, INT32_MAX },
	{ "--help", FLAG, AT(help), 0, 0 },
};

static const struct option *
find(const char *name)
{
	for (size_t i = 0; i < HB_ARRAY_LEN(options); i++) {
		if (strcmp(options[i].name, name) == 0)
			return (&options[i]);
	}
	return (NULL);
}

static int
number(const struct option *opt, const char *text, uint64_t *ret, struct hb_err *reterr)
{
	if (hb_str_u64(hb_str(text), opt->max, ret) && *ret >= opt->min)
		return (0);
	return (hb_err_set(reterr, -EINVAL, "%s %s: give a number from %lu to %lu", opt->name, text,
		(unsigned long)opt->min, (unsigned long)opt->max));
}

static int
seconds(const struct option *opt, const char *text, uint64_t *ret, struct hb_err *reterr)
{
	char *end;
	double s = strtod(text, &end);

	if (end == text || *end != '\0' || !(s >= 0 && s <= (double)opt->max))
		return (hb_err_set(reterr, -EINVAL, "%s %s: give seconds, at most %lu", opt->name,
			text, (unsigned long)opt->max));
	*ret = (uint64_t)(s * 1e6);
	return (0);
}

static int
set(struct load_options *o, const struct option *opt, const char *text, struct hb_err *reterr)
{
	void *at = (char *)o + opt->at;
	uint64_t n = 0;
	int r = 0;

	switch (opt->kind) {
	case TEXT:
		*(const char **)at = text;
		break;
	case LIST:
		if (o->n_listen == LOAD_LISTEN_MAX)
			return (hb_err_set(
				reterr, -EINVAL, "at most %u times --listen", LOAD_LISTEN_MAX));
		o->listen[o->n_listen++] = text;
		break;
	case PIDS:
		if (o->n_pids == LOAD_PIDS_MAX)
			return (hb_err_set(
				reterr, -EINVAL, "at most %u times --pid", LOAD_PIDS_MAX));
		r = number(opt, text, &n, reterr);
		o->pids[o->n_pids++] = (int)n;
		break;
	case NUMBER:
		r = number(opt, text, at, reterr);
		break;
	case SECONDS:
		r = seconds(opt, text, at, reterr);
		break;
	case FLAG:
		*(bool *)at = true;
		break;
	}
	return (r);
}

static int
parse(int argc, char **argv, struct load_options *o, struct hb_err *reterr)
{
	const struct option *opt;
	int r = 0;

	for (int i = 0; i < argc && r == 0; i++) {
		opt = find(argv[i]);
		if (opt == NULL)
			return (hb_err_set(
				reterr, -EINVAL, "%s is no option; see load --help", argv[i]));
		if (opt->kind != FLAG && i + 1 == argc)
			return (hb_err_set(reterr, -EINVAL, "%s needs a value", argv[i]));
		r = set(o, opt, opt->kind == FLAG ? NULL : argv[i + 1], reterr);
		i += opt->kind == FLAG ? 0 : 1;
	}
	return (r);
}

static int
refuse(const char *why)
{
	fprintf(stderr, "load: %s\n", why);
	return (1);
}

int
main(int argc, char **argv)
{
	struct load_options o = {
		.connections = 1,
		.streams = 1,
		.seconds_us = 1000000,
		.warmup_us = 300000,
		.timeout_us = 10000000,
		.max_frame = 16384,
	};
	struct rlimit files;
	struct hb_err err;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &files);
	}
	if (argc >= 2 && strcmp(argv[1], "--help") == 0)
		o.help = true;
	else if (argc < 2 || (strcmp(argv[1], "serve") != 0 && strcmp(argv[1], "run") != 0))
		return (refuse("give a command: serve or run; see load --help"));
	else if (parse(argc - 2, argv + 2, &o, &err) != 0)
		return (refuse(err.text));
	if (o.help)
		return (fputs(help, stdout) < 0 ? 1 : 0);
	if (strcmp(argv[1], "serve") == 0)
		return (o.n_listen == 0 ? refuse("serve needs --listen ADDR") : load_serve(&o));
	if (o.mode == NULL || o.via == NULL || o.to == NULL)
		return (refuse("run needs --mode, --via and --to; see load --help"));
	return (load_measure(&o));
}
