# SPDX-License-Identifier: Apache-2.0
"""What ztunnel does wrong or leaves open as a server, each fault a test of what we do instead. The docstrings say what
ztunnel does. Its faults as a client are in test_ztunnel_client.py, its answers in test_ztunnel_answers.py."""
import os
import resource
import signal
import socket
import ssl
import struct
import time

import pytest

from support import config as c
from support import net, wire
from support.proc import SLOW, until
from support.tunnels import CLIENT, MIB, address, noting, server

pytestmark = pytest.mark.peer("python-h2")


@pytest.fixture
def dial(certs, cleanup):
    """dial(h) -> frames to and from our server."""
    def start(h, **kwargs):
        w = wire.client(h.port("hbone"), certs, **kwargs)
        cleanup(w.close)
        return w
    return start


def tunnel(w, stream, target, *headers):
    """Opens a tunnel to an echo server and proves that it lives."""
    w.headers(stream, wire.request(address(target), *headers))
    assert w.status(stream) == 200
    lives(w, stream)


def lives(w, stream, data=b"alive"):
    already = len(w.data[stream])
    w.send(wire.DATA, 0, stream, data)
    assert w.read(stream, already + len(data))[already:] == data


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# ------------------------------------------------------------------ peers that do not go on

def test_silent_before_tls(hbone, certs):
    """ztunnel has no limit for a TLS handshake: who says nothing is held for ever. Ours is transport_socket_connect_timeout,
    15 s unless set."""
    text = server(certs).replace('"filters": [', '"transport_socket_connect_timeout": "0.3s", "filters": [', 1)
    h = hbone(text)
    with socket.create_connection(("127.0.0.1", h.port("hbone")), timeout=net.TIMEOUT) as s:
        with pytest.raises(ConnectionResetError):
            s.recv(1)
    h.expect_stats(r"^listener\..*\.downstream_cx_transport_socket_connect_timeout$", 1)


def test_silent_after_tls(hbone, certs):
    """The same for HTTP/2: SETTINGS that never come are waited for without a limit."""
    h = hbone(server(certs, http2={"settings_timeout": "0.3s"}))
    with wire.tls(h.port("hbone"), certs) as s:
        w = wire.Wire(s, server=True)
        w.mute = True
        assert w.until_over() == "close_notify"
    h.expect_stat("hbone_server.t.http2.settings_timeout", 1)


def test_half_a_header_block(hbone, certs, dial):
    """A HEADERS frame without END_HEADERS is waited for, too."""
    h = hbone(server(certs, http2={"headers_timeout": "0.3s"}))
    w = dial(h)
    w.until(lambda: w.all(wire.SETTINGS))
    w.mute = True
    w.send(wire.HEADERS, 0, 1, w.block(wire.request("127.0.0.1:1")))
    assert w.until_over() == "close_notify"
    h.expect_stat("hbone_server.t.http2.headers_timeout", 1)


# ------------------------------------------------------------------ one bad header, all tunnels

@pytest.mark.parametrize("value", ["x" * 55, "0" * 55, "00-" + "0" * 52, "-" * 55, "00-" + "a" * 49 + "-01", "\xff" * 55])
def test_traceparent_of_55_characters(hbone, certs, dial, origin, value):
    """A traceparent of exactly 55 characters without enough dashes ends ztunnel's connection with all of its tunnels."""
    h, target = hbone(server(certs)), origin()
    w = dial(h)
    tunnel(w, 1, target)
    tunnel(w, 3, target, ("traceparent", value.encode("latin-1")))
    lives(w, 1)
    assert not w.goaways()


@pytest.mark.parametrize("field", [(":unknown", "x"), ("Upper", "x"), ("a", "b\r\nc: d")], ids=["pseudo", "case", "crlf"])
def test_malformed_header_ends_one_stream(hbone, certs, dial, origin, field):
    """An unknown pseudo-header, a name in upper case, a line end in a value: ztunnel says GOAWAY(PROTOCOL_ERROR) and closes."""
    h, target = hbone(server(certs)), origin()
    w = dial(h)
    tunnel(w, 1, target)
    fields = wire.request(address(target), field)
    if field[0][0] == ":":
        fields.insert(1, fields.pop())
    w.headers(3, fields)
    assert w.code(3) == wire.PROTOCOL_ERROR
    lives(w, 1)
    assert not w.goaways()


# ------------------------------------------------------------------ ends and resets

@pytest.mark.parametrize("when", ["accept", "data"])
def test_reset_of_the_application(hbone, certs, dial, origin, when):
    """ztunnel turns the application's RST into END_STREAM: an abort looks like the end of the data."""
    def handle(s):
        if when == "data":
            s.sendall(b"part")
            assert s.recv(1) == b"x"
        net.reset(s)
    h = hbone(server(certs))
    w = dial(h)
    w.headers(1, wire.request(address(origin(handle))))
    if when == "data":
        assert w.status(1) == 200 and w.read(1, 4) == b"part"
        w.send(wire.DATA, 0, 1, b"x")
    if when == "accept" and w.status(1) == 503:
        return  # it came before we knew of the connection
    assert w.code(1) == wire.CONNECT_ERROR
    assert not w.ended(1)


