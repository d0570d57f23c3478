# SPDX-License-Identifier: Apache-2.0
"""The load tool of test/bench/load against the program: its numbers fit together, and what fails is counted."""
import json
import os
import pathlib
import re
import socket
import subprocess
import threading
import time

import pytest

from support import config as c
from support import net, proc, tunnels

LOAD = str(pathlib.Path(proc.BIN).parents[2] / "test/bench/load/load")
FLOOR = str(pathlib.Path(proc.BIN).parents[2] / "test/bench/floor")
MODES = ("download", "upload", "echo", "connect", "stream", "idle")
BULK = ("download", "upload")

pytestmark = pytest.mark.skipif(not os.path.exists(LOAD), reason="the load tool is not built; bazel build //test/bench/load")


@pytest.fixture
def origin(cleanup):
    """Port of the tool's own endpoint."""
    p = proc.Child([LOAD, "serve", "--listen", "127.0.0.1:0"])
    cleanup(p.stop)
    return int(p.wait_line(r'"ready":true,"listen":\["127\.0\.0\.1:(\d+)"\]')[1])


def start(mode, via, port, *options, **kwargs):
    argv = [LOAD, "run", "--mode", mode, "--via", via, "--to", f"127.0.0.1:{port}", *[str(o) for o in options]]
    return proc.Child(argv, **kwargs)


def load(mode, via, port, *options):
    """The report of a short run: (exit code, JSON)."""
    p = start(mode, via, port, "--seconds", 0.3, "--warmup", 0.05, *options)
    code = p.wait()
    found = [x for x in p.lines if x and '"errors"' in x]
    assert len(found) == 1, (code, p.output())
    return code, json.loads(found[0])


def check(code, r, mode, connections, streams=1):
    assert code == 0 and r["errors"] == 0 and r["error"] is None, r
    assert r["mode"] == mode
    assert (r["bytes"] > 0) == (mode in BULK), r
    if mode == "idle":
        assert r["operations"] == connections * streams
        return
    assert (r["operations"] > 0) == (mode not in BULK), r
    assert 0.1 < r["seconds"] < 5, r
    assert 0 < r["own_cpu_ns"] < r["seconds"] * 1.5e9
    if mode in BULK:
        assert r["latency_us"] is None
    else:
        latency = r["latency_us"]
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]


def ids(certs):
    return ("--ca", certs.ca, "--cert", certs.pem("client"), "--key", certs.key("client"), "--peer", tunnels.ECHO)


def proxied(hbone, certs, origin_port):
    """raw, sni and tls to the endpoint."""
    filters = [c.tcp_proxy("origin")]
    return hbone(c.bootstrap([
        c.listener("raw", [{"filters": filters}], []),
        c.listener("sni", [c.sni_chain("sni", ["a.example"], "origin")]),
        c.listener("tls", [{"filters": filters, "transport_socket": c.tls_downstream(certs, "echo")}], []),
    ], [c.cluster("origin", origin_port)]))


@pytest.mark.parametrize("mode", MODES)
def test_sockets(hbone, certs, origin, mode):
    h = proxied(hbone, certs, origin)
    for via, extra in (("raw", ()), ("sni", ("--sni", "a.example")), ("tls", ("--ca", certs.ca, "--peer", tunnels.ECHO))):
        code, r = load(mode, via, h.port(via), "--connections", 2, "--pid", h.process.pid, *extra)
        check(code, r, mode, 2)
        assert r["via"] == via
        assert r["bytes_are"] == ("ciphertext" if (mode, via) == ("download", "tls") else "payload")
        if mode != "idle":
            assert r["cpu_ns"][str(h.process.pid)] > 0
    proc.until(lambda: h.stats(r"cluster\.origin\.upstream_cx_active") == 0, "all connections to be closed")


@pytest.mark.parametrize("mode", MODES)
def test_tunnels(hbone, certs, origin, mode):
    h = hbone(tunnels.server(certs))
    code, r = load(mode, "h2", h.port("hbone"), "--authority", f"127.0.0.1:{origin}", "--connections", 2, "--streams", 3, *ids(certs))
    check(code, r, mode, 2, 3)
    assert r["bytes_are"] == ("ciphertext" if mode == "download" else "payload")
    proc.until(lambda: h.stat("hbone_server.t.tunnels_active") == 0, "all tunnels to be closed")


@pytest.mark.parametrize("mode", MODES)
def test_tunnels_in_tunnels(hbone, certs, origin, mode):
    inner, outer = hbone(tunnels.server(certs)), hbone(tunnels.server(certs))
    code, r = load(mode, "double", outer.port("hbone"), "--authority", f"127.0.0.1:{inner.port('hbone')}",
                   "--inner-authority", f"127.0.0.1:{origin}", "--connections", 2, "--streams", 3, *ids(certs))
    check(code, r, mode, 2, 3)
    for h in (inner, outer):
        proc.until(lambda p=h: p.stat("hbone_server.t.tunnels_active") == 0, "all tunnels to be closed")


