# SPDX-License-Identifier: Apache-2.0
"""Network filters, each as a user would meet it."""
import contextlib
import socket
import struct
import subprocess
import threading

import pytest

from support import config as c
from support import net
from support.certs import MESH
from support.proc import until

NETWORK = "envoy.extensions.filters.network."
ECHO = c.typed("echo", NETWORK + "echo.v3.Echo")
FORMAT = {"text_format_source": {"inline_string": "log cluster=%UPSTREAM_CLUSTER% flags=%RESPONSE_FLAGS% "
                                                  "details=%CONNECTION_TERMINATION_DETAILS%\n"}}
LOG = c.typed("log", "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", log_format=FORMAT)


def plain(*filters, clusters=(), **fields):
    return c.bootstrap([c.listener("in", [{"filters": list(filters)}], inspectors=(), access_log=[LOG], **fields)], clusters)


def passthrough(*filters, clusters=()):
    return c.bootstrap([c.listener("in", [{"filters": list(filters)}], access_log=[LOG])], clusters)


def connect(h, source=None):
    return socket.create_connection(("127.0.0.1", h.port("in")), timeout=net.TIMEOUT, source_address=source)


def echoed(h, data=b"ping", source=None):
    with connect(h, source) as s:
        s.sendall(data)
        return net.read_exactly(s, len(data)) == data


def assert_reset(h, data=b"ping", source=None):
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        with connect(h, source) as s:
            s.sendall(data)
            assert s.recv(1) != b"", "a clean end instead of a reset"


@pytest.fixture(name="upstream")
def upstream_server(cleanup):
    server = net.Server(net.echo)
    cleanup(server.close)
    return server


# ------------------------------------------------------------------ rbac

def rbac(action, principals=({"any": True},), permissions=({"any": True},), **fields):
    rules = {"action": action, "policies": {"rule": {"permissions": list(permissions), "principals": list(principals)}}}
    return c.typed("rbac", NETWORK + "rbac.v3.RBAC", stat_prefix="tcp.", rules=rules, **fields)


FROM_THREE = {"direct_remote_ip": {"address_prefix": "127.0.0.3", "prefix_len": 32}}


@pytest.mark.parametrize("action", ["ALLOW", "DENY"])
def test_rbac_by_source_address(hbone, upstream, action):
    h = hbone(plain(rbac(action, [FROM_THREE]), c.tcp_proxy("up"), clusters=[c.cluster("up", upstream.port)]))
    allowed, denied = ("127.0.0.3", "127.0.0.1") if action == "ALLOW" else ("127.0.0.1", "127.0.0.3")
    assert echoed(h, source=(allowed, 0))
    before = upstream.accepted
    assert_reset(h, source=(denied, 0))
    policy = "none" if action == "ALLOW" else "rule"
    h.wait_line(rf"log .*details=rbac_access_denied_matched_policy\[{policy}\]")
    assert upstream.accepted == before, "a denied connection reached the upstream"
    assert (h.stat("tcp.rbac.allowed"), h.stat("tcp.rbac.denied")) == (1, 1)
    prometheus = h.get("/stats/prometheus")[1]
    assert 'envoy_rbac_denied{envoy_rbac_prefix="tcp"} 1\n' in prometheus


def test_rbac_denies_before_any_byte(hbone, upstream):
    h = hbone(plain(rbac("DENY"), c.tcp_proxy("up"), clusters=[c.cluster("up", upstream.port)]))
    assert_reset(h, b"")
    assert upstream.accepted == 0


def test_rbac_shadow_rules_only_count(hbone):
    shadow = {"action": "DENY", "policies": {"all": {"permissions": [{"any": True}], "principals": [{"any": True}]}}}
    h = hbone(plain(c.typed("rbac", NETWORK + "rbac.v3.RBAC", stat_prefix="tcp.", shadow_rules=shadow,
                            shadow_rules_stat_prefix="istio_dry_run_allow_"), ECHO))
    assert echoed(h)
    h.expect_stat("tcp.rbac.istio_dry_run_allow_shadow_denied", 1)
    assert "envoy_rbac_istio_dry_run_allow_shadow_denied{" in h.get("/stats/prometheus")[1]


