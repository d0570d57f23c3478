# SPDX-License-Identifier: Apache-2.0
"""Small servers and clients of the tests; all on loopback, all on port 0."""
import hashlib
import socket
import ssl
import struct
import threading

from support.proc import SLOW

TIMEOUT = 60 * SLOW


class Server:
    """Accepts on a port of the host (0: a free one) and runs handle(socket) in a thread for each connection."""

    def __init__(self, handle, backlog=4096, host="127.0.0.1", port=0):
        self.handle = handle
        self.accepted = 0
        self.errors = []
        self._open = set()
        self._lock = threading.Lock()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listener = socket.create_server((host, port), family=family, backlog=backlog)
        self.port = self.listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            s.settimeout(TIMEOUT)
            with self._lock:
                self.accepted += 1
                self._open.add(s)
            threading.Thread(target=self._run, args=(s,), daemon=True).start()

    def _run(self, s):
        try:
            self.handle(s)
        except OSError as e:
            self.errors.append(e)
        finally:
            with self._lock:
                self._open.discard(s)
            s.close()

    def close(self):
        """Stops listening and drops what is open."""
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.listener.close()
        with self._lock:
            for s in self._open:
                try:
                    s.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def server_context(certs, name, alpn=()):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certs.pem(name), certs.key(name))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def client_context(certs, alpn=(), cert=None):
    context = ssl.create_default_context(cafile=str(certs.ca))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if cert:
        context.load_cert_chain(certs.pem(cert), certs.key(cert))
    return context


def tls_server(certs, name, handle, alpn=()):
    """A TLS server of Python's ssl module; handle gets the TLS socket."""
    context = server_context(certs, name, alpn)

    def run(raw):
        with context.wrap_socket(raw, server_side=True) as s:
            handle(s)
    return Server(run)


def tls_connect(port, certs, sni, alpn=(), cert=None):
    raw = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
    return client_context(certs, alpn, cert).wrap_socket(raw, server_hostname=sni)


def client_hello(sni=None, alpn=(), certs=None):
    """The first flight of a real TLS client, as bytes."""
    context = client_context(certs, alpn) if certs else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if not certs:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(list(alpn))
    if sni is None:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    o = context.wrap_bio(incoming, outgoing, server_hostname=sni)
    try:
        o.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()


def read_exactly(s, n):
    data = b""
    while len(data) < n:
        piece = s.recv(n - len(data))
        if not piece:
            raise EOFError(f"ended after {len(data)} of {n} bytes")
        data += piece
    return data


def read_all(s):
    """Everything until a clean end."""
    pieces = []
    while True:
        piece = s.recv(1 << 18)
        if not piece:
            return b"".join(pieces)
        pieces.append(piece)


def echo(s):
    while True:
        data = s.recv(1 << 16)
        if not data:
            return
        s.sendall(data)


def reset(s):
    """Closes with RST."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def pattern(n, seed=0):
    """n pseudo-random bytes that both sides can make."""
    block = hashlib.shake_256(str(seed).encode()).digest(min(n, 1 << 20))
    return (block * (n // len(block) + 1))[:n] if n else b""


def refused(port):
    """Nobody listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass
    return False
