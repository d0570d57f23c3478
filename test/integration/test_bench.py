# SPDX-License-Identifier: Apache-2.0
"""The benchmark suite without running it: what it claims fits what it measures, and its configurations are ours."""
import dataclasses
import datetime
import json
import pathlib
import re
import sys
import types
import xml.etree.ElementTree as tree

import pytest

from support.proc import run

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
import bench  # noqa: E402
import measure  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402
import rows  # noqa: E402


def test_rows_are_measured():
    for row in rows.ROWS:
        test = rows.TESTS[row.test]
        assert rows.OURS in test.peers and row.metric in rows.METRICS, row
        assert row.peer is None or row.peer in rows.TESTS[row.base or row.test].peers, row
        assert not row.added or rows.DIRECT in test.peers, row
        assert row.peer is None or row.peer in peers.PEERS, row
    for test in rows.TESTS.values():
        assert all(test.way in peers.PEERS[p].ways for p in test.peers if p != rows.DIRECT), test


def test_names_select_rows_and_their_tests():
    chosen, tests = rows.select(["H4b"])
    assert {r.id for r in chosen} == {"H4b"} and {t.name for t in tests} == {"hbone-resumed", "hbone-new"}
    assert {r.id for r in rows.select(["H7"])[0]} == {"T5"}
    assert {t.name: t.peers for t in rows.select(["H3", "P3"])[1]} == {
        "out-d": (rows.OURS,), "out-u": (rows.OURS,), "raw-d": (rows.DIRECT,), "raw-u": (rows.DIRECT,),
        "pass-echo": (rows.DIRECT, rows.OURS, "haproxy", "nginx", rows.FLOOR)}
    assert rows.select([]) == (rows.ROWS, list(rows.TESTS.values()))
    with pytest.raises(ValueError, match="no row P9"):
        rows.select(["P9"])


ROW = rows.Row("X", "x", "t", "p50", "direct", 0.6, 0.5)


def test_a_ratio_is_the_median_of_the_rounds():
    results = {"t": {"hbone": {0: {"p50": 1.0}, 1: {"p50": 4.0}, 2: {"p50": 3.0}},
                     "direct": {0: {"p50": 2.0}, 1: {"p50": 5.0}, 2: {"p50": 6.0}}}}
    out = report.judge(ROW, results, {})
    assert out["ratio"] == 0.5 and out["spread"] == [0.5, 0.8] and out["verdict"] == "goal"
    results["t"]["hbone"][0]["p50"] = 1.1
    assert report.judge(ROW, results, {})["verdict"] == "ok"
    del results["t"]["direct"][0], results["t"]["direct"][2]
    assert report.judge(ROW, results, {})["verdict"] == "missed"


@pytest.mark.parametrize("higher, floor, theirs, below", [
    (False, 5.0, 8.0, True), (False, 4.0, 8.0, False), (True, 4.0, 8.0, True), (True, 5.0, 8.0, False), (False, None, 8.0, False)])
def test_what_even_the_floor_misses_is_marked_and_still_missed(higher, floor, theirs, below):
    row = dataclasses.replace(ROW, higher=higher)
    values = {"hbone": 6.0 if not higher else 2.0, "direct": theirs} | ({rows.FLOOR: floor} if floor else {})
    results = {"t": {p: {r: {"p50": v} for r in range(3)} for p, v in values.items()}}
    out = report.judge(row, results, {})
    assert out["verdict"] == "missed" and out["floor"] == (floor / theirs if floor else None)
    text = report.table([out])
    assert (f"missed; the floor is {floor / theirs:.2f}" in text) if below else text.endswith("missed"), text
    assert report.summary([out]) == ("1 missed (1 below the floor)" if below else "1 missed")
    # A limit that is reached needs no excuse.
    values["hbone"] = 1.0 if not higher else 8.0
    out = report.judge(row, {"t": {p: {0: {"p50": v}} for p, v in values.items()}}, {})
    assert out["verdict"] == "goal" and "the floor" not in report.table([out]).splitlines()[1]


def test_where_we_are_compared_with_ourselves_so_is_the_floor(monkeypatch):
    monkeypatch.setattr(peers.Peer, "path", lambda self: self.program)
    row = dataclasses.replace(ROW, test="many", base="one", peer=rows.OURS)
    results = {"many": {"hbone": {0: {"p50": 6.0}}, rows.FLOOR: {0: {"p50": 3.0}}},
               "one": {"hbone": {0: {"p50": 8.0}}, rows.FLOOR: {0: {"p50": 5.0}}}}
    out = report.judge(row, results, {})
    assert out["ratio"] == 0.75 and out["floor"] == 0.6


