"""Commands that a release brings with it, on any host."""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Sequence
from pathlib import Path

from pipeline.contracts import Completed, ReleaseId
from pipeline.errors import CommandFailed, ReleaseNotReady
from targets.area import AreaOnHost

SCRIPT = Path(__file__).with_name("release_command.py")
MARGIN_S = 2.0
"""What starting may take beyond a command's own limit."""
_LAST_WORDS = 300


class CommandsOnHost:
    """Implements `contracts.Commands`. The settings never leave the host: what runs there reads them itself."""

    def __init__(self, area: AreaOnHost) -> None:
        self._area = area

    async def run(self, release: ReleaseId, argv: Sequence[str], *, timeout: float) -> Completed:
        """In any state but half-built: what went bad may have to take its migration back."""
        area = self._area
        await self._as_staged(release)
        script = await asyncio.to_thread(SCRIPT.read_bytes)
        fence = await area.fencing.ours()
        words = (area.ctl.python, "-I", "-S", "-", str(area.at.area), release, f"{timeout:g}", *argv)
        ended = await area.host.run(words, timeout=2 * timeout + MARGIN_S, stdin=script, fence=fence)
        if ended.returncode == -signal.SIGKILL:
            said = ended.stderr.strip()[-_LAST_WORDS:] or "it did not say why"
            raise CommandFailed(
                f"`{shlex.join(argv)}` of {release} was killed: {said}",
                "See what it waited for; when it only needs longer, raise `database.timeout`.",
            )
        return Completed(tuple(argv), ended.returncode, ended.stdout, ended.stderr)

    async def _as_staged(self, release: ReleaseId) -> None:
        area, at = self._area, self._area.at
        record = await area.read_json(at.state(release)) or {}
        await area.check_files(release, str(record.get("manifest", "")))
        (kept,) = await area.ctl.digests([at.kept_settings(release)])
        if not kept or kept != record.get("settings"):
            found = "are not those it was staged with" if kept else "are missing"
            raise ReleaseNotReady(
                f"release {release}: its kept settings, {at.kept_settings(release)}, {found}; its commands are not run",
                "Put that file back from a backup.",
            )