def test_rbac_by_server_name_port_and_combinations(hbone):
    named = {"requested_server_name": {"suffix": ".a.example"}}
    wanted = {"and_rules": {"rules": [named, {"not_rule": {"destination_port": 1}}]}}
    h = hbone(passthrough(rbac("ALLOW", permissions=[{"or_rules": {"rules": [wanted]}}]), ECHO))
    assert echoed(h, net.client_hello("x.a.example"))
    assert_reset(h, net.client_hello("a.other.example"))


@pytest.mark.peer("python-ssl")
def test_rbac_by_verified_identity(hbone, certs):
    """Only the mesh identity "client" passes; the same name signed by a stranger does not."""
    who = {"authenticated": {"principal_name": {"exact": MESH + "client"}}}
    config = c.bootstrap([c.listener("in", [{"filters": [rbac("ALLOW", [who]), ECHO], "transport_socket":
                                             c.tls_downstream(certs, "a", require_client=True)}])], [])
    h = hbone(config)
    with net.tls_connect(h.port("in"), certs, "a.example", cert="client") as s:
        s.sendall(b"ping")
        assert net.read_exactly(s, 4) == b"ping"
    for name in ("echo", "stranger", None):
        with contextlib.suppress(OSError):      # Python takes some resets for an end
            with net.tls_connect(h.port("in"), certs, "a.example", cert=name) as s:
                s.sendall(b"ping")
                assert s.recv(4) == b""
    assert (h.stat("tcp.rbac.allowed"), h.stat("tcp.rbac.denied")) == (1, 1)


def test_rbac_by_metadata_of_a_proxy_header(hbone):
    metadata = {"metadata": {"filter": "envoy.filters.listener.proxy_protocol", "path": [{"key": "vpc"}],
                             "value": {"string_match": {"exact": "blue"}}}}
    proxy = c.typed("pp", "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
                    rules=[{"tlv_type": 0xEA, "on_tlv_present": {"key": "vpc"}}])
    h = hbone(c.bootstrap([c.listener("in", [{"filters": [rbac("ALLOW", [metadata]), ECHO]}], inspectors=[proxy])], []))

    def header(value):
        body = socket.inet_aton("192.0.2.1") * 2 + struct.pack("!HH", 1, 2) + struct.pack("!BH", 0xEA, len(value)) + value
        return b"\r\n\r\n\0\r\nQUIT\n" + struct.pack("!BBH", 0x21, 0x11, len(body)) + body
    with connect(h) as s:
        s.sendall(header(b"blue") + b"ping")
        assert net.read_exactly(s, 4) == b"ping"
    assert_reset(h, header(b"red"))


# ------------------------------------------------------------------ routing by name

def router(**fields):
    return c.typed("router", "hbone.filters.network.sni_router.SniRouter", **fields)


def test_sni_router_patterns_and_istio_names(hbone, upstream):
    istio = "outbound|8080|v1|web.default.svc.cluster.local"
    names = ["exact", "wild", istio, "rest"]
    h = hbone(passthrough(
        router(routes=[{"server_names": ["www.a.example"], "cluster": "exact"},
                       {"server_names": ["*.a.example"], "cluster": "wild"}],
               istio={"cluster_format": "outbound|{port}|{subset}|{host}"}, default_cluster="rest"),
        c.tcp_proxy("unused", access_log=[LOG]), clusters=[c.cluster(n, upstream.port) for n in names]))
    for name, cluster in (("www.a.example", "exact"), ("WWW.x.A.example", "wild"),
                          ("outbound_.8080_.v1_.web.default.svc.cluster.local", istio), ("else.example", "rest")):
        start = len(h.lines)
        assert echoed(h, net.client_hello(name))
        assert h.wait_line(r"log cluster=(\S+)", start=start)[1] == cluster
    h.expect_stat("sni_router.routed_istio", 1)


def test_sni_router_refuses_by_reset_or_alert(hbone, upstream):
    cluster = c.cluster("up", upstream.port)
    route = {"routes": [{"server_names": ["a.example"], "cluster": "up"}]}
    h = hbone(passthrough(router(**route), c.tcp_proxy("x"), clusters=[cluster]))
    assert_reset(h, net.client_hello("b.example"))
    h.wait_line(r"log .*flags=NR details=unknown_sni")
    assert h.reload(passthrough(router(alert_unrecognized_name=True, **route), c.tcp_proxy("x"), clusters=[cluster]))
    with connect(h) as s:
        s.sendall(net.client_hello("b.example"))
        assert net.read_all(s) == b"\x15\x03\x03\x00\x02\x02\x70", "not the fatal alert 112"
    assert h.stat("sni_router.unknown_sni") == 2 and upstream.accepted == 0


