# SPDX-License-Identifier: Apache-2.0
"""The benchmark suite itself, with our program as the only peer: what it writes, refuses and leaves behind."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as tree

import pytest

from support import proc

SUITE = pathlib.Path(__file__).resolve().parents[1] / "bench" / "bench.py"
LOAD = pathlib.Path(proc.BIN).parents[2] / "test/bench/load/load"
ALONE = ["unshare", "--net"] + ([] if os.getuid() == 0 else ["--map-root-user"])

pytestmark = [
    pytest.mark.skipif(not LOAD.exists(), reason="the load tool is not built; bazel build //test/bench/load"),
    pytest.mark.skipif(subprocess.run([*ALONE, "true"], capture_output=True, check=False).returncode != 0,
                       reason="no network namespace of one's own here; be root"),
]


@pytest.fixture(name="folder")
def fixture_folder(cleanup):
    """Not pytest's own, whose name is too long for a unix socket in it."""
    folder = pathlib.Path(tempfile.mkdtemp(prefix="hbb-"))
    cleanup(lambda: shutil.rmtree(folder))
    (folder / "tmp").mkdir()
    return folder


@pytest.fixture(name="suite")
def fixture_suite(folder, cleanup):
    """Starts it with copies of the programs, which tell its processes from all others."""
    def begin(*options):
        bin_ = folder / f"bin-{len(list(folder.iterdir()))}"
        bin_.mkdir()
        for name, program in (("hbone", proc.BIN), ("load", LOAD)):
            shutil.copy(program, bin_ / name)
        argv = [*ALONE, sys.executable, SUITE, "--out", folder / "out", "--bin", bin_, "--quick", *options]
        p = proc.Child([str(a) for a in argv], env={**os.environ, "PATH": f"{bin_}:/usr/bin:/bin", "TMPDIR": str(folder / "tmp")})
        cleanup(p.stop)
        return p, bin_

    return begin


def left_behind(folder):
    """Programs below a folder that still run."""
    found = []
    for exe in pathlib.Path("/proc").glob("[0-9]*/exe"):
        try:
            found += [str(exe)] if os.readlink(exe).startswith(str(folder)) else []
        except OSError:
            pass        # it has just ended, or is a zombie
    return found


def test_rows_are_printed_and_written(suite, folder):
    p, bin_ = suite("--rounds", "1", "H2b", "P2")
    assert p.wait() == 0, p.output()
    out = p.output()
    assert "double-d" in out and "2 reported, 2 peer is not here" in out, out
    written = json.loads(next((folder / "out").glob("*.json")).read_text(encoding="utf-8"))
    assert [r["verdict"] for r in written["rows"]] == ["peer is not here"] * 2 + ["reported"] * 2, written["rows"]
    assert all(0.5 < r["ratio"] < 8 for r in written["rows"][2:])
    assert written["about"]["command"] == "./dev bench --quick --rounds 1 H2b P2"
    assert {r["test"] for r in written["runs"]} == {"pass-new", "hbone-d", "hbone-u", "double-d", "double-u"}
    assert tree.parse(next((folder / "out").glob("*-bulk.svg"))).getroot().tag.endswith("svg")
    assert not bin_.exists() and not list((folder / "tmp").iterdir()) and not left_behind(folder)


def test_a_program_that_does_not_work_is_no_row(suite, folder):
    p, bin_ = suite("--rounds", "1", "H2b")
    (bin_ / "hbone").unlink()
    (bin_ / "hbone").write_text("#!/bin/sh\necho no >&2\nexit 3\n", encoding="utf-8")
    (bin_ / "hbone").chmod(0o755)
    assert p.wait() == 1, p.output()
    assert "2 errors" in p.output() and "ended with 3: no" in p.output() and "not reported" in p.output(), p.output()
    assert not json.loads(next((folder / "out").glob("*.json")).read_text(encoding="utf-8"))["runs"]
    assert not list((folder / "out").glob("*.svg"))


@pytest.mark.parametrize("number", (signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
def test_whatever_ends_it_nothing_is_left(suite, folder, number):
    first, bin_ = suite("--rounds", "50", "H2b")
    first.wait_line("1/50 double-d")
    # One at a time: the other has to wait.
    second, _ = suite("--rounds", "50", "H2b")
    second.wait_line("another ./dev bench is running")
    assert left_behind(bin_)
    first.process.send_signal(number)
    assert first.wait() == 128 + number, first.output()
    assert not bin_.exists() and not left_behind(bin_)
    second.wait_line("rows, .* runs")
    second.process.terminate()
    assert second.wait() == 128 + signal.SIGTERM, second.output()
    assert not list((folder / "tmp").iterdir()) and not left_behind(folder)


@pytest.mark.parametrize("options, text", (
    (("P99",), "no row P99"), (("--rounds", "0"), "less than 1"), (("--save", "P2"), "a whole run"), (("--rounds", "x"), "invalid")))
def test_usage(suite, options, text):
    p, _bin = suite(*options)
    assert p.wait() == 2 and text in p.output(), p.output()
