# SPDX-License-Identifier: Apache-2.0
"""./dev bench: runs the tests in rounds, in a network namespace of its own, and reports. See docs/performance.md."""
import argparse
import datetime
import fcntl
import os
import pathlib
import platform
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

import h2.exceptions

import measure
import peers
import report
import rows

ROOT = pathlib.Path(__file__).resolve().parents[2]
REFILLS = 2                 # of one noisy run
REFILL_SHARE = 0.25         # of all runs: a machine that is never quiet must come to an end, too
# What a proxy that misbehaves can do to a run.
FAILURES = (peers.BenchError, OSError, subprocess.TimeoutExpired, h2.exceptions.H2Error)
SETTLE_SECONDS = 0.5        # before a run is repeated
OVERHEAD_SECONDS = 0.4      # of a run: connecting, warming up, closing


def say(text):
    print(text, flush=True)


def sysctl(name, value):
    pathlib.Path("/proc/sys/net", name).write_text(value, encoding="ascii")


def prepare_network():
    """The namespace is new: lo is down, and its settings are the kernel's."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["ip", "address", "add", f"{peers.OUTSIDE}/32", "dev", "lo"], check=True)
    sysctl("ipv4/ip_local_port_range", "10240 64999")
    sysctl("ipv4/ip_local_reserved_ports", "15000-15100")      # ztunnel's
    sysctl("ipv4/tcp_tw_reuse", "1")
    # Thousands of connections at once are opened by the memory tests.
    sysctl("core/somaxconn", "65535")
    sysctl("ipv4/tcp_max_syn_backlog", "65535")
    sysctl("ipv4/tcp_congestion_control", "reno")


def combined(runs):
    """One value of each kind for the runs of a round; noisy when most of them are."""
    out = {k: statistics.median(r[k] for r in runs) for k in runs[0] if k != "noisy" and all(k in r for r in runs)}
    return out | ({"noisy": True} if 2 * sum(bool(r.get("noisy")) for r in runs) > len(runs) else {})


def alone(folder):
    """Two suites at once would measure each other: the later one waits. Holds until the file is closed."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = open(folder / "lock", "wb")       # pylint: disable=consider-using-with
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        say("another ./dev bench is running: waiting for its end")
        fcntl.flock(lock, fcntl.LOCK_EX)
    return lock


