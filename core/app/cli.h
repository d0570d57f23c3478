/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/app/cli.h: the command line. Commands and options are tables, from which parsing, --help,
 * the shell completion and the man page come.
 */
#ifndef HB_CORE_APP_CLI_H
#define HB_CORE_APP_CLI_H

#include "core/base/err.h"
#include "core/base/str.h"

#define HB_EXIT_OK      0
#define HB_EXIT_RUNTIME 1
#define HB_EXIT_USAGE   2 /* command line or configuration */

#define HB_WORDS_MAX 4u

/* SECONDS are kept as ms. LIMIT is a NUMBER of which 0 means something. The uint64_t after those two
 * in struct hb_args says that they were given. */
enum hb_opt_kind { HB_OPT_FLAG, HB_OPT_TEXT, HB_OPT_NUMBER, HB_OPT_SECONDS, HB_OPT_LIMIT };

struct hb_opt {
	const char      *name; /* without the dashes */
	char             letter; /* 0 = none */
	enum hb_opt_kind kind;
	const char      *arg;  /* "FILE" */
	const char      *help;
	uint64_t         max;  /* of NUMBER and SECONDS */
	size_t           at;   /* offset in struct hb_args; TEXT: const char *, else uint64_t */
};

/* Values of every option of every command; not given = NULL / the default set by the command. */
struct hb_args {
	const char *config, *config_yaml, *log_level, *component_log_level, *log_format, *log_path;
	const char *admin_path;
	uint64_t concurrency, drain_time_ms, drain_time_set;
	uint64_t version_only, json, help;
	const char *listener, *sni, *alpn, *src, *dst, *peer, *authority;
	const char *load, *event_backend;
	uint64_t max_pipes, max_pipes_set, rest_above, rest_above_set, heap_trim;
	const char *id, *trust_domain, *dns, *out;
	uint64_t days, days_set;
	const char *words[HB_WORDS_MAX]; /* what stands beside the options */
	size_t n_words;
};

struct hb_command {
	const char *name;               /* one word, or "GROUP WORD"                */
	const char *synopsis, *summary;
	const char *text;               /* paragraphs of --help, with examples      */
	const struct hb_opt *const *opts; /* NULL-terminated                       */
	int (*run)(const struct hb_args *);
	unsigned words_max;             /* words beside the options: files, folders */
};

extern const struct hb_command *const hb_commands[]; /* NULL-terminated */

/* Parses argv[1…] of one command. 0, or -EINVAL with what to do next. */
int  hb_cli_parse(const struct hb_command *, int argc, char **argv, struct hb_args *,
    struct hb_err *reterr);
void hb_cli_help(const struct hb_command *, struct hb_text *); /* NULL = the program */
void hb_cli_completion(struct hb_text *);                      /* bash               */
void hb_cli_man(struct hb_text *);                             /* roff               */
/* Dispatch; returns the exit code. */
int  hb_cli_main(int argc, char **argv);

/* The commands. */
int hb_cmd_run(const struct hb_args *);
int hb_cmd_validate(const struct hb_args *);
int hb_cmd_explain(const struct hb_args *);
int hb_cmd_version(const struct hb_args *);
int hb_cmd_completion(const struct hb_args *);
int hb_cmd_man(const struct hb_args *);
int hb_cmd_cert_show(const struct hb_args *);
int hb_cmd_cert_check(const struct hb_args *);
int hb_cmd_ca_init(const struct hb_args *);
int hb_cmd_ca_issue(const struct hb_args *);

#endif
