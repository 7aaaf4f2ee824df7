"""I3 in one process: a secret that a crash carries is in nothing a run says, records or leaves."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest

import commands
from pipeline import console, report, runner
from pipeline.contracts import World
from pipeline.errors import Exit, GatewayRefused, TollgateError
from pipeline.events import Event, Listener
from pipeline.lease import Owner
from pipeline.secrets import Redactor
from pipeline.verdict import Finding, failed
from tests.pipeline.rooms import NEW, OLD, Yard

WRITTEN: dict[str, Callable[[str], str]] = {
    "plain": str,
    "base64": lambda text: base64.b64encode(f"key={text}".encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "url": lambda text: quote(text, safe=""),
    "json": lambda text: json.dumps({"secret": text}),
    "split": lambda text: '" + "'.join([text[:9], text[9:]]),
}


@pytest.mark.parametrize("written", WRITTEN)
@pytest.mark.parametrize("check", ["gate.two", "proof.one"])
@pytest.mark.parametrize("how", ["crash", "refusal", "finding"])
async def test_secret_in_what_a_check_says(tmp_path: Path, how: str, check: str, written: str) -> None:
    """Whether a check crashes with a secret, is refused with one or finds one, before or after the switch: it stays."""
    yard = Yard(tmp_path)
    yard.verified(OLD)
    said = f"401 for {WRITTEN[written](yard.secret.reveal())}"

    async def say(_world: World) -> Finding:
        if how == "crash":
            raise ValueError(said)
        if how == "refusal":
            raise GatewayRefused(said, said)
        return failed(said, said, found=said)

    yard.says = {check: say}
    stream = io.StringIO()
    shown: list[Listener] = []

    def show(event: Event) -> None:
        shown[0](event)

    with yard.opened(release=NEW, listeners=[show]) as session:
        with console.listener("plain", stream, redactor=session.redactor) as listener:
            shown.append(listener)
            outcome = await runner.deploy(session, yard.plan(), Owner.this_process("run-1"))
        report.write(report.build(session.journal.entries("run-1")), tmp_path / "reports" / "run-1")
    assert outcome.exit in (Exit.REFUSED, Exit.PERSON_NEEDED)
    secrets = Redactor([yard.secret])
    assert secrets.found(said.encode())
    for text in [stream.getvalue(), *yard.output]:
        assert secrets.found(text.encode()) == ()
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"report.html", "report.json", "journal.sqlite"} <= {path.name for path in left}
    for path in left:
        assert secrets.found(path.read_bytes()) == (), path


async def test_secret_in_an_error_that_ends_the_command(tmp_path: Path) -> None:
    """An error that leaves the engine carries no secret to whoever prints it."""
    yard = Yard(tmp_path)
    with yard.opened(release=NEW) as session:
        error = TollgateError(f"said {yard.secret.reveal()}", f"try {yard.secret.reveal()}")
        commands.redact(error, session)
    assert (str(error), error.remedy) == ("said [redacted]", "try [redacted]")
