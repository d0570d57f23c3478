/* SPDX-License-Identifier: Apache-2.0 */
#include "listeners/rows.h"

#define FIELD_MAX   255u /* bytes of one cell */
#define COLUMNS_MAX 16u

/* Cells of a row of a table, parted by this; the last ends the line. */
#define CELL_END '\t'

/* '>' = numbers, to the right. */
static const char *const tunnel_heads[] = { "ID", "DIR", "STATE", "PEER", "PRINCIPAL", "AUTHORITY",
	"SERVER", "CHAIN", "CLUSTER", "ENDPOINT", ">RECEIVED", ">SENT", ">AGE_S", NULL };
static const char *const heads[] = { "ID", "STATE", "PEER", "SNI", "LISTENER", "CHAIN", "CLUSTER",
	"ENDPOINT", ">RECEIVED", ">SENT", ">AGE_S", NULL };

/* ------------------------------------------------------------------ a row */

static void
json_field(struct hb_text *t, const char *key, struct hb_str value)
{
	hb_text_printf(t, ",\"%s\":", key);
	hb_text_json(t, value.p, value.len);
}

static void
row_json(struct hb_text *t, const struct hb_row *r, bool tunnel, const char *peer,
	const char *endpoint)
{
	hb_text_printf(t, "{\"id\":%llu", (unsigned long long)r->id);
	if (tunnel)
		json_field(t, "direction", hb_str(r->direction));
	json_field(t, "state", hb_str(r->state));
	json_field(t, "peer", hb_str(peer));
	json_field(t, "sni", hb_facts_hello(r->facts)->sni);
	json_field(t, "principal", r->principal);
	json_field(t, "authority", r->authority);
	json_field(t, "listener", hb_str(r->listener));
	json_field(t, "chain", hb_str(r->chain));
	json_field(t, "cluster", r->cluster);
	json_field(t, "endpoint", hb_str(endpoint));
	hb_text_printf(t, ",\"received\":%llu,\"sent\":%llu,\"age_ms\":%llu}\n",
		(unsigned long long)r->received, (unsigned long long)r->sent,
		(unsigned long long)r->age_ms);
}

/* Names come from peers and from files: blanks and line ends would break the table. */
static void
cell(struct hb_text *t, struct hb_str s)
{
	char z[FIELD_MAX + 1];
	size_t n = HB_MIN(s.len, (size_t)FIELD_MAX);

	for (size_t i = 0; i < n; i++)
		z[i] = s.p[i] > ' ' && s.p[i] < 0x7f ? s.p[i] : '?';
	z[n] = '\0';
	hb_text_addz(t, n == 0 ? "-" : z);
}

static void
row_table(struct hb_text *t, const struct hb_row *r, bool tunnel, const char *peer,
	const char *endpoint)
{
	const struct hb_str cells[] = { hb_str(tunnel ? r->direction : NULL), hb_str(r->state),
		hb_str(peer), tunnel ? r->principal : hb_facts_hello(r->facts)->sni,
		tunnel ? r->authority : (struct hb_str){ NULL, 0 }, hb_str(r->listener),
		hb_str(r->chain), r->cluster, hb_str(endpoint) };

	hb_text_printf(t, "%llu%c", (unsigned long long)r->id, CELL_END);
	for (size_t i = 0; i < HB_ARRAY_LEN(cells); i++) {
		/* The columns of tunnels alone. */
		if (!tunnel && (i == 0 || i == 4))
			continue;
		cell(t, cells[i]);
		hb_text_addc(t, CELL_END);
	}
	hb_text_printf(t, "%llu%c%llu%c%llu\n", (unsigned long long)r->received, CELL_END,
		(unsigned long long)r->sent, CELL_END, (unsigned long long)(r->age_ms / 1000));
}

static void
log_pair(struct hb_text *t, const char *key, struct hb_str value)
{
	hb_text_printf(t, " %s=", key);
	cell(t, value);
}

static void
row_log(struct hb_text *t, const struct hb_row *r, const char *peer, const char *endpoint)
{
	hb_text_printf(t, "id=%llu state=%s", (unsigned long long)r->id, r->state);
	log_pair(t, "peer", hb_str(peer));
	log_pair(t, "sni", hb_facts_hello(r->facts)->sni);
	log_pair(t, "listener", hb_str(r->listener));
	log_pair(t, "chain", hb_str(r->chain));
	log_pair(t, "cluster", r->cluster);
	log_pair(t, "endpoint", hb_str(endpoint));
	hb_text_printf(t, " received=%llu sent=%llu age_s=%llu\n", (unsigned long long)r->received,
		(unsigned long long)r->sent, (unsigned long long)(r->age_ms / 1000));
}

void
hb_row_add(struct hb_text *t, const struct hb_row *r, enum hb_row_style style, bool tunnel)
{
	char peer[HB_ADDR_TEXT_MAX], endpoint[HB_ADDR_TEXT_MAX] = "";

	(void)hb_addr_format(&r->peer, peer, sizeof peer);
	if (r->endpoint.kind != HB_ADDR_NONE)
		(void)hb_addr_format(&r->endpoint, endpoint, sizeof endpoint);
	switch (style) {
	case HB_ROW_TABLE:
		row_table(t, r, tunnel, peer, endpoint);
		break;
	case HB_ROW_JSON:
		row_json(t, r, tunnel, peer, endpoint);
		break;
	case HB_ROW_LOG:
		row_log(t, r, peer, endpoint);
		break;
	}
}

/* ------------------------------------------------------------------ a table */

/* Takes the next cell from *rest; *ret_last: it ends its line. */
static struct hb_str
next_cell(struct hb_str *rest, bool *ret_last)
{
	size_t n = 0;
	struct hb_str s;

	while (rest->p[n] != CELL_END && rest->p[n] != '\n')
		n++;
	s = hb_strn(rest->p, n);
	*ret_last = rest->p[n] == '\n';
	*rest = hb_strn(rest->p + n + 1, rest->len - n - 1);
	return (s);
}

static void
measure(struct hb_str rows, size_t *width)
{
	for (size_t i = 0; rows.len > 0;) {
		bool last;
		struct hb_str s = next_cell(&rows, &last);

		width[i] = HB_MAX(width[i], s.len);
		i = last ? 0 : i + 1;
	}
}

static void
put(struct hb_text *t, struct hb_str s, size_t width, bool right, bool last)
{
	if (right)
		hb_text_printf(t, "%*.*s", (int)width, HB_STR_FMT(s));
	else
		hb_text_printf(t, "%-*.*s", (int)width, HB_STR_FMT(s));
	hb_text_addz(t, last ? "\n" : "  ");
}

void
hb_rows_table(struct hb_text *to, const struct hb_text *rows, bool tunnels)
{
	const char *const *head = tunnels ? tunnel_heads : heads;
	struct hb_str rest = hb_strn(rows->p, rows->len);
	size_t width[COLUMNS_MAX] = { 0 }, n = 0;
	bool right[COLUMNS_MAX], last;

	for (; head[n] != NULL; n++) {
		right[n] = *head[n] == '>';
		width[n] = strlen(head[n]) - right[n];
	}
	measure(rest, width);
	for (size_t i = 0; i < n; i++)
		put(to, hb_str(head[i] + right[i]), width[i], right[i], i + 1 == n);
	for (size_t i = 0; rest.len > 0; i = last ? 0 : i + 1) {
		struct hb_str s = next_cell(&rest, &last);

		HB_ASSERT(i < n);
		put(to, s, width[i], right[i], last);
	}
}
