# SPDX-License-Identifier: Apache-2.0
"""Rows from the measured values; as text, JSON, Markdown and SVG."""
import json
import re
import statistics

from peers import PEERS
from rows import DIRECT, FLOOR, METRICS, OURS

BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"


# ------------------------------------------------------------------ rows

def _of(results, test, peer, metric, added):
    """{round: value}"""
    rounds = results.get(test, {}).get(peer, {})
    out = {r: v[metric] for r, v in rounds.items() if metric in v}
    if added:
        direct = results.get(test, {}).get(DIRECT, {})
        out = {r: v - direct[r][metric] for r, v in out.items() if r in direct}
    return out


def _ratios(some, theirs):
    """Of the same rounds. A latency that is no longer than the direct one has none."""
    return [some[r] / theirs[r] for r in some if theirs.get(r, 0) > 0]


def judge(row, results, failed):
    """One row as a dictionary: values, ratio and spread, verdict."""
    ours = _of(results, row.test, OURS, row.metric, row.added)
    out = {"id": row.id, "title": row.title, "unit": METRICS[row.metric][0], "metric": row.metric, "peer": row.peer,
           "must": row.must, "goal": row.goal, "higher": row.higher, "ours": None, "theirs": None, "ratio": None, "spread": None,
           "floor": None, "verdict": "not measured"}
    if ours:
        out["ours"] = statistics.median(ours.values())
    errors = [e for e in ((row.test, OURS), (row.base or row.test, row.peer)) if e in failed]
    if errors:
        return {**out, "ours": None, "verdict": "errors"}
    if row.peer is None:
        return _verdict(out, out["ours"])
    if row.peer not in PEERS or not PEERS[row.peer].path() and row.peer != DIRECT:
        return {**out, "verdict": "peer is not here"}
    theirs = _of(results, row.base or row.test, row.peer, row.metric, row.added)
    ratios = _ratios(ours, theirs)
    # Where we are compared with ourselves, so is the floor.
    floor_base = _of(results, row.base, FLOOR, row.metric, row.added) if row.peer == OURS else theirs
    floors = _ratios(_of(results, row.test, FLOOR, row.metric, row.added), floor_base)
    if floors:
        out["floor"] = statistics.median(floors)
    if not ratios:
        return out
    out["theirs"] = statistics.median(theirs.values())
    out["ratio"], out["spread"] = statistics.median(ratios), [min(ratios), max(ratios)]
    return _verdict(out, out["ratio"])


def _verdict(out, value):
    if value is not None and out["must"] is None:
        out["verdict"] = "reported"
    elif value is not None:
        out["verdict"] = "goal" if _reaches(out, value, "goal") else "ok" if _reaches(out, value, "must") else "missed"
    return out


def _reaches(row, value, limit):
    return value >= row[limit] if row["higher"] else value <= row[limit]


def _below_floor(row):
    """Missed, as nothing in user space could have reached it on this machine."""
    return row["verdict"] == "missed" and row["floor"] is not None and not _reaches(row, row["floor"], "must")


def number(value):
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}" if abs(value) >= 1 else f"{value:.3f}"


def _cells(row):
    digits = 3 if row["must"] and row["must"] < 0.1 else 2
    spread = f"[{row['spread'][0]:.{digits}f}..{row['spread'][1]:.{digits}f}]" if row["spread"] else ""
    label = "" if row["peer"] is None else PEERS[row["peer"]].label if row["peer"] in PEERS else row["peer"]
    if row["peer"] == OURS:
        label = "itself"
    limits = "" if row["must"] is None else f"{row['must']:.2f} / {row['goal']:.2f}" + (" or more" if row["higher"] else "")
    if row["peer"] is None:
        limits += f" {row['unit']}"
    ratio, floor = ("-" if row[k] is None else f"{row[k]:.{digits}f}" for k in ("ratio", "floor"))
    verdict = row["verdict"] + (f"; the floor is {floor}" if _below_floor(row) else "")
    return [row["id"], row["title"], label, f"{number(row['ours'])} {row['unit']}", number(row["theirs"]), ratio, spread, floor, limits,
            verdict]


CLAIM = ["row", "what", "against", "must / goal"]     # what is known before anything is measured
HEAD = ["row", "what", "against", "ours", "theirs", "ratio", "spread", "floor", "must / goal", ""]


def table(rows, columns=HEAD):
    """As text; `columns` are some of HEAD."""
    keep = [HEAD.index(c) for c in columns]
    lines = [[line[i] for i in keep] for line in [HEAD] + [_cells(r) for r in rows]]
    width = [max(len(line[i]) for line in lines) for i in range(len(keep))]
    return "\n".join("  ".join(c.ljust(w) for c, w in zip(line, width)).rstrip() for line in lines)


def summary(rows):
    count = {v: sum(r["verdict"] == v for r in rows) for v in ("goal", "ok", "missed", "reported", "errors", "peer is not here", "not measured")}
    below = sum(map(_below_floor, rows))
    return ", ".join(f"{n} {v}" + (f" ({below} below the floor)" if below and v == "missed" else "") for v, n in count.items() if n)


# ------------------------------------------------------------------ charts

_COLOURS = {OURS: "#1a7f5a", "envoy": "#8a5fbf", "ztunnel": "#c0662f", FLOOR: "#d9c77a"}
_INK, _PAPER, _OTHER = "#333333", "#ffffff", "#9aa5b1"

