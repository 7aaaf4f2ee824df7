"""tls.protocols_current: the service speaks TLS 1.2 or 1.3 and nothing older."""

from __future__ import annotations

from checks.facts.tls import MODERN_VERSIONS, Asked, Endpoint, at_each, endpoint
from checks.facts.tls_hello import OLD_VERSIONS, Outcome
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, World
from pipeline.verdict import Finding, failed, inconclusive, passed

_OFF = "Switch them off where TLS ends: `ssl_protocols TLSv1.2 TLSv1.3;` in nginx, then reload it."


@or_finding
async def gather(world: World, params: Asked) -> Endpoint:
    return await endpoint(world, world.addresses.service, params)


@unless_finding
@at_each
def judge(asked: Endpoint, _params: Asked) -> Finding:
    outcomes = {name: attempt.outcome for name, attempt in asked.protocols.items()}
    old = [name for name in OLD_VERSIONS if outcomes[name] is Outcome.OFFERED]
    modern = [name for name in MODERN_VERSIONS if outcomes[name] is Outcome.OFFERED]
    unclear = [name for name in OLD_VERSIONS if outcomes[name] in (Outcome.UNCLEAR, Outcome.AWAY)]
    if old:
        return failed(
            f"{asked.address}: it offers {' and '.join(old)}; TLS 1.2 and 1.3 are allowed", _OFF, **asked.shown
        )
    if not modern:
        return inconclusive(
            f"{asked.address}: neither TLS 1.2 nor TLS 1.3 came about, one of them is required",
            "Switch TLS 1.2 and 1.3 on at the server, then run again.",
            **asked.shown,
        )
    if unclear:
        return inconclusive(
            f"{asked.address}: whether it offers {' and '.join(unclear)} is not known: "
            + "; ".join(dict.fromkeys(asked.protocols[name].said for name in unclear)),
            "Ask again when the server is less busy; if it stays so, " + _OFF[0].lower() + _OFF[1:],
            **asked.shown,
        )
    # a server that just hangs up on an old version, and speaks a new one, refused it
    refused = ", ".join(OLD_VERSIONS)
    return passed(f"{asked.address}: it offers {' and '.join(modern)}, and refuses {refused}", **asked.shown)


CHECK = Check(
    name="tls.protocols_current",
    promise="The service offers TLS 1.2 or 1.3, and refuses SSL 3.0, TLS 1.0 and TLS 1.1.",
    rows=("G3", "G7", "T7"),
    gather=gather,
    judge=judge,
    params=Asked,
    network=True,
    why="TLS before 1.2 can be read and altered on the way, and no card scheme accepts it.",
    pci=("4.2.1",),
    looks_at=(
        "The answer, at every address of the service's host, to one ClientHello of each old version, made "
        "here byte by byte so that the verdict does "
        "not hang on what this machine's OpenSSL still speaks, and one whole handshake of each newer version."
    ),
    fix=_OFF,
    see_it_fail="Put `ssl_protocols TLSv1.1 TLSv1.2; ssl_ciphers ALL:@SECLEVEL=0;` into nginx, then `./inv validate`.",
)
