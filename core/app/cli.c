/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include "core/app/cli.h"

static uint64_t *
number_at(struct hb_args *a, const struct hb_opt *o)
{
	return ((uint64_t *)(void *)((char *)a + o->at));
}

static int
set_value(struct hb_args *a, const struct hb_opt *o, const char *value, struct hb_err *reterr)
{
	uint64_t v;

	switch (o->kind) {
	case HB_OPT_FLAG:
		*number_at(a, o) = 1;
		return (0);
	case HB_OPT_TEXT:
		*(const char **)(void *)((char *)a + o->at) = value;
		return (0);
	case HB_OPT_NUMBER:
	case HB_OPT_SECONDS:
	case HB_OPT_LIMIT:
		if (!hb_str_u64(hb_str(value), o->max, &v))
			return (hb_err_set(reterr, -EINVAL,
				"--%s wants a number from 0 to %llu, not \"%s\"", o->name,
				(unsigned long long)o->max, value));
		*number_at(a, o) = v;
		if (o->kind == HB_OPT_SECONDS)
			number_at(a, o)[0] = v * 1000;
		if (o->kind != HB_OPT_NUMBER)
			number_at(a, o)[1] = 1;
		return (0);
	}
	HB_WRONG("option kind");
}

static const struct hb_opt *
find_long(const struct hb_command *c, struct hb_str name)
{
	for (const struct hb_opt *const *o = c->opts; *o != NULL; o++)
		if (hb_str_eq(name, hb_str((*o)->name)))
			return (*o);
	return (NULL);
}

static const struct hb_opt *
find_short(const struct hb_command *c, char letter)
{
	for (const struct hb_opt *const *o = c->opts; *o != NULL; o++)
		if ((*o)->letter != 0 && (*o)->letter == letter)
			return (*o);
	return (NULL);
}

static int
unknown_option(const struct hb_command *c, const char *word, struct hb_err *reterr)
{
	const char *names[64];
	size_t n = 0;
	const char *near;

	for (const struct hb_opt *const *o = c->opts; *o != NULL && n + 1 < HB_ARRAY_LEN(names);
		o++)
		names[n++] = (*o)->name;
	names[n] = NULL;
	near = hb_err_nearest(word + strspn(word, "-"), names);
	if (near != NULL)
		return (hb_err_set(
			reterr, -EINVAL, "unknown option %s; did you mean --%s?", word, near));
	return (hb_err_set(
		reterr, -EINVAL, "unknown option %s; see hbone %s --help", word, c->name));
}

int
hb_cli_parse(const struct hb_command *c, int argc, char **argv, struct hb_args *args,
	struct hb_err *reterr)
{
	for (int i = 0; i < argc; i++) {
		const char *word = argv[i], *value = NULL;
		const struct hb_opt *o;
		int r;

		if (word[0] != '-' && args->n_words < c->words_max) {
			args->words[args->n_words++] = word;
			continue;
		}
		if (word[0] != '-' || word[1] == '\0')
			return (hb_err_set(reterr, -EINVAL,
				"unexpected argument \"%s\"; see hbone %s --help", word, c->name));
		if (word[1] == '-') {
			const char *eq = strchr(word, '=');
			size_t n = eq != NULL ? (size_t)(eq - word) - 2 : strlen(word) - 2;

			o = find_long(c, hb_strn(word + 2, n));
			value = eq != NULL ? eq + 1 : NULL;
		} else {
			o = find_short(c, word[1]);
			value = word[2] != '\0' ? word + 2 : NULL;
		}
		if (o == NULL)
			return (unknown_option(c, word, reterr));
		if (o->kind == HB_OPT_FLAG && value != NULL)
			return (hb_err_set(reterr, -EINVAL, "--%s takes no value", o->name));
		if (o->kind != HB_OPT_FLAG && value == NULL) {
			if (i + 1 >= argc)
				return (hb_err_set(
					reterr, -EINVAL, "--%s wants %s", o->name, o->arg));
			value = argv[++i];
		}
		r = set_value(args, o, value, reterr);
		if (r != 0)
			return (r);
	}
	return (0);
}

static void
help_option(const struct hb_opt *o, struct hb_text *t)
{
	char left[64];

	snprintf(left, sizeof left, "%c%c%s--%s%s%s", o->letter != 0 ? '-' : ' ',
		o->letter != 0 ? o->letter : ' ', o->letter != 0 ? ", " : "  ", o->name,
		o->arg != NULL ? " " : "", o->arg != NULL ? o->arg : "");
	hb_text_printf(t, "  %-34s %s\n", left, o->help);
}

