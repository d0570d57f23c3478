# SPDX-License-Identifier: Apache-2.0
"""HBONE tunnels into the program, by foreign HTTP/2 clients."""
import hashlib
import json
import pathlib
import re
import socket
import subprocess

import pytest

from support import config as c
from support import envoy, net
from support.h2client import Client
from support.proc import SLOW, until
from support.tunnels import CLIENT as PEER
from support.tunnels import MIB, address as authority, noting, server

SUPPORT = pathlib.Path(__file__).parent / "support"

pytestmark = pytest.mark.peer("python-h2")


@pytest.fixture
def echo(cleanup):
    s = net.Server(net.echo)
    cleanup(s.close)
    return s


@pytest.fixture
def origin(cleanup):
    def start(handle):
        s = net.Server(handle)
        cleanup(s.close)
        return s
    return start


def test_both_ways_and_half_close(hbone, certs, echo):
    h = hbone(server(certs))
    with Client(h.port("hbone"), certs) as t:
        data = net.pattern(3 * MIB)
        n = t.connect(authority(echo))
        assert t.status(n) == 200
        sent = 0
        while sent < len(data):
            t.send(n, data[sent:sent + 65536])
            sent += 65536
        t.send(n, end=True)
        assert hashlib.sha256(t.read_all(n)).digest() == hashlib.sha256(data).digest()
        assert t.streams[n].reset is None
    until(lambda: h.stat("hbone_server.t.tunnels_active") == 0, "no tunnel")


def test_origin_that_ends_first_loses_nothing(hbone, certs, origin):
    """The client's half stays open and its window is small; Envoy cuts such downloads."""
    data = net.pattern(4 * MIB)
    got = []

    def handle(s):
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
        got.append(net.read_all(s))
    s = origin(handle)
    h = hbone(server(certs))
    with Client(h.port("hbone"), certs) as t:
        n = t.connect(authority(s))
        assert hashlib.sha256(t.read_all(n)).digest() == hashlib.sha256(data).digest()
        assert t.streams[n].ended and t.streams[n].reset is None
        t.send(n, b"the other half lives", end=True)
        until(lambda: got == [b"the other half lives"], "the upload")


def test_origin_reset_is_a_reset(hbone, certs, origin):
    def handle(s):
        s.sendall(b"partial")
        s.recv(1)
        net.reset(s)
    s = origin(handle)
    h = hbone(server(certs))
    with Client(h.port("hbone"), certs) as t:
        n = t.connect(authority(s))
        assert t.read(n, 7) == b"partial"
        t.send(n, b"x")
        t.until(lambda: t.streams[n].reset is not None)
        assert not t.streams[n].ended
        assert t.streams[n].reset == 10  # CONNECT_ERROR
        assert t.status(t.connect(authority(s))) == 200


def test_client_reset_reaches_the_origin(hbone, certs, origin):
    seen = []
    s = origin(noting(seen, b"hello"))
    h = hbone(server(certs))
    with Client(h.port("hbone"), certs) as t:
        n = t.connect(authority(s))
        assert t.read(n, 5) == b"hello"
        t.reset(n)
        until(lambda: seen, "the end of the origin's connection")
        assert seen == ["reset"]


def test_answers(hbone, certs, echo):
    with socket.create_server(("127.0.0.1", 0)) as s:
        closed = s.getsockname()[1]
    h = hbone(server(certs))
    with Client(h.port("hbone"), certs) as t:
        for target, status in ((f"127.0.0.1:{closed}", 503), ("127.0.0.1", 400), ("127.0.0.1:70000", 400),
                               ("127.0.0.1:0", 400), ("user@127.0.0.1:80", 400), ("nobody.example:80", 503)):
            n = t.connect(target)
            assert t.status(n) == status, target
            t.until(lambda: t.streams[n].ended)
        get = t.request([(":method", "GET"), (":scheme", "https"), (":authority", authority(echo)), (":path", "/")],
                        True)
        assert t.status(get) == 400
        big = t.connect(authority(echo), *[("x-filler", "v" * 900)] * 80)
        assert t.status(big) == 431
        n = t.connect(authority(echo), ("traceparent", "x" * 55), ("forwarded", "for=;;"), ("baggage", "=,=,,"))
        assert t.status(n) == 200
        t.send(n, b"alive")
        assert t.read(n, 5) == b"alive"


