# SPDX-License-Identifier: Apache-2.0
"""What is measured (TESTS) and what is claimed of it (ROWS); docs/performance.md explains both.

A test is one kind of work that each of its peers gets in every round. A row compares two values of the same rounds: ours divided
by theirs, the median over the rounds. `must` is what has to hold, `goal` what we aim at; lower is better unless `higher`.
"""
import dataclasses

OURS = "hbone"
DIRECT = "direct"       # the client straight to the origin
REPEATS = 3             # where one run would not tell: limits that are near, tails, several cores
FLOOR = "floor"         # the least that a proxy in user space needs for it: floor.h


@dataclasses.dataclass(frozen=True)
class Test:
    name: str
    title: str
    way: str                    # which configuration of a peer: passthrough, terminate, originate, …
    peers: tuple
    mode: str                   # of the load tool; idle, further and start are measured from outside, too
    via: str
    connections: int = 1
    streams: int = 1
    max_frame: int = 16384
    resume: bool = False
    congestion: str = "reno"
    spread: bool = False        # over all cores instead of one: measure.places
    repeats: int = 1            # in each round so many shorter runs, of which the median counts
    rounds: int = 1000          # at most so many: memory does not vary


@dataclasses.dataclass(frozen=True)
class Row:
    id: str
    title: str
    test: str
    metric: str                 # a key of METRICS
    peer: str
    must: float = None
    goal: float = None
    base: str = None            # the test of the peer, when it is another one
    added: bool = False         # both values less DIRECT's of the same round
    higher: bool = False


# metric: (unit, what one unit is)
METRICS = {
    "cpu_gb": ("s/GB", "CPU time of the proxy for each GB"),
    "cpu_op": ("us", "CPU time of the proxy for each operation"),
    "gbit": ("Gbit/s", "throughput"),
    "p50": ("us", "median round trip of 64 bytes"),
    "p99": ("us", "99th percentile of the round trip of 64 bytes"),
    "kb": ("KB", "growth of resident memory for each one"),
    "accept_ms": ("ms", "exec to the first accepted connection"),
    "tunnel_ms": ("ms", "exec to the first byte through a tunnel"),
    "rss_mb": ("MB", "resident memory after the first connection"),
    "anon_mb": ("MB", "anonymous part of it"),
    "binary_mb": ("MB", "the program, stripped"),
}

_PASS = (OURS, "haproxy-splice", "haproxy", "nginx", FLOOR)
# nghttpx does not pass the end of a tunnel's direction on, so an upload through it cannot be checked.
_TUNNEL_UP = (OURS, "per-record", "haproxy-tuned", "envoy", "ztunnel", FLOOR)
_TUNNEL = _TUNNEL_UP + ("nghttpx",)
_REAL = (OURS, "envoy", "ztunnel")
_REAL_FLOOR = _REAL + (FLOOR,)

