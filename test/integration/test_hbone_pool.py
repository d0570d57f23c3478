# SPDX-License-Identifier: Apache-2.0
"""Connections that tunnels share: trust and certificates that change under them, the end of the process, hot peers."""
import datetime
import os
import socket
import ssl
import types

import h2.events
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from support import certs as certs_module
from support import net
from support.h2server import Server, Session
from support.proc import until
from support.tunnels import CLIENT, ECHO, address, client, connect, read_to_the_end, server, tls

ONE = ("--concurrency", "1")


@pytest.fixture
def own(tmp_path):
    """Certificates that only this test has, with a revocation list."""
    folder = tmp_path / "certs"
    folder.mkdir()
    certs = certs_module.make(folder)
    certs.crl = folder / "crl.pem"
    ca, key = certs_module.load(folder, "ca")

    def revoke(*names):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
                   .last_update(now - datetime.timedelta(hours=1)).next_update(now + datetime.timedelta(days=1)))
        for name in names:
            cert = x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(cert.serial_number).revocation_date(now).build())
        replace(certs.crl, builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))

    def renew(name):
        """Another key and certificate of the same identity, first beside the old ones."""
        fresh = tmp_path / "fresh"
        fresh.mkdir(exist_ok=True)
        certs_module.leaf(fresh, name, (ca, key), uri=[certs_module.MESH + name])
        for end in "pem", "key":
            replace(folder / f"{name}.{end}", (fresh / f"{name}.{end}").read_bytes())
    certs.revoke, certs.renew = revoke, renew
    revoke()
    return certs


def replace(path, data):
    temporary = path.with_suffix(".new")
    temporary.write_bytes(data)
    os.replace(temporary, path)


class Careful(Server):
    """Notes how each connection ended: GOAWAY before, close_notify or not."""

    def __init__(self, certs):
        super().__init__(certs)
        self.ends = []
        context = net.server_context(certs, "echo", ["h2"])
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(str(certs.ca))

        def handle(raw):
            s = context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False)
            session = Session(self, s)
            end = types.SimpleNamespace(goaway=False, how="")
            plain = session._event

            def event(e):
                end.goaway = end.goaway or isinstance(e, h2.events.ConnectionTerminated)
                plain(e)
            session._event = event
            self.sessions.append(session)
            try:
                session.run()
                end.how = "close_notify"
            except (OSError, ssl.SSLError) as e:
                end.how = repr(e)
            self.ends.append(end)
            s.close()
        self.handle = handle


@pytest.fixture
def peer(own, cleanup):
    s = Careful(own)
    s.on_data = lambda session, stream, data: session.send(stream, bytes(data))
    s.on_end = lambda session, stream: session.send(stream, b"", end=True)
    cleanup(s.close)
    return s


def with_crl(certs, text):
    return text.replace('"trusted_ca"', f'"crl": {{"filename": "{certs.crl}"}}, "trusted_ca"')


def echoes(s, data=b"hello"):
    s.sendall(data)
    return net.read_exactly(s, len(data)) == data


def used(h, n=1):
    """One stream came and went on each of n connections at once."""
    open_ = [connect(h) for _ in range(n)]
    for s in open_:
        assert echoes(s)
    for s in open_:
        s.shutdown(socket.SHUT_WR)
        assert net.read_all(s) == b""
        s.close()


@pytest.mark.peer("python-h2")
def test_revoked_endpoint(hbone, own, peer):
    """Live streams end with a reset and the reason; nobody comes there any more."""
    h = hbone(with_crl(own, client(own, peer.port)), *ONE)
    with connect(h) as a, connect(h) as b:
        assert echoes(a) and echoes(b)
        assert len(peer.sessions) == 1
        own.revoke("client")  # somebody else
        until(lambda: h.stat("identity.reloads") == 1, "the list")
        assert echoes(a) and echoes(b)
        own.revoke("client", "echo")
        assert read_to_the_end(a)[1] == "reset" and read_to_the_end(b)[1] == "reset"
    h.expect_stat("cluster.peer.ssl.revoked", 1)
    h.wait_line(r"a live connection is ended: its peer is no longer trusted.*sa/echo.*revoked")
    h.wait_line(r"flags=UAEX")
    with pytest.raises(OSError):  # perhaps while it connects
        with connect(h) as s:
            net.read_exactly(s, 1)
    h.wait_line(r"why=TLS: certificate revoked")


