# SPDX-License-Identifier: Apache-2.0
"""HBONE tunnels out of the program, to foreign HTTP/2 servers."""
import pathlib
import shutil
import socket
import struct
import threading
import time
import types

import pytest

from support import config as c
from support import envoy, net
from support.h2server import Server
from support.proc import Child, until
from support.tunnels import (CLIENT, ECHO, MIB, address, both_ways, client, connect, read_to_the_end, same, tls)
from support.tunnels import server as tunnel_server

SUPPORT = pathlib.Path(__file__).parent / "support"
ONE = ("--concurrency", "1")


@pytest.fixture
def node(certs, cleanup):
    """node(streams, "FROM=TO", …) -> the program and its port."""
    def start(streams=100, *maps, cert="echo"):
        child = Child(["node", str(SUPPORT / "h2-server.mjs"), str(certs.ca), certs.pem(cert), certs.key(cert),
                       str(streams), *maps])
        cleanup(child.stop)
        child.port = int(child.wait_line(r"listening (\d+)")[1])
        return child
    return start


@pytest.fixture
def server(certs, cleanup):
    def start(**kwargs):
        s = Server(certs, **kwargs)
        cleanup(s.close)
        return s
    return start


# ------------------------------------------------------------------ Node

@pytest.mark.peer("node")
def test_node_both_ways(hbone, certs, node, origin):
    target = origin()
    n = node()
    h = hbone(client(certs, n.port, authority=address(target), baggage={"cluster": "c1", "workload": "w"},
                     forwarded_network="net1"), *ONE)
    data = net.pattern(8 * MIB)
    with connect(h) as s:
        me = s.getsockname()
        assert same(both_ways(s, data), data)
    n.wait_line(f"request 1 CONNECT {address(target)} peer=URI:{CLIENT} "
                f"baggage=k8s.cluster.name=c1,k8s.deployment.name=w forwarded=for=\"127.0.0.1:{me[1]}\" network=net1")
    h.wait_line(f"peer={ECHO} flags=- why=-")
    h.expect_stat("cluster.peer.upstream_cx_http2_total", 1)


@pytest.mark.peer("node")
def test_node_origin_ends_first(hbone, certs, node, origin):
    data, got = net.pattern(4 * MIB), []

    def handle(s):
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        got.append(net.read_all(s))
    target = origin(handle)
    n = node()
    h = hbone(client(certs, n.port, authority=address(target)), *ONE)
    with connect(h) as s:
        assert same(net.read_all(s), data)
        s.sendall(b"late")
        s.shutdown(socket.SHUT_WR)
        until(lambda: got == [b"late"], "the client's half")


@pytest.mark.peer("node")
def test_node_server_speaks_first(hbone, certs, node, origin):
    def handle(s):
        s.sendall(b"220 ready\r\n")
        assert s.recv(100) == b"quit"
    target = origin(handle)
    n = node()
    h = hbone(client(certs, n.port, authority=address(target)), *ONE)
    for _ in range(3):
        with connect(h) as s:
            assert net.read_exactly(s, 11) == b"220 ready\r\n"
            s.sendall(b"quit")
            assert net.read_all(s) == b""


@pytest.mark.peer("node")
def test_node_a_burst_takes_three_connections(hbone, certs, node, origin):
    target = origin()
    n = node(100)
    h = hbone(client(certs, n.port, authority=address(target)), *ONE)
    sockets = [connect(h) for _ in range(250)]
    for i, s in enumerate(sockets):
        s.sendall(f"hello {i}".encode())
    for i, s in enumerate(sockets):
        want = f"hello {i}".encode()
        assert net.read_exactly(s, len(want)) == want
    h.expect_stat("cluster.peer.upstream_cx_total", 3)
    h.expect_stat("cluster.peer.upstream_rq_active", 250)
    for s in sockets:
        s.close()
    until(lambda: h.stat("cluster.peer.hbone_pool.idle") == 3, "idle connections")


