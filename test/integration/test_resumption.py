# SPDX-License-Identifier: Apache-2.0
"""TLS sessions that are resumed, by foreign clients and by our own; and those that must not be."""
import os
import shutil
import socket
import ssl
import subprocess

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from support import config as c
from support import net, tunnels
from support.proc import SLOW, run, until
from test_identity import (Authority, TLS, chain, client_config, common, crl_of, downstream, echo,  # noqa: F401
                           server_config, upstream)

ONE = ("--concurrency", "1")


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


def listener_stat(h, name):
    return h.stats(r"listener\..*\.ssl\." + name)


class OpenSSL:
    """openssl s_client that sends a line, waits for its echo, and keeps its session in a file."""

    def __init__(self, folder, session):
        self.folder, self.session = folder, session

    def connect(self, port, resume):
        argv = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "server.example", "-CAfile",
                str(self.folder / "root-cert.pem"), "-cert", str(self.folder / "cert-chain.pem"), "-key",
                str(self.folder / "key.pem"), "-sess_out", str(self.session)]
        if resume:
            argv += ["-sess_in", str(self.session)]
        with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True) as child:
            out = []
            try:
                child.stdin.write("echo this\n")
                child.stdin.flush()
                for line in child.stdout:
                    out.append(line)
                    # The echo comes after the tickets.
                    if line.startswith("echo this"):
                        child.stdin.write("Q\n")
                        child.stdin.flush()
            except BrokenPipeError:
                pass
            child.stdin.close()
            child.wait(timeout=60 * SLOW)
        return "".join(out)


@pytest.mark.peer("openssl")
def test_openssl_resumes(hbone, authority, echo, tmp_path):  # noqa: F811
    """A session is resumed until trust, our certificate or the client's standing has changed."""
    server, client = authority.issue("server"), authority.issue("client")
    crl = tmp_path / "crl"
    crl.write_bytes(crl_of(authority).public_bytes(Encoding.PEM))
    h = hbone(server_config(server, echo.port, crl={"filename": str(crl)}), "--concurrency", "1")
    s_client = OpenSSL(client, tmp_path / "session")
    assert "New, TLSv1.3" in s_client.connect(h.port("tls"), False)
    for _ in range(3):
        assert "Reused, TLSv1.3" in s_client.connect(h.port("tls"), True)
    assert listener_stat(h, "session_reused") == 3
    assert h.stat("tls.sessions_resumed") == 3 and h.stat("tls.tickets_refused") == 0
    assert h.stat("tls.verified_chain_misses") == 1

    shutil.copytree(authority.issue("next"), tmp_path / "new")
    for name in ("key.pem", "cert-chain.pem"):
        os.replace(tmp_path / "new" / name, server / name)
    until(lambda: h.stat("identity.reloads") >= 1, "the new certificate")
    until(lambda: "New, TLSv1.3" in s_client.connect(h.port("tls"), True), "a full handshake")
    assert "Reused, TLSv1.3" in s_client.connect(h.port("tls"), True)

    reloads = h.stat("identity.reloads")
    crl.write_bytes(crl_of(authority, client).public_bytes(Encoding.PEM))
    until(lambda: h.stat("identity.reloads") > reloads, "the revocation")
    reused = listener_stat(h, "session_reused")
    out = s_client.connect(h.port("tls"), True)
    assert "Reused" not in out and "revoked" in out
    assert listener_stat(h, "session_reused") == reused
    assert listener_stat(h, "fail_verify_error") >= 1


NODE = """
const tls = require('tls'), fs = require('fs');
const [port, folder] = process.argv.slice(2);
const options = {port, host: '127.0.0.1', servername: 'server.example',
    ca: fs.readFileSync(folder + '/root-cert.pem'), cert: fs.readFileSync(folder + '/cert-chain.pem'),
    key: fs.readFileSync(folder + '/key.pem')};
let left = 4, session;
function once() {
    const s = tls.connect({...options, session}, () => { console.log(s.isSessionReused()); s.write('hello'); });
    s.on('session', (b) => { session = b; });
    s.on('data', () => s.end());
    s.on('error', (e) => { console.log('error ' + e.message); });
    s.on('close', () => { if (--left > 0) once(); });
}
once();
"""


@pytest.mark.peer("node")
def test_node_resumes(hbone, authority, echo, tmp_path):  # noqa: F811
    script = tmp_path / "resume.js"
    script.write_text(NODE, encoding="utf-8")
    server, client = authority.issue("server"), authority.issue("client")
    h = hbone(server_config(server, echo.port), "--concurrency", "1")
    out = subprocess.run(["node", str(script), str(h.port("tls")), str(client)], capture_output=True, text=True,
                         timeout=60 * SLOW, check=True).stdout
    assert out.split() == ["false", "true", "true", "true"]
    assert listener_stat(h, "session_reused") == 3


def hello(port):
    with socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT) as s:
        s.sendall(b"hello")
        return net.read_exactly(s, 5)


def test_our_client_resumes(hbone, authority, echo):  # noqa: F811
    """Each connection of the plain side is a TLS connection of its own; a new certificate begins anew."""
    server, client = authority.issue("server"), authority.issue("client")
    far = hbone(server_config(server, echo.port), "--concurrency", "1")
    near = hbone(client_config(client, far.port("tls")), "--concurrency", "1")
    for _ in range(5):
        assert hello(near.port("plain")) == b"hello"
    near.expect_stat("cluster.far.ssl.session_reused", 4)
    near.expect_stat("cluster.far.ssl.handshake", 5)
    assert listener_stat(far, "session_reused") == 4
    other = authority.issue("another")
    for name in ("key.pem", "cert-chain.pem"):
        os.replace(other / name, client / name)
    until(lambda: near.stat("identity.reloads") >= 1, "the new certificate")
    assert hello(near.port("plain")) == b"hello"
    near.expect_stat("cluster.far.ssl.session_reused", 4)
    assert hello(near.port("plain")) == b"hello"
    near.expect_stat("cluster.far.ssl.session_reused", 5)


