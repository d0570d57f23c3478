# SPDX-License-Identifier: Apache-2.0
"""Certificates: the commands, replacing them under load, identity rules, revocation, key exchange groups."""
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time

import pytest
from cryptography import x509

from support import config as c
from support import net
from support import tunnels
from support.proc import BIN, SLOW, Child, run, until

MESH = "spiffe://cluster.local/ns/prod/sa/"
TLS = c.TYPE + "envoy.extensions.transport_sockets.tls.v3."


class Authority:
    """An authority of our own making in a folder; issue() writes NAMESPACE/ACCOUNT below it."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        code, out, err = run("ca", "init", str(folder))
        assert code == 0 and "TESTS" in err and "ca-key.pem" in out

    def issue(self, account, namespace="prod", *options):
        code, out, err = run("ca", "issue", str(self.folder), "--id",
                             f"spiffe://cluster.local/ns/{namespace}/sa/{account}", "--dns", "server.example", *options)
        assert code == 0, err
        return pathlib.Path(out.strip())


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path / "ca")


def common(folder, rules=None, **validation):
    """A CommonTlsContext of the files that `hbone ca issue` writes."""
    if rules is not None:
        validation["custom_validator_config"] = {"name": "rules", "typed_config": {
            "@type": c.TYPE + "hbone.identity.SpiffeRules", **rules}}
    return {"tls_certificates": [{"certificate_chain": {"filename": f"{folder}/cert-chain.pem"},
                                  "private_key": {"filename": f"{folder}/key.pem"}}],
            "validation_context": {"trusted_ca": {"filename": f"{folder}/root-cert.pem"}, **validation}}


def downstream(folder, **fields):
    return {"name": "tls", "typed_config": {"@type": TLS + "DownstreamTlsContext", "require_client_certificate": True,
                                            "common_tls_context": common(folder, **fields)}}


def upstream(folder, **fields):
    return {"name": "tls", "typed_config": {"@type": TLS + "UpstreamTlsContext",
                                            "common_tls_context": common(folder, **fields)}}


def chain(cluster, **fields):
    return [{"name": "only", "filters": [c.tcp_proxy(cluster)], **fields}]


def server_config(folder, port, **fields):
    return c.bootstrap([c.listener("tls", chain("app", transport_socket=downstream(folder, **fields)), ())],
                       [c.cluster("app", port)])


def client_config(folder, port, **fields):
    return c.bootstrap([c.listener("plain", chain("far"), ())],
                       [c.cluster("far", port, transport_socket=upstream(folder, **fields))])


def tunnel_server_config(folder, port, **fields):
    return json.dumps(with_tunnels(json.loads(server_config(folder, port, **fields)), "listeners"))


def tunnel_client_config(folder, port, **fields):
    return json.dumps(with_tunnels(json.loads(client_config(folder, port, **fields)), "clusters"))


def with_tunnels(doc, kind):
    """The same connections as streams of HBONE: a server around the listener's filters, or a tunnel around the cluster."""
    holder = doc["static_resources"][kind][0]
    if kind == "listeners":
        holder = holder["filter_chains"][0]
        holder["filters"] = [c.typed("hbone", tunnels.SERVER, stat_prefix="t", filter_chains=[{"filters": holder["filters"]}])]
    holder["transport_socket"]["typed_config"]["common_tls_context"]["alpn_protocols"] = ["h2"]
    if kind == "clusters":
        holder["transport_socket"] = tunnels.tunnel(holder["transport_socket"])
    return doc


def client_context(folder):
    context = ssl.create_default_context(cafile=str(folder / "root-cert.pem"))
    context.load_cert_chain(folder / "cert-chain.pem", folder / "key.pem")
    return context


def client_without(folder):
    return ssl.create_default_context(cafile=str(folder / "root-cert.pem"))


def tls_connect(port, folder):
    raw = socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT)
    return client_context(folder).wrap_socket(raw, server_hostname="server.example")


def serial_of(folder):
    return x509.load_pem_x509_certificate((folder / "cert-chain.pem").read_bytes()).serial_number


def serial_served(port, folder):
    with tls_connect(port, folder) as s:
        return x509.load_der_x509_certificate(s.getpeercert(True)).serial_number


@pytest.fixture
def echo(cleanup):
    server = net.Server(net.echo)
    cleanup(server.close)
    return server


# -- the commands


def test_ca_issues_what_check_finds_good(authority):
    folder = authority.issue("web")
    assert folder == authority.folder / "prod" / "web"
    for key in (folder / "key.pem", authority.folder / "ca-key.pem"):
        assert key.stat().st_mode & 0o777 == 0o600
    code, out, _ = run("cert", "check", str(folder))
    assert code == 0 and out.startswith(f"good: {MESH}web until ") and "verified as client and server" in out
    leaf = x509.load_pem_x509_certificate((folder / "cert-chain.pem").read_bytes())
    ca = x509.load_pem_x509_certificate((authority.folder / "ca.pem").read_bytes())
    leaf.verify_directly_issued_by(ca)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [MESH + "web"]
    assert names.get_values_for_type(x509.DNSName) == ["server.example"]
    assert leaf.extensions.get_extension_for_class(x509.KeyUsage).critical
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_ca_refuses_what_makes_no_sense(authority):
    code, _, err = run("ca", "init", str(authority.folder))
    assert code == 2 and "is there already" in err
    code, _, err = run("ca", "issue", str(authority.folder))
    assert code == 2 and "--id" in err
    code, _, err = run("ca", "issue", str(authority.folder), "--id", "spiffe://cluster.local/other/path")
    assert code == 2 and "--out" in err
    code, _, err = run("ca", "issue", str(authority.folder), "--id", MESH + "x", "--days", "1000")
    assert code == 2 and "fewer --days" in err
    code, _, err = run("ca", "issue", "/does/not/exist", "--id", MESH + "x")
    assert code == 2 and "/does/not/exist/ca.pem" in err


