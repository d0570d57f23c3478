# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 frame by frame, for peers that do what no library would: client or server, over TLS or plain TCP."""
import collections
import socket
import ssl
import struct
import time

import hpack

from support import net
from support.proc import SLOW

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR = range(4)
STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, CONNECT_ERROR, ENHANCE_YOUR_CALM = 5, 6, 7, 8, 10, 11
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DEADLINE = 20 * SLOW

Frame = collections.namedtuple("Frame", "type flags stream payload")


def encode(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def request(authority, *more):
    return [(":method", "CONNECT"), (":authority", authority), *more]


class Wire:
    """SETTINGS and PING are acknowledged and credit is given back, unless `mute`. `end` says how the connection ended:
    "close_notify", "fin" or "reset"."""

    def __init__(self, s, server=False):
        self.socket, self.server = s, server
        self.frames, self.fields, self.data = [], {}, collections.defaultdict(bytes)
        self.mute, self.end = False, None
        self._in = bytearray()
        self._encoder, self._decoder = hpack.Encoder(), hpack.Decoder(max_header_list_size=1 << 20)
        if not server:
            s.sendall(PREFACE)

    def send(self, kind, flags=0, stream=0, payload=b""):
        self.socket.sendall(encode(kind, flags, stream, payload))

    def block(self, fields):
        return self._encoder.encode(fields)

    def headers(self, stream, fields, end=False):
        self.send(HEADERS, END_HEADERS | (END_STREAM if end else 0), stream, self.block(fields))

    def rst(self, stream, code):
        self.send(RST_STREAM, 0, stream, struct.pack(">I", code))

    def goaway(self, last, code=NO_ERROR):
        self.send(GOAWAY, 0, 0, struct.pack(">II", last, code))

    def _take(self):
        """Frames that are whole, and what has to be answered."""
        if self.server and self._in[:len(PREFACE)] == PREFACE:
            del self._in[:len(PREFACE)]
        while len(self._in) >= 9:
            n = int.from_bytes(self._in[:3], "big")
            if len(self._in) < 9 + n:
                return
            frame = Frame(self._in[3], self._in[4], int.from_bytes(self._in[5:9], "big"), bytes(self._in[9:9 + n]))
            del self._in[:9 + n]
            self.frames.append(frame)
            if frame.type == HEADERS:
                self.fields.setdefault(frame.stream, []).append(self._decoder.decode(frame.payload))
            elif frame.type == DATA:
                self.data[frame.stream] += frame.payload
                if frame.payload and not self.mute:
                    for stream in (0, frame.stream):
                        self.send(WINDOW_UPDATE, 0, stream, struct.pack(">I", len(frame.payload)))
            elif frame.type == SETTINGS and not frame.flags & ACK and not self.mute:
                self.send(SETTINGS, ACK)
            elif frame.type == PING and not frame.flags & ACK and not self.mute:
                self.send(PING, ACK, 0, frame.payload)

    def until(self, condition, seconds=DEADLINE):
        """Reads until condition() holds; fails when the connection is over before."""
        end = time.monotonic() + seconds
        while not condition():
            assert self.end is None, f"the connection is over ({self.end}): {self.frames}"
            self.socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self.socket.recv(1 << 18)
                if not data:
                    self.end = "close_notify" if isinstance(self.socket, ssl.SSLSocket) else "fin"
                self._in += data
                self._take()
            except TimeoutError as e:
                raise AssertionError(f"deadline: {self.frames}") from e
            except ssl.SSLEOFError:
                self.end = "fin"
            except OSError:
                self.end = self.end or "reset"

    def until_over(self, seconds=DEADLINE):
        self.until(lambda: self.end, seconds)
        return self.end

    def all(self, kind, stream=None):
        return [f for f in self.frames if f.type == kind and stream in (None, f.stream)]

    def status(self, stream):
        """Of the final answer; None when the stream was reset without one."""
        def final():
            return [s for s in (int(dict(f)[":status"]) for f in self.fields.get(stream, [])) if s >= 200]
        self.until(lambda: final() or self.all(RST_STREAM, stream))
        return (final() or [None])[0]

    def code(self, stream):
        """Of RST_STREAM."""
        self.until(lambda: self.all(RST_STREAM, stream))
        return int.from_bytes(self.all(RST_STREAM, stream)[0].payload, "big")

    def read(self, stream, n):
        self.until(lambda: len(self.data[stream]) >= n)
        return self.data[stream]

    def ended(self, stream):
        return any(f.flags & END_STREAM for f in self.frames if f.stream == stream and f.type in (DATA, HEADERS))

    def goaways(self):
        return [struct.unpack(">II", f.payload[:8]) for f in self.all(GOAWAY)]

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def tls(port, certs, cert="client", alpn=("h2",)):
    """A TLS client without HTTP/2 on it. What ends without close_notify raises ssl.SSLEOFError."""
    context = net.client_context(certs, alpn, cert)
    context.check_hostname = False
    raw = socket.create_connection(("127.0.0.1", port), timeout=net.TIMEOUT)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return context.wrap_socket(raw, suppress_ragged_eofs=False)


def client(port, certs, cert="client", settings=b""):
    w = Wire(tls(port, certs, cert))
    w.send(SETTINGS, 0, 0, settings)
    return w


class Server(net.Server):
    """serve(wire) runs for each connection, once its TLS handshake is done and our SETTINGS are sent."""

    def __init__(self, certs, serve, name="echo", streams=100):
        self.wires, self.failures = [], []
        context = net.server_context(certs, name, ["h2"])
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(str(certs.ca))

        def handle(raw):
            with context.wrap_socket(raw, server_side=True, suppress_ragged_eofs=False) as s:
                w = Wire(s, server=True)
                w.send(SETTINGS, 0, 0, struct.pack(">HI", 3, streams))
                self.wires.append(w)
                try:
                    serve(w)
                except AssertionError as e:
                    self.failures.append(e)
        super().__init__(handle)
