# SPDX-License-Identifier: Apache-2.0
"""What requests, and frames, are answered. The first table is the one of docs/hbone.md: every row of it is run against both
filters, and what the document says is what is expected. The others are ztunnel's, as far as they say more."""
import pathlib
import re
import socket
import struct
import types

import pytest

from support import config as c
from support import net, wire
from support.proc import until
from support.tunnels import address, server

pytestmark = pytest.mark.peer("python-h2")

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "hbone.md"
FILTERS = ("hbone_server", "http_connection_manager")


def documented():
    """Row -> (what hbone_server answers, what http_connection_manager does)."""
    text = DOCUMENT.read_text(encoding="utf-8")
    table = re.search(r"^\| what \| `hbone_server` .*\n\|[-|]*\n((?:\|.*\n)+)", text, re.MULTILINE)[1]
    rows = {}
    for line in table.splitlines():
        what, ours, envoys, _ = (cell.strip() for cell in line.strip("|").split("|"))
        rows[what] = (ours, ours if envoys == "the same" else envoys)
    return rows


ROWS = documented()


def row_of(beginning):
    """What the document says in the one row that begins so."""
    found = [row for row in ROWS if row.startswith(beginning)]
    assert len(found) == 1, (beginning, found)
    return found[0]


# ------------------------------------------------------------------ configurations

def manager(certs, *, methods=True, connect=True, domain="*", cluster="dst", clusters=(), listeners=(), most=100, direct=None):
    """Envoy's form of tunnels.server()."""
    action = {"cluster": cluster, "timeout": "0s"}
    if connect:
        action["upgrade_configs"] = [{"upgrade_type": "CONNECT", "connect_config": {}}]
    routes = {"name": "r", "virtual_hosts": [{"name": "v", "domains": [domain], "routes": [
        {"match": {"connect_matcher": {}}, **({"direct_response": {"status": direct}} if direct else {"route": action})}]}]}
    router = c.typed("router", "envoy.extensions.filters.http.router.v3.Router")
    hcm = c.typed("hcm", "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                  stat_prefix="t", codec_type="HTTP2", route_config=routes, http_filters=[router],
                  http2_protocol_options={"allow_connect": True, "max_concurrent_streams": most})
    if methods:
        hcm["typed_config"]["upgrade_configs"] = [{"upgrade_type": "CONNECT"}]
    chain = {"filters": [hcm], "transport_socket": c.tls_downstream(certs, "echo", ["h2"], True)}
    dst = {"name": "dst", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "0.5s",
           "original_dst_lb_config": {"use_http_header": True, "http_header_name": ":authority"}}
    return c.bootstrap([c.listener("hbone", [chain], []), *listeners], [dst, *clusters])


