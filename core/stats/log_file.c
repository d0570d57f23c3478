/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <unistd.h>
#include "core/base/log.h"
#include "core/stats/access_log.h"
#include "core/stats/log_file.h"
#include "core/stats/stats.h"

#define BLOCK_BYTES   (64u * 1024u)
#define PENDING_BYTES (4u * 1024u * 1024u)
#define BATCH_MAX     64u
#define STOP_MS       2000 /* for the pool to write what it has */

#define ACCESS_LOG_STATS(X)                                                          \
	X(LOG_BYTES, "written_bytes", COUNTER, "Bytes of access log lines written.") \
	X(LOG_DROPPED, "dropped_bytes", COUNTER,                                     \
		"Bytes dropped because a file could not keep up.")                   \
	X(LOG_FAILED, "write_failed", COUNTER, "Blocks that could not be opened or written.")

enum access_log_stat { ACCESS_LOG_STATS(HB_STAT_ENUM) ACCESS_LOG_STAT_MAX };
HB_STAT_FAMILY(access_log_family, "access_log", "hbone_access_log", NULL, ACCESS_LOG_STATS);

struct part { /* one worker's share of one file */
	struct hb_text text;
	struct hb_timer timer; /* started with the first line of a block */
	struct log_file *file;
};

struct block {
	struct hb_task task;
	struct block *next;
	struct log_file *file;
	struct hb_text text;
};

struct log_file {
	unsigned magic;
#define LOG_FILE_MAGIC 0x2ba5e010
	char *path; /* owned */
	struct log_file *next;
	int fd; /* -1 = to open */
	bool reopen;
	struct block *head, **tail; /* waiting; control thread   */
	size_t pending;             /* bytes in them             */
	uv_work_t work;
	bool working;
	struct block *batch[BATCH_MAX]; /* of the pool's thread while working */
	unsigned n_batch;
	int error; /* of the last batch         */
	size_t written;
	unsigned n_parts;
	struct part part[]; /* workers, then control     */
};

static void file_work(struct log_file *);

static struct log_file *files;
static struct hb_stats *stats;
static _Atomic bool stopping; /* what comes now is written by hb_log_file_fini */

/* A flush that waits: for workers first, then for the pool. */
static struct {
	void (*done)(void *arg);
	void *arg;
	bool waiting;
} flushing;

static unsigned
part_index(const struct hb_worker *w)
{
	return (w->index == HB_WORKER_CONTROL ? hb_workers_count() : w->index);
}

static void
hand_over(struct hb_task *t)
{
	struct block *b = HB_CONTAINER(t, struct block, task);
	struct log_file *f = b->file;

	if (f->pending + b->text.len > PENDING_BYTES) {
		hb_stat_add(hb_worker_control(), stats, LOG_DROPPED, (int64_t)b->text.len);
		hb_text_fini(&b->text);
		hb_free(b);
		return;
	}
	f->pending += b->text.len;
	b->next = NULL;
	*f->tail = b;
	f->tail = &b->next;
	if (!f->working && !stopping)
		file_work(f);
}

static void
part_send(struct part *p, struct hb_worker *w)
{
	struct block *b;

	hb_timer_stop(&p->timer);
	if (p->text.len == 0)
		return;
	b = hb_calloc(1, sizeof *b);
	b->file = p->file;
	b->text = p->text;
	memset(&p->text, 0, sizeof p->text);
	if (w == hb_worker_control())
		hand_over(&b->task);
	else
		hb_post(hb_worker_control(), &b->task, hand_over);
}

static void
part_due(struct hb_timer *t)
{
	part_send(HB_CONTAINER(t, struct part, timer), t->worker);
}

struct log_file *
hb_log_file_get(struct hb_str path)
{
	unsigned n = hb_workers_count() + 1;
	struct log_file *f;

	for (f = files; f != NULL; f = f->next)
		if (hb_str_eq(path, hb_str(f->path)))
			return (f);
	if (stats == NULL)
		stats = hb_stats_get(&access_log_family, HB_STR(""));
	f = hb_calloc(1, sizeof *f + n * sizeof f->part[0]);
	f->magic = LOG_FILE_MAGIC;
	f->path = hb_strndup(path.p, path.len);
	f->fd = -1;
	f->tail = &f->head;
	f->n_parts = n;
	for (unsigned i = 0; i < n; i++) {
		f->part[i].file = f;
		hb_timer_init(&f->part[i].timer, i + 1 == n ? hb_worker_control() : hb_worker_at(i),
			part_due);
	}
	f->next = files;
	files = f;
	return (f);
}

struct hb_text *
hb_log_file_text(struct log_file *f, struct hb_worker *w)
{
	HB_CHECK(f, LOG_FILE_MAGIC);
	return (&f->part[part_index(w)].text);
}

void
hb_log_file_appended(struct log_file *f, struct hb_worker *w)
{
	struct part *p = &f->part[part_index(w)];

	if (atomic_load_explicit(&stopping, memory_order_relaxed))
		return;
	if (p->text.len >= BLOCK_BYTES)
		part_send(p, w);
	else if (!hb_timer_running(&p->timer))
		hb_timer_start(&p->timer, HB_ACCESS_LOG_FLUSH_MS);
}

/* ------------------------------------------------------------------ writing, in the pool */

