/* SPDX-License-Identifier: Apache-2.0 */
/*
 * core/identity/reload.h: watched files: certificates, keys, roots, revocation lists.
 *
 * One watched file a path, shared by all who use it. That it changed is learnt from inotify on the
 * directories in which the path, its symbolic links and its target lie (an editor's rename,
 * Kubernetes' swap of ..data), and from stat(2) every 5 s (network file systems, directories that
 * are made later). Changed files are read again when nothing happened for 200 ms, at the latest 2 s
 * after the first sign; all of them before anybody is told, so that a certificate meets its key.
 * Whose bytes are the same has not changed.
 *
 * Control thread only. Nothing is opened before the control loop runs: compiling a configuration
 * may watch files, and changes nothing when it is only validated.
 */
#ifndef HB_CORE_IDENTITY_RELOAD_H
#define HB_CORE_IDENTITY_RELOAD_H

#include "core/base/err.h"
#include "core/base/list.h"
#include "core/base/str.h"

#define HB_FILE_MAX (4u << 20) /* bytes of one watched file */

/* Bytes that do not change, shared by counting; wiped when the last owner lets go, for they may be
 * a key. */
struct hb_blob {
	unsigned       magic;
#define HB_BLOB_MAGIC 0x3b10bb10
	unsigned       refs;       /* private */
	struct hb_text text;
	uint8_t        digest[32]; /* SHA-256 of the text */
};
struct hb_blob *hb_blob_new(struct hb_text *); /* takes the text */
struct hb_blob *hb_blob_ref(struct hb_blob *);
void            hb_blob_free(struct hb_blob **);

/* Reads a regular file of at most HB_FILE_MAX bytes. Negative errno. */
int hb_file_read(const char *path, struct hb_text *ret, struct hb_err *reterr);

struct hb_file;

/* Who uses a file; a part of the user's struct. */
struct hb_file_user {
	struct hb_list  node; /* private */
	struct hb_file *file; /* private; NULL = watches nothing */
	bool            news; /* private */
	void (*changed)(struct hb_file_user *);
};

/*
 * `changed` is called when the file was read for the first time, and whenever its bytes, or whether
 * it can be read, have changed. It must not watch or let go of files.
 */
void hb_file_watch(struct hb_file_user *, const char *path, void (*changed)(struct hb_file_user *));
void hb_file_unwatch(struct hb_file_user *);
/* What was read last, borrowed. NULL = nothing yet, or *ret_why says why it cannot be read. */
struct hb_blob *hb_file_blob(const struct hb_file_user *, const char **ret_why);

/* Something to do on the control thread when its loop has started, every 5 s, and once more in
 * hb_identity_stop. Must not unlink another one. */
struct hb_identity_tick {
	struct hb_list node; /* private */
	bool           on;   /* private */
	void (*fn)(struct hb_identity_tick *);
};
void hb_identity_tick_start(struct hb_identity_tick *, void (*fn)(struct hb_identity_tick *));
void hb_identity_tick_stop(struct hb_identity_tick *);

/* Reads every watched file again (SIGHUP); users of changed ones are told before it returns. */
void hb_identity_recheck(void);
/* Closes what belongs to the control loop; before hb_workers_fini. Later changes are not seen. */
void hb_identity_stop(void);
/* Files that are watched now. */
size_t hb_identity_files(void);
/* Times inotify could not be used for a directory; stat(2) serves then. */
uint64_t hb_identity_watch_failures(void);

#endif
