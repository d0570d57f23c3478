# SPDX-License-Identifier: Apache-2.0
"""h2spec, the conformance tests of HTTP/2, on our two tunnel servers and on Envoy's in the same run. Envoy closes a
connection a second after an error, so timeouts are longer than that."""
import re
import select
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import envoy, net
from support.proc import SLOW
from support.tunnels import server

pytestmark = pytest.mark.peer("h2spec")

# The one exception: the case sends 20,000 bytes in a frame without a look at what was announced. That is an error for who
# takes 16 KiB, as hbone_server does here; Envoy's form has no option for it and takes our default, 1 MiB.
FRAME = {"http2/4.2/3"}

# Nearly all of the time is waiting, so that the sections run at the same time, long ones case by case.
PARTS = [f"{group}/{section}" for group, sections in {
    "generic": "1 2 3.1 3.2 3.3 3.4 3.5 3.7 3.8 3.9 3.10 4 5",
    "http2": "3 4.1 4.2 4.3 5.1/1 5.1/2 5.1/3 5.1/4 5.1/5 5.1/6 5.1/7 5.1/8 5.1/9 5.1/10 5.1/11 5.1/12 5.1/13 5.1.1 "
             "5.1.2 5.3 5.4 5.5 6.1 6.2 6.3 6.4 6.5 6.7 6.8 6.9 6.10 7 8.1/1 8.1.2/1 8.1.2.1 8.1.2.2 8.1.2.3 8.1.2.6 8.2",
    "hpack": "2 4 5 6"}.items() for section in sections.split()]
ALL = 145


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


@pytest.mark.peer("envoy")
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
    jobs = [(name, part) for name in ports for part in PARTS]
    with ThreadPoolExecutor(len(jobs)) as pool:
        done = pool.map(lambda j: failures(ports[j[0]], j[1]), jobs)
    failed, count = {name: set() for name in ports}, dict.fromkeys(ports, 0)
    for (name, _), (bad, n) in zip(jobs, done):
        failed[name] |= bad
        count[name] += n
    print({name: f"{count[name]} cases, {len(failed[name])} fail" for name in ports})
    assert set(count.values()) == {ALL}
    for name, allowed in (("hbone_server", set()), ("http_connection_manager", FRAME)):
        for case in failed[name] - failed["envoy"] - allowed:
            # Some cases send their bad frame to a stream that may have been answered, and so be closed, by then.
            print(name, "again", case)
            assert any(not failures(ports[name], case)[0] for _ in range(5)), (name, case)
