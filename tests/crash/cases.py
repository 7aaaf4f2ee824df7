"""The table of cases as data: what is struck, where, how, and which one command must put it right."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.crash import writes
from tests.crash.learned import LEARNED, SIDE_BY_SIDE, Learned
from tests.crash.runs import Verb
from tests.crash.strikes import At, How, Strike, Write
from tests.crash.writes import By

KILLED = -int(signal.SIGKILL)

KINDS: dict[str, tuple[How, ...]] = {
    "kill": (How.KILL, How.KILL_BOTH),
    "torn": (How.HALF, How.BETWEEN, How.AFTER, How.LOST, How.TORN_LOG),
    "signal": (How.TERM, How.INT, How.HUP, How.TWICE),
    "disk": (
        *(How.NO_SPACE, How.NO_WRITING, How.FULL_STATE, How.FULL_TARGET),
        *(How.READ_ONLY_STATE, How.READ_ONLY_TARGET),
    ),
    "clock": (How.HOUR_BACK, How.DAY_AHEAD),
    "lock": (How.JOURNAL_AWHILE, How.JOURNAL_FOR_GOOD, How.LEASE_AWHILE, How.LEASE_FOR_GOOD),
}
OWN_DISKS = frozenset({How.FULL_STATE, How.FULL_TARGET, How.READ_ONLY_STATE, How.READ_ONLY_TARGET})
"""These need a mount namespace."""


@dataclass(frozen=True)
class Case:
    """`by`: the one command that puts it right where something is left to put right. `ends`: how the struck run may."""

    scene: str
    strike: Strike
    moment: str
    by: Verb
    ends: frozenset[int]

    @property
    def kind(self) -> str:
        return next(kind for kind, hows in KINDS.items() if self.strike.how in hows)

    def __str__(self) -> str:
        return f"{self.scene.replace(' ', '_')}-{self.strike}-{self.by}"


_GROUPS = (
    ("gates", ("gates",)),
    ("build and stage", ("stage.started deploy", "release.stage", "building", "staged")),
    ("switch", ("release.switch", "marked live", "stage.finished deploy", "stage.started watch")),
    ("prove", ("prove",)),
    ("verify", ("stage.started finish", "release.verify", "marked verified", "stage.finished finish")),
    ("go back", ("wayback", "payments.closed", "marked bad")),
    ("open the doors", ("ing payments", "ed payments", "maintenance", "test-mode", "reopened")),
    ("restore", ("checkpoint.",)),
    ("compare the books", ("reconciled", "compare", "reconcile")),
    ("deliver again", ("webhook",)),
    ("begin", ("run.started", "lease.taken", "run.failed")),
    ("end", ("run.finished", "run.superseded")),
)


def group_of(label: str) -> str:
    """What a run is about when it writes that entry."""
    return next((group for group, words in _GROUPS if any(word in label for word in words)), "elsewhere")


def cases() -> list[Case]:
    """All of them, in the order in which the document tells them."""
    return [*_kills(), *_torn(), *_signals(), *_disks(), *_clocks(), *_locks()]


# ---- SIGKILL -----------------------------------------------------------------------------------------------

_RIGHT: dict[str, tuple[Verb, ...]] = {
    "first deploy": ("resume",),
    "deploy": ("rollback", "resume"),
    "deploy that prunes": ("resume",),
    "way back of a bad deploy": ("rollback",),
    "rollback": ("rollback",),
    "rollback of a killed deploy": ("rollback",),
    "resume of a killed deploy": ("rollback", "resume"),
    "reconcile --apply": ("reconcile",),
}
"""What puts a killed run right. Where there are two, each moment of a deploy's own acts is played with both, and all
others with one in turn."""


def moments(learnt: Learned, *, back: bool) -> Iterator[tuple[At, str]]:
    """Every moment that differs: before each entry, and after the one before it where something happens in between."""
    for n, label in enumerate(learnt.entries, 1):
        if n > 1 and n in learnt.acts:
            yield At("after", n - 1, back), group_of(learnt.entries[n - 2])
        yield At("before", n, back), group_of(label)
    yield At("after", len(learnt.entries), back), group_of(learnt.entries[-1])


def _kills() -> Iterator[Case]:
    for scene, commands in _RIGHT.items():
        if scene in ("first deploy", "deploy that prunes"):
            continue
        back = scene == "way back of a bad deploy"
        for at, (moment, group) in enumerate(moments(LEARNED[scene], back=back)):
            both = scene == "deploy" and group not in SIDE_BY_SIDE
            for by in commands if both else (commands[at % len(commands)],):
                yield Case(scene, Strike(How.KILL, moment), group, by, frozenset({KILLED}))
    for scene in ("deploy", "rollback"):
        for row in ("order to start", "link", "order to retire"):
            for n in LEARNED[scene].writes.get(row, ()):
                yield Case(scene, Strike(How.KILL_BOTH, Write(row, n)), row, "rollback", frozenset({KILLED}))


# ---- torn writes -------------------------------------------------------------------------------------------

_HALVED = ("artifact", "copy of settings", "removal")
_TOLD = ("report", "incident")
"""Nothing is decided by them."""
_ONLY_FIRST = ("supervisor copy", "configuration", "salt", "kept pipeline.yaml", "journal head")
"""Written by the first deploy alone."""


def _torn() -> Iterator[Case]:
    rows = {row.name: row for row in writes.ROWS}
    for scene, learnt in LEARNED.items():
        for name, numbers in learnt.writes.items():
            if not _torn_in(scene, name):
                continue
            told = name in _TOLD
            hows = (How.HALF, How.BETWEEN) if told else _torn_how(rows[name])
            for n in numbers[: 1 if told else 3 if name == "removal" else None]:
                for at, how in enumerate(hows):
                    right = _RIGHT[scene]
                    by = right[(n + at) % len(right)]
                    yield Case(scene, Strike(how, Write(name, n)), name, by, frozenset({KILLED}))
        if scene not in ("first deploy", "deploy that prunes"):
            yield from _torn_log(scene, learnt)


def _torn_in(scene: str, row: str) -> bool:
    """How much there is to remove hangs on what was deployed before; but for one scene, made for it."""
    if scene in ("first deploy", "deploy that prunes"):
        return row in _ONLY_FIRST if scene == "first deploy" else row == "removal"
    return row not in _ONLY_FIRST and (row != "removal" or scene == "deploy")


def _torn_how(row: writes.Row) -> Sequence[How]:
    if row.name == "link":  # there is no half of it
        return (How.BETWEEN, How.AFTER, How.LOST)
    if row.by is By.RENAME:
        return (How.HALF, How.BETWEEN, How.AFTER, How.LOST)
    return (How.HALF,) if row.name in _HALVED else ()


def _torn_log(scene: str, learnt: Learned) -> Iterator[Case]:
    """One entry of each group is cut in the middle of its bytes in the journal's log."""
    back, told = scene == "way back of a bad deploy", set[str]()
    for n, label in enumerate(learnt.entries, 1):
        group = group_of(label)
        if group not in told:
            told.add(group)
            right = _RIGHT[scene]
            strike = Strike(How.TORN_LOG, At("after", n, back))
            yield Case(scene, strike, "journal", right[n % len(right)], frozenset({KILLED}))


