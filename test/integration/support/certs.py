# SPDX-License-Identifier: Apache-2.0
"""Certificates of the tests: P-256 keys below one CA, made anew for each session."""
import datetime
import ipaddress
import types

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

MESH = "spiffe://cluster.local/ns/default/sa/"


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _write(folder, name, chain, key):
    (folder / f"{name}.pem").write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain))
    if key is not None:
        (folder / f"{name}.key").write_bytes(key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def _builder(subject, issuer, public_key, days):
    now = datetime.datetime.now(datetime.timezone.utc)
    first, last = days
    return (x509.CertificateBuilder().subject_name(_name(subject)).issuer_name(_name(issuer))
            .public_key(public_key).serial_number(x509.random_serial_number())
            .not_valid_before(now + datetime.timedelta(days=first))
            .not_valid_after(now + datetime.timedelta(days=last)))


def _ca(folder, name):
    key = ec.generate_private_key(ec.SECP256R1())
    cert = (_builder(name, name, key.public_key(), (-2, 30))
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), True)
            .sign(key, hashes.SHA256()))
    _write(folder, name, [cert], key)
    return cert, key


def load(folder, name):
    """A CA that was written before, for leaf()."""
    return (x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes()),
            serialization.load_pem_private_key((folder / f"{name}.key").read_bytes(), None))


BOTH = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH)


def leaf(folder, name, ca, dns=(), uri=(), ip=(), days=(-1, 10), usages=BOTH):
    """Signs folder/name.pem and name.key with these subject alternative names."""
    cert, ca_key = ca
    key = ec.generate_private_key(ec.SECP256R1())
    sans = [x509.DNSName(d) for d in dns] + [x509.UniformResourceIdentifier(u) for u in uri]
    sans += [x509.IPAddress(ipaddress.ip_address(i)) for i in ip]
    made = (_builder(name, cert.subject.rfc4514_string()[3:], key.public_key(), days)
            .add_extension(x509.SubjectAlternativeName(sans), False)
            .add_extension(x509.ExtendedKeyUsage(list(usages)), False)
            .sign(ca_key, hashes.SHA256()))
    _write(folder, name, [made], key)


def chained(folder, name, ca, **fields):
    """As leaf, below an intermediate CA of its own, which follows the leaf in the file."""
    cert, ca_key = ca
    key = ec.generate_private_key(ec.SECP256R1())
    middle = (_builder(f"{name}-ca", cert.subject.rfc4514_string()[3:], key.public_key(), (-1, 10))
              .add_extension(x509.BasicConstraints(True, 0), True)
              .add_extension(x509.KeyUsage(True, False, False, False, False, True, True, False, False), True)
              .sign(ca_key, hashes.SHA256()))
    leaf(folder, name, (middle, key), **fields)
    file = folder / f"{name}.pem"
    file.write_bytes(file.read_bytes() + middle.public_bytes(serialization.Encoding.PEM))


def make(folder):
    """ca, other-ca; a.example, b.example (servers), client and echo (mesh), expired, stranger (other CA), and other leaves
    that a workload of the mesh must refuse."""
    ca, other = _ca(folder, "ca"), _ca(folder, "other-ca")
    leaf(folder, "a", ca, dns=["a.example", "*.a.example"], ip=["127.0.0.1"])
    leaf(folder, "b", ca, dns=["b.example"])
    leaf(folder, "client", ca, uri=[MESH + "client"])
    leaf(folder, "echo", ca, uri=[MESH + "echo"])
    leaf(folder, "expired", ca, uri=[MESH + "client"], days=(-2, -1))
    leaf(folder, "stranger", other, uri=[MESH + "client"])
    leaf(folder, "notyet", ca, uri=[MESH + "client"], days=(2, 4))
    leaf(folder, "twouri", ca, uri=[MESH + "client", MESH + "echo"])
    leaf(folder, "othertd", ca, uri=[MESH.replace("cluster.local", "cluster.local.evil.example") + "client"])
    leaf(folder, "otherns", ca, uri=[MESH.replace("/default/", "/default-2/") + "client"])
    leaf(folder, "serveronly", ca, uri=[MESH + "client"], usages=BOTH[:1])
    return types.SimpleNamespace(folder=folder, ca=folder / "ca.pem",
                                 pem=lambda n: str(folder / f"{n}.pem"), key=lambda n: str(folder / f"{n}.key"))
