/* SPDX-License-Identifier: Apache-2.0 */
#ifndef UTIL_LOGGING_H_
#define UTIL_LOGGING_H_
/*
 * In the place of RE2's util/logging.h, whose include guard this has: the same macros without std::ostringstream, which
 * brings 500 kB of the C++ library's streams and locales into a static program. A message is file and line; what
 * follows by << is left out. What is wrong with an expression is told by RE2::error(), not here.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>

#include "util/util.h"

namespace hb_re2
{
struct Log {
	Log(const char *file, int line, bool fatal)
	    : fatal_(fatal)
	{
		(void)fprintf(stderr, "re2: error at %s:%d\n", file, line);
	}
	~Log()
	{
		if (fatal_)
			abort();
	}
	template <class T>
	Log &
	operator<<(const T &)
	{
		return *this;
	}

	private:
	bool fatal_;
};
} // namespace hb_re2

#define LOG_ERROR hb_re2::Log(__FILE__, __LINE__, false)
#define LOG_FATAL hb_re2::Log(__FILE__, __LINE__, true)
#ifdef NDEBUG
#define LOG_DFATAL LOG_ERROR
#else
#define LOG_DFATAL LOG_FATAL
#endif
#define LOG(severity) LOG_##severity

#define CHECK(x) \
	if (x) { \
	} else \
		LOG_FATAL
#define CHECK_EQ(x, y) CHECK((x) == (y))

#define DCHECK(x)       assert(x)
#define DCHECK_EQ(x, y) assert((x) == (y))
#define DCHECK_NE(x, y) assert((x) != (y))
#define DCHECK_GE(x, y) assert((x) >= (y))
#define DCHECK_LE(x, y) assert((x) <= (y))

#endif
