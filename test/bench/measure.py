# SPDX-License-Identifier: Apache-2.0
"""One measurement: the load tool against one peer, or its memory, or its start. The result is a dictionary of raw numbers."""
import json
import os
import pathlib
import socket
import ssl
import statistics
import subprocess
import time

import h2.config
import h2.connection
import h2.events

from peers import DEADLINE, PEERS, SERVER_ID, BenchError, Process, pin
from rows import DIRECT

WARM = 5            # tunnels through a fresh process before its memory is read
QUIET_STEAL, QUIET_OTHER, QUIET_ALL = 0.08, 0.30, 0.10


def noisy(result, test):
    """Somebody else had the machine: too much of a core was stolen, or the other cores were busy; where all are ours, others had them."""
    return result.get("steal_share", 0) > QUIET_STEAL or result.get("other_busy", 0) > (QUIET_ALL if test.spread else QUIET_OTHER)


def _argv(stage, test, where, pid, extra):
    via = test.via if pid or test.via == "sni" else "raw"
    argv = [stage.load, "run", "--mode", test.mode if test.mode not in ("further", "start") else "idle", "--via", via,
            "--to", "{}:{}".format(*where)]
    if via == "sni":
        argv += ["--sni", "bench.example"]
    if via == "double":
        argv += ["--inner-authority", f"127.0.0.1:{stage.origin_port}"]
    if via in ("h2", "double"):
        argv += ["--authority", f"127.0.0.1:{stage.origin_port}", "--ca", str(stage.certs / "root.pem"),
                 "--cert", str(stage.certs / "client.pem"), "--key", str(stage.certs / "client.key"), "--peer", SERVER_ID,
                 "--max-frame", str(test.max_frame)]
    if test.resume:
        argv.append("--resume")
    if pid:
        argv += ["--pid", str(pid)]
    return argv + [str(a) for a in extra]


def _report(argv, out, log, code):
    try:
        result = json.loads(out.strip().splitlines()[-1])
    except (IndexError, ValueError):
        text = pathlib.Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise BenchError(f"the load tool ended with {code}: {text[-1] if text else 'no report'}") from None
    if code != 0 or result["errors"]:
        raise BenchError(f"{result['errors']} errors, the first: {result.get('error')}")
    return result


def _load(stage, argv, cores, seconds):
    log = stage.folder / "load.log"
    process = Process(argv, log, cores, stdout=subprocess.PIPE)
    try:
        out, _ = process.process.communicate(timeout=seconds + DEADLINE)
    except subprocess.TimeoutExpired:
        raise BenchError(f"the load tool did not end: {process.tail()}") from None
    finally:
        process.stop()
    return _report(argv, out.decode(), log, process.process.returncode)


def places(cores, mode):
    """Cores of client, proxy and origin when all cores are used: each has its own. When there are but two, who sends is alone, and the
    proxy is with who receives and drops: what bounds the throughput is the same then with a proxy and without."""
    if len(cores) > 2:
        return {cores[0]}, {cores[1]}, {cores[2]}
    sender, other = {cores[-1]}, {cores[0]}
    return (other, other, sender) if mode == "download" else (sender, other, other)


def load(stage, test, name, seconds):
    """Work for a peer that runs all round."""
    client, proxy, origin = places(range(os.cpu_count()), test.mode) if test.spread else 3 * (stage.cores,)
    if name == DIRECT:
        pid, where = None, ("127.0.0.1", stage.origin_port)
    else:
        process, where = stage.get(name, test.way)
        pid = process.pid
        pin(pid, proxy)
    pin(stage.origin.pid, origin)
    argv = _argv(stage, test, where, pid, ["--connections", test.connections, "--streams", test.streams, "--seconds", seconds])
    foreign = Foreign([p for p in (pid, stage.origin.pid) if p]) if test.spread else None
    result = _load(stage, argv, client, seconds)
    if foreign:
        result["other_busy"] = foreign.share()
    if test.resume and result["resumed"] < result["operations"]:
        raise BenchError(f"only {result['resumed']} of {result['operations']} handshakes were resumed")
    if pid and test.spread:
        pin(pid, stage.cores)
    return values(result, pid)


def values(result, pid):
    """The raw report with the metrics that follow from it."""
    cpu = result["cpu_ns"].get(str(pid), 0) if pid else 0
    out = {k: result[k] or 0 for k in ("seconds", "bytes", "operations", "steal_share", "other_busy")}
    if result["bytes"]:
        out["cpu_gb"] = cpu / result["bytes"]
        out["gbit"] = result["bytes"] * 8 / result["seconds"] / 1e9
    if result["operations"]:
        out["cpu_op"] = cpu / 1000 / result["operations"]
    if result.get("latency_us"):
        out["p50"], out["p99"] = result["latency_us"]["p50"], result["latency_us"]["p99"]
    return out


# ------------------------------------------------------------------ memory