def test_workload_is_no_open_relay(hbone, certs, echo):
    ports = [{"start": echo.port, "end": echo.port + 1}]
    h = hbone(server(certs, workload={"ports": ports, "addresses": ["web.example"], "loopback": True}))
    with Client(h.port("hbone"), certs) as t:
        for target, status in ((authority(echo), 200), (f"web.example:{echo.port}", 200),
                               (f"127.0.0.2:{echo.port}", 400), (f"other.example:{echo.port}", 503),
                               (f"127.0.0.1:{h.port('hbone')}", 503), ("127.0.0.1:15008", 503),
                               ("127.0.0.1:15001", 503), ("127.0.0.1:22", 401)):
            assert t.status(t.connect(target)) == status, target


def test_denied_by_identity(hbone, certs, echo):
    rbac = c.typed("rbac", "envoy.extensions.filters.network.rbac.v3.RBAC", stat_prefix="r", rules={
        "action": "ALLOW", "policies": {"only-other": {"permissions": [{"any": True}], "principals": [
            {"authenticated": {"principal_name": {"exact": PEER + "x"}}}]}}})
    h = hbone(server(certs, chains=[{"filters": [rbac, c.tcp_proxy("dst")]}]))
    with Client(h.port("hbone"), certs) as t:
        assert t.status(t.connect(authority(echo))) == 401
    assert echo.accepted == 0
    h.expect_stat("hbone_server.t.rq_401", 1)


def test_stream_limit_hurts_nobody_else(hbone, certs, echo):
    h = hbone(server(certs, http2={"max_concurrent_streams": 5}))
    with Client(h.port("hbone"), certs) as t:
        mine = [t.connect(authority(echo)) for _ in range(5)]
        for n in mine:
            assert t.status(n) == 200
        t.h2.remote_settings[3] = 1000  # MAX_CONCURRENT_STREAMS: a client that does not care
        t.h2.remote_settings.acknowledge()
        over = t.connect(authority(echo))
        assert t.status(over) is None and t.streams[over].reset == 7  # REFUSED_STREAM
        for n in mine:
            t.send(n, b"alive")
            assert t.read(n, 5) == b"alive"


def test_stalled_streams_do_not_stop_others(hbone, certs, origin, echo):
    s = origin(lambda s: [s.sendall(b"x" * MIB) for _ in range(8)])
    h = hbone(server(certs))
    with Client(h.port("hbone"), certs) as t:
        t.h2.increment_flow_control_window(16 * MIB)
        stalled = [t.connect(authority(s)) for _ in range(4)]
        t.hold.update(stalled)
        for n in stalled:
            assert t.status(n) == 200
            t.read(n, 65535)
        n = t.connect(authority(echo))
        for _ in range(20):
            t.send(n, b"ping")
        assert t.read(n, 80) == b"ping" * 20


