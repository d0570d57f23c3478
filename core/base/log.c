/* SPDX-License-Identifier: Apache-2.0 */
#include "core/base/log.h"
#include "core/base/str.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LINE_MAX_BYTES 4096 /* with newline; not above PIPE_BUF, so lines never interleave */
#define MSG_MAX_BYTES  1024
#define FMT_MAX_BYTES  1024
#define PAIRS_MAX      24
#define SEP_BYTES      8
#define LEVEL_DEFAULT  HB_LOG_INFO

_Atomic unsigned char hb_log_levels[HB_LOG_C_MAX] = {
#define X(e, n, t) [HB_LOG_C_##e] = LEVEL_DEFAULT,
	HB_LOG_COMPONENTS(X)
#undef X
};

static const char *const component_names[HB_LOG_C_MAX + 1] = {
#define X(e, n, t) [HB_LOG_C_##e] = n,
	HB_LOG_COMPONENTS(X)
#undef X
};

static const char *const level_names[] = {
	"trace",
	"debug",
	"info",
	"warning",
	"error",
	"critical",
	"off",
	NULL,
};

/* How to write without waiting for a reader. */
enum log_sink {
	SINK_POLL,   /* ask poll(2) first: an inherited description must not become non-blocking */
	SINK_DIRECT, /* a file, or a description of our own that is non-blocking                 */
	SINK_SOCKET,
};

static struct {
	pthread_mutex_t lock; /* guards path and capture, not writing */
	char *path;           /* owned; NULL = stderr */
	void (*capture)(void *, const char *);
	void *capture_arg;
	_Atomic bool captured;
	_Atomic bool json;
	_Atomic int fd; /* stays the same number from hb_log_init on */
	_Atomic int sink;
	_Atomic(uint64_t) dropped;
} log_state = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = STDERR_FILENO, .sink = SINK_POLL };

/* One key=value pair while a line is built; keys and values point into the formatted text. */
struct pair {
	struct hb_str key, value;
	bool quoted; /* by the format   */
	bool number; /* by the format   */
};

/* Where the pairs of one line come from. */
struct pairs {
	struct pair v[PAIRS_MAX];
	unsigned n;
	char fmt[FMT_MAX_BYTES];
	char text[LINE_MAX_BYTES];
};

/*
 * Separates pairs in the formatted text. Values may come from peers, so the split must not depend
 * on blanks and quotes that a value could contain: the bytes are random.
 */
static char sep[SEP_BYTES];

static void __attribute__((constructor)) sep_init(void)
{
	sep[0] = '\x1f';
	for (unsigned i = 1; i < SEP_BYTES; i++)
		sep[i] = (char)('a' + hb_random() % 26);
}

static bool fmt_is_number(const char *p, size_t n)
{
	if (n < 2 || p[0] != '%' || memchr(p + 1, '%', n - 1) != NULL)
		return (false);
	for (size_t i = 1; i < n - 1; i++) {
		if (strchr("0123456789.lhzjt", p[i]) == NULL)
			return (false);
	}
	return (strchr("diuf", p[n - 1]) != NULL);
}

/* Copies the format with separators instead of blanks between pairs and without outer quotes. */
static void pairs_split_fmt(struct pairs *ps, const char *fmt)
{
	size_t n = 0;

	while (ps->n < PAIRS_MAX) {
		struct pair *pair = &ps->v[ps->n];
		size_t start, value;
		bool quoted = false;

		fmt += strspn(fmt, " ");
		if (*fmt == '\0')
			break;
		memset(pair, 0, sizeof *pair);
		start = value = n;
		for (; *fmt != '\0' && (quoted || *fmt != ' '); fmt++) {
			if (*fmt == '"') {
				quoted = !quoted;
				pair->quoted = true;
				continue;
			}
			HB_ASSERT(n < sizeof ps->fmt - SEP_BYTES - 1);
			ps->fmt[n++] = *fmt;
			if (*fmt == '=' && value == start)
				value = n;
		}
		pair->number = !pair->quoted && fmt_is_number(ps->fmt + value, n - value);
		memcpy(ps->fmt + n, sep, SEP_BYTES);
		n += SEP_BYTES;
		ps->n++;
	}
	HB_ASSERT(*fmt == '\0');
	ps->fmt[n] = '\0';
}

/* What printf made of a number; "nan", "inf", padding and leading zeros are not JSON. */
static bool value_is_number(struct hb_str s)
{
	if (s.len > 0 && s.p[0] == '-')
		s = hb_strn(s.p + 1, s.len - 1);
	if (s.len == 0 || s.p[0] < '0' || s.p[0] > '9' || s.p[s.len - 1] > '9')
		return (false);
	return (s.len == 1 || s.p[0] != '0' || s.p[1] == '.');
}