@pytest.mark.peer("node")
def test_node_a_smaller_limit(hbone, certs, node, origin):
    """The limit is not known when the first requests go out: what is refused goes elsewhere."""
    target = origin()
    n = node(20)
    h = hbone(client(certs, n.port, authority=address(target)), *ONE)
    sockets = [connect(h) for _ in range(90)]
    for s in sockets:
        s.sendall(b"x")
    for s in sockets:
        assert net.read_exactly(s, 1) == b"x"
        s.close()


@pytest.mark.peer("node")
def test_node_nobody_behind_it(hbone, certs, node, origin):
    target = origin()
    target.close()
    n = node()
    h = hbone(client(certs, n.port, authority=address(target)), *ONE)
    with connect(h) as s:
        assert read_to_the_end(s) == (b"", "reset")
    h.wait_line("flags=UF why=tunnel_response:503")


@pytest.mark.peer("node")
def test_node_another_identity_is_refused(hbone, certs, node):
    n = node(cert="client")
    h = hbone(client(certs, n.port, authority="a.example:80"), *ONE)
    with connect(h) as s:
        assert read_to_the_end(s) == (b"", "reset")
    h.wait_line("flags=UF why=TLS: no subject alternative name is an allowed one")
    h.expect_stat("cluster.peer.ssl.fail_verify_san", 1)


@pytest.mark.peer("node")
def test_node_our_certificate_is_refused(hbone, certs, node):
    """TLS 1.3 tells a client after it has finished; Envoy's log says nothing then. Node just hangs up."""
    n = node()
    h = hbone(client(certs, n.port, cert="stranger", authority="a.example:80"), *ONE)
    with connect(h) as s:
        assert read_to_the_end(s) == (b"", "reset")
    h.wait_line("flags=UF why=connection: .* may have refused our certificate")


@pytest.mark.peer("python-h2")
def test_our_certificate_is_refused_by_an_alert(hbone, certs, server):
    sv = server()
    h = hbone(client(certs, sv.port, cert="stranger"), *ONE)
    with connect(h) as s:
        assert read_to_the_end(s) == (b"", "reset")
    h.wait_line("flags=UF why=connection: .*(unknown_ca|UNKNOWN_CA|unknown CA)")
    h.expect_stat("cluster.peer.ssl.connection_error", 1)


@pytest.mark.peer("node")
def test_node_double(hbone, certs, node, origin):
    """The inner session is made anew for each connection; the outer one is shared."""
    target = origin()
    inner = node()
    outer = node(100, f"svc.example:80={address(inner)}", cert="client")
    through = {"transport_socket": tls(certs, peer=CLIENT), "port": 0, "istio_source": "gateway",
               "baggage": {"cluster": "c1"}}
    h = hbone(client(certs, outer.port, authority="svc.example:80", forwarded_network="net1",
                     through={**through, "authority": "svc.example:80"}), *ONE)
    # The inner server sees the name of the service, too.
    inner.stop()
    inner = node(100, f"svc.example:80={address(target)}")
    outer = node(100, f"svc.example:80={address(inner)}", cert="client")
    h = hbone(client(certs, outer.port, authority="svc.example:80", forwarded_network="net1", through=through), *ONE)
    data = net.pattern(3 * MIB)
    for _ in range(3):
        with connect(h) as s:
            assert same(both_ways(s, data), data)
    outer.wait_line("request 1 CONNECT svc.example:80 .* baggage=k8s.cluster.name=c1 .*network=undefined")
    inner.wait_line(f"request 3 CONNECT svc.example:80 peer=URI:{CLIENT} baggage=undefined .*network=net1")
    h.expect_stat("cluster.peer.upstream_cx_total", 1)
    assert "session 2" not in outer.output()


