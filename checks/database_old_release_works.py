"""database.old_release_works: what is live works with the migrated schema, before another release takes its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from checks.judging import Unjudged, counted, or_finding, unless_finding
from pipeline.contracts import Check, Proof, ReleaseId, When, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, Verdict, failed, inconclusive, passed, skipped


@dataclass(frozen=True)
class OnTheNewSchema:
    """`says` is the release id that the old release gave for itself when it was started anew; `ready_s` in s."""

    release: str
    says: object
    ready_s: float
    proofs: Sequence[Proof]


@or_finding
async def gather(world: World, _params: NoParams) -> OnTheNewSchema:
    live = await world.target.traffic.live()
    if live is None:
        raise Unjudged(skipped("first release: none is live that could break on the migrated schema"))
    if live == world.run.release:
        raise Unjudged(
            inconclusive(
                f"{live} is live already, so there is no old release to prove", "Let it stand before the switch."
            )
        )
    started = await world.target.traffic.rehearse(ReleaseId(live))
    return OnTheNewSchema(live, started.body.get("release"), started.took, await world.prove(live))


@unless_finding
def judge(fact: OnTheNewSchema, _params: NoParams) -> Finding:
    bad = [proof for proof in fact.proofs if not proof.finding.verdict.promotes]
    evidence = {
        "release": fact.release,
        "ready_ms": round(fact.ready_s * 1000),
        "proofs": {proof.step: f"{proof.finding.verdict}: {proof.finding.reason}" for proof in fact.proofs},
    }
    if fact.says != fact.release:
        return failed(
            f"release {fact.release} was started anew on the migrated schema, but says it is {fact.says!r}",
            "Its folder or settings were changed on the target; deploy a fresh release before you migrate.",
            **evidence,
        )
    if bad:
        first, more = bad[0], len(bad) - 1
        told = f"; {counted(more, 'more proof')} did not pass" if more else ""
        return failed(
            f"release {fact.release} does not work with the migrated schema: {first.step}: {first.finding.verdict}: "
            f"{first.finding.reason}{told}",
            "Migrate in steps that both releases work with: add first, use it in a release, remove in a later one.",
            **evidence,
        )
    asked = [proof for proof in fact.proofs if proof.finding.verdict is not Verdict.SKIPPED]
    if not asked:
        return inconclusive(
            f"release {fact.release}: no proof was asked of it on the migrated schema",
            "Let a check of stage prove be asked in this environment.",
            **evidence,
        )
    return passed(
        f"release {fact.release} works with the migrated schema: started anew it was ready after "
        f"{evidence['ready_ms']} ms, and {counted(len(asked), 'proof')} passed",
        **evidence,
    )


CHECK = Check(
    name="database.old_release_works",
    promise="The old release works with the migrated schema before the new one takes its place.",
    rows=("T9", "T16"),
    gather=gather,
    judge=judge,
    params=NoParams,
    network=True,
    when=When.BUILT,
    why="A way back leads to the old release: after the switch it is too late to find that the schema broke it.",
    pci=("6.5.1",),
    acceptable=False,
    looks_at=(
        "The release that is live, on the schema that was just migrated: whether it starts anew beside itself with its "
        "own settings, and whether it passes every proof of stage `prove`, asked as `./inv verify` asks them. Its "
        "smoke payments count against the `cap` of the run, as do those of the new release. A first release has none "
        "before it, and the check is skipped. Where it fails, the migration is taken back."
    ),
    fix=(
        "Change the schema in steps that both releases work with: add what is new, deploy the release that uses it, "
        "and remove what is old with a later one."
    ),
    see_it_fail="Let `database.migrate` rename a column that the live release reads, then deploy.",
)
