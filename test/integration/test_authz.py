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


@pytest.mark.peer("python-ssl")
def test_by_identity(hbone, certs):
    allowed = policy("clients", principals=[{"exact": "cluster.local/ns/default/sa/client"}])
    chain = {"name": "mtls", "filters": [authz(policies=[allowed]), ECHO],
             "transport_socket": c.tls_downstream(certs, "a", require_client=True)}
    h = hbone(c.bootstrap([c.listener("web", [chain], inspectors=())], []))
    with net.tls_connect(h.port("web"), certs, "a.example", cert="client") as s:
        talk(s)
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
