"""Lines of NAME=value, from a dotenv file or a command: every line is a setting, a comment or a mistake.

python-dotenv reads the lines, without interpolation; what it only warns about is a mistake here. No value is ever
part of a mistake.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from dotenv.parser import parse_stream

from pipeline.settings import SettingMistake

MAX_BYTES = 1_000_000
_LOOSE = 0o177
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LINE = "NAME=value, a comment, or an empty line"


@dataclass(frozen=True)
class Line:
    """One value. `number` is its line, from 1."""

    value: str
    number: int


@dataclass(frozen=True)
class Lines:
    """What a source holds by name, and everything wrong with it. `whole`: nothing of it was left unread."""

    values: Mapping[str, Line] = field(default_factory=dict)
    mistakes: tuple[SettingMistake, ...] = ()
    missing: bool = False
    whole: bool = True


def read(path: Path, shown_as: str) -> Lines:
    """The dotenv file at `path`. A missing file is no mistake by itself; a loose file mode is one."""
    try:
        if path.exists() and not path.is_file():
            return _refused(shown_as, "no ordinary file", "a dotenv file", "name a file under settings_from")
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            content = file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        return Lines(missing=True)
    except OSError as error:
        found = f"not readable: {error.strerror or type(error).__name__}"
        return _refused(shown_as, found, "a file this user can read", f"look at `ls -l {shown_as}`")
    lines = parse(content, shown_as)
    if not mode & _LOOSE:
        return lines
    loose = SettingMistake(
        name="",
        where=shown_as,
        found=f"file mode {mode:04o}: others than its owner may read or change it",
        allowed="file mode 0600 or 0400",
        remedy=f"chmod 600 {shown_as}",
    )
    return replace(lines, mistakes=(loose, *lines.mistakes))


def parse(content: bytes, shown_as: str) -> Lines:
    """Lines of NAME=value in UTF-8. Of a name that stands there twice the last value is kept, beside a mistake."""
    if len(content) > MAX_BYTES:
        return _refused(shown_as, "more than 1 MB", "NAME=value lines of the service's settings", "check the source")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        return _refused(f"{shown_as}:{line}", "bytes that are not UTF-8", "text in UTF-8", "save it in that encoding")
    values: dict[str, Line] = {}
    mistakes = []
    whole = True
    for binding in parse_stream(io.StringIO(text, newline="")):
        number = binding.original.line + _lines_before(binding.original.string)
        where = f"{shown_as}:{number}"
        if binding.error or (binding.key is not None and (binding.value is None or not _NAME.fullmatch(binding.key))):
            fix = "write NAME=value, with single quotes around a value that holds spaces, quotes or #"
            mistakes.append(SettingMistake("", where, "a broken line, which is not shown", _LINE, fix))
            whole = False
        elif binding.key is not None and binding.value is not None:
            name = binding.key
            if name in values:
                found = f"{name} a second time; it stands at line {values[name].number} already"
                mistakes.append(SettingMistake(name, where, found, "each name once", "remove one of the two lines"))
            values[name] = Line(binding.value, number)
    return Lines(values, tuple(mistakes), whole=whole)


def _lines_before(original: str) -> int:
    """The parser counts from the empty lines before a setting; people count from the setting."""
    leading = original[: len(original) - len(original.lstrip())]
    return len(re.findall(r"\r\n|\r|\n", leading))


def _refused(where: str, found: str, allowed: str, remedy: str) -> Lines:
    return Lines(mistakes=(SettingMistake("", where, found, allowed, remedy),), whole=False)
