/* SPDX-License-Identifier: Apache-2.0 */
/* RE2 from C, for the link test only. */
#ifndef TEST_SUPPORT_THIRDPARTY_CXX_H
#define TEST_SUPPORT_THIRDPARTY_CXX_H

#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether RE2 finds that all of text matches pattern; false as well when pattern is invalid. */
bool thirdparty_re2_full_match(const char *pattern, const char *text);

#ifdef __cplusplus
}
#endif

#endif