def test_cert_check_says_what_is_wrong(authority):
    web, other = authority.issue("web"), authority.issue("other")
    shutil.copy(other / "key.pem", web / "key.pem")
    code, out, _ = run("cert", "check", str(web))
    assert code == 1 and "does not belong to the first certificate" in out and "copy certificate and key together" in out
    code, out, _ = run("cert", "show", str(web))
    assert code == 0 and f"identity  {MESH}web" in out and "wrong: " in out
    # Files in any order.
    code, out, _ = run("cert", "check", "--json", str(other / "key.pem"), str(other / "cert-chain.pem"),
                       str(other / "root-cert.pem"))
    report = json.loads(out)
    assert code == 0 and report["good"] and report["key"] == {"matches": True, "kind": "P-256"}
    assert report["chain"][0]["identity"] == MESH + "other" and report["verifies_as_server"]
    code, _, err = run("cert", "check", str(authority.folder / "prod"))
    assert code == 2 and "holds no certificate" in err


@pytest.mark.parametrize("name,says", [("expired", r"has expired on 20.*Z: peers refuse it; renew it"),
                                       ("notyet", r"is not valid before 20.*Z: peers refuse it; check the clocks"), ("echo", None)])
def test_validate_tells_of_dates(certs, tmp_path, name, says):
    path = tmp_path / "dates.json"
    path.write_text(c.bootstrap([c.listener("web", [{"filters": [c.tcp_proxy("app")], "transport_socket": c.tls_downstream(
        certs, name)}])], [c.cluster("app", 1)]), encoding="utf-8")
    code, _, err = run("validate", "-c", str(path))
    assert code == 0
    assert (re.search(r"warning: .*tls_certificates\[0\]\.certificate_chain: CN=\w+ \(certificate 1\) " + says, err) if says
            else err == ""), err


def test_command_line_knows_groups():
    code, out, _ = run("cert", "--help")
    assert code == 0 and "cert show" in out and "cert check" in out
    code, _, err = run("ca")
    assert code == 2 and "ca init, ca issue" in err
    code, _, err = run("ca", "isue", "x")
    assert code == 2 and "ca init, ca issue" in err
    code, out, _ = run("help", "ca", "issue")
    assert code == 0 and "--dns" in out
    code, _, err = run("cert", "show", "a", "b", "c", "d", "e")
    assert code == 2 and 'unexpected argument "e"' in err
    assert "cert check" in run("man")[1]


def test_completion_of_groups(tmp_path):
    script = tmp_path / "completion"
    script.write_text(run("completion")[1], encoding="utf-8")

    def complete(*words):
        line = " ".join(f"'{w}'" for w in words)
        return subprocess.run(["bash", "-c", f"source {script}; COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; "
                               "_hbone; echo ${COMPREPLY[@]}"], capture_output=True, text=True, check=True).stdout.split()
    assert {"run", "cert", "ca"} <= set(complete("hbone", ""))
    assert complete("hbone", "ca", "i") == ["init", "issue"]
    assert "--id" in complete("hbone", "ca", "issue", "--")
    assert "--concurrency" in complete("hbone", "run", "--c")


# -- replacing certificates


class Load:
    """Connections one after another in some threads, and one that stays open all the time."""

    def __init__(self, port, threads):
        self.port, self.done, self.failed, self.stopped = port, 0, [], threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._short, daemon=True) for _ in range(threads)]
        self._threads.append(threading.Thread(target=self._long, daemon=True))
        for t in self._threads:
            t.start()

    def _ping(self, s, n):
        data = net.pattern(1000, n)
        s.sendall(data)
        assert net.read_exactly(s, len(data)) == data

    def _run(self, body):
        n = 0
        while not self.stopped.is_set():
            n += 1
            try:
                body(n)
            except (OSError, EOFError, AssertionError) as e:
                self.failed.append(repr(e))
                return

    def _short(self):
        def once(n):
            with socket.create_connection(("127.0.0.1", self.port), timeout=net.TIMEOUT) as s:
                self._ping(s, n)
                s.shutdown(socket.SHUT_WR)
                assert s.recv(1) == b""
            with self._lock:
                self.done += 1
        self._run(once)

    def _long(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=net.TIMEOUT) as s:
            def once(n):
                self._ping(s, n)
                self.stopped.wait(0.05)
            self._run(once)

    def stop(self):
        self.stopped.set()
        for t in self._threads:
            t.join(net.TIMEOUT)
            assert not t.is_alive()


CONFIGS = {"connections": (server_config, client_config), "tunnels": (tunnel_server_config, tunnel_client_config)}


