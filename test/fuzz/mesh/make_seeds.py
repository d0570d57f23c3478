#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the seeds of this folder into corpus/. The same bytes on every run: the files are checked in.

    python3 test/fuzz/mesh/make_seeds.py
"""
import os

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "corpus")
LABEL = "a" * 63

AUTHORITIES = [
    "10.0.0.1:80", "255.255.255.255:65535", "[::1]:8080", "[fd00::ab:1]:15008", "[::ffff:10.0.0.1]:80",
    "echo:80", "echo.default.svc.cluster.local:8080", "Echo.EXAMPLE.:443", "xn--bcher-kva.example:1", "a_b-c.d:80",
    ".".join([LABEL] * 3 + ["a" * 61]) + ":65535", "", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:65536", "echo:080",
    "user@echo:80", "[fe80::1%eth0]:80", "127.1:80", "0x7f000001:80", "::1:80", "[::1", "a..b:80", "-a:80",
    "b\u00fccher:80", "a:b:80", "http://echo/", LABEL + "a:80",
]

ISTIO = ("k8s.cluster.name=c1,k8s.namespace.name=default,k8s.deployment.name=client,service.name=client,"
         "service.version=v1,cloud.region=r1,cloud.availability_zone=z1")
BAGGAGE = [
    ISTIO, ISTIO.replace(",", "\n"), ISTIO.replace("deployment", "pod"), ISTIO.replace("deployment", "job"),
    ISTIO.replace("deployment", "cronjob"), "k8s.cluster.name=,service.name=", "service.name=a=b=c", "=,==,,,",
    "service.name=a\nservice.name=", "k8s.pod.name=p,k8s.deployment.name=d", "foo=bar,service.name=x;prop=1",
    "service.name= a , service.version = v", "service.name=a%20b", "service.name=\u00e9", "service.name=a\x7f",
    "service.name=a\tb", "service.name=" + "v" * 256, "service.name=" + "v" * 257, "," * 179, "," * 180,
    "a" * 8192, "a" * 8193, "", "k8s.namespace.name=a", "k8s.namespace.name=b",
]

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
HEADERS = [
    TRACE, TRACE[:-1] + "0", TRACE.upper(), "01" + TRACE[2:], TRACE.replace("-", "0"), "-" * 55, "0" * 55, TRACE + "0",
    "00-" + "0" * 32 + "-b7ad6b7169203331-00", 'for="10.0.0.1:1234"', 'for="10.0.0.1:1234";host=echo.example',
    'for="[fd00::1]:80";host="echo:80"', 'For="[fd00::1]" ; Host=a.b ; proto=https', "for=unknown;host=a",
    "for=_hidden", "for=10.0.0.1, for=10.0.0.2", 'for="10.0.0.1', 'for="a\\"b"', "for=10.0.0.1;for=10.0.0.2",
    "host=" + "a" * 255, "for=10.0.0.1:80", ";", "by=x;by=y", "waypoint", "gateway", "sidecar", "network-1",
    "projects/a/networks/b", "n" * 253, "n" * 254, "",
]


def varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def field(number, value):
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, str):
        value = value.encode()
    return varint(number << 3 | 2) + varint(len(value)) + value


def message(*fields):
    return b"".join(field(n, v) for n, v in fields)


def policy(*matches, name="p", namespace="n", **head):
    numbers = {"scope": 3, "action": 4, "dry_run": 6, "extensions": 7}
    out = message((1, name), (2, namespace)) + b"".join(field(numbers[k], v) for k, v in head.items())
    return out + field(5, field(1, b"".join(field(2, m) for m in matches)))


def exact(text):
    return field(1, text)


PRESENCE = field(4, b"")
NET = message((1, b"\x0a\0\0\0"), (2, 8))
NET6 = message((1, b"\xfd" + b"\0" * 15), (2, 8))
AUTHZ = [
    policy(field(1, exact("a"))), policy(field(2, exact("a")), action=1), policy(field(3, exact("td/ns/a/sa/b"))),
    policy(field(4, PRESENCE), action=1, scope=2), policy(field(3, field(2, "td/"))), policy(field(3, field(3, "/sa/b"))),
    policy(field(5, NET)), policy(field(6, NET), action=1), policy(field(7, NET6)), policy(field(8, NET6)),
    policy(field(9, b"\x50\x90\x3f")), policy(field(9, 80) + field(9, 8080)), policy(field(10, b"\x50")),
    policy(field(11, message((1, "a"), (2, "b")))), policy(field(12, message((1, "a"), (2, "b"))), action=1),
    policy(field(1, exact("a")) + field(9, b"\x50"), field(3, PRESENCE), dry_run=1), policy(b""), policy(),
    message((1, "p"), (2, "n")), message((1, "p"), (4, 1)), message((1, "p"), (5, b"")), message((2, "n")),
    policy(field(3, b"")), policy(field(5, message((1, b"abc")))), policy(field(5, message((1, b"abcd"), (2, 33)))),
    policy(field(9, 65616)), policy(field(3, exact("spiffe://td/x"))), policy(scope=3), policy(action=7),
    policy(extensions=b""), policy(field(13, b"")), policy(field(5, message((1000, "10.0.0.0/8")))), b"\xff" * 9, b"",
]


def write(name, seeds):
    folder = os.path.join(HERE, name)
    os.makedirs(folder, exist_ok=True)
    for i, seed in enumerate(seeds):
        with open(os.path.join(folder, "seed%02d" % (i + 1)), "wb") as f:
            f.write(seed if isinstance(seed, bytes) else seed.encode())


write("authority", AUTHORITIES)
write("baggage", BAGGAGE)
write("headers", HEADERS)
write("authz", AUTHZ)
