# SPDX-License-Identifier: Apache-2.0
"""Access logs: formats, sinks, filters, and the application log's formats."""
import json
import os
import re
import signal
import socket

import pytest

from support import config as c
from support import net
from support.proc import until

STREAM = "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"
FILE = "envoy.extensions.access_loggers.file.v3.FileAccessLog"


def config(port, logs, **proxy):
    return c.bootstrap([c.listener("in", [{"name": "all", "filters": [c.tcp_proxy("up", access_log=logs, **proxy)]}])],
                       [c.cluster("up", port)])


def talk(h, data=None):
    data = net.client_hello("a.example") if data is None else data
    with socket.create_connection(("127.0.0.1", h.port("in")), timeout=net.TIMEOUT) as s:
        s.sendall(data)
        assert net.read_exactly(s, len(data)) == data
        s.shutdown(socket.SHUT_WR)
        assert s.recv(1) == b""
        return s.getsockname()[1], len(data)


@pytest.fixture(name="server")
def echo_server(cleanup):
    server = net.Server(net.echo)
    cleanup(server.close)
    return server


def text(format_text):
    return {"text_format_source": {"inline_string": format_text + "\n"}}


def test_operators_in_text(hbone, server):
    operators = ("START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ) CONNECTION_ID DURATION BYTES_RECEIVED BYTES_SENT REQUESTED_SERVER_NAME "
                 "UPSTREAM_CLUSTER UPSTREAM_HOST FILTER_CHAIN_NAME RESPONSE_FLAGS DOWNSTREAM_REMOTE_ADDRESS "
                 "REQUESTED_SERVER_NAME:3 CLOSE_REASON").split(" ")
    form = "log " + " ".join(f"%{o}%" for o in operators)
    h = hbone(config(server.port, [c.typed("out", STREAM, log_format=text(form))]))
    port, n = talk(h)
    words = h.wait_line(r"^log (.*)$")[1].split(" ")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", words[0])
    assert words[1].isdigit() and words[2].isdigit()
    assert words[3:] == [str(n), str(n), "a.example", "up", f"127.0.0.1:{server.port}", "all", "-", f"127.0.0.1:{port}",
                         "a.e", "done"]


def test_json_has_types_and_null(hbone, server):
    fields = {"bytes": "%BYTES_RECEIVED%", "name": "%REQUESTED_SERVER_NAME%", "both": "%UPSTREAM_CLUSTER%/%BYTES_SENT%",
              "missing": "%DOWNSTREAM_PEER_URI_SAN%", "nested": {"flags": "%RESPONSE_FLAGS%"}}
    h = hbone(config(server.port, [c.typed("out", STREAM, log_format={"json_format": fields})]))
    _, n = talk(h)
    row = json.loads(h.wait_line(r"^(\{.*\})$")[1])
    assert row == {"bytes": n, "name": "a.example", "both": f"up/{n}", "missing": None, "nested": {"flags": None}}


def test_default_format_is_envoys(hbone, server):
    h = hbone(config(server.port, [c.typed("out", STREAM)]))
    talk(h)
    h.wait_line(r'^\[\d{4}-\S+\] "- - -" 0 - \d+ \d+ \d+ - "-" "-" "-" "-" "127\.0\.0\.1:\d+"$')


@pytest.mark.parametrize("way", ["POST", "SIGUSR1"])
def test_files_are_reopened_after_rotation(hbone, server, tmp_path, way):
    path = tmp_path / "access.log"
    h = hbone(config(server.port, [c.typed("file", FILE, path=str(path), log_format=text("%REQUESTED_SERVER_NAME%"))]))
    talk(h)
    until(lambda: path.exists() and path.read_text() == "a.example\n", "the first line")
    os.rename(path, tmp_path / "access.log.1")
    if way == "POST":
        assert h.post("/reopen_logs")[0] == 200
    else:
        h.process.send_signal(signal.SIGUSR1)
    talk(h, net.client_hello("b.example"))
    until(lambda: path.exists() and path.read_text() == "b.example\n", "the second line, in a new file")


def test_filters_by_flag_duration_and_moment(hbone, server):
    def log(name, condition):
        return dict(c.typed(name, STREAM, log_format=text(f"log {name} %ACCESS_LOG_TYPE%")), filter=condition)
    logs = [log("any", {"response_flag_filter": {}}),
            log("long", {"duration_filter": {"comparison": {"op": "GE", "value": {"default_value": 600000, "runtime_key": "x"}}}}),
            log("start", {"log_type_filter": {"types": ["TcpConnectionStart"]}}),
            log("end", {"and_filter": {"filters": [{"log_type_filter": {"types": ["TcpConnectionEnd"]}},
                                                   {"not_health_check_filter": {}}]}})]
    h = hbone(config(server.port, logs, access_log_options={"flush_access_log_on_start": True,
                                                            "flush_access_log_on_connected": True}))
    talk(h)
    h.wait_line(r"^log end TcpConnectionEnd$")
    assert [line for line in h.lines if line.startswith("log ")] == ["log start TcpConnectionStart", "log end TcpConnectionEnd"]


def test_lines_while_the_connection_lives(hbone, server):
    h = hbone(config(server.port, [c.typed("out", STREAM, log_format=text("log %ACCESS_LOG_TYPE% %BYTES_RECEIVED%"))],
                     access_log_options={"access_log_flush_interval": "0.02s"}))
    with socket.create_connection(("127.0.0.1", h.port("in")), timeout=net.TIMEOUT) as s:
        hello = net.client_hello("a.example")
        s.sendall(hello)
        h.wait_line(rf"^log TcpPeriodic {len(hello)}$")


def test_application_log_in_json(hbone, server):
    h = hbone(config(server.port, []), "--log-format", "json", "-l", "debug")
    talk(h)
    rows = [json.loads(line) for line in list(h.lines) if line]
    assert rows and all({"time", "level", "component", "message"} <= set(row) for row in rows)
