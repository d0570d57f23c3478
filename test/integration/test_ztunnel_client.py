# SPDX-License-Identifier: Apache-2.0
"""What a server of tunnels may do, and what our client makes of it: ztunnel's reactions, and its faults as a client with
what we do instead. The docstrings say what ztunnel does."""
import json
import signal
import socket
import ssl
import struct
import threading
import time

import pytest

from support import config as c
from support import net, wire
from support.proc import SLOW, until
from support.tunnels import CLIENT, ECHO, client, connect, read_to_the_end, server, tls

pytestmark = pytest.mark.peer("python-h2")

ONE = ("--concurrency", "1")


@pytest.fixture
def peer(certs, cleanup):
    """peer(script) -> an HTTP/2 server; script(wire, stream) runs for each request, what it returns is ignored."""
    def start(script, **kwargs):
        seen = []

        def serve(w):
            done = 0
            while w.end is None:
                w.until(lambda: w.end or len(w.all(wire.HEADERS)) > done)
                for frame in w.all(wire.HEADERS)[done:]:
                    seen.append((w, frame.stream))
                    script(w, frame.stream)
                    done += 1
        s = wire.Server(certs, serve, **kwargs)
        s.requests = seen
        cleanup(s.close)
        return s
    return start


def ok(w, stream, *headers, end=False):
    w.headers(stream, [(":status", "200"), *headers], end)


def say(w, stream, data, end=False):
    w.send(wire.DATA, wire.END_STREAM if end else 0, stream, data)


# ------------------------------------------------------------------ reactions

def status(code, body=b""):
    def script(w, stream):
        w.headers(stream, [(":status", str(code))], end=not body)
        if body:
            say(w, stream, body, True)
    return script


def reset_at_once(code):
    return lambda w, stream: w.rst(stream, code)


def reset_after_data(code):
    def script(w, stream):
        ok(w, stream)
        say(w, stream, b"some")
        w.rst(stream, code)
    return script


def interim(w, stream):
    w.headers(stream, [(":status", "100")])
    ok(w, stream)
    say(w, stream, b"some", True)


def ends_at_once(w, stream):
    ok(w, stream, end=True)


def trailers(w, stream):
    ok(w, stream)
    say(w, stream, b"some")
    w.headers(stream, [("grpc-status", "0")], end=True)


def end_and_no_error(w, stream):
    ok(w, stream)
    w.socket.sendall(wire.encode(wire.DATA, wire.END_STREAM, stream, b"some") +
                     wire.encode(wire.RST_STREAM, 0, stream, struct.pack(">I", wire.NO_ERROR)))


def close_notify(w, stream):
    ok(w, stream)
    say(w, stream, b"some")
    try:
        w.socket.unwrap()
    except OSError:
        pass


def fin(w, stream):
    ok(w, stream)
    say(w, stream, b"some")
    w.socket.shutdown(socket.SHUT_WR)


GONE, SOME, ABORT, END = (b"", "reset"), (b"some", "end"), (b"some", "reset"), (b"", "end")

# What the server does; what the application sees; requests that the server got.
REACTIONS = {
    "302": (status(302), GONE, 1),
    "401": (status(401), GONE, 1),
    "403 with a body": (status(403, b"no"), GONE, 1),
    "503": (status(503), GONE, 1),
    "503 with a body": (status(503, b"no"), GONE, 1),
    # Any 2xx is a tunnel (RFC 9110 9.3.6); ztunnel wants 200.
    "204 and an end": (status(204), END, 1),
    "RST_STREAM(CANCEL) at once": (reset_at_once(wire.CANCEL), GONE, 1),
    "RST_STREAM(INTERNAL_ERROR) at once": (reset_at_once(wire.INTERNAL_ERROR), GONE, 1),
    # Nothing was done: it is safe to ask again, and again.
    "RST_STREAM(REFUSED_STREAM) at once": (reset_at_once(wire.REFUSED_STREAM), GONE, 4),
    "100 before 200": (interim, SOME, 1),
    "200 with the end": (ends_at_once, END, 1),
    "trailers": (trailers, SOME, 1),
    "the end, then RST_STREAM(NO_ERROR)": (end_and_no_error, SOME, 1),
    # ztunnel makes FIN of all of these.
    "RST_STREAM(NO_ERROR) after data": (reset_after_data(wire.NO_ERROR), ABORT, 1),
    "RST_STREAM(CANCEL) after data": (reset_after_data(wire.CANCEL), ABORT, 1),
    "RST_STREAM(CONNECT_ERROR) after data": (reset_after_data(wire.CONNECT_ERROR), ABORT, 1),
    "RST_STREAM(INTERNAL_ERROR) after data": (reset_after_data(wire.INTERNAL_ERROR), ABORT, 1),
    "close_notify after data": (close_notify, ABORT, 1),
    "TCP FIN after data": (fin, ABORT, 1),
}


