"""Mistakes in pipeline.yaml: each a fact with its place, all raised together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import Usage
from pipeline.yaml_strict import Document, Mark, YamlPath, shown


@dataclass(frozen=True)
class Mistake:
    """One mistake: where it stands (counted from 1), what was found, what is allowed, the nearest valid name or ''."""

    file: str
    line: int
    column: int
    path: str
    found: str
    allowed: str
    suggestion: str = ""

    def __str__(self) -> str:
        text = f"{self.file}:{self.line}:{self.column}: {self.path}: found {self.found}; allowed {self.allowed}"
        return f"{text}; did you mean {self.suggestion}?" if self.suggestion else text


class SpecInvalid(Usage):
    """All mistakes of one pipeline.yaml, in the order of their lines. Its text is one line for each."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__(
            "\n".join(map(str, mistakes)),
            "Correct the lines above, then run `./inv plan`; nothing was changed.",
        )
        self.mistakes = tuple(mistakes)


class Mistakes:
    """Gathers the mistakes of one file and gives each its place."""

    def __init__(self, file: str, document: Document) -> None:
        self._file = file
        self._document = document
        self._found: dict[Mistake, None] = {}
        self._holes = {problem.path for problem in document.problems if problem.hole}

    def add(self, path: YamlPath, found: str, allowed: str, suggestion: str = "", *, key: bool = False) -> None:
        """A mistake at `path`, or with `key` at its key. What follows from an unreadable value is left out."""
        if any(path[:length] in self._holes for length in range(len(path) + 1)):
            return
        self.at(self._document.place(path, key=key), path, found, allowed, suggestion)

    def at(self, mark: Mark, path: YamlPath, found: str, allowed: str, suggestion: str = "") -> None:
        place = dotted(path) or "the file"
        mistake = Mistake(self._file, mark.line, mark.column, place, found, allowed, suggestion)
        self._found[mistake] = None

    def all(self) -> tuple[Mistake, ...]:
        return tuple(sorted(self._found, key=lambda m: (m.line, m.column)))


def dotted(path: YamlPath) -> str:
    """`stages.gates[0].check`"""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{shown(part)}" if text else shown(part)
    return text
