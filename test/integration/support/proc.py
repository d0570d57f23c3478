# SPDX-License-Identifier: Apache-2.0
"""The program under test as a child process, and other children that tests start."""
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time

# 0: every idle connection of every test rests at once (--rest-above).
REST_ABOVE = os.environ.get("HBONE_REST_ABOVE")
BIN = os.environ.get("HBONE_BIN", "bazel-bin/core/app/hbone")
# Sanitizers make everything slower; deadlines are generous anyway, nothing waits for them when all is well.
SLOW = 4 if os.environ.get("HBONE_SANITIZER") else 1


def resident(h):
    """Bytes of the running program that are in memory."""
    with open(f"/proc/{h.process.pid}/status", encoding="ascii") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmRSS:"))


def until(condition, what, seconds=20):
    """Polls until condition() is true; fails with `what` after a deadline."""
    deadline = time.monotonic() + seconds * SLOW
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"timed out waiting for {what}"
        threading.Event().wait(0.01)


class Child:
    """A process whose output lines can be waited for."""

    def __init__(self, argv, **kwargs):
        self.lines = []
        self._changed = threading.Condition()
        self.process = subprocess.Popen(argv, stdin=kwargs.pop("stdin", subprocess.DEVNULL),
                                        stdout=kwargs.pop("stdout", subprocess.PIPE), stderr=subprocess.STDOUT,
                                        text=True, errors="replace", **kwargs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self.lines.append(None)
            self._changed.notify_all()

    def wait_line(self, pattern, seconds=30, start=0):
        """The first output line that matches, as a match object."""
        compiled = re.compile(pattern)
        deadline = time.monotonic() + seconds * SLOW
        with self._changed:
            at = start
            while True:
                while at < len(self.lines):
                    line = self.lines[at]
                    at += 1
                    if line is None:
                        raise AssertionError(f"{self.process.args[0]} ended before {pattern!r}:\n{self.output()}")
                    found = compiled.search(line)
                    if found:
                        return found
                left = deadline - time.monotonic()
                assert left > 0, f"no line matches {pattern!r} in:\n{self.output()}"
                self._changed.wait(left)

    def output(self):
        return "\n".join(line for line in self.lines if line is not None)

    def wait(self, seconds=60):
        code = self.process.wait(seconds * SLOW)
        self._reader.join(10)
        return code

    def stop(self, seconds=10):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(seconds * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(10)


class Hbone(Child):
    def __init__(self, folder, config, options, number, stop_signal=signal.SIGTERM):
        self.config_path = folder / f"hbone{number}.yaml"
        self.config_path.write_text(config, encoding="utf-8")
        self.stop_signal = stop_signal
        self.expect_exit = 0
        if not any(o.startswith("--drain-time") for o in options):
            options = (*options, "--drain-time", "0")
        if REST_ABOVE and not any(o.startswith("--rest-above") for o in options):
            options = (*options, "--rest-above", REST_ABOVE)
        super().__init__([BIN, "run", "-c", str(self.config_path), *options])
        self.admin_port = None

    def wait_started(self):
        found = self.wait_line(r'main: started.* admin=(\S+)|"message":"started".*"admin":"([^"]+)"')
        port = (found[1] or found[2]).rpartition(":")[2]
        if port.isdigit():
            self.admin_port = int(port)
            until(lambda: self.get("/ready")[0] == 200, "readiness")

    # -- admin

    def request(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=30 * SLOW)
        try:
            c.request(method, path, body)
            r = c.getresponse()
            return r.status, r.read().decode("utf-8", "replace")
        finally:
            c.close()

    def get(self, path):
        return self.request("GET", path)

    def post(self, path, body=None):
        return self.request("POST", path, body)

    def json(self, path):
        status, text = self.get(path)
        assert status == 200, (path, status, text)
        return json.loads(text)

    def stat(self, name):
        """Value of one counter or gauge; 0 when it was never used."""
        for line in self.get("/stats")[1].splitlines():
            key, _, value = line.partition(": ")
            if key == name:
                return int(value)
        return 0

    def stats(self, pattern):
        """Sum of all that match."""
        total = 0
        for line in self.get("/stats")[1].splitlines():
            key, _, value = line.partition(": ")
            if re.search(pattern, key) and value.lstrip("-").isdigit():
                total += int(value)
        return total

    def expect_stat(self, name, value):
        """The worker counts a moment before or after the peer sees what is counted."""
        until(lambda: self.stat(name) == value, f"{name} to be {value}")

    def expect_stats(self, pattern, value):
        until(lambda: self.stats(pattern) == value, f"the sum of {pattern} to be {value}")

    def port(self, listener):
        """Bound port of a listener (its first address)."""
        for line in self.get("/listeners")[1].splitlines():
            name, _, address = line.partition("::")
            if name == listener:
                return int(address.rpartition(":")[2])
        raise AssertionError(f"no listener {listener}: {self.get('/listeners')[1]}")

    def reload(self, config):
        """Writes the file and sends SIGHUP; returns once it was applied or refused."""
        start = len(self.lines)
        temporary = self.config_path.with_suffix(".new")
        temporary.write_text(config, encoding="utf-8")
        os.replace(temporary, self.config_path)
        self.process.send_signal(signal.SIGHUP)
        found = self.wait_line(r"config: (configuration reloaded|what is refused keeps)", start=start)
        return found[1] == "configuration reloaded"

    def stop(self, seconds=30):
        if self.process.poll() is None:
            self.process.send_signal(self.stop_signal)
            try:
                self.process.wait(seconds * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise AssertionError(f"the program did not stop:\n{self.output()}")
        self._reader.join(10)
        output = self.output()
        for bad in ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error:", "WARNING: ThreadSanitizer",
                    "panic:", "PANIC"):
            assert bad not in output, output
        assert self.process.returncode == self.expect_exit, (self.process.returncode, output)


def run(*argv, stdin=None, seconds=60, cwd=None):
    """The program with these arguments, to its end: (exit code, stdout, stderr)."""
    p = subprocess.run([os.path.abspath(BIN), *argv], cwd=cwd, input=stdin, capture_output=True, text=True, timeout=seconds * SLOW,
                       check=False)
    return p.returncode, p.stdout, p.stderr
