"""Security events: their kinds, their form as one line of JSON, and what is taken out of them first.

Standard library only: a release of the sandbox shop carries a copy, so the service's log and the journal write the
same lines. What a stranger sent never reaches a line as it is: control characters go, lengths are bounded, card
numbers are hidden, and a reference that is none is named by its length and a piece of its hash.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from types import MappingProxyType
from typing import Any

SCHEMA = 1
"""Goes up when a member is renamed, removed or changes its meaning; a new kind is no new schema."""

KINDS: Mapping[str, str] = MappingProxyType(
    {
        "webhook.refused": "the signature, its sender, its time or its source address is not the gateway's",
        "webhook.malformed": "too large, too slow, of another type or method, or signed and still no webhook",
        "webhook.denied": "correctly signed, but the gateway does not confirm what it says",
        "webhook.unknown": "correctly signed, for a payment that nobody made here",
        "payment.refused": "a request for a payment that no customer's page sends",
        "enrolment.revoked": "an enrolment was active without a paid payment, and was taken back",
        "rate.limited": "a source was over its limit; the reason says on which path",
        "probe.sent": "a check of the pipeline sends what is forged or malformed, to see it refused",
    }
)

_LONGEST_REASON = 200
_LONGEST_SOURCE = 64
_LOOKED_AT = 512
"""Characters of a text that are looked at; what follows is cut in any case."""

_REFERENCE = r"[A-Za-z0-9._*-]{1,64}"
"""The `*` are those of hidden card numbers."""
_NAME = r"[0-9]{1,9} characters, (sha256 [0-9a-f]{16}|not shown)"
_PLAIN = r"^[^\x00-\x1f\x7f-\x9f]*$"

JSON_SCHEMA: Mapping[str, Any] = MappingProxyType(
    {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A security event of Tollgate or of its sandbox shop",
        "type": "object",
        "required": ["schema", "time", "kind", "source", "reason", "reference"],
        "properties": {
            "schema": {"const": SCHEMA},
            "time": {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$"},
            "kind": {"enum": list(KINDS)},
            "source": {"type": "string", "minLength": 1, "maxLength": _LONGEST_SOURCE, "pattern": _PLAIN},
            "reason": {"type": "string", "minLength": 1, "maxLength": _LONGEST_REASON, "pattern": _PLAIN},
            "reference": {"type": "string", "pattern": f"^(|{_REFERENCE}|{_NAME})$"},
        },
        "additionalProperties": True,
    }
)


def members(*, at: datetime, kind: str, source: str, reason: str, reference: str = "") -> dict[str, Any]:
    """The members of one event, cleaned. Raises ValueError for a kind that is not of the list."""
    if kind not in KINDS:
        raise ValueError(f"{kind!r} is no kind of security event; allowed is {', '.join(KINDS)}")
    return cleaned(at=at, kind=kind, source=source, reason=reason, reference=named(reference))


def cleaned(*, at: datetime, kind: str, source: str, reason: str, reference: str) -> dict[str, Any]:
    """The same of an event that is on record: a kind of another version stays as it is, so does a name made here."""
    return {
        "schema": SCHEMA,
        "time": at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "kind": shown(kind, _LONGEST_SOURCE),
        "source": shown(source, _LONGEST_SOURCE) or "unknown",
        "reason": shown(reason, _LONGEST_REASON) or "not said",
        "reference": reference if re.fullmatch(_NAME, reference) else named(reference),
    }


def line(event: Mapping[str, Any]) -> str:
    """An event as one line of JSON, in ASCII."""
    return json.dumps(event, ensure_ascii=True)


def shown(text: str, longest: int) -> str:
    """A text that may be printed anywhere: nothing unprintable, no card number, at most `longest` characters."""
    printable = "".join(char if char.isprintable() else "?" for char in text[:_LOOKED_AT])
    return without_cards(without_cards(printable)[:longest]).strip()


def named(reference: str) -> str:
    """A reference as events name it: as it is where it has the form of one, else by its length and its hash.

    Of one that holds a card number not even the hash is told: there are few card numbers, so a hash gives one away.
    """
    if not reference or re.fullmatch(_REFERENCE, reference):
        return without_cards(reference)
    looked_at = reference[:_LOOKED_AT]
    if len(reference) > len(looked_at) or without_cards(looked_at) != looked_at:
        return f"{len(reference)} characters, not shown"
    digest = hashlib.sha256(reference.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{len(reference)} characters, sha256 {digest[:16]}"


# ---- card numbers --------------------------------------------------------------------------------------------

_DIGITS = re.compile(r"[0-9](?:[^A-Za-z0-9]{0,3}[0-9]){12,}")
"""At least 13 digits, with a few separators between two at most."""
_CARD_LENGTHS = range(13, 20)
_LEFT = 4
"""So many digits at the end stay to be seen, as on a receipt."""
_DOUBLED = (0, 2, 4, 6, 8, 1, 3, 5, 7, 9)
"""The sum of the digits of twice each digit: the check digit is Luhn's."""


def without_cards(text: str) -> str:
    """`text` with the digits of every card number, but its last four, replaced by `*`. As long as `text`.

    It hides too much rather than too little: one in ten numbers of a card's length and beginning looks like a card's.
    """
    while hidden := _hidden(text):  # what is left of one may complete another
        text = "".join("*" if at in hidden else char for at, char in enumerate(text))
    return text


def _hidden(text: str) -> set[int]:
    """The places of the digits to hide."""
    digits = "".join(str(int(char)) if char.isdecimal() else char for char in text)  # other scripts have digits too
    runs = ([at for at in range(*run.span()) if digits[at] in "0123456789"] for run in _DIGITS.finditer(digits))
    return {run[at] for run in runs for card in _cards(run, [int(digits[at]) for at in run]) for at in card[:-_LEFT]}


def _cards(places: Sequence[int], values: Sequence[int]) -> Iterator[range]:
    """Which of the digits of a run are a card's: whole groups side by side, or any part of one group.

    In linear time: a stranger chooses the digits. `places` are where they stand.
    """
    count = len(values)
    begins = [at == 0 or places[at - 1] != place - 1 for at, place in enumerate(places)] + [True]
    group = list(accumulate(begins))
    sums = [
        list(accumulate((_DOUBLED[value] if at % 2 == odd else value for at, value in enumerate(values)), initial=0))
        for odd in (0, 1)
    ]
    for start in range(count - min(_CARD_LENGTHS) + 1):
        if not _begins_a_card(values[start : start + 4]):
            continue
        for end in range(start + min(_CARD_LENGTHS), min(start + max(_CARD_LENGTHS), count) + 1):
            one_number = group[start] == group[end - 1] or (begins[start] and begins[end])
            weighed = sums[end % 2]  # every second digit is doubled, counted from the last
            if one_number and (weighed[end] - weighed[start]) % 10 == 0:
                yield range(start, end)


def _begins_a_card(values: Sequence[int]) -> bool:
    first = int("".join(map(str, values)))
    return 2221 <= first <= 2720 or 3000 <= first <= 6999
