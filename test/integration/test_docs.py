# SPDX-License-Identifier: Apache-2.0
"""Documentation that must not drift from the code."""
import os
import pathlib
import re
import subprocess
import sys
import urllib.request

import pytest

from support.proc import BIN, Child, run, until

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_reference_is_what_the_tables_say():
    p = subprocess.run([sys.executable, "docs/generate_reference.py", BIN, "--check"], cwd=ROOT, capture_output=True,
                       text=True, check=False)
    assert p.returncode == 0, p.stderr


IDENTITIES = ["default/sa/web", "default/sa/client", "istio-system/sa/eastwest", "istio-system/sa/ingress",
              "istio-system/sa/egress", "default/sa/waypoint"]


@pytest.fixture(scope="module")
def examples_home(tmp_path_factory):
    """A folder with the certificates that the examples' comments tell to make."""
    home = tmp_path_factory.mktemp("examples")
    assert run("ca", "init", str(home / "ca"))[0] == 0
    for identity in IDENTITIES:
        code, _, err = run("ca", "issue", str(home / "ca"), "--id", f"spiffe://cluster.local/ns/{identity}")
        assert code == 0, err
    return home


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "examples").glob("*.yaml")))
def test_every_example_is_valid(file, examples_home):
    code, _, err = run("validate", "-c", str(ROOT / "examples" / file), cwd=examples_home)
    assert code == 0, err


@pytest.mark.peer("curl")
@pytest.mark.parametrize("part", ["sni", "hbone"])
def test_the_demo_works_and_leaves_nothing_behind(part, tmp_path):
    binary = str(pathlib.Path(BIN).resolve())
    p = subprocess.run(["bash", "examples/demo/run", part], cwd=ROOT, capture_output=True, text=True, timeout=170,
                       env={**os.environ, "HBONE_BIN": binary, "TMPDIR": str(tmp_path)}, check=False)
    assert p.returncode == 0, p.stdout + p.stderr
    assert "Everything worked" in p.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.peer("curl")
def test_the_demo_that_is_kept_shows_tunnels_and_ends_when_told(tmp_path):
    binary = str(pathlib.Path(BIN).resolve())
    p = Child(["bash", "examples/demo/run", "hbone", "--keep"], cwd=ROOT, start_new_session=True,
              env={**os.environ, "HBONE_BIN": binary, "TMPDIR": str(tmp_path)})
    try:
        page = p.wait_line(r"Everything keeps running; .*(http://\S+/tunnels)", 150)[1]

        def tunnels():
            with urllib.request.urlopen(page, timeout=30) as r:
                return r.read().decode()
        until(lambda: "web.default:80 " in tunnels() and "web.default:8443 " in tunnels(), "both ways in /tunnels")
    finally:
        p.process.terminate()
    assert p.wait() == 130
    assert list(tmp_path.iterdir()) == []


def test_links_in_the_documentation_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "examples" / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