@pytest.mark.parametrize("what", REACTIONS)
def test_reactions(hbone, certs, peer, what):
    """ztunnel-behaviour, reactions of the client; where ours differ it is said above."""
    script, outcome, requests = REACTIONS[what]
    s = peer(script)
    h = hbone(client(certs, s.port), *ONE)
    with connect(h) as a:
        assert read_to_the_end(a) == outcome
    assert len(s.requests) == requests


def test_refused_stream_goes_again(hbone, certs, peer):
    """ztunnel closes the application's connection although a refused stream is safe to send again."""
    def script(w, stream):
        if len(s.requests) == 1:
            w.rst(stream, wire.REFUSED_STREAM)
        else:
            ok(w, stream)
            say(w, stream, b"some", True)
    s = peer(script)
    h = hbone(client(certs, s.port), *ONE)
    with connect(h) as a:
        assert read_to_the_end(a) == SOME
    h.expect_stat("cluster.peer.upstream_rq_retry", 1)


def test_goaway_below_the_stream_goes_again(hbone, certs, peer):
    """The same for a stream that GOAWAY does not cover; it goes to a new connection."""
    def script(w, stream):
        if len(s.wires) == 1:
            w.goaway(0)
        else:
            ok(w, stream)
            say(w, stream, b"some", True)
    s = peer(script)
    h = hbone(client(certs, s.port), *ONE)
    with connect(h) as a:
        assert read_to_the_end(a) == SOME
    assert [stream for _, stream in s.requests] == [1, 1]


def test_stale_connection_of_the_pool(hbone, certs, peer):
    """A pooled connection whose peer has gone, an address that another pod has now: ztunnel's application sees the failure.
    A request without an answer on a connection that had served others goes to a new one."""
    def script(w, stream):
        if stream == 3:
            w.socket.close()
            w.end = "fin"
            return
        ok(w, stream)
        say(w, stream, b"some", True)
    s = peer(script)
    h = hbone(client(certs, s.port), *ONE)
    for _ in range(2):
        with connect(h) as a:
            assert read_to_the_end(a) == SOME
    assert [stream for _, stream in s.requests] == [1, 3, 1]
    h.expect_stat("cluster.peer.upstream_rq_retry", 1)


def test_goaway_with_an_error_keeps_what_it_covers(hbone, certs, peer):
    """As ztunnel: the stream stays usable; the next one goes elsewhere."""
    def script(w, stream):
        ok(w, stream)
        if len(s.wires) == 1:
            w.goaway(stream, wire.INTERNAL_ERROR)
            w.until(lambda: w.data[stream] == b"hello")
        say(w, stream, b"some", True)
    s = peer(script)
    h = hbone(client(certs, s.port), *ONE)
    with connect(h) as a:
        until(lambda: h.stat("cluster.peer.upstream_cx_close_notify") == 1, "GOAWAY")
        with connect(h) as b:
            assert read_to_the_end(b) == SOME
        a.sendall(b"hello")
        assert read_to_the_end(a) == SOME
    assert len(s.wires) == 2


