# SPDX-License-Identifier: Apache-2.0
"""What an HBONE peer may count on: TLS, authorities, frames, PING; and certificates, in both directions."""
import json
import socket
import ssl
import struct

import pytest

from support import certs as leaves
from support import config as c
from support import net, wire
from support.proc import Child, until
from support.tunnels import CLIENT, ECHO, MIB, address, client, connect, read_to_the_end, server

pytestmark = pytest.mark.peer("python-h2")

ONE = ("--concurrency", "1")
RULES = c.typed("spiffe", "hbone.identity.SpiffeRules")


@pytest.fixture
def echo(cleanup):
    s = net.Server(net.echo)
    cleanup(s.close)
    return s


def lives(w, stream, target, *headers):
    w.headers(stream, wire.request(target, *headers))
    assert w.status(stream) == 200
    w.send(wire.DATA, 0, stream, b"alive")
    assert w.read(stream, 5) == b"alive"


# ------------------------------------------------------------------ TLS

def context(certs, alpn, cert="client"):
    made = net.client_context(certs, alpn, cert)
    made.check_hostname = False
    return made


def dial(port, made):
    raw = socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT)
    return made.wrap_socket(raw, suppress_ragged_eofs=False)


@pytest.mark.parametrize("sni", [None, "any.example"])
def test_with_and_without_a_server_name(hbone, certs, echo, sni):
    h = hbone(server(certs))
    raw = socket.create_connection(("127.0.0.1", h.port("hbone")), timeout=net.TIMEOUT)
    with context(certs, ["h2"]).wrap_socket(raw, server_hostname=sni, suppress_ragged_eofs=False) as s:
        assert (s.version(), s.selected_alpn_protocol()) == ("TLSv1.3", "h2")
        assert s.cipher()[0] in ("TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384")
        w = wire.Wire(s)
        w.send(wire.SETTINGS)
        lives(w, 1, address(echo))