def test_nothing_is_reset(hbone, certs, origin):
    """Many resets are an attack for some servers: streams end by END_STREAM."""
    h = hbone(tunnels.server(certs))
    for mode in MODES:
        code, r = load(mode, "h2", h.port("hbone"), "--authority", f"127.0.0.1:{origin}", "--streams", 4, *ids(certs))
        check(code, r, mode, 1, 4)
    assert h.stats(r"http2\.[rt]x_reset$") == 0


def floor(kind, origin_port, cleanup, *files):
    """(process, port)"""
    p = proc.Child([FLOOR, kind, "0", str(origin_port), *map(str, files)])
    cleanup(p.stop)
    return p, int(p.wait_line(r'"ready":true,"port":(\d+)')[1])


@pytest.mark.skipif(proc.SLOW > 1, reason="the floor is for its speed: a sanitizer lets one connection wait for another")
@pytest.mark.skipif(not os.path.exists(FLOOR), reason="the floor is not built; bazel build //test/bench:floor")
@pytest.mark.parametrize("kind, mode, via, options", (
    *(("passthrough", mode, "sni", ("--sni", "a.example")) for mode in MODES),
    *(("passthrough", mode, "raw", ()) for mode in MODES),
    *(("terminate", mode, "h2", ("--max-frame", 16384)) for mode in MODES),
    *(("terminate", mode, "h2", ("--max-frame", 1 << 20)) for mode in BULK),
    ("terminate", "download", "h2", ("--honest",)),
    ("terminate", "connect", "h2", ("--resume",)),
))
def test_the_floor_does_the_work(certs, origin, cleanup, kind, mode, via, options):
    """Every byte arrives, in bulk too, and no descriptor is left: else it would be no bound of anything."""
    tunnels_too = kind == "terminate"
    p, port = floor(kind, origin, cleanup, *((certs.pem("echo"), certs.key("echo")) if tunnels_too else ()))
    before = len(os.listdir(f"/proc/{p.process.pid}/fd"))
    if tunnels_too:
        options += ("--authority", f"127.0.0.1:{origin}", "--streams", 4, *ids(certs))
    code, r = load(mode, via, port, "--connections", 3, "--pid", p.process.pid, *options)
    check(code, r, mode, 3, 4 if tunnels_too else 1)
    assert r["resumed"] == (r["operations"] if "--resume" in options else 0)
    proc.until(lambda: len(os.listdir(f"/proc/{p.process.pid}/fd")) == before, "all connections to be closed")


def test_honest_bytes_are_payload(hbone, certs, origin):
    """What the client has decrypted is what the proxy has sent, to what was on its way at the edges of the window."""
    h = hbone(tunnels.server(certs))
    code, r = load("download", "h2", h.port("hbone"), "--authority", f"127.0.0.1:{origin}", "--honest", "--warmup", 0, *ids(certs))
    check(code, r, "download", 1)
    assert r["bytes_are"] == "payload"


def test_credit_outlasts_the_window(hbone, certs, origin):
    """A blind client gives credit beyond the 2^30 bytes that it announced."""
    h = hbone(tunnels.server(certs))
    p = start("download", "h2", h.port("hbone"), "--authority", f"127.0.0.1:{origin}", "--seconds", 4, "--streams", 2, *ids(certs))
    assert p.wait() == 0, p.output()
    r = json.loads(p.lines[0])
    check(0, r, "download", 1, 2)
    if r["bytes"] < 1 << 30:
        pytest.skip(f"this machine is too slow for more than a window: {r['bytes']} bytes")


@pytest.mark.parametrize("via", ("tls", "h2"))
def test_resumed_handshakes(hbone, certs, origin, via):
    """Every one but the first of each connection, and that is over before the window."""
    h = proxied(hbone, certs, origin) if via == "tls" else hbone(tunnels.server(certs))
    port = h.port("tls" if via == "tls" else "hbone")
    options = ("--authority", f"127.0.0.1:{origin}", "--connections", 3, *ids(certs))
    code, r = load("connect", via, port, *options)
    check(code, r, "connect", 3)
    assert r["resumed"] == 0
    code, r = load("connect", via, port, "--resume", *options)
    check(code, r, "connect", 3)
    assert r["resumed"] == r["operations"]


def test_origin_of_proxies_that_speak_http(origin):
    """Some open their half by an HTTP/1.1 CONNECT."""
    with socket.create_connection(("127.0.0.1", origin), timeout=10) as s:
        s.sendall(b"CONNECT a.example:1 HTTP/1.1\r\nhost: a.example:1\r\n\r")
        s.sendall(b"\nE")
        assert net.read_exactly(s, 19) == b"HTTP/1.1 200 OK\r\n\r\n"
        s.sendall(b"back")
        assert net.read_exactly(s, 4) == b"back"