/* Formats and cuts the pairs out of the result; false when not all of it fitted. */
static bool pairs_format(struct pairs *ps, const char *fmt, va_list ap)
{
	const char *p = ps->text, *end;
	bool whole;
	int r;

	pairs_split_fmt(ps, fmt);
	r = vsnprintf(ps->text, sizeof ps->text, ps->fmt, ap);
	HB_ASSERT(r >= 0);
	whole = (size_t)r < sizeof ps->text;
	end = p + HB_MIN((size_t)r, sizeof ps->text - 1);
	for (unsigned i = 0; i < ps->n; i++) {
		struct pair *pair = &ps->v[i];
		const char *stop = memmem(p, (size_t)(end - p), sep, SEP_BYTES), *eq;

		if (stop == NULL) {
			ps->n = i;
			break;
		}
		eq = memchr(p, '=', (size_t)(stop - p));
		pair->key = eq == NULL ? HB_STR("detail") : hb_strn(p, (size_t)(eq - p));
		pair->value = eq == NULL ? hb_strn(p, (size_t)(stop - p)) :
					   hb_strn(eq + 1, (size_t)(stop - eq - 1));
		pair->number = pair->number && value_is_number(pair->value);
		p = stop + SEP_BYTES;
	}
	return (whole);
}

/* Control bytes never reach a terminal or forge a line. */
static void text_escaped(struct hb_text *t, struct hb_str s, bool quotes)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c < 0x20 || c == 0x7f)
			hb_text_printf(t, "\\x%02x", c);
		else if (quotes && (c == '"' || c == '\\'))
			hb_text_add(t, (char[]){ '\\', (char)c }, 2);
		else
			hb_text_addc(t, (char)c);
	}
}

static bool needs_quotes(struct hb_str s)
{
	if (s.len == 0)
		return (true);
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];

		if (c <= 0x20 || c == 0x7f || c == '"' || c == '\\')
			return (true);
	}
	return (false);
}

static void pair_text(struct hb_text *t, const struct pair *pair)
{
	bool quotes = pair->quoted || needs_quotes(pair->value);

	hb_text_addc(t, ' ');
	text_escaped(t, pair->key, false);
	hb_text_addz(t, quotes ? "=\"" : "=");
	text_escaped(t, pair->value, quotes);
	if (quotes)
		hb_text_addc(t, '"');
}

static void pair_json(struct hb_text *t, const struct pair *pair)
{
	hb_text_addc(t, ',');
	hb_text_json(t, pair->key.p, pair->key.len);
	hb_text_addc(t, ':');
	if (pair->number)
		hb_text_add(t, pair->value.p, pair->value.len);
	else
		hb_text_json(t, pair->value.p, pair->value.len);
}

static void line_begin(struct hb_text *t, bool json, enum hb_log_component c, enum hb_log_level l,
	struct hb_str msg)
{
	struct timespec ts;
	char when[32];
	struct tm tm;
	size_t n;

	clock_gettime(CLOCK_REALTIME, &ts);
	gmtime_r(&ts.tv_sec, &tm);
	n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(when + n, sizeof when - n, ".%03uZ", (unsigned)(ts.tv_nsec / 1000000) % 1000);
	if (!json) {
		hb_text_printf(t, "%s %-5s %s: ", when, level_names[l], component_names[c]);
		text_escaped(t, msg, false);
		return;
	}
	hb_text_printf(t,
		"{\"time\":\"%s\",\"level\":\"%s\",\"component\":\"%s\",\"message\":", when,
		level_names[l], component_names[c]);
	hb_text_json(t, msg.p, msg.len);
}

/* The whole line without newline, below LINE_MAX_BYTES; pairs that do not fit are left out. */
static void line_build(struct hb_text *t, bool json, struct hb_str head_msg,
	enum hb_log_component c, enum hb_log_level l, const struct pairs *ps, bool whole)
{
	static const char cut_text[] = " truncated=true", cut_json[] = ",\"truncated\":true}";

	/* Without the room for the closing text, which must always fit. */
	t->cap_max = LINE_MAX_BYTES - 1 - sizeof cut_json;
	line_begin(t, json, c, l, head_msg);
	if (t->truncated) {
		t->len = 0;
		t->truncated = false;
		line_begin(t, json, c, l, HB_STR("(unprintable message)"));
	}
	for (unsigned i = 0; i < ps->n; i++) {
		size_t before = t->len;

		(json ? pair_json : pair_text)(t, &ps->v[i]);
		if (t->truncated) {
			t->truncated = whole = false;
			t->len = before;
			t->p[before] = '\0';
		}
	}
	t->cap_max = LINE_MAX_BYTES - 1;
	if (!whole)
		hb_text_addz(t, json ? cut_json : cut_text);
	else if (json)
		hb_text_addc(t, '}');
	HB_ASSERT(!t->truncated);
}