def test_baggage_of_an_answer_is_held_against_the_certificate(hbone, certs, origin):
    """The server's namespace is default."""
    target = origin()
    for baggage, counter in (("k8s.namespace.name=default,service.name=s", None),
                             ("k8s.namespace.name=other", "baggage_contradicts"),
                             (",".join(["a=b"] * 181), "baggage_invalid")):
        far = hbone(tunnel_server(certs, response_baggage=baggage))
        h = hbone(client(certs, far.port("hbone"), authority=address(target)), *ONE)
        for _ in range(2):
            with connect(h) as s:
                assert both_ways(s, b"x") == b"x"
        for name in ("baggage_contradicts", "baggage_invalid"):
            h.expect_stat(f"cluster.peer.hbone_pool.{name}", 2 if name == counter else 0)


# ------------------------------------------------------------------ python-h2: frame by frame

@pytest.mark.peer("python-h2")
def test_end_and_no_error_in_one_piece(hbone, certs, server):
    """Envoy's server does so when an origin ends first; all data arrive, and then the end."""
    sv = server()
    data = net.pattern(60000)

    def on_request(session, stream, headers):
        session.answer(stream)
        for i in range(0, len(data), 15000):
            session.h2.send_data(stream, data[i:i + 15000])
        session.h2.end_stream(stream)
        session.raw(session.h2.data_to_send() + bytes([0, 0, 4, 3, 0]) + struct.pack(">II", stream, 0))
    sv.on_request = on_request
    h = hbone(client(certs, sv.port), *ONE)
    for _ in range(20):
        with connect(h) as s:
            assert read_to_the_end(s) == (data, "end")


@pytest.mark.peer("python-h2")
def test_resets_stay_resets(hbone, certs, server):
    sv = server()

    def on_request(session, stream, headers):
        session.answer(stream)
        session.send(stream, b"some")
        session.rst(stream, 10)
    sv.on_request = on_request
    h = hbone(client(certs, sv.port), *ONE)
    with connect(h) as s:
        assert read_to_the_end(s) == (b"some", "reset")
    sv.on_request = lambda session, stream, headers: session.answer(stream)
    s = connect(h)
    until(lambda: len(sv.requests) == 2, "the request")
    until(lambda: h.stat("cluster.peer.upstream_rq_total") == 2, "the answer")
    net.reset(s)
    session, stream, _ = sv.requests[1]
    until(lambda: stream in session.reset, "RST_STREAM")
    assert len(sv.sessions) == 1


@pytest.mark.peer("python-h2")
def test_refused_streams_go_again(hbone, certs, server):
    sv = server()

    def on_request(session, stream, headers):
        if len(sv.requests) <= 2:
            session.rst(stream, 7)
        else:
            session.answer(stream)
    sv.on_request = on_request
    sv.on_data = lambda session, stream, data: session.send(stream, data)
    h = hbone(client(certs, sv.port), *ONE)
    with connect(h) as s:
        s.sendall(b"x")
        assert net.read_exactly(s, 1) == b"x"
    h.expect_stat("cluster.peer.upstream_rq_retry", 2)


@pytest.mark.peer("python-h2")
def test_goaway_in_two_steps(hbone, certs, server):
    sv = server()
    sv.on_data = lambda session, stream, data: session.send(stream, data)
    h = hbone(client(certs, sv.port), *ONE)
    with connect(h) as s:
        s.sendall(b"a")
        assert net.read_exactly(s, 1) == b"a"
        goaway = bytes([0, 0, 8, 7, 0]) + bytes(4)
        sv.sessions[0].raw(goaway + struct.pack(">II", 0x7fffffff, 0))
        until(lambda: h.stat("cluster.peer.upstream_cx_close_notify") == 1, "GOAWAY")
        with connect(h) as other:
            other.sendall(b"b")
            assert net.read_exactly(other, 1) == b"b"
            assert len(sv.sessions) == 2
            sv.sessions[0].raw(goaway + struct.pack(">II", 1, 0))
            s.sendall(b"c")
            assert net.read_exactly(s, 1) == b"c"


