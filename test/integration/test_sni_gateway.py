# SPDX-License-Identifier: Apache-2.0
"""The SNI gateway: passes TLS through by server name, never decrypts."""
import hashlib
import socket
import ssl
import subprocess
import threading
import time

import pytest

from support import config as c
from support import net
from support.proc import SLOW, Child, until

MIB = 1 << 20
BULK = (200 if SLOW == 1 else 20) * MIB


def gateway(ports, **fields):
    """a.example and *.a.example -> first, b.example with ALPN istio -> second; nothing else."""
    chains = [c.sni_chain("a", ["a.example", "*.a.example"], "a"),
              c.sni_chain("b", ["b.example"], "b", alpn=["istio", "istio-h2"])]
    breakers = {"circuit_breakers": {"thresholds": [{"max_connections": 5000, "max_pending_requests": 5000}]}}
    return c.bootstrap([c.listener("sni", chains, **fields)],
                       [c.cluster("a", ports[0], **breakers), c.cluster("b", ports[1])])


def sink_and_digest(s):
    """Reads to the end, answers with length and SHA-256."""
    digest, n = hashlib.sha256(), 0
    while True:
        data = s.recv(1 << 18)
        if not data:
            break
        digest.update(data)
        n += len(data)
    s.sendall(f"{n} {digest.hexdigest()}".encode())


@pytest.mark.peer("python-ssl")
def test_upload_200_mb_arrives_whole(hbone, certs, cleanup):
    done = {}

    def handle(s):
        n = int.from_bytes(net.read_exactly(s, 8), "big")
        digest = hashlib.sha256()
        while n:
            data = s.recv(min(n, 1 << 18))
            if not data:
                raise EOFError
            n -= len(data)
            digest.update(data)
        done["hash"] = digest.hexdigest()
        s.sendall(digest.hexdigest().encode())
    server = net.tls_server(certs, "a", handle)
    cleanup(server.close)
    h = hbone(gateway([server.port, server.port]))
    data = net.pattern(BULK)
    with net.tls_connect(h.port("sni"), certs, "a.example") as s:
        s.sendall(BULK.to_bytes(8, "big"))
        s.sendall(data)
        assert net.read_exactly(s, 64).decode() == hashlib.sha256(data).hexdigest() == done["hash"]
    assert h.stat("tcp.a.downstream_cx_rx_bytes_total") > BULK


NODE_SERVER = r"""
const https = require('https'), fs = require('fs'), crypto = require('crypto');
const [cert, key, size] = process.argv.slice(2);
const block = crypto.createHash('shake256', {outputLength: 1 << 20}).update('0').digest();
const s = https.createServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key)}, (q, r) => {
  let left = Number(size);
  const h = crypto.createHash('sha256');
  r.writeHead(200, {'content-length': size});
  const more = () => {
    while (left > 0) {
      const piece = block.subarray(0, Math.min(left, block.length));
      left -= piece.length; h.update(piece);
      if (!r.write(piece)) { r.once('drain', more); return; }
    }
    console.log('sent ' + h.digest('hex')); r.end();
  };
  more();
});
s.listen(0, '127.0.0.1', () => console.log('port ' + s.address().port));
"""


@pytest.mark.peer("curl")
@pytest.mark.peer("node")
def test_download_200_mb_from_node_by_curl(hbone, certs, cleanup, tmp_path):
    script = tmp_path / "server.cjs"
    script.write_text(NODE_SERVER)
    node = Child(["node", str(script), certs.pem("a"), certs.key("a"), str(BULK)])
    cleanup(node.stop)
    h = hbone(gateway([int(node.wait_line(r"^port (\d+)")[1])] * 2))
    curl = subprocess.Popen(["curl", "-sS", "--cacert", str(certs.ca), "--resolve",
                             f"a.example:{h.port('sni')}:127.0.0.1", f"https://a.example:{h.port('sni')}/"],
                            stdout=subprocess.PIPE)
    digest, n = hashlib.sha256(), 0
    for piece in iter(lambda: curl.stdout.read(1 << 18), b""):
        digest.update(piece)
        n += len(piece)
    assert curl.wait(60) == 0 and n == BULK
    assert node.wait_line(r"^sent (\w+)")[1] == digest.hexdigest()


@pytest.mark.peer("openssl")
def test_openssl_s_client_and_s_server(hbone, certs, cleanup):
    server = Child(["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", certs.pem("b"), "-key", certs.key("b"),
                    "-alpn", "istio", "-rev"], stdin=subprocess.PIPE)
    cleanup(server.stop)
    port = int(server.wait_line(r"ACCEPT 127\.0\.0\.1:(\d+)")[1])
    h = hbone(gateway([port, port]))
    client = Child(["openssl", "s_client", "-connect", f"127.0.0.1:{h.port('sni')}", "-servername", "b.example",
                    "-alpn", "istio", "-CAfile", str(certs.ca), "-verify_return_error", "-quiet"],
                   stdin=subprocess.PIPE)
    cleanup(client.stop)
    client.process.stdin.write("hello gateway\n")
    client.process.stdin.flush()
    client.wait_line("^yawetag olleh$")


