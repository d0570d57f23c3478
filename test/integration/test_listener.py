# SPDX-License-Identifier: Apache-2.0
"""Listeners: addresses, balance, listener filters, filter chain match, replacing in place."""
import os
import re
import socket
import stat
import struct

import pytest

from support import config as c
from support import net
from support.proc import Hbone, until

ECHO = c.typed("echo", "envoy.extensions.filters.network.echo.v3.Echo")
PROXY = "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"
INPUT = "envoy.extensions.matching.common_inputs.network.v3."
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"


def says(text):
    """A chain's only filter: answers with this text, so that a client sees which chain it got."""
    return c.typed("answer", "envoy.extensions.filters.network.direct_response.v3.Config",
                   response={"inline_string": text})


def chain(name, match=None, **fields):
    return {"name": name, "filter_chain_match": match or {}, "filters": [says(name)], **fields}


def ask(port, first=b"", address="127.0.0.1", source=None):
    """What the chain answers to a client that begins with these bytes; RST is an error."""
    with socket.create_connection((address, port), timeout=net.TIMEOUT, source_address=source) as s:
        s.sendall(first)
        return net.read_all(s).decode()


def stdout_log(text):
    return c.typed("log", "envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
                   log_format={"text_format_source": {"inline_string": text + "\n"}})


def test_unix_sockets_for_listener_endpoint_and_admin(hbone, tmp_path):
    lower, upper, admin = (str(tmp_path / name) for name in ("lower.sock", "upper.sock", "admin.sock"))
    server = socket.socket(socket.AF_UNIX)
    server.bind(lower)
    server.listen()
    server.settimeout(net.TIMEOUT)
    up = c.cluster("up")
    up["load_assignment"]["endpoints"] = [{"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": lower}}}}]}]
    listener = c.listener("unix", [{"filters": [c.tcp_proxy("up")]}], inspectors=())
    listener["address"] = {"pipe": {"path": upper, "mode": 0o600}}
    hbone(c.bootstrap([listener], [up], admin={"address": {"pipe": {"path": admin}}}))
    assert stat.S_IMODE(os.stat(upper).st_mode) == 0o600 and stat.S_IMODE(os.stat(admin).st_mode) == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(net.TIMEOUT)
        client.connect(upper)
        peer, _ = server.accept()
        client.sendall(b"down")
        assert net.read_exactly(peer, 4) == b"down"
        peer.sendall(b"up")
        peer.close()
        assert net.read_all(client) == b"up"
    server.close()
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(net.TIMEOUT)
        client.connect(admin)
        client.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
        assert b" 200 " in net.read_all(client).splitlines()[0]


def test_several_addresses_of_both_families(hbone):
    more = [{"address": c.socket_address(0, "::1")}, {"address": c.socket_address(0, "127.0.0.2")}]
    h = hbone(c.bootstrap([c.listener("many", [chain("one")], inspectors=(), additional_addresses=more)], []))
    bound = re.findall(r"^many::(.+):(\d+)$", h.get("/listeners")[1], re.M)
    assert [a for a, _ in bound] == ["127.0.0.1", "[::1]", "127.0.0.2"]
    for address, port in bound:
        assert ask(int(port), address=address.strip("[]")) == "one"


def test_dual_stack_takes_ipv4_on_an_ipv6_socket(hbone):
    listener = c.listener("dual", [chain("one")], inspectors=())
    listener["address"] = {"socket_address": {"address": "::", "port_value": 0, "ipv4_compat": True}}
    h = hbone(c.bootstrap([listener], []))
    assert ask(h.port("dual")) == ask(h.port("dual"), address="::1") == "one"


@pytest.mark.parametrize("option", ["freebind", "transparent"])
def test_addresses_that_no_interface_has(hbone, tmp_path, option):
    """192.0.2.0/24 is for documentation: nobody has it."""
    def config(**fields):
        listener = c.listener("foreign", [chain("one")], inspectors=(), **fields)
        listener["address"] = c.socket_address(0, "192.0.2.7")
        return c.bootstrap([listener], [])
    if os.geteuid() != 0 and option == "transparent":
        pytest.skip("IP_TRANSPARENT needs CAP_NET_ADMIN")
    h = hbone(config(**{option: True}))
    assert "foreign::192.0.2.7:" in h.get("/listeners")[1]
    without = Hbone(tmp_path, config(), (), 9)
    assert without.wait() == 2 and "192.0.2.7" in without.output()


def worker_counts(h):
    text = h.get("/stats?filter=worker_\\d%2B\\.downstream_cx_active")[1]
    return [int(n) for n in re.findall(r"downstream_cx_active: (\d+)", text)]


def test_exact_balance_spreads_connections_evenly(hbone):
    h = hbone(c.bootstrap([c.listener("even", [{"filters": [ECHO]}], inspectors=(),
                                      connection_balance_config={"exact_balance": {}})], []), "--concurrency", "4")
    sockets = []
    for _ in range(40):
        s = socket.create_connection(("127.0.0.1", h.port("even")), timeout=net.TIMEOUT)
        s.sendall(b"x")
        assert net.read_exactly(s, 1) == b"x"
        sockets.append(s)
    assert worker_counts(h) == [10, 10, 10, 10]
    for s in sockets:
        s.close()


