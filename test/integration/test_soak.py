# SPDX-License-Identifier: Apache-2.0
"""Long runs: memory and descriptors stay where they are."""
import os
import socket
import threading

import pytest

from support import config as c
from support import net
from support.proc import SLOW, until


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    raise AssertionError("no VmRSS")


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.long
@pytest.mark.skipif(SLOW != 1, reason="sanitizers keep freed memory")
def test_memory_does_not_grow_with_connections(hbone, certs, cleanup):
    """Passed through, terminated and refused connections, 40,000 in all: resident memory grows by 2 MiB at most
    after the first 4,000, and no descriptor is left."""
    server = net.Server(net.echo)
    cleanup(server.close)
    terminate = {"name": "tls", "transport_socket": c.tls_downstream(certs, "b"),
                 "filter_chain_match": {"server_names": ["b.example"]}, "filters": [c.tcp_proxy("a", prefix="tls")]}
    h = hbone(c.bootstrap([c.listener("sni", [c.sni_chain("a", ["a.example"], "a"), terminate])],
                          [c.cluster("a", server.port)]))
    port = h.port("sni")
    passed, refused = net.client_hello("a.example"), net.client_hello("other.example")
    errors = []

    def one(kind):
        if kind == 0:
            with net.tls_connect(port, certs, "b.example") as s:
                s.sendall(b"x")
                assert net.read_exactly(s, 1) == b"x"
            return
        with socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT) as s:
            s.sendall(passed if kind < 8 else refused)
            if kind < 8:
                assert net.read_exactly(s, len(passed)) == passed
            else:
                with pytest.raises(ConnectionResetError):
                    s.recv(1)

    def many(count):
        try:
            for i in range(count):
                one(i % 10)
        except (OSError, AssertionError, EOFError) as e:
            errors.append(repr(e))

    def run(count):
        threads = [threading.Thread(target=many, args=(count // 4,)) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not errors
        until(lambda: h.stat("server.total_connections") == 0, "all to close")
    run(4000)
    before, fds = resident_kib(h.process.pid), descriptors(h.process.pid)
    run(36000)
    after = resident_kib(h.process.pid)
    assert after <= before + 2048, f"{before} KiB before, {after} KiB after"
    until(lambda: descriptors(h.process.pid) <= fds + 8, "descriptors to be closed")