void
hb_cli_help(const struct hb_command *c, struct hb_text *t)
{
	if (c == NULL) {
		hb_text_addz(t,
			"hbone carries TCP through a service mesh: HBONE tunnels and SNI gateways.\n\n"
			"Usage: hbone COMMAND [OPTIONS]\n\nCommands:\n");
		for (const struct hb_command *const *p = hb_commands; *p != NULL; p++)
			hb_text_printf(t, "  %-12s %s\n", (*p)->name, (*p)->summary);
		hb_text_addz(t,
			"\nFirst steps:\n"
			"  hbone validate -c gateway.yaml      every mistake in the file, with line and column\n"
			"  hbone run -c gateway.yaml           run it; ctrl-c drains and stops\n"
			"  hbone explain -c gateway.yaml --dst 127.0.0.1:15443 --sni a.example\n"
			"                                      which way would this connection go, and why\n\n"
			"hbone COMMAND --help tells more. Exit codes: 0 ok, 1 runtime error, 2 usage or\n"
			"configuration error.\n");
		return;
	}
	hb_text_printf(
		t, "Usage: hbone %s %s\n\n%s\n\n%s", c->name, c->synopsis, c->summary, c->text);
	hb_text_addz(t, "\nOptions:\n");
	for (const struct hb_opt *const *o = c->opts; *o != NULL; o++)
		help_option(*o, t);
}

/* Commands of one group ("cert show", "cert check") stand together in the table. */
static bool
in_group(const struct hb_command *c, struct hb_str group)
{
	return (hb_str_starts(hb_str(c->name), group) && c->name[group.len] == ' ');
}

/* The first of its group, or a command of one word. */
static bool
starts_group(const struct hb_command *const *c)
{
	struct hb_str group = hb_strn((*c)->name, strcspn((*c)->name, " "));

	return (c == hb_commands || !in_group(c[-1], group));
}

static void
completion_groups(struct hb_text *t)
{
	for (const struct hb_command *const *c = hb_commands; *c != NULL; c++) {
		struct hb_str group = hb_strn((*c)->name, strcspn((*c)->name, " "));

		if (!in_group(*c, group) || !starts_group(c))
			continue;
		hb_text_printf(t, "\t\"%.*s \"*) words=\"--help", HB_STR_FMT(group));
		for (const struct hb_command *const *w = c; *w != NULL && in_group(*w, group); w++)
			hb_text_printf(t, " %s", (*w)->name + group.len + 1);
		hb_text_addz(t, "\";;\n");
	}
}

void
hb_cli_completion(struct hb_text *t)
{
	hb_text_addz(t,
		"# bash completion for hbone; source it, or put it in\n"
		"# /usr/share/bash-completion/completions/hbone\n_hbone() {\n"
		"\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words= files=\n"
		"\tcase $prev in\n"
		"\t-c|--config|--log-path|--load) COMPREPLY=($(compgen -f -- \"$cur\")); return;;\n"
		"\t-l|--log-level) COMPREPLY=($(compgen -W \"trace debug info warn error critical off\" -- \"$cur\")); return;;\n"
		"\tesac\n\tcase \"${COMP_WORDS[*]:1}\" in\n");
	for (const struct hb_command *const *c = hb_commands; *c != NULL; c++) {
		hb_text_printf(t, "\t\"%s \"*) words=\"", (*c)->name);
		for (const struct hb_opt *const *o = (*c)->opts; *o != NULL; o++)
			hb_text_printf(t, "%s--%s", o == (*c)->opts ? "" : " ", (*o)->name);
		hb_text_printf(t, "\"%s;;\n", (*c)->words_max > 0 ? " files=1" : "");
	}
	completion_groups(t);
	hb_text_addz(t, "\t*) words=\"--help --version");
	for (const struct hb_command *const *c = hb_commands; *c != NULL; c++)
		if (starts_group(c))
			hb_text_printf(t, " %.*s", (int)strcspn((*c)->name, " "), (*c)->name);
	hb_text_addz(t,
		"\";;\n\tesac\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n"
		"\t[ -z \"$files\" ] || COMPREPLY+=($(compgen -f -- \"$cur\"))\n}\n"
		"complete -F _hbone hbone\n");
}

/* A leading dot or quote would be a roff request, a backslash an escape. */
static void
man_text(struct hb_text *t, const char *z)
{
	bool bol = true;

	for (; *z != '\0'; z++) {
		if (bol && (*z == '.' || *z == '\''))
			hb_text_addz(t, "\\&");
		if (*z == '\\')
			hb_text_addz(t, "\\e");
		else if (*z == '-')
			hb_text_addz(t, "\\-");
		else
			hb_text_addc(t, *z);
		bol = *z == '\n';
	}
}

void
hb_cli_man(struct hb_text *t)
{
	struct hb_text top = { 0 };

	hb_text_addz(t,
		".TH HBONE 1\n.SH NAME\nhbone \\- HBONE tunnels and SNI gateways for service meshes\n"
		".SH SYNOPSIS\n.B hbone\nCOMMAND [OPTIONS]\n.SH DESCRIPTION\n.nf\n");
	hb_cli_help(NULL, &top);
	man_text(t, top.p);
	hb_text_fini(&top);
	hb_text_addz(t, ".fi\n");
	for (const struct hb_command *const *c = hb_commands; *c != NULL; c++) {
		struct hb_text body = { 0 };

		hb_text_printf(t, ".SH HBONE %s\n.nf\n", (*c)->name);
		hb_cli_help(*c, &body);
		man_text(t, body.p);
		hb_text_fini(&body);
		hb_text_addz(t, ".fi\n");
	}
}