@pytest.mark.parametrize("how", ["stream", "connection"])
def test_reset_of_the_client(hbone, certs, dial, origin, how):
    """ztunnel ends the application's connection with FIN when the client resets its stream, or cuts its connection."""
    seen = []
    h = hbone(server(certs))
    w = dial(h)
    w.headers(1, wire.request(address(origin(noting(seen, b"ready")))))
    assert w.read(1, 5) == b"ready"
    if how == "stream":
        w.rst(1, wire.CANCEL)
    else:
        socket.close(w.socket.detach())
    until(lambda: seen == ["reset"], "the application's end")


# ------------------------------------------------------------------ floods

PINGS = wire.encode(wire.PING, 0, 0, bytes(8))
EMPTY_SETTINGS = wire.encode(wire.SETTINGS)
EMPTY_DATA = wire.encode(wire.DATA, 0, 1)
WINDOW = wire.encode(wire.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1))
PRIORITY = wire.encode(wire.PRIORITY, 0, 1, bytes(5))


@pytest.mark.parametrize("frame,some,many,stat", [
    (PINGS, 900, 10000, "pings"), (EMPTY_SETTINGS, 90, 2000, "settings"), (EMPTY_DATA, 900, 10000, "empty_data"),
    (WINDOW, 900, 10000, "window_updates"), (PRIORITY, 900, 10000, "other_frames")],
    ids=["pings", "settings", "empty_data", "window_updates", "priority"])
def test_floods(hbone, certs, dial, origin, frame, some, many, stat):
    """ztunnel answers 10,000 PINGs, acknowledges 2,000 SETTINGS, takes 10,000 empty DATA, all without a limit. What may
    have a reason is borne; the flood ends its own connection, and no other one."""
    h, target = hbone(server(certs)), origin()
    other, w = dial(h), dial(h)
    tunnel(other, 1, target)
    tunnel(w, 1, target)
    w.socket.sendall(frame * some)
    lives(w, 1)
    try:
        w.socket.sendall(frame * many)
    except OSError:
        pass
    w.until_over()
    assert w.goaways() == [] or w.goaways()[-1][1] == wire.ENHANCE_YOUR_CALM
    h.expect_stat(f"hbone_server.t.http2.flood_{stat}", 1)
    h.expect_stat("hbone_server.t.downstream_cx_flood", 1)
    lives(other, 1)


# ------------------------------------------------------------------ shutdown

def drain(h):
    h.post("/drain_listeners?graceful&skip_exit")


def test_stream_after_the_first_goaway(hbone, certs, dial, origin):
    """ztunnel never answers a stream that comes after its first GOAWAY, which says that all streams are good."""
    h, target = hbone(server(certs)), origin()
    w = dial(h)
    tunnel(w, 1, target)
    w.mute = True
    drain(h)
    w.until(w.goaways)
    assert w.goaways() == [(2**31 - 1, wire.NO_ERROR)]
    tunnel(w, 3, target)
    w.send(wire.PING, wire.ACK, 0, w.all(wire.PING)[0].payload)
    w.until(lambda: len(w.goaways()) == 2)
    assert w.goaways()[1] == (3, wire.NO_ERROR)
    for stream in (1, 3):
        lives(w, stream)
        w.send(wire.DATA, wire.END_STREAM, stream)
    assert w.until_over() == "close_notify"


def test_deadline(hbone, certs, dial, origin):
    """After its drain time ztunnel cuts connections without RST_STREAM and without close_notify."""
    h = hbone(server(certs), "--drain-time", "1")
    target = origin()
    w = dial(h)
    tunnel(w, 1, target)
    h.process.send_signal(signal.SIGTERM)
    assert w.until_over() == "close_notify"
    assert h.wait() == 0
    assert w.all(wire.RST_STREAM, 1)
    assert [type(e) for e in target.errors] == [ConnectionResetError]


def test_idle_connection_at_shutdown(hbone, certs, dial):
    """As ztunnel: a connection without tunnels need not wait."""
    h = hbone(server(certs), "--drain-time", "60")
    w = dial(h)
    w.until(lambda: w.all(wire.SETTINGS))
    h.process.send_signal(signal.SIGTERM)
    assert w.until_over() == "close_notify"
    assert w.goaways()[0] == (2**31 - 1, wire.NO_ERROR)
    assert h.wait() == 0


# ------------------------------------------------------------------ who may come in

