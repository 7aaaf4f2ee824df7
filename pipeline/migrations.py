"""What the commands of a database are asked and what is taken from their answers: the version of its schema."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pipeline.contracts import Commands, Completed, ReleaseId
from pipeline.errors import TargetError
from pipeline.secrets import MARK
from pipeline.words import one_line, printable

VERSION = "{version}"
"""In the argv of `revert`: the version that it goes back to."""
LONGEST = 100
"""Characters of a version."""
_LAST_WORDS = 300


async def done(commands: Commands, release: ReleaseId, argv: Sequence[str], timeout: float, *, what: str) -> Completed:
    """Runs a command of `database`. Raises TargetError with its last words unless it ends with 0.

    `what` is the key of pipeline.yaml that names it; `timeout` in s.
    """
    ended = await commands.run(release, argv, timeout=timeout)
    if ended.returncode != 0:
        said = last_words(ended) or "it printed nothing"
        raise TargetError(
            f"database.{what} of {release}: `{shlex.join(argv)}` ended with {ended.returncode}, expected 0: {said}",
            f"Run it by hand in the folder of {release} with its settings to see all of it.",
        )
    return ended


async def version(commands: Commands, release: ReleaseId, argv: Sequence[str], timeout: float) -> str:
    """The version of the schema as `argv` prints it. Raises TargetError for anything but one short line."""
    ended = await done(commands, release, argv, timeout, what="version")
    lines = ended.stdout.strip().splitlines()
    found = lines[0].strip() if len(lines) == 1 else ""
    if not found or len(found) > LONGEST or found.startswith("-") or not found.isprintable() or MARK in found:
        raise TargetError(
            f"database.version of {release}: `{shlex.join(argv)}` printed {_told(lines, found)}; one line of 1 to "
            f"{LONGEST} characters is allowed, no secret, no `-` at its start",
            "Let it print the version of the schema and nothing else.",
        )
    return found


def last_words(ended: Completed) -> str:
    """The end of what a command said, on one line."""
    return one_line(printable((ended.stderr.strip() or ended.stdout.strip())[-_LAST_WORDS:]))


def _told(lines: Sequence[str], found: str) -> str:
    if len(lines) != 1:
        return f"{len(lines)} lines"
    if MARK in found:
        return "a secret"
    return f"{len(found)} characters" if len(found) > LONGEST else repr(found)
