# SPDX-License-Identifier: Apache-2.0
"""Admin pages in the shapes that Envoy's tools read."""
import json
import re
import socket

import pytest

from support import config as c
from support import net
from support.proc import until


@pytest.fixture
def gateway(hbone, cleanup):
    server = net.Server(net.echo)
    cleanup(server.close)
    options = {"bootstrap_extensions": [c.typed("hbone.options", "hbone.bootstrap.Options",
                                                metrics_address=c.socket_address(), ready_address=c.socket_address())]}
    h = hbone(c.bootstrap([c.listener("sni", [c.sni_chain("a", ["a.example"], "a")])], [c.cluster("a", server.port)],
                          **options))
    h.server = server
    return h


def open_connection(h):
    s = socket.create_connection(("127.0.0.1", h.port("sni")), timeout=net.TIMEOUT)
    hello = net.client_hello("a.example")
    s.sendall(hello)
    assert net.read_exactly(s, len(hello)) == hello
    return s


READ_ONLY = ["/", "/help", "/ready", "/stats", "/stats/prometheus", "/config_dump", "/init_dump", "/clusters", "/listeners",
             "/certs", "/server_info", "/memory", "/connections", "/logging"]
MUTATING = ["/reopen_logs", "/drain_listeners", "/healthcheck/fail", "/healthcheck/ok", "/quitquitquit", "/reset_counters"]


def test_every_page_answers_and_help_lists_it(gateway):
    help_text = gateway.get("/help")[1]
    for path in READ_ONLY:
        status, text = gateway.get(path) if path != "/logging" else gateway.post(path)
        assert status == 200 and text, path
        assert path in help_text
    for path in MUTATING:
        assert path in help_text
    assert gateway.get("/nonsense")[0] == 404


def test_what_changes_state_needs_post(gateway):
    for path in MUTATING:
        assert gateway.get(path)[0] == 405, path
    assert gateway.get("/ready")[0] == 200


def test_healthcheck_and_reset_counters(gateway):
    open_connection(gateway).close()
    until(lambda: gateway.stats(r"^listener\.[^w]*\.downstream_cx_total$") == 1, "the counter")
    assert gateway.post("/reset_counters")[0] == 200
    assert gateway.stats(r"^listener\.[^w]*\.downstream_cx_total$") == 0
    assert gateway.post("/healthcheck/fail")[0] == 200
    status, text = gateway.get("/ready?verbose")
    assert status == 503 and "healthcheck/fail" in text
    assert gateway.post("/healthcheck/ok")[0] == 200
    assert gateway.get("/ready") == (200, "LIVE\n")


def test_stats_in_all_formats(gateway):
    s = open_connection(gateway)
    text = gateway.get("/stats?usedonly&filter=downstream_cx_active$")[1]
    assert re.fullmatch(r"(listener\.\S+downstream_cx_active: 1\n)+", text), text
    assert "server.state: 0\n" in gateway.get("/stats?usedonly&filter=^(server\\.state|listener_manager\\.workers_started)")[1]
    assert "listener_manager.workers_started: 1\n" in gateway.get("/stats")[1]
    values = {entry["name"]: entry.get("value") for entry in gateway.json("/stats?format=json")["stats"] if "name" in entry}
    assert values["cluster.a.upstream_cx_active"] == 1
    prometheus = gateway.get("/stats/prometheus")[1]
    assert re.search(r'^envoy_cluster_upstream_cx_active\{envoy_cluster_name="a"\} 1$', prometheus, re.M)
    assert "# TYPE envoy_cluster_upstream_cx_active gauge" in prometheus
    assert gateway.get("/stats?filter=(")[0] == 400
    s.close()


def test_config_dump_has_the_sections_that_istioctl_reads(gateway):
    dump = gateway.json("/config_dump")
    kinds = [x["@type"].rpartition(".")[2] for x in dump["configs"]]
    assert kinds[0] == "BootstrapConfigDump"
    for kind in ("ClustersConfigDump", "ListenersConfigDump", "RoutesConfigDump", "SecretsConfigDump"):
        assert kind in kinds
    listeners = dump["configs"][kinds.index("ListenersConfigDump")]["static_listeners"]
    assert listeners[0]["listener"]["name"] == "sni"
    assert listeners[0]["listener"]["@type"].endswith("envoy.config.listener.v3.Listener")
    clusters = dump["configs"][kinds.index("ClustersConfigDump")]["static_clusters"]
    assert [x["cluster"]["name"] for x in clusters] == ["a"]
    alone = gateway.json("/config_dump?resource=static_clusters")["configs"]
    assert [x["@type"].rpartition("v3.")[2] for x in alone] == ["ClustersConfigDump.StaticCluster"]
    assert gateway.get("/config_dump?mask=bootstrap")[0] == 400
    endpoints = [x for x in gateway.json("/config_dump?include_eds")["configs"] if x["@type"].endswith("EndpointsConfigDump")]
    config = endpoints[0]["static_endpoint_configs"][0]["endpoint_config"]
    assert config["@type"].endswith("endpoint.v3.ClusterLoadAssignment") and config["cluster_name"] == "a"