def test_inner_tunnels_resume(hbone, certs, echo):  # noqa: F811
    """Double HBONE makes an inner session for each connection; the second one is resumed, through the same outer one."""
    inner = hbone(tunnels.server(certs, [{"filters": [c.tcp_proxy("app")]}], clusters=[c.cluster("app", echo.port)]), *ONE)
    gateway = hbone(tunnels.server(certs, [{"filters": [c.tcp_proxy("workload")]}], cert="client",
                                   clusters=[c.cluster("workload", inner.port("hbone"))]), *ONE)
    through = {"transport_socket": tunnels.tls(certs, peer=tunnels.CLIENT), "port": 0}
    h = hbone(tunnels.client(certs, gateway.port("hbone"), authority="svc.example:80", through=through), *ONE)
    for _ in range(5):
        with tunnels.connect(h) as s:
            s.sendall(b"hello")
            assert net.read_exactly(s, 5) == b"hello"
    assert inner.stat("tls.sessions_resumed") == 4 and gateway.stat("tls.sessions_resumed") == 0
    h.expect_stat("cluster.peer.ssl.session_reused", 4)
    h.expect_stat("cluster.peer.upstream_cx_total", 1)


@pytest.mark.peer("python-ssl")
def test_tunnel_server_resumes(hbone, certs):
    """On by default: the ticket comes with the server's SETTINGS."""
    h = hbone(tunnels.server(certs), "--concurrency", "1")
    context = ssl.create_default_context(cafile=str(certs.ca))
    context.load_cert_chain(certs.pem("client"), certs.key("client"))
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    session = None
    for i in range(3):
        raw = socket.create_connection(("127.0.0.1", h.port("hbone")), timeout=net.TIMEOUT)
        with context.wrap_socket(raw, session=session) as s:
            s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\4" + bytes(5))
            assert net.read_exactly(s, 9)[3] == 4  # SETTINGS
            assert s.session_reused == (i > 0)
            session = s.session
    assert listener_stat(h, "session_reused") == 2
    assert h.stat("tls.verified_chain_misses") == 1


def test_off_on_either_side(hbone, authority, echo):  # noqa: F811
    server, client = authority.issue("server"), authority.issue("client")
    socket_off = downstream(server)
    socket_off["typed_config"]["disable_stateless_session_resumption"] = True
    far = hbone(c.bootstrap([c.listener("off", chain("app", transport_socket=socket_off), ()),
                             c.listener("on", chain("app", transport_socket=downstream(server)), ())],
                            [c.cluster("app", echo.port)]), "--concurrency", "1")
    none = upstream(client)
    none["typed_config"]["max_session_keys"] = 0
    near = hbone(c.bootstrap(
        [c.listener("a", chain("to-off"), ()), c.listener("b", chain("none"), ())],
        [c.cluster("to-off", far.port("off"), transport_socket=upstream(client)),
         c.cluster("none", far.port("on"), transport_socket=none)]), "--concurrency", "1")
    for name in ("a", "b"):
        for _ in range(3):
            assert hello(near.port(name)) == b"hello"
    assert near.stats(r"cluster\..*\.ssl\.session_reused") == 0
    assert near.stats(r"cluster\..*\.ssl\.handshake") == 6


@pytest.mark.peer("openssl")
def test_keys_that_two_processes_share(hbone, authority, echo, tmp_path):  # noqa: F811
    server, client = authority.issue("server"), authority.issue("client")
    key = tmp_path / "ticket.key"
    key.write_bytes(os.urandom(80))
    transport = downstream(server)
    transport["typed_config"]["session_ticket_keys"] = {"keys": [{"filename": str(key)}]}
    config = c.bootstrap([c.listener("tls", chain("app", transport_socket=transport), ())],
                         [c.cluster("app", echo.port)])
    one, two = hbone(config, "--concurrency", "1"), hbone(config, "--concurrency", "1")
    s_client = OpenSSL(client, tmp_path / "session")
    assert "New, TLSv1.3" in s_client.connect(two.port("tls"), False)  # it knows the chain now
    assert "New, TLSv1.3" in s_client.connect(one.port("tls"), False)
    assert "Reused, TLSv1.3" in s_client.connect(two.port("tls"), True)
    # A new key: what is out is of no use.
    key.write_bytes(os.urandom(79))
    until(lambda: one.stat("identity.reload_refused") == 1, "the refusal")
    assert "Reused, TLSv1.3" in s_client.connect(one.port("tls"), True)
    key.write_bytes(os.urandom(80))
    until(lambda: one.stat("identity.reloads") == 1, "the new key")
    assert "New, TLSv1.3" in s_client.connect(one.port("tls"), True)
    assert "Reused, TLSv1.3" in s_client.connect(one.port("tls"), True)


def test_keys_are_checked(authority, tmp_path):
    server = authority.issue("server")
    short = tmp_path / "short.key"
    short.write_bytes(b"x" * 48)
    transport = {"name": "tls", "typed_config": {"@type": TLS + "DownstreamTlsContext", "common_tls_context": common(server),
                                                 "session_ticket_keys": {"keys": [{"filename": str(short)}]}}}
    path = tmp_path / "c.yaml"
    path.write_text(c.bootstrap([c.listener("tls", chain("app", transport_socket=transport), ())],
                                [c.cluster("app", 1)]), encoding="utf-8")
    code, _, err = run("validate", "-c", str(path))
    assert code == 2 and "has 48 bytes; a key has 80" in err