def rotate_under_load(hbone, authority, echo, of, seconds):
    """Both sides' certificates are replaced every 2 s; no connection and no stream may fail."""
    server, client = authority.issue("server"), authority.issue("client")
    server_of, client_of = CONFIGS[of]
    far = hbone(server_of(server, echo.port, rules={}))
    near = hbone(client_of(client, far.port("tls"), rules={"ids": [MESH + "server"]}))
    load = Load(near.port("plain"), 4)
    until(lambda: load.done > 0 or load.failed, "the first connection")
    rotations, end = 0, time.monotonic() + seconds
    while time.monotonic() < end:
        pause = min(2, max(0, end - time.monotonic()))
        authority.issue("server")
        authority.issue("client")
        rotations += 1
        until(lambda: serial_served(far.port("tls"), client) == serial_of(server), "the new certificate")
        load.stopped.wait(pause)
        assert not load.failed, load.failed
    until(lambda: near.stat("identity.reloads") >= rotations, "the client's reloads")
    assert far.stat("identity.reloads") >= rotations
    load.stop()
    assert not load.failed, load.failed
    assert load.done > 10 * rotations
    for h in (far, near):
        assert h.stats(r"\.ssl\.(fail|connection_error)") == 0
        until(lambda p=h: p.stat("identity.retired_contexts") == 0, "old contexts to be freed")


@pytest.mark.parametrize("of,seconds", [("connections", 6), ("tunnels", 60 if SLOW == 1 else 6)])
def test_rotation_under_load(hbone, authority, echo, of, seconds):
    rotate_under_load(hbone, authority, echo, of, seconds)


@pytest.mark.long
@pytest.mark.timeout(400)
def test_rotation_under_load_for_a_minute(hbone, authority, echo):
    rotate_under_load(hbone, authority, echo, "connections", 60)


def test_bad_files_are_refused_and_the_last_good_stay(hbone, authority, echo):
    server, client = authority.issue("server"), authority.issue("client")
    h = hbone(server_config(server, echo.port))
    first = serial_of(server)
    whole = (server / "cert-chain.pem").read_text(encoding="utf-8")
    (server / "cert-chain.pem").write_text(whole[:len(whole) // 2], encoding="utf-8")
    h.wait_line(r"tls: a changed file is refused.*cert-chain\.pem.*")
    h.expect_stat("identity.reload_refused", 1)
    assert serial_served(h.port("tls"), client) == first
    # SIGHUP looks again, says nothing new and changes nothing.
    assert h.reload(h.config_path.read_text(encoding="utf-8"))
    assert h.stat("identity.reload_refused") == 1 and serial_served(h.port("tls"), client) == first
    authority.issue("server")
    until(lambda: serial_served(h.port("tls"), client) == serial_of(server) != first, "the new certificate")
    assert h.stat("server.days_until_first_cert_expiring") in (29, 30)
    shown = h.json("/certs")["certificates"][0]["cert_chain"][0]["serial_number"]
    assert int(shown, 16) == serial_of(server)


def test_kubernetes_secret_is_swapped(hbone, authority, echo, tmp_path):
    """..data is a symbolic link that is replaced, as the kubelet does."""
    client, mount = authority.issue("client"), tmp_path / "mount"
    mount.mkdir()

    def put(number):
        shutil.copytree(authority.issue("server"), mount / f"..{number}")
        os.symlink(f"..{number}", mount / "..new")
        os.rename(mount / "..new", mount / "..data")
    put(1)
    for name in ("cert-chain.pem", "key.pem", "root-cert.pem"):
        os.symlink(f"..data/{name}", mount / name)
    h = hbone(server_config(mount, echo.port))
    for number in (2, 3):
        put(number)
        shutil.rmtree(mount / f"..{number - 1}")
        until(lambda: serial_served(h.port("tls"), client) == serial_of(mount), "the new secret")
    assert h.stat("identity.reload_refused") == 0


# -- who may come in


def echo_or_error(port, folder):
    """True when bytes come back; a TLS 1.3 client learns of its refusal when it reads."""
    try:
        with tls_connect(port, folder) as s:
            s.sendall(b"hello")
            return net.read_exactly(s, 5) == b"hello"
    except (OSError, EOFError) as e:
        return str(e)


def test_key_that_is_not_for_signatures(hbone, authority, echo):
    """A certificate whose key usage does not allow what TLS needs of it; ours is refused when it is read."""
    from cryptography.hazmat.primitives import hashes, serialization
    server, client = authority.issue("server"), authority.issue("client")
    ca_key = serialization.load_pem_private_key((authority.folder / "ca-key.pem").read_bytes(), None)
    h = hbone(server_config(server, echo.port))
    assert echo_or_error(h.port("tls"), client) is True
    good = x509.load_pem_x509_certificate((client / "cert-chain.pem").read_bytes())
    builder = (x509.CertificateBuilder().subject_name(good.subject).issuer_name(good.issuer)
               .public_key(good.public_key()).serial_number(x509.random_serial_number())
               .not_valid_before(good.not_valid_before_utc).not_valid_after(good.not_valid_after_utc))
    for extension in good.extensions:
        value = extension.value
        if isinstance(value, x509.KeyUsage):
            value = x509.KeyUsage(False, False, False, False, True, False, False, False, False)
        builder = builder.add_extension(value, extension.critical)
    (client / "cert-chain.pem").write_bytes(
        builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    assert echo_or_error(h.port("tls"), client) is not True
    until(lambda: h.stats(r"listener\..*\.ssl\.(connection_error|fail_verify_error)") == 1, "the refusal")
    code, out, _ = run("cert", "check", str(client))
    assert code == 1 and "issue it with digitalSignature" in out


@pytest.mark.peer("python-ssl")
def test_rule_of_a_workload(hbone, authority, echo):
    """Same trust domain and namespace; a foreign one learns that access is denied, and the log says why."""
    server, friend = authority.issue("server"), authority.issue("friend")
    foreign = authority.issue("friend", "stage")
    h = hbone(server_config(server, echo.port, rules={}))
    assert echo_or_error(h.port("tls"), friend) is True
    assert "ACCESS_DENIED" in echo_or_error(h.port("tls"), foreign).upper().replace(" ", "_")
    line = h.wait_line(r"tls: peer refused by identity rules.*")[0]
    assert "spiffe://cluster.local/ns/stage/sa/friend is not allowed" in line and "default, same trust domain and namespace" in line
    until(lambda: h.stats(r"listener\..*\.ssl\.fail_verify_san") == 1, "the counter")
    assert h.reload(server_config(server, echo.port, rules={"namespaces": [".", "stage"]}))
    assert echo_or_error(h.port("tls"), foreign) is True


def says_hello(s):
    s.sendall(b"hello")
    return net.read_exactly(s, 5) == b"hello"


@pytest.mark.peer("python-ssl")
def test_a_reload_ends_connections_whose_peer_the_new_rules_refuse(hbone, authority, echo):
    """As a changed file does; the others drain."""
    server, friend, foreign = authority.issue("server"), authority.issue("friend"), authority.issue("friend", "stage")
    h = hbone(server_config(server, echo.port, rules={"namespaces": [".", "stage"]}), "--drain-time", "30")
    with tls_connect(h.port("tls"), friend) as stays, tls_connect(h.port("tls"), foreign) as ends:
        assert says_hello(stays) and says_hello(ends)
        assert h.reload(server_config(server, echo.port, rules={"namespaces": ["prod", "stage"]}))
        assert says_hello(stays) and says_hello(ends)
        assert h.reload(server_config(server, echo.port, rules={}))
        with pytest.raises((OSError, EOFError)):
            net.read_exactly(ends, 1)
        assert says_hello(stays)
    h.wait_line(r"a live connection is ended: its peer is no longer trusted.*ns/stage/sa/friend.*is not allowed")
    h.expect_stat("identity.revoked_connections", 1)


def test_a_reload_that_demands_certificates_ends_those_without(hbone, authority, echo):
    server, friend = authority.issue("server"), authority.issue("friend")
    port = 0

    def config(**fields):
        return c.bootstrap([c.listener("tls", chain("app", **fields), (), port=port)], [c.cluster("app", echo.port)])
    h = hbone(config(), "--drain-time", "30")
    port = h.port("tls")
    with socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT) as plain:
        assert says_hello(plain)
        optional = downstream(server)
        optional["typed_config"]["require_client_certificate"] = False
        assert h.reload(config(transport_socket=optional)), h.output()
        assert says_hello(plain)
        with client_without(server).wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT),
                                                server_hostname="server.example") as bare, \
                tls_connect(port, friend) as stays:
            assert says_hello(bare) and says_hello(stays)
            assert h.reload(config(transport_socket=downstream(server))), h.output()
            for s in (plain, bare):
                with pytest.raises((OSError, EOFError)):
                    net.read_exactly(s, 1)
            assert says_hello(stays)
    h.wait_line(r"a live connection is ended.*it came without TLS")
    h.wait_line(r"a live connection is ended.*the peer has shown no certificate")
    h.expect_stat("identity.revoked_connections", 2)


