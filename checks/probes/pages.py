"""docs/probes.md, rendered from the table of probes."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from checks.probes.judging import allowed
from checks.probes.probe import Effect, Need, Probe, Turn
from checks.probes.table import PROBES

_HEAD = """\
# Probes

What the checks `webhook.withstands_probes` and `payment.withstands_probes` send, and what a careful service does. This
page is written from the table in `checks/probes/`; `./inv docs` writes it again.

- A correctly signed webhook for a payment that nobody made stands first and last. It must be accepted (2xx, or 404):
  otherwise no refusal proves anything, and nothing passes. What was let in fails all the same.
- After every probe the state of its order is read again. A right answer with a wrong effect fails. At the end orders
  are read once more, after the time this service takes to enrol: `contract.enrolment_within` where no order was paid.
- 429 is no refusal: the prober keeps below `contract.limits`, waits one out, sends once more, and is inconclusive then.
  A 5xx, or no answer, is none either where its row does not say so; nor is what a dead process leaves behind.
- Bad signatures that are refused in different words pass with advice: a stranger learns what was wrong.
- All orders are smoke payments of the prober's own, under `contract.smoke_prefix`; a few are made, and lent from probe
  to probe. No message names an order that somebody else made.
- Mode `initialise`, the default, pays nothing. Mode `card` pays by test card, in the sandbox or in test mode alone,
  never more than `cap` cents in a run. What a probe needs and has not got skips it, and that is told.
- "4xx but 429" stands for any of 400, 401, 403, 404, 405, 406, 408, 409, 410, 411, 413, 414, 415, 417, 422, 426, 431.

In production, without power over the gateway and without a paid payment, what is sent is forged, or speaks of an order
that nobody paid, or of none. Nothing of that can activate an order.
"""
_TURNS = {
    Turn.FORGED: "first, side by side",
    Turn.DISTURBED: "first, one by one, with the gateway disturbed",
    Turn.ASKING: "second, side by side",
    Turn.LAST: "last, one by one",
}
_NEEDS = {
    Need.CONTROL: "the sandbox",
    Need.PAID: "mode card",
    Need.STAMP: "a time stamp",
    Need.SENDER: "a named sender",
    Need.SOURCES: "webhook_sources, on loopback",
}


def page() -> str:
    """The whole page."""
    webhooks = [probe for name, probe in PROBES.items() if name.startswith("webhook.")]
    payments = [probe for name, probe in PROBES.items() if name.startswith("payment.")]
    parts = [
        _HEAD,
        *_chapter("Webhooks", webhooks),
        *_chapter("Payments", payments),
    ]
    return "\n".join(parts)


def _chapter(title: str, probes: list[Probe]) -> list[str]:
    rows = [_row(probe) for probe in probes]
    head = ("probe", "what is sent", "right answers", "must leave", "severity", "needs", "fix")
    return [
        f"## {title}: {len(probes)} probes",
        "",
        "\n".join(_played(probes, turn) for turn in Turn if any(probe.turn is turn for probe in probes)),
        "",
        _line(head),
        _line("---" for _ in head),
        *(_line(row) for row in rows),
        "",
    ]


def _played(probes: Iterable[Probe], turn: Turn) -> str:
    names = ", ".join(probe.name.partition(".")[2] for probe in probes if probe.turn is turn)
    text = f"- {_TURNS[turn]}: {names}"
    return textwrap.fill(text, 118, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def _row(probe: Probe) -> tuple[str, ...]:
    left = _effect(probe.effect)
    needs = ", ".join(_NEEDS[need] for need in sorted(probe.needs)) or "-"
    return (f"`{probe.name}`", probe.sends, allowed(probe), left, probe.severity.value, needs, probe.fix)


def _effect(effect: Effect | None) -> str:
    return "-" if effect is None else effect.value


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