@pytest.mark.parametrize("group", ["X25519", "prime256v1"])
@pytest.mark.parametrize("suite", ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384"])
@pytest.mark.peer("openssl")
def test_groups_and_suites(hbone, certs, group, suite):
    h = hbone(server(certs))
    child = Child(["openssl", "s_client", "-connect", f"127.0.0.1:{h.port('hbone')}", "-groups", group, "-ciphersuites",
                   suite, "-alpn", "h2", "-CAfile", str(certs.ca), "-cert", certs.pem("client"), "-key",
                   certs.key("client"), "-brief"])
    child.wait_line(f"Ciphersuite: {suite}")
    child.stop()


def test_protocol_negotiation(hbone, certs, echo):
    """No ALPN at all is good enough, as for ztunnel and Envoy. http/1.1 alone chooses nothing, as for Envoy (ztunnel: alert
    120), and then HTTP/1 is not understood."""
    h = hbone(server(certs))
    with dial(h.port("hbone"), context(certs, [])) as s:
        w = wire.Wire(s)
        w.send(wire.SETTINGS)
        lives(w, 1, address(echo))
    with dial(h.port("hbone"), context(certs, ["http/1.1"])) as s:
        assert s.selected_alpn_protocol() is None
        s.sendall(b"CONNECT 127.0.0.1:1 HTTP/1.1\r\n\r\n")
        assert wire.Wire(s, server=True).until_over() in ("close_notify", "reset")
    h.expect_stat("hbone_server.t.downstream_cx_protocol_error", 1)


def test_old_tls_and_no_tls(hbone, certs):
    """TLS 1.2 gets alert 70 where 1.3 is asked for; bytes that are no TLS end the connection."""
    text = server(certs).replace('"alpn_protocols"', '"tls_params": {"tls_minimum_protocol_version": "TLSv1_3"}, '
                                 '"alpn_protocols"')
    h = hbone(text)
    old = context(certs, ["h2"])
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(ssl.SSLError) as e:
        dial(h.port("hbone"), old)
    assert "protocol_version" in str(e.value).lower().replace(" ", "_")
    with socket.create_connection(("127.0.0.1", h.port("hbone")), timeout=net.TIMEOUT) as s:
        s.sendall(wire.PREFACE + wire.encode(wire.SETTINGS))
        try:
            while s.recv(4096):
                pass
        except ConnectionResetError:
            pass


# ------------------------------------------------------------------ requests

def test_authorities(hbone, certs):
    """An IPv4 address, an IPv6 address, a name."""
    four, six = net.Server(net.echo), net.Server(net.echo, host="::1")
    named = {"name": "named", "filter_chain_match": {"destination_port": 8080}, "filters": [c.tcp_proxy("four")]}
    h = hbone(server(certs, [{"filters": [c.tcp_proxy("dst")]}, named], clusters=[c.cluster("four", four.port)]))
    with wire.client(h.port("hbone"), certs) as w:
        lives(w, 1, address(four))
        lives(w, 3, f"[::1]:{six.port}")
        lives(w, 5, "web.default.svc.cluster.local:8080")
    four.close()
    six.close()


def string_value(text):
    return {"action": {"name": text, "typed_config": {"@type": c.TYPE + "google.protobuf.StringValue", "value": text}}}


def by_state(key, **ways):
    """A matcher that looks at filter state; ways: what it is -> what then."""
    return {"matcher_tree": {
        "input": {"name": "i", "typed_config": {
            "@type": c.TYPE + "envoy.extensions.matching.common_inputs.network.v3.FilterStateInput", "key": key}},
        "exact_match_map": {"map": ways}}}


def test_east_west_dispatch(hbone, certs, cleanup):
    """As istiod writes it for an east-west gateway: by authority, and then by who asks. What a waypoint or a gateway sends
    goes to the service, what others send to the service's waypoint; an unknown authority goes nowhere."""
    service, waypoint = (net.Server(lambda s, w=w: s.sendall(w)) for w in (b"service", b"waypoint"))
    for s in (service, waypoint):
        cleanup(s.close)

    def keep(key, text):
        return {"object_key": key, "factory_key": "istio.hashable_string", "shared_with_upstream": "ONCE",
                "format_string": {"text_format_source": {"inline_string": text}}}
    state = c.typed("s", "envoy.extensions.filters.http.set_filter_state.v3.Config", on_request_headers=[
        keep("io.istio.connect_authority", "%REQ(:AUTHORITY)%"), keep("io.istio.source", "%REQ(X-ISTIO-SOURCE)%")])
    routes = {"name": "r", "virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [
        {"match": {"connect_matcher": {}}, "route": {
            "cluster": "main", "upgrade_configs": [{"upgrade_type": "CONNECT", "connect_config": {}}]}}]}]}
    hcm = c.typed("hcm", "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                  stat_prefix="t", codec_type="HTTP2", route_config=routes, upgrade_configs=[{"upgrade_type": "CONNECT"}],
                  http_filters=[state, c.typed("router", "envoy.extensions.filters.http.router.v3.Router")],
                  http2_protocol_options={"allow_connect": True})
    raw = c.typed("raw", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")
    main = {"name": "main", "transport_socket": c.typed(
        "i", "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport", transport_socket=raw),
        "load_assignment": {"cluster_name": "main", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "main_internal"}}}}]}]}}
    by_source = by_state("io.istio.source", waypoint=string_value("service"), gateway=string_value("service"))
    inside = {"name": "main_internal", "internal_listener": {},
              "filter_chains": [{"name": n, "filters": [c.tcp_proxy(n)]} for n in ("service", "waypoint")],
              "filter_chain_matcher": by_state("io.istio.connect_authority", **{"svc.example:80": {
                  "matcher": {**by_source, "on_no_match": string_value("waypoint")}}})}
    chain = {"filters": [hcm], "transport_socket": c.tls_downstream(certs, "echo", ["h2"], True)}
    h = hbone(c.bootstrap([c.listener("hbone", [chain], []), inside],
                          [main, c.cluster("service", service.port), c.cluster("waypoint", waypoint.port)]))
    with wire.client(h.port("hbone"), certs) as w:
        for stream, (source, want) in enumerate((("waypoint", b"service"), ("gateway", b"service"), ("sidecar", b"waypoint"),
                                                 (None, b"waypoint"))):
            more = [("x-istio-source", source)] if source else []
            w.headers(2 * stream + 1, wire.request("svc.example:80", *more))
            assert w.read(2 * stream + 1, len(want)) == want, source
        w.headers(9, wire.request("other.example:80"))
        assert w.status(9) in (404, 503)


# ------------------------------------------------------------------ frames

