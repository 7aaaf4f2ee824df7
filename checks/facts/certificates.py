"""A certificate as a server sent it, read into plain values."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography import x509


_LONGEST_TEXT = 300


class Unreadable(Exception):
    """What a server sent as a certificate cannot be read; the message says why."""


@dataclass(frozen=True)
class Certificate:
    """One certificate. `names` are its DNS names and addresses; `sha256` is the hex digest of the whole of it.

    `key` is RSA, EC, DSA, Ed25519 or another kind's name, `key_bits` its size (0: unknown). `hashed` is the hash of its
    signature, '' for signatures that have none of their own. `self_signed`: nobody else vouches for it.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    sha256: str
    not_before: datetime
    not_after: datetime
    key: str
    key_bits: int
    hashed: str
    self_signed: bool

    @property
    def lifetime(self) -> timedelta:
        return self.not_after - self.not_before

    @property
    def shown(self) -> Mapping[str, object]:
        """For the inventory in a finding's evidence."""
        return {
            "subject": self.subject,
            "issuer": self.issuer,
            "names": list(self.names),
            "sha256": self.sha256,
            "not_before": self.not_before.isoformat(),
            "not_after": self.not_after.isoformat(),
            "key": f"{self.key} {self.key_bits}".removesuffix(" 0"),
            "signature_hash": self.hashed,
        }

    def is_for(self, host: str) -> bool:
        """Whether it names `host`, by RFC 6125: `*` stands for one whole label, the leftmost; addresses match whole."""
        host = _in_ascii(host.rstrip(".").lower())
        address = _address(host)
        if address is not None:
            return any(_address(name) == address for name in self.names)
        return any(_fits(host, name.rstrip(".").lower()) for name in self.names)


def _in_ascii(host: str) -> str:
    """As certificates have it."""
    try:
        return host.encode("idna").decode()
    except UnicodeError:
        return host


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _fits(host: str, name: str) -> bool:
    first, _, rest = name.partition(".")
    if first != "*":
        return host == name
    label, _, parent = host.partition(".")
    return bool(label) and "." in rest and parent == rest


def read(der: bytes) -> Certificate:
    """Raises Unreadable."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    odd = (x509.DuplicateExtension, x509.InvalidVersion, x509.UnsupportedGeneralNameType, UnsupportedAlgorithm)
    try:
        with warnings.catch_warnings(action="ignore"):  # of odd serial numbers and names, which nobody here can mend
            return _plain(x509.load_der_x509_certificate(der))
    except (ValueError, TypeError, *odd) as error:
        raise Unreadable(_printable(f"{type(error).__name__}: {error}")) from error


def _plain(certificate: x509.Certificate) -> Certificate:
    from cryptography.hazmat.primitives.hashes import SHA256

    key, bits = _key(certificate)
    return Certificate(
        subject=_printable(certificate.subject.rfc4514_string()) or "(no subject)",
        issuer=_printable(certificate.issuer.rfc4514_string()) or "(no issuer)",
        names=tuple(map(_printable, _names(certificate))),
        sha256=certificate.fingerprint(SHA256()).hex(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        key=key,
        key_bits=bits,
        hashed=certificate.signature_hash_algorithm.name if certificate.signature_hash_algorithm else "",
        self_signed=_self_signed(certificate),
    )


def _printable(text: str) -> str:
    """What a stranger wrote, fit for a terminal and a log."""
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST_TEXT])


def _key(certificate: x509.Certificate) -> tuple[str, int]:
    from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return "RSA", key.key_size
    if isinstance(key, ec.EllipticCurvePublicKey):
        return "EC", key.key_size
    if isinstance(key, dsa.DSAPublicKey):
        return "DSA", key.key_size
    return type(key).__name__.removesuffix("PublicKey"), 0


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509

    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    addresses: Sequence[object] = found.get_values_for_type(x509.IPAddress)
    return (*found.get_values_for_type(x509.DNSName), *map(str, addresses))


def _self_signed(certificate: x509.Certificate) -> bool:
    from cryptography.exceptions import InvalidSignature

    if certificate.issuer != certificate.subject:
        return False
    try:
        certificate.verify_directly_issued_by(certificate)
    except InvalidSignature:
        return False
    return True
