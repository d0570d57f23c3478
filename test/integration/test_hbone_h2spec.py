# SPDX-License-Identifier: Apache-2.0
"""h2spec, the conformance tests of HTTP/2, on our two tunnel servers and on Envoy's in the same run. Envoy closes a
connection a second after an error, so timeouts are longer than that."""
import re
import select
import shutil
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import envoy, net
from support.proc import SLOW
from support.tunnels import server

pytestmark = pytest.mark.skipif(not shutil.which("h2spec"),
                                reason="h2spec is not installed; ./dev setup builds it where Go is")

# The case does not look at the frame size announced: its 20,000 bytes are within our default, 1 MiB.
FRAME = {"http2/4.2/3"}


def failures(port, part):
    """The cases of one part that fail, and how many were run."""
    out = subprocess.run(["h2spec", part, "-h", "127.0.0.1", "-p", str(port), "--timeout", "2"], check=False,
                         capture_output=True, text=True, errors="replace", timeout=150 * SLOW).stdout
    _, _, summary = out.partition("Failures:")
    section, bad = "", set()
    for line in summary.splitlines():
        if found := re.match(r"\s*(\d[\d.]*) [A-Z]", line):
            section = found[1].rstrip(".")
        elif found := re.match(r"\s*× (\d+): ", line):
            bad.add(f"{part.partition('/')[0]}/{section}/{found[1]}")
    total, failed = re.search(r"(\d+) tests, .* (\d+) failed", out).groups()
    assert len(bad) == int(failed), out
    return bad, int(total)


def relay(certs, port):
    """Bytes in, mutual TLS to port out: h2spec knows no client certificates."""
    context = net.client_context(certs, ["h2"], "client")
    context.check_hostname = False

    def run(s):
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT)) as t:
            while True:
                ready = [t] if t.pending() else select.select([s, t], [], [], net.TIMEOUT)[0]
                for a, b in ((s, t), (t, s)):
                    if a in ready:
                        data = a.recv(1 << 16)
                        if not data:
                            return
                        b.sendall(data)
    return net.Server(run)


@pytest.mark.long
def test_nothing_fails_that_envoy_passes(hbone, certs, cleanup, tmp_path):
    def envoys(admin, port):
        return envoy.render("hbone-server.yaml", CERTS=certs.folder, NODE="n", ADMIN_PORT=admin, PORT=port,
                            CERT="echo", STREAMS=100, EW_HOST="remote.example:80", POD_HOST="127.0.0.1", POD_PORT=1,
                            IDLE="3600s")
    admin, port = envoy.free_port(), envoy.free_port()
    cleanup(envoy.Envoy(tmp_path, envoys(admin, port), admin).stop)
    own = server(certs, http2={"max_frame_size": 16384, "max_concurrent_streams": 100})
    ports = {"envoy": port, "hbone_server": hbone(own).port("hbone"),
             "http_connection_manager": hbone(envoys(0, 0)).port("connect_terminate")}
    for name in ports:
        r = relay(certs, ports[name])
        cleanup(r.close)
        ports[name] = r.port
    jobs = [(name, part) for name in ports for part in ("generic", "http2", "hpack")]
    with ThreadPoolExecutor(len(jobs)) as pool:
        done = pool.map(lambda j: failures(ports[j[0]], j[1]), jobs)
    failed, count = {name: set() for name in ports}, dict.fromkeys(ports, 0)
    for (name, _), (bad, n) in zip(jobs, done):
        failed[name] |= bad
        count[name] += n
    print({name: f"{count[name]} cases, {len(failed[name])} fail" for name in ports})
    assert set(count.values()) == {145}
    for name, allowed in (("hbone_server", set()), ("http_connection_manager", FRAME)):
        for case in failed[name] - failed["envoy"] - allowed:
            # Some cases send their bad frame to a stream that may have been answered, and so be closed, by then.
            print(name, "again", case)
            assert any(not failures(ports[name], case)[0] for _ in range(5)), (name, case)
