# SPDX-License-Identifier: Apache-2.0
"""The examples of HBONE's roles, all running beside each other as their heads say; only ports are others here."""
import http.client
import http.server
import os
import pathlib
import re
import socket
import ssl
import subprocess
import threading

import pytest

from support import net
from support.proc import BIN, SLOW, run, until

EXAMPLES = pathlib.Path(__file__).resolve().parents[2] / "examples"
IDENTITIES = ["default/sa/web", "default/sa/client", "istio-system/sa/eastwest", "istio-system/sa/ingress",
              "istio-system/sa/egress", "default/sa/waypoint"]
CLIENT = "spiffe://cluster.local/ns/default/sa/client"


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder with the certificates that the examples' heads tell to make; the current one."""
    monkeypatch.chdir(tmp_path)
    assert run("ca", "init", "ca")[0] == 0
    for identity in IDENTITIES:
        names = ("--dns", "web.example") if identity.endswith("ingress") else ()
        assert run("ca", "issue", "ca", "--id", f"spiffe://cluster.local/ns/{identity}", *names)[0] == 0
    assert run("ca", "issue", "ca", "--id", "spiffe://cluster.local/ns/out/sa/api", "--dns",
               "api.example,shop.example")[0] == 0
    return tmp_path


@pytest.fixture
def service(cleanup):
    """service(text, certificate=None): an HTTP server's port; it answers every GET with the text."""
    def start(text, certificate=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):  # pylint: disable=invalid-name
                self.send_response(200)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, *_):
                pass
        s = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate / "cert-chain.pem", certificate / "key.pem")
            s.socket = context.wrap_socket(s.socket, server_side=True)
        threading.Thread(target=s.serve_forever, daemon=True).start()
        cleanup(lambda: (s.shutdown(), s.server_close()))
        return s.server_address[1]
    return start


def example(name, ports):
    """Its text: listeners and admin get free ports, other ports stand in for those that are known."""
    text = (EXAMPLES / f"hbone-{name}.yaml").read_text(encoding="utf-8")
    text = re.sub(r"(?m)^(admin: .*port_value: )\d+", r"\g<1>0", text)
    text = re.sub(r"(?ms)(^  - name: \S+\n    address: [^\n]*port_value: )\d+", r"\g<1>0", text)
    for old, new in ports.items():
        text = re.sub(rf"\b{old}\b", str(new), text)
    return text


def get(port, host="127.0.0.1", trust=None):
    """The body; None: the connection ended without an answer."""
    try:
        c = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        if trust is not None:
            context = ssl.create_default_context(cafile=trust)
            c.sock = context.wrap_socket(socket.create_connection(("127.0.0.1", port), 60), server_hostname=host)
        c.request("GET", "/")
        return c.getresponse().read().decode()
    except (OSError, http.client.HTTPException):
        return None


def test_all_roles_run_beside_each_other(hbone, home, service):
    ports = {18080: service("this is web"), 18443: service("this is secret", home / "ca/out/api")}
    ports |= {18081: ports[18080] + 1, 18444: ports[18443] + 1}
    workload = hbone(example("workload", ports))
    ports[25008] = workload.port("inbound")
    eastwest = hbone(example("eastwest", ports))
    ports[15008] = eastwest.port("hbone")
    ingress = hbone(example("ingress", ports))
    assert get(ingress.port("tcp")) == "this is web"
    assert get(ingress.port("tls"), "shop.example", home / "ca/ca.pem") == "this is secret"
    assert get(ingress.port("tls"), "other.example", home / "ca/ca.pem") is None
    assert get(ingress.port("ends"), "web.example", home / "ca/ca.pem") == "this is web"
    outbound = hbone(example("outbound", ports))
    double = hbone(example("double", ports))
    assert get(outbound.port("single")) == "this is web"
    assert get(outbound.port("double")) == "this is web"
    assert get(double.port("in")) == "this is web"
    eastwest.wait_line(f" 200 web.default:80 from={CLIENT} ")
    until(lambda: sum(f" 200 web.default:8443 from={CLIENT} " in str(line) for line in eastwest.lines) == 2,
          "both of double HBONE in the gateway's log")


@pytest.mark.parametrize("role,authority,answer", [
    ("egress", "plain.example:80", "this is web"),
    ("egress", "api.example:443", "this is secret"),
    ("egress", "evil.example:80", None),
    ("waypoint", "10.96.0.10:80", "this is web"),
    ("waypoint", "10.96.0.11:80", None)])
