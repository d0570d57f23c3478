# SPDX-License-Identifier: Apache-2.0
"""The programs that are compared: their configurations, how they are started, pinned and stopped."""
import dataclasses
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import time

from ca import Authority

CONFIGS = pathlib.Path(__file__).resolve().parent / "configs"
SERVER_ID = "spiffe://cluster.local/ns/default/sa/server"
DEADLINE = 20            # seconds, for what should take less than one
ENDS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)    # of the suite

_RENO = 'socket_options: [{level: 6, name: 13, buf_value: "cmVubw==", state: STATE_PREBIND}]'    # TCP_CONGESTION = reno
# What the tunnels carry is TLS and HTTP/2 again, and what these tunnels carry goes to the origin.
_DOUBLE = {"INNER": """transport_socket: *tls
            filters:
            - name: inner
              typed_config:
                "@type": type.googleapis.com/hbone.filters.network.hbone_server.HboneServer
                stat_prefix: inner
                filter_chains: [{""", "END": "}]"}
_PIPES = {"GLOBAL": "tune.pipesize 1048576", "SPLICE": "option splice-request\n\toption splice-response"}


class BenchError(Exception):
    """A run that cannot be reported."""


@dataclasses.dataclass(frozen=True)
class Peer:
    """`ways`: way -> (file in configs/ or None, what is filled in there); `argv` gets the rendered file and the values."""
    label: str
    program: str
    argv: object
    ways: dict
    version: tuple = ()
    env: object = None              # the values -> more environment
    fixed: dict = None              # way -> (address, port) that cannot be chosen, so that one at a time can run

    def path(self):
        return shutil.which(self.program) if self.program else None


def _hbone(program):
    ways = {"passthrough": ("passthrough.yaml", {"SOCKETS": "", "BIND": ""}),
            "passthrough-reno": ("passthrough.yaml", {
                "SOCKETS": _RENO,
                "BIND": f"upstream_bind_config: {{source_address: {{address: 127.0.0.1, port_value: 0}}, {_RENO}}}"}),
            "terminate": ("hbone-terminate.yaml", {"INNER": "", "END": ""}), "double": ("hbone-terminate.yaml", _DOUBLE),
            "originate": ("hbone-originate.yaml", {})}
    return program, (lambda p, config, v: [p, "run", "-c", config, "--concurrency", "1", "-l", "warn"]), ways, ("version",)


def _nghttpx(program, _config, v):
    certs = v["CERTS"]
    return [program, "--conf=/dev/null", "--http2-proxy", "--workers=1", "--single-process", "--single-thread", "--log-level=ERROR",
            f"--frontend=127.0.0.1,{v['PORT']}", f"--backend=127.0.0.1,{v['ORIGIN']}", "--verify-client",
            f"--verify-client-cacert={certs}/root.pem", "--tls-min-proto-version=TLSv1.3", "--no-via",
            "--frontend-http2-window-size=16777216", "--frontend-http2-connection-window-size=33554432",
            "--tls13-ciphers=TLS_AES_128_GCM_SHA256", f"{certs}/server.key", f"{certs}/server.pem"]


def _floor(program, _config, v):
    own = [f"{v['CERTS']}/server.pem", f"{v['CERTS']}/server.key"] if v["WAY"] == "terminate" else []
    return [program, v["WAY"], v["PORT"], v["ORIGIN"], *own]


def _haproxy(label, ways):
    return Peer(label, "haproxy", lambda p, config, v: [p, "-db", "-f", config], ways, ("-v",))


PEERS = {
    "direct": Peer("no proxy", None, None, {}),
    "hbone": Peer("hbone", *_hbone("hbone")),
    "per-record": Peer("hbone, one system call per record", *_hbone("hbone_per_record")),
    "envoy": Peer("Envoy", "envoy", lambda p, config, v: [
        p, "-c", config, "--use-dynamic-base-id", "--concurrency", "1", "-l", "error"], {
            "passthrough": ("passthrough.yaml", {"SOCKETS": "", "BIND": ""}),
            "terminate": ("envoy-terminate.yaml", {}), "originate": ("envoy-originate.yaml", {})}, ("--version",)),
    "haproxy": _haproxy("HAProxy", {"passthrough": ("haproxy-passthrough.cfg", {"GLOBAL": "", "SPLICE": ""})}),
    "haproxy-splice": _haproxy("HAProxy, splice, 1 MiB pipes", {
        "passthrough": ("haproxy-passthrough.cfg", _PIPES), "passthrough-reno": ("haproxy-passthrough.cfg", _PIPES)}),
    "haproxy-tuned": _haproxy("HAProxy, 64 KiB buffers", {"terminate": ("haproxy-terminate.cfg", {})}),
    "nginx": Peer("nginx", "nginx", lambda p, config, v: [p, "-c", config, "-p", v["FOLDER"]], {
        "passthrough": ("nginx.conf", {})}, ("-v",)),
    "nghttpx": Peer("nghttpx, 16 MiB windows", "nghttpx", _nghttpx, {"terminate": (None, {})}, ("--version",)),
    "floor": Peer("floor", "floor", _floor, {way: (None, {}) for way in ("passthrough", "terminate")}),
    "h2o": Peer("h2o", "h2o", lambda p, config, v: [p, "-c", config], {"terminate": ("h2o.conf", {})}, ("--version",)),
}