def test_errors_and_absent_peers_are_no_numbers():
    results = {"t": {"hbone": {0: {"p50": 1.0}}, "direct": {0: {"p50": 2.0}}}}
    out = report.judge(ROW, results, {("t", "direct"): "lost"})
    assert out["verdict"] == "errors" and out["ours"] is None and out["ratio"] is None
    assert report.judge(ROW, {}, {})["verdict"] == "not measured"
    assert "errors" in report.table([out])


def test_charts_are_xml():
    groups = [("a < b", [("hbone", 1.0, 0.5, 2.0), ("envoy", 3.0, 3.0, 3.0)])]
    assert tree.fromstring(report.chart("t & t", groups)).tag.endswith("svg")


@pytest.mark.parametrize("name,way", [(p, w) for p, peer in sorted(peers.PEERS.items()) for w in sorted(peer.ways) if peer.ways[w][0]])
def test_configurations_are_filled_in(name, way):
    words = ("PORT", "ORIGIN", "TERMINATOR", "CERTS", "FOLDER", "SERVER_ID")
    text = peers.render(name, way, {w: f"<{w}>" for w in words})
    assert not re.findall(r"@[A-Z_]+@", text)
    assert way != "originate" or "<TERMINATOR>" in text
    fixed = peers.PEERS[name].fixed
    assert fixed is None or set(fixed) == set(peers.PEERS[name].ways)


@pytest.mark.parametrize("way", sorted(peers.PEERS["hbone"].ways))
def test_our_configurations_are_valid(way, certs, tmp_path):
    for name in ("server", "client"):
        (tmp_path / f"{name}.pem").write_bytes(pathlib.Path(certs.pem("client")).read_bytes())
        (tmp_path / f"{name}.key").write_bytes(pathlib.Path(certs.key("client")).read_bytes())
    (tmp_path / "root.pem").write_bytes(certs.ca.read_bytes())
    values = {"PORT": 2001, "ORIGIN": 2002, "TERMINATOR": 2003, "CERTS": tmp_path, "FOLDER": tmp_path, "SERVER_ID": peers.SERVER_ID}
    config = tmp_path / "c.yaml"
    config.write_text(peers.render("hbone", way, values), encoding="utf-8")
    code, out, err = run("validate", "-c", str(config))
    assert code == 0, out + err


class FakeStage:
    """Nothing runs; what was dropped is kept."""

    def __init__(self):
        self.dropped = []

    def drop(self, name, way):
        self.dropped.append((name, way))


@pytest.fixture(name="suite_of")
def fixture_suite_of(monkeypatch, tmp_path):
    """A suite of one row (P2 against nginx) whose runs are answered by a function of (peer, attempt)."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "performance.md").write_text(f"# P\n{report.BEGIN}\nold\n{report.END}\n", encoding="utf-8")
    monkeypatch.setattr(bench, "ROOT", tmp_path)
    monkeypatch.setattr(bench, "SETTLE_SECONDS", 0)
    monkeypatch.setattr(bench, "sysctl", lambda *_: None)
    monkeypatch.setattr(bench.Suite, "peers", lambda _self, _test: ["hbone", "nginx"])
    monkeypatch.setattr(peers.Peer, "path", lambda self: self.program)

    def make(answer, repeat=False):
        attempts = {}

        def measured(_stage, _test, peer, _quantity):
            attempts[peer] = attempts.get(peer, 0) + 1
            return answer(peer, attempts[peer])

        monkeypatch.setattr(measure, "load", measured)
        chosen = ([r for r in rows.ROWS if (r.id, r.peer) == ("P2", "nginx")], [rows.TESTS["pass-new"]])
        options = types.SimpleNamespace(rounds=2, seconds=1, starts=1, out=tmp_path / "out", save=True, repeat=repeat)
        stage = FakeStage()
        stage.stop_all = lambda: None
        suite = bench.Suite(stage, options, chosen)
        for number in range(options.rounds):
            suite.round(number)
        began = datetime.datetime.now(datetime.timezone.utc)
        info = {"command": "c", "date": "d", "commit": "c", "cpu": "c", "cores": 1, "kernel": "k", "rounds": 2, "versions": {},
                "runs": len(suite.runs), "noisy": sum(bool(r.get("noisy")) for r in suite.runs), "refilled": suite.refilled,
                "failed": [f"{t}, {p}: {why}" for (t, p), why in suite.failed.items()]}
        return bench.finish(options, suite, info, began), suite, tmp_path

    return make


def fail(why):
    raise peers.BenchError(why)


def quiet(value):
    return {"cpu_op": value, "steal_share": 0, "other_busy": 0}


def test_a_run_with_errors_is_refused(suite_of, capsys):
    def answer(peer, _attempt):
        if peer == "hbone":
            raise peers.BenchError("3 errors, the first: a stream was lost")
        return quiet(50)

    code, suite, folder = suite_of(answer)
    out = capsys.readouterr().out
    assert code == 1 and "3 errors" in out and "nothing is saved" in out
    assert suite.judged()[0]["verdict"] == "errors" and ("hbone", "passthrough") in suite.stage.dropped
    assert "old" in (folder / "docs" / "performance.md").read_text(encoding="utf-8")
    assert not (folder / "docs" / "performance.json").exists()


def test_a_failure_is_tried_once_more_and_a_noisy_run_is_made_again(suite_of):
    def answer(peer, attempt):
        if peer == "nginx" and attempt == 1:
            raise peers.BenchError("it did not start")
        return quiet(50) | ({"steal_share": 0.5} if peer == "hbone" and attempt == 1 else {})

    code, suite, folder = suite_of(answer)
    assert code == 0 and suite.refilled == 1 and not any(r.get("noisy") for r in suite.runs)
    saved = (folder / "docs" / "performance.md").read_text(encoding="utf-8")
    assert "| P2 |" in saved and "old" not in saved
    assert json.loads((folder / "docs" / "performance.json").read_text(encoding="utf-8"))["rows"][0]["ratio"] == 1.0
    assert tree.parse(folder / "docs" / "performance-operations.svg").getroot().tag.endswith("svg")
    assert len(list((folder / "out").glob("*.json"))) == 1 and list((folder / "out").glob("*.svg"))


def test_a_round_of_several_runs_is_their_median(suite_of):
    """The tail of one of them is not the round's, nor is its noise."""
    values = {1: 50, 2: 400, 3: 60}

    def answer(peer, attempt):
        return quiet(values.get(attempt, 70) if peer == "hbone" else 100)

    _code, suite, _folder = suite_of(answer, repeat=True)
    assert rows.TESTS["pass-new"].repeats == 3 and suite.planned == len(suite.runs) == 2 * 2 * 3
    assert {n: v["cpu_op"] for n, v in suite.results["pass-new"]["hbone"].items()} == {0: 60, 1: 70}
    assert suite.judged()[0]["ratio"] == pytest.approx(0.65)
    noisy = quiet(1) | {"noisy": True}
    assert "noisy" not in bench.combined([noisy, quiet(1), quiet(2)]) and bench.combined([noisy, noisy, quiet(2)])["noisy"]


