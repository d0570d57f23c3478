/* SPDX-License-Identifier: Apache-2.0 */
#include "core/match/regex.h"

#include <stdio.h>
#include <stdlib.h>
#include <exception>
#include <re2/re2.h>

#define BUDGET (1 << 20)

/* What the C++ library does in the end when an exception has no handler. Its own choice, which prints the
 * exception's name, brings 50 kB of demangler along. */
namespace __cxxabiv1
{
extern std::terminate_handler __terminate_handler;
std::terminate_handler __terminate_handler = abort;
} // namespace __cxxabiv1

struct hb_regex {
	RE2 re;

	hb_regex(const re2::StringPiece &pattern, const RE2::Options &options)
	    : re(pattern, options)
	{
	}
};

struct hb_regex *
hb_regex_new(const char *pattern, size_t n, char *error, size_t cap)
{
	RE2::Options options;
	struct hb_regex *r;

	if (n > HB_REGEX_MAX) {
		(void)snprintf(error, cap, "longer than %d bytes", HB_REGEX_MAX);
		return NULL;
	}
	options.set_log_errors(false);
	options.set_max_mem(BUDGET);
	options.set_never_capture(true);
	r = new hb_regex(re2::StringPiece(pattern, n), options);
	if (r->re.ok())
		return r;
	(void)snprintf(error, cap, "%s", r->re.error().c_str());
	delete r;
	return NULL;
}

void
hb_regex_free(struct hb_regex **r)
{
	delete *r;
	*r = NULL;
}

bool
hb_regex_full(const struct hb_regex *r, const char *text, size_t n)
{
	return RE2::FullMatch(re2::StringPiece(n == 0 ? "" : text, n), r->re);
}

bool
hb_regex_find(const struct hb_regex *r, const char *text, size_t n)
{
	return RE2::PartialMatch(re2::StringPiece(n == 0 ? "" : text, n), r->re);
}