def test_certificate_with_two_identities(hbone, certs):
    """ztunnel takes a certificate with two SPIFFE URIs, and the first one for its owner's identity."""
    text = server(certs).replace('"trusted_ca"', '"custom_validator_config": %s, "trusted_ca"' % (
        '{"name": "spiffe", "typed_config": {"@type": "type.googleapis.com/hbone.identity.SpiffeRules"}}'))
    h = hbone(text)
    with wire.client(h.port("hbone"), certs) as w:
        w.until(lambda: w.all(wire.SETTINGS))
    with pytest.raises(ssl.SSLError):
        with wire.tls(h.port("hbone"), certs, "twouri") as s:
            s.recv(1)
    h.expect_stats(r"^listener\..*\.ssl\.fail_verify_san$", 1)


@pytest.mark.parametrize("cert", ["stranger", "expired", "serveronly"])
def test_alert_reaches_who_writes_at_once(hbone, certs, cert):
    """A client of ztunnel that writes right after its Finished may get a TCP reset instead of the alert that says why."""
    h = hbone(server(certs))
    for _ in range(5):
        with wire.tls(h.port("hbone"), certs, cert) as s:
            with pytest.raises(ssl.SSLError) as e:
                s.sendall(wire.PREFACE + wire.encode(wire.SETTINGS) + bytes(65536))
                while s.recv(4096):
                    pass
            assert "alert" in str(e.value).lower()


# ------------------------------------------------------------------ numbers

def test_refusals_are_counted(hbone, certs, dial, origin):
    """ztunnel logs what it refuses before the destination is known, and handshakes that fail, but counts neither."""
    h = hbone(server(certs))
    w = dial(h)
    for stream, authority, status in ((1, "127.0.0.1", 400), (3, "127.0.0.1:70000", 400), (5, "nobody.example:1", 503)):
        w.headers(stream, wire.request(authority))
        assert w.status(stream) == status
    w.headers(7, [(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")], end=True)
    assert w.status(7) == 400
    w.headers(9, wire.request("127.0.0.1:1", ("connection", "close")))
    assert w.code(9) == wire.PROTOCOL_ERROR
    h.expect_stat("hbone_server.t.rq_400", 3)
    h.expect_stat("hbone_server.t.rq_503", 1)
    h.expect_stat("hbone_server.t.downstream_rq_total", 5)
    h.expect_stat("hbone_server.t.http2.stream_errors", 1)
    for cert in ("stranger", "expired"):
        with pytest.raises(OSError):
            with wire.tls(h.port("hbone"), certs, cert) as s:
                s.recv(1)
    h.expect_stats(r"^listener\..*\.ssl\.connection_error$", 2)


# ------------------------------------------------------------------ memory and descriptors

def test_descriptors_run_out(hbone, certs, dial, origin):
    """ztunnel's accept loop spins at EMFILE, and does not recover. Ours pauses; what is open goes on, what waits comes in
    once there is room."""
    h, target = hbone(server(certs), "--concurrency", "1"), origin()
    w = dial(h)
    tunnel(w, 1, target)
    pid = h.process.pid
    port = h.port("hbone")
    _, most = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    highest = max(int(n) for n in os.listdir(f"/proc/{pid}/fd"))
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (highest + 4, most))
    waiting = [socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT) for _ in range(20)]
    start = time.monotonic()
    used = cpu_seconds(pid)
    until(lambda: time.monotonic() > start + 0.5, "half a second")
    lives(w, 1)
    assert cpu_seconds(pid) - used < 0.3
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (most, most))
    for s in waiting:
        s.close()
    tunnel(dial(h), 1, target)
    assert 0 < h.stats(r"^listener\..*\.downstream_cx_accept_error$") < 100


@pytest.mark.skipif(SLOW != 1, reason="sanitizers count memory in another way")
def test_buffers_of_idle_tunnels_are_gone(hbone, certs, dial, origin):
    """ztunnel's copy buffers stay as large as the traffic made them. A hundred tunnels that have moved bytes, and now are
    idle, hold less than 4 KiB each: when they are gone, so much less is allocated."""
    h, target = hbone(server(certs, http2={"max_concurrent_streams": 100}), "--concurrency", "1"), origin()
    w = dial(h)
    streams = range(1, 201, 2)
    for stream in streams:
        tunnel(w, stream, target)
    for _ in range(16):
        for stream in streams:
            w.send(wire.DATA, 0, stream, bytes(65536))
        for stream in streams:
            w.until(lambda n=stream: len(w.data[n]) >= 65536)
            w.data[stream] = b""
    idle = h.stat("server.memory_allocated")
    for stream in streams:
        w.rst(stream, wire.CANCEL)
    h.expect_stat("hbone_server.t.tunnels_active", 0)
    held = idle - h.stat("server.memory_allocated")
    assert held < len(streams) * 4096, held