@pytest.mark.peer("python-h2")
def test_revoked_workload_behind_a_gateway(hbone, own, peer):
    """The inner session of double HBONE, which lies in a stream of a connection that stays."""
    gateway = hbone(server(own, cert="client"), *ONE)
    outer = {"transport_socket": tls(own, peer=CLIENT), "port": gateway.port("hbone"), "authority": address(peer)}
    config = client(own, peer.port, through=outer)
    h = hbone(with_crl(own, config), *ONE)
    with connect(h) as s:
        assert echoes(s)
        own.revoke("echo")
        assert read_to_the_end(s)[1] == "reset"
    h.expect_stat("cluster.peer.ssl.revoked", 1)
    h.wait_line(r"a live connection is ended: its peer is no longer trusted.*sa/echo.*revoked")


@pytest.mark.peer("python-h2")
def test_replaced_certificate(hbone, own, peer):
    """An idle connection with the old one goes at once, one in use with its last stream."""
    h = hbone(client(own, peer.port), *ONE)
    used(h)
    h.expect_stat("cluster.peer.hbone_pool.idle", 1)
    own.renew("client")
    until(lambda: len(peer.ends) == 1, "the end of the idle connection")
    h.expect_stat("cluster.peer.hbone_pool.stale", 1)
    with connect(h) as s:
        assert echoes(s)
        own.renew("client")
        h.expect_stat("cluster.peer.hbone_pool.stale", 2)
        assert echoes(s)
        used(h)
        assert len(peer.sessions) == 3 and len(peer.ends) == 1
    until(lambda: len(peer.ends) == 2, "the end of the used connection")
    assert [(e.goaway, e.how) for e in peer.ends] == [(True, "close_notify")] * 2


@pytest.mark.peer("python-h2")
def test_end_of_the_process(hbone, own, peer):
    h = hbone(client(own, peer.port), *ONE)
    used(h)
    h.expect_stat("cluster.peer.hbone_pool.idle", 1)
    h.stop()
    until(lambda: len(peer.ends) == 1, "the end")
    assert (peer.ends[0].goaway, peer.ends[0].how) == (True, "close_notify")


@pytest.mark.peer("python-h2")
def test_changed_identities(hbone, own, peer):
    """A cluster that is replaced by one with other allowed identities takes its old connections with it."""
    h = hbone(client(own, peer.port), *ONE)
    with connect(h) as s:
        assert echoes(s)
        assert h.reload(client(own, peer.port, forwarded=False))
        assert echoes(s)
        assert h.reload(client(own, peer.port, peer=ECHO + "-2"))
        assert read_to_the_end(s)[1] == "reset"
    h.expect_stat("cluster.peer.ssl.revoked", 1)


@pytest.mark.peer("python-h2")
def test_hot_peer(hbone, own, peer):
    """Another connection before one is full, and away with it when it is not needed."""
    h = hbone(client(own, peer.port, pool={"hot_streams": 2, "surplus_idle_timeout": "0.5s"}), *ONE)
    open_ = []
    for n in range(3):
        open_.append(connect(h))
        assert echoes(open_[n])
    until(lambda: len(peer.sessions) == 2, "the second connection")
    h.expect_stat("cluster.peer.hbone_pool.spread", 1)
    for s in open_:
        s.close()
    h.expect_stat("cluster.peer.hbone_pool.surplus", 1)
    h.expect_stat("cluster.peer.hbone_pool.connections", 1)
    used(h)