static void line_write(const char *p, size_t n)
{
	int fd = atomic_load_explicit(&log_state.fd, memory_order_relaxed);
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	ssize_t r = -1;

	switch (atomic_load_explicit(&log_state.sink, memory_order_relaxed)) {
	case SINK_SOCKET:
		r = send(fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case SINK_POLL:
		if (poll(&pfd, 1, 0) == 1 && (pfd.revents & POLLOUT))
			r = write(fd, p, n);
		break;
	default:
		r = write(fd, p, n);
		break;
	}
	if (r != (ssize_t)n)
		atomic_fetch_add_explicit(&log_state.dropped, 1, memory_order_relaxed);
}

/* True when a capture took the line. */
static bool line_capture(const char *line)
{
	void (*fn)(void *, const char *);
	void *arg;

	if (!atomic_load_explicit(&log_state.captured, memory_order_acquire))
		return (false);
	pthread_mutex_lock(&log_state.lock);
	fn = log_state.capture;
	arg = log_state.capture_arg;
	pthread_mutex_unlock(&log_state.lock);
	if (fn == NULL)
		return (false);
	fn(arg, line);
	return (true);
}

void hb_log_write(
	enum hb_log_component c, enum hb_log_level l, const char *msg, const char *kv, ...)
{
	bool json = atomic_load_explicit(&log_state.json, memory_order_relaxed), whole;
	int saved_errno = errno;
	struct hb_text line = { 0 };
	struct pairs ps;
	va_list ap;

	HB_ASSERT((unsigned)c < HB_LOG_C_MAX && (unsigned)l < HB_LOG_OFF);
	ps.n = 0;
	va_start(ap, kv);
	whole = pairs_format(&ps, kv, ap);
	va_end(ap);
	line_build(&line, json, hb_strn(msg, strnlen(msg, MSG_MAX_BYTES)), c, l, &ps, whole);
	if (!line_capture(line.p)) {
		line.cap_max = LINE_MAX_BYTES;
		hb_text_addc(&line, '\n');
		line_write(line.p, line.len);
	}
	hb_text_fini(&line);
	errno = saved_errno;
}

static int log_open(const char *path, struct hb_err *reterr)
{
	int fd = open(
		path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);

	if (fd >= 0)
		return (fd);
	return (hb_err_set(reterr, -errno,
		"log file %s cannot be opened (%s): name a file that this user may write", path,
		strerror(errno)));
}

/*
 * A pipe or terminal is opened anew through /proc, which gives a non-blocking description of our
 * own; where that is not permitted poll(2) has to do.
 */
static int log_open_stderr(int *ret_sink)
{
	struct stat st;
	int fd;

	*ret_sink = SINK_POLL;
	if (fstat(STDERR_FILENO, &st) != 0) {
		/* Closed: keep the number taken, or lines would go into a socket later. */
		fd = open("/dev/null", O_WRONLY);
		if (fd >= 0 && fd != STDERR_FILENO) {
			(void)dup2(fd, STDERR_FILENO);
			(void)close(fd);
		}
		return (STDERR_FILENO);
	}
	if (S_ISSOCK(st.st_mode))
		*ret_sink = SINK_SOCKET;
	else if (S_ISREG(st.st_mode))
		*ret_sink = SINK_DIRECT;
	else if (S_ISFIFO(st.st_mode) || isatty(STDERR_FILENO)) {
		fd = open(
			"/proc/self/fd/2", O_WRONLY | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
		if (fd >= 0) {
			*ret_sink = SINK_DIRECT;
			return (fd);
		}
	}
	return (STDERR_FILENO);
}

int hb_log_init(const char *path, bool json, struct hb_err *reterr)
{
	int fd, sink = SINK_DIRECT, old = atomic_load(&log_state.fd);
	struct sigaction sa;

	fd = path == NULL ? log_open_stderr(&sink) : log_open(path, reterr);
	if (fd < 0)
		return (fd);
	if (sigaction(SIGPIPE, NULL, &sa) == 0 && sa.sa_handler == SIG_DFL)
		signal(SIGPIPE, SIG_IGN);
	pthread_mutex_lock(&log_state.lock);
	hb_free(log_state.path);
	log_state.path = path == NULL ? NULL : hb_strdup(path);
	atomic_store(&log_state.sink, sink);
	atomic_store(&log_state.fd, fd);
	atomic_store(&log_state.json, json);
	pthread_mutex_unlock(&log_state.lock);
	if (old != STDERR_FILENO)
		(void)close(old);
	return (0);
}

int hb_log_reopen(struct hb_err *reterr)
{
	int fd, r = 0;

	pthread_mutex_lock(&log_state.lock);
	if (log_state.path != NULL) {
		fd = log_open(log_state.path, reterr);
		/* Writers take no lock: the number stays, the file behind it changes at once. */
		if (fd < 0)
			r = fd;
		else if (dup3(fd, atomic_load(&log_state.fd), O_CLOEXEC) < 0)
			r = hb_err_set(reterr, -errno,
				"log file %s cannot take over (%s): try again", log_state.path,
				strerror(errno));
		if (fd >= 0)
			(void)close(fd);
	}
	pthread_mutex_unlock(&log_state.lock);
	return (r);
}

uint64_t hb_log_dropped(void)
{
	return (atomic_load_explicit(&log_state.dropped, memory_order_relaxed));
}

void hb_log_level_all(enum hb_log_level level)
{
	HB_ASSERT((unsigned)level <= HB_LOG_OFF);
	for (unsigned i = 0; i < HB_LOG_C_MAX; i++)
		atomic_store_explicit(
			&hb_log_levels[i], (unsigned char)level, memory_order_relaxed);
}

/* Refuses `word`, which is not one of `names`, and lists them or proposes the nearest. */
static int unknown_name(
	struct hb_err *reterr, const char *what, const char *word, const char *const *names)
{
	const char *nearest = hb_err_nearest(word, names);
	struct hb_text all = { 0 };
	int r;

	if (nearest != NULL)
		return (hb_err_set(reterr, -EINVAL,
			"log %s \"%s\" is not known: did you mean \"%s\"?", what, word, nearest));
	for (; *names != NULL; names++)
		hb_text_printf(&all, "%s%s", all.len > 0 ? ", " : "", *names);
	r = hb_err_set(
		reterr, -EINVAL, "log %s \"%.64s\" is not known: use one of %s", what, word, all.p);
	hb_text_fini(&all);
	return (r);
}

int hb_log_level_parse(const char *name, enum hb_log_level *ret, struct hb_err *reterr)
{
	for (unsigned i = 0; level_names[i] != NULL; i++) {
		if (strcasecmp(name, level_names[i]) == 0) {
			*ret = (enum hb_log_level)i;
			return (0);
		}
	}
	if (strcasecmp(name, "warn") == 0) {
		*ret = HB_LOG_WARN;
		return (0);
	}
	return (unknown_name(reterr, "level", name, level_names));
}

const char *hb_log_level_name(enum hb_log_level level)
{
	HB_ASSERT((unsigned)level <= HB_LOG_OFF);
	return (level_names[level]);
}

/* One "component:level" of the list; puts the level into its place in `levels`. */
static int level_item_parse(char *item, unsigned char *levels, struct hb_err *reterr)
{
	char *colon = strchr(item, ':');
	enum hb_log_level level;
	int r;

	if (colon == NULL)
		return (hb_err_set(reterr, -EINVAL,
			"log level \"%.64s\" names no component: write it as tls:debug", item));
	*colon = '\0';
	r = hb_log_level_parse(colon + 1, &level, reterr);
	if (r != 0)
		return (r);
	for (unsigned i = 0; i < HB_LOG_C_MAX; i++) {
		if (strcasecmp(item, component_names[i]) == 0) {
			levels[i] = (unsigned char)level;
			return (0);
		}
	}
	return (unknown_name(reterr, "component", item, component_names));
}

int hb_log_levels_parse(const char *spec, struct hb_err *reterr)
{
	char *copy = hb_strdup(spec), *rest = copy, *item;
	unsigned char levels[HB_LOG_C_MAX];
	int r = 0;

	memset(levels, HB_LOG_OFF + 1, sizeof levels);
	while (r == 0 && (item = strsep(&rest, ",")) != NULL) {
		/* An empty list changes nothing; an empty item in a list is a mistake. */
		if (*spec != '\0')
			r = level_item_parse(item, levels, reterr);
	}
	for (unsigned i = 0; r == 0 && i < HB_LOG_C_MAX; i++) {
		if (levels[i] <= HB_LOG_OFF)
			atomic_store_explicit(&hb_log_levels[i], levels[i], memory_order_relaxed);
	}
	hb_free(copy);
	return (r);
}

const char *hb_log_component_name(enum hb_log_component c)
{
	HB_ASSERT((unsigned)c < HB_LOG_C_MAX);
	return (component_names[c]);
}

void hb_log_capture(void (*fn)(void *arg, const char *line), void *arg)
{
	pthread_mutex_lock(&log_state.lock);
	log_state.capture = fn;
	log_state.capture_arg = arg;
	pthread_mutex_unlock(&log_state.lock);
	atomic_store_explicit(&log_state.captured, fn != NULL, memory_order_release);
}
