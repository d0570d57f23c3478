# SPDX-License-Identifier: Apache-2.0
"""A certificate authority as ztunnel expects it: istio.v1.auth.IstioCertificateService over gRPC, one request after another."""
import datetime
import socket
import ssl
import struct
import threading

import h2.config
import h2.connection
import h2.events
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID


def _varint(n):
    out = b""
    while n > 127:
        out, n = out + bytes([n & 127 | 128]), n >> 7
    return out + bytes([n])


def _text_field(number, text):
    return bytes([number << 3 | 2]) + _varint(len(text)) + text


def _first_text(message):
    """The value of field 1, which is the first on the wire and a string."""
    n, shift, at = 0, 0, 1
    while True:
        byte = message[at]
        n, shift, at = n | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return message[at:at + n]


class Authority:
    """Signs what is asked for, as `identity`, with the root of `certs`. Its thread ends with the process."""

    def __init__(self, certs, identity):
        self.identity = identity
        self.root_pem = (certs / "root.pem").read_bytes()
        self.root = x509.load_pem_x509_certificate(self.root_pem)
        self.key = serialization.load_pem_private_key((certs / "root.key").read_bytes(), None)
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.tls.load_cert_chain(certs / "server.pem", certs / "server.key")
        self.tls.set_alpn_protocols(["h2"])
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _sign(self, request):
        csr = x509.load_pem_x509_csr(_first_text(request))
        now = datetime.datetime.now(datetime.timezone.utc)
        leaf = (x509.CertificateBuilder().subject_name(x509.Name([])).issuer_name(self.root.subject).public_key(csr.public_key())
                .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(hours=1))
                .not_valid_after(now + datetime.timedelta(days=1))
                .add_extension(x509.SubjectAlternativeName([x509.UniformResourceIdentifier(self.identity)]), True)
                .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]), False)
                .sign(self.key, hashes.SHA256()))
        return _text_field(1, leaf.public_bytes(serialization.Encoding.PEM)) + _text_field(1, self.root_pem)

    def _serve(self, connection):
        try:
            with self.tls.wrap_socket(connection, server_side=True) as s:
                self._requests(s, h2.connection.H2Connection(h2.config.H2Configuration(client_side=False)))
        except OSError:
            pass    # a ztunnel that is stopped takes no leave

    def _requests(self, s, server):
        bodies = {}
        server.initiate_connection()
        s.sendall(server.data_to_send())
        while data := s.recv(65536):
            for event in server.receive_data(data):
                if isinstance(event, h2.events.DataReceived):
                    bodies[event.stream_id] = bodies.get(event.stream_id, b"") + event.data
                elif isinstance(event, h2.events.StreamEnded):
                    answer = self._sign(bodies.pop(event.stream_id)[5:])    # behind the prefix of a gRPC message
                    server.send_headers(event.stream_id, [(":status", "200"), ("content-type", "application/grpc")])
                    server.send_data(event.stream_id, struct.pack(">BI", 0, len(answer)) + answer)
                    server.send_headers(event.stream_id, [("grpc-status", "0")], end_stream=True)
            s.sendall(server.data_to_send())
