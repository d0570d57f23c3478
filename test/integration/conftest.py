# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the program under test, certificates, foreign peers and their count."""
import os
import pathlib
import re
import shutil
import subprocess

import pytest

from support import certs as certs_module
from support import net
from support import proc


def pytest_configure(config):
    config.addinivalue_line("markers", "peer(name): speaks to this foreign program; counted")
    config.addinivalue_line("markers", "long: only with ./dev test --long")


# Programs that say no version of their own: (one of them, the module that it is built from).
GO_PEERS = {"h2spec": ("h2spec", "github.com/summerwind/h2spec"),
            "istio-echo": ("istio-echo-server", "istio.io/istio")}


def pinned_version(module):
    text = (pathlib.Path(__file__).parent / "istio" / "go.mod").read_text(encoding="utf-8")
    return re.search(rf"^\t{re.escape(module)} v([^\s+]+)", text, re.MULTILINE)[1]


def peer_version(name):
    """The program's own version number, or None where it cannot be had."""
    if name in GO_PEERS:
        program, module = GO_PEERS[name]
        return pinned_version(module) if shutil.which(program) else None
    command = {
        "openssl": ["openssl", "version"],
        "curl": ["curl", "--version"],
        "node": ["node", "--version"],
        "python-h2": ["python3", "-c", "import h2;print(h2.__version__)"],
        "envoy": ["envoy", "--version"],
        "pycurl": ["python3", "-c", "import pycurl;print(pycurl.version)"],
        "python-ssl": ["python3", "-c", "import platform;print(platform.python_version())"],
    }[name]
    try:
        out = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    found = re.search(r"\d+\.\d+[.\d]*", out.replace("/", " "))
    return found[0] if found else name


VERSIONS = {}


def version_of(name):
    if name not in VERSIONS:
        VERSIONS[name] = peer_version(name)
    return VERSIONS[name]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Before any fixture starts a program that is not there."""
    for mark in item.iter_markers("peer"):
        if version_of(mark.args[0]) is None:
            pytest.skip(f"peer {mark.args[0]} is not installed; ./dev setup installs it")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.user_properties.extend(("peer", mark.args[0]) for mark in item.iter_markers("peer")
                                  if call.when == "call" or (call.when == "setup" and report.skipped))
    return report


def pytest_terminal_summary(terminalreporter, config):
    out = os.environ.get("HBONE_PEERS_OUT")
    if not out or hasattr(config, "workerinput"):  # xdist's workers report to the controller
        return
    count = {}
    for outcome in ("passed", "skipped"):
        for report in terminalreporter.stats.get(outcome, []):
            for key, name in getattr(report, "user_properties", []):
                if key == "peer":
                    count.setdefault(name, {"passed": 0, "skipped": 0})[outcome] += 1
    with open(out, "a", encoding="utf-8") as file:
        for name, n in sorted(count.items()):
            file.write(f"{name}\t{version_of(name) or 'missing'}\t{n['passed']}\t{n['skipped']}\n")


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    """A CA and leaves for a.example, b.example and the mesh names; see support/certs.py."""
    return certs_module.make(tmp_path_factory.mktemp("certs"))


@pytest.fixture
def hbone(tmp_path):
    """Starts the program: hbone(config_text, *options) -> proc.Hbone. All are stopped at the end."""
    started = []

    def start(config, *options, **kwargs):
        p = proc.Hbone(pathlib.Path(tmp_path), config, options, len(started), **kwargs)
        started.append(p)
        p.wait_started()
        return p

    yield start
    for p in started:
        p.stop()


@pytest.fixture
def cleanup():
    """cleanup(f): f() runs at the end of the test, last first."""
    todo = []
    yield todo.append
    for f in reversed(todo):
        f()


@pytest.fixture
def origin(cleanup):
    """origin(handle) -> a server that is closed at the end; it echoes unless told otherwise."""
    def start(handle=net.echo):
        s = net.Server(handle)
        cleanup(s.close)
        return s
    return start