def test_origin_sends_as_many_as_it_is_told(origin):
    with socket.create_connection(("127.0.0.1", origin), timeout=10) as s:
        s.sendall(net.client_hello("a.example") + b"d\0\0\0\0")
        s.sendall((3 << 20).to_bytes(4, "big"))
        assert len(net.read_all(s)) == 3 << 20


def test_nothing_happens_is_an_error(cleanup):
    """A proxy that accepts and is silent."""
    s = net.Server(lambda s: s.recv(1 << 20) and s.recv(1))
    cleanup(s.close)
    code, r = load("echo", "raw", s.port)
    assert code == 1 and r["errors"] == 1 and "nothing happened" in r["error"], r


@pytest.mark.parametrize("via, ends", (("raw", False), ("h2", False), ("h2", True), ("double", True)))
def test_a_download_that_does_not_go_on_is_an_error(hbone, certs, cleanup, via, ends):
    """A blind client cannot see that a stream has ended early."""
    over = threading.Event()

    def handle(s):
        s.recv(1)
        end = time.monotonic() + 0.2
        while time.monotonic() < end:
            s.sendall(bytes(1 << 16))
        if not ends:
            over.wait(net.TIMEOUT)

    server = net.Server(handle)
    cleanup(server.close)
    cleanup(over.set)
    h, inner = hbone(tunnels.server(certs)), hbone(tunnels.server(certs))
    where = f"127.0.0.1:{server.port}"
    options = {"raw": (), "h2": ("--authority", where),
               "double": ("--authority", f"127.0.0.1:{inner.port('hbone')}", "--inner-authority", where)}[via]
    code, r = load("download", via, server.port if via == "raw" else h.port("hbone"), "--seconds", 1.4, *options, *ids(certs))
    assert code == 1 and r["errors"] == 1 and "stood still" in r["error"] and r["bytes"] > 0, r


def test_count_ends_the_window(hbone, certs, origin):
    h = hbone(tunnels.server(certs))
    code, r = load("echo", "h2", h.port("hbone"), "--authority", f"127.0.0.1:{origin}", "--count", 10, "--seconds", 60, *ids(certs))
    assert code == 0 and 10 <= r["operations"] < 1000, r


@pytest.mark.parametrize("mode", MODES)
def test_a_proxy_that_dies_is_an_error(hbone, certs, origin, mode):
    h = hbone(tunnels.server(certs))
    h.expect_exit = -9
    p = start(mode, "h2", h.port("hbone"), "--authority", f"127.0.0.1:{origin}", "--connections", 2, "--streams", 2,
              "--seconds", 60, *ids(certs), stdin=subprocess.PIPE)
    if mode == "idle":
        p.wait_line(r'"idle":true,"open":4')
    proc.until(lambda: h.stat("hbone_server.t.tunnels_total") >= 4, "four tunnels")
    h.process.kill()
    h.process.wait()
    code = p.wait()
    r = json.loads(next(x for x in p.lines if x and '"errors"' in x))
    assert code == 1 and r["errors"] > 0, p.output()
    assert re.search(r"lost|refused|reset|opened", r["error"]), r


def test_what_cannot_be_opened_is_an_error(hbone, certs, origin):
    h = hbone(tunnels.server(certs))
    server = net.Server(net.echo)
    server.close()
    nobody = server.port
    for options, text in (
            (("--authority", f"127.0.0.1:{nobody}", *ids(certs)), "status 503"),
            (("--authority", f"127.0.0.1:{origin}", "--ca", certs.ca), "certificate"),
            (("--authority", f"127.0.0.1:{origin}", *ids(certs)[:6], "--peer", tunnels.CLIENT), "identity")):
        code, r = load("echo", "h2", h.port("hbone"), *options)
        assert code == 1 and r["errors"] > 0 and text in r["error"], r
    code, r = load("connect", "raw", nobody)
    assert code == 1 and r["errors"] > 0 and "refused" in r["error"], r


@pytest.mark.parametrize("options, text", (
    (["run"], "needs --mode"),
    (["dance"], "serve or run"),
    (["serve"], "--listen"),
    (["serve", "--listen", "nowhere"], "ADDRESS:PORT"),
    (["run", "--mode", "echo", "--via", "h2", "--to", "127.0.0.1:1"], "--authority"),
    (["run", "--mode", "sing", "--via", "raw", "--to", "127.0.0.1:1"], "download, upload"),
    (["run", "--mode", "echo", "--via", "pigeon", "--to", "127.0.0.1:1"], "raw, sni"),
    (["run", "--mode", "echo", "--via", "sni", "--to", "127.0.0.1:1"], "--sni"),
    (["run", "--streams", "0"], "from 1"),
    (["run", "--seconds", "long"], "give seconds"),
    (["run", "--colour", "red"], "no option"),
))
def test_usage(options, text):
    p = subprocess.run([LOAD, *options], capture_output=True, text=True, timeout=30, check=False)
    assert p.returncode == 1 and text in p.stderr and p.stdout == "", p