static int
print_and_free(struct hb_text *t, FILE *to)
{
	bool bad = t->p != NULL && fputs(t->p, to) < 0;

	bad = fflush(to) != 0 || bad;
	hb_text_fini(t);
	return (bad ? HB_EXIT_RUNTIME : HB_EXIT_OK);
}

int
hb_cmd_completion(const struct hb_args *args)
{
	struct hb_text t = { 0 };

	hb_cli_completion(&t);
	return (print_and_free(&t, stdout));
}

int
hb_cmd_man(const struct hb_args *args)
{
	struct hb_text t = { 0 };

	hb_cli_man(&t);
	return (print_and_free(&t, stdout));
}

static int
usage_error(const struct hb_err *err)
{
	fprintf(stderr, "hbone: %s\n", err->text);
	return (HB_EXIT_USAGE);
}

/* What the group has; false when there is no such group. */
static bool
help_group(const char *name, struct hb_text *t)
{
	bool any = false;

	for (const struct hb_command *const *c = hb_commands; *c != NULL; c++) {
		if (!in_group(*c, hb_str(name)))
			continue;
		if (!any)
			hb_text_printf(t, "Usage: hbone %s COMMAND [OPTIONS]\n\nCommands:\n", name);
		hb_text_printf(t, "  %-12s %s\n", (*c)->name, (*c)->summary);
		any = true;
	}
	if (any)
		hb_text_addz(t, "\nhbone COMMAND --help tells more.\n");
	return (any);
}

static int
unknown_command(const char *name, struct hb_err *reterr)
{
	const char *names[32];
	struct hb_text group = { 0 };
	size_t n = 0;
	const char *near;

	for (const struct hb_command *const *c = hb_commands; *c != NULL; c++) {
		HB_ASSERT(n + 1 < HB_ARRAY_LEN(names));
		names[n++] = (*c)->name;
		if (in_group(*c, hb_str(name)))
			hb_text_printf(&group, "%s%s", group.len > 0 ? ", " : "", (*c)->name);
	}
	names[n] = NULL;
	near = hb_err_nearest(name, names);
	if (group.len > 0)
		hb_err_set(reterr, -EINVAL, "which command? there are %s; see hbone %s --help",
			group.p, name);
	else if (near != NULL)
		hb_err_set(reterr, -EINVAL, "unknown command \"%s\"; did you mean \"%s\"?", name,
			near);
	else
		hb_err_set(reterr, -EINVAL, "unknown command \"%s\"; see hbone --help", name);
	hb_text_fini(&group);
	return (-EINVAL);
}

/* By its one or two words; *ret_used says how many they were. */
static const struct hb_command *
find_command(int argc, char **argv, int *ret_used, struct hb_err *reterr)
{
	for (const struct hb_command *const *c = hb_commands; *c != NULL; c++) {
		bool two = in_group(*c, hb_str(argv[0]));

		*ret_used = two ? 2 : 1;
		if (two ? argc > 1 && strcmp((*c)->name + strlen(argv[0]) + 1, argv[1]) == 0 :
			  strcmp((*c)->name, argv[0]) == 0)
			return (*c);
	}
	(void)unknown_command(argv[0], reterr);
	return (NULL);
}

static bool
is_help(const char *word)
{
	return (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0);
}

/* hbone help [COMMAND], hbone --help, hbone GROUP [--help]. */
static int
show_help(int argc, char **argv)
{
	const struct hb_command *c = NULL;
	struct hb_text help = { 0 };
	struct hb_err err;
	int used;

	if (argc == 1 && help_group(argv[0], &help))
		return (print_and_free(&help, stdout));
	if (argc > 0 && (c = find_command(argc, argv, &used, &err)) == NULL)
		return (usage_error(&err));
	hb_cli_help(c, &help);
	return (print_and_free(&help, stdout));
}

int
hb_cli_main(int argc, char **argv)
{
	struct hb_args args = { 0 };
	struct hb_text help = { 0 };
	const struct hb_command *c;
	struct hb_err err;
	int used;

	if (argc < 2) {
		hb_cli_help(NULL, &help);
		print_and_free(&help, stderr);
		return (HB_EXIT_USAGE);
	}
	if (is_help(argv[1]) || strcmp(argv[1], "help") == 0)
		return (show_help(argc - 2, argv + 2));
	if (strcmp(argv[1], "--version") == 0)
		return (hb_cmd_version(&args));
	c = find_command(argc - 1, argv + 1, &used, &err);
	if (c == NULL && argc == 3 && is_help(argv[2]))
		return (show_help(1, argv + 1));
	if (c == NULL)
		return (usage_error(&err));
	if (hb_cli_parse(c, argc - 1 - used, argv + 1 + used, &args, &err) != 0)
		return (usage_error(&err));
	if (args.help != 0) {
		hb_cli_help(c, &help);
		return (print_and_free(&help, stdout));
	}
	return (c->run(&args));
}