def test_explain_names_the_rule(authority, tmp_path):
    server, config = authority.issue("server"), tmp_path / "config.yaml"
    config.write_text(server_config(server, 1, rules={"namespaces": [".", "stage"]}), encoding="utf-8")

    def explain(namespace):
        code, out, _ = run("explain", "-c", str(config), "--listener", "tls", "--peer",
                           f"spiffe://cluster.local/ns/{namespace}/sa/x")
        assert code == 0
        return out
    assert "by namespaces: stage" in explain("stage") and "chosen" in explain("stage")
    assert "is not allowed" in explain("dev") and "tls_san_mismatch" in explain("dev")


def test_client_verifies_the_server_by_the_same_rules(hbone, authority, echo):
    server, client = authority.issue("server"), authority.issue("client")
    far = hbone(server_config(server, echo.port))
    near = hbone(client_config(client, far.port("tls"), rules={"ids": [MESH + "another"]}))
    with socket.create_connection(("127.0.0.1", near.port("plain")), timeout=net.TIMEOUT) as s:
        with pytest.raises((OSError, EOFError)):
            s.sendall(b"hello")
            net.read_exactly(s, 5)
    until(lambda: near.stat("cluster.far.ssl.fail_verify_san") >= 1, "the counter")
    near.wait_line(r"peer refused by identity rules.*peer=server.*sa/server is not allowed")


