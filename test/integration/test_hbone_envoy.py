# SPDX-License-Identifier: Apache-2.0
"""Envoy as HBONE client of the program: single and double tunnels, and what Envoy's own server does wrong."""
import json
import threading

import pytest

from support import config as c
from support import envoy, net
from support.proc import until
from support.tunnels import CLIENT, ECHO, MIB, address, both_ways, dial, noting, read_to_the_end, same, server

pytestmark = pytest.mark.peer("envoy")

DOORS = ("single", "encap", "double")


@pytest.fixture
def client(certs, cleanup, tmp_path):
    """client(target, port) -> Envoy whose doors["single"], ["encap"] and ["double"] lead to target through our servers;
    ["any"] reads a PROXY header."""
    def start(target, port, cert="client", streams=100, gateway=ECHO):
        doors = {name: envoy.free_port() for name in (*DOORS, "any")}
        admin = envoy.free_port()
        e = envoy.Envoy(tmp_path, envoy.render(
            "hbone-client.yaml", CERTS=certs.folder, NODE="cl", ADMIN_PORT=admin,
            **{f"{name.upper()}_PORT": port for name, port in doors.items()}, GW_HOST="127.0.0.1", GW_PORT=port,
            CERT=cert, STREAMS=streams, WINDOW=262144, AUTHORITY=target, OUTER_AUTHORITY="remote.example:80",
            INNER_AUTHORITY=target, GW_ID=gateway, FINAL_ID=ECHO), admin)
        cleanup(e.stop)
        e.doors = doors
        return e
    return start


def gateway(certs, workload_port):
    """The outer tunnel to remote.example:80 ends here, its inner one at the workload; all others go where they say."""
    remote = {"name": "remote", "filters": [c.tcp_proxy("workload")]}
    straight = {"name": "straight", "filters": [c.tcp_proxy("dst")]}
    text = {"@type": "type.googleapis.com/google.protobuf.StringValue"}
    matcher = {
        "matcher_tree": {
            "input": {"name": "authority", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.matching.common_inputs.network.v3.FilterStateInput",
                "key": "io.istio.connect_authority"}},
            "exact_match_map": {"map": {"remote.example:80": {"action": {
                "name": "c", "typed_config": {**text, "value": "remote"}}}}}},
        "on_no_match": {"action": {"name": "c", "typed_config": {**text, "value": "straight"}}}}
    return server(certs, [remote, straight], cert="client", clusters=[c.cluster("workload", workload_port)],
                  filter_chain_matcher=matcher)


@pytest.fixture
def mesh(hbone, certs, client):
    """mesh(target) -> Envoy, our gateway, our workload."""
    def start(target):
        workload = hbone(server(certs))
        gw = hbone(gateway(certs, workload.port("hbone")))
        return client(target, gw.port("hbone"), gateway=CLIENT), gw, workload
    return start


def test_both_ways_through_every_door(mesh, origin):
    """20 MiB up and down, half-closed after the last byte."""
    target = origin()
    e, gw, workload = mesh(address(target))
    data = net.pattern(20 * MIB)
    for door in DOORS:
        with dial(e.doors[door]) as s:
            assert same(both_ways(s, data), data), door
    with dial(e.doors["any"]) as s:
        s.sendall(f"PROXY TCP4 10.0.0.1 127.0.0.1 4000 {target.port}\r\n".encode())
        assert same(both_ways(s, data), data)
    until(lambda: workload.stat("hbone_server.t.tunnels_active") == 0, "no inner tunnel")
    assert gw.stat("hbone_server.t.tunnels_active") == 1  # Envoy keeps it, with an idle connection inside
    assert gw.stat("hbone_server.t.downstream_cx_total") == 1
    assert workload.stat("hbone_server.t.downstream_cx_total") == 1


def test_origin_that_ends_first_loses_nothing(mesh, origin):
    """The client's half stays open; from Envoy's server 20 MiB arrive cut, from ours whole, and the other half lives."""
    data, got = net.pattern(20 * MIB), []

    def handle(s):
        s.sendall(data)
        s.shutdown(1)
        got.append(net.read_all(s))
    e, _, _ = mesh(address(origin(handle)))
    for door in DOORS:
        for _ in range(2):
            with dial(e.doors[door]) as s:
                assert same(net.read_all(s), data), door
                s.sendall(b"late")
                s.shutdown(1)
                until(lambda: got == [b"late"], f"the upload through {door}")
                got.clear()


def test_client_that_ends_first(mesh, origin):
    """The origin answers after the end of the upload only."""
    def handle(s):
        up = net.read_all(s)
        s.sendall(up[::-1])
    e, _, _ = mesh(address(origin(handle)))
    data = net.pattern(3 * MIB)
    for door in DOORS:
        with dial(e.doors[door]) as s:
            assert same(both_ways(s, data), data[::-1]), door


def test_server_speaks_first(mesh, origin):
    def handle(s):
        s.sendall(b"220 ready\r\n")
        assert net.read_exactly(s, 4) == b"quit"
    e, _, _ = mesh(address(origin(handle)))
    for door in DOORS * 2:
        with dial(e.doors[door]) as s:
            assert net.read_exactly(s, 11) == b"220 ready\r\n", door
            s.sendall(b"quit")
            assert net.read_all(s) == b""


