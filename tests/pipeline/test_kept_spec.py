"""What a way back goes by that today's files no longer say: the kept pipeline.yaml, the kept gateway."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.events import Entry, Kind
from pipeline.kept_spec import FOLDER, keep, last
from tests.pipeline.rooms import OLD, Yard

SPEC = b"version: 1\n"


def begun(run: str, content: bytes, verb: str = "deploy") -> Entry:
    data = {"verb": verb, "spec_digest": hashlib.sha256(content).hexdigest()}
    return Entry(1, run, datetime(2026, 1, 1, tzinfo=UTC), Kind.RUN_STARTED, data, "", "")


def test_the_spec_of_the_last_run_that_changes_something_stands_in(tmp_path: Path) -> None:
    """What stands in is what the last deploy or rollback went by, not what somebody only looked with since."""
    keep(tmp_path, SPEC)
    keep(tmp_path, b"newer")
    entries = [begun("run-1", b"newer"), begun("run-2", SPEC, "rollback"), begun("run-3", b"other", "validate")]
    found = last(tmp_path, entries)
    assert found is not None and (found.run, found.path.read_bytes()) == ("run-2", SPEC)
    assert found.path.stat().st_mode & 0o077 == 0


def test_an_older_spec_never_stands_in_for_one_that_was_not_kept(tmp_path: Path) -> None:
    """Where the last run's is missing or was changed, nothing stands in: an older one may lead elsewhere."""
    keep(tmp_path, SPEC)
    assert last(tmp_path, [begun("run-1", SPEC), begun("run-2", b"not kept")]) is None
    next((tmp_path / FOLDER).iterdir()).write_bytes(b"changed")
    assert last(tmp_path, [begun("run-1", SPEC)]) is None
    keep(tmp_path, SPEC)
    assert last(tmp_path, [begun("run-1", SPEC)]) is not None
    assert last(tmp_path, []) is None


def test_a_run_goes_on_where_its_spec_cannot_be_kept(tmp_path: Path) -> None:
    """A copy that cannot be written stops nothing, least of all a rollback on a full disk."""
    (tmp_path / FOLDER).write_text("a file in its place", "utf-8")
    keep(tmp_path, SPEC)
    assert last(tmp_path, [begun("run-1", SPEC)]) is None


async def test_proofs_of_a_release_ask_the_gateway_it_was_verified_with(tmp_path: Path) -> None:
    """A way back proves a release with the gateway of its own settings; those of today may name another, or none."""
    yard = Yard(tmp_path)
    yard.verified(OLD)
    with yard.opened() as session:
        own = await session.of_release(OLD)
        other = await replace(session, gateway_at=lambda given: given.text("API_SECRET")).of_release(OLD)
    assert (own.addresses.gateway, other.addresses.gateway) == ("https://till.test", f"of {OLD}")
