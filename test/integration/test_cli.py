# SPDX-License-Identifier: Apache-2.0
"""The command line: help, exit codes, validate, explain."""
import json

import pytest

from support import config as c
from support.proc import run

GOOD = c.bootstrap(
    [c.listener("sni", [c.sni_chain("a", ["a.example", "*.a.example"], "a"),
                        c.sni_chain("b", ["b.example"], "b", alpn=["istio"])], port=15443)],
    [c.cluster("a", 8001), c.cluster("b", 8002)])


@pytest.fixture
def file(tmp_path):
    def write(text):
        path = tmp_path / "config.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)
    return write


def test_version_help_and_unknown_words():
    assert run("--version")[1].startswith("hbone ")
    code, out, _ = run("--help")
    assert code == 0 and "validate" in out and "Exit codes" in out
    code, out, _ = run("run", "--help")
    assert code == 0 and "--drain-time" in out
    code, _, err = run("rum")
    assert code == 2 and 'did you mean "run"' in err
    code, _, err = run("run", "--concurency", "2")
    assert code == 2 and "did you mean --concurrency" in err
    code, _, err = run("run")
    assert code == 2 and "-c FILE" in err
    assert run()[0] == 2


def test_man_page_and_completion_name_every_command():
    for command in ("run", "validate", "explain", "version"):
        assert command in run("man")[1]
        assert command in run("completion")[1]


def test_validate_accepts_and_reads_standard_input(file):
    assert run("validate", "-c", file(GOOD))[0] == 0
    assert run("validate", "-c", "-", stdin=GOOD)[0] == 0
    code, _, err = run("validate", "-c", "/does/not/exist.yaml")
    assert code == 2 and "/does/not/exist.yaml" in err


def test_validate_reports_every_error_with_its_place(file):
    path = file("""\
static_resources:
  listeners:
  - name: one
    adress: {socket_address: {address: 127.0.0.1, port_value: 1}}
    filter_chains:
    - filters:
      - name: tcp
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy
          stat_prefix: x
          clutser: a
  clusters:
  - name: a
    type: STRICT_DMS
""")
    code, _, err = run("validate", "-c", path)
    assert code == 2
    assert f"{path}:4:5: " in err and "address" in err
    assert f"{path}:11:11: " in err and "cluster" in err
    assert f"{path}:14:" in err and "STRICT_DNS" in err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) >= 3


def test_validate_reports_errors_of_meaning_with_their_place(file):
    text = c.bootstrap([c.listener("sni", [c.sni_chain("a", ["a.*.example"], "a"), c.sni_chain("b", ["b.example"], "b"),
                                           c.sni_chain("c", ["b.example"], "b")])], [c.cluster("a", 1), c.cluster("b", 2)])
    code, _, err = run("validate", "-c", file(text))
    assert code == 2 and "a.*.example" in err
    assert "filter_chains[2]" in err


@pytest.mark.parametrize("admin,where,what", [
    ("{socket_address: {address: 127.0.0.1, port_value: 80000}}", "port_value", "at most 65535"),
    ("{socket_address: {address: 127.0.0.1}}", "socket_address", "needs a port_value"),
    ("{socket_address: {address: 127.0.0.1, port_value: 0, protocol: UDP}}", "protocol", "must be TCP"),
    ("{socket_address: {address: localhost, port_value: 0}}", "address", "must be an IP address"),
    ("{pipe: {path: '" + "x" * 200 + "'}}", "path", "1 to 107 bytes"),
    ("{pipe: {path: '@abstract'}}", "path", "path of a file"),
])
def test_admin_addresses_are_checked(file, admin, where, what):
    code, _, err = run("validate", "-c", file(f"admin: {{address: {admin}}}\n"))
    assert code == 2 and where in err and what in err, err


@pytest.mark.parametrize("match,says", [
    ({"exact": "api.example:443"}, None), ({"exact": "api.example"}, '"api.example" has no port'),
    ({"exact": "API.example:443"}, 'write "api.example:443"'), ({"exact": "API.example:443", "ignore_case": True}, None),
    ({"exact": "api.example.:443"}, 'write "api.example:443"'), ({"exact": "[::FFFF:10.0.0.1]:80"}, 'write "10.0.0.1:80"'),
    ({"exact": "[FD00::1]:80"}, 'write "[fd00::1]:80"'), ({"prefix": "api."}, None)])
