"""What the checkpoints of the switches have in common."""

from __future__ import annotations

from dataclasses import asdict, replace

from pipeline.contracts import Captured, Confirmation, RestoreContext, SwitchName, SwitchOn


class SwitchCheckpoint:
    """Captured: `switch`, its content, or None when it is off. Restored after the proofs: it lets customers in."""

    reopens = True

    def __init__(self, name: str, switch: SwitchName, off: str, *, on: str = "stays closed") -> None:
        """`off`: what it means for customers that the switch is off; `on`: how it is told that it stays."""
        self.name = name
        self._switch = switch
        self._off = off
        self._on = on

    async def capture(self, context: RestoreContext) -> Captured:
        found = await context.target.switches.read(self._switch)
        ours = found is not None and found.run != "" and found.run == context.of_run
        return {"switch": None if found is None or ours else asdict(found)}

    async def restore(self, context: RestoreContext, captured: Captured) -> None:
        """A door that a person closed since it was captured stays closed: it is theirs to open."""
        if not _closed_since(await context.target.switches.read(self._switch), _switch(captured)):
            await context.target.switches.write(self._switch, _switch(captured))

    async def confirm(self, context: RestoreContext, captured: Captured) -> Confirmation:
        found, expected = await context.target.switches.read(self._switch), _switch(captured)
        return Confirmation(
            found == expected or _closed_since(found, expected), self._said(found), self._said(expected)
        )

    def in_words(self, captured: Captured) -> str:
        """A door that a person closed is theirs to open."""
        switch = _switch(captured)
        return self._off if switch is None else f"{self._on}, since {switch.since} by {switch.who}: {switch.why}"

    def _said(self, value: SwitchOn | None) -> str:
        if value is None:
            return f"{self._switch} off"
        return f"{self._switch} on since {value.since or 'an unknown time'} by {value.who}: {value.why}"


def _switch(captured: Captured) -> SwitchOn | None:
    value = captured["switch"]
    return None if value is None else SwitchOn(**value)


def _closed_since(found: SwitchOn | None, captured: SwitchOn | None) -> bool:
    """True when a person closed the door after it was captured. A proof that a run put into theirs is no new door."""
    if found is None or found.run:
        return False
    return captured is None or replace(found, proof="") != replace(captured, proof="")
