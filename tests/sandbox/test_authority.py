"""The sandbox's certificates satisfy a strict verifier and are renewed in time."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from sandbox import authority

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("subject", [x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))])
def test_a_strict_verifier_accepts_the_server_for_loopback(
    tmp_path: Path, subject: x509.DNSName | x509.IPAddress
) -> None:
    """The server certificate chains to the authority for 127.0.0.1 and localhost by the web's own rules."""
    made = authority.ensure(tmp_path, NOW)
    server, ca = (x509.load_pem_x509_certificate(p.read_bytes()) for p in (made.server, made.ca))
    verifier = PolicyBuilder().store(Store([ca])).time(NOW).build_server_verifier(subject)
    assert verifier.verify(server, []) == [server, ca]


def test_a_strict_verifier_refuses_the_server_for_any_other_name(tmp_path: Path) -> None:
    """The certificate is good for nothing but loopback."""
    made = authority.ensure(tmp_path, NOW)
    server, ca = (x509.load_pem_x509_certificate(p.read_bytes()) for p in (made.server, made.ca))
    verifier = PolicyBuilder().store(Store([ca])).time(NOW).build_server_verifier(x509.DNSName("app.example.com"))
    with pytest.raises(VerificationError):
        verifier.verify(server, [])


def test_openssl_loads_and_trusts_them(tmp_path: Path) -> None:
    """OpenSSL completes a handshake for 127.0.0.1 with strict checks on."""
    made = authority.ensure(tmp_path, datetime.now(UTC))
    server_tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server_tls.load_cert_chain(made.server, made.key)
    client_tls = ssl.create_default_context(cafile=made.ca)
    client_tls.verify_flags |= ssl.VERIFY_X509_STRICT
    to_client, to_server = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_tls.wrap_bio(to_client, to_server, server_hostname="127.0.0.1")
    server = server_tls.wrap_bio(to_server, to_client, server_side=True)
    done: set[ssl.SSLObject] = set()
    while len(done) < 2:
        for side in (client, server):
            try:
                side.do_handshake()
                done.add(side)
            except ssl.SSLWantReadError:
                continue
    assert client.getpeercert() is not None


def test_keys_are_private_and_a_second_start_changes_nothing(tmp_path: Path) -> None:
    """Keys have mode 0600 and good certificates are kept."""
    authority.ensure(tmp_path, NOW)
    first = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    authority.ensure(tmp_path, NOW + timedelta(days=30))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == first
    assert {p.name: stat.S_IMODE(p.stat().st_mode) for p in tmp_path.iterdir() if p.suffix == ".key"} == {
        "ca.key": 0o600,
        "server.key": 0o600,
    }


def test_the_server_certificate_is_renewed_before_the_authority(tmp_path: Path) -> None:
    """After half its lifetime the server certificate is made anew under the authority clients already trust."""
    made = authority.ensure(tmp_path, NOW)
    ca, server = made.ca.read_bytes(), made.server.read_bytes()
    authority.ensure(tmp_path, NOW + authority.SERVER_LASTS / 2)
    assert made.ca.read_bytes() == ca
    assert made.server.read_bytes() != server
    authority.ensure(tmp_path, NOW + authority.AUTHORITY_LASTS)
    assert made.ca.read_bytes() != ca


@pytest.mark.parametrize("broken", ["ca.pem", "ca.key", "server.pem", "server.key"])
def test_broken_files_are_made_anew(tmp_path: Path, broken: str) -> None:
    """A damaged or missing file never leaves a pair that does not fit."""
    made = authority.ensure(tmp_path, NOW)
    for damage in (b"", b"-----BEGIN CERTIFICATE-----\nnonsense\n", None):
        if damage is None:
            (tmp_path / broken).unlink()
        else:
            (tmp_path / broken).write_bytes(damage)
        authority.ensure(tmp_path, NOW)
        server, ca = (x509.load_pem_x509_certificate(p.read_bytes()) for p in (made.server, made.ca))
        server.verify_directly_issued_by(ca)
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(made.server, made.key)
