# SPDX-License-Identifier: Apache-2.0
"""Connections that rest: thousands of idle ones are there for everybody who asks, and go on as if nothing had been."""
import signal
import socket

import pytest

from support import config as c
from support import net
from support.h2client import Client
from support.proc import SLOW, resident, until
from support.tunnels import address, server

MANY, AWAKE = 600, 32
# Bytes of a plain connection between two sockets.
PASSTHROUGH_MAX = 400


@pytest.fixture
def echo(cleanup):
    s = net.Server(net.echo)
    cleanup(s.close)
    return s


def plain(port, **fields):
    return c.bootstrap([c.listener("in", [{"filters": [c.tcp_proxy("app", **fields)]}], [])],
                       [c.cluster("app", port, circuit_breakers={"thresholds": [{"max_connections": 10000}]})])


def rest(h, n):
    until(lambda: h.stat("server.connections_resting") >= n, f"{n} connections to rest")


def ask(s, text):
    s.sendall(text)
    assert net.read_exactly(s, len(text)) == text


def test_many_connections(hbone, cleanup, echo):
    h = hbone(plain(echo.port), "--concurrency", "1")
    conns = [socket.create_connection(("127.0.0.1", h.port("in")), timeout=20) for _ in range(MANY)]
    for s in conns:
        cleanup(s.close)
        ask(s, b"hello")
    rest(h, MANY - AWAKE)
    rows = h.json("/connections?format=json")["connections"]
    assert sorted(r["peer"] for r in rows) == sorted("{}:{}".format(*s.getsockname()) for s in conns)
    same = {(r["cluster"], r["endpoint"], r["received"], r["sent"], r["state"]) for r in rows}
    assert same == {("app", f"127.0.0.1:{echo.port}", 5, 5, "open")}
    # Looking does not wake them.
    assert h.stat("server.connections_resting") >= MANY - AWAKE
    for s in conns:
        ask(s, b"and again")
    # One is closed by hand, one by its client.
    rest(h, MANY - AWAKE)
    row = next(r for r in rows if r["peer"].endswith(f":{conns[3].getsockname()[1]}"))
    assert h.post(f"/connections?close={row['id']}")[0] == 200
    with pytest.raises(ConnectionResetError):
        conns[3].recv(1)
    conns[4].shutdown(socket.SHUT_WR)
    assert conns[4].recv(1) == b""
    until(lambda: h.stat("tcp.t.downstream_cx_total") == MANY and h.stat("server.total_connections") == MANY - 2,
          "two connections less")
    # A drain waits for those that rest, too.
    h.process.send_signal(signal.SIGTERM)
    assert h.process.wait(20 * SLOW) == 0
    with pytest.raises(ConnectionResetError):
        conns[5].recv(1)


def test_idle_timeout_is_exact_enough(hbone, cleanup, echo):
    h = hbone(plain(echo.port, idle_timeout="1s"), "--rest-above", "0")
    s = socket.create_connection(("127.0.0.1", h.port("in")), timeout=20)
    cleanup(s.close)
    ask(s, b"hello")
    # What is due so soon does not rest.
    assert h.stat("server.connections_resting") == 0
    assert s.recv(1) == b""
    assert h.stat("tcp.t.idle_timeout") == 1


@pytest.mark.peer("python-h2")
def test_tunnels(hbone, certs, echo):
    h = hbone(server(certs, most=4000), "--concurrency", "1")
    with Client(h.port("hbone"), certs) as t:
        streams = [t.connect(address(echo)) for _ in range(300)]
        assert {t.status(n) for n in streams} == {200}
        rest(h, 300 - AWAKE)
        assert len(h.json("/connections?format=json&limit=1000")["connections"]) == 301
        assert h.stat("hbone_server.t.tunnels_active") == 300
        for n in streams:
            t.send(n, b"%d" % n)
        for n in streams:
            assert t.read(n, len(b"%d" % n)) == b"%d" % n
        rest(h, 300 - AWAKE)
        for n in streams:
            t.send(n, end=True)
        for n in streams:
            assert t.read_all(n) == b"%d" % n
    until(lambda: h.stat("hbone_server.t.tunnels_active") == 0, "the tunnels to end")


@pytest.mark.skipif(SLOW != 1, reason="sanitizers have memory of their own")
def test_memory(hbone, cleanup):
    # Nobody accepts: the kernel keeps connections that cost nobody anything.
    origin = socket.create_server(("127.0.0.1", 0), backlog=4096)
    cleanup(origin.close)
    h = hbone(plain(origin.getsockname()[1]), "--concurrency", "1")

    def more(n):
        total = h.stat("tcp.t.downstream_cx_total") + n
        for _ in range(n):
            cleanup(socket.create_connection(("127.0.0.1", h.port("in")), timeout=20).close)
        until(lambda: h.stat("tcp.t.downstream_cx_total") == total, "connections")
        rest(h, total - AWAKE - 1)
        return resident(h)

    before = more(100)
    each = (more(1500) - before) / 1500
    print(f"an idle connection between two sockets {each:.0f} bytes")
    assert each <= PASSTHROUGH_MAX
