# SPDX-License-Identifier: Apache-2.0
"""An HTTP/2 server on python-h2 with mutual TLS, whose answers a test writes frame by frame."""
import ssl
import threading

import h2.config
import h2.connection
import h2.events
import h2.settings

from support import net


class Session:
    """One connection. on_request(session, stream id, headers) is called for each request."""

    def __init__(self, server, socket):
        self.server, self.socket = server, socket
        self.lock = threading.RLock()
        self.data, self.ended, self.reset, self.pings = {}, set(), {}, 0
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
        self.h2.local_settings = h2.settings.Settings(client=False, initial_values={
            h2.settings.SettingCodes.MAX_CONCURRENT_STREAMS: server.streams,
            h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        self.h2.initiate_connection()
        self.flush()

    def flush(self):
        with self.lock:
            self.socket.sendall(self.h2.data_to_send())

    def answer(self, stream, status=200, headers=(), end=False):
        with self.lock:
            self.h2.send_headers(stream, [(":status", str(status)), *headers], end_stream=end)
            self.flush()

    def send(self, stream, data, end=False):
        with self.lock:
            self.h2.send_data(stream, data, end_stream=end)
            self.flush()

    def rst(self, stream, code):
        with self.lock:
            self.h2.reset_stream(stream, code)
            self.flush()

    def raw(self, data):
        with self.lock:
            self.socket.sendall(data)

    def _event(self, event):
        number = getattr(event, "stream_id", None)
        if isinstance(event, h2.events.RequestReceived):
            self.data[number] = bytearray()
            self.server.requests.append((self, number, dict(event.headers)))
            self.server.on_request(self, number, dict(event.headers))
        elif isinstance(event, h2.events.DataReceived):
            self.data[number] += event.data
            self.h2.acknowledge_received_data(event.flow_controlled_length, number)
            self.server.on_data(self, number, event.data)
        elif isinstance(event, h2.events.StreamEnded):
            self.ended.add(number)
            self.server.on_end(self, number)
        elif isinstance(event, h2.events.StreamReset):
            self.reset[number] = int(event.error_code)
        elif isinstance(event, h2.events.PingAckReceived):
            self.pings += 1

    def run(self):
        while True:
            data = self.socket.recv(1 << 16)
            if not data:
                return
            with self.lock:
                for event in self.h2.receive_data(data):
                    self._event(event)
                self.flush()


class Server(net.Server):
    def __init__(self, certs, name="echo", streams=100):
        self.streams, self.sessions, self.requests = streams, [], []
        self.on_request = lambda session, stream, headers: session.answer(stream)
        self.on_data = lambda session, stream, data: None
        self.on_end = lambda session, stream: None
        context = net.server_context(certs, name, ["h2"])
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(str(certs.ca))

        def handle(raw):
            with context.wrap_socket(raw, server_side=True) as s:
                session = Session(self, s)
                self.sessions.append(session)
                session.run()
        super().__init__(handle)