# One worker and its main thread. It signs nothing itself: `CA` is ours.
# What it originates enters at the port that packets are redirected to; where nothing is redirected it goes to the address that the client has
# connected to, which must not be a loopback one. That address has a waypoint: the terminator, at a port of our choice.
OUTSIDE = "10.78.0.3"
_BEHIND_WAYPOINT = (f'- {{name: origin, namespace: default, workloadIps: ["{OUTSIDE}"], protocol: HBONE, '
                    'waypoint: {destination: "/127.0.0.1", hboneMtlsPort: @TERMINATOR@}, services: {}}')
_ZTUNNEL = {"PROXY_MODE": "dedicated", "PROXY_WORKLOAD_INFO": "default/bench/server", "ZTUNNEL_WORKER_THREADS": "1", "RUST_LOG": "off",
            "XDS_ADDRESS": "", "DNS_PROXY_ADDR": "127.0.0.1:15053", "ALT_CA_HOSTNAME": "bench.example", "NODE_NAME": "bench",
            "CLUSTER_ID": "bench"}
PEERS["ztunnel"] = Peer("ztunnel", "ztunnel", lambda p, config, v: [p], {
    "terminate": ("ztunnel.yaml", {"MORE": ""}), "originate": ("ztunnel.yaml", {"MORE": _BEHIND_WAYPOINT})}, ("version",),
                        fixed={"terminate": ("127.0.0.1", 15008), "originate": (OUTSIDE, 15001)},
                        env=lambda v: {**_ZTUNNEL, "LOCAL_XDS_PATH": v["CONFIG"], "CA_ADDRESS": f"https://127.0.0.1:{v['CA']}",
                                       "CA_ROOT_CA": f"{v['CERTS']}/root.pem", "AUTH_TOKEN": f"{v['CERTS']}/token"})


def available(name):
    return name in PEERS and (name == "direct" or PEERS[name].path() is not None)


def render(name, way, values):
    """The configuration file of a peer, filled in."""
    template, more = PEERS[name].ways[way]
    text = (CONFIGS / template).read_text(encoding="utf-8")
    for word, value in {**more, **values}.items():
        text = text.replace(f"@{word}@", str(value))
    return text


def version(name):
    peer = PEERS[name]
    if not peer.version:
        return ""
    out = subprocess.run([peer.path(), *peer.version], capture_output=True, text=True, timeout=20, check=False)
    for line in (out.stdout + out.stderr).splitlines():
        if line.strip():
            return line.strip().replace(peer.path(), peer.program)
    return ""


# ------------------------------------------------------------------ certificates

_LEAF = """[v]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = URI:spiffe://cluster.local/ns/default/sa/{name}, DNS:bench.example
"""


def _openssl(*args):
    done = subprocess.run(["openssl", *map(str, args)], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"openssl {args[0]}: {done.stderr.strip()}")


def make_certificates(folder):
    """root.pem (RSA 2048, as istiod's), server.pem and client.pem with P-256 keys below it."""
    folder.mkdir(parents=True, exist_ok=True)
    key, root = folder / "root.key", folder / "root.pem"
    _openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", root, "-days", "30", "-subj", "/O=cluster.local",
             "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name in ("server", "client"):
        (folder / "ext").write_text(_LEAF.format(name=name), encoding="utf-8")
        _openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / f"{name}.key",
                 "-out", folder / "csr", "-subj", f"/O={name}")
        _openssl("x509", "-req", "-in", folder / "csr", "-CA", root, "-CAkey", key, "-CAcreateserial", "-days", "20",
                 "-out", folder / f"{name}.pem", "-extfile", folder / "ext", "-extensions", "v")
        both = (folder / f"{name}.pem").read_bytes() + (folder / f"{name}.key").read_bytes()
        (folder / f"{name}-both.pem").write_bytes(both)
    (folder / "token").write_text("bench", encoding="ascii")
    return folder


