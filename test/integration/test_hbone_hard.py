# SPDX-License-Identifier: Apache-2.0
"""HBONE in hard cases: very many streams, floods, malformed requests, memory, and tunnels in a row."""
import hashlib
import pathlib
import re
import socket
import subprocess
import threading

import pytest

from support import config as c
from support import net
from support.h2client import Client
from support.proc import SLOW, Child, until
from support.tunnels import (CLIENT, ECHO, MIB, address, client, connect, note_the_end, read_to_the_end, server, tls, tunnel)

SUPPORT = pathlib.Path(__file__).parent / "support"


# ------------------------------------------------------------------ very many streams

@pytest.fixture
def many(certs, cleanup):
    """many(h, total, at_once, …) -> Node with so many tunnels through h to an echo server of its own."""
    def start(h, total, at_once, *hold):
        child = Child(["node", str(SUPPORT / "h2-many.mjs"), str(h.port("hbone")), str(certs.ca), certs.pem("client"),
                       certs.key("client"), str(total), str(at_once), *hold], stdin=subprocess.PIPE)
        cleanup(child.stop)
        return child
    return start


@pytest.mark.peer("node")
def test_ten_thousand_one_after_another(hbone, certs, many):
    h = hbone(server(certs, http2={"max_concurrent_streams": 100}))
    assert many(h, 10000, 100).wait_line("(done|error) .*", 120)[0] == "done 10000 most=100"
    h.expect_stat("hbone_server.t.rq_200", 10000)
    assert h.stat("hbone_server.t.http2.stream_refused") == 0


@pytest.mark.peer("node")
def test_ten_thousand_at_once(hbone, certs, many):
    h = hbone(server(certs, most=10000))
    node = many(h, 10000, 10000, "hold")
    assert node.wait_line("(open|error) .*", 120)[0] == "open 10000"
    h.expect_stat("hbone_server.t.tunnels_active", 10000)
    h.expect_stat("hbone_server.t.downstream_cx_active", 1)
    node.process.stdin.write("end\n")
    node.process.stdin.flush()
    assert node.wait_line("(done|error) .*", 120)[0] == "done 10000 most=10000"
    until(lambda: h.stat("hbone_server.t.tunnels_active") == 0, "no tunnel")


def resident_kib(pid):
    text = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(re.search(r"VmRSS:\s*(\d+)", text)[1])


@pytest.mark.skipif(SLOW != 1, reason="sanitizers keep freed memory")
@pytest.mark.peer("node")
def test_memory_does_not_grow_with_tunnels(hbone, certs, many):
    """Resident memory after tunnel 100,000 is at most 1 MiB above that after tunnel 10,000."""
    h = hbone(server(certs, http2={"max_concurrent_streams": 100}), "--concurrency", "1")

    def after(total):
        assert many(h, total, 100).wait_line("(done|error) .*", 300)[0] == f"done {total} most=100"
        until(lambda: h.stat("hbone_server.t.downstream_cx_active") == 0, "no connection")
        return resident_kib(h.process.pid)
    first = after(10000)
    last = after(90000)
    h.expect_stat("hbone_server.t.rq_200", 100000)
    assert last <= first + 1024, (first, last)


# ------------------------------------------------------------------ what one peer must not do to the others

@pytest.mark.peer("python-h2")
def test_rapid_reset(hbone, certs, origin):
    """At its default limit: 500 resets at once are borne, many more end the connection, and no other one."""
    h = hbone(server(certs))
    target = address(origin())
    with Client(h.port("hbone"), certs) as other, Client(h.port("hbone"), certs) as t:
        alive = other.connect(target)
        assert other.status(alive) == 200
        t.until(lambda: t.settings)
        for _ in range(400):
            t.reset(t.connect(target))
        assert t.status(t.connect(target)) == 200
        with pytest.raises((AssertionError, OSError)):
            for _ in range(2000):
                t.reset(t.connect(target))
            t.until(lambda: False)
        while not t.closed and not t.goaway:
            try:
                t.until(lambda: t.goaway)
            except (AssertionError, OSError):
                break
        assert [code for _, code in t.goaway] == [11]  # ENHANCE_YOUR_CALM
        h.expect_stat("hbone_server.t.http2.flood_resets", 1)
        other.send(alive, b"alive")
        assert other.read(alive, 5) == b"alive"
    until(lambda: h.stat("hbone_server.t.tunnels_active") == 0, "no tunnel")


PSEUDO = [(":method", "CONNECT"), (":authority", "127.0.0.1:1")]
MALFORMED = {
    "path on CONNECT": [*PSEUDO, (":path", "/"), (":scheme", "https")],
    "connection": [*PSEUDO, ("connection", "close")],
    "upper case": [*PSEUDO, ("Baggage", "a=b")],
    "no authority": PSEUDO[:1],
    "blank authority": [PSEUDO[0], (":authority", "")],
    "doubled authority": [*PSEUDO, PSEUDO[1]],
    "unknown pseudo-header": [*PSEUDO, (":other", "x")],
    "pseudo-header at the end": [PSEUDO[0], ("a", "b"), PSEUDO[1]],
    "te": [*PSEUDO, ("te", "gzip")],
    "value with a line end": [*PSEUDO, ("a", "b\nc: d")],
    "no method": PSEUDO[1:],
}


@pytest.mark.peer("python-h2")
def test_malformed_requests_end_their_stream_only(hbone, certs, origin):
    """Envoy ends the connection with all of its tunnels."""
    h = hbone(server(certs))
    target = address(origin())
    with Client(h.port("hbone"), certs, normalize=False) as t:
        alive = t.connect(target)
        assert t.status(alive) == 200
        for i, (what, headers) in enumerate(MALFORMED.items(), 1):
            n = t.request(headers)
            assert t.status(n) in (None, 400), what
            t.until(lambda: t.streams[n].reset is not None or t.streams[n].ended)
            t.send(alive, b"x")
            assert t.read(alive, i) == b"x" * i, what
        assert not t.goaway