CHARTS = (  # file, title, metric, tests, is it added latency
    ("bulk", "CPU time of the proxy for each GB (s/GB; less is better)", "cpu_gb",
     ("pass-d1", "pass-u1", "hbone-d", "hbone-u", "out-d", "out-u"), False),
    ("operations", "CPU time of the proxy for each operation (us; less is better)", "cpu_op",
     ("pass-new", "hbone-new", "hbone-stream", "hbone-echo64"), False),
    ("latency", "Added median round trip of 64 bytes (us; less is better)", "p50", ("pass-echo", "hbone-echo"), True),
    ("memory", "Resident memory for each idle connection or stream (KB; less is better)", "kb",
     ("pass-idle", "hbone-idle", "hbone-further"), False),
)


def _bars(results, tests, metric, added):
    """[(title of the test, [(peer, median, least, most)])]"""
    out = []
    for test in tests:
        bars = []
        for peer in results.get(test.name, {}):
            v = sorted(_of(results, test.name, peer, metric, added).values())
            if v and not (added and peer == DIRECT):
                bars.append((peer, statistics.median(v), v[0], v[-1]))
        if bars:
            out.append((test.title, bars))
    return out


def _text(x, y, text, size=12, anchor="start", weight="normal"):
    return (f'<text x="{x}" y="{y}" font-size="{size}" text-anchor="{anchor}" font-weight="{weight}" fill="{_INK}">'
            f'{text.replace("&", "&amp;").replace("<", "&lt;")}</text>')


def chart(title, groups):
    """Horizontal bars with a line from the least to the most value of the rounds; each group has a scale of its own."""
    left, wide, row, y = 250, 430, 20, 44
    body = [_text(12, 24, title, 15, weight="bold")]
    for name, bars in groups:
        y += 14
        body.append(_text(12, y, name, 12, weight="bold"))
        top = max(b[3] for b in bars) or 1
        y += 8
        for peer, median, least, most in bars:
            x = left + wide * max(least, 0) / top
            body.append(_text(left - 8, y + 13, PEERS[peer].label, anchor="end"))
            body.append(f'<rect x="{left}" y="{y + 2}" width="{max(wide * median / top, 1):.1f}" height="{row - 5}" '
                        f'fill="{_COLOURS.get(peer, _OTHER)}"/>')
            body.append(f'<path d="M{x:.1f} {y + 9.5}H{left + wide * most / top:.1f}" stroke="{_INK}" stroke-width="1.5"/>')
            body.append(_text(left + wide + 12, y + 13, number(median)))
            y += row
        y += 8
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{y + 8}" viewBox="0 0 760 {y + 8}" '
            f'font-family="sans-serif"><rect width="760" height="{y + 8}" fill="{_PAPER}"/>' + "\n".join(body) + "</svg>\n")


def write_charts(prefix, results, tests):
    """PREFIX-NAME.svg for each chart that has values; returns [(name, title)]."""
    by_name = {t.name: t for t in tests}
    written = []
    for name, title, metric, names, added in CHARTS:
        groups = _bars(results, [by_name[n] for n in names if n in by_name], metric, added)
        if groups:
            prefix.with_name(f"{prefix.name}-{name}.svg").write_text(chart(title, groups), encoding="utf-8")
            written.append((name, title))
    return written


# ------------------------------------------------------------------ files

def write_json(path, about, rows, runs):
    """One row or run on a line, so that two files can be compared."""
    def lines(values):
        return ",\n".join("  " + json.dumps(v) for v in values)

    path.write_text('{\n"about": ' + json.dumps(about, indent=1) + ',\n"rows": [\n' + lines(rows) + '\n],\n"runs": [\n' + lines(runs)
                    + "\n]\n}\n", encoding="utf-8")


def markdown(about, rows, charts):
    where = f"{about['cpu']}, {about['cores']} cores, Linux {about['kernel']}"
    lines = [f"`{about['command']}` on {about['date']}, commit {about['commit']}: {about['rounds']} rounds; {where}.",
             f"Of {about['runs']} runs {about['noisy']} are noisy (a run is, when more than 8 % was stolen from the machine or the other "
             f"cores were more than 30 % busy, {about['refilled']} such were run again). {summary(rows)}.", "",
             "Peers: " + "; ".join(f"{PEERS[n].label}: `{v}`" for n, v in about["versions"].items() if v and n != "per-record") + ".", "",
             "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    lines += ["| " + " | ".join(c.replace("|", "\\|") for c in _cells(r)) + " |" for r in rows]
    lines.append("")
    lines += [f"![{title}](performance-{name}.svg)" for name, title in charts]
    return "\n".join(lines)


def save(folder, about, rows, runs, results, tests):
    """docs/performance.json, the charts, and the part of docs/performance.md between its markers."""
    write_json(folder / "performance.json", about, rows, runs)
    charts = write_charts(folder / "performance", results, tests)
    page = folder / "performance.md"
    text = page.read_text(encoding="utf-8")
    new, n = re.subn(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{markdown(about, rows, charts)}\n{END}", text, flags=re.S)
    if n != 1:
        raise ValueError(f"{page} has no part between {BEGIN} and {END}")
    page.write_text(new, encoding="utf-8")
