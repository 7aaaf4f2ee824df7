"""What git knows of a revision that somebody signed for: is it in our history, and what has changed since."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path

from pipeline import command
from pipeline.contracts import Completed
from pipeline.errors import CommandFailed
from pipeline.facts import Facts
from pipeline.secrets import Redactor

_LIMIT_S = 30.0
_OF_ANOTHER_CHECKOUT = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR")
"""What a hook leaves in the environment; with it `-C` would not decide which checkout is asked."""
_BLOB = re.compile(r"100(?:644|755) blob (?P<id>[0-9a-f]{40,64})\t")
"""An ordinary file in what `git ls-tree` prints; a symbolic link has another mode."""


@dataclass(frozen=True)
class Checkout:
    """A git checkout at one moment: nothing is asked twice. `head` is '' where there is none; `problem` says why.

    `shallow`: old revisions are missing, so that nothing can be said of them.
    """

    root: Path
    head: str
    shallow: bool = False
    problem: str = ""
    known: Facts = field(default_factory=Facts, compare=False)

    async def _git(self, *args: str) -> Completed:
        return await self.known.once(args, lambda: _git(self.root, *args))

    async def holds(self, revision: str) -> bool | None:
        """Whether `revision` is HEAD or one before it; None when a shallow clone cannot tell."""
        done = await self._git("merge-base", "--is-ancestor", revision, self.head)
        if done.returncode == 0:
            return True
        return None if self.shallow else False

    async def same_since(self, revision: str, but: str) -> bool:
        """Whether no tracked file differs from `revision`, commits and the working tree counted; `but` left out.

        A file that git was told not to look at (`update-index --assume-unchanged`, `--skip-worktree`) may differ.
        """
        everything = (":/", f":(exclude){but}")
        quiet = ("diff", "--quiet", "--no-ext-diff", "--ignore-submodules=untracked")
        if (await self._git(*quiet, revision, "--", *everything)).returncode != 0:
            return False
        listed = await self._git("ls-files", "-v", "-z", "--", *everything)
        hidden = any(line[:1].islower() or line[:1] == "S" for line in listed.stdout.split("\0"))
        return listed.returncode == 0 and not hidden

    async def committed(self, path: str) -> bool:
        """Whether `path` (relative to the root) is an ordinary file whose very bytes are those that HEAD has.

        Bytes are compared, not what `git diff` says: that can be told to look away, and takes a link for its target.
        """
        kept = _BLOB.match((await self._git("ls-tree", self.head, "--", path)).stdout)
        if kept is None or (self.root / path).is_symlink():
            return False
        here = await self._git("hash-object", "--no-filters", "--", path)
        return here.returncode == 0 and here.stdout.strip() == kept["id"]


async def checkout(root: Path) -> Checkout:
    """The checkout that `root` lies in. Never raises: what is missing is in `problem`."""
    try:
        head = await _git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if head.returncode != 0:
            said = head.stderr.strip().splitlines()
            return Checkout(root, "", problem=said[0] if said else "no git checkout with a commit")
        shallow = await _git(root, "rev-parse", "--is-shallow-repository")
    except CommandFailed as error:
        return Checkout(root, "", problem=str(error))
    return Checkout(root, head.stdout.strip(), shallow.stdout.strip() != "false")


async def _git(root: Path, *args: str) -> Completed:
    environment = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_CHECKOUT}
    argv = ("git", "--no-replace-objects", "-C", str(root), "-c", "core.fsmonitor=false", *args)
    return await command.run(
        argv, timeout=_LIMIT_S, redactor=Redactor([]), env={**environment, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    )
