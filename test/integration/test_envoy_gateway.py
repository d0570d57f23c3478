# SPDX-License-Identifier: Apache-2.0
"""One configuration file, run by Envoy and by us: the same answers."""
import hashlib
import socket
import ssl

import pytest

from support import net
from support.envoy import Envoy, free_port, render
from support.proc import SLOW

EXACT = "outbound_.80_._.echo.default.svc.cluster.local"
GENERIC = "outbound_.8080_.v1_.echo.default.svc.cluster.local"


@pytest.fixture(params=["hbone", "envoy"])
def gateway(request, hbone, certs, tmp_path, cleanup):
    """(port of the SNI gateway, the application behind the backend)."""
    app = net.Server(net.echo)
    cleanup(app.close)
    ports = {"ADMIN_PORT": free_port(), "SNI_PORT": free_port(), "BACKEND_PORT": free_port()}
    config = render("istio-sni-gateway.yaml", CERTS=certs.folder, CERT="echo", NODE="sni", APP_PORT=app.port, **ports)
    if request.param == "hbone":
        hbone(config)
    else:
        if not request.getfixturevalue("envoy_there"):
            pytest.skip("peer envoy is not installed; ./dev setup installs it")
        cleanup(Envoy(tmp_path, config, ports["ADMIN_PORT"]).stop)
    return ports["SNI_PORT"], app


@pytest.fixture
def envoy_there():
    from conftest import version_of
    return version_of("envoy") is not None


def connect(port, certs, name, alpn=("istio",)):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(str(certs.ca))
    context.load_cert_chain(certs.pem("client"), certs.key("client"))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    raw = socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT)
    return context.wrap_socket(raw, server_hostname=name)


@pytest.mark.peer("envoy")
@pytest.mark.parametrize("name", [EXACT, GENERIC, EXACT.upper()])
def test_known_names_reach_the_application(gateway, certs, name):
    port, _ = gateway
    data = net.pattern((8 << 20) // SLOW)
    with connect(port, certs, name) as s:
        digest = hashlib.sha256()
        for at in range(0, len(data), 1 << 16):
            s.sendall(data[at:at + (1 << 16)])
            digest.update(net.read_exactly(s, len(data[at:at + (1 << 16)])))
        assert digest.digest() == hashlib.sha256(data).digest()


@pytest.mark.peer("envoy")
@pytest.mark.parametrize("name,alpn", [
    ("outbound_.81_._.echo.default.svc.cluster.local", ("istio",)),
    ("www.example.com", ("istio",)),
    (None, ("istio",)),
    (EXACT, ()),
    (EXACT, ("h2",)),
])
def test_everything_else_is_reset(gateway, certs, name, alpn):
    port, app = gateway
    with pytest.raises(ConnectionResetError):
        connect(port, certs, name, alpn).close()
    assert app.accepted == 0
