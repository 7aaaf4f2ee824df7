"""The page of the drills, docs/drills.md: made from the table of faults."""

from __future__ import annotations

from collections.abc import Iterator

from sandbox.drills.fault import Command, Fault
from sandbox.drills.faults import SUBJECTS

_HEAD = """# The drills

Made from the code by `./inv docs`. `./inv drill --all` plays them one after the other on a stage of its own;
`--fault` plays one. Each is judged from outside: how every command ended, who caught the fault, how the service stands
(over HTTP), that every paid order has exactly one activation, and that no secret was printed or left in a file. Then
what was broken is mended, and the release before serves again. [sandbox.md](sandbox.md#drills) shows one.
"""


def page() -> str:
    return "\n".join(_lines())


def _lines() -> Iterator[str]:
    yield _HEAD
    for title, faults in SUBJECTS.items():
        yield from (f"## {title}", "", "| fault | what is broken | typed | caught by | then |", "|---|---|---|---|---|")
        for fault in faults:
            typed = "<br>".join(_typed(one) for one in fault.commands)
            yield f"| `{fault.name}` | {fault.promise} | {typed} | {_caught_by(fault)} | {fault.leaves.value} |"
        yield ""


def _typed(one: Command) -> str:
    ends = "is killed" if one.exit < 0 else f"exit {int(one.exit)}"
    return f"`{' '.join(one.words('LIVE'))}`: {ends}"


def _caught_by(fault: Fault) -> str:
    return ", ".join(f"`{step}`" for step in sorted(fault.caught_by)) or fault.catcher
