# SPDX-License-Identifier: Apache-2.0
"""Resident memory of idle tunnels: what a mutual-TLS connection with one of them costs, and each further stream."""
import socket
import ssl
import subprocess

import pytest

from support import tunnels
from support.proc import BIN, SLOW, resident, until

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS, RST_STREAM, SETTINGS, GOAWAY = 1, 3, 4, 7
ACK, END_HEADERS = 1, 4
# Bytes. They are there to notice growth: what belongs to whom is printed by the unit tests of core/http and core/filter.
CONNECTION_MAX = 11 * 1024 + 512
STREAM_MAX = 840            # 710 to 800, as streams come in larger or smaller bursts
START_MAX = 5_200_000       # 4.4 MB; 5.6 with what only the start has needed
PROGRAM_MAX = 4_000_000


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def open_tunnels(port, context, authority, n):
    """A connection with n CONNECT streams, all answered; the first request's fields go into the HPACK table."""
    s = context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=20))
    first = b"\x42\x07CONNECT\x41" + bytes([len(authority)]) + authority
    requests = [frame(HEADERS, END_HEADERS, 1 + 2 * i, b"\xbf\xbe" if i else first) for i in range(n)]
    s.sendall(PREFACE + frame(SETTINGS, 0, 0) + b"".join(requests))
    answers, data = 0, b""
    while answers < n:
        data += s.recv(1 << 16)
        while len(data) >= 9 and len(data) >= 9 + int.from_bytes(data[:3], "big"):
            kind, flags = data[3], data[4]
            assert kind not in (RST_STREAM, GOAWAY)
            answers += kind == HEADERS
            if kind == SETTINGS and not flags & ACK:
                s.sendall(frame(SETTINGS, ACK, 0))
            data = data[9 + int.from_bytes(data[:3], "big"):]
    return s


@pytest.mark.skipif(SLOW != 1, reason="sanitizers have memory of their own")
def test_program(hbone, certs, tmp_path):
    """The program on disk, and what is resident of it once it has started."""
    stripped = tmp_path / "hbone"
    subprocess.run(["strip", "-o", stripped, BIN], check=True)
    h = hbone(tunnels.server(certs), "--concurrency", "1")
    until(lambda: resident(h) <= START_MAX, "what only the start needs to be given back")
    assert stripped.stat().st_size <= PROGRAM_MAX


@pytest.mark.skipif(SLOW != 1, reason="sanitizers have memory of their own")
def test_idle_tunnels(hbone, certs, cleanup):
    """400 connections with one stream each; 36 connections with 90 streams, less 36 with one. Fresh processes. What a
    worker keeps free counts as memory of streams here, too: hence so many."""
    context = ssl.create_default_context(cafile=str(certs.ca))
    context.check_hostname = False
    context.load_cert_chain(certs.pem("client"), certs.key("client"))
    context.set_alpn_protocols(["h2"])
    # Nobody accepts: the kernel keeps connections that cost nobody anything.
    origin = socket.create_server(("127.0.0.1", 0), backlog=4096)
    cleanup(origin.close)
    authority = b"127.0.0.1:%d" % origin.getsockname()[1]

    def run(*plan):
        """Resident bytes after each step of (connections, streams of each)."""
        h = hbone(tunnels.server(certs, most=4000), "--concurrency", "1")
        steps, total = [], 0
        for connections, streams in plan:
            for _ in range(connections):
                cleanup(open_tunnels(h.port("hbone"), context, authority, streams).close)
            total += connections * streams
            until(lambda: h.stat("hbone_server.t.tunnels_active") == total, "tunnels to open")
            steps.append(resident(h))
        return steps

    before, after = run((5, 1), (400, 1))
    connection = (after - before) / 400
    _, few = run((5, 1), (36, 1))
    _, many = run((5, 1), (36, 90))
    stream = (many - few) / (36 * 89)
    print(f"a connection with one stream {connection:.0f} bytes, a further stream {stream:.0f}")
    assert connection <= CONNECTION_MAX
    assert stream <= STREAM_MAX