@pytest.mark.peer("python-h2")
def test_no_answer(hbone, certs, server):
    sv = server()
    sv.on_request = lambda session, stream, headers: None
    h = hbone(client(certs, sv.port, pool={"answer_timeout": "0.3s"}), *ONE)
    with connect(h) as s:
        assert read_to_the_end(s) == (b"", "reset")
    h.wait_line("flags=UF why=tunnel: no answer within 300 ms")
    until(lambda: sv.sessions[0].reset, "RST_STREAM")


@pytest.mark.peer("python-h2")
def test_pings_are_answered_under_load(hbone, certs, server):
    """One stream is stalled by its reader, another one moves bytes."""
    sv = server()
    blob = net.pattern(16000)
    moving = threading.Event()

    def on_request(session, stream, headers):
        session.answer(stream)
        moving.set()
    sv.on_request = on_request
    h = hbone(client(certs, sv.port), *ONE)
    with connect(h) as stalled, connect(h) as s:
        until(lambda: len(sv.requests) == 2, "requests")
        session = sv.sessions[0]
        until(lambda: h.stat("cluster.peer.upstream_rq_total") == 2, "answers")
        first, second = (stream for _, stream, _ in sv.requests)
        for _ in range(16):
            with session.lock:
                room = session.h2.local_flow_control_window(first)
                if room >= len(blob):
                    session.send(first, blob)
                session.send(second, blob)
                session.h2.ping(b"12345678")
                session.flush()
            assert same(net.read_exactly(s, len(blob)), blob)
        until(lambda: session.pings == 16, "answers to PING")
        del stalled


@pytest.mark.peer("python-h2")
def test_a_new_certificate_makes_a_new_connection(hbone, certs, server, tmp_path):
    sv = server()
    sv.on_data = lambda session, stream, data: session.send(stream, data)
    sv.on_end = lambda session, stream: session.send(stream, b"", True)
    own = tmp_path / "own"
    own.mkdir()
    for kind in (certs.pem, certs.key):
        shutil.copy(kind("client"), own)
    mine = types.SimpleNamespace(ca=certs.ca, pem=lambda n: str(own / f"{n}.pem"), key=lambda n: str(own / f"{n}.key"))
    h = hbone(client(mine, sv.port), *ONE)
    with connect(h) as old:
        old.sendall(b"a")
        assert net.read_exactly(old, 1) == b"a"
        for kind in (certs.pem, certs.key):
            shutil.copy(kind("echo"), own / pathlib.Path(kind("client")).name)
        deadline = time.monotonic() + 30
        while len(sv.sessions) < 2 and time.monotonic() < deadline:
            with connect(h) as new:
                new.sendall(b"b")
                assert net.read_exactly(new, 1) == b"b"
        assert sv.sessions[1].socket.getpeercert()["subjectAltName"] == (("URI", ECHO),)
        h.expect_stat("cluster.peer.hbone_pool.stale", 1)
        old.sendall(b"c")
        assert net.read_exactly(old, 1) == b"c"
    until(lambda: h.stat("cluster.peer.hbone_pool.connections") == 1, "the end of the old connection")


@pytest.mark.peer("node")
def test_changes_under_tunnels(hbone, certs, node, origin):
    """Two workers, and a cluster that changes while they have tunnels open."""
    target = origin()
    n = node(1000)
    h = hbone(client(certs, n.port, authority=address(target)), "--concurrency", "2")
    sockets = []
    for i in range(5):
        assert h.reload(client(certs, n.port, authority=address(target), forwarded_network=f"net{i}"))
        sockets += [connect(h) for _ in range(20)]
        for s in sockets:
            s.sendall(b"x" * 1000)
        for s in sockets:
            net.read_exactly(s, 1000)
    n.wait_line("network=net4")
    for s in sockets:
        s.shutdown(socket.SHUT_WR)
        assert net.read_all(s) == b""
        s.close()
    # What belongs to older ones ends with the last stream.
    until(lambda: h.stat("cluster.peer.hbone_pool.connections") <= 2, "the end of old connections")


