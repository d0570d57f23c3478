#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The house rules that a script can see. Errors fail (exit 1); notes are places to look at.

Errors: files over 1,000 lines, functions over 70, no SPDX line first, a header without a contract comment or an include guard,
includes that are not by full path from the root, left-open markers, paths of one machine, lines that end in a space.
Notes: headers over 400 lines, lines over 100 columns, near-copies of a dozen lines.
"""

import collections
import re
import subprocess
import sys

FILE_MAX = 1000
FUNCTION_MAX = 70
HEADER_NOTE = 400
COLUMNS = 100
COPY_LINES = 12

C_FILE = re.compile(r"\.(c|h|cc)$")
SCRIPT = re.compile(r"(\.(py|sh|bzl|yaml|yml)|(^|/)(BUILD|WORKSPACE|dev|run)|\.BUILD|\.bazelrc)$")
OPEN = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK)\b")
MACHINE = re.compile(r"(?<![\w.])/(work|farm)/(main|steering|in|shared|\.library|\.mirror)\b|\.\./sha" r"red/")
LOCAL_INCLUDE = re.compile(r'#include "([^"/]+)"')


class Report:
    def __init__(self):
        self.errors = 0

    def error(self, path, line, text):
        self.errors += 1
        print(f"{path}:{line}: {text}")

    def note(self, path, line, text):
        print(f"{path}:{line}: note: {text}")


def functions(lines):
    """(first line, length, name) of each function body: from a `{` to a `}` in the first column."""
    start = None
    for number, line in enumerate(lines, 1):
        if line.startswith("{"):
            start = number
        elif line.startswith("}") and start is not None:
            name = next((l for l in reversed(lines[: start - 1]) if re.match(r"[A-Za-z_].*\(", l)), "?")
            yield start, number - start + 1, name.strip()
            start = None


def check_header(report, path, lines):
    text = "\n".join(lines[1:])
    if path.endswith(".tbl.h"):
        if "/*" not in text:
            report.error(path, 1, "a table says in a comment what its columns are")
        return
    if not re.search(r"^#(ifndef \w+_H|pragma once)", text, re.M):
        report.error(path, 1, "no include guard")
    if not re.search(r"/\*", text):
        report.error(path, 1, "a header is a contract: say who owns what, when it may be called, limits and errors")
    if len(lines) > HEADER_NOTE:
        report.note(path, 1, f"{len(lines)} lines: a header this long is two headers")


def check_c(report, path, lines):
    for start, length, name in functions(lines):
        if length > FUNCTION_MAX:
            report.error(path, start, f"function of {length} lines (limit {FUNCTION_MAX}): {name[:60]}")
    for number, line in enumerate(lines, 1):
        include = LOCAL_INCLUDE.match(line)
        if include and not include.group(1).endswith(".pb-c.h"):
            report.error(path, number, f'include "{include.group(1)}" by its full path from the root')
        if len(line.expandtabs(8)) > COLUMNS and "http" not in line:
            report.note(path, number, f"{len(line.expandtabs(8))} columns")
    if path.endswith(".h"):
        check_header(report, path, lines)


def check_file(report, path):
    try:
        with open(path, encoding="utf-8") as f:
            lines = f.read().split("\n")
    except (UnicodeDecodeError, FileNotFoundError, IsADirectoryError):
        return []
    while lines and not lines[-1]:
        lines.pop()
    is_c = bool(C_FILE.search(path))
    is_code = is_c or bool(SCRIPT.search(path)) or path.endswith(".proto")
    if (is_c or path.endswith((".py", ".sh"))) and len(lines) > FILE_MAX:
        report.error(path, 1, f"{len(lines)} lines (limit {FILE_MAX})")
    if is_code and lines and not any("SPDX-License-Identifier: Apache-2.0" in l for l in lines[:2]):
        report.error(path, 1, "no SPDX line at the top")
    for number, line in enumerate(lines, 1):
        if is_code and OPEN.search(line):
            report.error(path, number, "left open: " + line.strip()[:80])
        if MACHINE.search(line):
            report.error(path, number, "a path of one machine: " + line.strip()[:80])
        if is_code and line != line.rstrip():
            report.error(path, number, "the line ends in white space")
    if is_c:
        check_c(report, path, lines)
    return lines if is_c and not path.startswith("test/") else []


def check_copies(report, files):
    """Runs of equal code lines in two places; one note for each pair of files."""
    seen = {}
    pairs = collections.OrderedDict()
    for path, lines in files.items():
        code = [(n, l.strip()) for n, l in enumerate(lines, 1) if len(l.strip()) > 3 and not l.startswith(("#include", "/*", " *"))]
        for i in range(len(code) - COPY_LINES):
            key = tuple(l for _, l in code[i : i + COPY_LINES])
            where = seen.setdefault(key, (path, code[i][0]))
            if where[0] != path or code[i][0] - where[1] >= COPY_LINES:
                pairs.setdefault((where[0], path), (code[i][0], where[1]))
    for (first, path), (line, first_line) in pairs.items():
        report.note(path, line, f"the same {COPY_LINES} lines as {first}:{first_line}")


def main():
    report = Report()
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, capture_output=True, text=True).stdout
    files = {path: check_file(report, path) for path in listed.split("\0") if path}
    check_copies(report, {p: l for p, l in files.items() if l})
    print(f"lint: {len(files)} files, {report.errors} errors")
    return 1 if report.errors else 0


if __name__ == "__main__":
    sys.exit(main())
