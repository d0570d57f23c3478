# SPDX-License-Identifier: Apache-2.0
"""Tunnels that rest: what is shown of them, and every way in which they can end."""
import json
import re
import signal
import socket
import threading

import pytest

from support import config as c
from support import net
from support.h2client import Client
from support.proc import SLOW, until
from support.tunnels import CLIENT, address, both_ways, client, connect, dial, read_to_the_end, server

pytestmark = pytest.mark.peer("python-h2")

AT_ONCE = ("--concurrency", "1", "--rest-above", "0")
NEVER = ("--concurrency", "1", "--rest-above", "1000000")


def resting(h, n):
    h.expect_stat("server.connections_resting", n)


def greet(t, streams, text=b"hello"):
    """Each stream's origin echoes; `text` has come back on all of them afterwards."""
    before = {n: len(t.streams[n].data) for n in streams}
    for n in streams:
        t.send(n, text)
    for n in streams:
        assert t.read(n, before[n] + len(text))[before[n]:] == text


def open_tunnels(t, *origins):
    """One tunnel to each of the origins."""
    streams = [t.connect(address(o)) for o in origins]
    assert {t.status(n) for n in streams} == {200}
    return streams


def gone(h):
    """Nothing is left, in any of the counts."""
    for name in ("server.connections_resting", "hbone_server.t.tunnels_active", "cluster.dst.upstream_cx_active",
                 "tcp.t.downstream_cx_active"):
        h.expect_stat(name, 0)
    until(lambda: h.json("/tunnels?format=json")["tunnels"] == [], "the end of the last tunnel")


def test_two_thousand(hbone, certs, origin):
    """What is shown of each is its own, and asking for it does not wake it for good."""
    sessions, each, targets = 4, 500, (origin(), origin())
    h = hbone(server(certs, [{"name": "all", "filters": [c.tcp_proxy("dst")]}], most=4000), "--concurrency", "1")
    clients = [Client(h.port("hbone"), certs) for _ in range(sessions)]
    expected = set()
    for i, t in enumerate(clients):
        streams = open_tunnels(t, *(targets[k % 2] for k in range(each)))
        for k, n in enumerate(streams):
            # Of the streams of a session no two have got as many bytes.
            t.send(n, b"x" * (k + 1))
            expected.add((t.socket.getsockname()[1], address(targets[k % 2]), k + 1))
        for k, n in enumerate(streams):
            assert t.read(n, k + 1) == b"x" * (k + 1), (i, k)
    until(lambda: h.stat("server.connections_resting") >= sessions * each - 32, "tunnels to rest")
    rows = h.json("/tunnels?format=json&limit=10000")["tunnels"]
    assert {(int(r["peer"].rpartition(":")[2]), r["authority"], r["received"]) for r in rows} == expected
    assert len(rows) == len({r["id"] for r in rows}) == sessions * each
    assert all(r["sent"] == r["received"] and r["endpoint"] == r["authority"] for r in rows)
    # The chains are those of hbone_server: their listener is its stat_prefix.
    assert {(r["direction"], r["state"], r["principal"], r["listener"], r["chain"], r["cluster"]) for r in rows} == {
        ("in", "open", CLIENT, "t", "all", "dst")}
    shown = {r["id"]: r for r in h.json("/connections?format=json&limit=10000")["connections"]}
    for row in rows:
        both = shown[row["id"]]
        names = ("peer", "chain", "cluster", "endpoint", "received", "sent")
        assert {k: both[k] for k in names} == {k: row[k] for k in names}
    until(lambda: h.stat("server.connections_resting") >= sessions * each - 32, "tunnels to rest again")
    for t in clients:
        greet(t, list(t.streams))
        for n in t.streams:
            t.send(n, end=True)
        for n in t.streams:
            t.read_all(n)
        t.close()
    gone(h)