def v2(command, source, destination, tlvs=()):
    body = socket.inet_aton(source[0]) + socket.inet_aton(destination[0]) + struct.pack("!HH", source[1], destination[1])
    body += b"".join(struct.pack("!BH", kind, len(value)) + value for kind, value in tlvs)
    return SIGNATURE + struct.pack("!BBH", 0x20 | command, 0x11, len(body)) + body


@pytest.mark.parametrize("header", [
    b"PROXY TCP4 192.0.2.1 198.51.100.9 4321 443\r\n",
    v2(1, ("192.0.2.1", 4321), ("198.51.100.9", 443), [(0xEA, b"blue")]),
], ids=["v1", "v2"])
def test_proxy_protocol_replaces_addresses_and_keeps_tlvs(hbone, header):
    rule = {"tlv_type": 0xEA, "on_tlv_present": {"key": "vpc"}}
    chains = [chain("told", {"destination_port": 443, "prefix_ranges": [{"address_prefix": "198.51.100.0", "prefix_len": 24}],
                             "source_prefix_ranges": [{"address_prefix": "192.0.2.0", "prefix_len": 24}]}), chain("plain")]
    listener = c.listener("proxied", chains, inspectors=[c.typed("pp", PROXY, rules=[rule])])
    listener["access_log"] = [stdout_log(
        "log remote=%DOWNSTREAM_REMOTE_ADDRESS% local=%DOWNSTREAM_LOCAL_ADDRESS% "
        "vpc=%DYNAMIC_METADATA(envoy.filters.listener.proxy_protocol:vpc)% direct=%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%")]
    h = hbone(c.bootstrap([listener], []))
    assert ask(h.port("proxied"), header) == "told"
    found = h.wait_line(r"log remote=(\S+) local=(\S+) vpc=(\S+) direct=(\S+)")
    assert found.groups()[:2] == ("192.0.2.1:4321", "198.51.100.9:443")
    assert found[3] == ("blue" if header.startswith(SIGNATURE) else "-") and found[4].startswith("127.0.0.1:")


def test_proxy_protocol_is_demanded_unless_allowed(hbone):
    strict = c.listener("strict", [chain("one")], inspectors=[c.typed("pp", PROXY)])
    free = c.listener("free", [chain("one")],
                      inspectors=[c.typed("pp", PROXY, allow_requests_without_proxy_protocol=True)])
    h = hbone(c.bootstrap([strict, free], []))
    assert ask(h.port("free"), b"GET / HTTP/1.1\r\n\r\n") == "one"
    for broken in (b"GET / HTTP/1.1\r\n\r\n", b"PROXY TCP4 one two 3 4\r\n", SIGNATURE + b"\x21\x11\0\x01x"):
        with pytest.raises(ConnectionResetError):
            ask(h.port("strict"), broken)
    h.expect_stat("proxy_proto.not_found_disallowed", 1)
    assert h.stat("proxy_proto.versions.v1.error") == h.stat("proxy_proto.versions.v2.error") == 1


@pytest.mark.parametrize("go_on", [False, True])
def test_listener_filters_time_out(hbone, go_on):
    """A client of a server-first protocol says nothing."""
    h = hbone(c.bootstrap([c.listener("slow", [chain("one")], listener_filters_timeout="0.05s",
                                      continue_on_listener_filters_timeout=go_on)], []))
    if go_on:
        assert ask(h.port("slow")) == "one"
    else:
        with pytest.raises(ConnectionResetError):
            ask(h.port("slow"))
    h.expect_stats(r"^listener\..*\.downstream_pre_cx_timeout$", 1)