def crl_of(authority, *revoked):
    from cryptography.hazmat.primitives import hashes, serialization
    import datetime
    now = datetime.datetime.now(datetime.timezone.utc)
    ca = x509.load_pem_x509_certificate((authority.folder / "ca.pem").read_bytes())
    key = serialization.load_pem_private_key((authority.folder / "ca-key.pem").read_bytes(), None)
    builder = (x509.CertificateRevocationListBuilder().issuer_name(ca.subject)
               .last_update(now - datetime.timedelta(hours=1)).next_update(now + datetime.timedelta(days=1)))
    for folder in revoked:
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial_of(folder)).revocation_date(now).build())
    return builder.sign(key, hashes.SHA256())


def test_revocation_while_running(hbone, authority, echo, tmp_path):
    from cryptography.hazmat.primitives.serialization import Encoding
    server, client = authority.issue("server"), authority.issue("client")
    crl = tmp_path / "crl"
    crl.write_bytes(b"garbage")
    config = server_config(server, echo.port, crl={"filename": str(crl)})
    bad = tmp_path / "bad.yaml"
    bad.write_text(config, encoding="utf-8")
    code, _, err = run("validate", "-c", str(bad))
    assert code == 2 and "holds no revocation list" in err
    crl.write_bytes(crl_of(authority).public_bytes(Encoding.PEM))
    h = hbone(config)
    assert echo_or_error(h.port("tls"), client) is True
    crl.write_bytes(crl_of(authority, client).public_bytes(Encoding.DER))
    until(lambda: h.stat("identity.reloads") == 1, "the list")
    assert "revoked" in echo_or_error(h.port("tls"), client).lower()
    crl.write_bytes(b"garbage")
    until(lambda: h.stat("identity.reload_refused") == 1, "the refusal")
    assert "revoked" in echo_or_error(h.port("tls"), client).lower()


def test_live_connections_of_the_revoked_end(hbone, authority, echo, tmp_path):
    from cryptography.hazmat.primitives.serialization import Encoding
    server, bad, good = authority.issue("server"), authority.issue("bad"), authority.issue("good")
    crl = tmp_path / "crl"
    crl.write_bytes(crl_of(authority).public_bytes(Encoding.PEM))
    h = hbone(server_config(server, echo.port, crl={"filename": str(crl)}))
    with tls_connect(h.port("tls"), bad) as revoked, tls_connect(h.port("tls"), good) as other:
        for s in (revoked, other):
            s.sendall(b"hello")
            assert net.read_exactly(s, 5) == b"hello"
        crl.write_bytes(crl_of(authority, bad).public_bytes(Encoding.PEM))
        with pytest.raises((OSError, EOFError)):
            net.read_exactly(revoked, 1)
        other.sendall(b"still")
        assert net.read_exactly(other, 5) == b"still"
    h.wait_line(r"a live connection is ended: its peer is no longer trusted.*sa/bad.*revoked")
    h.expect_stat("identity.revoked_connections", 1)


def test_commands_refuse_what_makes_no_sense(authority, tmp_path):
    for command in (["issue", str(authority.folder), "--id", MESH + "x"], ["init", str(tmp_path / "new")]):
        code, out, err = run("ca", *command, "--days", "0")
        assert code == 2 and out == "" and "--days 0 would be over at once" in err
    one, two = authority.issue("one"), authority.issue("two")
    for words in ((one, two), (one / "key.pem", two)):
        code, _, err = run("cert", "check", *map(str, words))
        assert code != 0 and f"{words[words[0].is_file()]} is a directory: give one directory alone, or files" in err


# -- certificates by search


def searched(side, directory=None, **common_fields):
    place = {} if directory is None else {"directory": str(directory)}
    fields = {"require_client_certificate": True} if side == "Downstream" else {}
    return {"name": "tls", "typed_config": {"@type": TLS + side + "TlsContext", **fields, "common_tls_context": {
        "custom_handshaker": {"name": "h", "typed_config": {
            "@type": c.TYPE + "hbone.transport_sockets.tls.Handshaker", "workload_certificates": place}},
        **common_fields}}}


def test_both_sides_take_certificates_from_where_workloads_have_them(hbone, authority, echo, monkeypatch):
    server, client = authority.issue("server"), authority.issue("client")
    monkeypatch.setattr("support.proc.BIN", os.path.abspath(BIN))
    monkeypatch.chdir(server)  # the first of the usual places
    h = hbone(c.bootstrap([c.listener("tls", chain("app", transport_socket=searched("Downstream")), ())],
                          [c.cluster("app", echo.port)]))
    near = hbone(c.bootstrap([c.listener("plain", chain("far"), ())], [
        c.cluster("far", h.port("tls"), transport_socket=searched("Upstream", client))]))

    def passes():
        with socket.create_connection(("127.0.0.1", near.port("plain")), timeout=net.TIMEOUT) as s:
            s.sendall(b"hello")
            return net.read_exactly(s, 5) == b"hello"
    assert passes()
    old = serial_served(h.port("tls"), client)
    authority.issue("server")
    authority.issue("client")
    h.wait_line(r"certificate replaced.*file=cert-chain.pem")
    near.wait_line(rf"certificate replaced.*file={client}/cert-chain.pem")
    assert serial_served(h.port("tls"), client) == serial_of(server) != old
    assert passes()
    # Roots that were found vouch for clients: another authority's are refused.
    with pytest.raises((OSError, EOFError)):
        stranger = Authority(authority.folder.parent / "other").issue("client")
        shutil.copy(server / "root-cert.pem", stranger / "root-cert.pem")
        with tls_connect(h.port("tls"), stranger) as s:
            net.read_exactly(s, 1)