class Suite:
    def __init__(self, stage, options, chosen):
        self.stage, self.options = stage, options
        self.rows, self.tests = chosen
        self.results = {}       # test -> peer -> round -> values
        self.runs = []
        self.failed = {}        # (test, peer) -> what went wrong
        self.absent = set()     # congestion controls that this kernel does not have
        self.refilled = 0
        self.slices = {}        # (test, peer, round) -> values of each of its runs
        self.planned = sum(self.runs_of(t) for t in self.tests)

    def peers(self, test):
        return [p for p in test.peers if peers.available(p)]

    def repeats(self, test):
        return test.repeats if self.options.repeat else 1

    def runs_of(self, test):
        return len(self.peers(test)) * min(test.rounds, self.options.rounds) * self.repeats(test)

    def how(self, test):
        """The function that measures, and its quantity: seconds, or starts."""
        if test.mode == "start":
            return measure.start, self.options.starts
        return {"idle": measure.idle, "further": measure.further}.get(test.mode, measure.load), self.seconds(test)

    def seconds(self, test):
        return self.options.seconds / (2 if self.repeats(test) > 1 else 1)

    def once(self, test, peer):
        """A run that is quiet, or the quietest of some; one that failed is tried once more."""
        function, quantity = self.how(test)
        best = None
        for attempt in range(REFILLS + 1):
            try:
                result = function(self.stage, test, peer, quantity)
            except FAILURES as e:
                say(f"    {test.name} {peer}: {e}")
                self.stage.drop(peer, test.way)
                if attempt:
                    raise peers.BenchError(str(e)) from e
                continue
            if best is None or result.get("steal_share", 0) < best.get("steal_share", 0):
                best = result
            if not measure.noisy(result, test):
                return result
            if attempt == REFILLS or self.refilled >= REFILL_SHARE * self.planned:
                break
            self.refilled += 1
            time.sleep(SETTLE_SECONDS)
        return {**best, "noisy": True}

    def measure(self, number, test, peer):
        if (test.name, peer) in self.failed:
            return
        try:
            result = self.once(test, peer)
        except peers.BenchError as e:
            self.refuse(test, peer, str(e))
            return
        slices = self.slices.setdefault((test.name, peer, number), [])
        slices.append(result)
        self.results.setdefault(test.name, {}).setdefault(peer, {})[number] = combined(slices)
        self.runs.append({"round": number, "test": test.name, "peer": peer,
                          **{k: round(v, 4) if isinstance(v, float) else v for k, v in result.items()}})

    def refuse(self, test, peer, why):
        """Nothing of it is reported, the rounds before neither."""
        self.failed[test.name, peer] = why
        self.results.get(test.name, {}).pop(peer, None)
        self.runs = [r for r in self.runs if (r["test"], r["peer"]) != (test.name, peer)]

    def congestion(self, test):
        """False: this kernel has no such one, so the test is not made."""
        try:
            sysctl("ipv4/tcp_congestion_control", test.congestion)
        except OSError as e:
            if test.congestion not in self.absent:
                say(f"    {test.name} is not measured: no {test.congestion} in this kernel ({e.strerror}); modprobe tcp_{test.congestion}")
            self.absent.add(test.congestion)
            return False
        return True

    def round(self, number):
        for test in self.tests:
            if number >= test.rounds or not self.congestion(test):
                continue
            names = self.peers(test)
            for repeat in range(self.repeats(test)):
                # Nobody is always the first.
                first = (number + repeat) % len(names)
                for peer in names[first:] + names[:first]:
                    self.measure(number, test, peer)
            sysctl("ipv4/tcp_congestion_control", "reno")
            self.progress(number, test)
        self.stage.stop_all()

    def progress(self, number, test):
        metric = next((r.metric for r in self.rows if test.name in (r.test, r.base)), None)
        parts, steal, other = [], 0, 0
        for peer in self.peers(test):
            v = self.results.get(test.name, {}).get(peer, {}).get(number)
            if v is None:
                parts.append(f"{peer} failed")
                continue
            parts.append(f"{peer} {report.number(v.get(metric))}" + ("*" if v.get("noisy") else ""))
            steal, other = max(steal, v.get("steal_share", 0)), max(other, v.get("other_busy", 0))
        unit = rows.METRICS[metric][0] if metric else ""
        say(f"  {number + 1}/{self.options.rounds} {test.name:14} {unit:7} {'  '.join(parts)}   (steal {steal:.0%}, other cores {other:.0%})")

    def judged(self):
        return [report.judge(r, self.results, self.failed) for r in self.rows]


def cpu_model():
    for line in pathlib.Path("/proc/cpuinfo").read_text(encoding="ascii").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def about(options, suite, began):
    commit = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    used = {p for t in suite.tests for p in t.peers if peers.available(p)}
    typed = sys.argv[5:]        # behind --out FOLDER --bin FOLDER, which the command adds
    return {"command": " ".join(["./dev bench", *typed]), "date": began.strftime("%Y-%m-%d %H:%M UTC"),
            "commit": commit or "unknown", "cpu": cpu_model(), "cores": os.cpu_count(), "kernel": platform.release(),
            "rounds": options.rounds, "seconds_of_a_run": options.seconds, "runs": len(suite.runs),
            "noisy": sum(bool(r.get("noisy")) for r in suite.runs), "refilled": suite.refilled,
            "versions": {n: peers.version(n) for n in peers.PEERS if n in used},
            "failed": [f"{t}, {p}: {why}" for (t, p), why in suite.failed.items()]}