def test_frames_of_1_mib(hbone, certs, echo):
    """We take them; a peer that says nothing gets 16 KiB, one that takes more may get more."""
    h = hbone(server(certs, http2={"initial_stream_window_size": 4 * MIB}))
    for settings, most in ((b"", 16384), (struct.pack(">HI", 5, 1 << 20), 1 << 20)):
        with wire.client(h.port("hbone"), certs, settings=settings + struct.pack(">HI", 4, 8 * MIB)) as w:
            w.send(wire.WINDOW_UPDATE, 0, 0, struct.pack(">I", 8 * MIB))
            w.until(lambda: w.all(wire.SETTINGS))
            announced = dict(struct.iter_unpack(">HI", w.all(wire.SETTINGS)[0].payload))
            assert announced[5] == 1 << 20
            w.headers(1, wire.request(address(echo)))
            assert w.status(1) == 200
            data = net.pattern(1 << 20)
            w.send(wire.DATA, 0, 1, data)
            assert w.read(1, 1 << 20) == data
            assert max(len(f.payload) for f in w.all(wire.DATA)) <= most


def test_ping(hbone, certs, echo):
    """Answered while bytes move both ways; our own come, and whoever does not answer is let go."""
    h = hbone(server(certs, http2={"keepalive_interval": "0.2s", "keepalive_timeout": "0.5s"}))
    with wire.client(h.port("hbone"), certs) as w:
        w.headers(1, wire.request(address(echo)))
        assert w.status(1) == 200
        # Less than the window: this client does not ask for room.
        for i in range(12):
            w.send(wire.DATA, 0, 1, bytes(16384))
            w.send(wire.PING, 0, 0, struct.pack(">Q", i))
        w.read(1, 12 * 16384)
        w.until(lambda: len([f for f in w.all(wire.PING) if f.flags & wire.ACK]) == 12)
        w.until(lambda: len([f for f in w.all(wire.PING) if not f.flags & wire.ACK]) >= 2)
        w.mute = True
        assert w.until_over() == "close_notify"
    h.expect_stat("hbone_server.t.http2.keepalive_timeout", 1)


# ------------------------------------------------------------------ certificates

@pytest.fixture(scope="session")
def more_certs(certs):
    """chained: below an intermediate, which is in its file; clientonly: for clients only, by its key usage."""
    ca = leaves.load(certs.folder, "ca")
    leaves.chained(certs.folder, "chained", ca, uri=[ECHO])
    leaves.chained(certs.folder, "chained-client", ca, uri=[CLIENT])
    leaves.leaf(certs.folder, "clientonly", ca, uri=[ECHO], usages=leaves.BOTH[1:])
    return certs


def with_rules(text):
    doc = json.loads(text)

    def walk(node):
        if isinstance(node, dict):
            if "trusted_ca" in node:
                node.pop("match_typed_subject_alt_names", None)
                node["custom_validator_config"] = RULES
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                walk(child)
    walk(doc)
    return json.dumps(doc)


BAD = ["expired", "notyet", "stranger", "twouri", "othertd", "otherns", "b"]


@pytest.mark.parametrize("cert", ["client", "chained-client", *BAD, "serveronly"])
def test_certificates_of_clients(hbone, more_certs, echo, cert):
    """Same trust domain and namespace, exactly one SPIFFE id, in its time, below our root, for clients."""
    h = hbone(with_rules(server(more_certs)))
    if cert in ("client", "chained-client"):
        with wire.client(h.port("hbone"), more_certs, cert) as w:
            lives(w, 1, address(echo))
        return
    with pytest.raises(ssl.SSLError) as e:
        with wire.tls(h.port("hbone"), more_certs, cert) as s:
            s.recv(1)
    assert "alert" in str(e.value).lower()
    assert h.stat("hbone_server.t.downstream_cx_total") == 0
    reason = "san" if cert in ("twouri", "othertd", "otherns", "b") else "error"
    h.expect_stats(rf"^listener\..*\.ssl\.fail_verify_{reason}$", 1)


@pytest.mark.parametrize("cert", ["echo", "chained", *BAD, "clientonly"])
def test_certificates_of_servers(hbone, more_certs, cleanup, cert):
    """The same for those that we tunnel to; no request is sent to the wrong one."""
    def serve(w):
        w.until(lambda: w.all(wire.HEADERS))
        w.headers(1, [(":status", "200")])
        w.send(wire.DATA, wire.END_STREAM, 1, b"some")
        w.until_over()
    s = wire.Server(more_certs, serve, name=cert)
    cleanup(s.close)
    h = hbone(with_rules(client(more_certs, s.port)), *ONE)
    with connect(h) as a:
        good = cert in ("echo", "chained")
        assert read_to_the_end(a) == ((b"some", "end") if good else (b"", "reset"))
    if not good:
        assert not any(w.all(wire.HEADERS) for w in s.wires)
        until(lambda: h.stats(r"^cluster\.peer\.ssl\.fail_verify_") > 0 or
              h.stat("cluster.peer.ssl.connection_error") > 0, "the counter")
