# SPDX-License-Identifier: Apache-2.0
"""Istio's authorization policies on plain and on mTLS connections, and what a changed policy does to open ones."""
import socket
import ssl

import pytest

from support import config as c
from support import net
from support.proc import run, until

ECHO = c.typed("echo", "envoy.extensions.filters.network.echo.v3.Echo")
CLOSED = (ConnectionResetError, BrokenPipeError, EOFError, ssl.SSLError)


def policy(name, action="ALLOW", groups=None, **match):
    if match:
        groups = [{"rules": [{"matches": [match]}]}]
    return {"name": name, "namespace": "shop", "action": action, "groups": groups or [], "scope": "NAMESPACE"}


def authz(**fields):
    return c.typed("authz", "hbone.filters.network.authz.Authz", stat_prefix="p", **fields)


def shared(port, *policies):
    filters = [authz(shared_policies=True, namespace="shop"), ECHO]
    options = {"name": "options", "typed_config": {"@type": c.TYPE + "hbone.bootstrap.Options",
                                                   "authorization_policies": list(policies)}}
    return c.bootstrap([c.listener("web", [{"name": "all", "filters": filters}], inspectors=(), port=port)], [],
                       bootstrap_extensions=[options])


def talk(s, data=b"hello"):
    s.sendall(data)
    assert net.read_exactly(s, len(data)) == data


def connect(port):
    return socket.create_connection(("127.0.0.1", port), timeout=20)


def test_a_reload_ends_what_policies_no_longer_allow(hbone):
    h = hbone(shared(0, policy("open", destination_ips=[{"cidr": "127.0.0.0/8"}])))
    port = h.port("web")
    s = connect(port)
    talk(s)
    # The same listener, other policies.
    assert h.reload(shared(0, policy("open", destination_ips=[{"cidr": "127.0.0.0/8"}]),
                           policy("unrelated", "DENY", destination_ports=[1]))), h.output()
    talk(s, b"still")
    assert h.reload(shared(0, policy("open", destination_ips=[{"cidr": "10.0.0.0/8"}]))), h.output()
    with pytest.raises(CLOSED):
        net.read_exactly(s, 1)
    s.close()
    assert h.port("web") == port
    until(lambda: h.stat("authz.p.revoked") == 1, "the counter")
    with pytest.raises(CLOSED), connect(port) as refused:
        net.read_exactly(refused, 1)
    h.expect_stat("authz.p.denied", 1)
    assert 'reason="allow policies exist, but none allowed"' in h.output()
    # A policy that is refused leaves the last good one.
    assert not h.reload(shared(0, policy("open", destination_ports=[65616])))
    assert "65616 is no port" in h.output()
    with pytest.raises(CLOSED), connect(port) as refused:
        net.read_exactly(refused, 1)
    assert h.reload(shared(0)), h.output()
    with connect(port) as s:
        talk(s)


def rbac(ip):
    return c.typed("rbac", "envoy.extensions.filters.network.rbac.v3.RBAC", stat_prefix="r", rules={
        "policies": {"by-address": {"permissions": [{"any": True}], "principals": [
            {"direct_remote_ip": {"address_prefix": ip, "prefix_len": 32}}]}}})


def from_address(port, ip):
    return socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(ip, 0))


@pytest.mark.parametrize("same_listener", (True, False))
@pytest.mark.parametrize("kind", ("authz", "rbac"))
def test_a_reload_ends_what_the_policies_of_a_chain_no_longer_allow(hbone, kind, same_listener):
    def config(ip, backlog=100, **match):
        deny = policy("not-you", "DENY", not_source_ips=[{"cidr": ip + "/32"}])
        filters = [authz(policies=[deny]) if kind == "authz" else rbac(ip), ECHO]
        web = c.listener("web", [{"name": "all", "filters": filters} | match], inspectors=(), port=port)
        return c.bootstrap([web | {"tcp_backlog_size": backlog if not same_listener else 100}], [])
    port = 0
    h = hbone(config("127.0.0.2"), "--drain-time", "30")
    port = h.port("web")
    s = from_address(port, "127.0.0.2")
    talk(s)
    with pytest.raises(CLOSED), from_address(port, "127.0.0.3") as refused:
        net.read_exactly(refused, 1)
    # Another chain that lets it stay: it drains.
    assert h.reload(config("127.0.0.2", 101, transport_socket_connect_timeout="7s")), h.output()
    talk(s, b"still")
    # None that it could have: it drains, too.
    assert h.reload(config("127.0.0.3", 102, filter_chain_match={"source_prefix_ranges": [
        {"address_prefix": "192.0.2.0", "prefix_len": 24}]})), h.output()
    talk(s, b"again")
    assert h.reload(config("127.0.0.3", 103)), h.output()
    with pytest.raises(CLOSED):
        net.read_exactly(s, 1)
    s.close()
    name = "authz.p" if kind == "authz" else "r.rbac"
    until(lambda: h.stat(name + ".revoked") == 1, "the counter")
    until(lambda: ("policy=shop/not-you" if kind == "authz" else "policy=none") in h.output(), "the log line")
    with from_address(port, "127.0.0.3") as s:
        talk(s)


@pytest.mark.peer("python-ssl")
def test_a_handshake_that_ends_after_the_reload_meets_the_new_policies(hbone, certs):
    def config(name):
        allowed = policy("clients", principals=[{"exact": "cluster.local/ns/default/sa/" + name}])
        chain = {"name": "mtls", "filters": [authz(policies=[allowed]), ECHO],
                 "transport_socket": c.tls_downstream(certs, "a", require_client=True)}
        return c.bootstrap([c.listener("web", [chain], inspectors=(), port=port)], [])
    port = 0
    h = hbone(config("client"), "--drain-time", "30")
    port = h.port("web")
    raw = connect(port)
    until(lambda: "handshake" in h.get("/connections")[1], "the connection to be there")
    assert h.reload(config("echo")), h.output()
    with pytest.raises(CLOSED), net.client_context(certs, (), "client").wrap_socket(
            raw, server_hostname="a.example") as s:
        net.read_exactly(s, 1)
    until(lambda: h.stat("authz.p.revoked") == 1, "the counter")


@pytest.mark.peer("python-ssl")
def test_by_identity(hbone, certs):
    allowed = policy("clients", principals=[{"exact": "cluster.local/ns/default/sa/client"}])
    chain = {"name": "mtls", "filters": [authz(policies=[allowed]), ECHO],
             "transport_socket": c.tls_downstream(certs, "a", require_client=True)}
    h = hbone(c.bootstrap([c.listener("web", [chain], inspectors=())], []), "--component-log-level", "rbac:debug")
    with net.tls_connect(h.port("web"), certs, "a.example", cert="client") as s:
        talk(s)
    h.wait_line("allowed conn=.* policy=shop/clients .*peer=spiffe://cluster.local/ns/default/sa/client")
    with pytest.raises(CLOSED), net.tls_connect(h.port("web"), certs, "a.example", cert="echo") as s:
        talk(s)
    until(lambda: h.stat("authz.p.denied") == 1, "the counter")
    h.expect_stat("authz.p.allowed", 1)


def test_explain_names_the_policy(tmp_path):
    path = tmp_path / "explained.json"
    path.write_text(shared(15443, policy("not-that", "DENY", destination_ports=[15443])))
    code, out, err = run("explain", "-c", str(path), "--dst", "127.0.0.1:15443")
    assert code == 0, err
    assert "explicitly denied by: shop/not-that" in out
