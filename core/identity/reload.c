/* SPDX-License-Identifier: Apache-2.0 */
#include "core/identity/reload.h"

#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <openssl/mem.h>
#include <openssl/sha.h>
#include "core/base/log.h"
#include "core/event/worker.h"

#define POLL_MS   5000
#define QUIET_MS  200
#define QUIET_MAX 2000
#define LINKS_MAX 16u /* directories that matter for one path */

/* What stat(2) says; all zero = there is no such file. */
struct stamp {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec mtime, ctime;
};

/* A directory under watch. Its memory belongs to the loop until its handle is closed. */
struct dir {
	uv_fs_event_t handle;
	struct hb_list node;
	struct hb_list links;
	char *path;
	dev_t dev;
	ino_t ino;
	bool open;    /* the handle exists                    */
	bool moved;   /* or removed; a number of an inode may come again */
	bool refused; /* inotify said no; counted and logged  */
};

/* A name in a directory that decides what a file's path leads to. */
struct link {
	struct hb_list node; /* of dir->links */
	struct hb_file *file;
	struct dir *dir;
	char *name;
};

enum touch { UNTOUCHED, STAT, READ };

struct hb_file {
	unsigned magic;
#define FILE_MAGIC 0x0f11ef11
	struct hb_list node, users;
	char *path;
	struct hb_blob *blob; /* NULL = never read, or it cannot be */
	char *why;            /* it cannot be read                  */
	struct stamp stamp;
	struct link links[LINKS_MAX];
	size_t n_links;
	enum touch touched;
	bool news;
};

static struct {
	struct hb_list files, dirs;
	struct hb_map *by_path;
	struct hb_list ticks;
	size_t n_files;
	struct hb_timer poll, quiet;
	struct hb_run start;
	struct hb_worker *worker; /* NULL = not started */
	uint64_t first_ms;        /* of the signs that wait for quiet */
	uint64_t failures;
	bool queued; /* start is in the run queue        */
} watch = { .files = { &watch.files, &watch.files },
	.dirs = { &watch.dirs, &watch.dirs },
	.ticks = { &watch.ticks, &watch.ticks } };

/* ------------------------------------------------------------------ blobs */

struct hb_blob *
hb_blob_new(struct hb_text *text)
{
	struct hb_blob *b;

	HB_NEW(b, HB_BLOB_MAGIC);
	b->refs = 1;
	b->text = *text;
	memset(text, 0, sizeof *text);
	SHA256((const uint8_t *)(b->text.p == NULL ? "" : b->text.p), b->text.len, b->digest);
	return (b);
}

struct hb_blob *
hb_blob_ref(struct hb_blob *b)
{
	HB_CHECK(b, HB_BLOB_MAGIC);
	b->refs++;
	return (b);
}

void
hb_blob_free(struct hb_blob **pb)
{
	struct hb_blob *b = *pb;

	if (b == NULL)
		return;
	HB_CHECK(b, HB_BLOB_MAGIC);
	*pb = NULL;
	if (--b->refs > 0)
		return;
	if (b->text.p != NULL)
		OPENSSL_cleanse(b->text.p, b->text.cap);
	hb_text_fini(&b->text);
	HB_DEL(b);
}

/* ------------------------------------------------------------------ reading */

static int
read_fd(int fd, const char *path, struct hb_text *ret, struct hb_err *reterr)
{
	char piece[16384];
	ssize_t n;

	while ((n = read(fd, piece, sizeof piece)) > 0 || (n < 0 && errno == EINTR)) {
		if (n > 0)
			hb_text_add(ret, piece, (size_t)n);
		if (ret->len > HB_FILE_MAX)
			break;
	}
	n = n < 0 ? -errno : 0;
	OPENSSL_cleanse(piece, sizeof piece);
	if (n < 0)
		return (hb_err_set(
			reterr, (int)n, "%s cannot be read: %s", path, strerror((int)-n)));
	if (ret->len > HB_FILE_MAX)
		return (hb_err_set(reterr, -EFBIG, "%s has more than %u bytes", path, HB_FILE_MAX));
	return (0);
}

static struct stamp
stamp_of(const struct stat *st)
{
	struct stamp s;

	memset(&s, 0, sizeof s);
	s.dev = st->st_dev;
	s.ino = st->st_ino;
	s.size = st->st_size;
	s.mtime = st->st_mtim;
	s.ctime = st->st_ctim;
	return (s);
}

