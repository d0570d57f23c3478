/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test/core/identity/folder.h: a folder of files that a test changes in the ways in which people and
 * programs change certificates. Everything goes with the folder at the end.
 */
#ifndef HB_TEST_CORE_IDENTITY_FOLDER_H
#define HB_TEST_CORE_IDENTITY_FOLDER_H

#include "core/base/str.h"

struct folder {
	char path[64];
};

void folder_init(struct folder *);
void folder_fini(struct folder *);
/* Path of a name in it; storage of one of 8 calls. */
const char *folder_at(const struct folder *, const char *name);
/* In place: truncates and writes. */
void folder_write(const struct folder *, const char *name, const char *text);
/* As editors do: a new file takes the place of the old one. */
void folder_rename(const struct folder *, const char *name, const char *text);
void folder_remove(const struct folder *, const char *name);
void folder_mkdir(const struct folder *, const char *name);
/* A symbolic link that takes the place of an older one at once, as Kubernetes does with ..data. */
void folder_link(const struct folder *, const char *name, const char *target);

#endif