def test_over_the_limit_nobody_else_suffers(hbone, certs, client, origin):
    """Envoy's first burst comes before our limit is known to it. Its server then drops all tunnels of the connection;
    ours refuses the surplus, stream by stream."""
    h = hbone(server(certs, http2={"max_concurrent_streams": 20}))
    e = client(address(origin()), h.port("hbone"), streams=1000)
    sockets = [dial(e.doors["single"]) for _ in range(60)]
    alive = []
    for s in sockets:
        try:
            s.sendall(b"x")
            if s.recv(1) == b"x":
                alive.append(s)
        except OSError:
            pass
    assert len(alive) >= 20
    assert h.stat("hbone_server.t.http2.stream_refused") + len(alive) >= 60
    assert h.stat("hbone_server.t.tunnels_active") == len(alive)
    # Now it knows the limit, and opens another connection; those that live go on.
    with dial(e.doors["single"]) as another:
        for s in [*alive, another]:
            s.sendall(b"y")
            assert net.read_exactly(s, 1) == b"y"
    for s in sockets:
        s.close()


def test_stalled_uploads_do_not_stop_others(hbone, certs, client, origin):
    """Four origins do not read; Envoy's windows let two of them block every tunnel of the connection."""
    h = hbone(server(certs))
    done = threading.Event()
    sink = origin(lambda s: [s.sendall(b"ready"), done.wait()])
    target = origin()
    e = client(address(target), h.port("hbone"))
    data = net.pattern(MIB)

    def door(to):
        s = dial(e.doors["any"])
        s.sendall(f"PROXY TCP4 10.0.0.1 127.0.0.1 4000 {to.port}\r\n".encode())
        return s
    stalled = [door(sink) for _ in range(4)]
    for s in stalled:
        assert net.read_exactly(s, 5) == b"ready"
        s.settimeout(0.2)
        try:
            while True:
                s.send(data)
        except TimeoutError:
            pass
    for _ in range(3):
        with door(target) as s:
            assert same(both_ways(s, data), data)
    h.expect_stat("hbone_server.t.downstream_cx_total", 1)
    done.set()
    for s in stalled:
        s.close()


def test_origin_reset_ends_its_tunnel_only(hbone, certs, client, origin):
    def handle(s):
        s.sendall(b"some")
        if s.recv(1) == b"r":
            net.reset(s)
        else:
            net.echo(s)
    h = hbone(server(certs))
    e = client(address(origin(handle)), h.port("hbone"))
    with dial(e.doors["single"]) as other:
        other.sendall(b"e")
        assert net.read_exactly(other, 4) == b"some"
        with dial(e.doors["single"]) as s:
            assert net.read_exactly(s, 4) == b"some"
            s.sendall(b"r")
            assert read_to_the_end(s)[0] == b""
        until(lambda: h.stat("hbone_server.t.http2.tx_reset") == 1, "RST_STREAM")
        other.sendall(b"alive")
        assert net.read_exactly(other, 5) == b"alive"


def test_client_reset_reaches_the_origin(hbone, certs, client, origin):
    seen = []
    h = hbone(server(certs))
    e = client(address(origin(noting(seen, b"some"))), h.port("hbone"))
    s = dial(e.doors["single"])
    assert net.read_exactly(s, 4) == b"some"
    net.reset(s)
    until(lambda: seen == ["reset"], "the reset")


def test_refusals_have_a_reason_at_the_client(hbone, certs, client):
    h = hbone(server(certs))
    e = client("127.0.0.1:1", h.port("hbone"))
    with dial(e.doors["single"]) as s:
        assert read_to_the_end(s)[0] == b""
    e.wait_line("flags=UF.* upfail=tunnel_response:503")


REFUSED = ["expired", "notyet", "stranger", "twouri", "othertd", "otherns", "b", "serveronly"]


@pytest.mark.parametrize("cert", ["client", *REFUSED])
def test_only_those_of_the_mesh(hbone, certs, client, origin, cert):
    """The rule of a workload. Envoy's own server takes a certificate with two identities, and never names its reason."""
    target = origin()
    doc = json.loads(server(certs))
    socket_ = doc["static_resources"]["listeners"][0]["filter_chains"][0]["transport_socket"]
    socket_["typed_config"]["common_tls_context"]["validation_context"]["custom_validator_config"] = c.typed(
        "spiffe", "hbone.identity.SpiffeRules")
    h = hbone(json.dumps(doc))
    e = client(address(target), h.port("hbone"), cert=cert)
    with dial(e.doors["single"]) as s:
        if cert == "client":
            s.sendall(b"x")
            assert net.read_exactly(s, 1) == b"x"
            return
        assert read_to_the_end(s)[0] == b""
    assert target.accepted == 0
    assert h.stat("hbone_server.t.downstream_cx_total") == 0
    reason = "san" if cert in ("twouri", "othertd", "otherns", "b") else "error"
    until(lambda: h.stats(rf"ssl\.fail_verify_{reason}$") > 0, "the counter")


def test_a_drained_connection_takes_no_new_tunnels(hbone, certs, client, origin):
    """Envoy's server goes on with the old connection. Ours says GOAWAY; the live tunnel stays, the next is elsewhere."""
    target = origin()
    h = hbone(server(certs), "--drain-time", "60")
    e = client(address(target), h.port("hbone"))
    with dial(e.doors["single"]) as s:
        s.sendall(b"one")
        assert net.read_exactly(s, 3) == b"one"
        assert h.reload(server(certs).replace('"stat_prefix": "t"', '"stat_prefix": "u"', 1))
        until(lambda: e.stat("cluster.gateway.upstream_cx_close_notify") == 1, "GOAWAY")

        def elsewhere():
            with dial(e.doors["single"]) as other:
                other.sendall(b"two")
                assert net.read_exactly(other, 3) == b"two"
            return h.stat("hbone_server.u.tunnels_total") > 0
        until(elsewhere, "a new connection")
        s.sendall(b"three")
        assert net.read_exactly(s, 5) == b"three"
    until(lambda: h.stat("hbone_server.t.downstream_cx_active") == 0, "the end of the old connection")
