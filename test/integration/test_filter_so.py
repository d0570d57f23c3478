# SPDX-License-Identifier: Apache-2.0
"""Filters from shared objects: built with nothing but a C compiler and the headers."""
import pathlib
import shutil
import socket
import subprocess

import pytest

from support import config as c
from support.proc import run

ROOT = pathlib.Path(__file__).resolve().parents[2]
ECHO = c.typed("echo", "envoy.extensions.filters.network.echo.v3.Echo")


@pytest.fixture(name="build")
def builder(tmp_path):
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")

    def build(source, name="filter"):
        path = tmp_path / f"{name}.c"
        path.write_text(source, encoding="utf-8")
        so = tmp_path / f"{name}.so"
        subprocess.run([compiler, "-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", f"-I{ROOT}", "-o", str(so),
                        str(path)], check=True)
        return str(so)
    return build


def example():
    return (ROOT / "examples/filter_so/first_bytes.c").read_text(encoding="utf-8")


def test_example_runs(build, hbone):
    chain = {"filters": [{"name": "example.first_bytes"}, ECHO]}
    p = hbone(c.bootstrap([c.listener("echo", [chain], inspectors=())], []), "--load", build(example()))
    with socket.create_connection(("127.0.0.1", p.port("echo")), timeout=30) as s:
        s.sendall(b"twelve bytes")
        assert s.recv(100) == b"twelve bytes"
        s.sendall(b"more")
        assert s.recv(100) == b"more"
    p.wait_line(r"filter: first bytes id=\d+ bytes=12")


def test_example_has_at_most_30_lines_of_code():
    code = [line for line in example().splitlines() if line.strip() and not line.startswith("/*")]
    assert len(code) <= 30


def test_modules_that_do_not_fit_are_refused(build, tmp_path):
    config = tmp_path / "c.yaml"
    config.write_text(c.bootstrap([], []), encoding="utf-8")

    def refused(so):
        code, _, err = run("validate", "-c", str(config), "--load", so)
        assert code == 2
        return err

    assert "cannot be loaded" in refused(str(tmp_path / "none.so"))
    assert "does not export hb_filter_module" in refused(build("int x;\n", "empty"))
    newer = example().replace("HB_FILTER_ABI_MAJOR", "HB_FILTER_ABI_MAJOR + 1")
    assert "build it again" in refused(build(newer, "newer"))
    twice = build(example(), "one") + "," + build(example(), "two")
    assert "example.first_bytes is there already" in refused(twice)
