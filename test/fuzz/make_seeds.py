#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of clienthello, proxy_protocol and gcm into corpus/. The same bytes on every run: the files are checked in.

    python3 test/fuzz/make_seeds.py
"""
import os
import random
import socket
import struct

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
RNG = random.Random(15443)


def rnd(n):
    return RNG.randbytes(n)


def vec(n, data):
    return len(data).to_bytes(n, "big") + data


def ext(kind, data):
    return struct.pack(">H", kind) + vec(2, data)


def sni(name):
    return ext(0, vec(2, b"\0" + vec(2, name)))


def alpn(*names):
    return ext(16, vec(2, b"".join(vec(1, n) for n in names)))


def key_share(*shares):
    return ext(51, vec(2, b"".join(struct.pack(">H", g) + vec(2, rnd(n)) for g, n in shares)))


GREASE = [0x0A0A + 0x1010 * i for i in range(16)]
BASE = (ext(10, vec(2, b"\x00\x1d\x00\x17")) + ext(13, vec(2, b"\x04\x03\x08\x04\x04\x01")) +
        ext(43, vec(1, b"\x03\x04\x03\x03")) + ext(45, vec(1, b"\x01")))


def hello(extensions, suites=(0x1301, 0x1302, 0x1303, 0xC02F), session=32, version=0x0303, no_extensions=False):
    body = struct.pack(">H", version) + rnd(32) + vec(1, rnd(session))
    body += vec(2, b"".join(struct.pack(">H", s) for s in suites)) + vec(1, b"\0")
    if not no_extensions:
        body += vec(2, extensions)
    return b"\x01" + vec(3, body)


def records(msg, size=16384, minor=1):
    out = b""
    for i in range(0, len(msg), size):
        part = msg[i:i + size]
        out += b"\x16\x03" + bytes([minor]) + vec(2, part)
    return out


def clienthellos():
    x25519 = key_share((0x001D, 32))
    hybrid = key_share((GREASE[3], 1), (0x11EC, 1216), (0x001D, 32))
    web = sni(b"www.example.com")
    yield "tls13", records(hello(web + alpn(b"h2", b"http/1.1") + BASE + x25519))
    yield "tls12", records(hello(web + ext(23, b"") + ext(35, b""), suites=(0xC02F, 0xC030, 0x00FF)))
    yield "no_sni", records(hello(alpn(b"h2") + BASE + x25519))
    yield "no_alpn", records(hello(web + BASE + x25519))
    yield "no_extensions", records(hello(b"", no_extensions=True))
    yield "empty_extensions", records(hello(b""))
    yield "upper_case", records(hello(sni(b"WWW.Example.COM") + BASE + x25519))
    yield "istio", records(hello(sni(b"outbound_.8080_.v1_.reviews.default.svc.cluster.local") +
                                 alpn(b"istio-peer-exchange", b"istio") + BASE + x25519))
    yield "hbone", records(hello(alpn(b"h2") + BASE + x25519, session=0))
    yield "grease", records(hello(ext(GREASE[0], b"") + web + alpn(b"h2") + BASE + x25519 + ext(GREASE[7], b"\0"),
                                  suites=(GREASE[2], 0x1301)))
    yield "grease_alpn", records(hello(web + alpn(b"\x1a\x1a", b"h2", b"\xea\xea") + BASE))
    yield "post_quantum", records(hello(ext(GREASE[5], b"") + web + alpn(b"h2", b"http/1.1") + BASE + hybrid))
    yield "post_quantum_two_records", records(hello(web + alpn(b"h2") + BASE + hybrid), size=700)
    yield "ech_outer", records(hello(sni(b"public.example") + BASE + x25519 +
                                     ext(0xFE0D, b"\0\0\1\0\1\7" + vec(2, rnd(32)) + vec(2, rnd(200)))))
    yield "ech_grease", records(hello(web + ext(0xFE0D, b"\0\0\1\0\1\x2a" + vec(2, rnd(32)) + vec(2, rnd(144)))))
    yield "one_byte_records", records(hello(web, suites=(0x1301,), session=0), size=1)
    yield "seven_byte_records", records(hello(web + alpn(b"h2") + BASE), size=7)
    yield "psk", records(hello(web + BASE + x25519 + ext(42, b"") + ext(41, vec(2, vec(2, rnd(180)) + rnd(4)) +
                                                                        vec(2, vec(1, rnd(32))))))
    yield "padding", records(hello(web + BASE + ext(21, bytes(400))))
    yield "many_alpn", records(hello(web + alpn(*[b"proto-%d" % i for i in range(40)])))
    yield "longest_name", records(hello(sni(b".".join([b"a" * 63] * 3) + b"." + b"b" * 63)))
    yield "large", records(hello(web + ext(0x5555, bytes(20000)) + alpn(b"h2")), size=16384)
    yield "tls10_version", records(hello(web, version=0x0301), minor=0)
    yield "bytes_behind", records(hello(web)) + b"\x14\x03\x03\0\1\1" + rnd(16)
    yield "bad_two_names", records(hello(web + web))
    yield "bad_control_name", records(hello(sni(b"evil\r\n.example")))
    yield "bad_alpn_empty", records(hello(alpn(b"")))
    yield "bad_lengths", records(hello(web))[:-3] + b"\xff\xff\xff"
    yield "bad_server_hello", b"\x16\x03\x03\0\4\x02\0\0\0"
    yield "bad_empty_record", b"\x16\x03\x01\0\0" + records(hello(web))
    yield "not_tls_http", b"GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"
    yield "not_tls_ssl2", b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10" + rnd(37)


SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def tlv(kind, value):
    return bytes([kind]) + vec(2, value)


def v2(family, body, command=1, version=2):
    return SIGNATURE + bytes([version << 4 | command, family]) + vec(2, body)


def ip4(src, dst, sport=40000, dport=443):
    return socket.inet_aton(src) + socket.inet_aton(dst) + struct.pack(">HH", sport, dport)


def ip6(src, dst, sport=40000, dport=443):
    return (socket.inet_pton(socket.AF_INET6, src) + socket.inet_pton(socket.AF_INET6, dst) +
            struct.pack(">HH", sport, dport))


def proxy_headers():
    v4, v6 = ip4("192.0.2.10", "198.51.100.1"), ip6("2001:db8::10", "2001:db8::1")
    yield "v1_tcp4", b"PROXY TCP4 192.0.2.10 198.51.100.1 40000 443\r\n"
    yield "v1_tcp6", b"PROXY TCP6 2001:db8::10 2001:db8::1 40000 443\r\n"
    yield "v1_tcp6_longest", b"PROXY TCP6 " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n"
    yield "v1_tcp6_mapped", b"PROXY TCP6 ::ffff:192.0.2.10 ::ffff:198.51.100.1 1 2\r\n"
    yield "v1_unknown", b"PROXY UNKNOWN\r\n"
    yield "v1_unknown_longest", b"PROXY UNKNOWN " + b" ".join([b"ffff:" * 7 + b"ffff"] * 2) + b" 65535 65535\r\n"
    yield "v1_with_data", b"PROXY TCP4 192.0.2.10 198.51.100.1 40000 443\r\nGET / HTTP/1.1\r\n\r\n"
    yield "v1_port_0", b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n"
    yield "v2_tcp4", v2(0x11, v4)
    yield "v2_tcp6", v2(0x21, v6)
    yield "v2_mapped", v2(0x21, ip6("::ffff:192.0.2.10", "::ffff:198.51.100.1"))
    yield "v2_unix", v2(0x31, b"/run/a.sock".ljust(108, b"\0") + b"/run/b.sock".ljust(108, b"\0"))
    yield "v2_local", v2(0, b"", command=0)
    yield "v2_local_with_body", v2(0x11, v4 + tlv(4, b"xx"), command=0)
    yield "v2_unspec", v2(0, b"")
    yield "v2_unspec_tlv", v2(0, tlv(0x02, b"example.com"))
    yield "v2_authority", v2(0x11, v4 + tlv(0x02, b"example.com") + tlv(0x01, b"h2"))
    yield "v2_unique_id", v2(0x21, v6 + tlv(0x05, rnd(16)))
    yield "v2_ssl", v2(0x11, v4 + tlv(0x20, b"\7\0\0\0\0" + tlv(0x21, b"TLSv1.3") + tlv(0x22, b"client")))
    yield "v2_aws", v2(0x11, v4 + tlv(0xEA, b"\1vpce-08d2bf15fac5001c9") + tlv(0x04, bytes(30)))
    yield "v2_azure_gcp", v2(0x11, v4 + tlv(0xEE, b"\1" + rnd(4)) + tlv(0xE0, rnd(8)))
    yield "v2_crc", v2(0x11, v4 + tlv(0x03, rnd(4)) + tlv(0x30, b"netns"))
    yield "v2_large_tlv", v2(0x11, v4 + tlv(0xE1, bytes(4000)))
    yield "v2_with_data", v2(0x11, v4) + b"\x16\x03\x01\0\x05hello"
    yield "bad_v1_ports", b"PROXY TCP4 192.0.2.10 198.51.100.1 40000 70000\r\n"
    yield "bad_v1_family", b"PROXY TCP4 2001:db8::10 2001:db8::1 1 2\r\n"
    yield "bad_v1_blanks", b"PROXY TCP4  192.0.2.10 198.51.100.1 40000 443\r\n"
    yield "bad_v1_no_end", b"PROXY " + b"x" * 120
    yield "bad_v2_version", v2(0x11, v4, version=3)
    yield "bad_v2_command", v2(0x11, v4, command=2)
    yield "bad_v2_short", v2(0x11, v4[:8])
    yield "bad_v2_tlv", v2(0x11, v4 + b"\x02\xff\xff")
    yield "bad_v2_datagram", v2(0x12, v4)
    yield "none_http", b"GET / HTTP/1.1\r\n\r\n"


def gcm(key_size, shift, length, ivec, text):
    return struct.pack("<BBH", key_size, shift, length) + ivec + rnd(16) + rnd(32) + text


def gcms():
    """For gcm_fuzz: key size (0 to 2), shift, length, counter block, hash, key, text that is repeated."""
    yield "empty", gcm(0, 0, 0, bytes(16), b"")
    yield "one_block", gcm(0, 0, 16, rnd(16), b"A")
    yield "below_two_wide", gcm(0, 1, 127, rnd(16), rnd(20))
    yield "two_wide", gcm(1, 0, 128, rnd(16), rnd(64))
    yield "four_wide", gcm(2, 3, 256, rnd(16), rnd(64))
    yield "both", gcm(0, 17, 256 + 128 + 31, rnd(16), rnd(64))
    yield "aesni_minimum", gcm(2, 0, 288, rnd(16), rnd(64))
    yield "wraps_at_once", gcm(0, 5, 1024, b"\xff" * 16, rnd(100))
    yield "wraps_in_group", gcm(1, 0, 1500, b"\xff" * 15 + b"\xf3", rnd(100))
    yield "wraps_next_group", gcm(2, 31, 2000, rnd(12) + b"\xff\xff\xff\xe1", rnd(100))
    yield "long", gcm(0, 0, 5999, rnd(16), rnd(300))
    yield "zero_key", bytes(4)[:2] + struct.pack("<H", 640) + bytes(64)


def write(name, seeds):
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    for seed, data in seeds:
        with open(os.path.join(folder, seed), "wb") as f:
            f.write(data)


write("clienthello", clienthellos())
write("proxy_protocol", proxy_headers())
write("gcm", gcms())
