/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/core/config/support.h: documents and their errors in tests.
 */
#ifndef HB_TEST_CORE_CONFIG_SUPPORT_H
#define HB_TEST_CORE_CONFIG_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "core/config/config.h"

#define DESC(message) (&message##__descriptor)

/* Decodes; the document's name is "t.yaml". Free the cfg. */
struct hb_cfg *text_cfg(const char *text, const ProtobufCMessageDescriptor *,
    const ProtobufCMessage **ret_msg);
/*
 * Decodes text and expects exactly these errors, each as "line:column: path: text", in order and
 * ended by NULL.
 */
void expect_errors(const char *text, const ProtobufCMessageDescriptor *, ...);
/* The errors of a document against the list; `file` stands before each. */
void expect_cfg_errors(struct hb_cfg *, const char *file, va_list);
/* Decodes text without an error and compares its JSON in one line. */
void expect_json(const char *text, const ProtobufCMessageDescriptor *, const char *json);

#endif
