# SPDX-License-Identifier: Apache-2.0
"""Documentation that must not drift from the code."""
import pathlib
import re
import subprocess
import sys

import pytest

from support.proc import BIN, run

ROOT = pathlib.Path(__file__).resolve().parents[2]


def test_the_reference_is_what_the_tables_say():
    p = subprocess.run([sys.executable, "docs/generate_reference.py", BIN, "--check"], cwd=ROOT, capture_output=True,
                       text=True, check=False)
    assert p.returncode == 0, p.stderr


@pytest.mark.parametrize("file", sorted(p.name for p in (ROOT / "examples").glob("*.yaml")))
def test_every_example_is_valid(file, tmp_path):
    """With the certificates that its first comment says how to make."""
    path = tmp_path / file
    path.write_text((ROOT / "examples" / file).read_text(encoding="utf-8"), encoding="utf-8")
    for command in re.findall(r"hbone (ca [^&\n]+)", path.read_text(encoding="utf-8").split("\nnode:")[0]):
        subprocess.run([BIN, *command.split()], cwd=tmp_path, check=True, capture_output=True, timeout=60)
    p = subprocess.run([BIN, "validate", "-c", file], cwd=tmp_path, capture_output=True, text=True, check=False,
                       timeout=60)
    assert p.returncode == 0, p.stderr


def test_links_in_the_documentation_lead_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
