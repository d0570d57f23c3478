# SPDX-License-Identifier: Apache-2.0
"""A small HTTP/2 client on python-h2: CONNECT streams over a TLS connection."""
import socket
import ssl
import time

import h2.config
import h2.connection
import h2.events

DEADLINE = 20


class Stream:
    def __init__(self):
        self.status = None
        self.headers = {}
        self.data = bytearray()
        self.ended = False
        self.reset = None


class Client:
    """Flow control credit comes back at once, unless `hold` names the stream."""

    def __init__(self, port, certs, cert="client", alpn=("h2",), normalize=True, host="127.0.0.1"):
        context = ssl.create_default_context(cafile=str(certs.ca))
        context.check_hostname = False
        context.load_cert_chain(certs.pem(cert), certs.key(cert))
        context.set_alpn_protocols(list(alpn))
        raw = socket.create_connection((host, port), timeout=DEADLINE)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = context.wrap_socket(raw)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=normalize,
            normalize_outbound_headers=normalize))
        self.h2.initiate_connection()
        self.streams, self.goaway, self.closed, self.hold = {}, [], False, set()
        self.settings = False
        self.flush()

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def request(self, headers, end=False):
        number = self.h2.get_next_available_stream_id()
        self.streams[number] = Stream()
        self.h2.send_headers(number, headers, end_stream=end)
        self.flush()
        return number

    def connect(self, authority, *headers, end=False):
        return self.request([(":method", "CONNECT"), (":authority", authority), *headers], end)

    def _event(self, event):
        stream = self.streams.get(getattr(event, "stream_id", None))
        if isinstance(event, h2.events.ResponseReceived):
            stream.headers = dict(event.headers)
            stream.status = int(stream.headers[":status"])
        elif isinstance(event, h2.events.DataReceived):
            stream.data += event.data
            if event.stream_id not in self.hold:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            stream.ended = True
        elif isinstance(event, h2.events.StreamReset):
            stream.reset = int(event.error_code)
        elif isinstance(event, h2.events.ConnectionTerminated):
            self.goaway.append((event.last_stream_id, int(event.error_code)))
            # python-h2 takes GOAWAY for the end; streams that are open go on (RFC 9113 6.8).
            self.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
        elif isinstance(event, h2.events.RemoteSettingsChanged):
            self.settings = True

    def until(self, condition, seconds=DEADLINE):
        end = time.monotonic() + seconds
        while not condition():
            assert not self.closed, "the connection is closed"
            self.socket.settimeout(max(end - time.monotonic(), 0.001))
            try:
                data = self.socket.recv(1 << 18)
            except ssl.SSLError:
                data = b""
            except ConnectionError:
                data = b""
            if not data:
                self.closed = True
            for event in self.h2.receive_data(data) if data else []:
                self._event(event)
            try:
                self.flush()
            except OSError:
                self.closed = True

    def status(self, number):
        stream = self.streams[number]
        self.until(lambda: stream.status is not None or stream.reset is not None)
        return stream.status

    def send(self, number, data=b"", end=False):
        view = memoryview(data)
        while view:
            self.until(lambda: self.h2.local_flow_control_window(number) > 0)
            n = min(len(view), self.h2.local_flow_control_window(number), self.h2.max_outbound_frame_size)
            self.h2.send_data(number, bytes(view[:n]))
            view = view[n:]
            self.flush()
        if end:
            self.h2.end_stream(number)
            self.flush()

    def read(self, number, n):
        stream = self.streams[number]
        self.until(lambda: len(stream.data) >= n)
        return bytes(stream.data)

    def read_all(self, number):
        stream = self.streams[number]
        self.until(lambda: stream.ended or stream.reset is not None)
        return bytes(stream.data)

    def reset(self, number, code=8):
        self.h2.reset_stream(number, code)
        self.flush()

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