def test_a_reload_ends_the_streams_that_its_policies_no_longer_allow(hbone, certs, echo, origin):
    """Policies of the chains of streams; allowed_authorities; those of the connection. What is allowed drains."""
    second = origin(net.echo)

    def config(denied=1, **fields):
        deny = {"name": "ports", "namespace": "shop", "action": "DENY", "scope": "NAMESPACE",
                "groups": [{"rules": [{"matches": [{"destination_ports": [denied]}]}]}]}
        authz = c.typed("authz", "hbone.filters.network.authz.Authz", stat_prefix="p", policies=[deny])
        conf = json.loads(server(certs, [{"name": "all", "filters": [authz, c.tcp_proxy("dst")]}], **fields))
        conf["static_resources"]["listeners"][0]["address"]["socket_address"]["port_value"] = port
        return json.dumps(conf)
    port = 0
    h = hbone(config(), "--drain-time", "30")
    port = h.port("hbone")
    with Client(port, certs) as t:
        gone, kept = t.connect(authority(echo)), t.connect(authority(second))
        for n in gone, kept:
            t.send(n, b"hello")
            assert t.read(n, 5) == b"hello"
        assert h.reload(config(echo.port)), h.output()
        t.until(lambda: t.streams[gone].reset is not None)
        until(lambda: h.stat("authz.p.revoked") == 1, "the counter")
        until(lambda: "policy=shop/ports" in h.output(), "the log line")
        t.send(kept, b"still")
        assert t.read(kept, 10) == b"hellostill"
        assert h.reload(config(allowed_authorities=[{"exact": authority(echo)}])), h.output()
        t.until(lambda: t.streams[kept].reset is not None)
        until(lambda: h.stat("hbone_server.t.tunnels_revoked") == 1, "the counter")


@pytest.mark.parametrize("counter, value", (
    ("baggage_contradicts", "k8s.namespace.name=other"),
    ("baggage_invalid", ",".join(["a=b"] * 181)),
    ("baggage_invalid", "service.name=\xff"),
    ("baggage_invalid", "service.name=" + "b" * 8180),
    ("forwarded_invalid", "for=;;"),
    ("forwarded_invalid", "for=192.0.2.1;host=" + "h" * 1024),
    ("forwarded_invalid", "for=192.0.2.1;by=" + "b" * 8192),
    ("traceparent_invalid", "00-" + "0" * 52)))
def test_metadata_that_is_not_believed_is_counted(hbone, certs, echo, counter, value):
    h = hbone(server(certs))
    name = counter.partition("_")[0]
    good = {"baggage": "k8s.namespace.name=default,service.name=b", "forwarded": "for=192.0.2.1",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}
    with Client(h.port("hbone"), certs) as t:
        for headers in good.items(), (good | {name: value}).items(), (good | {name: value}).items(), ():
            assert t.status(t.connect(authority(echo), *headers)) == 200
    for other in "baggage_contradicts", "baggage_invalid", "forwarded_invalid", "traceparent_invalid":
        assert h.stat("hbone_server.t." + other) == (2 if other == counter else 0), other


