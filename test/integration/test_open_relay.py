# SPDX-License-Identifier: Apache-2.0
"""A workload never becomes an open relay: whatever authority a peer sends, its own open ports are reached and nothing
else."""
import json

import pytest

from support import config as c
from support import net
from support.h2client import Client
from support.tunnels import ECHO, client, connect, read_to_the_end, server, tls

pytestmark = pytest.mark.peer("python-h2")

ALL = [{"start": 1, "end": 65536}]


@pytest.fixture
def here(cleanup):
    """The application, and two servers that nobody may reach: on the same port of other addresses."""
    own = net.Server(net.echo)
    others = [net.Server(net.echo, host=a, port=own.port) for a in ("127.0.0.2", "::1")]
    for s in (own, *others):
        cleanup(s.close)
    return own, others


def workload(certs, own, **fields):
    ports = fields.pop("ports", [{"start": own.port, "end": own.port + 1}])
    return server(certs, workload={"ports": ports, "addresses": ["Web.example."], "loopback": True}, **fields)


GOOD = ["127.0.0.1:{own}", "[::ffff:127.0.0.1]:{own}", "[::FFFF:7f00:1]:{own}", "web.example:{own}", "WEB.Example:{own}",
        "web.example.:{own}"]
BAD = {
    400: ["127.0.0.2:{own}", "10.0.0.1:{own}", "0.0.0.0:{own}", "255.255.255.255:{own}", "[::1]:{own}", "[::]:{own}",
          "[::ffff:127.0.0.2]:{own}", "[::127.0.0.1]:{own}", "[64:ff9b::127.0.0.1]:{own}", "[::1%25lo]:{own}", "[::1%lo]:{own}",
          "::1:{own}", "[127.0.0.1]:{own}", "127.1:{own}", "2130706433:{own}", "0x7f000001:{own}", "0x7f.0.0.1:{own}",
          "0177.0.0.1:{own}", "127.0.0.01:{own}", "127.0.0.1.:{own}", "127.0.0.1", "web.example", "127.0.0.1:0", "127.0.0.1:",
          "127.0.0.1:+{own}", "127.0.0.1:0{own}", "127.0.0.1:65536", "user@127.0.0.1:{own}", "127.0.0.1:{own}@127.0.0.2:{own}",
          "web.example@127.0.0.2:{own}", "127.0.0.1:{own}/127.0.0.2", "127.0.0.1:{own},127.0.0.2:{own}", "web.example..:{own}",
          ".web.example:{own}", "web%2eexample:{own}", "http://127.0.0.1:{own}", ":{own}", "*:{own}"],
    401: ["127.0.0.1:22", "[::ffff:127.0.0.1]:22", "web.example:22", "WEB.EXAMPLE.:22"],
    503: ["other.example:{own}", "localhost:{own}", "web.example.evil.example:{own}", "evil-web.example:{own}",
          "web.exampl:{own}", "web:{own}", "127.0.0.1.example:{own}", "127.0.0.1:15001", "127.0.0.1:15006", "127.0.0.1:15008",
          "127.0.0.1:{mine}", "[::ffff:127.0.0.1]:{mine}", "web.example:15008", "WEB.example.:{mine}"],
}


def by_connect(t, target):
    return t.connect(target, ("x-envoy-original-dst-host", "127.0.0.2:80"), ("forwarded", 'for="127.0.0.2";host=127.0.0.2'))


def by_post(t, target):
    return t.request([(":method", "POST"), (":scheme", "https"), (":authority", "proxy.example"), (":path", "/tunnel/x"),
                      ("x-target", target)])


@pytest.mark.parametrize("ask", [by_connect, by_post])
def test_no_authority_leads_elsewhere(hbone, certs, here, ask):
    own, others = here
    h = hbone(workload(certs, own, post={"path_prefix": "/tunnel/", "target_header": "x-target"}))
    with Client(h.port("hbone"), certs) as t:
        for target in GOOD:
            target = target.format(own=own.port)
            n = ask(t, target)
            assert t.status(n) == 200, target
            t.send(n, b"mine")
            assert t.read(n, 4) == b"mine"
        reached = own.accepted
        for status, targets in BAD.items():
            for target in targets:
                target = target.format(own=own.port, mine=h.port("hbone"))
                n = ask(t, target)
                got = t.status(n)
                # A character that no authority has makes the request malformed.
                assert got == status or (t.streams[n].reset == 1 and set(target) & set("/,")), (target, got)
    assert own.accepted == reached == len(GOOD)
    assert [s.accepted for s in others] == [0, 0]


def test_ports_of_the_mesh_stay_shut_whatever_is_open(hbone, certs, here):
    h = hbone(workload(certs, here[0], ports=ALL))
    with Client(h.port("hbone"), certs) as t:
        for port in (15001, 15006, 15008, h.port("hbone")):
            assert t.status(t.connect(f"127.0.0.1:{port}")) == 503, port


@pytest.mark.parametrize("arrives,good,bad", [
    ("127.0.0.1", ["127.0.0.1", "[::ffff:127.0.0.1]"], ["[::1]", "127.0.0.2", "[::ffff:127.0.0.2]", "[::]", "0.0.0.0"]),
    ("::1", ["[::1]", "[0:0::0001]"], ["127.0.0.1", "127.0.0.2", "[::ffff:127.0.0.1]", "[::]", "[::2]"])])
def test_both_families_on_one_socket(hbone, certs, here, arrives, good, bad):
    """The address that the connection came to, not those that the listener could have had."""
    own, others = here
    config = json.loads(workload(certs, own))
    address = c.socket_address(0, "::")
    address["socket_address"]["ipv4_compat"] = True
    config["static_resources"]["listeners"][0]["address"] = address
    h = hbone(json.dumps(config))
    with Client(h.port("hbone"), certs, host=arrives) as t:
        for target in good:
            assert t.status(t.connect(f"{target}:{own.port}")) == 200, target
        for target in bad:
            assert t.status(t.connect(f"{target}:{own.port}")) == 400, target
    reached = own if arrives == "127.0.0.1" else others[1]
    assert [s.accepted for s in (own, *others) if s is not reached] == [0, 0]


@pytest.mark.parametrize("outer", ["127.0.0.2:{own}", "127.0.0.1:{own}", "[::1]:15008", "web.example:{own}"])
def test_the_outer_of_two_tunnels_moves_nothing(hbone, certs, here, outer):
    """Both end here. What the outer one's authority says is no address that a connection came to."""
    own, others = here
    inner = json.loads(workload(certs, own))["static_resources"]["listeners"][0]["filter_chains"]
    h = hbone(server(certs, chains=inner))
    for target, back in (("127.0.0.1", b"mine"), ("web.example", b"mine"), ("127.0.0.2", b""), ("[::1]", b"")):
        near = hbone(client(certs, h.port("hbone"), authority=f"{target}:{own.port}", through={
            "transport_socket": tls(certs, peer=ECHO), "port": 0, "authority": outer.format(own=own.port)}))
        with connect(near) as s:
            s.sendall(b"mine")
            if back:
                assert net.read_exactly(s, 4) == back
            else:
                assert read_to_the_end(s) == (b"", "reset")
                near.wait_line("why=tunnel_response:400")
    assert [s.accepted for s in others] == [0, 0]