def test_server_info_memory_and_certs_print_defaults_too(gateway):
    info = gateway.json("/server_info")
    assert info["state"] == "LIVE" and info["command_line_options"]["concurrency"] >= 1
    assert gateway.post("/healthcheck/fail")[0] == 200
    assert gateway.json("/server_info")["state"] == "DRAINING"
    memory = gateway.json("/memory")
    for key in ("allocated", "heap_size", "pageheap_unmapped", "pageheap_free", "total_thread_cache", "total_physical_bytes"):
        assert memory[key].isdigit(), "64-bit numbers are text, as in protobuf's JSON"


def test_clusters_and_listeners_in_both_formats(gateway):
    port = gateway.server.port
    assert f"a::127.0.0.1:{port}::health_flags::healthy" in gateway.get("/clusters")[1]
    hosts = gateway.json("/clusters?format=json")["cluster_statuses"][0]["host_statuses"]
    assert hosts[0]["address"]["socket_address"]["port_value"] == port
    statuses = gateway.json("/listeners?format=json")["listener_statuses"]
    assert statuses[0]["name"] == "sni"
    assert statuses[0]["local_address"]["socket_address"]["port_value"] == gateway.port("sni")


def test_connections_are_listed_and_can_be_closed(gateway):
    s = open_connection(gateway)
    rows = gateway.json("/connections?format=json")["connections"]
    assert len(rows) == 1
    row = rows[0]
    assert row["sni"] == "a.example" and row["chain"] == "a"
    assert row["endpoint"] == f"127.0.0.1:{gateway.server.port}"
    assert row["peer"].endswith(f":{s.getsockname()[1]}")
    assert gateway.json("/connections?format=json&sni=other.example")["connections"] == []
    assert "a.example" in gateway.get("/connections")[1]
    assert gateway.get(f"/connections?close={row['id']}")[0] == 405
    assert gateway.post(f"/connections?close={row['id']}")[0] == 200
    with pytest.raises(ConnectionResetError):
        s.recv(1)
    s.close()


def test_explain_on_the_running_process(gateway):
    port = gateway.port("sni")
    status, text = gateway.get(f"/explain?dst=127.0.0.1:{port}&sni=a.example")
    assert status == 200 and f"127.0.0.1:{gateway.server.port}" in text
    assert gateway.get("/explain")[0] == 400
    steps = gateway.json(f"/explain?dst=127.0.0.1:{port}&sni=b.example&format=json")
    assert "a" in json.dumps(steps)


def test_log_levels_change_at_run_time(gateway):
    assert gateway.post("/logging?level=debug")[0] == 200
    assert "listener: debug" in gateway.post("/logging?paths=tls:trace,connection:info")[1]
    assert "tls: trace" in gateway.post("/logging")[1]
    assert gateway.post("/logging?level=nonsense")[0] == 400
    assert gateway.post("/logging?listener=warning")[0] == 200
    assert "listener: warning" in gateway.post("/logging")[1]


def test_public_addresses_serve_one_page_each_read_only(gateway):
    public = [a for line in gateway.lines for a in re.findall(r"(?:metrics|ready)=(\S+:\d+)", line)]
    assert len(public) == 2, gateway.output()

    def get(address, path):
        gateway_port, gateway.admin_port = gateway.admin_port, int(address.rpartition(":")[2])
        try:
            return gateway.get(path)
        finally:
            gateway.admin_port = gateway_port
    metrics, ready = public
    assert "envoy_" in get(metrics, "/metrics")[1]
    assert get(ready, "/healthz/ready")[0] == 200
    for address in public:
        assert get(address, "/config_dump")[0] == 404
        assert get(address, "/quitquitquit")[0] in (404, 405)


def test_drain_listeners_stops_accepting_and_keeps_connections(gateway):
    s = open_connection(gateway)
    port = gateway.port("sni")
    assert gateway.post("/drain_listeners")[0] == 200
    until(lambda: net.refused(port), "the port to close")
    s.sendall(b"on")
    assert net.read_exactly(s, 2) == b"on"
    s.close()


def test_quitquitquit_stops_the_process(gateway):
    assert gateway.post("/quitquitquit")[0] == 200
    assert gateway.wait() == 0
