"""tls.certificate_valid: every client verifies the service's certificate, for its name and now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from checks.facts.certificates import Certificate
from checks.facts.tls import Asked, Endpoint, at_each, endpoint
from checks.judging import Unjudged, or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.verdict import Finding, advice, failed, inconclusive, passed

_WEAK_HASHES = ("md2", "md5", "sha1")
_SMALLEST_BITS = {"RSA": 2048, "EC": 256}
_UNKNOWN_ISSUER = (2, 20, 21)
"""OpenSSL's numbers for a chain that breaks off: X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT, its LOCALLY, and the leaf's."""
_UNKNOWN_ROOT = 19
"""The same for a chain that ends at an authority, sent with it, that nobody here trusts."""
_NAMED = 8
_LOOK = "Look at it with `openssl s_client -connect HOST:PORT -servername HOST`, and mend what that complains of."

Mistake = tuple[str, str]
"""What was found, and its fix."""


@dataclass(frozen=True)
class Presented:
    """The service, and the gateway where it is another address. `unasked` says why the gateway was not looked at."""

    service: Endpoint
    gateway: Endpoint | None
    unasked: str


@or_finding
async def gather(world: World, params: Asked) -> Presented:
    service = await endpoint(world, world.addresses.service, params)
    if world.addresses.gateway == world.addresses.service:
        return Presented(service, None, "it is the service's own address")
    try:
        return Presented(service, await endpoint(world, world.addresses.gateway, params), "")
    except Unjudged as unjudged:
        return Presented(service, None, unjudged.finding.reason)


@unless_finding
def judge(fact: Presented, params: Asked) -> Finding:
    return at_each(lambda service, _: _judged(replace(fact, service=service)))(fact.service, params)


def _judged(fact: Presented) -> Finding:
    service, gateway = fact.service, fact.gateway
    evidence = service.shown | {"gateway": gateway.shown if gateway else fact.unasked}
    if not service.sent:
        return inconclusive(
            f"{service.address}: it showed no certificate in TLS 1.2 or 1.3, so there is none to judge",
            "Switch TLS 1.2 and 1.3 on at the server, then run again.",
            **evidence,
        )
    found = mistakes(service)
    if found:
        return failed(f"{service.address}: {_told(found)}", "\n".join(dict.fromkeys(f for _, f in found)), **evidence)
    foreign = mistakes(gateway) if gateway else []
    if foreign:
        return advice(
            f"{service.address}: its certificate is valid; but the gateway's, {fact.gateway and fact.gateway.address}: "
            f"{_told(foreign)}",
            "Tell the gateway's support, and pay nothing over it before you know why: it may not be the gateway.",
            **evidence,
        )
    leaf = service.sent[0]
    return passed(
        f"{service.address}: {leaf.subject}, issued by {leaf.issuer}, is verified with the chain the server sends, "
        f"for {service.host}, until {leaf.not_after:%Y-%m-%d}",
        **evidence,
    )


def _told(found: Sequence[Mistake]) -> str:
    return "; ".join(what for what, _ in found)


def mistakes(asked: Endpoint) -> list[Mistake]:
    """Everything wrong with what an address presents. Pure; a certificate is expected to be there."""
    found = [*_trust(asked), *_name(asked)]
    for at, certificate in enumerate(asked.sent):
        found += [*_time(asked, certificate), *_strength(certificate, vouches=at > 0)]
    if not found and not asked.verified.ok:
        found.append((f"clients refuse it: {asked.verified.said}", _LOOK))
    return found


def _trust(asked: Endpoint) -> Iterator[Mistake]:
    last = asked.sent[-1]
    if asked.sent[0].self_signed and not asked.trusted.ok:
        yield (
            f"its certificate is self-signed ({last.subject}): nobody vouches for it",
            "Get a certificate from an authority that browsers trust, e.g. with an ACME client.",
        )
    elif asked.unsent:
        names = " and ".join(certificate.subject for certificate in asked.unsent)
        yield (
            f"the intermediate certificate {names} is missing from what the server sends (this machine happens to "
            "know it, others do not)",
            "Configure the full chain: the file with the certificate and all intermediates (`fullchain.pem`).",
        )
    elif not asked.trusted.ok and asked.trusted.code in _UNKNOWN_ISSUER and not last.self_signed:
        yield (
            f"the chain it sends breaks off: {last.issuer}, the issuer of {last.subject}, was not sent and is not "
            "trusted here: an intermediate certificate is missing",
            "Configure the full chain: the file with the certificate and all intermediates (`fullchain.pem`). "
            "If that issuer is an authority of your own, name its certificate in `ca_file` of the environment.",
        )
    elif not asked.trusted.ok and asked.trusted.code in (*_UNKNOWN_ISSUER, _UNKNOWN_ROOT):
        yield (
            f"the chain it sends ends at {last.issuer}, which is not trusted here",
            "Get a certificate from an authority that browsers trust; for one of your own name `ca_file`.",
        )
    elif not asked.trusted.ok:
        yield f"clients refuse its chain: {asked.trusted.said}", _LOOK


def _name(asked: Endpoint) -> Iterator[Mistake]:
    leaf = asked.sent[0]
    if not leaf.is_for(asked.host):
        more = f" and {len(leaf.names) - _NAMED} more" if len(leaf.names) > _NAMED else ""
        names = ", ".join(leaf.names[:_NAMED]) + more or "no name at all"
        yield (
            f"its certificate is not for {asked.host}; it names {names}",
            f"Get a certificate that names {asked.host}, and see that the server picks it for that name.",
        )


def _time(asked: Endpoint, certificate: Certificate) -> Iterator[Mistake]:
    renew = "Renew the certificate, install it, reload the server, and see that renewal runs by itself."
    if asked.at > certificate.not_after:
        yield f"{certificate.subject} expired at {certificate.not_after:%Y-%m-%d %H:%M} UTC", renew
    if asked.at < certificate.not_before:
        yield (
            f"{certificate.subject} is not yet valid; it begins at {certificate.not_before:%Y-%m-%d %H:%M} UTC",
            "Use the certificate that is valid now, and see that the clocks of this machine and its maker are right.",
        )


def _strength(certificate: Certificate, *, vouches: bool) -> Iterator[Mistake]:
    smallest = _SMALLEST_BITS.get(certificate.key)
    if certificate.key == "DSA" or (smallest is not None and certificate.key_bits < smallest):
        yield (
            f"{certificate.subject} has a key of {certificate.key} {certificate.key_bits}; RSA of 2048 bits or "
            "more and EC of 256 or more are allowed",
            "Make a new key (`openssl ecparam -name prime256v1 -genkey`) and a certificate for it.",
        )
    # nobody relies on the signature with which an authority vouches for itself
    if certificate.hashed in _WEAK_HASHES and not (vouches and certificate.self_signed):
        yield (
            f"{certificate.subject} is signed with {certificate.hashed.upper()}, which can be forged; SHA-256 or "
            "stronger is allowed",
            "Get the certificate issued anew by an authority that signs with SHA-256.",
        )


CHECK = Check(
    name="tls.certificate_valid",
    promise="Every client verifies the service's certificate, with the chain the server sends, for its host and now.",
    rows=("G3", "G7", "T7"),
    gather=gather,
    judge=judge,
    params=Asked,
    network=True,
    why="A customer who is warned does not pay, and a gateway that cannot verify the service delivers no webhook.",
    pci=("4.2.1", "4.2.1.1"),
    looks_at=(
        "TLS handshakes with every address of the service's host that can be reached: the chain as the "
        "server sends it, whether it ends at an authority "
        "that is trusted here (the system's, and `ca_file`), host name, dates, keys and hashes. The gateway's "
        "certificate is looked at as well; what is wrong with that is advice only."
    ),
    fix=(
        "Install a certificate for the host with its full chain (`fullchain.pem`), with an RSA key of 2048 bits or an "
        "EC key of 256 bits or more, signed with SHA-256, and let it be renewed by itself."
    ),
    see_it_fail="Let the server send its certificate without the intermediate one, then run `./inv validate`.",
)