def test_proxy_header_names_the_client(hbone, certs, origin):
    got = []
    s = origin(lambda s: got.append(net.read_all(s)))
    form = {"text_format_source": {"inline_string": "%DOWNSTREAM_PEER_URI_SAN%"}}
    none = {"text_format_source": {"inline_string": "%DOWNSTREAM_PEER_DNS_SAN%"}}
    header = {"version": "V2", "added_tlvs": [{"type": 0xD0, "format_string": form}, {"type": 0xD1, "format_string": none}]}
    socket_ = c.typed("pp", "envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport",
                      config=header, transport_socket=c.typed(
                          "raw", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"))
    pp = c.cluster("pp", s.port, transport_socket=socket_)
    h = hbone(server(certs, [{"filters": [c.tcp_proxy("pp")]}], clusters=[pp]))
    with Client(h.port("hbone"), certs) as t:
        n = t.connect(authority(s))
        t.send(n, b"hello", end=True)
        until(lambda: got, "the header")
    assert got[0].endswith(b"\xd0" + len(PEER).to_bytes(2, "big") + PEER.encode() + b"hello")


def test_drain_in_two_steps(hbone, certs, echo):
    h = hbone(server(certs))
    with Client(h.port("hbone"), certs) as t:
        n = t.connect(authority(echo))
        assert t.status(n) == 200
        h.post("/drain_listeners?graceful&skip_exit")
        t.until(lambda: len(t.goaway) == 2)
        assert t.goaway[0][0] == 2**31 - 1 and t.goaway[1] == (n, 0)
        t.send(n, b"still here")
        assert t.read(n, 10) == b"still here"


def test_flood_of_resets_ends_the_connection(hbone, certs, echo):
    h = hbone(server(certs, http2={"floods": {"resets": 50}}))
    with Client(h.port("hbone"), certs) as t:
        assert t.status(t.connect(authority(echo))) == 200
        try:
            for _ in range(60):
                t.reset(t.connect(authority(echo)))
            t.until(lambda: t.goaway)
        except (AssertionError, OSError):
            pass
        assert [code for _, code in t.goaway] in ([11], [])  # ENHANCE_YOUR_CALM
    until(lambda: h.stat("hbone_server.t.http2.flood_resets") == 1, "the flood")


def test_log_metadata_and_tunnels_page(hbone, certs, echo, tmp_path):
    log = tmp_path / "streams.log"
    h = hbone(server(certs, log=log, response_baggage=(
        "k8s.namespace.name=default,k8s.deployment.name=%UPSTREAM_CLUSTER%,service.name=%FILTER_STATE(none)%")))
    with Client(h.port("hbone"), certs) as t:
        n = t.connect(authority(echo), ("baggage", "k8s.namespace.name=a"), ("baggage", "service.name=b"))
        assert t.status(n) == 200
        assert t.streams[n].headers["baggage"] == "k8s.namespace.name=default,k8s.deployment.name=dst"
        t.send(n, b"12345")
        assert t.read(n, 5) == b"12345"
        row, = h.json("/tunnels?format=json")["tunnels"]
        assert (row["authority"], row["principal"], row["endpoint"]) == (authority(echo), PEER, authority(echo))
        assert (row["received"], row["sent"], row["state"]) == (5, 5, "open")
        assert authority(echo) in h.get("/tunnels")[1]
        assert t.status(t.connect("127.0.0.1:1")) == 503
        t.send(n, end=True)
        t.read_all(n)
    until(lambda: log.exists() and len(log.read_text().splitlines()) == 2, "two lines")
    lines = sorted(log.read_text().splitlines())
    assert lines[0].startswith("stream 127.0.0.1:1 503 flags=UF") and f"peer={PEER}" in lines[0]
    assert lines[1] == (f"stream {authority(echo)} 200 flags=- peer={PEER} "
                        "baggage=k8s.namespace.name=a,service.name=b rx=5 tx=5")


def test_listener_takes_the_streams(hbone, certs, echo):
    text = server(certs, listener="inner")
    inner = c.listener("inner", [{"filters": [c.tcp_proxy("dst")]}], [])
    import json
    doc = json.loads(text)
    doc["static_resources"]["listeners"].append(inner)
    h = hbone(json.dumps(doc))
    with Client(h.port("hbone"), certs) as t:
        n = t.connect(authority(echo))
        assert t.status(n) == 200
        t.send(n, b"through a listener", end=True)
        assert t.read_all(n) == b"through a listener"


@pytest.mark.parametrize("cert", ["expired", "stranger"])
def test_only_those_of_the_mesh(hbone, certs, echo, cert):
    h = hbone(server(certs))
    with pytest.raises((OSError, AssertionError)):
        with Client(h.port("hbone"), certs, cert=cert) as t:
            t.until(lambda: t.settings)
    assert h.stat("hbone_server.t.downstream_cx_total") == 0


@pytest.mark.peer("node")
def test_node_as_client(hbone, certs, echo):
    h = hbone(server(certs))
    run = ["node", str(SUPPORT / "h2-client.mjs"), str(h.port("hbone"))]
    keys = [str(certs.ca), certs.pem("client"), certs.key("client")]
    data = net.pattern(2 * MIB)
    done = subprocess.run([*run, authority(echo), *keys], input=data, capture_output=True, timeout=60 * SLOW,
                          check=True)
    assert done.stdout == data and b"status 200" in done.stderr
    done = subprocess.run([*run, "127.0.0.1:1", *keys], capture_output=True, timeout=60 * SLOW)
    assert b"status 503" in done.stderr


@pytest.mark.peer("pycurl")
def test_pycurl_through_an_http2_proxy(hbone, certs, origin):
    import pycurl  # pylint: disable=import-outside-toplevel

    def handle(s):
        request = b""
        while b"\r\n\r\n" not in request:
            request += s.recv(4096)
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
    s = origin(handle)
    h = hbone(server(certs))
    body = bytearray()
    k = pycurl.Curl()
    k.setopt(pycurl.URL, f"http://{authority(s)}/")
    k.setopt(pycurl.PROXY, f"https://127.0.0.1:{h.port('hbone')}")
    k.setopt(pycurl.PROXYTYPE, 3)  # CURLPROXY_HTTPS2
    k.setopt(pycurl.HTTPPROXYTUNNEL, 1)
    k.setopt(pycurl.PROXY_CAINFO, str(certs.ca))
    k.setopt(pycurl.PROXY_SSLCERT, certs.pem("client"))
    k.setopt(pycurl.PROXY_SSLKEY, certs.key("client"))
    k.setopt(pycurl.PROXY_SSL_VERIFYHOST, 0)
    k.setopt(pycurl.WRITEFUNCTION, body.extend)
    k.setopt(pycurl.TIMEOUT, 30)
    k.perform()
    assert bytes(body) == b"hello"
    k.close()


# ------------------------------------------------------------------ Envoy's form

def envoys(certs, tmp_path, echo):
    return envoy.render("hbone-server.yaml", CERTS=certs.folder, NODE="n", ADMIN_PORT=0, PORT=0, CERT="echo",
                        STREAMS=100, EW_HOST="remote.example:80", POD_HOST="127.0.0.1", POD_PORT=echo.port,
                        IDLE="3600s")


def test_a_reload_that_forbids_connect_ends_the_streams(hbone, certs, echo, tmp_path):
    """Of Envoy's form, too: by the routes that their requests have now."""
    old = envoys(certs, tmp_path, echo)
    direct = '- match: {connect_matcher: {}, headers: [{name: ":authority"'
    team = "- match: {connect_matcher: {}, headers: [{name: x-team, string_match: {exact: blue}}]}"
    head, tail = old.split(direct)
    allowed = tail[tail.index("route:"):].split("\n", 1)[0]
    new = f"{head}{team}\n                {allowed}\n              {direct}" + tail.replace(
        "upgrade_configs: [*connect]", "upgrade_configs: [{upgrade_type: CONNECT, enabled: false}]", 1)
    h = hbone(old, "--drain-time", "30")
    with Client(h.port("connect_terminate"), certs) as t:
        gone, kept, other = (t.connect(authority(echo)), t.connect(authority(echo), ("x-team", "blue")),
                             t.connect("remote.example:80"))
        for n in gone, kept, other:
            t.send(n, b"hello")
            assert t.read(n, 5) == b"hello"
        assert h.reload(new), h.output()
        t.until(lambda: t.streams[gone].reset is not None)
        until(lambda: h.stat("hbone_server.hbone.tunnels_revoked") == 1, "the counter")
        for n in kept, other:
            t.send(n, b"still")
            assert t.read(n, 10) == b"hellostill"


def test_envoys_configuration_runs_unchanged(hbone, certs, echo, tmp_path):
    h = hbone(envoys(certs, tmp_path, echo))
    with Client(h.port("connect_terminate"), certs) as t:
        for target, status in ((authority(echo), 200), ("remote.example:80", 200), ("other.example:80", 404),
                               ("127.0.0.1:1", 503), ("127.0.0.1", 404)):
            n = t.connect(target, ("baggage", "service.name=b"))
            assert t.status(n) == status, target
            if status == 200:
                t.send(n, b"hello", end=True)
                assert t.read_all(n) == b"hello"
        get = t.request([(":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/")], True)
        assert t.status(get) == 404
    h.wait_line(re.escape(f"stream CONNECT {authority(echo)} 200 flags=- ") + r"details=\S+ " + re.escape(
        f"peer={PEER} baggage=service.name=b fwdnet=- up={authority(echo)}"))
    h.wait_line(r"stream GET a 404 flags=NR")
