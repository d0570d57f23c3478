# SPDX-License-Identifier: Apache-2.0
"""Envoy as a foreign program, and configurations that both it and ours run."""
import errno
import http.client
import pathlib
import random
import re
import socket

from support.proc import Child, until

CONFIGS = pathlib.Path(__file__).resolve().parent.parent / "configs"


def render(name, **values):
    """configs/NAME with every @WORD@ filled in."""
    text = (CONFIGS / name).read_text(encoding="utf-8")
    for word, value in values.items():
        text = text.replace(f"@{word}@", str(value))
    left = re.findall(r"@[A-Z_]+@", text.split("\nnode:", 1)[-1])
    assert not left, f"no value for {left}"
    return text


def taken(family, host, port):
    try:
        with socket.create_server((host, port), family=family):
            return False
    except OSError as e:
        return e.errno == errno.EADDRINUSE


def free_port():
    """A port that was free a moment ago, for programs whose logs do not tell which one they got for 0. Below those that
    the kernel gives to others in the meantime."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text(encoding="ascii").split()[0])
    for _ in range(100):
        port = random.randrange(first // 2, first)
        if not taken(socket.AF_INET, "127.0.0.1", port) and not taken(socket.AF_INET6, "::1", port):
            return port
    raise AssertionError(f"no free port below {first}")


class Envoy(Child):
    def __init__(self, folder, config, admin_port):
        path = pathlib.Path(folder) / "envoy.yaml"
        path.write_text(config, encoding="utf-8")
        self.admin_port = admin_port
        super().__init__(["envoy", "-c", str(path), "--use-dynamic-base-id", "--concurrency", "1", "-l", "warning",
                          "--file-flush-interval-msec", "100"])
        until(self.is_ready, "Envoy", 60)

    def get(self, path):
        c = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            c.request("GET", path)
            r = c.getresponse()
            return r.status, r.read().decode()
        finally:
            c.close()

    def is_ready(self):
        assert self.process.poll() is None, self.output()
        try:
            return self.get("/ready")[0] == 200
        except OSError:
            return False

    def stat(self, name):
        for line in self.get("/stats")[1].splitlines():
            key, _, value = line.partition(": ")
            if key == name:
                return int(value)
        return 0
