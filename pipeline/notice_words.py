"""What a notice says: title and body of an event, out of the entries of its run. Short enough for a telephone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline import story
from pipeline.events import Entry, Kind
from pipeline.words import one_line, printable, sentence

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).resolve().parent.parent / "templates" / "notices"
_LONGEST = 400
_STEPS = 4


@dataclass(frozen=True)
class Facts:
    """What the templates may say. Texts are on one line, without control characters, and not too long."""

    service: str
    environment: str
    verb: str
    run: str
    who: str
    reason: str
    happened: str
    error: str
    fix: str
    live: str
    goal: str
    todo: tuple[str, ...]


@dataclass(frozen=True)
class Writer:
    """`service`, `environment` and `who` are for events without a run; `redact` sees every text that leaves."""

    service: str
    environment: str
    who: str
    redact: Callable[[str], str]

    def words(self, events: tuple[str, ...], entries: Sequence[Entry], error: str) -> tuple[str, str]:
        """Title and body. `entries`: those of one run, maybe none; `error`: what ended it where they do not say."""
        facts = self._facts(entries, error)
        template = _templates().get_template(f"{events[0].replace(' ', '_')}.txt.j2")
        title, _, body = template.render(one=facts).strip().partition("\n")
        lines = (one_line(line) for line in body.strip().split("\n"))
        return self.redact(one_line(title)), self.redact("\n".join(line for line in lines if line))

    def _facts(self, entries: Sequence[Entry], error: str) -> Facts:
        told = story.build(entries)
        header, first = told.header, told.first_error
        back = next((entry.data for entry in reversed(entries) if entry.kind is Kind.WAYBACK_STARTED), {})
        status = f"`./inv status --env {self.environment}` shows how it stands."
        return Facts(
            service=header.service or self.service,
            environment=header.environment or self.environment,
            verb=header.verb or "run",
            run=header.run or "",
            who=one_line(printable(header.who or self.who)),
            reason=self._short(header.reason or ""),
            happened=self._short(told.summary),
            error=self._short(error or (first.told if first else "")),
            fix=self._short(first.remedy if first and not error else ""),
            live=self._short(told.live.sentence if entries and not error else ""),
            goal=str(back.get("release") or header.release or ""),
            todo=tuple(map(self._short, (told.answers.todo if entries and not error else (status,))[:_STEPS])),
        )

    def _short(self, text: str) -> str:
        """Redacted before it is cut, so that no part of a secret stays at the end."""
        text = one_line(printable(self.redact(text)))
        return sentence(text if len(text) <= _LONGEST else text[: _LONGEST - 4] + " ...") if text else ""


@cache
def _templates() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(  # noqa: S701 - plain text; Apprise escapes it for services that take HTML
        loader=FileSystemLoader(TEMPLATES), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
