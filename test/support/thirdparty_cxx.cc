/* SPDX-License-Identifier: Apache-2.0 */
#include "test/support/thirdparty_cxx.h"

#include <re2/re2.h>

extern "C" bool thirdparty_re2_full_match(const char *pattern, const char *text)
{
	RE2 re(pattern, RE2::Quiet);

	return re.ok() && RE2::FullMatch(text, re);
}