def test_what_the_search_does_not_find_is_told(authority, tmp_path, monkeypatch):
    folder, path, empty = authority.issue("server"), tmp_path / "c.yaml", tmp_path / "empty"
    monkeypatch.setattr("support.proc.BIN", os.path.abspath(BIN))
    empty.mkdir()
    monkeypatch.chdir(empty)

    def errors(socket_):
        path.write_text(c.bootstrap([c.listener("l", chain("app", transport_socket=socket_), ())], [c.cluster("app", 1)]),
                        encoding="utf-8")
        code, _, err = run("validate", "-c", str(path))
        assert code in (0, 2) and (code == 2) == bool(err), err
        assert err.count("error: ") == (code == 2), err
        return err
    err = errors(searched("Downstream"))
    assert "custom_handshaker" in err and "workload_certificates: no certificate with its key in the working directory, " in err
    for place in ("/var/run/secrets/workload-spiffe-credentials", "/etc/certs", "/var/run/secrets/istio"):
        assert place in err
    assert f"{empty} holds no certificate with its key: looked for cert-chain.pem" in errors(searched("Downstream", empty))
    stated = common(folder)["tls_certificates"]
    assert "stands beside workload_certificates" in errors(searched("Downstream", folder, tls_certificates=stated))
    assert errors(searched("Downstream", folder)) == ""
    (folder / "ca-crl.pem").write_text("nothing", encoding="utf-8")
    assert "ca-crl.pem" in errors(searched("Downstream", folder))
    (folder / "ca-crl.pem").unlink()
    roots = folder / "root-cert.pem"
    roots.rename(tmp_path / "roots.pem")
    assert f"no roots beside {folder}/cert-chain.pem" in errors(searched("Downstream", folder))
    assert errors(searched("Downstream", folder, validation_context={
        "trusted_ca": {"filename": str(tmp_path / "roots.pem")}})) == ""
    shutil.copy(authority.issue("other") / "key.pem", folder / "key.pem")
    roots.write_bytes((tmp_path / "roots.pem").read_bytes())
    assert "key.pem" in errors(searched("Downstream", folder))


# -- who may open tunnels when little or nothing is said

HBONE_SERVER = "hbone.filters.network.hbone_server.HboneServer"


def workload_config(socket_):
    filter_ = c.typed("hbone", HBONE_SERVER, stat_prefix="t", filter_chains=[{"filters": [c.tcp_proxy("app")]}],
                      workload={"ports": [{"start": 1, "end": 2}]})
    return c.bootstrap([c.listener("l", [{"filters": [filter_], "transport_socket": socket_}], ())],
                       [c.cluster("app", 1)])


def admitted(port, folder):
    """Whether the server goes on after the handshake: it sends its SETTINGS then. A second entry: no certificate."""
    context = ssl.create_default_context(cafile=str(folder[0] / "root-cert.pem"))
    context.set_alpn_protocols(["h2"])
    if len(folder) == 1:
        context.load_cert_chain(folder[0] / "cert-chain.pem", folder[0] / "key.pem")
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT) as raw, \
                context.wrap_socket(raw, server_hostname="server.example") as s:
            s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0)))
            return len(net.read_exactly(s, 9)) == 9
    except (OSError, EOFError):
        return False


def quadrants(authority, tmp_path):
    """Certificates of the four kinds of client: the same root signs for another trust domain too."""
    def of(domain, namespace):
        code, out, err = run("ca", "issue", str(authority.folder), "--id", f"spiffe://{domain}/ns/{namespace}/sa/client",
                             "--out", str(tmp_path / f"{domain}-{namespace}"))
        assert code == 0, err
        return pathlib.Path(out.strip())
    return {(d, n): of(d, n) for d in ("cluster.local", "other.local") for n in ("prod", "istio-system")}


def test_a_workload_lets_in_its_own_namespace_by_default(hbone, authority, tmp_path):
    server, clients = authority.issue("server"), quadrants(authority, tmp_path)

    def who(socket_):
        port = hbone(workload_config(socket_)).port("l")
        return {name for name, folder in clients.items() if admitted(port, [folder])}, \
            admitted(port, [clients["cluster.local", "prod"], None])
    ours = ("cluster.local", "prod")
    assert who(downstream(server)) == ({ours}, False)
    # require_client_certificate is not said: the rule needs one; said to be false, it is optional.
    unsaid, optional = downstream(server), downstream(server)
    del unsaid["typed_config"]["require_client_certificate"]
    optional["typed_config"]["require_client_certificate"] = False
    assert who(unsaid) == ({ours}, False)
    assert who(optional) == ({ours}, True)
    # Widened by configuration.
    assert who(downstream(server, rules={"namespaces": [".", "istio-system"]})) == (
        {ours, ("cluster.local", "istio-system")}, False)
    assert who(downstream(server, rules={"trust_domains": ["cluster.local", "other.local"]})) == (
        {ours, ("other.local", "prod")}, False)
    assert who(downstream(server, rules={"trust_domains": ["*"], "namespaces": ["*"]})) == (set(clients), False)
    assert who(downstream(server, match_typed_subject_alt_names=[
        {"san_type": "URI", "matcher": {"prefix": "spiffe://other.local/ns/istio"}}])) == (
        {("other.local", "istio-system")}, False)