def test_no_answer(hbone, certs, peer):
    """ztunnel waits without a limit for an answer as long as PINGs are answered."""
    s = peer(lambda w, stream: None)
    h = hbone(client(certs, s.port, pool={"answer_timeout": "0.3s"}), *ONE)
    with connect(h) as a:
        assert read_to_the_end(a) == GONE
    h.wait_line("why=tunnel: no answer within 300 ms")
    w, stream = s.requests[0]
    until(lambda: w.all(wire.RST_STREAM, stream), "RST_STREAM")


def test_no_answer_to_ping(hbone, certs, peer):
    """ztunnel drops the connection after 30 s and gives FIN to the application. Ours are options (10 s and 20 s), and the
    application learns that this is no end."""
    def script(w, stream):
        w.mute = True
        ok(w, stream)
        say(w, stream, b"some")
    s = peer(script)
    h = hbone(client(certs, s.port, pool={"keepalive_interval": "0.2s", "keepalive_timeout": "0.3s"}), *ONE)
    with connect(h) as a:
        assert read_to_the_end(a) == ABORT


def test_silent_peer_is_one_timeout_for_all(hbone, certs, cleanup):
    """ztunnel makes connections one at a time, so that those who wait for a silent peer wait for each other."""
    silent = net.Server(lambda s: s.recv(1 << 16) and s.recv(1))
    cleanup(silent.close)
    h = hbone(client(certs, silent.port, pool={"handshake_timeout": "0.5s"}), *ONE)
    start = time.monotonic()
    sockets = [connect(h) for _ in range(8)]
    for a in sockets:
        assert read_to_the_end(a) == GONE
        a.close()
    assert time.monotonic() - start < 2 * SLOW


def test_another_endpoint_when_nothing_was_sent(hbone, certs, peer):
    """ztunnel never tries another endpoint, although no byte of the application has left."""
    bad, good = peer(status(503)), peer(interim)
    doc = json.loads(client(certs, bad.port, attempts=2))
    ends = doc["static_resources"]["clusters"][0]["load_assignment"]["endpoints"][0]["lb_endpoints"]
    ends.append(c.endpoint(good.port))
    h = hbone(json.dumps(doc), *ONE)
    for _ in range(4):
        with connect(h) as a:
            assert read_to_the_end(a) == SOME
    assert bad.requests and len(good.requests) == 4


def test_reset_of_the_application(hbone, certs, peer):
    """ztunnel turns the application's RST into END_STREAM."""
    s = peer(ok)
    h = hbone(client(certs, s.port), *ONE)
    a = connect(h)
    until(lambda: h.stat("cluster.peer.upstream_rq_active") == 1, "the answer")
    a.sendall(b"part")
    until(lambda: s.requests, "the request")
    w, stream = s.requests[0]
    until(lambda: w.data[stream] == b"part", "the bytes")
    net.reset(a)
    until(lambda: w.all(wire.RST_STREAM, stream), "RST_STREAM")
    assert not w.ended(stream)


# ------------------------------------------------------------------ shutdown

def test_shutdown(hbone, certs, peer):
    """ztunnel says no GOAWAY, and its applications get FIN at the deadline, without a line in the access log."""
    def script(w, stream):
        ok(w, stream)
        say(w, stream, b"some")
    s = peer(script)
    h = hbone(client(certs, s.port), "--drain-time", "1", *ONE)
    with connect(h) as a:
        assert net.read_exactly(a, 4) == b"some"
        h.process.send_signal(signal.SIGTERM)
        assert read_to_the_end(a) == GONE
    assert h.wait() == 0
    w, stream = s.requests[0]
    until(lambda: w.end, "the end of the connection")
    assert w.all(wire.RST_STREAM, stream) and not w.ended(stream)
    assert w.goaways()[-1][1] == wire.NO_ERROR
    assert w.end == "close_notify"
    assert f"peer={ECHO} flags=" in h.output()


# ------------------------------------------------------------------ double HBONE

