"""pipeline.yaml, read into a `Spec`, or refused with all of its mistakes at once."""

from __future__ import annotations

import os
from pathlib import Path

from pipeline import meaning, shape
from pipeline.mistakes import Mistake, Mistakes, SpecInvalid
from pipeline.names import Names, step_name
from pipeline.spec import Spec
from pipeline.yaml_strict import MAX_BYTES, read

__all__ = ["Mistake", "Names", "SpecInvalid", "load", "step_name"]


def load(path: Path, names: Names) -> Spec:
    """The spec at `path`. Raises SpecInvalid; its mistakes name the file as `path` does."""
    file = os.fspath(path)
    document = read(_content(path))
    mistakes = Mistakes(file, document)
    for problem in document.problems:
        mistakes.at(problem.mark, problem.path, problem.found, problem.allowed)
    spec = None
    if document.complete:
        spec = shape.judge(Spec, document.data, (), mistakes)
        if not any(problem.hole for problem in document.problems):
            meaning.judge(document.data, names, mistakes)
    if mistakes.all() or not isinstance(spec, Spec):
        raise SpecInvalid(mistakes.all() or [Mistake(file, 1, 1, "the file", "no spec", "a whole pipeline.yaml")])
    return spec


def _content(path: Path) -> bytes:
    """The file's bytes. Reads no more than what is judged too large."""
    try:
        if path.exists() and not path.is_file():
            raise _unreadable(path, "no ordinary file")
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise _unreadable(path, "no such file") from None
    except OSError as error:
        raise _unreadable(path, error.strerror or type(error).__name__) from None


def _unreadable(path: Path, found: str) -> SpecInvalid:
    mistake = Mistake(
        os.fspath(path), 1, 1, "the file", found, "a readable pipeline.yaml; `--spec PATH` names another place"
    )
    return SpecInvalid([mistake])
