"""The list of exposed credentials: salted hashes of values that must never be used again, never the values.

One line is one hash: the hex SHA-256 of `tollgate-exposed:` followed by the value. Lines that begin with `#` say when
and why the next one was added.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from getpass import getpass
from pathlib import Path
from typing import TextIO

from pipeline import whole_file
from pipeline.errors import Refused, Usage
from pipeline.secrets import SHORTEST, Redactor, Secret

FILE = "exposed.txt"
"""The team's own list, beside pipeline.yaml."""

_SALT = b"tollgate-exposed:"
_HASH = re.compile(r"[0-9a-fA-F]{64}")
_REASON = range(3, 201)
_LARGEST = 64 * 1024
_HEAD = (
    "# Credentials that must never be used again, one a line: the hex SHA-256 of `tollgate-exposed:` followed by the\n"
    "# value. `./inv expose` adds one. Commit this file: it tells every deploy what is burnt.\n"
)


@dataclass(frozen=True)
class Listed:
    """What a list says. `broken` are the numbers, from 1, of lines that are neither a hash nor a comment."""

    hashes: frozenset[str]
    broken: tuple[int, ...]


@dataclass(frozen=True)
class Added:
    """A credential that was put on a list: the list, and the hash that stands there now."""

    path: Path
    hash: str


def hashed(value: str) -> str:
    """How a value stands on the list."""
    return hashlib.sha256(_SALT + value.encode("utf-8", "surrogatepass")).hexdigest()


def parse(text: str) -> Listed:
    """The hashes of a list, in lower case. Never raises."""
    hashes, broken = set(), []
    for number, line in enumerate(text.split("\n"), 1):
        entry = line.strip()
        if _HASH.fullmatch(entry):
            hashes.add(entry.lower())
        elif entry and not entry.startswith("#"):
            broken.append(number)
    return Listed(frozenset(hashes), tuple(broken))


def ask(stdin: TextIO, prompt: Callable[[str], str] = getpass) -> str:
    """The value to add: typed unseen at a terminal, else all that stands on `stdin`. Raises Usage where there is none.

    It is never taken from the command line, which other users of the machine and the shell's history can read.
    """
    try:
        value = prompt("The exposed value (it is not shown): ") if stdin.isatty() else stdin.read(_LARGEST + 1)
    except (EOFError, UnicodeDecodeError):
        value = ""
    value = value.strip()
    if not value or len(value) > _LARGEST:
        found = "more than 64 KiB" if value else "no value, or no text"
        raise Usage(f"{found} on standard input", "Type the value when asked, or pipe it in: ./inv expose < FILE")
    return value


def add(path: Path, value: str, why: str, *, on: date, also: Sequence[Path] = ()) -> Added:
    """Appends the hash of `value` to the list at `path`, which is made where it is missing, with `on` and `why`.

    The file is replaced whole and is durable on return; two at once both get in. Raises Refused, and changes nothing,
    for a value of fewer than 8 characters, one that is on this list or one of `also` already, a reason that is not one
    line of 3 to 200 characters or that holds the value, and a list that cannot be read.
    """
    value, why = value.strip(), why.strip()
    if len(value) < SHORTEST:
        raise Refused(
            f"the value has {len(value)} characters; {SHORTEST} or more are required",
            "So short a value can be found from its hash. Replace the credential; do not list it.",
        )
    _judge_reason(value, why)
    path = Path(os.path.realpath(path))  # a list behind a link is changed where it lies
    entry = hashed(value)
    with _alone(path.parent):
        text = _text(path)
        for listed, content in ((path, text), *((other, _text(other)) for other in also)):
            if entry in _parsed(listed, content).hashes:
                raise Refused(f"this value is on {listed} already", "There is nothing to add.")
        text = text or _HEAD
        text += "" if text.endswith("\n") else "\n"
        _replace(path, f"{text}# {on.isoformat()}: {why}\n{entry}\n")
    return Added(path, entry)


def _judge_reason(value: str, why: str) -> None:
    if len(why) not in _REASON or not why.isprintable():
        raise Refused(
            "the reason is not one line of 3 to 200 characters",
            'Say when and how it got out: ./inv expose --why "pasted into a chat on 3 May"',
        )
    if Redactor([Secret(value)]).text(why) != why:
        raise Refused("the reason holds the value, or a part of it", "Say how it got out without repeating it.")


def _parsed(path: Path, text: str) -> Listed:
    listed = parse(text)
    if listed.broken:
        raise Refused(
            f"{path}:{listed.broken[0]}: neither a hash of 64 hex digits nor a comment",
            "Mend that line first. If it is a credential itself, take it out, and list it with ./inv expose.",
        )
    return listed


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Refused(f"{path} cannot be read: {why}", "Make it a readable text file, or remove it.") from None


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else adds to a list of this folder meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise Refused(f"{folder} cannot be opened: {error.strerror}", "Name a folder that exists.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _replace(path: Path, text: str) -> None:
    try:
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
        whole_file.write(path, text.encode(), mode=mode)
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}", "Give this user write permission there.") from None