static int
read_stamped(const char *path, struct hb_text *ret, struct stamp *stamp, struct hb_err *reterr)
{
	/* A pipe in its place must not make us wait. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK), r;
	struct stat st;

	memset(stamp, 0, sizeof *stamp);
	*ret = (struct hb_text){ 0 };
	if (fd < 0) {
		r = -errno;
		return (hb_err_set(reterr, r, "%s cannot be read: %s", path, strerror(-r)));
	}
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		(void)close(fd);
		return (hb_err_set(reterr, -EINVAL, "%s is not a regular file", path));
	}
	*stamp = stamp_of(&st);
	r = read_fd(fd, path, ret, reterr);
	(void)close(fd);
	if (r != 0) {
		if (ret->p != NULL)
			OPENSSL_cleanse(ret->p, ret->cap);
		hb_text_fini(ret);
	}
	return (r);
}

int
hb_file_read(const char *path, struct hb_text *ret, struct hb_err *reterr)
{
	struct stamp unused;

	return (read_stamped(path, ret, &unused, reterr));
}

/* ------------------------------------------------------------------ directories */

static void quiet_soon(void);

static void
on_fs_event(uv_fs_event_t *h, const char *name, int events, int status)
{
	struct dir *d = HB_CONTAINER(h, struct dir, handle);
	const char *own = strrchr(d->path, '/');
	struct hb_list *n;

	(void)events;
	(void)status;
	/* Of itself the library tells by the name of the directory. */
	own = own == NULL ? d->path : own + 1;
	d->moved |= name == NULL || strcmp(name, own) == 0;
	HB_LIST_FOREACH (n, &d->links) {
		struct link *l = HB_LIST_ENTRY(n, struct link, node);
		enum touch touch = d->moved || strcmp(name, l->name) == 0 ? READ : STAT;

		l->file->touched = HB_MAX(l->file->touched, touch);
	}
	quiet_soon();
}

static void
on_dir_closed(uv_handle_t *h)
{
	struct dir *d = HB_CONTAINER((uv_fs_event_t *)(void *)h, struct dir, handle);

	hb_free(d->path);
	hb_free(d);
}

static void
dir_open(struct dir *d)
{
	struct stat st;
	int r;

	HB_ASSERT(!d->open);
	if (stat(d->path, &st) != 0)
		return;
	if (uv_fs_event_init(watch.worker->loop, &d->handle) != 0)
		return;
	d->open = true;
	d->dev = st.st_dev;
	d->ino = st.st_ino;
	r = uv_fs_event_start(&d->handle, on_fs_event, d->path, 0);
	/* Certificates must not keep the control loop alive. */
	uv_unref((uv_handle_t *)&d->handle);
	if (r == 0 || r == UV_ENOENT || d->refused)
		return;
	d->refused = true;
	watch.failures++;
	HB_LOG(TLS, WARN, "a directory cannot be watched; its files are looked at every 5 s",
		"directory=%s error=%s", d->path, uv_strerror(r));
}

static void
dir_drop(struct dir *d)
{
	hb_list_del(&d->node);
	if (d->open)
		uv_close((uv_handle_t *)&d->handle, on_dir_closed);
	else
		on_dir_closed((uv_handle_t *)&d->handle);
}

/* Another directory has taken the place, or there is one now. */
static bool
dir_stale(const struct dir *d)
{
	struct stat st;

	if (stat(d->path, &st) != 0)
		return (d->moved || d->open);
	return (d->moved || !d->open || st.st_dev != d->dev || st.st_ino != d->ino);
}

static struct dir *
dir_get(const char *path)
{
	struct hb_list *n;
	struct dir *d, *old = NULL;

	HB_LIST_FOREACH (n, &watch.dirs) {
		d = HB_LIST_ENTRY(n, struct dir, node);
		if (strcmp(d->path, path) != 0)
			continue;
		if (!dir_stale(d))
			return (d);
		old = d;
		break;
	}
	d = hb_calloc(1, sizeof *d);
	d->path = hb_strdup(path);
	d->refused = old != NULL && old->refused;
	hb_list_init(&d->links);
	hb_list_init(&d->node);
	hb_list_add_tail(&watch.dirs, &d->node);
	dir_open(d);
	if (old == NULL)
		return (d);
	HB_LIST_FOREACH (n, &old->links)
		HB_LIST_ENTRY(n, struct link, node)->dir = d;
	hb_list_splice(&d->links, &old->links);
	dir_drop(old);
	return (d);
}

/* ------------------------------------------------------------------ links of a path */

static void
links_drop(struct hb_file *f)
{
	for (size_t i = 0; i < f->n_links; i++) {
		struct link *l = &f->links[i];

		hb_list_del(&l->node);
		hb_free(l->name);
		if (hb_list_empty(&l->dir->links))
			dir_drop(l->dir);
	}
	f->n_links = 0;
}

/* The name at the end of `path`, in the directory before it. */
static void
link_add(struct hb_file *f, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash == NULL ? path : slash + 1;
	struct link *l = &f->links[f->n_links];
	char *folder;

	if (f->n_links == LINKS_MAX || *name == '\0')
		return;
	folder = slash == NULL ? hb_strdup(".") :
		slash == path  ? hb_strdup("/") :
				 hb_strndup(path, (size_t)(slash - path));
	for (size_t i = 0; i < f->n_links; i++) {
		if (strcmp(f->links[i].name, name) == 0 &&
			strcmp(f->links[i].dir->path, folder) == 0) {
			hb_free(folder);
			return;
		}
	}
	l->file = f;
	l->name = hb_strdup(name);
	l->dir = dir_get(folder);
	hb_list_init(&l->node);
	hb_list_add_tail(&l->dir->links, &l->node);
	f->n_links++;
	hb_free(folder);
}

/* Each part of the path that is a symbolic link, the path itself, and what it leads to. */
static void
links_make(struct hb_file *f)
{
	char *part = hb_strdup(f->path), *real;
	struct stat st;

	for (size_t i = 1; part[i] != '\0'; i++) {
		if (part[i] != '/' || part[i - 1] == '/')
			continue;
		part[i] = '\0';
		if (lstat(part, &st) == 0 && S_ISLNK(st.st_mode))
			link_add(f, part);
		part[i] = '/';
	}
	hb_free(part);
	link_add(f, f->path);
	real = realpath(f->path, NULL);
	if (real != NULL && strcmp(real, f->path) != 0)
		link_add(f, real);
	free(real);
}

/* New links before old ones go, so that a directory of both stays open. */
static void
links_renew(struct hb_file *f)
{
	struct hb_file old = *f;

	for (size_t i = 0; i < old.n_links; i++) {
		hb_list_init(&old.links[i].node);
		hb_list_add_tail(&old.links[i].dir->links, &old.links[i].node);
		hb_list_del(&f->links[i].node);
	}
	f->n_links = 0;
	links_make(f);
	links_drop(&old);
}

/* ------------------------------------------------------------------ looking again */

static void
refresh(struct hb_file *f)
{
	struct hb_text text;
	struct hb_blob *blob = NULL;
	struct hb_err err;
	bool same;

	f->touched = UNTOUCHED;
	if (read_stamped(f->path, &text, &f->stamp, &err) == 0)
		blob = hb_blob_new(&text);
	links_renew(f);
	if (blob != NULL)
		same = f->blob != NULL &&
			memcmp(f->blob->digest, blob->digest, sizeof blob->digest) == 0;
	else
		same = f->why != NULL && strcmp(f->why, err.text) == 0;
	if (same) {
		hb_blob_free(&blob);
		return;
	}
	hb_blob_free(&f->blob);
	hb_free(f->why);
	f->blob = blob;
	f->why = blob == NULL ? hb_strdup(err.text) : NULL;
	f->news = true;
}

static bool
stamp_differs(const struct hb_file *f)
{
	struct stamp now;
	struct stat st;

	memset(&now, 0, sizeof now);
	if (stat(f->path, &st) == 0 && S_ISREG(st.st_mode))
		now = stamp_of(&st);
	return (memcmp(&now, &f->stamp, sizeof now) != 0);
}

static void
tell(struct hb_file_user *u, bool news)
{
	if (!news && !u->news)
		return;
	u->news = false;
	u->changed(u);
}

static void
look(void)
{
	struct hb_list *n, *u;

	watch.first_ms = 0;
	HB_LIST_FOREACH (n, &watch.files) {
		struct hb_file *f = HB_LIST_ENTRY(n, struct hb_file, node);

		if (f->touched == READ || (f->touched == STAT && stamp_differs(f)))
			refresh(f);
		f->touched = UNTOUCHED;
	}
	HB_LIST_FOREACH (n, &watch.files) {
		struct hb_file *f = HB_LIST_ENTRY(n, struct hb_file, node);

		HB_LIST_FOREACH (u, &f->users)
			tell(HB_LIST_ENTRY(u, struct hb_file_user, node), f->news);
		f->news = false;
	}
}

static void
on_quiet(struct hb_timer *t)
{
	(void)t;
	look();
}

static void
quiet_soon(void)
{
	uint64_t now = hb_now_ms(watch.worker), last;

	if (watch.first_ms == 0)
		watch.first_ms = now;
	last = watch.first_ms + QUIET_MAX;
	hb_timer_start(&watch.quiet, now >= last ? 0 : HB_MIN((uint64_t)QUIET_MS, last - now));
}

static void
tick(void)
{
	struct hb_list *n, *next;

	HB_LIST_FOREACH_SAFE (n, next, &watch.ticks) {
		struct hb_identity_tick *k = HB_LIST_ENTRY(n, struct hb_identity_tick, node);

		k->fn(k);
	}
}

static void
on_poll(struct hb_timer *t)
{
	struct hb_list *n;
	bool signs = false;

	HB_LIST_FOREACH (n, &watch.files) {
		struct hb_file *f = HB_LIST_ENTRY(n, struct hb_file, node);
		bool differs = stamp_differs(f);

		for (size_t i = 0; i < f->n_links && !differs; i++)
			differs = dir_stale(f->links[i].dir);
		if (differs)
			f->touched = READ;
		signs |= differs;
	}
	if (signs)
		quiet_soon();
	hb_timer_start(t, POLL_MS);
	tick();
}

/* ------------------------------------------------------------------ start and end */

static void
on_start(struct hb_run *r)
{
	(void)r;
	watch.queued = false;
	if (watch.worker == NULL) {
		watch.worker = hb_worker_control();
		hb_timer_init(&watch.poll, watch.worker, on_poll);
		hb_timer_init(&watch.quiet, watch.worker, on_quiet);
		hb_timer_start(&watch.poll, POLL_MS);
		tick();
	}
	look();
}

/* Files of one turn are read together in the next. */
static void
start_soon(void)
{
	if (watch.queued || hb_worker_control() == NULL)
		return;
	watch.queued = true;
	hb_run_init(&watch.start, on_start);
	hb_run_soon(hb_worker_control(), &watch.start);
}

void
hb_identity_stop(void)
{
	struct hb_list *n;

	if (watch.queued)
		hb_run_cancel(&watch.start);
	watch.queued = false;
	if (watch.worker == NULL)
		return;
	hb_timer_stop(&watch.poll);
	hb_timer_stop(&watch.quiet);
	HB_LIST_FOREACH (n, &watch.files)
		links_drop(HB_LIST_ENTRY(n, struct hb_file, node));
	tick();
	watch.worker = NULL;
}

void
hb_identity_recheck(void)
{
	struct hb_list *n;

	if (watch.worker == NULL)
		return;
	HB_LIST_FOREACH (n, &watch.files)
		HB_LIST_ENTRY(n, struct hb_file, node)->touched = READ;
	hb_timer_stop(&watch.quiet);
	look();
}

size_t
hb_identity_files(void)
{
	return (watch.n_files);
}

uint64_t
hb_identity_watch_failures(void)
{
	return (watch.failures);
}

static void
stop_unused(void)
{
	if (watch.n_files == 0 && hb_list_empty(&watch.ticks))
		hb_identity_stop();
}

void
hb_identity_tick_start(struct hb_identity_tick *k, void (*fn)(struct hb_identity_tick *))
{
	if (k->on)
		return;
	k->on = true;
	k->fn = fn;
	hb_list_init(&k->node);
	hb_list_add_tail(&watch.ticks, &k->node);
	start_soon();
}

void
hb_identity_tick_stop(struct hb_identity_tick *k)
{
	if (!k->on)
		return;
	k->on = false;
	hb_list_del(&k->node);
	stop_unused();
}

/* ------------------------------------------------------------------ users */

void
hb_file_watch(struct hb_file_user *u, const char *path, void (*changed)(struct hb_file_user *))
{
	struct hb_file *f;

	HB_ASSERT(u->file == NULL && changed != NULL);
	if (watch.by_path == NULL)
		watch.by_path = hb_map_new();
	f = hb_map_get(watch.by_path, hb_str(path));
	if (f == NULL) {
		HB_NEW(f, FILE_MAGIC);
		f->path = hb_strdup(path);
		f->touched = READ;
		hb_list_init(&f->users);
		hb_list_init(&f->node);
		hb_list_add_tail(&watch.files, &f->node);
		(void)hb_map_put(watch.by_path, hb_str(path), f);
		watch.n_files++;
	}
	u->file = f;
	u->changed = changed;
	hb_list_init(&u->node);
	hb_list_add_tail(&f->users, &u->node);
	u->news = true;
	start_soon();
}

void
hb_file_unwatch(struct hb_file_user *u)
{
	struct hb_file *f = u->file;

	if (f == NULL)
		return;
	HB_CHECK(f, FILE_MAGIC);
	u->file = NULL;
	hb_list_del(&u->node);
	if (!hb_list_empty(&f->users))
		return;
	links_drop(f);
	(void)hb_map_del(watch.by_path, hb_str(f->path));
	hb_list_del(&f->node);
	watch.n_files--;
	hb_blob_free(&f->blob);
	hb_free(f->why);
	hb_free(f->path);
	HB_DEL(f);
	if (watch.n_files > 0)
		return;
	hb_map_free(&watch.by_path);
	stop_unused();
}

struct hb_blob *
hb_file_blob(const struct hb_file_user *u, const char **ret_why)
{
	HB_CHECK(u->file, FILE_MAGIC);
	*ret_why = u->file->why;
	return (u->file->blob);
}