def test_http_inspector_finds_versions(hbone):
    inspector = c.typed("http", "envoy.extensions.filters.listener.http_inspector.v3.HttpInspector")
    chains = [chain("h2c", {"application_protocols": ["h2c"]}), chain("one", {"application_protocols": ["http/1.1"]}),
              chain("other")]
    h = hbone(c.bootstrap([c.listener("http", chains, inspectors=[inspector])], []))
    assert ask(h.port("http"), b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") == "one"
    assert ask(h.port("http"), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == "h2c"
    assert ask(h.port("http"), b"\x16\x03\x01nothing that we know\n") == "other"


def test_filter_disabled_skips_an_inspector(hbone):
    inspector = dict(c.TLS_INSPECTOR, filter_disabled={"destination_port_range": {"start": 1, "end": 65536}})
    h = hbone(c.bootstrap([c.listener("off", [chain("one")], inspectors=[inspector])], []))
    assert ask(h.port("off")) == "one"


def test_default_filter_chain_takes_the_rest(hbone):
    h = hbone(c.bootstrap([c.listener("d", [chain("source", {"source_prefix_ranges": [
        {"address_prefix": "127.0.0.3", "prefix_len": 32}]})], inspectors=(), default_filter_chain=chain("default"))], []))
    assert ask(h.port("d"), source=("127.0.0.3", 0)) == "source"
    assert ask(h.port("d")) == "default"


def matcher_config():
    """sni a.example and 127.0.0.0/8 -> by tree; ALPN istio -> by list; else no chain."""
    def goto(name):
        return {"action": {"name": name, "typed_config": {"@type": c.TYPE + "google.protobuf.StringValue", "value": name}}}

    def of(kind):
        return c.typed(kind, INPUT + kind)
    by_alpn = {"matcher_list": {"matchers": [{
        "predicate": {"single_predicate": {"input": of("ApplicationProtocolInput"),
                                           "value_match": {"contains": "'istio'"}}},
        "on_match": goto("istio")}]}}
    by_source = {"matcher_tree": {"input": of("SourceIPInput"), "custom_match": c.typed(
        "ip", "xds.type.matcher.v3.IPMatcher", range_matchers=[
            {"ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}], "on_match": goto("local")},
            {"ranges": [{"address_prefix": "127.0.0.3", "prefix_len": 32}], "on_match": goto("three")}])}}
    tree = {"matcher_tree": {"input": of("ServerNameInput"), "exact_match_map": {"map": {
        "a.example": {"matcher": by_source}}}}, "on_no_match": {"matcher": by_alpn}}
    chains = [{"name": name, "filters": [says(name)]} for name in ("local", "three", "istio")]
    return c.bootstrap([c.listener("tree", chains, filter_chain_matcher=tree)], [])


def test_unified_matcher_chooses_the_chain(hbone):
    h = hbone(matcher_config())
    port = h.port("tree")
    assert ask(port, net.client_hello("a.example")) == "local"
    assert ask(port, net.client_hello("A.EXAMPLE"), source=("127.0.0.3", 0)) == "three"
    assert ask(port, net.client_hello("b.example", ["h2", "istio"])) == "istio"
    with pytest.raises(ConnectionResetError):
        ask(port, net.client_hello("b.example", ["h2"]))
    explained = h.json(f"/explain?listener=tree&sni=a.example&src=127.0.0.3:1&format=json")
    assert "three" in str(explained)


def test_global_connection_limit(hbone):
    limit = {"overload_manager": {"resource_monitors": [c.typed(
        "envoy.resource_monitors.global_downstream_max_connections",
        "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=3)]}}
    listeners = [c.listener(name, [{"filters": [ECHO]}], inspectors=()) for name in ("one", "two")]
    free = c.listener("free", [{"filters": [ECHO]}], inspectors=(), ignore_global_conn_limit=True)
    h = hbone(c.bootstrap([*listeners, free], [], **limit))

    def connect(name):
        s = socket.create_connection(("127.0.0.1", h.port(name)), timeout=net.TIMEOUT)
        s.sendall(b"x")
        assert net.read_exactly(s, 1) == b"x"
        return s
    sockets = [connect("one"), connect("two"), connect("one")]
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        connect("two")
    h.expect_stats(r"^listener\..*\.downstream_global_cx_overflow$", 1)
    sockets.append(connect("free"))
    for s in sockets:
        s.close()
    until(lambda: h.stat("server.total_connections") == 0, "all to close")
    connect("two").close()


def test_a_changed_tls_chain_drains_alone(hbone, certs):
    """Two chains that end TLS; one changes: its connections drain, the other's and the sockets stay."""
    def config(certificate):
        chains = [{"name": name, "filter_chain_match": {"server_names": [name]},
                   "transport_socket": c.tls_downstream(certs, own), "filters": [ECHO]}
                  for name, own in (("a.example", "a"), ("b.example", certificate))]
        return c.bootstrap([c.listener("tls", chains)], [])
    h = hbone(config("b"), "--drain-time", "1")
    port = h.port("tls")

    def talk(s, data):
        s.sendall(data)
        assert net.read_exactly(s, len(data)) == data
    kept, drained = net.tls_connect(port, certs, "a.example"), net.tls_connect(port, certs, "b.example")
    talk(kept, b"one")
    talk(drained, b"one")
    certificate = kept.getpeercert()
    assert h.reload(config("echo")), h.output()
    assert h.stat("listener_manager.listener_in_place_updated") == 1 and h.port("tls") == port
    with pytest.raises((ConnectionResetError, EOFError)):
        net.read_exactly(drained, 1)
    talk(kept, b"still")
    again = net.tls_connect(port, certs, "a.example")
    assert again.getpeercert() == certificate
    for s in (kept, drained, again):
        s.close()


def test_addresses_move_between_listeners_without_a_gap(hbone):
    # What the old listener takes in the moment of the change may end by itself.
    h = hbone(c.bootstrap([c.listener("old", [chain("old")], inspectors=())], []), "--drain-time", "30")
    port = h.port("old")
    assert ask(port) == "old"
    assert h.reload(c.bootstrap([c.listener("new", [chain("new")], inspectors=(), port=port)], [])), h.output()
    until(lambda: ask(port) == "new", "the new listener")
