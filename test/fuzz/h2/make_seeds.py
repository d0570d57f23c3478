#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of h2_fuzz into corpus/h2, next to this file."""
import pathlib
import struct

OUT = pathlib.Path(__file__).resolve().parent / "corpus" / "h2"
CLIENT, ECHO, PAUSE, ANSWER, LET_GO, FINISH, UNANSWERED, SETTLED = (1 << i for i in range(8))


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def field(name, value):
    return bytes([0, len(name)]) + name + bytes([len(value)]) + value


CONNECT = field(b":method", b"CONNECT") + field(b":authority", b"10.0.0.1:80")
POST = (field(b":method", b"POST") + field(b":scheme", b"https") + field(b":authority", b"a") +
        field(b":path", b"/t"))
OK = b"\x88"


def headers(stream, block=CONNECT, flags=4):
    return frame(1, flags, stream, block)


def data(stream, payload, flags=0):
    return frame(0, flags, stream, payload)


def rst(stream, code):
    return frame(3, 0, stream, struct.pack(">I", code))


def goaway(last, code=0):
    return frame(7, 0, 0, struct.pack(">II", last, code))


def window(stream, n):
    return frame(8, 0, stream, struct.pack(">I", n))


def settings(*pairs):
    return frame(4, 0, 0, b"".join(struct.pack(">HI", k, v) for k, v in pairs))


SEEDS = {
    "connect_echo": (ECHO | SETTLED, 0, headers(1) + data(1, b"hello") + data(1, b"end", 1)),
    "connect_split": (ECHO | SETTLED, 1, headers(1) + data(1, b"hello" * 20) + data(1, b"", 1)),
    "three_streams": (ECHO | SETTLED, 0, b"".join(headers(i) for i in (1, 3, 5)) +
                      b"".join(data(i, b"x" * 300) for i in (1, 3, 5, 1, 3, 5))),
    "paused": (PAUSE | SETTLED, 0, headers(1) + headers(3) + data(3, b"y" * 5000) * 3 + data(3, b"", 1)),
    "let_go_abort": (LET_GO | SETTLED, 0, headers(1) + headers(3) + headers(5) + data(5, b"z") * 3),
    "let_go_finish": (LET_GO | FINISH | SETTLED, 0, headers(1) + headers(3) + headers(5) + data(5, b"z") * 3),
    "unanswered": (UNANSWERED | SETTLED, 0, headers(1) + data(1, b"early") + headers(3)),
    "reset_at_once": (SETTLED, 0, headers(1) + rst(1, 8) + headers(3)),
    "reset_after_end": (ANSWER | SETTLED, 0, headers(1) + data(1, b"a", 1) + rst(1, 0)),
    "reset_no_error": (SETTLED, 0, headers(1) + data(1, b"a") + rst(1, 0)),
    "too_many_streams": (SETTLED, 0, b"".join(headers(i) for i in range(1, 41, 2))),
    "too_many_fields": (SETTLED, 0, headers(1, CONNECT + field(b"x", b"y") * 30)),
    "post_trailers": (ECHO | SETTLED, 0, headers(1, POST) + data(1, b"body") + headers(1, field(b"t", b"1"), 5)),
    "continuation": (SETTLED, 0, frame(1, 0, 1, CONNECT[:9]) + frame(9, 4, 1, CONNECT[9:])),
    "padding": (ECHO | SETTLED, 0, headers(1) + data(1, b"\x03abc\0\0\0", 8)),
    "windows": (ECHO, 0, settings((4, 1), (5, 20000)) + headers(1) + data(1, b"abc" * 9) + window(1, 5) +
                window(0, 100) + window(1, 1000)),
    "ping_and_priority": (SETTLED, 0, frame(6, 0, 0, b"12345678") + frame(2, 0, 3, b"\0\0\0\1\x10") + headers(3)),
    "bad_data": (SETTLED, 0, data(1, b"idle")),
    "bad_hpack": (SETTLED, 0, headers(1, b"\xff" * 8)),
    "client_ok": (CLIENT | ECHO | SETTLED, 0, b"".join(headers(i, OK) + data(i, b"answer") for i in (1, 3, 5, 7))),
    "client_end": (CLIENT | ANSWER | SETTLED, 2, headers(1, OK) + data(1, b"all", 1) + headers(3, OK, 5)),
    "client_refused": (CLIENT | SETTLED, 0, headers(1, field(b":status", b"503"), 5) +
                       headers(3, field(b":status", b"403")) + rst(5, 7)),
    "client_interim": (CLIENT | SETTLED, 0, headers(1, field(b":status", b"103")) + headers(1, OK)),
    "client_goaway": (CLIENT | SETTLED, 0, headers(1, OK) + goaway(3) + data(1, b"on", 1)),
    "client_push": (CLIENT | SETTLED, 0, frame(5, 4, 1, struct.pack(">I", 2) + CONNECT)),
}

for name, (how, piece, rest) in SEEDS.items():
    (OUT / name).write_bytes(bytes([how, piece]) + rest)
print(len(SEEDS), "seeds")