def test_two_cores_are_the_senders_and_the_rest():
    assert measure.places([0, 1], "download") == ({0}, {0}, {1}) and measure.places([0, 1], "upload") == ({1}, {0}, {0})
    assert measure.places([0], "upload") == ({0}, {0}, {0}) and len(set.union(*measure.places(range(4), "upload"))) == 3


def test_of_a_peer_that_failed_no_round_is_reported(suite_of):
    code, suite, folder = suite_of(lambda peer, attempt: quiet(50) if peer == "hbone" or attempt == 1 else fail("it was lost"))
    assert code == 1 and suite.judged()[0]["verdict"] == "errors" and {r["peer"] for r in suite.runs} == {"hbone"}
    assert "nginx" not in next((folder / "out").glob("*-operations.svg")).read_text(encoding="utf-8")


def test_a_kernel_without_bbr_has_no_such_row(suite_of, monkeypatch, capsys):
    def no_bbr(name, value):
        if value == "bbr":
            raise FileNotFoundError(2, "No such file or directory")

    suite = suite_of(lambda *_: quiet(50))[1]
    monkeypatch.setattr(bench, "sysctl", no_bbr)
    suite.rows, suite.tests = rows.select(["P1d"])
    suite.round(0)
    out = capsys.readouterr().out
    assert out.count("not measured: no bbr") == 1 and not suite.failed
    assert {report.judge(r, suite.results, suite.failed)["verdict"] for r in suite.rows} == {"not measured"}


def test_a_row_without_limits_is_reported():
    row = dataclasses.replace(ROW, must=None, goal=None)
    out = report.judge(row, {"t": {"hbone": {0: {"p50": 3.0}}, "direct": {0: {"p50": 2.0}}}}, {})
    assert (out["ratio"], out["verdict"], report.summary([out])) == (1.5, "reported", "1 reported")


def test_steal_is_shown_and_noise_is_marked(suite_of, capsys):
    _code, suite, _folder = suite_of(lambda peer, _attempt: quiet(50) | {"steal_share": 0.2 if peer == "hbone" else 0})
    out = capsys.readouterr().out
    assert "hbone 50.0*" in out and "steal 20%" in out and "noisy" in out
    assert all(r.get("noisy") for r in suite.runs if r["peer"] == "hbone")


def test_what_the_load_tool_reports_must_be_without_errors():
    with pytest.raises(peers.BenchError, match="2 errors, the first: lost"):
        measure._report([], '{"errors": 2, "error": "lost"}', "/dev/null", 1)
    with pytest.raises(peers.BenchError, match="ended with 1"):
        measure._report([], "", "/dev/null", 1)
    assert measure._report([], 'x\n{"errors": 0}\n', "/dev/null", 0) == {"errors": 0}
