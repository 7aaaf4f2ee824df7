"""How quickly webhooks are verified, beside bare HMAC over the same bytes.

Run: `.venv/bin/python benchmarks/verify.py`. Bare is `hmac.new(key, message, "sha256").hexdigest()` and one
`compare_digest`, with the message made beforehand. Both are timed in turn, in 401 pairs of rounds of about 1 ms of this
thread's processor time; printed are verifications per second of the median round, and the median of the pairs' ratios
(times as long as bare).
"""

from __future__ import annotations

import hmac
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HOME))

from gateways import ikhokha_wire as wire  # noqa: E402
from gateways import standard_webhooks as standard  # noqa: E402
from gateways.ikhokha_signing import IKhokhaSigning  # noqa: E402
from gateways.standard_signing import StandardSigning  # noqa: E402
from pipeline.contracts import SigningScheme  # noqa: E402

ROUNDS = 401
ROUND_S = 0.001
SECRET = "made-up-secret-0123456789abcdef"
PATH = "/api/webhooks/ikhokha"
AT = datetime(2025, 3, 1, 12, tzinfo=UTC)
SMALL = wire.webhook_text("2zh1zj6y8xpb0g3", "order-2025-0001", wire.SUCCESS).encode()
LARGE = wire.serialise({"paylinkID": "2zh1zj6y8xpb0g3", "status": "SUCCESS", "padding": "x" * 60_000}).encode()
SPACED = json.dumps(json.loads(SMALL), indent=2).encode()
"""Not canonical: to be parsed and printed anew before the signature can be compared."""


@dataclass(frozen=True)
class Case:
    name: str
    ours: Callable[[], bool]
    bare: Callable[[], bool]
    accepted: bool


def cases() -> Iterator[Case]:
    ikhokha, several = IKhokhaSigning("IKMADEUP", SECRET), " ".join(f"{SECRET}{n}" for n in range(2)) + f" {SECRET}"
    plain, rotating = StandardSigning.of(SECRET, 300.0), StandardSigning.of(several, 300.0)
    for size, body in (("webhook", SMALL), ("60 kB", LARGE)):
        yield from both(f"iKhokha, {size}", ikhokha, body, body, wire.escape(PATH + body.decode()).encode())
        signed = plain.sign(PATH, body, at=AT)
        stamp = f"{signed.headers[standard.HEADER_ID]}.{signed.headers[standard.HEADER_TIME]}."
        yield from both(f"Standard Webhooks, {size}", plain, body, body, stamp.encode() + body)
        if body is SMALL:
            yield from both(
                "iKhokha, webhook with white space", ikhokha, body, SPACED, wire.escape(PATH + body.decode()).encode()
            )
            last = both(
                "Standard Webhooks, webhook, third of 3 secrets", rotating, body, body, stamp.encode() + body, plain
            )
            yield from last


def both(
    name: str, judge: SigningScheme, signed: bytes, sent: bytes, message: bytes, signer: SigningScheme | None = None
) -> Iterator[Case]:
    """Accepted, and refused for another secret's signature. `message` is what bare HMAC runs over."""
    key = SECRET.encode()
    digest = hmac.new(key, message, "sha256").hexdigest()
    for scheme, accepted in ((signer or judge, True), (judge.with_secret("another" + SECRET), False)):
        headers = scheme.sign(PATH, signed, at=AT).headers
        given = digest if accepted else "0" * 64
        yield Case(
            f"{name}, {'accepted' if accepted else 'refused'}",
            lambda headers=headers: judge.verify(PATH, sent, headers, at=AT).accepted,
            lambda given=given: hmac.compare_digest(hmac.new(key, message, "sha256").hexdigest(), given),
            accepted,
        )


def seconds(run: Callable[[], bool], times: int) -> float:
    begun = time.thread_time()
    for _ in range(times):
        run()
    return (time.thread_time() - begun) / times


def main() -> None:
    for case in cases():
        if (case.ours(), case.bare()) != (case.accepted, case.accepted):
            raise SystemExit(f"{case.name}: not what it is said to be")
        times = max(1, round(ROUND_S / seconds(case.ours, 100)))
        pairs = [(seconds(case.ours, times), seconds(case.bare, times)) for _ in range(ROUNDS)]
        ours, bare = (1 / statistics.median(column) for column in zip(*pairs, strict=True))
        ratio = statistics.median(mine / theirs for mine, theirs in pairs)
        sys.stdout.write(f"{case.name:<62} {ours:>9,.0f}/s  bare {bare:>9,.0f}/s  ratio {ratio:.2f}\n")


if __name__ == "__main__":
    main()