def test_a_reload_ends_what_is_denied_and_leaves_the_others_at_rest(hbone, certs, origin):
    denied, kept, many = origin(), origin(), 40

    def config(port, denied_port):
        deny = {"name": "ports", "namespace": "shop", "action": "DENY", "scope": "NAMESPACE",
                "groups": [{"rules": [{"matches": [{"destination_ports": [denied_port]}]}]}]}
        authz = c.typed("authz", "hbone.filters.network.authz.Authz", stat_prefix="p", policies=[deny])
        conf = json.loads(server(certs, [{"name": "all", "filters": [authz, c.tcp_proxy("dst")]}]))
        conf["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = port
        return json.dumps(conf)

    h = hbone(config(0, 1), *AT_ONCE, "--drain-time", "30")
    port = h.port("hbone")
    with Client(port, certs) as t:
        streams = open_tunnels(t, *(denied if k % 2 else kept for k in range(2 * many)))
        greet(t, streams)
        resting(h, 2 * many)
        assert h.reload(config(port, denied.port)), h.output()
        ended, others = streams[1::2], streams[::2]
        t.until(lambda: all(t.streams[n].reset is not None for n in ended))
        h.expect_stat("authz.p.revoked", many)
        until(lambda: sum("policy=shop/ports" in line for line in h.lines if line) == many, "a line of each")
        resting(h, many)
        assert h.stat("hbone_server.t.tunnels_active") == many
        assert all(t.streams[n].reset is None and not t.streams[n].ended for n in others)
        greet(t, others, b"still here")
        resting(h, many)


def lose_by_reset(t):
    # What unwrap() would say is what a peer that is gone does not say.
    raw = socket.socket(fileno=t.socket.detach())
    net.reset(raw)


def lose_by_truncation(t):
    t.close()


def lose_after_goaway(t):
    t.h2.close_connection()
    t.flush()
    t.close()


@pytest.mark.parametrize("lose", (lose_by_reset, lose_by_truncation, lose_after_goaway))
def test_the_session_is_lost(hbone, certs, origin, tmp_path, lose):
    seen, many, log = [], 40, tmp_path / "streams.log"

    def handle(s):
        try:
            net.echo(s)
            seen.append("end")
        except ConnectionResetError:
            seen.append("reset")
    target = origin(handle)
    h = hbone(server(certs, log=log), *AT_ONCE)
    t = Client(h.port("hbone"), certs)
    greet(t, open_tunnels(t, *[target] * many))
    resting(h, many)
    lose(t)
    until(lambda: len(seen) == many, "the origins to know")
    assert set(seen) == {"reset"}
    gone(h)
    assert h.stat("tcp.t.downstream_cx_total") == many
    h.expect_stat("server.total_connections", 0)
    until(lambda: log.exists() and len(log.read_text().splitlines()) == many, "a line of each")
    assert len(set(log.read_text().splitlines())) == 1


@pytest.mark.parametrize("how", ("killed", "drained"))
def test_the_far_end_goes(hbone, certs, origin, how):
    """Of tunnels that we opened, the session is gone: each connection is reset."""
    target, many = origin(), 40
    far = hbone(server(certs), *AT_ONCE)
    port = far.port("hbone")
    h = hbone(client(certs, port, authority=address(target)), *AT_ONCE)
    near = [connect(h) for _ in range(many)]
    for s in near:
        s.sendall(b"hello")
        assert net.read_exactly(s, 5) == b"hello"
    resting(h, many)
    rows = h.json("/tunnels?format=json")["tunnels"]
    assert sorted((r["direction"], r["authority"], r["endpoint"], r["received"], r["sent"]) for r in rows) == [
        ("out", address(target), f"127.0.0.1:{port}", 5, 5)] * many
    if how == "killed":
        far.expect_exit = -signal.SIGKILL
    far.process.send_signal(signal.SIGKILL if how == "killed" else signal.SIGTERM)
    assert [read_to_the_end(s) for s in near] == [(b"", "reset")] * many
    for name in ("server.connections_resting", "server.total_connections", "tcp.t.downstream_cx_active",
                 "cluster.peer.upstream_cx_active"):
        h.expect_stat(name, 0)
    assert h.json("/tunnels?format=json")["tunnels"] == []
    until(lambda: sum(line.startswith("up=") for line in h.lines if line) == many, "a line of each")
    assert len({line for line in h.lines if line and line.startswith("up=")}) == 1
    for s in near:
        s.close()


@pytest.mark.parametrize("how", ("reset", "end"))
def test_origins_go(hbone, certs, origin, how):
    many, go = 40, threading.Event()

    def handle(s):
        s.sendall(net.read_exactly(s, 5))
        go.wait(net.TIMEOUT)
        if how == "reset":
            net.reset(s)
        else:
            s.shutdown(socket.SHUT_WR)
            assert net.read_all(s) == b"bye"
    target = origin(handle)
    h = hbone(server(certs), *AT_ONCE)
    with Client(h.port("hbone"), certs) as t:
        streams = open_tunnels(t, *[target] * many)
        greet(t, streams)
        resting(h, many)
        go.set()
        if how == "end":
            t.until(lambda: all(t.streams[n].ended for n in streams))
            # The other way is open; half-closed ones do not rest.
            resting(h, 0)
            assert h.stat("hbone_server.t.tunnels_active") == many
            for n in streams:
                t.send(n, b"bye", end=True)
        else:
            t.until(lambda: all(t.streams[n].reset is not None for n in streams))
            assert not any(t.streams[n].ended for n in streams)
        gone(h)
    assert target.errors == []


def test_a_drain_waits_for_those_at_rest(hbone, certs, origin):
    target, many = origin(), 20
    h = hbone(server(certs), *AT_ONCE, "--drain-time", "120")
    with Client(h.port("hbone"), certs) as t:
        streams = open_tunnels(t, *[target] * many)
        greet(t, streams)
        resting(h, many)
        h.process.send_signal(signal.SIGTERM)
        t.until(lambda: t.goaway)
        greet(t, streams, b"still here")
        resting(h, many)
        for n in streams:
            t.send(n, end=True)
        for n in streams:
            t.read_all(n)
            assert t.streams[n].ended and t.streams[n].reset is None
        # The last one has gone: nothing waits for the deadline.
        assert h.process.wait(30 * SLOW) == 0


def test_a_drain_ends_those_at_rest_at_its_deadline(hbone, certs, origin, tmp_path):
    target, many, log = origin(), 20, tmp_path / "streams.log"
    h = hbone(server(certs, log=log), *AT_ONCE, "--drain-time", "1")
    with Client(h.port("hbone"), certs) as t:
        streams = open_tunnels(t, *[target] * many)
        greet(t, streams)
        resting(h, many)
        h.process.send_signal(signal.SIGTERM)
        assert h.process.wait(30 * SLOW) == 0
        with pytest.raises(AssertionError, match="the connection is closed"):
            t.until(lambda: False)
        assert not any(t.streams[n].ended for n in streams)
    lines = log.read_text().splitlines()
    assert len(lines) == many and len(set(lines)) == 1


@pytest.mark.parametrize("backend", ("epoll", "uv"))
def test_no_event_is_lost(hbone, certs, origin, backend):
    """Both sides speak first, in turns, and each time after a rest; at the end everything that was sent has come."""
    opened, rounds, many = [], 10, 8

    def handle(s):
        s.recv(1)
        opened.append(s)
        net.echo(s)
    target = origin(handle)
    far = hbone(server(certs), *AT_ONCE, "--event-backend", backend)
    h = hbone(client(certs, far.port("hbone"), authority=address(target)), *AT_ONCE, "--event-backend", backend)
    near = []
    for k in range(many):
        near.append(connect(h))
        near[k].sendall(b"!")
        until(lambda: len(opened) == k + 1, "the origin's end")
    for k in range(rounds):
        for up, down in zip(near, opened):
            resting(h, many)
            resting(far, many)
            down.sendall(b"pushed %d" % k)
            assert net.read_exactly(up, 8) == b"pushed %d" % k
            up.sendall(b"asked %d" % k)
            assert net.read_exactly(up, 7) == b"asked %d" % k
    resting(far, many)
    large = net.pattern(1 << 20)
    for up in near:
        assert both_ways(up, large) == large
        up.close()
    gone(far)
    assert far.stat("server.connection_wakes") >= many * rounds
    assert far.stat("server.connection_wakes") == far.stat("server.connection_rests")


OPERATORS = ("BYTES_RECEIVED", "BYTES_SENT", "REQUESTED_SERVER_NAME", "UPSTREAM_CLUSTER", "UPSTREAM_HOST", "UPSTREAM_HOST_NAME",
             "UPSTREAM_LOCAL_ADDRESS", "UPSTREAM_PEER_URI_SAN", "UPSTREAM_REQUEST_ATTEMPT_COUNT", "UPSTREAM_DETECTED_CLOSE_TYPE",
             "UPSTREAM_TRANSPORT_FAILURE_REASON", "UPSTREAM_WIRE_BYTES_SENT", "UPSTREAM_WIRE_BYTES_RECEIVED",
             "FILTER_CHAIN_NAME", "RESPONSE_FLAGS", "DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_LOCAL_ADDRESS",
             "DOWNSTREAM_PEER_URI_SAN", "CLOSE_REASON", "REQ(:AUTHORITY)", "REQ(BAGGAGE)")
JSON_LOG = {o: f"%{o}%" for o in OPERATORS} | {"start": "%START_TIME(%s)%", "age_ms": "%DURATION%"}


def logged(h, names):
    """The one access log line, ephemeral ports by their name."""
    text = h.wait_line(r'^(\{.*"BYTES_SENT".*\})$')[1]
    for port, name in names.items():
        text = re.sub(rf":{port}\b", f":{name}", text)
    row = json.loads(text)
    # 127.0.0.1:PORT that only the program knows.
    row["UPSTREAM_LOCAL_ADDRESS"] = re.sub(r":\d+$", ":own", row["UPSTREAM_LOCAL_ADDRESS"] or "")
    return row


def without_times(row):
    return {k: v for k, v in row.items() if k not in ("start", "age_ms")}


def json_log():
    return c.typed("out", "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", log_format={"json_format": JSON_LOG})


@pytest.mark.parametrize("end", ("end", "reset"))
@pytest.mark.parametrize("kind", ("socket", "stream"))
def test_the_access_log_line_is_the_same(hbone, certs, origin, kind, end):
    target = origin()

    def line(options):
        if kind == "socket":
            chain = {"name": "all", "filters": [c.tcp_proxy("app", access_log=[json_log()])]}
            h = hbone(c.bootstrap([c.listener("in", [chain])], [c.cluster("app", target.port)]), *options)
            hello = net.client_hello("a.example")
            near = dial(h.port("in"))
            names = {near.getsockname()[1]: "near", h.port("in"): "in", target.port: "target"}
            near.sendall(hello)
            assert net.read_exactly(near, len(hello)) == hello
        else:
            chain = {"name": "all", "filters": [c.tcp_proxy("dst", access_log=[json_log()])]}
            h = hbone(server(certs, [chain]), *options)
            near = Client(h.port("hbone"), certs)
            names = {near.socket.getsockname()[1]: "near", h.port("hbone"): "in", target.port: "target"}
            n = near.connect(address(target), ("baggage", "service.name=b"))
            near.send(n, b"hello")
            near.read(n, 5)
        if options == AT_ONCE:
            resting(h, 1)
        if kind == "socket" and end == "end":
            near.shutdown(socket.SHUT_WR)
            assert near.recv(1) == b""
        elif kind == "socket":
            net.reset(near)
        elif end == "end":
            near.send(n, end=True)
            near.read_all(n)
        else:
            near.reset(n)
        row = logged(h, names)
        near.close()
        assert h.stat("server.connection_rests") >= 1 if options == AT_ONCE else h.stat("server.connection_rests") == 0
        return row

    rested, not_rested = line(AT_ONCE), line(NEVER)
    assert without_times(rested) == without_times(not_rested)
    assert rested["BYTES_SENT"] >= 5 and rested["FILTER_CHAIN_NAME"] == "all" and rested["UPSTREAM_HOST"] == "127.0.0.1:target"
    assert int(rested["start"]) <= int(not_rested["start"]) <= int(rested["start"]) + 60 * SLOW
    assert 0 <= int(rested["age_ms"]) < 60000 * SLOW