# ------------------------------------------------------------------ processes

def pin(pid, cores):
    """All threads of a process; those that it starts later inherit it."""
    for task in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(task), cores)


class Process:
    """A program on `cores`. Its output goes to a file; `started` is the time just before its exec (monotonic ns)."""

    alive = []      # all of them, until they are stopped

    def __init__(self, argv, log, cores, stdin=subprocess.DEVNULL, stdout=None, env=None):
        self.log = pathlib.Path(log)
        own = os.sched_getaffinity(0)
        with open(self.log, "wb") as out:
            os.sched_setaffinity(0, cores)
            self.started = time.monotonic_ns()
            # What ends the suite waits until it is known which process is there to be stopped.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, ENDS)
            try:
                self.process = subprocess.Popen(argv, stdin=stdin, stdout=stdout or out, stderr=out,
                                                env={**os.environ, **(env or {})})
                Process.alive.append(self)
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.sched_setaffinity(0, own)
        self.pid = self.process.pid

    def tail(self):
        text = self.log.read_text(encoding="utf-8", errors="replace").strip()
        return "; ".join(text.splitlines()[-3:]) or "it says nothing"

    def check(self):
        if self.process.poll() is not None:
            raise BenchError(f"{self.process.args[0]} ended with {self.process.returncode}: {self.tail()}")

    def wait_for(self, where):
        """Until it accepts connections; returns when that was (monotonic ns)."""
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            try:
                with socket.create_connection(where, timeout=DEADLINE):
                    return time.monotonic_ns()
            except ConnectionRefusedError:
                self.check()
                time.sleep(0.0002)
        raise BenchError(f"{self.process.args[0]} does not listen after {DEADLINE} s: {self.tail()}")

    def memory(self):
        """(resident, anonymous) bytes."""
        text = pathlib.Path(f"/proc/{self.pid}/smaps_rollup").read_text(encoding="ascii")
        return tuple(1024 * int(re.search(rf"^{key}:\s+(\d+) kB", text, re.M)[1]) for key in ("Rss", "Anonymous"))

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self in Process.alive:
            Process.alive.remove(self)

    @classmethod
    def stop_all(cls):
        for process in list(cls.alive):
            process.stop()


class Stage:
    """The origin, and the proxies that are running now. Ports stay below those that clients get."""

    def __init__(self, folder, load, cores):
        self.folder, self.load, self.cores = pathlib.Path(folder), load, cores
        self.certs = make_certificates(self.folder / "certs")
        self.port = 2000
        self.running = {}
        self.authority = Authority(self.certs, SERVER_ID) if available("ztunnel") else None
        self.origin_port = self.next_port()
        self.origin = Process([load, "serve", "--listen", f"127.0.0.1:{self.origin_port}"], self.folder / "origin.log", cores)
        self.origin.wait_for(("127.0.0.1", self.origin_port))

    def next_port(self):
        self.port = self.port + 1 if self.port < 9000 else 2001
        return self.port

    def start(self, name, way):
        """A process of its own for this peer: (process, (address, port))."""
        peer = PEERS[name]
        folder = self.folder / f"{name}-{way}"
        folder.mkdir(exist_ok=True)
        if peer.fixed:
            for other in peer.ways:
                self.drop(name, other)
        where = peer.fixed[way] if peer.fixed else ("127.0.0.1", self.next_port())
        values = {"WAY": way, "PORT": where[1], "ORIGIN": self.origin_port, "CERTS": self.certs, "FOLDER": folder, "SERVER_ID": SERVER_ID}
        if way == "originate":
            values["TERMINATOR"] = self.get("hbone", "terminate")[1][1]
        template = peer.ways[way][0]
        config = folder / (template or "none")
        if template:
            config.write_text(render(name, way, values), encoding="utf-8")
        values |= {"CONFIG": config, "CA": self.authority.port if self.authority else 0}
        values = {k: str(v) for k, v in values.items()}
        return Process(peer.argv(peer.path(), str(config), values), folder / "log", self.cores,
                       env=peer.env(values) if peer.env else None), where

    def get(self, name, way):
        """One that runs until `stop_all`: (process, (address, port))."""
        key = (name, way)
        if key not in self.running:
            process, where = self.start(name, way)
            self.running[key] = (process, where)
            process.wait_for(where)
        return self.running[key]

    def drop(self, name, way):
        """The next `get` starts a new one."""
        if (name, way) in self.running:
            self.running.pop((name, way))[0].stop()

    def stop_all(self):
        for process, _ in self.running.values():
            process.stop()
        self.running.clear()