TESTS = {t.name: t for t in (
    Test("pass-d1", "passthrough, download, 1 connection", "passthrough", _PASS + ("envoy",), "download", "sni"),
    Test("pass-u1", "passthrough, upload, 1 connection", "passthrough", _PASS + ("envoy",), "upload", "sni"),
    Test("pass-d4", "passthrough, download, 4 connections", "passthrough", _PASS, "download", "sni", 4),
    Test("pass-u4", "passthrough, upload, 4 connections", "passthrough", _PASS, "upload", "sni", 4),
    Test("pass-cores-d1", "passthrough over all cores, download", "passthrough", (OURS, DIRECT, FLOOR), "download", "sni", spread=True,
         repeats=REPEATS),
    Test("pass-cores-u4", "passthrough over all cores, upload, 4 connections", "passthrough", (OURS, DIRECT, FLOOR), "upload", "sni", 4,
         spread=True, repeats=REPEATS),
    Test("pass-bbr-d1", "passthrough where bbr is the default, download", "passthrough-reno", (OURS, "haproxy-splice"),
         "download", "sni", congestion="bbr"),
    Test("pass-bbr-u4", "passthrough where bbr is the default, upload, 4 connections", "passthrough-reno",
         (OURS, "haproxy-splice"), "upload", "sni", 4, congestion="bbr"),
    Test("pass-new", "passthrough, new connection, 1 byte, close", "passthrough", (OURS, "haproxy", "nginx", "envoy", FLOOR),
         "connect", "sni", 4, repeats=REPEATS),
    Test("pass-echo", "passthrough, 64 bytes there and back", "passthrough", (DIRECT, OURS, "haproxy", "nginx", "envoy", FLOOR),
         "echo", "sni"),
    Test("pass-idle", "passthrough, 5000 idle connections", "passthrough", (OURS, "haproxy", "nginx", "envoy"),
         "idle", "sni", 5000, rounds=3),
    Test("hbone-d", "HBONE terminated, download, 1 stream", "terminate", _TUNNEL, "download", "h2"),
    Test("hbone-u", "HBONE terminated, upload, 1 stream", "terminate", _TUNNEL_UP, "upload", "h2"),
    Test("hbone-d-1m", "HBONE terminated, download to a client that takes 1 MiB frames", "terminate", (OURS, "ztunnel", FLOOR),
         "download", "h2", max_frame=1 << 20),
    Test("hbone-d-16s", "HBONE terminated, download, 16 streams of 1 connection", "terminate", (OURS, FLOOR), "download", "h2", 1, 16),
    Test("hbone-d-16c", "HBONE terminated, download, 16 connections of 1 stream", "terminate", (OURS, FLOOR), "download", "h2", 16, 1),
    Test("hbone-u-16s", "HBONE terminated, upload, 16 streams of 1 connection", "terminate", (OURS, FLOOR), "upload", "h2", 1, 16),
    Test("hbone-u-16c", "HBONE terminated, upload, 16 connections of 1 stream", "terminate", (OURS, FLOOR), "upload", "h2", 16, 1),
    Test("double-d", "HBONE in HBONE, both ended by it, download, 1 stream", "double", (OURS,), "download", "double"),
    Test("double-u", "HBONE in HBONE, both ended by it, upload, 1 stream", "double", (OURS,), "upload", "double"),
    Test("hbone-new", "HBONE terminated, new tunnel: TCP, mTLS, CONNECT, 1 byte, close", "terminate", _REAL_FLOOR, "connect", "h2", 4,
         repeats=REPEATS),
    Test("hbone-resumed", "HBONE terminated, new tunnel by a resumed session", "terminate", (OURS, FLOOR), "connect", "h2", 4,
         resume=True),
    Test("hbone-stream", "HBONE terminated, new CONNECT streams one after another on a warm connection", "terminate", _REAL_FLOOR, "stream", "h2"),
    Test("hbone-echo", "HBONE terminated, 64 bytes there and back", "terminate", (DIRECT,) + _REAL_FLOOR, "echo", "h2", repeats=REPEATS),
    Test("hbone-echo64", "HBONE terminated, 64 bytes there and back on each of 64 connections", "terminate", _REAL_FLOOR, "echo", "h2", 64),
    Test("hbone-idle", "HBONE terminated, 1000 idle connections of 1 stream", "terminate", _REAL, "idle", "h2", 1000, rounds=3),
    Test("hbone-further", "HBONE terminated, 89 further idle streams on each of 20 connections", "terminate", _REAL, "further",
         "h2", 20, 90, rounds=3),
    Test("out-d", "HBONE originated, download, 1 connection", "originate", _REAL, "download", "raw"),
    Test("out-u", "HBONE originated, upload, 1 connection", "originate", _REAL, "upload", "raw"),
    Test("raw-d", "no proxy, download", DIRECT, (DIRECT,), "download", "raw"),
    Test("raw-u", "no proxy, upload", DIRECT, (DIRECT,), "upload", "raw"),
    Test("start", "start", "terminate", (OURS, "haproxy-tuned", "h2o", "envoy", "ztunnel"), "start", "h2"),
)}

