/* SPDX-License-Identifier: Apache-2.0 */
/* test/bench/load/hello.h: what a TLS client says first, for those that are asked for nothing more. */
#ifndef HB_TEST_BENCH_LOAD_HELLO_H
#define HB_TEST_BENCH_LOAD_HELLO_H

#include "core/base/err.h"
#include "core/base/str.h"

/* A ClientHello with this server name, as one record. */
int load_hello(const char *sni, struct hb_text *ret, struct hb_err *reterr);

#endif
