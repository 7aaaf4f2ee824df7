"""Certificates for tests, good and bad, minted when they are needed; keys of one kind are made once for each process.

mint = Mint.new(tmp_path)
tls = mint.server(mint.leaf("localhost", ends=timedelta(days=10)))
"""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, padding, rsa
from cryptography.x509.oid import NameOID

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | dsa.DSAPrivateKey
YEAR = timedelta(days=365)


@cache
def key_of(kind: str, owner: str) -> Key:
    """`kind`: ec256, rsa2048, rsa1024 or dsa2048. One for each owner: two authorities never share one."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(65537, int(kind[3:]))
    if kind.startswith("dsa"):
        return dsa.generate_private_key(int(kind[3:]))
    return ec.generate_private_key(ec.SECP256R1())


@dataclass(frozen=True)
class Issued:
    """A certificate with its key, and the intermediates that a good server sends after it."""

    certificate: x509.Certificate
    key: Key
    after: tuple[x509.Certificate, ...] = ()

    def alone(self) -> Issued:
        """The same for a server that forgets the intermediates."""
        return replace(self, after=())


@dataclass(frozen=True)
class Mint:
    """A root, and an intermediate authority below it that signs the leaves."""

    folder: Path
    root: Issued
    between: Issued

    @classmethod
    def new(cls, folder: Path, name: str = "Mint", *, key: str = "ec256") -> Mint:
        """`key` is the intermediate's."""
        root = issue(f"{name} Root", None, authority=True, owner=f"{name} root")
        between = issue(f"{name} Intermediate", root, key=key, authority=True, owner=f"{name} between")
        return cls(folder, root, between)

    @property
    def ca_file(self) -> Path:
        """The root alone, which clients are to trust."""
        return write(self.folder / "root.pem", [self.root.certificate])

    def leaf(
        self,
        *names: str,
        starts: timedelta = -timedelta(days=1),
        ends: timedelta = YEAR,
        key: str = "ec256",
    ) -> Issued:
        """For DNS names and addresses, valid from `starts` to `ends` counted from now."""
        made = issue(names[0], self.between, names=names, starts=starts, ends=ends, key=key)
        return replace(made, after=(self.between.certificate,))

    def files(self, issued: Issued) -> tuple[Path, Path]:
        """Chain and key as files, for a server."""
        name = issued.certificate.serial_number
        chain = write(self.folder / f"{name:x}.pem", [issued.certificate, *issued.after])
        private = self.folder / f"{name:x}.key"
        private.touch(mode=0o600)
        private.write_bytes(
            issued.key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return chain, private

    def server(self, issued: Issued) -> ssl.SSLContext:
        """What a Python server presents it with; as lax as servers get, or weak keys could not be served at all."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers("ALL:!aNULL:!eNULL:@SECLEVEL=0")
        context.load_cert_chain(*self.files(issued))
        return context


def self_signed(*names: str) -> Issued:
    """One that nobody vouches for."""
    return issue(names[0], None, names=names, owner="nobody")


def issue(
    subject: str,
    issuer: Issued | None,
    *,
    names: Sequence[str] = (),
    starts: timedelta = -timedelta(days=1),
    ends: timedelta = 10 * YEAR,
    key: str = "ec256",
    authority: bool = False,
    owner: str = "leaf",
) -> Issued:
    """A certificate by `issuer`, or by itself."""
    private, now = key_of(key, owner), datetime.now(UTC)
    signing = issuer.key if issuer else private
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(subject))
        .issuer_name(issuer.certificate.subject if issuer else _name(subject))
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
    return Issued(builder.sign(signing, hashes.SHA256()), private)


def signed_with_sha1(issued: Issued, issuer: Issued) -> Issued:
    """The same certificate signed anew with SHA-1, which the library no longer does; `issuer` has an RSA key."""
    assert isinstance(issuer.key, rsa.RSAPrivateKey)
    sha256, sha1 = bytes.fromhex("06092a864886f70d01010b"), bytes.fromhex("06092a864886f70d010105")
    inner = issued.certificate.tbs_certificate_bytes.replace(sha256, sha1)
    signature = issuer.key.sign(inner, padding.PKCS1v15(), hashes.SHA1())  # noqa: S303  the bad one is wanted
    outer = _der(0x30, inner + _der(0x30, sha1 + b"\x05\x00") + _der(0x03, b"\0" + signature))
    return replace(issued, certificate=x509.load_der_x509_certificate(outer))


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    width = (size.bit_length() + 7) // 8
    return bytes([tag, 0x80 | width]) + size.to_bytes(width, "big") + content


def write(path: Path, chain: Sequence[x509.Certificate]) -> Path:
    path.write_bytes(b"".join(c.public_bytes(serialization.Encoding.PEM) for c in chain))
    return path


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)