@pytest.mark.peer("openssl")
def test_openssl_understands_the_alert(hbone):
    h = hbone(passthrough(router(routes=[{"server_names": ["a.example"], "cluster": "x"}], alert_unrecognized_name=True),
                          c.tcp_proxy("x"), clusters=[c.cluster("x", 1)]))
    done = subprocess.run(["openssl", "s_client", "-connect", f"127.0.0.1:{h.port('in')}", "-servername", "b.example"],
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert "unrecognized name" in done.stderr, done.stderr


def test_sni_cluster(hbone, upstream):
    h = hbone(passthrough(c.typed("sni", NETWORK + "sni_cluster.v3.SniCluster"), c.tcp_proxy("unused", access_log=[LOG]),
                          clusters=[c.cluster("a.example", upstream.port)]))
    assert echoed(h, net.client_hello("a.example"))
    assert_reset(h, net.client_hello("b.example"))
    h.wait_line(r"log .*flags=NC")


def test_set_filter_state_chooses_the_cluster(hbone, upstream):
    value = {"object_key": "envoy.tcp_proxy.cluster",
             "format_string": {"text_format_source": {"inline_string": "to-%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"}}}
    h = hbone(plain(c.typed("state", NETWORK + "set_filter_state.v3.Config", on_new_connection=[value]),
                    c.tcp_proxy("unused"), clusters=[c.cluster("to-127.0.0.3", upstream.port)]))
    assert echoed(h, source=("127.0.0.3", 0))
    assert_reset(h)


# ------------------------------------------------------------------ limits and answers

def test_connection_limit(hbone):
    h = hbone(plain(c.typed("limit", NETWORK + "connection_limit.v3.ConnectionLimit", stat_prefix="l", max_connections=2), ECHO))
    first, second = connect(h), connect(h)
    for s in (first, second):
        s.sendall(b"x")
        assert net.read_exactly(s, 1) == b"x"
    assert_reset(h)
    assert (h.stat("connection_limit.l.active_connections"), h.stat("connection_limit.l.limited_connections")) == (2, 1)
    first.close()
    until(lambda: h.stat("connection_limit.l.active_connections") == 1, "one to close")
    assert echoed(h)
    second.close()


def test_local_ratelimit(hbone):
    bucket = {"max_tokens": 3, "tokens_per_fill": 3, "fill_interval": "3600s"}
    h = hbone(plain(c.typed("rate", NETWORK + "local_ratelimit.v3.LocalRateLimit", stat_prefix="r", token_bucket=bucket), ECHO))
    assert all(echoed(h) for _ in range(3))
    assert_reset(h)
    h.expect_stat("local_rate_limit.r.rate_limited", 1)


@pytest.mark.parametrize("inline", [True, False])
def test_direct_response(hbone, tmp_path, inline):
    file = tmp_path / "answer"
    file.write_bytes(b"closed for today\n")
    source = {"inline_string": "closed for today\n"} if inline else {"filename": str(file)}
    h = hbone(plain(c.typed("answer", NETWORK + "direct_response.v3.Config", response=source)))
    with connect(h) as s:
        assert net.read_all(s) == b"closed for today\n"


def test_echo_passes_a_half_close(hbone):
    h = hbone(plain(ECHO))
    data = net.pattern(3 << 20)
    with connect(h) as s:
        sender = threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR)))
        sender.start()
        assert net.read_all(s) == data
        sender.join()


# ------------------------------------------------------------------ tcp_proxy

def test_tcp_proxy_idle_timeout_and_duration(hbone, upstream):
    h = hbone(plain(c.tcp_proxy("up", idle_timeout="0.1s", access_log=[LOG]), clusters=[c.cluster("up", upstream.port)]))
    with connect(h) as s:
        s.sendall(b"x")
        assert net.read_all(s) == b"x"
    h.wait_line(r"log .*flags=SI")
    h.expect_stat("tcp.t.idle_timeout", 1)
    assert h.reload(plain(c.tcp_proxy("up", max_downstream_connection_duration="0.1s", access_log=[LOG]),
                          clusters=[c.cluster("up", upstream.port)]))
    with connect(h) as s:
        assert net.read_all(s) == b""
    h.wait_line(r"log .*flags=DT")
    h.expect_stat("tcp.t.max_downstream_connection_duration", 1)
