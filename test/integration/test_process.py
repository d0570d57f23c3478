# SPDX-License-Identifier: Apache-2.0
"""Life of the process: start, reload, drain, stop."""
import resource
import signal
import socket
import time

import pytest

from support import config as c
from support import net
from support.proc import SLOW, until


def plain(port, listen=0, **fields):
    return c.bootstrap([c.listener("plain", [{"name": "all", "filters": [c.tcp_proxy("up")]}], inspectors=(),
                                   port=listen, **fields)],
                       [c.cluster("up", port)])


@pytest.fixture
def echo_server(cleanup):
    server = net.Server(net.echo)
    cleanup(server.close)
    return server


def connect(h, name="plain"):
    s = socket.create_connection(("127.0.0.1", h.port(name)), timeout=net.TIMEOUT)
    s.sendall(b"ping")
    assert net.read_exactly(s, 4) == b"ping"
    return s


def test_a_good_start_prints_at_most_ten_lines(hbone, echo_server):
    h = hbone(plain(echo_server.port))
    assert len(h.lines) <= 10, h.output()


def test_sigterm_drains_and_reports(hbone, echo_server):
    h = hbone(plain(echo_server.port), "--drain-time", "60")
    s = connect(h)
    h.process.send_signal(signal.SIGTERM)
    h.wait_line(r"draining.*connections=1")
    status, text = h.get("/ready?verbose")
    assert status == 503 and "DRAINING" in text
    until(lambda: net.refused(s.getpeername()[1]), "the port to close")
    s.sendall(b"more")
    assert net.read_exactly(s, 4) == b"more"
    s.close()
    assert h.wait() == 0
    assert "drained" in h.output()


def test_what_is_cut_after_the_drain_time_is_listed(hbone, echo_server):
    h = hbone(plain(echo_server.port), "--drain-time", "1")
    s = connect(h)
    h.process.send_signal(signal.SIGTERM)
    assert h.wait() == 0
    assert "cut off" in h.output() and f":{s.getsockname()[1]}" in h.output()
    with pytest.raises(ConnectionResetError):
        s.recv(1)
    s.close()


def test_a_second_sigterm_ends_at_once(hbone, echo_server):
    h = hbone(plain(echo_server.port), "--drain-time", "600")
    s = connect(h)
    h.process.send_signal(signal.SIGTERM)
    h.wait_line(r"draining")
    before = time.monotonic()
    h.process.send_signal(signal.SIGTERM)
    assert h.wait() == 0 and time.monotonic() - before < 60
    s.close()


def test_reload_keeps_connections_of_what_did_not_change(hbone, echo_server, cleanup):
    other = net.Server(net.echo)
    cleanup(other.close)

    def two(port, idle):
        return c.bootstrap(
            [c.listener("plain", [{"name": "all", "filters": [c.tcp_proxy("up")]}], inspectors=()),
             c.listener("second", [{"name": "all", "filters": [c.tcp_proxy("other", idle_timeout=idle)]}], inspectors=())],
            [c.cluster("up", port), c.cluster("other", other.port)])
    h = hbone(two(echo_server.port, "100s"), "--drain-time", "1")
    kept, changed = connect(h), connect(h, "second")
    port = h.port("second")
    assert h.reload(two(echo_server.port, "200s")), h.output()
    assert h.port("second") == port
    with pytest.raises((ConnectionResetError, EOFError)):
        net.read_exactly(changed, 1)
    kept.sendall(b"still")
    assert net.read_exactly(kept, 5) == b"still"
    kept.close()
    connect(h, "second").close()


def test_a_bad_file_changes_nothing(hbone, echo_server):
    good = plain(echo_server.port)
    h = hbone(good)
    s = connect(h)
    assert not h.reload(good.replace('"up"', '"up", "nonsense": 1', 1))
    assert "nonsense" in h.output()
    assert not h.reload("{ this is no yaml")
    s.sendall(b"live")
    assert net.read_exactly(s, 4) == b"live"
    connect(h).close()
    assert h.reload(good)
    s.close()


def test_an_address_in_use_is_an_error_of_the_configuration(hbone, echo_server, tmp_path):
    from support.proc import Hbone
    h = Hbone(tmp_path, plain(1, listen=echo_server.port), (), 9)
    assert h.wait() == 2
    assert str(echo_server.port) in h.output() and "in use" in h.output()


def test_a_program_that_was_started_twice_says_so(hbone, echo_server):
    """SO_REUSEPORT lets both listen; each would get a share of the connections."""
    first = hbone(plain(echo_server.port))
    second = hbone(plain(echo_server.port, listen=first.port("plain")))
    second.wait_line("warn.*another process listens on this address too.* listener=plain ")
    assert "another process" not in first.output()
    assert first.reload(plain(echo_server.port, listen=first.port("plain")))
    assert "another process" not in first.output()


def test_connection_limits_close_and_count(hbone, echo_server):
    options = {"typed_filter_metadata": {"hbone.listener": {"@type": c.TYPE + "hbone.config.ListenerOptions",
                                                            "max_connections": 2}}}
    h = hbone(plain(echo_server.port, metadata=options))
    first, second = connect(h), connect(h)
    with pytest.raises(ConnectionResetError):      # in connect or in recv, whatever is faster
        with socket.create_connection(("127.0.0.1", h.port("plain")), timeout=net.TIMEOUT) as s:
            assert s.recv(1) != b""
    until(lambda: h.stats(r"^listener\..*\.downstream_cx_overflow$") == 1, "the counter")
    first.close()
    until(lambda: h.stats(r"^listener\.[^w]*\.downstream_cx_active$") == 1, "one to close")
    connect(h).close()
    second.close()


def memory_of(h):
    """Resident bytes of the process alone."""
    with open(f"/proc/{h.process.pid}/statm", encoding="ascii") as f:
        _, resident, shared, *_ = map(int, f.read().split())
    return (resident - shared) * resource.getpagesize()


@pytest.mark.skipif(SLOW != 1, reason="sanitizers have memory of their own")
def test_heap_that_a_burst_has_left_is_given_back(hbone, certs):
    """Once all is still, and only if that is asked for; what stays open keeps the allocator from doing it by itself."""
    def burst(*options):
        echo = c.typed("echo", "envoy.extensions.filters.network.echo.v3.Echo")
        chain = {"filters": [echo], "transport_socket": c.tls_downstream(certs, "a")}
        h = hbone(c.bootstrap([c.listener("echo", [chain], inspectors=())], []), *options)
        port = h.port("echo")
        sockets = [net.tls_connect(port, certs, "a.example") for _ in range(1000)]
        for s in sockets:
            s.sendall(b"x")
        for s in sockets:
            assert net.read_exactly(s, 1) == b"x"
        for s in sockets[:-1]:
            s.close()
        until(lambda: h.stat("server.total_connections") == 1, "all but one to go")
        return h, memory_of(h), sockets[-1]
    kept, was, _ = burst("--concurrency", "1")
    h, full, s = burst("--concurrency", "1", "--heap-trim", "1")
    until(lambda: h.stat("server.heap_trims") == 1, "the heap to be given back")
    h.wait_line(r"free pages of the heap were given back mib=\d+ took_us=\d+")
    assert memory_of(h) < full - (1 << 20)
    s.sendall(b"still")
    assert net.read_exactly(s, 5) == b"still"
    assert kept.stat("server.heap_trims") == 0 and memory_of(kept) > was - (1 << 20)
    s.close()
