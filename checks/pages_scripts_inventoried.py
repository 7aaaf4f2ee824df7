"""pages.scripts_inventoried: every script of a payment page is known, answered for, and the one that was approved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from checks.facts.html import INLINE, sha384
from checks.facts.page_problems import Problem, shown, verdict_of
from checks.facts.recorded import change
from checks.facts.scripts import BUILT, Inventory, Used, inventory, matching, speaks_of
from checks.judging import counted, or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.spec import NoParams, Script
from pipeline.verdict import Finding, Verdict

_NAME = "pages.scripts_inventoried"
_STRENGTH = ("sha512", "sha384", "sha256")


@or_finding
async def gather(world: World, _params: NoParams) -> Inventory:
    return await inventory(world, _NAME)


@unless_finding
def judge(fact: Inventory, _params: NoParams) -> Finding:
    problems = [problem for used in fact.used for problem in _problems(fact, used)]
    problems += [
        _unused(entry) for entry in fact.entries if not any(entry in matching(u, fact.entries) for u in fact.used)
    ]
    problems += [
        _open_door(page, host) for page, host in fact.hosts if not any(speaks_of(entry, host) for entry in fact.entries)
    ]
    scripts = {used.key: sha384(used.hashes) for used in fact.used}
    changed = change(scripts, fact.recorded, "scripts")
    measured: dict[str, object] = {
        "scripts": scripts,
        "release": fact.release,
        "pages": list(fact.pages),
        "questionnaire": fact.questionnaire or "none named",
        "changed": dict(changed.keys),
    }
    fine = f"{counted(len(fact.used), 'script')} on {fact.told}"
    fine += ", each in the inventory and as approved" if fact.used else "; there is nothing to list"
    fine += f"{changed}{_SAQ.get(fact.questionnaire, '')}"
    return verdict_of(problems, fact.unread, fine, measured, fact.asked)


_SAQ: Mapping[str, str] = {
    "SAQ A": " (SAQ A has no 6.4.3 and 11.6.1; it asks the merchant to confirm that scripts cannot attack the page)",
    "SAQ A-EP": " (evidence for 6.4.3 and 11.6.1 of SAQ A-EP)",
    "SAQ D": " (evidence for 6.4.3 and 11.6.1 of SAQ D)",
}


def _problems(fact: Inventory, used: Used) -> Iterator[Problem]:
    entries = matching(used, fact.entries)
    if not entries:
        yield Problem(Verdict.FAIL, _where(used), f"{_told(used)} is not in the inventory", _paste(used))
        return
    if used.problem:
        what = f"{_told(used)} could not be read: {used.problem}"
        yield Problem(Verdict.INCONCLUSIVE, _where(used), what, "Make the script's address answer, then run again.")
        return
    yield from _unpinned(used)
    wrong = [_mismatch(fact, used, entry) for entry in entries]
    if all(wrong):
        yield Problem(Verdict.FAIL, _where(used), f"{_told(used)} {wrong[0]}", _MISMATCH)
    elif any(entry.integrity == BUILT for entry in entries) and _changed_in_release(fact, used):
        what = f"{_told(used)} changed within release {fact.release}, which was not deployed anew"
        yield Problem(Verdict.FAIL, _where(used), what, _MISMATCH)


def _mismatch(fact: Inventory, used: Used, entry: Script) -> str:
    """What is wrong with a script by this entry; '' when nothing is."""
    if entry.integrity != BUILT:
        if entry.integrity in used.hashes:
            return ""
        algorithm = entry.integrity.partition("-")[0]
        served = next((value for value in used.hashes if value.startswith(algorithm)), "nothing")
        return f"is served as {served}; the inventory allows {entry.integrity}"
    if not used.home:
        return "comes from another host, so the build did not make it: `integrity` must be its hash"
    candidates = (*fact.built.built.get(used.name, ()), *fact.built.released.get(used.name, ()))
    if not candidates:
        unread = f" (the release's files could not be read: {fact.built.problem})" if fact.built.problem else ""
        return f"has no file of its name in the build's folder or in the release{unread}"
    return "" if used.hashes in candidates else "differs from the file of its name that was built"


def _changed_in_release(fact: Inventory, used: Used) -> bool:
    """Whether the last passing run saw other bytes under the same release."""
    record = fact.recorded
    if record is None or not fact.release or record.evidence.get("release") != fact.release:
        return False
    return record.texts("scripts").get(used.key, sha384(used.hashes)) != sha384(used.hashes)


def _unpinned(used: Used) -> Iterator[Problem]:
    """A script of another host is held by its integrity attribute, in every page, by the strongest hash (SRI)."""
    if used.src == INLINE or (used.home and not any(used.pinned)):
        return
    pin = f'Add integrity="{sha384(used.hashes)}" crossorigin="anonymous" to the script element.'
    for attribute in used.pinned:
        tokens = [token.partition("?")[0] for token in attribute.split()]
        strongest = next((s for s in _STRENGTH if any(token.startswith(f"{s}-") for token in tokens)), "")
        if not strongest and not used.home:
            yield Problem(Verdict.FAIL, _where(used), f"{_told(used)} of another host has no integrity attribute", pin)
        elif strongest and not any(token in used.hashes for token in tokens if token.startswith(strongest)):
            what = f"{_told(used)}: its integrity attribute does not fit what is served, so browsers refuse it"
            yield Problem(Verdict.FAIL, _where(used), what, pin)


def _unused(entry: Script) -> Problem:
    what = f"the inventory's entry {shown(entry.src)} is used by no page"
    return Problem(Verdict.ADVICE, "pipeline.yaml", what, "Remove that entry under `scripts:`, or correct its `src`.")


def _open_door(page: str, host: str) -> Problem:
    what = f"the Content-Security-Policy lets scripts come from {shown(host)}, of which the inventory has none"
    fix = "Remove that host from the policy, or list the scripts that come from it under `scripts:` in pipeline.yaml."
    return Problem(Verdict.ADVICE, page, what, fix)


def _where(used: Used) -> str:
    more = f" and {len(used.pages) - 1} more" if len(used.pages) > 1 else ""
    return f"{used.pages[0]}{more}"


def _told(used: Used) -> str:
    if used.src != INLINE:
        return f"the script {shown(used.src, 160)}"
    return f"the inline script on line {used.line} ({sha384(used.hashes)})"


def _paste(used: Used) -> str:
    """The line to put under `scripts:`, once somebody answers for the script."""
    home = used.home and used.src != INLINE
    src = re.sub(r"([-.])[A-Za-z0-9_]{8,}(\.m?js)$", r"\1*\2", used.src) if home else used.src
    integrity = BUILT if home else sha384(used.hashes) or "sha384-..."
    line = f'- {{src: "{_quoted(src)}", owner: WHO ANSWERS FOR IT, reason: WHAT IT IS FOR, integrity: {integrity}}}'
    return f"If it belongs there, add under `scripts:` in pipeline.yaml: `{line}`; if not, find out who put it there."


def _quoted(text: str) -> str:
    return ascii(text[:300])[1:-1].replace('"', '\\"')


_MISMATCH = (
    "Find out who changed it before anything else. If the change is wanted, deploy it, or put the new hash under "
    "`scripts:` in pipeline.yaml."
)

CHECK = Check(
    name=_NAME,
    promise="Every script of a payment page is in the inventory, answered for, and the one that was approved.",
    rows=("G3", "T7"),
    gather=gather,
    judge=judge,
    params=NoParams,
    network=True,
    when=When.LIVE,
    why="Card skimmers are scripts that nobody remembers having added.",
    pci=("6.4.3", "11.6.1"),
    looks_at="Every script element, event handler and preloaded script of the payment pages and every module that they "
    "import by name, held against `scripts:` in pipeline.yaml: an entry for each, its bytes equal to the built file or "
    "the hash given, an integrity attribute where it comes from another host. `built` is the file of that name in the "
    "build's folder or in the release's own folder at the target. What changed since the last passing run is told. "
    "Scripts that a script puts into the page by other means are not seen; so the hosts that the policy lets scripts "
    "come from must be in the inventory, too.",
    fix="Add an entry with an owner, a reason and its integrity for each script that belongs there; remove the others.",
    see_it_fail="Add a script element to a page, or leave an entry out of `scripts:`.",
)
