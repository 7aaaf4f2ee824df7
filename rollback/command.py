"""Checkpoint `command`: anything that three commands of the operator's capture, restore and confirm on this machine."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from pipeline.contracts import NAMED, Captured, Completed, Confirmation, RestoreContext
from pipeline.errors import CommandFailed, Refused
from pipeline.migrations import last_words
from pipeline.secrets import MARK

MOST_BYTES = 64_000
_REPLACED = "\ufffd"
"""What stands where bytes were no UTF-8."""


class CommandCheckpoint:
    """Captured: the `content` that was printed, and what restores and confirms it, argv included."""

    name = "command"
    reopens = False
    section = NAMED

    async def capture(self, context: RestoreContext) -> Captured:
        wanted = context.wanted
        if not wanted:
            raise Refused("checkpoint command: pipeline.yaml says nothing of it", "Name it under `checkpoints`.")
        timeout = float(wanted["timeout"])
        ended = await _done(context, wanted["capture"], timeout)
        return {
            "content": _kept_whole(wanted["capture"], ended),
            "restore": list(wanted["restore"]),
            "confirm": list(wanted["confirm"]),
            "timeout_s": timeout,
            "limit_s": 2 * timeout + 15,
        }

    async def restore(self, context: RestoreContext, captured: Captured) -> None:
        await _done(context, captured["restore"], float(captured["timeout_s"]), captured["content"].encode())

    async def confirm(self, context: RestoreContext, captured: Captured) -> Confirmation:
        argv, content = captured["confirm"], captured["content"].encode()
        ended = await context.here(argv, timeout=float(captured["timeout_s"]), stdin=content)
        said = last_words(ended)
        found = f"`{shlex.join(argv)}` ended with {ended.returncode}" + (f": {said}" if said else "")
        return Confirmation(ended.returncode == 0, found, f"`{shlex.join(argv)}` ends with 0")

    def in_words(self, captured: Captured) -> str:
        return f"`{shlex.join(captured['restore'])}` puts back what was captured"


async def _done(context: RestoreContext, argv: Sequence[str], timeout: float, stdin: bytes = b"") -> Completed:
    ended = await context.here(argv, timeout=timeout, stdin=stdin)
    if ended.returncode != 0:
        raise CommandFailed(
            f"`{shlex.join(argv)}` ended with {ended.returncode}, expected 0: {last_words(ended) or 'it said nothing'}",
            "Run it by hand in the folder of pipeline.yaml to see all of it.",
            returncode=ended.returncode,
        )
    return ended


def _kept_whole(argv: Sequence[str], ended: Completed) -> str:
    """What was printed, where the record can keep all of it. Raises Refused: half of it could not be put back."""
    size = len(ended.stdout.encode("utf-8", "replace"))
    flaws = {
        "nothing, so there is nothing to put back": not ended.stdout,
        f"{size} bytes": size > MOST_BYTES,
        "bytes that are no UTF-8": _REPLACED in ended.stdout,
        "a secret, which the record does not keep": MARK in ended.stdout,
    }
    for found in (found for found, is_so in flaws.items() if is_so):
        raise Refused(
            f"checkpoint command: `{shlex.join(argv)}` printed {found}; UTF-8 of 1 to {MOST_BYTES} bytes without a "
            "secret is allowed",
            "Let it print what has to be put back; a larger or secret thing it can keep in a file and print its name.",
        )
    return ended.stdout


CHECKPOINT = CommandCheckpoint()