static int
file_open(struct log_file *f)
{
	if (f->fd >= 0 && f->reopen && f->path[0] == '/') {
		close(f->fd);
		f->fd = -1;
	}
	f->reopen = false;
	if (f->fd >= 0)
		return (0);
	if (f->path[0] == '\0')
		f->fd = STDOUT_FILENO;
	else if (strcmp(f->path, "-") == 0)
		f->fd = STDERR_FILENO;
	else
		f->fd = open(f->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	return (f->fd >= 0 ? 0 : -errno);
}

static int
write_all(int fd, const struct hb_text *t)
{
	size_t off = 0;
	ssize_t n;

	while (off < t->len) {
		n = write(fd, t->p + off, t->len - off);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			/* Somebody made a shared terminal or pipe non-blocking: wait for room here. */
			uv_sleep(1);
			continue;
		}
		if (n <= 0)
			return (n == 0 ? -EIO : -errno);
		off += (size_t)n;
	}
	return (0);
}

static void
pool_write(uv_work_t *work)
{
	struct log_file *f = work->data;

	f->error = file_open(f);
	for (unsigned i = 0; i < f->n_batch && f->error == 0; i++) {
		f->error = write_all(f->fd, &f->batch[i]->text);
		f->written += f->error == 0 ? f->batch[i]->text.len : 0;
	}
}

static void
flush_check(void)
{
	void (*done)(void *) = flushing.done;

	if (!flushing.waiting)
		return;
	for (const struct log_file *f = files; f != NULL; f = f->next)
		if (f->working || f->head != NULL)
			return;
	flushing.waiting = false;
	flushing.done = NULL;
	if (done != NULL)
		done(flushing.arg);
}

static void
pool_done(uv_work_t *work, int status)
{
	struct log_file *f = work->data;

	(void)status;
	f->working = false;
	hb_stat_add(hb_worker_control(), stats, LOG_BYTES, (int64_t)f->written);
	f->written = 0;
	if (f->error != 0) {
		hb_stat_inc(hb_worker_control(), stats, LOG_FAILED);
		HB_LOG(STATS, ERROR, "the access log cannot be written", "file=%s error=%s",
			f->path, strerror(-f->error));
	}
	for (unsigned i = 0; i < f->n_batch; i++) {
		f->pending -= f->batch[i]->text.len;
		hb_text_fini(&f->batch[i]->text);
		hb_free(f->batch[i]);
	}
	f->n_batch = 0;
	if (f->head != NULL && !stopping)
		file_work(f);
	flush_check();
}

static void
file_work(struct log_file *f)
{
	while (f->head != NULL && f->n_batch < BATCH_MAX) {
		struct block *b = f->head;

		f->head = b->next;
		f->batch[f->n_batch++] = b;
	}
	if (f->head == NULL)
		f->tail = &f->head;
	f->working = true;
	f->work.data = f;
	uv_queue_work(hb_worker_control()->loop, &f->work, pool_write, pool_done);
}

/* ------------------------------------------------------------------ flush, reopen */

static void
flush_worker(struct hb_worker *w, void *arg)
{
	(void)arg;
	for (struct log_file *f = files; f != NULL; f = f->next)
		part_send(&f->part[part_index(w)], w);
}

static void
flush_posted(void *arg)
{
	(void)arg;
	flush_worker(hb_worker_control(), NULL);
	flush_check();
}

void
hb_log_file_flush(void (*done)(void *arg), void *arg)
{
	HB_ASSERT(!flushing.waiting);
	flushing.done = done;
	flushing.arg = arg;
	flushing.waiting = true;
	hb_post_all(flush_worker, flush_posted, NULL);
}

void
hb_log_file_reopen(void)
{
	for (struct log_file *f = files; f != NULL; f = f->next)
		f->reopen = true;
}

/* ------------------------------------------------------------------ the end */

static bool
any_working(void)
{
	for (const struct log_file *f = files; f != NULL; f = f->next)
		if (f->working)
			return (true);
	return (false);
}

void
hb_log_file_stop(void)
{
	struct hb_worker *control = hb_worker_control();

	atomic_store(&stopping, true);
	for (unsigned ms = 0; ms < STOP_MS && any_working(); ms++) {
		(void)uv_run(control->loop, UV_RUN_NOWAIT);
		if (any_working())
			uv_sleep(1);
	}
	hb_log_file_worker_fini(control);
}

void
hb_log_file_worker_fini(struct hb_worker *w)
{
	for (struct log_file *f = files; f != NULL; f = f->next)
		hb_timer_stop(&f->part[part_index(w)].timer);
}

/* No other thread runs any more: the last lines are written here. */
static void
write_rest(struct log_file *f)
{
	int r = 0;

	for (struct block *b = f->head, *next; b != NULL; b = next) {
		next = b->next;
		if (r == 0 && (r = file_open(f)) == 0)
			r = write_all(f->fd, &b->text);
		hb_text_fini(&b->text);
		hb_free(b);
	}
	for (unsigned i = 0; i < f->n_parts; i++) {
		struct hb_text *text = &f->part[i].text;

		if (text->len > 0 && r == 0 && (r = file_open(f)) == 0)
			r = write_all(f->fd, text);
		hb_text_fini(text);
	}
	if (r != 0)
		HB_LOG(STATS, ERROR, "the access log cannot be written", "file=%s error=%s",
			f->path, strerror(-r));
}

void
hb_log_file_fini(void)
{
	struct log_file *f, *next;

	for (f = files; f != NULL; f = next) {
		next = f->next;
		/* The pool's thread hangs in a write: the memory is its own until the process ends. */
		if (f->working)
			continue;
		write_rest(f);
		if (f->fd > STDERR_FILENO)
			close(f->fd);
		hb_free(f->path);
		HB_DEL(f);
	}
	files = NULL;
	stopping = false;
	if (stats != NULL)
		hb_stats_unref(&stats);
}
