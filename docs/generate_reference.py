#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes docs/reference.md from the tables in the code: command line, admin pages, metrics, endings, access log
operators, log components. Usage: generate_reference.py PROGRAM [--check]; from the root of the tree."""
import pathlib
import re
import subprocess
import sys

ROOTS = ("core", "filters", "listeners", "upstreams", "xds")
HEAD = """# Reference

Generated from the tables in the code by `./dev docs`; do not edit. How to use all this: [operations.md](operations.md). Configuration:
[configuration.md](configuration.md).
"""


def sources():
    for root in ROOTS:
        if pathlib.Path(root).is_dir():
            yield from sorted(p for p in pathlib.Path(root).rglob("*") if p.suffix in (".c", ".h"))


def text_of(literals):
    return "".join(re.findall(r'"((?:[^"\\]|\\.)*)"', literals)).replace('\\"', '"')


STRINGS = r'((?:"(?:[^"\\]|\\.)*"\s*\\?\s*)+)'


def command_line(program):
    commands = re.findall(r"^  (\w+(?: \w+)?) {2,}", subprocess.run([program, "--help"], capture_output=True, text=True, check=True)
                          .stdout.split("Commands:")[1].split("First steps")[0], re.M)
    out = ["## Command line\n"]
    for command in commands:
        text = subprocess.run([program, "help", *command.split()], capture_output=True, text=True, check=True).stdout
        out.append(f"### hbone {command}\n\n```text\n{text.strip()}\n```\n")
    return out


def admin_pages(files):
    rows = {}
    for text in files.values():
        for body in re.findall(r"struct hb_admin_endpoint \w+ = \{(.*?)\};", text, re.S):
            body = re.sub(r"\.\w+ = ", "", body)
            parts = re.match(rf"\s*{STRINGS},\s*{STRINGS},\s*{STRINGS},\s*([^,]*),", body)
            if not parts:
                raise SystemExit(f"generate_reference: cannot read this endpoint: {body}")
            path, about, params, flags = parts.groups()
            rows[text_of(path)] = (text_of(about), text_of(params), "MUTATES" in flags, "PUBLIC" in flags)
    out = ["## Admin pages\n", "| page | parameters | what |", "|---|---|---|"]
    for path, (about, params, mutates, public) in sorted(rows.items()):
        note = " POST only." if mutates else " Also on a public address." if public else ""
        out.append(f"| `{path}` | {params.replace('|', chr(92) + '|') or '-'} | {about}.{note} |")
    return out + [""]


def metrics(files):
    everything = "\n".join(files.values())
    tables = {}
    for name, body in re.findall(r"#define (\w+)\(X\)((?:[^\n]*\\\n)*[^\n]*)", everything):
        rows = re.findall(rf'X\(\s*\w+,\s*\\?\s*"([^"]+)",\s*\\?\s*(COUNTER|GAUGE|HISTOGRAM),\s*\\?\s*{STRINGS}\)', body)
        if rows:
            tables.setdefault(name, []).append(rows)
    out = ["## Metrics\n", "In text the name is FAMILY.LABEL.METRIC (FAMILY.METRIC without a label; "
           "a * in the family is the label's place), for Prometheus FAMILY_METRIC{label}.\n"]
    found = []
    for path, text in files.items():
        for args in re.findall(r"^HB_STAT_FAMILY\((.*?)\);", text, re.S | re.M):
            _, name, prom, label, table = [a.strip().strip('"') for a in args.split(",")]
            own = re.search(rf"#define {table}\(X\)((?:[^\n]*\\\n)*[^\n]*)", text)
            rows = None
            if own:
                rows = re.findall(rf'X\(\s*\w+,\s*\\?\s*"([^"]+)",\s*\\?\s*(COUNTER|GAUGE|HISTOGRAM),\s*\\?\s*{STRINGS}\)',
                                  own[1])
            rows = rows or tables[table][0]
            found.append((name, prom, label, rows, path.parent))
    for name, prom, label, rows, folder in sorted(found, key=lambda f: (f[0], f[1])):
        label = "none" if label == "NULL" else f"`{label}`"
        out += [f"### {name}".replace("*", "\\*").rstrip(".") + "\n", f"Prometheus: `{prom}_…`, label {label}. From `{folder}`.\n",
                "| metric | kind | what |", "|---|---|---|"]
        out += [f"| `{n}` | {k.lower()} | {text_of(h)} |" for n, k, h in rows]
        out.append("")
    return out


def endings(files):
    text = files[pathlib.Path("core/base/close_reason.h")]
    rows = re.findall(r'X\((\w+), "(\w+)", (\w+), "([^"]+)", "([^"]+)", "([^"]+)"\)', text)
    out = ["## Endings\n", "Every connection ends for one of these reasons: `%CLOSE_REASON%`, and the flag of `%RESPONSE_FLAGS%`.\n",
           "| reason | flag | the peer sees | what happened |", "|---|---|---|---|"]
    out += [f"| `{name}` | {flag} | {'a reset' if error == 'true' else 'an end'} | {what} |"
            for _, name, error, flag, _, what in rows if name not in ("none", "counter")]
    return out + [""]


def operators(files):
    text = files[pathlib.Path("core/stats/format_ops.c")]
    rows = re.findall(rf'\{{\s*"(\w+)", FORMAT_ARG_(\w+), ([YN]), \w+,\s*{STRINGS}\}}', text)
    out = ["## Operators of format strings\n", "`%NAME%`, `%NAME(argument)%`, `%NAME:length%`; `%%` is a percent sign. What is missing is `-`.\n",
           "| operator | argument | value |", "|---|---|---|"]
    arg = {"NONE": "-", "MAY": "optional", "MUST": "required"}
    out += [f"| `{n}` | {arg[a]} | {text_of(h)} |" for n, a, _, h in rows]
    return out + [""]


def components(files):
    rows = re.findall(r'X\(\w+, "(\w+)", "([^"]+)"\)', files[pathlib.Path("core/base/log.h")])
    out = ["## Components of the log\n", "| component | what it tells |", "|---|---|"]
    return out + [f"| `{n}` | {t} |" for n, t in rows] + [""]


def main():
    files = {p: p.read_text(encoding="utf-8") for p in sources()}
    lines = [HEAD]
    for part in (command_line(sys.argv[1]), admin_pages(files), metrics(files), endings(files), operators(files),
                 components(files)):
        lines += part
    text = "\n".join(lines)
    target = pathlib.Path("docs/reference.md")
    if "--check" in sys.argv:
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            sys.exit("docs/reference.md is stale: run ./dev docs")
        return
    target.write_text(text, encoding="utf-8")


main()
