# SPDX-License-Identifier: Apache-2.0
"""What Envoy 1.40 does wrong with tunnels, fault by fault, and what we do instead, in our form and in Envoy's. The docstrings
say what Envoy does. With Envoy itself at the other end: test_hbone_envoy.py and the last part of test_hbone_client.py."""
import json
import socket
import struct
import threading

import pytest

from support import config as c
from support import net, wire
from support.proc import until
from support.tunnels import MIB, address, client, connect, read_to_the_end, server

pytestmark = pytest.mark.peer("python-h2")

FORMS = ("hbone_server", "http_connection_manager")


def manager(certs, **http2):
    """Envoy's form of tunnels.server(): a tunnel goes to the address of its authority."""
    routes = {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"connect_matcher": {}}, "route": {
            "cluster": "dst", "timeout": "0s", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]}]}
    hcm = c.typed("hcm", "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                  stat_prefix="t", codec_type="HTTP2", route_config=routes,
                  upgrade_configs=[{"upgrade_type": "CONNECT"}],
                  http_filters=[c.typed("router", "envoy.extensions.filters.http.router.v3.Router")],
                  http2_protocol_options={"allow_connect": True, **http2})
    chain = {"filters": [hcm], "transport_socket": c.tls_downstream(certs, "echo", ["h2"], True)}
    dst = {"name": "dst", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "2s",
           "original_dst_lb_config": {"use_http_header": True, "http_header_name": ":authority"}}
    return c.bootstrap([c.listener("hbone", [chain], [])], [dst])


@pytest.fixture(params=FORMS)
def terminator(request, hbone, certs):
    """terminator(**http2) -> the program in one of the forms."""
    def start(*options, **http2):
        text = server(certs, http2=http2) if request.param == "hbone_server" else manager(certs, **http2)
        return hbone(text, *options)
    start.form = request.param
    return start


def tunnel(w, stream, target, data=b"alive"):
    w.headers(stream, wire.request(address(target)))
    assert w.status(stream) == 200
    lives(w, stream, data)


def lives(w, stream, data=b"alive"):
    already = len(w.data[stream])
    w.send(wire.DATA, 0, stream, data)
    w.read(stream, already + len(data))


# ------------------------------------------------------------------ 1

@pytest.mark.parametrize("size,times", [(100_000, 10), (20 * MIB, 1)], ids=["100kB", "20MiB"])
def test_1_truncated_downloads(terminator, certs, origin, size, times):
    """An origin that ends first: Envoy resets the stream with INTERNAL_ERROR while data waits for a window (100 kB through a
    window of 64 KiB: 65535 arrive), and may give the half-dead connection to the next tunnel, which hangs."""
    data, late = net.pattern(size), []

    def handle(s):
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        late.append(net.read_all(s))
    target, h = origin(handle), terminator()
    with wire.client(h.port("hbone"), certs) as w:
        for i in range(times):
            stream = 2 * i + 1
            w.headers(stream, wire.request(address(target)))
            w.until(lambda n=stream: w.ended(n) or w.all(wire.RST_STREAM, n), 60)
            assert w.data[stream] == data
            assert not w.all(wire.RST_STREAM, stream)
            w.send(wire.DATA, wire.END_STREAM, stream, b"late")
            until(lambda: late == [b"late"], "the other half")
            late.clear()


# ------------------------------------------------------------------ 2

def test_2_end_and_no_error(hbone, certs, cleanup):
    """Envoy's server sends END_STREAM and RST_STREAM(NO_ERROR) together; an Envoy behind an internal listener makes TCP RST
    of it, and 55 to 85 % of downloads are short."""
    data = net.pattern(60000)

    def serve(w):
        done = 0
        while w.end is None:
            w.until(lambda: w.end or len(w.all(wire.HEADERS)) > done)
            for frame in w.all(wire.HEADERS)[done:]:
                n, done = frame.stream, done + 1
                w.headers(n, [(":status", "200")])
                w.socket.sendall(b"".join(wire.encode(wire.DATA, 0, n, data[i:i + 15000]) for i in range(0, 60000, 15000)) +
                                 wire.encode(wire.DATA, wire.END_STREAM, n) +
                                 wire.encode(wire.RST_STREAM, 0, n, struct.pack(">I", wire.NO_ERROR)))
    s = wire.Server(certs, serve)
    cleanup(s.close)
    h = hbone(client(certs, s.port))
    for _ in range(20):
        with connect(h) as a:
            assert read_to_the_end(a) == (data, "end")


# ------------------------------------------------------------------ 3

def test_3_over_the_stream_limit(terminator, certs, origin):
    """Once our SETTINGS are acknowledged, Envoy drops the whole connection without GOAWAY for one stream too many: 100 live
    tunnels die."""
    target, h = origin(), terminator(max_concurrent_streams=100)
    with wire.client(h.port("hbone"), certs) as w:
        w.until(lambda: len(w.all(wire.SETTINGS)) == 2)
        mine = range(1, 201, 2)
        for stream in mine:
            tunnel(w, stream, target)
        for stream in range(201, 301, 2):
            w.headers(stream, wire.request(address(target)))
            assert w.code(stream) == wire.REFUSED_STREAM
        for stream in mine:
            lives(w, stream)
        w.send(wire.DATA, wire.END_STREAM, 1)
        w.until(lambda: w.ended(1))
        tunnel(w, 301, target)
        assert not w.goaways()
    h.expect_stat("hbone_server.t.http2.stream_refused", 50)