# ---- signals, disks, clocks, locks ---------------------------------------------------------------------------


def _first_of_each(scene: str) -> Iterator[tuple[At, str]]:
    """One moment of each group: after its second entry, or its only one."""
    learnt, back = LEARNED[scene], scene == "way back of a bad deploy"
    groups: dict[str, list[int]] = {}
    for n, label in enumerate(learnt.entries, 1):
        groups.setdefault(group_of(label), []).append(n)
    for group, numbers in groups.items():
        yield At("after", numbers[min(1, len(numbers) - 1)], back), group


def _in_turn(scene: str, hows: Sequence[How], ends: Sequence[int], by: Verb = "rollback") -> Iterator[Case]:
    """At one moment of each group, each way in its turn."""
    for turn, (at, group) in enumerate(_first_of_each(scene)):
        yield Case(scene, Strike(hows[turn % len(hows)], at), group, by, frozenset(ends))


def _signals() -> Iterator[Case]:
    for scene, ends in (("deploy", (0, 3, 130)), ("way back of a bad deploy", (3,)), ("rollback", (0,))):
        yield from _in_turn(scene, (How.TERM,), ends)
        yield from _in_turn(scene, (How.INT, How.TWICE, How.HUP), ends)


_FAILS = (0, 1, 3, 4)
"""Whatever a disk does: done, nothing changed, restored, or a person is needed. Never a bug."""


def _disks() -> Iterator[Case]:
    for scene in ("deploy", "way back of a bad deploy", "rollback"):
        for row in writes.ROWS:
            for n in LEARNED[scene].writes.get(row.name, ()) if row.by is By.RENAME else ():
                if row.name not in _TOLD or n == 1:
                    how = (How.NO_SPACE, How.NO_WRITING)[n % 2]
                    yield Case(scene, Strike(how, Write(row.name, n)), row.name, "rollback", frozenset(_FAILS))
        yield from _in_turn(scene, (How.FULL_STATE,), _FAILS)
        yield from _in_turn(scene, (How.FULL_TARGET, How.READ_ONLY_TARGET), _FAILS)
    for scene in ("deploy", "rollback"):
        for how in sorted(OWN_DISKS):
            yield Case(scene, Strike(how, None), "before it begins", "rollback", frozenset(_FAILS))


def _clocks() -> Iterator[Case]:
    ends = {"way back of a bad deploy": 3}
    for scene in ("deploy", "way back of a bad deploy", "rollback", "reconcile --apply"):
        by: Verb = "reconcile" if scene == "reconcile --apply" else "rollback"
        for how in KINDS["clock"]:
            yield Case(scene, Strike(how, None), "between runs", by, frozenset({ends.get(scene, 0)}))
        yield from _in_turn(scene, KINDS["clock"], (ends.get(scene, 0),), by)


def _locks() -> Iterator[Case]:
    for scene in ("deploy", "way back of a bad deploy", "rollback"):
        good = 3 if scene == "way back of a bad deploy" else 0
        if scene != "way back of a bad deploy":
            for how in KINDS["lock"]:
                yield Case(scene, Strike(how, None), "before it begins", "rollback", frozenset({0, 1, 4, 5}))
        yield from _in_turn(scene, (How.JOURNAL_AWHILE, How.LEASE_AWHILE, How.LEASE_FOR_GOOD), (good,))
        yield from _in_turn(scene, (How.JOURNAL_FOR_GOOD,), (good, 4))