def test_egress_and_waypoint(hbone, home, service, role, authority, answer):
    ports = {18080: service("this is web"), 18443: service("this is secret", home / "ca/out/api")}
    ports |= {18081: ports[18080] + 1, 18444: ports[18443] + 1}
    ports[25008] = hbone(example("workload", ports)).port("inbound")
    far = hbone(example(role, ports))
    near = example("outbound", {15008: far.port(role)}).replace("web.default:80", authority)
    near = hbone(near.replace("istio-system/sa/eastwest", IDENTITIES[4 if role == "egress" else 5]))
    assert get(near.port("single")) == answer


def test_a_gateway_keeps_the_source_in_a_proxy_header(hbone, home, cleanup):
    seen = []

    def handle(s):
        seen.append(net.read_exactly(s, 28 + 5))
        s.sendall(b"done")
    origin = net.Server(handle)
    cleanup(origin.close)
    text = example("waypoint", {18080: origin.port}).replace(
        "stat_prefix: waypoint\n          http2", "stat_prefix: waypoint\n          trust_forwarded: true\n          http2")
    head, _, _ = text.partition("    transport_socket:\n      name: hbone")
    far = hbone(head.replace("&certificate", "").replace("&mesh", "") + """    transport_socket:
      name: proxy
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.proxy_protocol.v3.ProxyProtocolUpstreamTransport
        config: {version: V2}
        transport_socket:
          name: raw
          typed_config: {"@type": type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer}
""")
    near = example("outbound", {15008: far.port("waypoint")}).replace("web.default:80", "10.96.0.10:80")
    near = hbone(near.replace("istio-system/sa/eastwest", IDENTITIES[5]))
    with socket.create_connection(("127.0.0.1", near.port("single")), timeout=60) as s:
        s.sendall(b"bytes")
        assert net.read_exactly(s, 4) == b"done"
        source = socket.inet_aton("127.0.0.1") + socket.inet_aton("10.96.0.10") + \
            s.getsockname()[1].to_bytes(2, "big") + (80).to_bytes(2, "big")
    assert seen == [b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + source + b"bytes"]


@pytest.mark.parametrize("role,authority,says", [
    ("workload", "127.0.0.1:18080", "endpoint  chosen      127.0.0.1:18080"),
    ("workload", "127.0.0.1:22", "refused     hbone_server: the port is not one that may be reached: 401"),
    ("workload", "10.0.0.9:18080", "refused     hbone_server: the authority is not the workload's address: 400"),
    ("workload", "other.default:18080", "the authority is no name of the workload: 503"),
    ("workload", "web.default", "the authority has no port: 400"),
    ("egress", "evil.example:80", "refused     hbone_server: the authority is not one that may be reached: 401"),
    ("egress", "PLAIN.example:80", "chosen      plain"),
    ("waypoint", "10.96.0.10:80", "chosen      web: its filter_chain_match"),
    ("waypoint", "10.96.0.11:80", "no filter chain"),
    ("eastwest", "web.default:80", "allowed by: default/web-clients")])
def test_explain_decides_as_the_tunnel_server(home, role, authority, says):
    listener = {"workload": "inbound", "eastwest": "hbone"}.get(role, role)
    code, out, err = run("explain", "-c", str(EXAMPLES / f"hbone-{role}.yaml"), "--listener", listener, "--peer", CLIENT,
                         "--authority", authority, cwd=home)
    assert code == 0, err
    assert says in out


@pytest.mark.peer("curl")
def test_the_commands_of_the_readme(tmp_path):
    """Word by word, with the ports that are in the files: in a network of their own."""
    # With the last of the commands all that they started ends.
    alone = ["unshare", "--map-root-user", "--net", "--pid", "--fork", "--kill-child"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("no network namespace can be made here")
    commands = [line[4:] for line in (EXAMPLES / "README.md").read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "hbone").symlink_to(os.path.abspath(BIN))
    script = "\n".join(["set -e -o pipefail; ip link set lo up", *commands, "kill $(jobs -p); wait"])
    # /proc is not theirs, which a search for leaks would need.
    env = {**os.environ, "EXAMPLES": str(EXAMPLES), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
           "ASAN_OPTIONS": os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0"}
    p = subprocess.run([*alone, "bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=100 * SLOW, check=False,
                       env=env)
    assert p.stdout.count("this is web\n") == 4, p.stdout + p.stderr
    assert "hbone_server.eastwest.rq_200: " in p.stdout
    assert "chosen      plain" in p.stdout and "filter    deny" in p.stdout


def test_no_two_share_a_port():
    taken = re.compile(r"(?m)^(?:admin: |    address: |    [^#\n]*additional_addresses: ).*?port_value: (\d+)")
    ports = [port for file in sorted(EXAMPLES.glob("*.yaml")) for port in taken.findall(file.read_text(encoding="utf-8"))]
    assert len(ports) > 16 and len(set(ports)) == len(ports)
    readme = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert all(f"[{file.name}]({file.name})" in readme for file in EXAMPLES.glob("*.yaml"))
