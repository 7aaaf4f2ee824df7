"""sign_offs.valid: a person answers, with a signature that still holds, for everything that only people can answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from checks.facts import people
from checks.judging import Unjudged, counted, or_finding, unless_finding
from pipeline.attestations import FOLDER, SIGNERS, Attestation, State
from pipeline.contracts import Check, World
from pipeline.duties import command_to_sign
from pipeline.names import nearest
from pipeline.spec import Frozen, Name
from pipeline.verdict import Finding, Place, Verdict, failed, inconclusive, passed, worst


class Wanted(Frozen):
    """Which sign-offs, and how hard a missing one counts. One that does not hold any more always fails."""

    missing: Literal["fail", "advice"] = Field("fail", description="What an item without any record is.")
    items: Annotated[tuple[Name, ...], Field(min_length=1, strict=False)] | None = Field(
        None, description="All sign-offs of the spec by default."
    )


@dataclass(frozen=True)
class SignOffs:
    environment: str
    found: tuple[Attestation, ...]


@or_finding
async def gather(world: World, params: Wanted) -> SignOffs:
    declared = world.spec.sign_offs
    if not declared:
        raise Unjudged(
            inconclusive(
                "pipeline.yaml asks for no sign-off, so nobody answers for anything",
                "Name what people must answer for under `sign_offs:`, or remove this check.",
            )
        )
    if params.items is not None and (unknown := [name for name in params.items if name not in declared]):
        guess = nearest(unknown[0], declared)
        raise Unjudged(
            failed(
                f"the check asks for {', '.join(unknown)}; sign_offs in pipeline.yaml has {', '.join(declared)}",
                f"Correct `items:` of the check.{f' Did you mean {guess}?' if guess else ''}",
            )
        )
    attested = await people.attested(world)
    return SignOffs(world.environment_name, tuple(attested[name] for name in params.items or declared))


@unless_finding
def judge(fact: SignOffs, params: Wanted) -> Finding:
    verdict = worst(_verdict(one, params) for one in fact.found)
    measured = {one.item: _told(one) for one in fact.found}
    open_items = [one for one in fact.found if one.state is not State.VALID]
    if verdict is Verdict.PASS:
        held = "; ".join(f"{one.item} by {one.by} until {one.until:%Y-%m-%d}" for one in fact.found)
        return passed(f"{counted(len(fact.found), 'sign-off')} in force: {held}", sign_offs=measured)
    valid = len(fact.found) - len(open_items)
    reason = (
        f"{valid} of {counted(len(fact.found), 'sign-off')} in force for {fact.environment}, all are required; "
        + _alike(open_items)
    )
    places = tuple(
        Place(f"{FOLDER}/{fact.environment}/{one.item}.json", 1, f"{one.state.value}: {one.why}")
        for one in open_items
        if one.state is not State.MISSING
    )
    return Finding(verdict, reason, "\n".join(_fixes(open_items, fact.environment)), {"sign_offs": measured}, places)


def _verdict(one: Attestation, params: Wanted) -> Verdict:
    if one.state is State.VALID:
        return Verdict.PASS
    if one.state is State.UNKNOWN:
        return Verdict.INCONCLUSIVE
    return Verdict.ADVICE if one.state is State.MISSING and params.missing == "advice" else Verdict.FAIL


def _told(one: Attestation) -> dict[str, str]:
    told = {"state": one.state.value, "why": one.why, "by": one.by}
    told["until"] = one.until.date().isoformat() if one.until else ""
    return {name: text for name, text in told.items() if text}


def _alike(found: Sequence[Attestation]) -> str:
    """What does not hold, those without more to say of them together."""
    missing = [one.item for one in found if one.state is State.MISSING]
    told = [f"missing: {', '.join(missing)}"] if missing else []
    for one in found:
        if one.state is not State.MISSING:
            who = f"signed by {one.by}, " if one.by else ""
            told.append(f"{one.item} is {one.state.value} ({who}{one.why})")
    return "; ".join(told)


def _fixes(found: Sequence[Attestation], environment: str) -> list[str]:
    fixes = []
    if any(one.state is State.UNKNOWN for one in found):
        fixes.append(
            "Install openssh-client and git, and check out the whole history (fetch-depth: 0); then ask again."
        )
    for one in found:
        if one.state in (State.FOREIGN, State.ALTERED, State.UNREADABLE):
            fixes.append(f"{one.item}: find out who changed {FOLDER}/{environment}/{one.item}.json or {SIGNERS}.")
    again = [one.item for one in found if one.state is not State.UNKNOWN]
    if again:
        sign = command_to_sign(again[0] if len(again) == 1 else "ITEM", environment)
        fixes.append(f"Look at what {_each(again)} asks, sign for it with `{sign}`, and commit {FOLDER}/.")
    return fixes


def _each(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else "each item"


CHECK = Check(
    name="sign_offs.valid",
    promise="Every item that only people can answer is signed by somebody who may, and the signature still holds.",
    rows=("G19", "G20"),
    gather=gather,
    judge=judge,
    params=Wanted,
    why="A pipeline cannot read a contract or ask the support team; it can refuse to go live until somebody did.",
    pci=("6.5.1",),
    acceptable=False,
    looks_at=(
        "The records in `attestations/ENVIRONMENT/`, their signatures, the list of people in "
        "`attestations/allowed_signers`, the history of git, and the digest of pipeline.yaml."
    ),
    fix=(
        "Do what the item asks, sign it with `./inv attest`, and commit the two files. A record that is foreign, "
        "altered or unreadable was not written by this command: find out who changed it first."
    ),
    see_it_fail=(
        "Remove one file of `attestations/production/` in a clone, or change one letter of it, and run "
        "`./inv validate --env production`."
    ),
)