@pytest.mark.peer("python-ssl")
@pytest.mark.parametrize("backend", ["epoll", "uv"])
def test_client_hello_one_byte_at_a_time(hbone, certs, cleanup, backend):
    server = net.tls_server(certs, "a", net.echo)
    cleanup(server.close)
    h = hbone(gateway([server.port, server.port]), "--event-backend", backend)
    raw = socket.create_connection(("127.0.0.1", h.port("sni")), timeout=net.TIMEOUT)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    o = net.client_context(certs).wrap_bio(incoming, outgoing, server_hostname="x.a.example")

    def step(f):
        while True:
            try:
                result = f()
                raw.sendall(outgoing.read())
                return result
            except ssl.SSLWantReadError:
                for byte in outgoing.read():
                    raw.sendall(bytes([byte]))
                data = raw.recv(1 << 16)
                assert data, "ended"
                incoming.write(data)
    step(o.do_handshake)
    step(lambda: o.write(b"slow"))
    assert step(lambda: o.read(100)) == b"slow"
    raw.close()


@pytest.mark.parametrize("backend", ["epoll", "uv"])
@pytest.mark.parametrize("sni,alpn,why", [
    ("unknown.example", (), "unknown name"),
    (None, (), "no name"),
    ("b.example", ("h2",), "wrong protocol"),
    ("b.example", (), "no protocol"),
])
def test_refused_connections_reach_no_upstream(hbone, certs, cleanup, sni, alpn, why, backend):
    server = net.Server(net.echo)
    cleanup(server.close)
    h = hbone(gateway([server.port, server.port]), "--event-backend", backend)
    with socket.create_connection(("127.0.0.1", h.port("sni")), timeout=net.TIMEOUT) as s:
        s.sendall(net.client_hello(sni, alpn))
        with pytest.raises(ConnectionResetError):
            assert s.recv(1) != b"", f"{why}: a clean end instead of a reset"
    until(lambda: h.stats(r"^listener\..*\.no_filter_chain_match$") == 1, "the counter")
    assert server.accepted == 0


@pytest.mark.parametrize("backend", ["epoll", "uv"])
def test_half_close_passes_both_ways(hbone, certs, cleanup, backend):
    hello = net.client_hello("a.example")

    def handle(s):
        assert net.read_exactly(s, len(hello)) == hello
        s.sendall(b"server first half;")
        rest = net.read_all(s)
        s.sendall(b"after your end: " + rest)
        s.shutdown(socket.SHUT_WR)
    server = net.Server(handle)
    cleanup(server.close)
    h = hbone(gateway([server.port, server.port]), "--event-backend", backend)
    with socket.create_connection(("127.0.0.1", h.port("sni")), timeout=net.TIMEOUT) as s:
        s.sendall(hello)
        assert net.read_exactly(s, 18) == b"server first half;"
        s.sendall(b"client's rest")
        s.shutdown(socket.SHUT_WR)
        assert net.read_all(s) == b"after your end: client's rest"
    assert not server.errors


@pytest.mark.parametrize("backend", ["epoll", "uv"])
def test_server_ends_first_and_client_goes_on(hbone, certs, cleanup, backend):
    hello, got = net.client_hello("a.example"), {}

    def handle(s):
        net.read_exactly(s, len(hello))
        s.sendall(b"bye")
        s.shutdown(socket.SHUT_WR)
        got["rest"] = net.read_all(s)
    server = net.Server(handle)
    cleanup(server.close)
    h = hbone(gateway([server.port, server.port]), "--event-backend", backend)
    with socket.create_connection(("127.0.0.1", h.port("sni")), timeout=net.TIMEOUT) as s:
        s.sendall(hello)
        assert net.read_all(s) == b"bye"
        s.sendall(b"x" * MIB)
    until(lambda: got.get("rest") == b"x" * MIB, "the client's bytes after the server's end")


@pytest.mark.parametrize("backend", ["epoll", "uv"])
@pytest.mark.parametrize("who", ["client", "server"])
def test_reset_is_seen_at_the_other_end(hbone, certs, cleanup, who, backend):
    hello, seen = net.client_hello("a.example"), {}

    def handle(s):
        net.read_exactly(s, len(hello))
        s.sendall(b"ok")
        if who == "server":
            net.read_exactly(s, 2)
            net.reset(s)
            return
        try:
            seen["end"] = s.recv(1)
        except ConnectionResetError:
            seen["end"] = "reset"
    server = net.Server(handle)
    cleanup(server.close)
    h = hbone(gateway([server.port, server.port]), "--event-backend", backend)
    s = socket.create_connection(("127.0.0.1", h.port("sni")), timeout=net.TIMEOUT)
    s.sendall(hello)
    assert net.read_exactly(s, 2) == b"ok"
    if who == "client":
        net.reset(s)
        until(lambda: "end" in seen, "the end at the server")
        assert seen["end"] == "reset"
    else:
        s.sendall(b"go")
        with pytest.raises(ConnectionResetError):
            s.recv(1)
        s.close()


