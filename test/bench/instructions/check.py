#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts the instructions of fixed runs under callgrind and compares them with the record.

usage: check.py PROGRAM [NAME...] [--update REASON]

A run whose count differs by more than TOLERANCE fails, in either direction: what became cheaper is
recorded too, so that it cannot be lost again. Only user space is counted. Valgrind shows programs no
VAES, so AES-GCM runs on AES-NI here.
"""
import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys
import tempfile

RECORD = pathlib.Path(__file__).resolve().with_name("record.json")
TOLERANCE = 0.03
FUNCTIONS = 60  # the most expensive ones that the record keeps of a run


def parse(text):
    """Instructions of each function itself, from callgrind's output with --dump-line=no."""
    names, cost = {}, collections.Counter()
    fn, skip = None, False
    for line in text.splitlines():
        if line.startswith("fn="):
            number, name = re.fullmatch(r"fn=\((\d+)\)(?: (.*))?", line).groups()
            if name:
                names[number] = re.sub(r"'\d+$", "", name)
            fn = number
        elif line.startswith("cfn="):
            number, name = re.fullmatch(r"cfn=\((\d+)\)(?: (.*))?", line).groups()
            if name:
                names[number] = re.sub(r"'\d+$", "", name)
        elif line.startswith("calls="):
            skip = True  # the next line is what the callee took
        elif fn and re.match(r"[+\-*\d]", line):
            if not skip:
                cost[fn] += int(line.split()[1])
            skip = False
    total = collections.Counter()
    for number, n in cost.items():
        total[names[number]] += n
    return total


def count(program, name):
    with tempfile.TemporaryDirectory() as work:
        out = pathlib.Path(work, "callgrind.out")
        command = ["setarch", "-R", "valgrind", "--tool=callgrind", "--instr-atstart=no", "--dump-line=no",
                   f"--callgrind-out-file={out}", program, name]
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        if done.returncode != 0:
            sys.exit(f"instructions: {name} failed ({done.returncode}):\n{done.stderr[-4000:]}")
        return parse(out.read_text())


def ask(program, what):
    return subprocess.run([program, what], capture_output=True, text=True, check=True, timeout=600).stdout


def differs(was, now):
    return abs(now - was) > was * TOLERANCE


def changes(was, now):
    """The functions that explain most of a difference, (instructions more, name)."""
    known = set(was)
    moved = [(now.get(f, 0) - was.get(f, 0), f) for f in known | {f for f, _ in now.most_common(FUNCTIONS)}]
    return sorted(moved, key=lambda m: -abs(m[0]))[:8]


def report(name, unit, was, now, update):
    bad = was is None or differs(was, now)
    change = "not in the record" if was is None else f"{100 * (now - was) / was:+.2f} %"
    print(f"{'ok' if not bad else 'new' if update else 'FAILED':7}{name:30}{now:>14,} {unit:12} {change}", flush=True)
    return bad


def main():
    parser = argparse.ArgumentParser(description="instruction counts of fixed runs, held to a record")
    parser.add_argument("program")
    parser.add_argument("names", nargs="*", help="runs, or \"memory\"; default: all")
    parser.add_argument("--update", metavar="REASON", help="write the record anew; REASON is kept in it")
    args = parser.parse_intermixed_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {"runs": {}, "memory": {}}
    compiler = ask(args.program, "compiler").strip()
    runs = [line.split() for line in ask(args.program, "list").splitlines()]
    known = [r[0] for r in runs] + ["memory"]
    for name in args.names:
        if name not in known:
            sys.exit(f"instructions: no run \"{name}\"; there are: {' '.join(known)}")
    if args.update is None and record.get("compiler") != compiler:
        sys.exit(f"instructions: the record was made with \"{record.get('compiler')}\", this is \"{compiler}\": write it "
                 "anew, before your change, with ./dev instructions --update \"another compiler\"")

    passed = failed = 0
    for name, n, unit in runs:
        if args.names and name not in args.names:
            continue
        now, old = count(args.program, name), record["runs"].get(name)
        bad = report(f"{name} ({int(n):,} {unit})", "instructions", old and old["instructions"], now.total(), args.update)
        passed, failed = passed + (not bad), failed + bad
        if bad and old:
            for more, function in changes(old["functions"], now):
                print(f"       {more:>+16,}  {function}")
        if args.update is not None:
            record["runs"][name] = {"n": int(n), "unit": unit, "instructions": now.total(),
                                    "functions": dict(now.most_common(FUNCTIONS))}
    if not args.names or "memory" in args.names:
        for line in ask(args.program, "memory").splitlines():
            name, now = line.split()[0], int(line.split()[1])
            bad = report(name, "bytes", record["memory"].get(name), now, args.update)
            passed, failed = passed + (not bad), failed + bad
            if args.update is not None:
                record["memory"][name] = now
    if args.update is not None:
        record = {"compiler": compiler, "reason": args.update, "runs": record["runs"], "memory": record["memory"]}
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
        print(f"written: {RECORD.name}")
        return 0
    if failed:
        print("If the change is meant, record it in the same commit: ./dev instructions --update \"why\"")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