# ------------------------------------------------------------------ 4

@pytest.mark.parametrize("stalled,windows", [(4, {}), (2, {
    "initial_stream_window_size": 16 * MIB, "initial_connection_window_size": 24 * MIB})], ids=["ours", "envoys"])
def test_4_stalled_readers_block_nobody(terminator, certs, origin, stalled, windows):
    """A stream's window is 16 MiB within 24 MiB of the connection: two readers that stall block every tunnel for ever."""
    done = threading.Event()
    sink, target, h = origin(lambda s: done.wait()), origin(), terminator(**windows)
    with wire.client(h.port("hbone"), certs) as w:
        w.until(lambda: len(w.all(wire.SETTINGS)) == 2)
        window = struct.unpack(">I", w.all(wire.SETTINGS)[0].payload[2:6])[0]
        for i in range(stalled):
            w.headers(2 * i + 1, wire.request(address(sink)))
            assert w.status(2 * i + 1) == 200
            for _ in range(window // 16384):
                w.send(wire.DATA, 0, 2 * i + 1, bytes(16384))
        for i in range(3):
            tunnel(w, 2 * (stalled + i) + 1, target, bytes(65535))
    done.set()


# ------------------------------------------------------------------ 5

def test_5_two_identities(hbone, certs):
    """A certificate with two URIs passes when any of them matches; SPIFFE wants exactly one."""
    text = server(certs).replace('"trusted_ca"', '"custom_validator_config": %s, "trusted_ca"' % json.dumps(
        c.typed("spiffe", "hbone.identity.SpiffeRules")))
    h = hbone(text)
    with pytest.raises(OSError):
        with wire.tls(h.port("hbone"), certs, "twouri") as s:
            s.recv(1)
    h.expect_stats(r"^listener\..*\.ssl\.fail_verify_san$", 1)


def test_5_one_host_for_each_address(terminator, certs, origin):
    """A burst of dials to one address makes as many hosts of an ORIGINAL_DST cluster: 52 copies in /clusters."""
    target, h = origin(), terminator()
    with wire.client(h.port("hbone"), certs) as w:
        streams = range(1, 105, 2)
        for stream in streams:
            w.headers(stream, wire.request(address(target)))
        for stream in streams:
            assert w.status(stream) == 200
        until(lambda: f"dst::{address(target)}::cx_active::52" in h.get("/clusters")[1], "one host with 52 connections")
        assert h.get("/clusters")[1].count("::cx_active::") == 1


# ------------------------------------------------------------------ 6

def test_6_reset_of_the_origin(hbone, terminator, certs, origin):
    """Envoy's client turns the reset of a tunnel into FIN, which cannot be told from the end of the data."""
    def handle(s):
        s.sendall(b"part")
        assert s.recv(1) == b"x"
        net.reset(s)
    target, far = origin(handle), terminator()
    near = hbone(client(certs, far.port("hbone"), authority=address(target)))
    with connect(near) as a:
        assert net.read_exactly(a, 4) == b"part"
        a.sendall(b"x")
        assert read_to_the_end(a) == (b"", "reset")


# ------------------------------------------------------------------ 7

MALFORMED = {
    "blank authority": [(":method", "CONNECT"), (":authority", "")],
    "connection": wire.request("127.0.0.1:1", ("connection", "close")),
    "upper case": wire.request("127.0.0.1:1", ("Baggage", "a=b")),
    "no authority": [(":method", "CONNECT")],
    "path": [*wire.request("127.0.0.1:1"), (":path", "/")],
}


def test_7_malformed_requests(terminator, certs, origin):
    """One of them ends Envoy's connection a second later, without GOAWAY, and all tunnels of it."""
    target, h = origin(), terminator()
    with wire.client(h.port("hbone"), certs) as w:
        tunnel(w, 1, target)
        for i, (what, fields) in enumerate(MALFORMED.items()):
            w.headers(2 * i + 3, fields)
            assert w.code(2 * i + 3) == wire.PROTOCOL_ERROR, what
            lives(w, 1)
        assert not w.goaways()
    h.expect_stat("hbone_server.t.http2.stream_errors", len(MALFORMED))


# ------------------------------------------------------------------ 8

def test_8_drain(terminator, certs, origin):
    """/drain_listeners?graceful: Envoy goes on for up to 600 s without a word to the peer, and takes new tunnels."""
    target, h = origin(), terminator()
    with wire.client(h.port("hbone"), certs) as w:
        tunnel(w, 1, target)
        h.post("/drain_listeners?graceful&skip_exit")
        w.until(lambda: len(w.goaways()) == 2)
        assert w.goaways() == [(2**31 - 1, wire.NO_ERROR), (1, wire.NO_ERROR)]
        lives(w, 1)
        w.headers(3, wire.request(address(target)))
        lives(w, 1)
        assert not w.fields.get(3)
        w.send(wire.DATA, wire.END_STREAM, 1)
        assert w.until_over() == "close_notify"


def test_8_end_of_the_drain_time(terminator, certs, origin):
    """What is left then is cut by Envoy; ours takes leave of each stream."""
    target, h = origin(), terminator("--drain-time", "1")
    with wire.client(h.port("hbone"), certs) as w:
        tunnel(w, 1, target)
        h.process.terminate()
        assert w.until_over() == "close_notify"
        assert w.code(1) == wire.CANCEL
    assert h.wait() == 0
