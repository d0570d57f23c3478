# SPDX-License-Identifier: Apache-2.0
"""Long ways: with 200 ms there and back, windows grow until more than 3 MiB are on the way. The relay delays one
direction by all of it, so that what it holds is what a sender has sent ahead."""
import hashlib
import socket
import threading

import pytest

from support import config as c
from support import net
from support.delay import Relay
from support.h2client import Client

MIB = 1 << 20
RTT = 0.2
SERVER = "hbone.filters.network.hbone_server.HboneServer"
HBONE = "hbone.transport_sockets.hbone.Hbone"
ECHO = "spiffe://cluster.local/ns/default/sa/echo"


@pytest.fixture
def origin(cleanup):
    def start(handle):
        s = net.Server(handle)
        cleanup(s.close)
        return s
    return start


@pytest.fixture
def relay(cleanup):
    def start(*args):
        r = Relay(*args)
        cleanup(r.close)
        return r
    return start


def server(certs, **http2):
    hbone = c.typed("hbone", SERVER, stat_prefix="t", filter_chains=[{"filters": [c.tcp_proxy("dst")]}], http2=http2)
    chain = {"filters": [hbone], "transport_socket": c.tls_downstream(certs, "echo", ["h2"], True)}
    return c.bootstrap([c.listener("hbone", [chain], [])],
                       [{"name": "dst", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}])


def client(certs, port, authority, **pool):
    tls = c.tls_upstream(certs, "x", [("URI", ECHO)], "client")
    tls["typed_config"]["common_tls_context"]["alpn_protocols"] = ["h2"]
    hbone = c.typed("hbone", HBONE, transport_socket=tls, port=0, authority=authority, pool=pool)
    return c.bootstrap([c.listener("in", [{"filters": [c.tcp_proxy("peer")]}], [])],
                       [c.cluster("peer", port, transport_socket=hbone)])


def upload(hbone, certs, origin, relay, size, **http2):
    """By python-h2, through the relay, into hbone_server; returns the most that was on the way."""
    got = hashlib.sha256()
    done = threading.Event()

    def handle(s):
        while data := s.recv(1 << 18):
            got.update(data)
        done.set()
    o = origin(handle)
    h = hbone(server(certs, **http2))
    way = relay(h.port("hbone"), RTT, 0)
    data = net.pattern(size)
    with Client(way.port, certs) as t:
        n = t.connect(f"127.0.0.1:{o.port}")
        assert t.status(n) == 200
        t.send(n, data, end=True)
        t.until(lambda: t.streams[n].ended)
        assert done.wait(30)
    assert got.digest() == hashlib.sha256(data).digest()
    return way.most(way.up)


@pytest.mark.peer("python-h2")
def test_upload_over_a_long_way(hbone, certs, origin, relay):
    assert 3 * MIB < upload(hbone, certs, origin, relay, 24 * MIB) < 5 * MIB


@pytest.mark.peer("python-h2")
def test_a_fixed_window_stays(hbone, certs, origin, relay):
    most = upload(hbone, certs, origin, relay, 2 * MIB, initial_stream_window_size=131072, max_stream_window_size=131072)
    # What the relay counts may be a window that arrives and the next one, already credited.
    assert 65536 < most < 400000


def test_download_over_a_long_way(hbone, certs, origin, relay):
    """From our server to our client, whose window it is."""
    data = net.pattern(24 * MIB)

    def handle(s):
        s.sendall(data)
    o = origin(handle)
    far = hbone(server(certs))
    way = relay(far.port("hbone"), 0, RTT)
    near = hbone(client(certs, way.port, f"127.0.0.1:{o.port}"))
    with socket.create_connection(("127.0.0.1", near.port("in"))) as s:
        s.settimeout(net.TIMEOUT)
        assert hashlib.sha256(net.read_all(s)).digest() == hashlib.sha256(data).digest()
    assert 3 * MIB < way.most(way.down) < 5 * MIB