def test_the_default_rule_outlives_a_renewed_certificate(hbone, authority, tmp_path):
    server, clients = authority.issue("server"), quadrants(authority, tmp_path)
    h = hbone(workload_config(downstream(server)))
    authority.issue("server", "prod", "--days", "2")
    h.wait_line("certificate replaced")
    assert admitted(h.port("l"), [clients["cluster.local", "prod"]])
    assert not admitted(h.port("l"), [clients["cluster.local", "istio-system"]])


def test_the_default_rule_has_a_name(authority, tmp_path):
    server, path = authority.issue("server"), tmp_path / "c.yaml"

    def validate(socket_):
        path.write_text(workload_config(socket_), encoding="utf-8")
        code, _, err = run("validate", "-c", str(path))
        return code, err

    def explain(peer):
        code, out, err = run("explain", "-c", str(path), "--dst", "127.0.0.1:1", "--listener", "l", "--peer", peer)
        return out + err
    code, err = validate(downstream(server))
    assert code == 0 and "warning" not in err
    assert re.search(r"^note: .*listeners\[0\]\.filter_chains\[0\]\.transport_socket: tunnels to this workload by default: "
                     f"same trust domain and namespace as {MESH}server", err, re.M), err
    assert "by default, same trust domain and namespace: prod" in explain(MESH + "client")
    assert "allow default, same trust domain and namespace" in explain("spiffe://cluster.local/ns/istio-system/sa/x")
    assert validate(downstream(server, rules={})) == (0, "")
    optional = downstream(server)
    optional["typed_config"]["require_client_certificate"] = False
    assert "a client without a certificate escapes the identity rules" in validate(optional)[1]
    unverified = downstream(server)
    del unverified["typed_config"]["common_tls_context"]["validation_context"]
    del unverified["typed_config"]["require_client_certificate"]
    code, err = validate(unverified)
    assert code == 0 and "anybody may open tunnels to this workload" in err


def test_a_workload_without_identity_must_say_who_may_come(certs, tmp_path):
    socket_, path = c.tls_downstream(certs, "a", ["h2"], True), tmp_path / "c.yaml"
    path.write_text(workload_config(socket_), encoding="utf-8")
    code, _, err = run("validate", "-c", str(path))
    assert code == 2 and "a workload lets in the same trust domain and namespace by default" in err
    assert "need a SPIFFE id in our own certificate" in err and "SpiffeRules" in err


def tunnel_server(folder, **fields):
    """The mTLS listener of a tunnel server, by our filter and by Envoy's."""
    ours = c.typed("hbone", HBONE_SERVER, stat_prefix="t", filter_chains=[{"filters": [c.tcp_proxy("app")]}])
    route = {"match": {"connect_matcher": {}}, "route": {"cluster": "app", "upgrade_configs": [
        {"upgrade_type": "CONNECT", "connect_config": {}}]}}
    http = "envoy.extensions.filters.http.router.v3.Router"
    theirs = c.typed("hcm", "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                     stat_prefix="t", upgrade_configs=[{"upgrade_type": "CONNECT"}],
                     http2_protocol_options={"allow_connect": True},
                     route_config={"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
                     http_filters=[c.typed("router", http)])
    chains = [[{"filters": [f], "transport_socket": downstream(folder, **fields)}] for f in (ours, theirs)]
    return c.bootstrap([c.listener(f"l{i}", one, ()) for i, one in enumerate(chains)], [c.cluster("app", 1)])


def test_a_gateway_that_names_nobody_is_warned_of(hbone, authority, tmp_path):
    folder = authority.issue("gateway")
    path = tmp_path / "c.yaml"

    def warnings(**fields):
        path.write_text(tunnel_server(folder, **fields), encoding="utf-8")
        code, _, err = run("validate", "-c", str(path))
        assert code == 0, err
        return [line for line in err.splitlines() if "may open tunnels here" in line]
    lines = warnings()
    assert len(lines) == 2
    for i in range(2):
        assert f"static_resources.listeners[{i}].filter_chains[0].transport_socket" in lines[i]
        assert "SpiffeRules" in lines[i] and lines[i].startswith("warning: ")
    # Rules that name nobody: the gateway serves its own namespace, which is seldom meant.
    lines = warnings(rules={})
    assert len(lines) == 2 and all("only its own namespace may open tunnels here" in line for line in lines)
    assert warnings(rules={"namespaces": ["."]}) == []
    assert warnings(rules={"namespaces": ["*"]}) == []
    assert warnings(match_typed_subject_alt_names=[
        {"san_type": "URI", "matcher": {"prefix": "spiffe://cluster.local/ns/prod/"}}]) == []
    h = hbone(tunnel_server(folder))
    h.wait_line(r"warning: .*listeners\[1\].*may open tunnels here")


# -- the end without close_notify


@pytest.mark.parametrize("side", ("downstream", "upstream"))
def test_end_without_close_notify(hbone, authority, side):
    """By default a cut; with the option an end. Python's ssl closes without close_notify."""
    server, client = authority.issue("server"), authority.issue("client")
    accepts = {"custom_handshaker": {"name": "h", "typed_config": {
        "@type": c.TYPE + "hbone.transport_sockets.tls.Handshaker", "end_without_close_notify": True}}}
    ends = []

    def origin(s):
        if side == "upstream":
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(server / "root-cert.pem"))
            context.load_cert_chain(server / "cert-chain.pem", server / "key.pem")
            s = context.wrap_socket(s, server_side=True)
            net.read_exactly(s, 5)
            s.sendall(b"bye")
            s.shutdown(socket.SHUT_WR)
            while s.recv(100):
                pass
            return
        try:
            net.read_exactly(s, 5)
            ends.append(s.recv(1))
        except OSError as e:
            ends.append(e)

    far = net.Server(origin)
    try:
        for lax in (False, True):
            socket_ = (downstream if side == "downstream" else upstream)(server if side == "downstream" else client)
            if lax:
                socket_["typed_config"]["common_tls_context"] |= accepts
            where = {"transport_socket": socket_}
            h = hbone(c.bootstrap(
                [c.listener("in", chain("app", **(where if side == "downstream" else {})), ())],
                [c.cluster("app", far.port, **(where if side == "upstream" else {}))]))
            if side == "downstream":
                with tls_connect(h.port("in"), client) as s:
                    s.sendall(b"hello")
                    s.shutdown(socket.SHUT_WR)
                    until(lambda: len(ends) == 1 + lax, "the end")
                assert (ends[-1] == b"") if lax else isinstance(ends[-1], OSError)
                continue
            with socket.create_connection(("127.0.0.1", h.port("in")), timeout=net.TIMEOUT) as s:
                s.sendall(b"hello")
                if lax:
                    assert net.read_exactly(s, 3) == b"bye" and s.recv(1) == b""
                    continue
                with pytest.raises(OSError):
                    while s.recv(100):
                        pass
                    raise AssertionError("a clean end")
    finally:
        far.close()