_REAL_PEERS = (  # row, title, test, metric, Envoy's must and goal, ztunnel's
    ("T1", "HBONE terminate, download", "hbone-d", "cpu_gb", (0.60, 0.45), (0.70, 0.50)),
    ("T1", "HBONE terminate, upload", "hbone-u", "cpu_gb", (0.90, 0.65), (0.55, 0.40)),
    ("T2", "download to a client that takes 1 MiB frames", "hbone-d-1m", "cpu_gb", None, (0.85, 0.65)),
    ("T3", "HBONE originate, download", "out-d", "cpu_gb", (0.65, 0.50), (0.60, 0.45)),
    ("T3", "HBONE originate, upload", "out-u", "cpu_gb", (0.65, 0.50), (0.60, 0.45)),
    ("T4", "new tunnel", "hbone-new", "cpu_op", (0.70, 0.50), (0.70, 0.50)),
    ("T4", "new stream on a warm connection", "hbone-stream", "cpu_op", (0.42, 0.33), (0.62, 0.50)),
    ("T5", "memory of an idle tunnel connection", "hbone-idle", "kb", (0.32, 0.20), (0.40, 0.25)),
    ("T5", "memory of a further idle stream", "hbone-further", "kb", (0.04, 0.03), (0.16, 0.13)),
    ("T6", "SNI passthrough, download", "pass-d1", "cpu_gb", (0.28, 0.22), None),
    ("T6", "SNI passthrough, upload", "pass-u1", "cpu_gb", (0.28, 0.22), None),
    ("T6", "SNI passthrough, new connection", "pass-new", "cpu_op", (0.42, 0.36), None),
    ("T6", "SNI passthrough, memory of an idle connection", "pass-idle", "kb", (0.02, 0.01), None),
    ("T7", "HBONE, added latency, p50", "hbone-echo", "p50", (0.60, 0.50), (0.75, 0.65)),
    ("T7", "HBONE, added latency, p99", "hbone-echo", "p99", (0.75, 0.65), (0.85, 0.75)),
    ("T8", "start to the first byte through a tunnel", "start", "tunnel_ms", (0.20, 0.12), (0.30, 0.20)),
    ("T8", "resident memory when idle", "start", "rss_mb", (0.08, 0.05), (0.35, 0.20)),
    ("T8", "size of the program", "start", "binary_mb", (0.05, 0.03), (0.25, 0.15)),
)


def _bulk(row, title, tests, peer, must, goal, **more):
    return [Row(row, f"{title}, {TESTS[t].title.split(', ', 1)[1]}", t, "cpu_gb", peer, must, goal, **more) for t in tests]


_PASS_BULK = ("pass-d1", "pass-u1", "pass-d4", "pass-u4")