def positive(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def arguments():
    p = argparse.ArgumentParser(prog="./dev bench", formatter_class=argparse.RawDescriptionHelpFormatter, description=(
        "Measures hbone beside other proxies: everything on one core of a network namespace of its own, in interleaved rounds.\n"
        "rows: " + " ".join(dict.fromkeys(r.id for r in rows.ROWS))), epilog=(
            "ZTUNNEL=PATH adds ztunnel. Results go to ~/.cache/hbone/bench; docs/performance.md tells what the rows are."))
    p.add_argument("names", nargs="*", metavar="ROW", help="rows to measure; default: all")
    p.add_argument("--rounds", type=positive, metavar="N", help="default 5, with --quick 2")
    p.add_argument("--quick", action="store_true", help="short runs: to see where one is, not to claim anything")
    p.add_argument("--save", action="store_true", help="write docs/performance.json, .md and the charts")
    p.add_argument("--list", action="store_true", help="print the rows and end")
    p.add_argument("--out", type=pathlib.Path, required=True, help=argparse.SUPPRESS)
    p.add_argument("--bin", type=pathlib.Path, help=argparse.SUPPRESS)      # goes when the suite ends
    p.add_argument("--load", default="load", help=argparse.SUPPRESS)
    o = p.parse_args()
    o.rounds = o.rounds or (2 if o.quick else 5)
    if o.save and (o.names or o.quick):
        p.error("--save needs a whole run: no rows, no --quick")
    o.seconds, o.starts = (0.4, 3) if o.quick else (1.0, 4)
    o.repeat = not o.quick
    try:
        o.chosen = rows.select(o.names)
    except ValueError as e:
        p.error(str(e))
    return o


def main():
    options = arguments()
    if options.list:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        print(report.table([report.judge(r, {}, {}) for r in options.chosen[0]], report.CLAIM))
        return 0
    # The proxies are stopped and the folder goes whatever ends the suite.
    for number in peers.ENDS:
        signal.signal(number, lambda n, _: sys.exit(128 + n))
    try:
        with alone(options.out):
            return measured(options)
    finally:
        if options.bin:
            shutil.rmtree(options.bin, ignore_errors=True)


def measured(options):
    began = datetime.datetime.now(datetime.timezone.utc)
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    prepare_network()
    cores = sorted(os.sched_getaffinity(0))
    # This process looks on from another core than the one that is measured.
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores[:-1]))
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hbone-bench-"))
    try:
        suite = run(peers.Stage(folder, options.load, {cores[-1]}), options)
    finally:
        peers.Process.stop_all()
        shutil.rmtree(folder, ignore_errors=True)
    return finish(options, suite, about(options, suite, began), began)


def run(stage, options):
    suite = Suite(stage, options, options.chosen)
    seconds = sum(suite.runs_of(t) * (suite.seconds(t) + OVERHEAD_SECONDS) for t in suite.tests)
    say(f"{len(suite.rows)} rows, {suite.planned} runs in {options.rounds} rounds, about "
        f"{seconds // 60:.0f} min {seconds % 60:.0f} s; * marks a noisy run".replace(" 0 min", ""))
    for number in range(options.rounds):
        suite.round(number)
    return suite


def finish(options, suite, info, began):
    judged = suite.judged()
    say("\n" + report.table(judged) + "\n")
    say(f"{report.summary(judged)}; {info['noisy']} of {info['runs']} runs are noisy, {info['refilled']} were run again")
    options.out.mkdir(parents=True, exist_ok=True)
    prefix = options.out / began.strftime("%Y-%m-%d-%H%M%S")
    report.write_json(prefix.with_suffix(".json"), info, judged, suite.runs)
    charts = report.write_charts(prefix, suite.results, suite.tests)
    say(f"written: {prefix}.json" + "".join(f", -{name}.svg" for name, _title in charts))
    for failure in info["failed"]:
        say(f"not reported, it had errors: {failure}")
    if info["failed"]:
        if options.save:
            say("so nothing is saved in docs/")
        return 1
    if options.save:
        report.save(ROOT / "docs", info, judged, suite.runs, suite.results, suite.tests)
        say("written: docs/performance.json, docs/performance.md, docs/performance-*.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