# -- key exchange groups


NODE = """
const tls = require('tls'), fs = require('fs');
const [port, folder, groups] = process.argv.slice(2);
const s = tls.connect({port, host: '127.0.0.1', servername: 'server.example', ecdhCurve: groups,
    ca: fs.readFileSync(folder + '/root-cert.pem'), cert: fs.readFileSync(folder + '/cert-chain.pem'),
    key: fs.readFileSync(folder + '/key.pem')}, () => s.write('hello'));
s.on('data', (d) => { console.log('got ' + d); s.end(); });
s.on('error', (e) => { console.log('error ' + e.code + ' ' + e.message); });
"""


@pytest.mark.peer("node")
def test_post_quantum_hello(hbone, authority, echo, tmp_path):
    """A hello that offers X25519MLKEM768 beside X25519 works; alone it fails, and that is counted."""
    script = tmp_path / "hello.js"
    script.write_text(NODE, encoding="utf-8")
    server, client = authority.issue("server"), authority.issue("client")
    h = hbone(server_config(server, echo.port))

    def hello(groups):
        return subprocess.run(["node", str(script), str(h.port("tls")), str(client), groups], capture_output=True,
                              text=True, timeout=60 * SLOW, check=True).stdout
    assert hello("X25519MLKEM768:X25519") == "got hello"+ "\n"
    assert hello("auto") == "got hello" + "\n"
    assert "handshake failure" in hello("X25519MLKEM768")
    until(lambda: h.stats(r"listener\..*\.ssl\.fail_no_shared_group") == 1, "the counter")


NODE_SERVER = """
const tls = require('tls'), fs = require('fs');
const [folder, groups] = process.argv.slice(2);
const server = tls.createServer({ecdhCurve: groups, cert: fs.readFileSync(folder + '/cert-chain.pem'),
    key: fs.readFileSync(folder + '/key.pem')}, (s) => { s.on('error', () => {}); s.pipe(s); });
server.on('tlsClientError', () => {});
server.listen(0, '127.0.0.1', () => console.log('port ' + server.address().port));
"""


@pytest.mark.peer("node")
def test_post_quantum_server(hbone, authority, tmp_path, cleanup):
    """A server that prefers X25519MLKEM768 takes X25519; one that takes nothing else is refused, with a reason."""
    script = tmp_path / "server.js"
    script.write_text(NODE_SERVER, encoding="utf-8")
    server, client = authority.issue("server"), authority.issue("client")

    def start(groups):
        child = Child(["node", str(script), str(server), groups])
        cleanup(child.stop)
        return int(child.wait_line(r"port (\d+)").group(1))
    ports = start("X25519MLKEM768:X25519"), start("X25519MLKEM768")
    log = c.typed("out", "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", log_format={
        "text_format_source": {"inline_string": "why=%UPSTREAM_TRANSPORT_FAILURE_REASON%\n"}})
    h = hbone(c.bootstrap(
        [c.listener(n, [{"filters": [c.tcp_proxy(n, access_log=[log])]}], ()) for n in ("both", "alone")],
        [c.cluster(n, port, transport_socket=upstream(client)) for n, port in zip(("both", "alone"), ports)]))
    with socket.create_connection(("127.0.0.1", h.port("both")), timeout=net.TIMEOUT) as s:
        s.sendall(b"hello")
        assert net.read_exactly(s, 5) == b"hello"
    with socket.create_connection(("127.0.0.1", h.port("alone")), timeout=net.TIMEOUT) as s:
        with pytest.raises((OSError, EOFError)):
            net.read_exactly(s, 1)
    until(lambda: h.stats(r"cluster\.alone\.ssl\.(connection_error|fail_no_shared_group)") >= 1, "the counter")
    h.wait_line(r"why=.*X25519MLKEM768 alone is not supported")
