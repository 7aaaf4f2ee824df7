"""What one probe came to, judged purely by its own row of the table."""

from __future__ import annotations

from dataclasses import dataclass

from checks.probes.effects import effect_broken, was_read
from checks.probes.playing import Played
from checks.probes.probe import CLOSED, SILENT, TAKEN, Probe, Reply, Shown
from checks.probes.sending import UNCONNECTED
from checks.probes.words import allowed, exchange, told, unharmed
from pipeline.verdict import Verdict, worst

LIMITED = 429
_WAIT = "Wait a minute, lower the traffic from this address, or set contract.limits to what the service allows."
_LIVES = "See whether the service's process lives, and its log for what ended it; then run again."
_PUT_RIGHT = "Put right what the reason names, then run again; nothing was proven."


@dataclass(frozen=True)
class Result:
    """One probe judged. `reason` says what was sent, what came back, in how many ms and what is allowed.

    `let_in`: the service did what it must not, so that it fails whatever the control says.
    """

    probe: Probe
    verdict: Verdict
    reason: str
    fix: str = ""
    shown: Shown | None = None
    let_in: bool = False


def result(played: Played) -> Result:
    """The verdict of one probe. Nothing seen is not a pass."""
    probe, shown = played.probe, played.shown
    if played.skipped:
        return Result(probe, Verdict.SKIPPED, played.skipped)
    if played.crashed:
        return Result(probe, Verdict.ERROR, f"the probe itself broke: {played.crashed}", "This is a bug in the probe.")
    if shown is None:
        return Result(probe, Verdict.INCONCLUSIVE, played.unshown or "nothing was seen", played.fix or _PUT_RIGHT)
    sent = told(shown)
    broken = effect_broken(probe, shown)
    if broken:
        return Result(probe, Verdict.FAIL, f"{sent}; {broken}", probe.fix, shown, let_in=True)
    if shown.wrong:
        return Result(probe, Verdict.FAIL, f"{sent}; {shown.wrong}", probe.fix, shown, let_in=_answered_well(shown))
    replies = [judged for one in shown.replies if (judged := _reply(probe, one, alive=played.alive)) is not None]
    if replies:
        verdict = worst(one for one, _, _, _ in replies)
        _, found, fix, let_in = next(one for one in replies if one[0] is verdict)
        return Result(probe, verdict, found, fix, shown, let_in)
    if not shown.replies or (probe.effect is not None and not was_read(probe.effect, shown)):
        return Result(probe, Verdict.INCONCLUSIVE, f"{sent}; nothing was read afterwards", _LIVES, shown)
    return Result(probe, Verdict.PASS, f"{sent}; {unharmed(shown)}", shown=shown)


def _reply(probe: Probe, reply: Reply, *, alive: bool) -> tuple[Verdict, str, str, bool] | None:
    """Verdict, what was found, the fix, and whether it was let in; None for an answer that is right."""
    found = f"{exchange(reply)}; allowed: {allowed(probe)}"
    if reply.status == LIMITED:
        return Verdict.INCONCLUSIVE, f"{found}. The rate limit answered, which is no refusal", _WAIT, False
    if reply.status in (CLOSED, 502, 503, 504) and not alive:
        return Verdict.INCONCLUSIVE, f"{found}. The service does not live, so this is no refusal", _LIVES, False
    if reply.status == CLOSED and _unconnected(reply):
        return Verdict.INCONCLUSIVE, f"{found}. No connection came about", _LIVES, False
    if reply.status in probe.answers:
        return None
    let_in = reply.status in TAKEN or reply.status >= 500 or reply.status in (CLOSED, SILENT)
    if reply.status >= 500:
        found = f"{found}. No bytes of a stranger may break the service"
    return Verdict.FAIL, found, probe.fix, let_in


def _unconnected(reply: Reply) -> bool:
    """Whether nothing could be sent at all. A port that refuses is another matter: to plain http that is right."""
    return reply.lost.startswith((UNCONNECTED, "ConnectTimeout"))


def _answered_well(shown: Shown) -> bool:
    """Whether what is wrong is not a mere refusal, which a wrong secret of ours would explain as well."""
    return not any(reply.status in (400, 401, 403) for reply in shown.replies)
