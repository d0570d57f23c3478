# SPDX-License-Identifier: Apache-2.0
"""The benchmark suite without running it: what it claims fits what it measures, and its configurations are ours."""
import dataclasses
import pathlib
import re
import sys
import xml.etree.ElementTree as tree

import pytest

from support.proc import run

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
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
        assert all(test.of(p).way in peers.PEERS[p].ways for p in test.peers if p != rows.DIRECT), test
        assert test.floor is None or test.of(rows.FLOOR).way in peers.PEERS[rows.FLOOR].ways, test


def test_names_select_rows_and_their_tests():
    chosen, tests = rows.select(["H4b"])
    assert {r.id for r in chosen} == {"H4b"} and {t.name for t in tests} == {"hbone-resumed", "hbone-new"}
    assert {r.id for r in rows.select(["H7"])[0]} == {"T5"}
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