@pytest.mark.peer("node")
def test_stopping_with_tunnels(hbone, certs, node, origin):
    """Of a cluster that is there, and of one that was replaced; and with a connection that is just being made."""
    target = origin()
    silent = origin(lambda s: s.recv(1 << 16) and s.recv(1))
    n = node(1000)
    h = hbone(client(certs, n.port, authority=address(target)), "--concurrency", "2")
    sockets = []
    for network in ("net1", "net2"):
        more = [connect(h) for _ in range(10)]
        for s in more:
            s.sendall(b"x")
        for s in more:
            net.read_exactly(s, 1)
        sockets += more
        assert h.reload(client(certs, n.port, authority=address(target), forwarded_network=network))
    assert h.reload(client(certs, silent.port))
    sockets += [connect(h) for _ in range(4)]
    until(lambda: silent.accepted > 0, "a connection")
    h.stop()


@pytest.mark.peer("node")
def test_explain_names_the_tunnels(hbone, certs, node):
    n = node()
    h = hbone(client(certs, n.port, authority="svc.example:80", through={"transport_socket": tls(certs), "port": 15008}))
    status, text = h.get(f"/explain?dst=127.0.0.1:{h.port('in')}")
    assert status == 200
    assert "127.0.0.1:15008" in text and "HTTP/2 over TLS, shared with others" in text
    assert "in the outer tunnel" in text and "for this connection alone" in text


def test_a_silent_peer(hbone, certs, origin):
    silent = origin(lambda s: s.recv(1 << 16) and s.recv(1))
    h = hbone(client(certs, silent.port, pool={"handshake_timeout": "0.3s"}), *ONE)
    with connect(h) as s:
        assert read_to_the_end(s) == (b"", "reset")
    h.wait_line("flags=UF why=TLS: no answer within 300 ms")


