"""git, asked about a checkout: bounded in time and size, and it changes nothing.

Only reading commands belong here. What git cannot tell is a finding INCONCLUSIVE, raised as Unjudged.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from checks.judging import Unjudged
from pipeline import command
from pipeline.errors import CommandFailed
from pipeline.secrets import Redactor
from pipeline.verdict import Finding, inconclusive

_LIMIT_S = 30.0
_LIMIT_BYTES = 32_000_000
_CUT = "bytes left out ...]"
_HARMLESS = ("core.fsmonitor=false", "core.pager=cat", "log.showSignature=false")
"""A repository's own configuration must not make a reading command start another program."""


async def ask(folder: Path, *args: str, timeout: float = _LIMIT_S) -> str:
    """What `git ARGS` prints in `folder`; bytes that are no UTF-8 are replaced. Raises Unjudged when it fails."""
    code, out, err = await answer(folder, *args, timeout=timeout)
    if code != 0:
        first = next(iter(err.strip().splitlines()), f"it ended with {code}")
        raise Unjudged(unanswered(folder, args, first))
    return out


async def answer(folder: Path, *args: str, timeout: float = _LIMIT_S) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `git ARGS`. Raises Unjudged when git is missing, too slow or says too much."""
    settings = (part for setting in _HARMLESS for part in ("-c", setting))
    try:
        done = await command.run(
            ("git", "--no-replace-objects", *settings, *args),
            timeout=timeout,
            redactor=Redactor(),
            cwd=folder,
            env=_environment(os.environ),
            limit_bytes=_LIMIT_BYTES,
        )
    except CommandFailed as error:
        raise Unjudged(unanswered(folder, args, str(error))) from error
    if len(done.stdout) >= _LIMIT_BYTES // 4 and _CUT in done.stdout:
        raise Unjudged(unanswered(folder, args, f"it printed more than {_LIMIT_BYTES // 1_000_000} MB"))
    return done.returncode, done.stdout, done.stderr


def _environment(given: Mapping[str, str]) -> dict[str, str]:
    """Ours without what would point git to another repository, as inside a hook.

    The operator's configuration stays: where a checkout belongs to another user, `safe.directory` is in it.
    """
    kept = {
        name: value
        for name, value in given.items()
        if not name.startswith("GIT_") or (name.startswith("GIT_CONFIG_") and name != "GIT_CONFIG_PARAMETERS")
    }
    return kept | {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}


def unanswered(folder: Path, args: tuple[str, ...], why: str) -> Finding:
    return inconclusive(
        f"`git {' '.join(args)[:80]}` says nothing about {folder}: {why[:300]}",
        "Deploy from a git checkout that the deploying user owns (or names as `safe.directory`), with git installed.",
    )
