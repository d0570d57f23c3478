# SPDX-License-Identifier: Apache-2.0
"""Both ends of HBONE tunnels: configurations, and what tests do with a connection through one."""
import hashlib
import socket
import threading

from support import config as c
from support import net

MIB = 1 << 20
HBONE = "hbone.transport_sockets.hbone.Hbone"
SERVER = "hbone.filters.network.hbone_server.HboneServer"
ECHO = "spiffe://cluster.local/ns/default/sa/echo"
CLIENT = "spiffe://cluster.local/ns/default/sa/client"
LOG = "up=%UPSTREAM_HOST% peer=%UPSTREAM_PEER_URI_SAN% flags=%RESPONSE_FLAGS% why=%UPSTREAM_TRANSPORT_FAILURE_REASON%\n"

FORMAT = ("stream %REQ(:AUTHORITY)% %RESPONSE_CODE% flags=%RESPONSE_FLAGS% peer=%DOWNSTREAM_PEER_URI_SAN% "
          "baggage=%REQ(BAGGAGE)% rx=%BYTES_RECEIVED% tx=%BYTES_SENT%\n")


def server(certs, chains=None, log=None, cert="echo", clusters=(), most=None, **fields):
    """A listener with mTLS and hbone_server; tunnels go to the address of their authority, or where chains say; `most`
    of them at once."""
    chains = chains or [{"filters": [c.tcp_proxy("dst")]}]
    if log:
        fields["access_log"] = [c.typed("f", "envoy.extensions.access_loggers.file.v3.FileAccessLog", path=str(log),
                                        log_format={"text_format_source": {"inline_string": FORMAT}})]
    if "listener" not in fields:
        fields["filter_chains"] = chains
    dst = {"name": "dst", "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "2s"}
    if most:
        fields["http2"] = {"max_concurrent_streams": most}
        dst |= {"connect_timeout": "30s", "circuit_breakers": {"thresholds": [{"max_connections": most}]}}
    hbone = c.typed("hbone", SERVER, stat_prefix="t", **fields)
    chain = {"filters": [hbone], "transport_socket": c.tls_downstream(certs, cert, ["h2"], True)}
    return c.bootstrap([c.listener("hbone", [chain], [])], [dst, *clusters])


def tls(certs, cert="client", peer=ECHO):
    socket_ = c.tls_upstream(certs, "", [("URI", peer)], cert)
    common = socket_["typed_config"]["common_tls_context"]
    common["alpn_protocols"] = ["h2"]
    del socket_["typed_config"]["sni"]
    return socket_


def tunnel(transport_socket, port=0, **fields):
    return c.typed("hbone", HBONE, transport_socket=transport_socket, port=port, **fields)


def client(certs, port, cert="client", peer=ECHO, attempts=1, **fields):
    """Plain TCP in, a tunnel to 127.0.0.1:port out."""
    log = c.typed("out", "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                  log_format={"text_format_source": {"inline_string": LOG}})
    proxy = c.tcp_proxy("peer", access_log=[log], max_connect_attempts=attempts)
    return c.bootstrap([c.listener("in", [{"filters": [proxy]}], [])],
                       [c.cluster("peer", port, transport_socket=tunnel(tls(certs, cert, peer), **fields))])


def address(s):
    return f"127.0.0.1:{s.port}"


def connect(h, listener="in"):
    return dial(h.port(listener))


class ResetConnection:
    """A connection that was reset while it was made: the kernel tells of it at connect, or at the first use."""
    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def close(self):
        pass

    def recv(self, *_):
        raise ConnectionResetError

    sendall = shutdown = recv


def dial(port):
    try:
        s = socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT)
    except ConnectionResetError:
        return ResetConnection()
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return s


def read_to_the_end(s):
    """(bytes, "end" or "reset")."""
    pieces = []
    try:
        while True:
            piece = s.recv(1 << 18)
            if not piece:
                return b"".join(pieces), "end"
            pieces.append(piece)
    except ConnectionResetError:
        return b"".join(pieces), "reset"


def both_ways(s, data):
    """Sends all, half-closes, and reads the echo."""
    def up():
        s.sendall(data)
        s.shutdown(socket.SHUT_WR)
    t = threading.Thread(target=up)
    t.start()
    back = net.read_all(s)
    t.join()
    return back


def same(a, b):
    return len(a) == len(b) and hashlib.sha256(a).digest() == hashlib.sha256(b).digest()


def noting(seen, first):
    """An origin that sends `first`, reads, and notes in `seen` whether the client's half ended: "end", or "reset"."""
    def handle(s):
        s.sendall(first)
        note_the_end(s, seen)
    return handle


def note_the_end(s, seen):
    try:
        net.read_all(s)
        seen.append("end")
    except ConnectionResetError:
        seen.append("reset")