ROWS = (
    _bulk("P1", "passthrough", _PASS_BULK, "haproxy-splice", 1.15, 1.00)
    + _bulk("P1b", "passthrough", _PASS_BULK, "haproxy", 0.25, 0.12)
    + _bulk("P1b", "passthrough", _PASS_BULK, "nginx", 0.25, 0.12)
    + [
        Row("P1c", "passthrough, throughput over all cores, download", "pass-cores-d1", "gbit", DIRECT, 0.80, 0.95, higher=True),
        Row("P1c", "passthrough, throughput over all cores, upload, 4 connections", "pass-cores-u4", "gbit", DIRECT, 0.80, 0.95,
            higher=True),
        Row("P1d", "passthrough, throughput where bbr is the default, download", "pass-bbr-d1", "gbit", "haproxy-splice", 1.4, 2.0,
            higher=True),
        Row("P1d", "passthrough, throughput where bbr is the default, upload, 4 connections", "pass-bbr-u4", "gbit",
            "haproxy-splice", 1.4, 2.0, higher=True),
        Row("P2", "passthrough, new connection", "pass-new", "cpu_op", "haproxy", 1.00, 0.82),
        Row("P2", "passthrough, new connection", "pass-new", "cpu_op", "nginx", 1.00, 0.88),
        Row("P3", "passthrough, added latency, p50", "pass-echo", "p50", "haproxy", 1.05, 0.90, added=True),
        Row("P3", "passthrough, added latency, p50", "pass-echo", "p50", "nginx", 1.05, 1.00, added=True),
        Row("P3", "passthrough, added latency, p99", "pass-echo", "p99", "haproxy", 1.05, 0.90, added=True),
        Row("P3", "passthrough, added latency, p99", "pass-echo", "p99", "nginx", 1.05, 1.00, added=True),
        Row("P4", "passthrough, memory of an idle connection", "pass-idle", "kb", "haproxy", 0.50, 0.20),
        Row("P4", "passthrough, memory of an idle connection", "pass-idle", "kb", "nginx", 0.10, 0.05),
    ]
    + _bulk("H1c", "HBONE terminate", ("hbone-d", "hbone-u"), "haproxy-tuned", 0.60, 0.40)
    + _bulk("H1c", "HBONE terminate", ("hbone-d",), "nghttpx", 0.60, 0.40)
    + _bulk("H1d", "HBONE terminate", ("hbone-d", "hbone-u"), "per-record", 0.60, 0.50)
    + [Row("H2", f"{TESTS[t].title}, against 1 stream", t, "cpu_gb", OURS, 1.15, 1.05, base=b)
       for t, b in (("hbone-d-16s", "hbone-d"), ("hbone-d-16c", "hbone-d"), ("hbone-u-16s", "hbone-u"), ("hbone-u-16c", "hbone-u"))]
    + [Row("H2b", f"{TESTS[t].title}, against one HBONE", t, "cpu_gb", OURS, base=b) for t, b in (("double-d", "hbone-d"), ("double-u", "hbone-u"))]
    + [
        Row("H3", "TCP, HBONE, TCP by two of ours, throughput on one core, download", "out-d", "gbit", DIRECT, 0.10, 0.15,
            base="raw-d", higher=True),
        Row("H3", "TCP, HBONE, TCP by two of ours, throughput on one core, upload", "out-u", "gbit", DIRECT, 0.10, 0.15,
            base="raw-u", higher=True),
        Row("H4b", "new tunnel by a resumed session, against a full handshake", "hbone-resumed", "cpu_op", OURS, 0.55, 0.45,
            base="hbone-new"),
        Row("H6", "64 bytes there and back, 64 connections", "hbone-echo64", "cpu_op", "envoy", 1.05, 0.90),
        Row("S1", "start to the first accepted connection", "start", "accept_ms", "haproxy-tuned", 0.20, 0.08),
        Row("S1", "start to the first accepted connection", "start", "accept_ms", "h2o", 0.70, 0.40),
        Row("S2", "resident memory when idle", "start", "rss_mb", "haproxy-tuned", 0.45, 0.30),
        Row("S2", "its anonymous part", "start", "anon_mb", "haproxy-tuned", 0.25, 0.10),
        Row("S3", "size of the program", "start", "binary_mb", None, 4.0, 2.5),
    ]
    + [Row(row, title, test, metric, peer, *limits, added=metric in ("p50", "p99"))
       for row, title, test, metric, envoy, ztunnel in _REAL_PEERS
       for peer, limits in (("envoy", envoy), ("ztunnel", ztunnel)) if limits])


# Rows whose peers (h2o with proxy.connect, a stand-in for ztunnel in Rust) no package has: the same work against Envoy and ztunnel.
ALIASES = {"H1": "T1", "H1b": "T1", "H4": "T4", "H5": "T4", "H7": "T5", "H7b": "T5"}


def select(names):
    """The rows whose id is one of `names` (all without), and the tests they need, in order, each with the peers they need."""
    names = [ALIASES.get(n, n) for n in names]
    known = {r.id for r in ROWS}
    unknown = [n for n in names if n not in known]
    if unknown:
        raise ValueError(f"no row {', '.join(unknown)}; there are: {' '.join(sorted(known))}")
    if not names:
        return ROWS, list(TESTS.values())
    rows = [r for r in ROWS if r.id in names]
    needed = {}
    for r in rows:
        for test, peer in ((r.test, OURS), (r.base or r.test, r.peer)):
            needed.setdefault(test, {FLOOR}).update({peer, DIRECT} if r.added else {peer})
    return rows, [dataclasses.replace(t, peers=tuple(p for p in t.peers if p in needed[t.name])) for t in TESTS.values() if t.name in needed]
