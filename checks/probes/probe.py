"""What a probe is: what a stranger, an attacker or a gateway in trouble may send, and what a careful merchant does.

A probe sends and observes; whether what was observed is right is judged by `judging`, purely, from the probe's own
data. Probes only ever speak of smoke payments that the prober made itself, or of references that nobody made.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from checks.facts.payments import Standing

if TYPE_CHECKING:
    from checks.probes.scene import Scene


class Moot(Exception):
    """Raised by `play`: here the probe has nothing to show, and the text says why. It is skipped."""


class Severity(StrEnum):
    """Worst first: a free course or an order undone; a door to more; a nuisance."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"


class Effect(StrEnum):
    """What must hold of the order a probe speaks of, read again after it. The text completes "the probe must leave"."""

    UNCHANGED = "the order exactly as it was"
    NOT_PAID = "the order unpaid and its enrolment inactive"
    NOT_FAILED = "the order neither failed nor paid"
    PAID_ONCE = "the order paid, with exactly one activation"
    NO_ORDER = "no payment with a link under that reference"
    FIRST_KEPT = "the first payment of that reference as it was"


class Need(StrEnum):
    """What a probe cannot do without; where it is missing the probe is skipped, and that is told."""

    CONTROL = "power over the gateway, which only the sandbox gives"
    PAID = "a paid smoke payment: mode card, in the sandbox or in test mode"
    STAMP = "a signing scheme with a time stamp"
    SENDER = "a signing scheme that names the sender"
    SOURCES = "contract.webhook_sources, and a second address of this machine (the service is on loopback)"


class Turn(StrEnum):
    """When a probe is played. FORGED and DISTURBED go side by side: what is forged never reaches the gateway."""

    FORGED = "forged"
    DISTURBED = "disturbed"
    ASKING = "asking"
    LAST = "last"


REFUSED = (400, 401, 403)
"""What a bad signature gets."""
INVALID = (400, 401, 403, 404, 405, 406, 408, 409, 410, 411, 413, 414, 415, 417, 422, 426, 431)
"""A refusal of any kind but a rate limit."""
TAKEN = tuple(range(200, 300))
CLOSED = 0
"""The connection was closed without an answer; only where a probe says so is that a refusal."""
SILENT = -1
"""Nothing came within the time, and the connection stayed open. It is never right."""


@dataclass(frozen=True)
class Reply:
    """One message of a probe and what came back. `status` is CLOSED or SILENT when nothing did, and `lost` says why.

    `took_ms` in milliseconds; `body` the first 2,000 bytes; `sent` says in a phrase what was sent.
    """

    sent: str
    status: int
    took_ms: float
    body: bytes = b""
    lost: str = ""


@dataclass(frozen=True)
class Shown:
    """What a probe came to: the replies, the order before and after (None where it speaks of none), and what else
    was seen to be wrong, e.g. an address at the gateway that a stranger chose ('' for nothing)."""

    reference: str
    replies: tuple[Reply, ...]
    before: Standing | None = None
    after: Standing | None = None
    wrong: str = ""


@dataclass(frozen=True)
class Probe:
    """One row of the table. `answers` are the statuses right for every reply; 429 and a dead service never are.

    `sends` completes "The prober sends ..."; `within_s` limits each reply. `name` is `webhook.X` or `payment.X`.
    """

    name: str
    sends: str
    answers: Sequence[int]
    effect: Effect | None
    severity: Severity
    fix: str
    play: Callable[[Scene], Awaitable[Shown]]
    turn: Turn = Turn.FORGED
    needs: frozenset[Need] = frozenset()
    within_s: float = 10.0


_OPEN = ("creating", "pending", "unknown")
"""States among which an order that nobody paid moves by itself."""


def unmoved(before: Standing, after: Standing) -> bool:
    """Whether an order is as it was, but for what moves by itself."""
    alike = before.status == after.status or (before.status in _OPEN and after.status in _OPEN)
    return alike and (before.active, before.activations) == (after.active, after.activations)
