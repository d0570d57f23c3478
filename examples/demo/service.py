#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A web service for the demo: GET / says who answers, GET /N sends N MiB of known bytes.
Usage: service.py NAME PORT-FILE [CERT KEY]"""
import hashlib
import http.server
import ssl
import sys

name, port_file, *tls = sys.argv[1:]
BLOCK = hashlib.shake_256(b"hbone").digest(1 << 20)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        mib = int(self.path[1:]) if self.path[1:].isdigit() else 0
        body = f"this is {name}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(mib << 20 if mib else len(body)))
        self.end_headers()
        if mib:
            for _ in range(mib):
                self.wfile.write(BLOCK)
        else:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
if tls:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls)
    server.socket = context.wrap_socket(server.socket, server_side=True)
with open(port_file, "w", encoding="ascii") as file:
    file.write(str(server.server_address[1]))
server.serve_forever()