@pytest.mark.parametrize("backend", ["epoll", "uv"])
def test_2000_concurrent_connections(hbone, certs, cleanup, backend):
    server = net.Server(lambda s: echo_after_hello(s))
    hello = net.client_hello("a.example")

    def echo_after_hello(s):
        net.read_exactly(s, len(hello))
        net.echo(s)
    cleanup(server.close)
    count = 2000 if SLOW == 1 else 400
    h = hbone(gateway([server.port, server.port]), "--event-backend", backend)
    port = h.port("sni")
    sockets = []
    cleanup(lambda: [s.close() for s in sockets])
    for i in range(count):
        s = socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT)
        s.sendall(hello + f"{i:08d}".encode())
        sockets.append(s)
    for i, s in enumerate(sockets):
        assert net.read_exactly(s, 8) == f"{i:08d}".encode()
    h.expect_stats(r"^listener\.[^w]*\.downstream_cx_active$", count)
    for s in sockets:
        s.close()
    until(lambda: h.stats(r"^listener\.[^w]*\.downstream_cx_active$") == 0, "all to close")


def test_killed_upstream_next_connection_goes_elsewhere(hbone, certs, cleanup):
    hello = net.client_hello("a.example")

    def handler(name):
        def handle(s):
            net.read_exactly(s, len(hello))
            s.sendall(name)
            net.read_all(s)
        return handle
    one, two = net.Server(handler(b"1")), net.Server(handler(b"2"))
    cleanup(one.close)
    cleanup(two.close)
    config = c.bootstrap(
        [c.listener("sni", [c.sni_chain("a", ["a.example"], "a", max_connect_attempts=2)])],
        [c.cluster("a", one.port, two.port)])
    h = hbone(config)

    def who():
        with socket.create_connection(("127.0.0.1", h.port("sni")), timeout=net.TIMEOUT) as s:
            s.sendall(hello)
            return net.read_exactly(s, 1)
    assert {who() for _ in range(40)} == {b"1", b"2"}
    one.close()
    assert {who() for _ in range(40)} == {b"2"}


def test_configuration_replaced_under_load(hbone, certs, cleanup, record_property):
    """500 connections live and new ones come all the time while the file changes 20 times: none fails."""
    hello = net.client_hello("a.example")
    live_count, reloads = (500, 20) if SLOW == 1 else (100, 8)

    def handle(s):
        net.read_exactly(s, len(hello))
        net.echo(s)
    servers = [net.Server(handle) for _ in range(2)]
    for s in servers:
        cleanup(s.close)

    def config(i):
        extra = [c.sni_chain(f"extra{i}", [f"extra{i}.example"], "a")]
        chains = [c.sni_chain("a", ["a.example"], "a", idle_timeout=f"{3600 + i % 3}s"), *extra]
        return c.bootstrap([c.listener("sni", chains)], [c.cluster("a", servers[i % 2].port)])
    h = hbone(config(0), "--drain-time", "600")
    h.stop_signal = 15
    port = h.port("sni")

    def exchange(s, i):
        data = net.pattern(20000, i)
        s.sendall(data)
        got = net.read_exactly(s, len(data))
        assert hashlib.sha256(got).digest() == hashlib.sha256(data).digest()

    live = []
    cleanup(lambda: [s.close() for s in live])
    for i in range(live_count):
        s = socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT)
        s.sendall(hello)
        live.append(s)
    for i, s in enumerate(live):
        exchange(s, i)
    stop, failures, fresh = threading.Event(), [], [0] * 8

    def newcomers(me):          # eight of them at 40 a second each
        while not stop.wait(0.02):
            try:
                with socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT) as s:
                    s.sendall(hello)
                    exchange(s, fresh[me])
                    s.shutdown(socket.SHUT_WR)
                    assert s.recv(1) == b""
                fresh[me] += 1
            except (OSError, AssertionError, EOFError) as e:
                failures.append(repr(e))
    threads = [threading.Thread(target=newcomers, args=(me,)) for me in range(len(fresh))]
    for thread in threads:
        thread.start()
    began = time.monotonic()
    try:
        for i in range(1, reloads + 1):
            assert h.reload(config(i)), h.output()
            before = sum(fresh)
            until(lambda before=before: sum(fresh) >= before + 40 or failures, "forty new connections")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    record_property("new connections a second", sum(fresh) / (time.monotonic() - began))
    assert not failures
    for i, s in enumerate(live):
        exchange(s, i)
    assert sum(fresh) >= 40 * reloads
    for s in live:
        s.close()