class Pod:
    """Takes bytes, from when it is allowed to; knows how they ended."""

    def __init__(self, late=False):
        self.got, self.how, self.go = b"", None, threading.Event()
        if not late:
            self.go.set()
        self.server = net.Server(self.handle)

    def handle(self, s):
        s.sendall(b"hello")
        self.go.wait()
        self.got, self.how = read_to_the_end(s)


ENDINGS = {
    # Usually: inner GOAWAY and close_notify, the end, and at once RST_STREAM(CANCEL).
    "end and cancel": wire.encode(wire.DATA, wire.END_STREAM, 1) +
    wire.encode(wire.RST_STREAM, 0, 1, struct.pack(">I", wire.CANCEL)),
    "cancel": wire.encode(wire.RST_STREAM, 0, 1, struct.pack(">I", wire.CANCEL)),
    "end and no error": wire.encode(wire.DATA, wire.END_STREAM, 1) +
    wire.encode(wire.RST_STREAM, 0, 1, struct.pack(">I", wire.NO_ERROR)),
}


@pytest.mark.parametrize("late", [False, True], ids=["reads", "reads-late"])
@pytest.mark.parametrize("how", ENDINGS)
def test_endings_of_an_outer_tunnel(hbone, certs, cleanup, how, late):
    """ztunnel ends the outer tunnel so; what came before the reset is delivered, then the pod's side closes."""
    pod = Pod(late)
    cleanup(pod.server.close)
    cleanup(pod.go.set)
    h = hbone(server(certs, [{"filters": [c.tcp_proxy("pod")]}], clusters=[c.cluster("pod", pod.server.port)]))
    data = net.pattern(250000)
    with wire.client(h.port("hbone"), certs) as w:
        w.until(lambda: w.all(wire.SETTINGS))
        w.headers(1, wire.request("svc.example:80"))
        assert w.read(1, 5) == b"hello"
        w.socket.sendall(b"".join(wire.encode(wire.DATA, 0, 1, data[i:i + 16384]) for i in range(0, len(data), 16384)) +
                         ENDINGS[how])
        until(lambda: h.stat("hbone_server.t.tunnels_active") == 0 or late, "the end of the tunnel")
        pod.go.set()
        until(lambda: pod.how, "the pod's end")
        assert pod.got == data
        assert pod.how == ("reset" if how == "cancel" else "end")
        # The connection goes on.
        w.headers(3, wire.request("svc.example:80"))
        assert w.read(3, 5) == b"hello"


def double(certs, gateway_port, inner_peer):
    through = {"transport_socket": tls(certs), "port": 0, "authority": "svc.example:80"}
    return client(certs, gateway_port, peer=inner_peer, authority="svc.example:80", through=through)


def test_inner_refusal_is_an_alert(hbone, certs, cleanup):
    """ztunnel's client resets the outer stream after 6 bytes, without an alert that says why."""
    failed = []

    def handle(raw):
        context = net.server_context(certs, "client", ["h2"])
        try:
            context.wrap_socket(raw, server_side=True).recv(1)
        except ssl.SSLError as e:
            failed.append(str(e))
            raise
    inner = net.Server(handle)
    cleanup(inner.close)
    gateway = hbone(server(certs, [{"filters": [c.tcp_proxy("pod")]}], clusters=[c.cluster("pod", inner.port)]))
    h = hbone(double(certs, gateway.port("hbone"), ECHO), *ONE)
    with connect(h) as a:
        assert read_to_the_end(a) == GONE
    h.wait_line("why=TLS: no subject alternative name is an allowed one")
    until(lambda: failed, "the alert")
    assert "alert" in failed[0].lower(), failed


def test_outer_refusal(hbone, certs, peer):
    """As ztunnel: another outer answer than 200 ends the application's connection; the log names the tunnel."""
    s = peer(status(503))
    h = hbone(double(certs, s.port, CLIENT), *ONE)
    with connect(h) as a:
        assert read_to_the_end(a) == GONE
    h.wait_line("why=outer tunnel: tunnel_response:503")
