"""What a way back goes by that today's files no longer say: the kept pipeline.yaml, the kept gateway."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import RecordDamaged
from pipeline.events import Entry, Kind
from pipeline.kept_spec import FOLDER, RUNS, keep, last, prune
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


def test_copies_are_kept_of_the_last_runs_on_record(tmp_path: Path) -> None:
    """Only what none of the last runs that change something went by is removed, nor what was kept since they began."""
    specs = [f"version: {number}\n".encode() for number in range(RUNS + 3)]
    for spec in specs:
        keep(tmp_path, spec)
    files = {spec: tmp_path / FOLDER / f"{hashlib.sha256(spec).hexdigest()}.yaml" for spec in specs}
    for file in files.values():
        os.utime(file, (0, 0))
    looked = [begun(f"look-{number}", b"other", "validate") for number in range(RUNS)]
    runs = [begun(f"run-{number}", spec) for number, spec in enumerate(specs)]
    prune(tmp_path, lambda: [*runs[: RUNS - 1], *looked])
    assert all(file.exists() for file in files.values()), "with fewer runs on record all stay"
    keep(tmp_path, specs[0])
    prune(tmp_path, lambda: [*runs, *looked])
    assert [number for number, spec in enumerate(specs) if not files[spec].exists()] == [1, 2]
    assert last(tmp_path, [*runs, *looked]) is not None


def test_nothing_is_pruned_by_a_record_that_cannot_be_read(tmp_path: Path) -> None:
    """A broken record names no run, so every copy stays, and the run goes on."""

    def damaged() -> list[Entry]:
        raise RecordDamaged("entry 7 is not what was written")

    for number in range(RUNS + 1):
        keep(tmp_path, f"version: {number}\n".encode())
    prune(tmp_path, damaged)
    prune(tmp_path / "not there", list)
    assert len(list((tmp_path / FOLDER).iterdir())) == RUNS + 1


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