@pytest.mark.peer("python-h2")
def test_stalled_uploads_do_not_stop_others(hbone, certs, origin):
    """Four origins that do not read, each with a full window; the fifth tunnel of the connection goes on."""
    done = threading.Event()
    h = hbone(server(certs))
    sink, target = origin(lambda s: done.wait()), origin()
    with Client(h.port("hbone"), certs) as t:
        block = bytes(16384)
        for _ in range(4):
            n = t.connect(address(sink))
            assert t.status(n) == 200
            quiet = 0
            while quiet < 3:  # until no credit comes back for the time of three echoes
                while t.h2.local_flow_control_window(n) >= len(block):
                    t.send(n, block)
                    quiet = 0
                echo = t.connect(address(target))
                t.send(echo, b"x", end=True)
                assert t.read_all(echo) == b"x"
                quiet += 1
        n = t.connect(address(target))
        data = net.pattern(2 * MIB)
        for at in range(0, len(data), 1 << 16):
            t.send(n, data[at:at + (1 << 16)])
        t.send(n, end=True)
        assert hashlib.sha256(t.read_all(n)).digest() == hashlib.sha256(data).digest()
    done.set()
    until(lambda: h.stat("hbone_server.t.tunnels_active") == 0, "no tunnel")


# ------------------------------------------------------------------ three of ours in a row

@pytest.fixture(params=["single", "double"])
def row(request, hbone, certs):
    """row(target) -> the program as client, gateway and workload. "single": the gateway ends the tunnel and makes
    another one; "double": it passes the inner tunnel on."""
    def start(target):
        workload = hbone(server(certs))
        port = workload.port("hbone")
        if request.param == "single":
            onward = c.cluster("next", port, transport_socket=tunnel(tls(certs, "client"), authority=target))
            fields = {"authority": "svc.example:80"}
        else:
            onward = c.cluster("next", port)
            fields = {"authority": target, "through": {"transport_socket": tls(certs, peer=CLIENT), "port": 0,
                                                       "authority": "svc.example:80"}}
        gateway = hbone(server(certs, [{"filters": [c.tcp_proxy("next")]}], cert="client", clusters=[onward]))
        peer = ECHO if request.param == "double" else CLIENT
        return hbone(client(certs, gateway.port("hbone"), peer=peer, **fields)), gateway, workload
    return start


def transfer(s, size):
    """Sends size bytes, half-closes, and reads the echo of them: (hash of what was sent, of what came back)."""
    block = net.pattern(MIB)
    sent, got = hashlib.sha256(), hashlib.sha256()

    def up():
        for _ in range(size // MIB):
            s.sendall(block)
            sent.update(block)
        s.shutdown(socket.SHUT_WR)
    t = threading.Thread(target=up)
    t.start()
    n = 0
    while piece := s.recv(1 << 18):
        got.update(piece)
        n += len(piece)
    t.join()
    assert n == size
    return sent.digest(), got.digest()


def test_200_mib_each_way(row, origin):
    h, gateway, workload = row(address(origin()))
    with connect(h) as s:
        sent, got = transfer(s, (200 if SLOW == 1 else 20) * MIB)
    assert sent == got
    assert [p.stat("hbone_server.t.tunnels_total") for p in (gateway, workload)] == [1, 1]
    until(lambda: workload.stat("hbone_server.t.tunnels_active") == 0, "no tunnel")


def test_the_server_speaks_first(row, origin):
    def handle(s):
        s.sendall(b"220 ready\r\n")
        assert net.read_exactly(s, 4) == b"quit"
    h, _, _ = row(address(origin(handle)))
    for _ in range(5):
        with connect(h) as s:
            assert net.read_exactly(s, 11) == b"220 ready\r\n"
            s.sendall(b"quit")
            assert read_to_the_end(s) == (b"", "end")


def test_halves_end_on_their_own(row, origin):
    data, got = net.pattern(4 * MIB), []

    def handle(s):
        if s.recv(1) == b"d":  # the origin ends first
            s.sendall(data)
            s.shutdown(socket.SHUT_WR)
            got.append(net.read_all(s))
        else:  # the client ends first
            s.sendall(net.read_all(s))
    h, _, _ = row(address(origin(handle)))
    with connect(h) as s:
        s.sendall(b"d")
        assert read_to_the_end(s) == (data, "end")
        s.sendall(b"late")
        s.shutdown(socket.SHUT_WR)
        until(lambda: got == [b"late"], "the client's half")
    with connect(h) as s:
        s.sendall(b"u")
        s.sendall(b"upload")
        s.shutdown(socket.SHUT_WR)
        assert read_to_the_end(s) == (b"upload", "end")


def test_resets_cross_all_of_them(row, origin):
    seen = []

    def handle(s):
        s.sendall(b"some")
        if s.recv(1) == b"r":
            net.reset(s)
            return
        note_the_end(s, seen)
    h, _, workload = row(address(origin(handle)))
    with connect(h) as s:
        assert net.read_exactly(s, 4) == b"some"
        s.sendall(b"r")
        assert read_to_the_end(s) == (b"", "reset")
    s = connect(h)
    assert net.read_exactly(s, 4) == b"some"
    s.sendall(b"x")
    net.reset(s)
    until(lambda: seen == ["reset"], "the reset at the origin")
    until(lambda: workload.stat("hbone_server.t.tunnels_active") == 0, "no tunnel")
