# SPDX-License-Identifier: Apache-2.0
"""/tunnels: streams that end here and those that we opened, for programs and as a table."""
import pytest

from support import config as c
from support import net
from support.proc import until
from support.tunnels import CLIENT, ECHO, address, client, connect, server, tls, tunnel

HTTP2 = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
    "@type": c.TYPE + "envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
    "explicit_http_config": {"http2_protocol_options": {}}}}


@pytest.fixture
def target(cleanup):
    s = net.Server(net.echo)
    cleanup(s.close)
    return s


def says(s, text):
    s.sendall(text)
    assert net.read_exactly(s, len(text)) == text


def rows(h, **params):
    query = "".join(f"&{k}={v}" for k, v in params.items())
    return h.json("/tunnels?format=json" + query)["tunnels"]


def expect(row, **fields):
    assert {k: row[k] for k in fields} == fields
    assert row["age_ms"] >= 0


def entry(cluster, **proxy):
    return c.bootstrap([c.listener("in", [{"name": "all", "filters": [c.tcp_proxy("peer", **proxy)]}], [])], [cluster])


def test_of_a_client_and_of_its_server(hbone, certs, target):
    """The authority is the endpoint's address, which is behind the port of the tunnel."""
    far = hbone(server(certs))
    h = hbone(entry(c.cluster("peer", target.port, transport_socket=tunnel(tls(certs), port=far.port("hbone")))))
    with connect(h) as s, connect(h):
        says(s, b"hello")
        until(lambda: len(rows(h)) == 2, "two tunnels")
        row, = [r for r in rows(h) if r["received"]]
        expect(row, direction="out", state="open", peer=f"127.0.0.1:{far.port('hbone')}", principal=ECHO,
               authority=address(target), listener="in", chain="all", cluster="peer",
               endpoint=f"127.0.0.1:{far.port('hbone')}", received=5, sent=5)
        row, = [r for r in rows(far) if r["received"]]
        expect(row, direction="in", principal=CLIENT, authority=address(target), endpoint=address(target), sent=5)
        assert rows(h, direction="in") == [] and len(rows(h, direction="out")) == 2 and rows(far, direction="out") == []
        assert len(rows(h, authority=address(target))) == 2 and rows(h, peer="192.0.2.1") == []
        assert h.json("/connections?format=json")["connections"][0].get("direction") is None
        s.shutdown(1)
        until(lambda: [r["state"] for r in rows(h)].count("open") == 1, "the end of one")
    until(lambda: rows(h) == [], "the end")


def test_of_a_double_tunnel(hbone, certs, target):
    inner = hbone(server(certs, [{"filters": [c.tcp_proxy("app")]}], clusters=[c.cluster("app", target.port)]))
    gateway = hbone(server(certs, [{"filters": [c.tcp_proxy("workload")]}], cert="client",
                           clusters=[c.cluster("workload", inner.port("hbone"))]))
    through = {"transport_socket": tls(certs, peer=CLIENT), "port": 0, "authority": "gw.example:%DOWNSTREAM_LOCAL_PORT%"}
    h = hbone(client(certs, gateway.port("hbone"), authority="svc.example:80", through=through))
    with connect(h) as s:
        says(s, b"hello")
        one, two = rows(h)
        expect(one, direction="out", principal=ECHO, authority="svc.example:80", sent=5, received=5, cluster="peer")
        expect(two, direction="outer", principal=CLIENT, authority=f"gw.example:{h.port('in')}", id=one["id"],
               endpoint=f"127.0.0.1:{gateway.port('hbone')}", cluster="peer", state="open")
        assert two["sent"] > 500 and two["received"] > 500
        assert [r["direction"] for r in rows(h, direction="out")] == ["out", "outer"]
        assert [r["direction"] for r in rows(h, direction="outer")] == ["outer"]


def test_of_a_gateway(hbone, certs, target):
    """Ended here, and opened again by tunneling_config: two rows of one connection."""
    far = hbone(server(certs))
    chain = {"name": "on", "filters": [c.tcp_proxy("next", tunneling_config={"hostname": "%REQ(:AUTHORITY)%"})]}
    gateway = hbone(server(certs, [chain], cert="echo", clusters=[c.cluster(
        "next", far.port("hbone"), transport_socket=tls(certs, cert="client"), typed_extension_protocol_options=HTTP2)]))
    h = hbone(client(certs, gateway.port("hbone"), authority=address(target)))
    with connect(h) as s:
        says(s, b"hello")
        come, go = rows(gateway)
        expect(come, direction="in", principal=CLIENT, authority=address(target), chain="on", cluster="next")
        expect(go, direction="out", principal=ECHO, authority=address(target), chain="on", cluster="next", id=come["id"],
               sent=5, received=5)


def test_the_table_is_as_wide_as_what_is_in_it(hbone, certs, target):
    far = hbone(server(certs))
    h = hbone(client(certs, far.port("hbone"), authority=address(target)), "--concurrency", "2")
    assert h.get("/tunnels")[1].split() == ["ID", "DIR", "STATE", "PEER", "PRINCIPAL", "AUTHORITY", "SERVER", "CHAIN",
                                            "CLUSTER", "ENDPOINT", "RECEIVED", "SENT", "AGE_S"]
    sockets = [connect(h) for _ in range(6)]
    for s in sockets:
        says(s, b"hello")
    head, *lines = h.get("/tunnels")[1].splitlines()
    assert len(lines) == 6 and {len(line) for line in (head, *lines)} == {len(head)}
    for line in lines:
        for name, value in (("DIR", "out"), ("PRINCIPAL", ECHO), ("AUTHORITY", address(target)), ("CLUSTER", "peer")):
            assert line[head.index(name):].split()[0] == value
        # Two blanks between columns, and no more than it takes.
        assert line[head.index("PRINCIPAL"):].startswith(ECHO + "  " + address(target))
    for s in sockets:
        s.close()