def test_authorities_that_would_never_match(file, match, says):
    hbone = c.typed("hbone", "hbone.filters.network.hbone_server.HboneServer", stat_prefix="h", allowed_authorities=[match],
                    filter_chains=[{"filters": [c.tcp_proxy("up")]}])
    code, _, err = run("validate", "-c", file(c.bootstrap([c.listener("l", [{"filters": [hbone]}])], [c.cluster("up", 1)])))
    assert (code, err) == (0, "") if says is None else code == 2 and f"exact: would never match: {says}" in err, err


def test_names_that_nobody_has_are_warned_of(file):
    hbone = c.typed("hbone", "hbone.filters.network.hbone_server.HboneServer", stat_prefix="h", listener="outr")
    routes = [{"match": {"connect_matcher": {}}, "route": {"cluster": "on", "upgrade_configs": [
        {"upgrade_type": "CONNECT", "connect_config": {}}]}}]
    hcm = c.typed("hcm", "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", stat_prefix="m",
                  http_filters=[c.typed("router", "envoy.extensions.filters.http.router.v3.Router")],
                  route_config={"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]})
    weighted = c.typed("tcp", "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", stat_prefix="w",
                       weighted_clusters={"clusters": [{"name": "one", "weight": 1}, {"name": "tow", "weight": 1}]})
    sni = c.typed("sni", "hbone.filters.network.sni_router.SniRouter", default_cluster="none",
                  routes=[{"server_names": ["a.example"], "cluster": "onne"}])
    inner = {"endpoint": {"address": {"envoy_internal_address": {"server_listener_name": "outer1", "endpoint_id": "x"}}}}
    clusters = [c.cluster("one", 1), {"name": "two", "connect_timeout": "1s", "load_assignment": {
        "cluster_name": "two", "endpoints": [{"lb_endpoints": [inner]}]}}]
    chains = [[hbone], [hcm], [weighted], [sni, c.tcp_proxy("two")]]
    listeners = [c.listener(f"l{i}", [{"filters": chain}], port=1 + i) for i, chain in enumerate(chains)]
    listeners.append({"name": "outer", "internal_listener": {}, "filter_chains": [{"filters": [c.tcp_proxy("one")]}]})
    code, _, err = run("validate", "-c", file(c.bootstrap(listeners, clusters)))
    assert code == 0, err
    for text in ('listener: there is no listener "outr"; did you mean "outer"?', 'there is no cluster "on"; did you mean "one"?',
                 'clusters[1].name: there is no cluster "tow"; did you mean "two"?', 'there is no cluster "onne"; did you mean "one"?',
                 'default_cluster: there is no cluster "none"', 'server_listener_name: there is no listener "outer1"; did you mean "outer"?'):
        assert text in err, err
    assert err.count("there is no") == 6 and "warning: " in err


def test_common_slips_of_yaml_get_a_hint(file):
    assert "spaces, not with a tab" in run("validate", "-c", file("node:\n\tid: a\n"))[2]
    assert '"@type"' in run("validate", "-c", file("node: {@type: a}\n"))[2]


def test_merge_keys_are_an_error_aliases_are_not(file):
    code, _, err = run("validate", "-c", file("node: &n {id: a}\nadmin: {<<: *n}\n"))
    assert code == 2 and "merge" in err
    code, _, err = run("validate", "-c", file(
        "x: &a {socket_address: {address: 127.0.0.1, port_value: 1}}\nadmin: {address: *a}\n"))
    assert code == 2 and "x" in err


def test_explain_names_chain_cluster_and_endpoint(file):
    path = file(GOOD)
    code, out, err = run("explain", "-c", path, "--dst", "127.0.0.1:15443", "--sni", "deep.a.example")
    assert code == 0, err
    assert "a" in out and "127.0.0.1:8001" in out
    code, out, _ = run("explain", "-c", path, "--dst", "127.0.0.1:15443", "--sni", "b.example", "--alpn", "h2", "--json")
    steps = json.loads(out)
    assert code == 0 and "8002" not in json.dumps(steps) and "no filter chain matches" in json.dumps(steps)
    code, _, err = run("explain", "-c", path, "--dst", "nonsense")
    assert code == 2 and "ADDRESS:PORT" in err