class _Idle:
    """Connections that stay open while the caller looks."""

    def __init__(self, stage, test, process, where, connections, streams):
        argv = _argv(stage, test, where, process.pid, ["--connections", connections, "--streams", streams])
        self.argv, self.log = argv, stage.folder / "load.log"
        self.load = Process(argv, self.log, stage.cores, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        line = self.load.process.stdout.readline()
        if not line or json.loads(line).get("open", 0) != connections * streams:
            self.load.stop()
            raise BenchError(f"not all idle streams were opened: {line.decode().strip()} {self.load.tail()}")

    def close(self):
        out, _ = self.load.process.communicate(b"\n", timeout=DEADLINE)
        return _report(self.argv, out.decode(), self.log, self.load.process.returncode)


def _growth(stage, test, name, connections, streams):
    """(growth of a fresh process in bytes, the load tool's report)."""
    process, where = stage.start(name, test.way)
    try:
        process.wait_for(where)
        _Idle(stage, test, process, where, WARM, 1).close()
        before = process.memory()[0]
        idle = _Idle(stage, test, process, where, connections, streams)
        after = process.memory()[0]
        report = idle.close()
        return after - before, report
    finally:
        process.stop()


def idle(stage, test, name, _seconds):
    grown, report = _growth(stage, test, name, test.connections, test.streams)
    return {"kb": grown / 1000 / test.connections, "steal_share": report.get("steal_share", 0)}


def further(stage, test, name, _seconds):
    many, report = _growth(stage, test, name, test.connections, test.streams)
    one, _ = _growth(stage, test, name, test.connections, 1)
    return {"kb": (many - one) / 1000 / (test.connections * (test.streams - 1)), "steal_share": report.get("steal_share", 0)}


# ------------------------------------------------------------------ start

class Others:
    """How busy the cores are that are not measured, without this process itself; and what the hypervisor took."""

    def __init__(self, cores):
        self.cores = cores
        self.before = self.read()

    def read(self):
        """Ticks: of all cores, stolen of them, of the others, busy of those."""
        lines = pathlib.Path("/proc/stat").read_text(encoding="ascii").splitlines()
        cpus = {int(w[0][3:]): [int(x) for x in w[1:9]] for w in map(str.split, lines) if w[0][:3] == "cpu" and w[0] != "cpu"}
        others = [v for cpu, v in cpus.items() if cpu not in self.cores]
        tick = os.sysconf("SC_CLK_TCK")
        return (sum(map(sum, cpus.values())), sum(v[7] for v in cpus.values()), sum(map(sum, others)),
                sum(sum(v) - v[3] - v[4] for v in others) - time.process_time() * tick)

    def result(self):
        every, steal, others, busy = (a - b for a, b in zip(self.read(), self.before))
        return {"steal_share": steal / every if every else 0, "other_busy": max(busy / others, 0) if others else 0}


def _cpu_seconds(pid):
    """Of all threads of a process."""
    tasks = pathlib.Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(t.read_text(encoding="ascii").split()[0]) for t in tasks) / 1e9


class Foreign:
    """What share of all cores goes to others than these processes, this one and what it waits for meanwhile."""

    def __init__(self, pids):
        self.pids, self.others = pids, Others(())
        self.before = self._own()

    def _own(self):
        return sum(map(_cpu_seconds, self.pids)) + os.times().children_user + os.times().children_system

    def share(self):
        own = (self._own() - self.before) * os.sysconf("SC_CLK_TCK")
        every, _steal, _others, busy = (a - b for a, b in zip(self.others.read(), self.others.before))
        return max(busy - own, 0) / every if every else 0


def _tls(stage):
    context = ssl.create_default_context(cafile=str(stage.certs / "root.pem"))
    context.check_hostname = False
    context.load_cert_chain(stage.certs / "client.pem", stage.certs / "client.key")
    context.set_alpn_protocols(["h2"])
    return context


def _first_tunnel(stage, context, where):
    """A CONNECT by python-h2, until its first byte came back. In this process, whose own start is no part of the time."""
    client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
    raw = socket.create_connection(where, timeout=DEADLINE)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with context.wrap_socket(raw) as s:
        client.initiate_connection()
        client.send_headers(1, [(":method", "CONNECT"), (":authority", f"127.0.0.1:{stage.origin_port}")])
        s.sendall(client.data_to_send())
        sent = False
        while True:
            data = s.recv(65536)
            if not data:
                raise BenchError("the first tunnel was closed")
            for event in client.receive_data(data):
                if isinstance(event, h2.events.ResponseReceived) and not sent:
                    client.send_data(1, b"X")
                    sent = True
                elif isinstance(event, h2.events.DataReceived):
                    return time.monotonic_ns()
                elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
                    raise BenchError("the first tunnel was refused")
            s.sendall(client.data_to_send())


def start(stage, test, name, starts):
    """The median of some starts. What has no tunnels (h2o's package) has no time of the first one."""
    seen = {"accept_ms": [], "tunnel_ms": [], "rss_mb": [], "anon_mb": []}
    context, others = _tls(stage), Others(stage.cores)
    for _ in range(starts):
        process, where = stage.start(name, test.way)
        try:
            seen["accept_ms"].append((process.wait_for(where) - process.started) / 1e6)
            if name != "h2o":
                seen["tunnel_ms"].append((_first_tunnel(stage, context, where) - process.started) / 1e6)
            resident, anonymous = process.memory()
            seen["rss_mb"].append(resident / 1e6)
            seen["anon_mb"].append(anonymous / 1e6)
        finally:
            process.stop()
    out = {k: statistics.median(v) for k, v in seen.items() if v} | others.result()
    out["binary_mb"] = os.stat(PEERS[name].path()).st_size / 1e6
    return out