def inside(*filters):
    """What is needed of an internal listener: (listeners, clusters)."""
    raw = c.typed("raw", "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer")
    to = {"name": "inside", "transport_socket": c.typed(
        "i", "envoy.extensions.transport_sockets.internal_upstream.v3.InternalUpstreamTransport", transport_socket=raw),
        "load_assignment": {"cluster_name": "inside", "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "inside"}}}}]}]}}
    return ({"name": "inside", "internal_listener": {}, "filter_chains": [{"filters": list(filters)}]},), (to,)


DENY = c.typed("rbac", "envoy.extensions.filters.network.rbac.v3.RBAC", stat_prefix="r", rules={
    "action": "DENY", "policies": {"all": {"permissions": [{"any": True}], "principals": [{"any": True}]}}})
LIMIT = c.typed("limit", "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit", stat_prefix="l",
                token_bucket={"max_tokens": 1, "fill_interval": "3600s"})


def behind(certs, kind, x, first):
    """The chain of a stream begins with this filter."""
    echo = c.cluster("echo", x.port)
    if kind == "hbone_server":
        return server(certs, [{"filters": [first, c.tcp_proxy("echo")]}], clusters=[echo])
    listeners, clusters = inside(first, c.tcp_proxy("echo"))
    return manager(certs, cluster="inside", listeners=listeners, clusters=[*clusters, echo])


def plain(certs, kind, x):
    return server(certs) if kind == "hbone_server" else manager(certs)


def slow(certs, kind, x):
    text = plain(certs, kind, x)
    return text.replace('"connect_timeout": "2s"', '"connect_timeout": "0.5s"')


def workload(certs, kind, x):
    return server(certs, workload={"ports": [{"start": x.port, "end": x.port + 1}], "addresses": ["web.example"]})


def allowed(certs, kind, x):
    return server(certs, allowed_authorities=[{"exact": "shop.example:80"}])


def denied(certs, kind, x):
    return behind(certs, kind, x, DENY)


def limited(certs, kind, x):
    return behind(certs, kind, x, LIMIT)


def no_chain(certs, kind, x):
    if kind != "hbone_server":
        return manager(certs, domain="other.example:80")
    match = {"filter_chain_match": {"destination_port": 1}, "filters": [c.tcp_proxy("dst")]}
    return server(certs, [match])


def no_upgrade(certs, kind, x):
    return manager(certs, methods=False, connect=False)


def direct(certs, kind, x):
    return manager(certs, direct=418)


def no_listener(certs, kind, x):
    return server(certs, listener="nobody")


def few(certs, kind, x):
    return server(certs, http2={"max_concurrent_streams": 1}) if kind == "hbone_server" else manager(certs, most=1)


# ------------------------------------------------------------------ requests

def to(authority, *more):
    return lambda x: wire.request(authority.format(echo=x.echo, port=x.port, closed=x.closed, full=x.full), *more)


def method(name):
    return lambda x: [(":method", name), (":scheme", "https"), (":authority", x.echo), (":path", "/")]


def pseudo(*fields):
    return lambda x: [*[(n, v.format(echo=x.echo)) for n, v in fields]]


M, A = (":method", "CONNECT"), (":authority", "{echo}")
BIG = [(f"x-{i}", "v" * 900) for i in range(80)]

# Beginning of a row -> configuration, requests by name. `x` knows addresses: of an echo server, of nobody, of a full queue.
CASES = {
    "upstream connected": (plain, {"ip": to("{echo}")}),
    "method is not CONNECT": (plain, {n: method(n) for n in ("GET", "HEAD", "POST", "BREW")}),
    "authority without port": (plain, {
        n: to(n) for n in ("127.0.0.1", "127.0.0.1:0", "127.0.0.1:70000", "user@127.0.0.1:80", "[::1]", ":80",
                           "127.0.0.1:80x")}),
    "workload: authority is another address": (workload, {"v4": to("127.0.0.2:{port}"), "v6": to("[::1]:{port}")}),
    "workload: authority is another host name": (workload, {"name": to("other.example:{port}")}),
    "workload: port 15001": (workload, {
        str(p): to(f"127.0.0.1:{p}") for p in (15001, 15006, 15008)}),
    "workload: port is not in `ports`": (workload, {"closed": to("{closed}"), "22": to("127.0.0.1:22")}),
    "`allowed_authorities` has no match": (allowed, {"other": to("{echo}")}),
    "denied by a policy": (denied, {"open": to("{echo}"), "closed": to("{closed}")}),
    "no filter chain, no route": (no_chain, {"any": to("{echo}")}),
    "CONNECT is not among `upgrade_configs`": (no_upgrade, {"any": to("{echo}")}),
    "the route has a `direct_response`": (direct, {"any": to("{echo}")}),
    "the listener that takes the streams does not exist": (no_listener, {"any": to("{echo}")}),
    "no cluster, no endpoint": (plain, {
        "refused": to("{closed}"), "no name": to("nobody.example:80")}),
    "connecting took too long": (slow, {"full": to("{full}")}),
    "a rate limit": (limited, {"second": to("{echo}")}),
    "more header fields or bytes than allowed": (plain, {
        "bytes": to("{echo}", *BIG), "fields": to("{echo}", *[(f"x-{i}", "v") for i in range(101)])}),
    "`:scheme` or `:path` on CONNECT": (plain, {
        "scheme": pseudo(M, A, (":scheme", "https"), (":path", "/")), "path": pseudo(M, A, (":path", "/")),
        "protocol": pseudo(M, A, (":protocol", "websocket"), (":scheme", "https"), (":path", "/")),
        "connection": pseudo(M, A, ("connection", "close")), "transfer-encoding": pseudo(M, A, ("transfer-encoding", "x")),
        "doubled": pseudo(M, A, A), "blank": pseudo(M, (":authority", "")),
        "space": pseudo(M, (":authority", "a b:80")), "status": pseudo(M, A, (":status", "200")),
        "late": pseudo(M, ("a", "b"), A), "no method": pseudo(A), "no authority": pseudo(M)}),
    "more streams than": (few, {"second": to("{echo}")}),
    "headers `baggage`": (plain, {
        "garbage": to("{echo}", ("baggage", "=,;=%zz"), ("forwarded", "for=;;\"")),
        "traceparent": to("{echo}", ("traceparent", "00-zz-zz-00")), "network": to("{echo}", ("x-forwarded-network", "a b,;=\"" * 50)),
    }),
}
TWICE = ("a rate limit", "more streams than")


@pytest.fixture(scope="module")
def addresses():
    """Of an echo server, of a port where nobody listens, and of a queue that is full: no SYN is answered there."""
    echo = net.Server(net.echo)
    with socket.create_server(("127.0.0.1", 0)) as s:
        closed = s.getsockname()[1]
    full, held = socket.create_server(("127.0.0.1", 0), backlog=0), []
    while True:
        k = socket.socket()
        k.settimeout(0.2)
        held.append(k)
        try:
            k.connect(full.getsockname())
        except TimeoutError:
            break
    yield types.SimpleNamespace(echo=address(echo), port=echo.port, closed=f"127.0.0.1:{closed}",
                                full=f"127.0.0.1:{full.getsockname()[1]}")
    for s in (*held, full, echo):
        s.close()


def check(w, stream, want):
    if "RST_STREAM" in want:
        assert w.status(stream) is None
        assert w.code(stream) == getattr(wire, re.search(r"RST_STREAM\((\w+)\)", want)[1])
        return
    allowed_ = [int(n) for n in re.findall(r"\b\d{3}\b", want)] or [200]
    assert w.status(stream) in allowed_
    if 200 in allowed_:
        w.send(wire.DATA, 0, stream, b"alive")
        assert w.read(stream, 5) == b"alive"
    else:
        w.until(lambda: w.ended(stream))
        assert w.code(stream) == wire.NO_ERROR  # our half was still open


def test_every_row_has_a_case():
    assert {row_of(beginning) for beginning in CASES} == set(ROWS)


PAIRS = [pytest.param(row, kind, id=f"{kind}-{i}") for i, row in enumerate(CASES) for n, kind in enumerate(FILTERS)
         if ROWS[row_of(row)][n]]


@pytest.mark.parametrize("row,kind", PAIRS)
def test_documented(hbone, certs, addresses, row, kind):
    """docs/hbone.md, "What is answered". The connection goes on after each of them."""
    make, requests = CASES[row]
    want = ROWS[row_of(row)][FILTERS.index(kind)].replace("its status", "418")
    h = hbone(make(certs, kind, addresses))
    with wire.client(h.port("hbone"), certs) as w:
        w.until(lambda: w.all(wire.SETTINGS, 0)[1:])  # ours are acknowledged, too: limits hold
        stream = 1
        if row in TWICE:
            w.headers(stream, wire.request(addresses.echo))
            check(w, stream, "200")
            stream += 2
        for name, fields in requests.items():
            print(row, kind, name)
            w.headers(stream, fields(addresses))
            check(w, stream, want)
            stream += 2
        assert not w.goaways() and w.end is None


# ------------------------------------------------------------------ what ztunnel takes, and so do we

TAKEN = {
    "unknown headers": [("x-unknown", "y"), ("x-istio-source", "any"), ("x-forwarded-network", "net2")],
    "no baggage": [],
    "baggage in several lines": [("baggage", "k8s.namespace.name=a"), ("baggage", "service.name=b")],
    "baggage that is garbage": [("baggage", "=;,,=\t%%%")],
    "baggage that is no ASCII": [("baggage", "k8s.namespace.name=ä".encode())],
    "baggage of 4 kB": [("baggage", "k=" + "v" * 4000)],
    "traceparent with bad hex": [("traceparent", "00-" + "x" * 32 + "-" + "0" * 16 + "-01")],
    "traceparent too short": [("traceparent", "00-1")],
    # ztunnel answers 200 and resets the stream later; it says nothing on CONNECT (RFC 9110 9.3.6), as for Envoy.
    "content-length that is too small": [("content-length", "1")],
}


@pytest.mark.parametrize("kind", FILTERS)
def test_taken(hbone, certs, addresses, kind):
    h = hbone(plain(certs, kind, addresses))
    with wire.client(h.port("hbone"), certs) as w:
        for stream, (what, headers) in enumerate(TAKEN.items()):
            print(what)
            w.headers(2 * stream + 1, wire.request(addresses.echo, *headers))
            check(w, 2 * stream + 1, "200")
        assert not w.goaways()


@pytest.mark.parametrize("kind", FILTERS)
@pytest.mark.parametrize("how", ["request", "trailers"])
def test_end_of_the_request_side(hbone, certs, addresses, kind, how):
    """CONNECT with END_STREAM: the application gets FIN at once. Trailers are the same end, after the bytes."""
    h = hbone(plain(certs, kind, addresses))
    with wire.client(h.port("hbone"), certs) as w:
        w.headers(1, wire.request(addresses.echo), end=how == "request")
        assert w.status(1) == 200
        if how == "trailers":
            w.send(wire.DATA, 0, 1, b"some")
            w.headers(1, [("grpc-status", "0")], end=True)
        w.until(lambda: w.ended(1))
        assert w.data[1] == (b"some" if how == "trailers" else b"")


@pytest.mark.parametrize("kind", FILTERS)
def test_continuations(hbone, certs, addresses, kind):
    """ztunnel takes 6 of one block. Ours are 8; one more is a flood."""
    h = hbone(plain(certs, kind, addresses))
    with wire.client(h.port("hbone"), certs) as w:
        for stream, many in ((1, 8), (3, 9)):
            block = w.block(wire.request(addresses.echo, *[(f"x-{i}", "v") for i in range(20)]))
            pieces = [block[i * len(block) // (many + 1):(i + 1) * len(block) // (many + 1)] for i in range(many + 1)]
            w.send(wire.HEADERS, 0, stream, pieces[0])
            for i, piece in enumerate(pieces[1:], 1):
                w.send(wire.CONTINUATION, wire.END_HEADERS if i == many else 0, stream, piece)
            if many == 8:
                check(w, stream, "200")
        w.until_over()
        assert [code for _, code in w.goaways()] == [wire.ENHANCE_YOUR_CALM]


# ------------------------------------------------------------------ frames

def u32(*values):
    return struct.pack(f">{len(values)}I", *values)


E = wire.encode
# Name -> bytes, code of GOAWAY. Streams 1 and 3 are open.
FATAL = {
    "DATA on stream 0": (E(wire.DATA, 0, 0, b"x"), wire.PROTOCOL_ERROR),
    "DATA on an idle stream": (E(wire.DATA, 0, 9, b"x"), wire.PROTOCOL_ERROR),
    "SETTINGS on a stream": (E(wire.SETTINGS, 0, 1), wire.PROTOCOL_ERROR),
    "SETTINGS with a bad length": (E(wire.SETTINGS, 0, 0, b"xxxxx"), wire.FRAME_SIZE_ERROR),
    "SETTINGS with a bad value": (E(wire.SETTINGS, 0, 0, struct.pack(">HI", 2, 2)), wire.PROTOCOL_ERROR),
    "PING with a bad length": (E(wire.PING, 0, 0, b"x"), wire.FRAME_SIZE_ERROR),
    "WINDOW_UPDATE 0": (E(wire.WINDOW_UPDATE, 0, 0, u32(0)), wire.PROTOCOL_ERROR),
    "window overflow": (E(wire.WINDOW_UPDATE, 0, 0, u32(2**31 - 1)), wire.FLOW_CONTROL_ERROR),
    "PUSH_PROMISE": (E(wire.PUSH_PROMISE, wire.END_HEADERS, 1, u32(2) + b"\x88"), wire.PROTOCOL_ERROR),
    "CONTINUATION alone": (E(wire.CONTINUATION, wire.END_HEADERS, 1, b"\x88"), wire.PROTOCOL_ERROR),
    "RST_STREAM on an idle stream": (E(wire.RST_STREAM, 0, 9, u32(8)), wire.PROTOCOL_ERROR),
    "even stream": (E(wire.HEADERS, wire.END_HEADERS, 2, b"\x82"), wire.PROTOCOL_ERROR),
    "undecodable HPACK": (E(wire.HEADERS, wire.END_HEADERS, 9, b"\xff\xff\xff\xff\xff\xff"), 9),  # COMPRESSION_ERROR
    # ztunnel resets the stream; that is nghttp2's to decide, and RFC 9113 5.4 allows both.
    "DATA after the end": (E(wire.DATA, wire.END_STREAM, 3) + E(wire.DATA, 0, 3, b"late"), wire.STREAM_CLOSED),
    "frame above 1 MiB": (E(wire.DATA, 0, 1, bytes((1 << 20) + 1))[:9 + 65536], wire.FRAME_SIZE_ERROR),
}


@pytest.mark.parametrize("what", FATAL)
def test_frames_that_end_the_connection(hbone, certs, addresses, what):
    """ztunnel says PROTOCOL_ERROR for all but overflow and size; RFC 9113 has the finer codes, so have we."""
    data, code = FATAL[what]
    h = hbone(server(certs))
    with wire.client(h.port("hbone"), certs) as w:
        for stream in (1, 3):
            w.headers(stream, wire.request(addresses.echo))
            check(w, stream, "200")
        try:
            w.socket.sendall(data)
        except OSError:
            pass
        w.until_over()
        assert [c_ for _, c_ in w.goaways()] == [code]
    h.expect_stat("hbone_server.t.downstream_cx_protocol_error", 1)
    until(lambda: h.stat("hbone_server.t.tunnels_active") == 0, "no tunnel")


@pytest.mark.parametrize("what", ["beyond the window", "second HEADERS"])
def test_frames_that_end_the_stream(hbone, certs, addresses, what, cleanup):
    sink = net.Server(lambda s: s.recv(1) and until(lambda: done, "the test", 60))
    done = []
    cleanup(lambda: done.append(1))
    cleanup(sink.close)
    h = hbone(server(certs, http2={"initial_stream_window_size": 65535, "max_stream_window_size": 65535}))
    with wire.client(h.port("hbone"), certs) as w:
        w.headers(1, wire.request(addresses.echo))
        check(w, 1, "200")
        w.headers(3, wire.request(address(sink)))
        assert w.status(3) == 200
        if what == "beyond the window":
            # In one piece: no credit comes in between.
            w.socket.sendall(b"".join(E(wire.DATA, 0, 3, bytes(16384)) for _ in range(400)))
            assert w.code(3) == wire.FLOW_CONTROL_ERROR
        else:
            w.headers(3, wire.request(address(sink)))
            assert w.code(3) == wire.PROTOCOL_ERROR
        w.send(wire.DATA, 0, 1, b"alive")
        assert w.read(1, 10) == b"alive" * 2


def test_frames_that_are_taken(hbone, certs, addresses):
    """Unknown types, PRIORITY, padding, empty DATA."""
    h = hbone(server(certs))
    with wire.client(h.port("hbone"), certs) as w:
        w.headers(1, wire.request(addresses.echo))
        check(w, 1, "200")
        w.socket.sendall(E(0x77, 0xff, 1, b"what") + E(wire.PRIORITY, 0, 1, bytes(5)) + E(wire.DATA, 0, 1) * 2 +
                         E(wire.DATA, wire.PADDED, 1, b"\x03abc" + bytes(3)))
        assert w.read(1, 8) == b"aliveabc"
