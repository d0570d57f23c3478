/* SPDX-License-Identifier: Apache-2.0 */
#include "test/core/identity/folder.h"

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void
folder_init(struct folder *f)
{
	const char *base = getenv("TEST_TMPDIR");

	(void)snprintf(f->path, sizeof f->path, "%s/hbXXXXXX",
		base == NULL || strlen(base) > 48 ? "/tmp" : base);
	HB_ASSERT(mkdtemp(f->path) != NULL);
}

static int
drop(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return (remove(path));
}

void
folder_fini(struct folder *f)
{
	HB_ASSERT(nftw(f->path, drop, 8, FTW_DEPTH | FTW_PHYS) == 0);
}

const char *
folder_at(const struct folder *f, const char *name)
{
	static char v[8][256];
	static unsigned next;
	char *p = v[next++ % 8];

	HB_ASSERT(snprintf(p, sizeof v[0], "%s/%s", f->path, name) < (int)sizeof v[0]);
	return (p);
}

static void
write_file(const char *path, const char *text)
{
	FILE *f = fopen(path, "we");

	HB_ASSERT(f != NULL);
	HB_ASSERT(fputs(text, f) >= 0);
	HB_ASSERT(fclose(f) == 0);
}

void
folder_write(const struct folder *f, const char *name, const char *text)
{
	write_file(folder_at(f, name), text);
}

void
folder_rename(const struct folder *f, const char *name, const char *text)
{
	const char *new = folder_at(f, ".new");

	write_file(new, text);
	HB_ASSERT(rename(new, folder_at(f, name)) == 0);
}

void
folder_remove(const struct folder *f, const char *name)
{
	HB_ASSERT(remove(folder_at(f, name)) == 0);
}

void
folder_mkdir(const struct folder *f, const char *name)
{
	HB_ASSERT(mkdir(folder_at(f, name), 0700) == 0);
}

void
folder_link(const struct folder *f, const char *name, const char *target)
{
	const char *new = folder_at(f, "..new");

	HB_ASSERT(symlink(target, new) == 0);
	HB_ASSERT(rename(new, folder_at(f, name)) == 0);
}
