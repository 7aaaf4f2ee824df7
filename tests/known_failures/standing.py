"""An environment of these tests as it stands: its releases, its doors, its live process."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

import httpx

import wiring
from pipeline.contracts import ReleaseId, ReleaseRecord
from pipeline.lease import LeaseInfo, held
from tests.crash import runs


def area(folder: Path) -> Path:
    return folder / ".tollgate" / "sandbox" / "target"


def live(folder: Path) -> str:
    """What the link says and what runs; an error where they disagree."""

    async def look() -> str:
        chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
        found = await (await wiring.looking_at(chosen)).traffic.live()
        assert found is not None
        return found

    return asyncio.run(look())


def releases(folder: Path) -> dict[ReleaseId, ReleaseRecord]:
    async def look() -> dict[ReleaseId, ReleaseRecord]:
        chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
        return {one.id: one for one in await (await wiring.looking_at(chosen)).releases.all()}

    return asyncio.run(look())


def states(folder: Path) -> dict[str, str]:
    return {name: one.state.value for name, one in releases(folder).items()}


def newer(folder: Path) -> str:
    """One more release, newer than all others, is live and verified."""
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}Z-{token_hex(3)}"
    asyncio.run(runs.make_verified(folder, name))
    return name


def process_variables(folder: Path) -> dict[str, str]:
    """The environment of the process that serves: what the release really runs with."""
    found = json.loads((area(folder) / "run" / "supervisor.json").read_text("utf-8"))["children"]
    running = [pid for pid, _ in found if Path(f"/proc/{pid}").exists()]
    texts = [Path(f"/proc/{pid}/environ").read_text("utf-8").split("\0") for pid in running]
    every = [dict(line.split("=", 1) for line in text if "=" in line) for text in texts]
    (one,) = [variables for variables in every if variables.get("RELEASE_ID") == live(folder)]
    return one


def page(folder: Path) -> int:
    """The status a visitor gets for the first page."""

    async def ask() -> int:
        chosen = wiring.choose(str(folder / "pipeline.yaml"), "sandbox")
        trusted = ssl.create_default_context(cafile=str(chosen.state / "tls" / "ca.pem"))
        async with httpx.AsyncClient(verify=trusted, trust_env=False, timeout=20) as client:
            return (await client.get(f"{await wiring.address(chosen)}/")).status_code

    return asyncio.run(ask())


def door(folder: Path, name: str) -> Path:
    return area(folder) / "shared" / name


def closed_by_a_person(folder: Path) -> dict[str, str]:
    """Maintenance is switched on by hand."""
    told = {"who": "thandi", "why": "stock-taking", "since": "2026-01-01T00:00:00+00:00", "proof": "", "run": ""}
    door(folder, "maintenance").write_text(json.dumps(told), "utf-8")
    return told


def said_at_the_door(folder: Path) -> dict[str, str]:
    """The maintenance switch without the proof that a run may put into it, so that its own proofs can pass."""
    found: dict[str, str] = json.loads(door(folder, "maintenance").read_text("utf-8"))
    return {**found, "proof": ""}


def doors(folder: Path) -> list[str]:
    """Those that are closed."""
    return sorted(name for name in ("maintenance", "payments-off") if door(folder, name).exists())


def fixed_files(folder: Path) -> dict[str, bytes | str]:
    """Every file of the target that only a run may change."""
    found = {str(path.relative_to(area(folder))): path for path in area(folder).rglob("*")}
    return {
        name: str(path.readlink()) if path.is_symlink() else path.read_bytes()
        for name, path in found.items()
        if ((path.is_symlink() or path.is_file()) and name.startswith(("releases/", "states/", "settings/", "current")))
        or name in ("shared/maintenance", "shared/payments-off")
    }


def lease(folder: Path) -> LeaseInfo | None:
    return held(area(folder) / "lease.sqlite")


def broken_invariants(folder: Path) -> list[str]:
    return asyncio.run(runs.broken_invariants(folder))
