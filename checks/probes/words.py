"""How what probes sent and got back is told to a person. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from checks.probes.probe import CLOSED, SILENT, TAKEN, Probe, Reply, Shown

_TOLD_EACH = 6
_MOST_LISTED = 8


def told(shown: Shown) -> str:
    """What was sent and what came back; messages that were answered alike are told once."""
    if not shown.replies:
        return "nothing was sent"
    if len(shown.replies) > _TOLD_EACH:
        statuses = ", ".join(f"{status} x {count}" for status, count in counts(shown.replies).items())
        slowest = max(reply.took_ms for reply in shown.replies)
        return f"{shown.replies[0].sent} was answered {statuses}, the slowest in {slowest:g} ms"
    return "; ".join(exchange(reply) for reply in shown.replies)


def exchange(reply: Reply) -> str:
    if reply.status > 0:
        return f"{reply.sent} was answered {reply.status} in {reply.took_ms:g} ms"
    return f"{reply.sent} got no answer ({reply.lost}, {reply.took_ms:g} ms)"


def counts(replies: Sequence[Reply]) -> Mapping[str, int]:
    found: dict[str, int] = {}
    for reply in replies:
        found[status_text(reply)] = found.get(status_text(reply), 0) + 1
    return found


def status_text(reply: Reply) -> str:
    return {CLOSED: "closed", SILENT: "silent"}.get(reply.status, str(reply.status))


def allowed(probe: Probe) -> str:
    """The right answers as a person reads them: `2xx, 404`."""
    of = {hundred: [s for s in sorted(probe.answers) if s // 100 == hundred] for hundred in (2, 3, 4, 5)}
    texts = ["2xx"] if set(TAKEN) <= set(of[2]) else [str(status) for status in of[2]]
    texts += [str(status) for status in of[3]]
    texts += ["4xx but 429"] if len(of[4]) > _MOST_LISTED else [str(status) for status in of[4]]
    texts += [str(status) for status in of[5]]
    return ", ".join([*texts, *(["a closed connection"] if CLOSED in probe.answers else [])])


def unharmed(shown: Shown) -> str:
    return f"afterwards {shown.reference}: {shown.after}" if shown.after is not None else "nothing else was due"