def test_a_destination_is_handed_to_an_internal_listener(hbone, origin):
    """Filter state that is shared with the upstream becomes the original destination inside."""
    target = origin()
    state = c.typed("state", "envoy.extensions.filters.network.set_filter_state.v3.Config", on_new_connection=[
        {"object_key": "envoy.filters.listener.original_dst.local_ip", "factory_key": "envoy.string",
         "format_string": {"text_format_source": {"inline_string": address(target)}}, "shared_with_upstream": "ONCE"}])
    inside = {"name": "inside", "internal_listener": {},
              "listener_filters": [c.typed("o", "envoy.extensions.filters.listener.original_dst.v3.OriginalDst")],
              "filter_chains": [{"filters": [c.tcp_proxy("dst")]}]}
    raw = c.typed("raw", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")
    to_inside = {"name": "to_inside", "transport_socket": c.typed(
        "i", "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport", transport_socket=raw),
        "load_assignment": {"cluster_name": "to_inside", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "inside"}}}}]}]}}
    dst = {"name": "dst", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED"}
    h = hbone(c.bootstrap([c.listener("in", [{"filters": [state, c.tcp_proxy("to_inside")]}], []), inside],
                          [to_inside, dst]))
    data = net.pattern(5 * MIB)
    for _ in range(5):
        with connect(h) as s:
            assert same(both_ways(s, data), data)
    assert "inside::envoy://inside/" in h.get("/listeners")[1]
    assert "envoy://inside/" in h.get("/clusters")[1]
    assert h.get("/listeners?format=json")[0] == h.get("/clusters?format=json")[0] == 200


# ------------------------------------------------------------------ Envoy as the server

@pytest.fixture
def gateway(certs, cleanup, tmp_path):
    """Envoy as HBONE server; dials the authority, and the pod for remote.example:80."""
    def start(pod_port=1, streams=100):
        admin, port = envoy.free_port(), envoy.free_port()
        e = envoy.Envoy(tmp_path, envoy.render(
            "hbone-server.yaml", CERTS=certs.folder, NODE="gw", ADMIN_PORT=admin, PORT=port, CERT="echo",
            STREAMS=streams, EW_HOST="remote.example:80", POD_HOST="127.0.0.1", POD_PORT=pod_port, IDLE="3600s"), admin)
        cleanup(e.stop)
        e.port = port
        return e
    return start


@pytest.mark.peer("envoy")
def test_envoy_both_ways_and_a_burst(hbone, certs, gateway, origin):
    target = origin()
    gw = gateway()
    h = hbone(client(certs, gw.port, authority=address(target)), *ONE)
    data = net.pattern(20 * MIB)
    with connect(h) as s:
        assert same(both_ways(s, data), data)
    # Over the limit Envoy drops the whole connection, or refuses what comes before its SETTINGS are known.
    sockets = [connect(h) for _ in range(250)]
    for s in sockets:
        s.sendall(b"x")
    for s in sockets:
        assert net.read_exactly(s, 1) == b"x"
        s.close()
    h.expect_stat("cluster.peer.upstream_cx_total", 3)


@pytest.mark.peer("envoy")
def test_envoy_downloads_are_whole_or_reset(hbone, certs, gateway, origin):
    """What Envoy loses when an origin ends first must not look like an end."""
    size = [60000]

    def handle(s):
        s.sendall(net.pattern(size[0]))
        s.shutdown(socket.SHUT_WR)
        s.recv(1)
    target = origin(handle)
    gw = gateway()
    h = hbone(client(certs, gw.port, authority=address(target)), *ONE)
    for _ in range(10):
        with connect(h) as s:
            assert read_to_the_end(s) == (net.pattern(60000), "end")
    size[0] = 20 * MIB
    for _ in range(5):
        with connect(h) as s:
            data, how = read_to_the_end(s)
            assert how == "reset" or same(data, net.pattern(size[0]))


@pytest.mark.peer("envoy")
def test_envoy_reset_of_the_origin(hbone, certs, gateway, origin):
    def handle(s):
        s.sendall(b"some")
        assert s.recv(1) == b"x"
        net.reset(s)
    target = origin(handle)
    gw = gateway()
    h = hbone(client(certs, gw.port, authority=address(target)), *ONE)
    with connect(h) as s:
        assert net.read_exactly(s, 4) == b"some"
        s.sendall(b"x")
        assert read_to_the_end(s) == (b"", "reset")


@pytest.mark.peer("envoy")
def test_envoys_client_configuration_runs_unchanged(hbone, certs, gateway, node, origin):
    target = origin()
    inner = node(100, f"inner.example:80={address(target)}")
    gw = gateway(inner.port)
    h = hbone(envoy.render("hbone-client.yaml", CERTS=certs.folder, NODE="cl", ADMIN_PORT=0, SINGLE_PORT=0,
                           ENCAP_PORT=0, ANY_PORT=0, DOUBLE_PORT=0, GW_HOST="127.0.0.1", GW_PORT=gw.port,
                           CERT="client", STREAMS=100, WINDOW=262144, AUTHORITY=address(target),
                           OUTER_AUTHORITY="remote.example:80", INNER_AUTHORITY="inner.example:80", GW_ID=ECHO,
                           FINAL_ID=ECHO), *ONE)
    data = net.pattern(5 * MIB)
    for door in ("single_in", "encap_in", "double_in"):
        for _ in range(3):
            with connect(h, door) as s:
                assert same(both_ways(s, data), data), door
    with connect(h, "any_in") as s:
        s.sendall(f"PROXY TCP4 10.0.0.1 127.0.0.1 4000 {target.port}\r\n".encode())
        assert same(both_ways(s, data), data)
    gw.wait_line(f"stream CONNECT {address(target)} 200 .*baggage=k8s.cluster.name=c1")
    gw.wait_line("stream CONNECT remote.example:80 200")
    inner.wait_line("request 3 CONNECT inner.example:80 .*network=net1")
    h.wait_line("tcp .* cluster=gateway flags=- .*upclose=Normal")
    # Two outer tunnels of one kind share a connection; single, encap, any and outer are one cluster.
    h.expect_stat("cluster.gateway.upstream_cx_http2_total", 1)
    h.expect_stat("cluster.inner_connect.upstream_cx_http2_total", 3)
