"""The local target: releases staged, served, switched, closed and pruned by a real supervisor with real processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from pipeline.contracts import ReleaseId, ReleaseState, SwitchName, SwitchOn
from pipeline.errors import LeaseLost, ReleaseNotReady, TargetError
from targets import service_address, status_local, stop_local, up_local
from tests.targets.areas import TestArea, artifact_in, opened, started, stopped_after, until

R1, R2, R3 = ReleaseId("20260101T000000-aaaaaaa"), ReleaseId("20260102T000000-bbbbbbb"), ReleaseId("20260103T000000-c")


@pytest.fixture
async def area(tmp_path: Path) -> AsyncIterator[TestArea]:
    async with stopped_after(tmp_path / "area"):
        yield await opened(tmp_path / "area")


# ---- staging -----------------------------------------------------------------------------------------------


async def test_staged_release_is_whole_and_private(area: TestArea) -> None:
    """A staged release has every byte and mode of its artifact, and its settings are readable by its owner alone."""
    record = await area.target.releases.stage(R1, artifact_in(area.path.parent / "artifact"), {"GREETING": "hi"})
    folder = area.path / "releases" / R1
    assert record.state == ReleaseState.STAGED
    assert (folder / "public" / "index.html").read_text(encoding="utf-8") == "<h1>café</h1>"
    assert os.access(folder / "tool.sh", os.X_OK)
    for private in (folder / "settings.json", area.path / "settings" / f"{R1}.json", area.path / "run" / "salt"):
        assert private.stat().st_mode & 0o777 == 0o600
    assert record.settings == await area.target.settings.kept(R1) == await area.target.settings.in_force(R1)
    assert await area.target.releases.all() == [record]


async def test_staging_is_repeatable(area: TestArea) -> None:
    """Staging the same bytes and settings again changes nothing, so a resumed run may repeat the step."""
    artifact = artifact_in(area.path.parent / "artifact")
    first = await area.target.releases.stage(R1, artifact, {"GREETING": "hi"})
    await area.target.releases.mark(R1, ReleaseState.VERIFIED, "proven")
    again = await area.target.releases.stage(R1, artifact, {"GREETING": "hi"})
    assert (again.state, again.manifest, again.settings) == (ReleaseState.VERIFIED, first.manifest, first.settings)


async def test_verified_release_never_changes(area: TestArea) -> None:
    """Other settings under the name of a verified release are refused, and the release stays as it was."""
    artifact = artifact_in(area.path.parent / "artifact")
    await area.target.releases.stage(R1, artifact, {"GREETING": "hi"})
    await area.target.releases.mark(R1, ReleaseState.VERIFIED, "proven")
    with pytest.raises(TargetError, match="never changes"):
        await area.target.releases.stage(R1, artifact, {"GREETING": "ho"})
    assert await area.target.settings.values(R1) == {"GREETING": "hi"}


async def test_half_staged_release_is_building_and_is_staged_anew(area: TestArea) -> None:
    """A folder without a readable record counts as building, never serves, and a repeated staging replaces it."""
    folder = area.path / "releases" / R1
    folder.mkdir(parents=True)
    (folder / "left-over").write_text("half")
    assert [(r.id, r.state) for r in await area.target.releases.all()] == [(R1, ReleaseState.BUILDING)]
    with pytest.raises(ReleaseNotReady, match="building"):
        await area.target.traffic.activate(R1)
    await area.stage(R1)
    assert not (folder / "left-over").exists()


@pytest.mark.parametrize("name", ["../outside", "a/b", "", ".hidden", "-rf", "x" * 65])
async def test_release_name_never_becomes_a_path(area: TestArea, name: str) -> None:
    """A release name that is not a plain name is refused before anything is written."""
    with pytest.raises(TargetError, match="release name"):
        await area.stage(name)
    assert not area.path.exists()


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "link").symlink_to("/etc/passwd"), "link"),
        (lambda folder: (folder / "settings.json").write_text("{}"), "settings.json"),
        (lambda folder: (folder / "two\nlines").write_text(""), "control character"),
        (lambda folder: os.mkfifo(folder / "pipe"), "special file"),
    ],
)
async def test_odd_artifact_is_refused_by_name(area: TestArea, spoil: object, says: str) -> None:
    """An artifact with a link, a pipe, a reserved or an unprintable name is refused with the name of that file."""
    artifact = artifact_in(area.path.parent / "artifact")
    spoil(artifact)  # type: ignore[operator]
    with pytest.raises(TargetError, match=says):
        await area.target.releases.stage(R1, artifact, {"GREETING": "hi"})


async def test_states_keep_their_history(area: TestArea) -> None:
    """A record keeps every state the release was in, with when and why."""
    await area.stage(R1)
    await area.target.releases.mark(R1, ReleaseState.BAD, "webhook 500")
    history = json.loads((area.path / "states" / f"{R1}.json").read_text())["history"]
    assert [entry["state"] for entry in history] == ["building", "staged", "bad"]
    assert history[-1]["why"] == "webhook 500"


# ---- looking -----------------------------------------------------------------------------------------------


async def test_looking_starts_and_writes_nothing(area: TestArea) -> None:
    """A target that is only looked at stays untouched: no folder, no process, and no lease is asked for."""
    assert await area.target.traffic.live() is None
    assert await area.target.releases.all() == []
    assert await area.target.switches.read(SwitchName.MAINTENANCE) is None
    assert await area.target.settings.in_force(R1) == ""
    assert await service_address(area.path) is None
    assert not await stop_local(area.path)
    assert (area.path.exists(), area.lease.asked) == (False, 0)


async def test_link_without_supervisor_is_said_to_be_down(area: TestArea) -> None:
    """When `current` names a release but no supervisor runs, nothing is reported as live."""
    await area.live(R1)
    await stop_local(area.path)
    with pytest.raises(TargetError, match="no supervisor runs"):
        await area.target.traffic.live()


# ---- serving -----------------------------------------------------------------------------------------------


async def test_service_is_closed_before_its_first_release(area: TestArea) -> None:
    """A supervisor without a release answers 503 with Retry-After to every page, on the address it will keep."""
    address = await up_local(area.target)
    answer = await area.ask("/api/payments")
    assert (answer.status_code, int(answer.headers["Retry-After"]) > 0) == (503, True)
    assert answer.json() == {"error": "closed for a moment; nothing was changed"}
    assert "already made are safe" in (await area.ask()).text
    assert await area.target.traffic.live() is None
    await area.live(R1)
    assert await service_address(area.path) == address


async def test_closed_page_hears_a_sender_out(area: TestArea) -> None:
    """A webhook or form sent to a closed service gets its 503 and not a reset, so that the sender repeats it later."""
    address = await up_local(area.target)
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
        answer = await client.post(f"{address}/api/webhooks/ikhokha", content=b"x" * 3_000_000)
        assert (answer.status_code, answer.headers["Connection"]) == (503, "close")
        assert (await client.head(address)).content == b""


async def test_process_sees_its_settings_and_nothing_of_ours(area: TestArea, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release runs with its own settings and the contract's variables; the operator's environment stays outside."""
    monkeypatch.setenv("OPERATORS_OWN_TOKEN", "not for a service")
    await area.live(R1)
    body = (await area.ask()).json()
    assert (body["release"], body["greeting"]) == (R1, f"hello from {R1}")
    assert body["public_url"] == await service_address(area.path)
    assert "TILL_KEY" in body["variables"]
    assert not {"OPERATORS_OWN_TOKEN", "PORT"} & set(body["variables"])


async def test_switch_and_back(area: TestArea) -> None:
    """Activating a release makes it the only one that serves, and the one before can be put back the same way."""
    await area.live(R1)
    await area.live(R2)
    assert (await area.ask()).json()["release"] == await area.target.traffic.live() == R2
    await area.target.traffic.activate(R1)
    assert (await area.ask()).json()["release"] == await area.target.traffic.live() == R1
    assert (area.path / "current").readlink() == Path(f"releases/{R1}")


async def test_activating_twice_leaves_the_process_alone(area: TestArea) -> None:
    """A release that serves as it should is not restarted when it is activated again."""
    await area.live(R1)
    before = (await area.status())["serving"]
    await area.target.traffic.activate(R1)
    assert (await area.status())["serving"] == before


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        ("crash on start", r"exit code 7 before it was ready\n  \| .*\n  \| cannot open the till"),
        ("never ready", "not ready within"),
    ],
)
async def test_bad_release_leaves_the_old_one_serving(tmp_path: Path, behaviour: str, says: str) -> None:
    """A release that crashes or never gets ready is refused with its log's end, and the old one serves on."""
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area", ready_within=3.0)
        await area.live(R1)
        bad = await area.stage(R2, behaviour)
        with pytest.raises(ReleaseNotReady, match=says):
            await area.target.traffic.activate(bad)
        assert (await area.ask()).json()["release"] == await area.target.traffic.live() == R1
        status = await area.status()
        assert (status["starting"], len(status["serving"])) == ([], 1)


@pytest.mark.parametrize("state", [ReleaseState.BAD, ReleaseState.BUILDING])
async def test_bad_and_half_built_releases_never_serve(area: TestArea, state: ReleaseState) -> None:
    """A release marked bad or building is refused before any process is started."""
    await area.stage(R1)
    await area.target.releases.mark(R1, state, "a test says so")
    with pytest.raises(ReleaseNotReady, match=state.value):
        await area.target.traffic.activate(R1)
    assert not (await area.status())["up"]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: (folder / "public" / "index.html").write_text("defaced"), r"public/index\.html"),
        (lambda folder: (folder / "tool.sh").unlink(), r"tool\.sh' is missing"),
        (lambda folder: (folder / "service" / "extra.py").write_text(""), r"extra\.py' is not part of it"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), r"manifest\.json"),
    ],
)
async def test_changed_release_is_refused_by_file(area: TestArea, spoil: object, says: str) -> None:
    """A release whose folder is not byte for byte what was staged never serves, and the file is named."""
    await area.stage(R1)
    spoil(area.path / "releases" / R1)  # type: ignore[operator]
    with pytest.raises(ReleaseNotReady, match=says):
        await area.target.traffic.activate(R1)


async def test_close_and_reopen(area: TestArea) -> None:
    """A closed service answers 503 from the target itself, stays closed after a restart, and opens with a release."""
    await area.live(R1)
    await area.target.traffic.close()
    assert (await area.target.traffic.live(), (await area.ask()).status_code) == (None, 503)
    await stop_local(area.path)
    await up_local(area.target)
    assert (await area.target.traffic.live(), (await area.ask()).status_code) == (None, 503)
    await area.target.traffic.activate(R1)
    assert (await area.ask()).status_code == 200


async def test_rehearsal_touches_no_traffic(area: TestArea) -> None:
    """A rehearsed release says it is ready on a spare port while the live one serves, and is gone afterwards."""
    await area.live(R1)
    await area.stage(R2)
    rehearsed = await area.target.traffic.rehearse(R2)
    assert (rehearsed.release, rehearsed.body["database"]) == (R2, "ok")
    assert await area.target.traffic.live() == R1
    assert len(json.loads((area.path / "run" / "supervisor.json").read_text())["children"]) == 1


async def test_failed_rehearsal_shows_the_log(tmp_path: Path) -> None:
    """A release that cannot start fails its rehearsal with the end of its log."""
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area")
        bad = await area.stage(R1, "crash on start")
        with pytest.raises(ReleaseNotReady, match="cannot open the till"):
            await area.target.traffic.rehearse(bad)


# ---- half states -------------------------------------------------------------------------------------------


async def test_half_switched_is_named_and_mended(area: TestArea) -> None:
    """A link that names another release than the one that serves is reported with both, and activating mends it."""
    await area.live(R1)
    await area.stage(R2)
    (area.path / "current").unlink()
    (area.path / "current").symlink_to(f"releases/{R2}")
    with pytest.raises(TargetError, match=f"`current` names {R2}, but {R1} serves"):
        await area.target.traffic.live()
    await area.target.traffic.activate(R1)
    assert await area.target.traffic.live() == R1


async def test_two_at_once_is_named_and_mended(area: TestArea) -> None:
    """A switch that ended between start and link is a half state; activating either release finishes it."""
    await area.live(R1)
    await area.stage(R2)
    client = area.path / "run" / "supervisor_client.py"
    done = await area.target.host.run(["python3", str(client), "ctl", str(area.path), "start", R2], timeout=30)
    assert done.returncode == 0
    with pytest.raises(TargetError, match=f"{R1} and {R2} serves"):
        await area.target.traffic.live()
    await area.target.traffic.activate(R1)
    assert (await area.ask()).json()["release"] == await area.target.traffic.live() == R1


async def test_settings_edited_by_hand_restart_the_release(area: TestArea) -> None:
    """A process that runs with other settings than its file holds is started anew when its release is activated."""
    await area.live(R1)
    settings = area.path / "releases" / R1 / "settings.json"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "GREETING": "edited"}))
    assert (await area.status())["serving"][0]["drifted"]
    await area.target.traffic.activate(R1)
    assert (await area.ask()).json()["greeting"] == "edited"
    await area.target.settings.put_back(R1)
    assert await area.target.settings.in_force(R1) == await area.target.settings.kept(R1)
    await area.target.traffic.activate(R1)
    assert (await area.ask()).json()["greeting"] == f"hello from {R1}"
    assert len((await area.status())["serving"]) == 1


async def test_forged_kept_settings_are_not_put_back(area: TestArea) -> None:
    """A kept copy that is not what the release was staged with is refused, and the file in force stays."""
    await area.stage(R1)
    before = await area.target.settings.in_force(R1)
    (area.path / "settings" / f"{R1}.json").write_text("{}")
    with pytest.raises(TargetError, match="is not what the release was staged with"):
        await area.target.settings.put_back(R1)
    assert await area.target.settings.in_force(R1) == before


async def test_lost_lease_stops_every_change(area: TestArea) -> None:
    """A run that lost its lease changes nothing: no state, no switch, no traffic."""
    await area.live(R1)
    await area.stage(R2)
    area.lease.lost = LeaseLost("another run took over")
    on = SwitchOn("a test", "why", "now")
    for change in (
        area.target.traffic.activate(R2),
        area.target.traffic.close(),
        area.target.releases.mark(R2, ReleaseState.BAD, "no"),
        area.target.switches.write(SwitchName.MAINTENANCE, on),
        area.target.settings.put_back(R1),
    ):
        with pytest.raises(LeaseLost):
            await change
    assert await area.target.traffic.live() == R1
    assert await area.target.switches.read(SwitchName.MAINTENANCE) is None
    assert (await area.target.releases.all())[0].state == ReleaseState.STAGED


# ---- deaths ------------------------------------------------------------------------------------------------


async def test_release_that_dies_is_started_again(area: TestArea) -> None:
    """A release that dies unasked is started again with nobody's help, on the same address."""
    await area.live(R1)
    (before,) = (await area.status())["serving"]
    os.kill(before["pid"], signal.SIGKILL)

    async def back() -> bool:
        serving = (await area.status())["serving"]
        return bool(serving) and serving[0]["pid"] != before["pid"]

    await until(back)
    assert (await area.ask()).json()["release"] == await area.target.traffic.live() == R1


def _break(area: TestArea, release: ReleaseId, program: str = "raise SystemExit(1)") -> None:
    """From its next start on, the release does something else: it ends with an error, or what `program` says."""
    (area.path / "releases" / release / "service" / "__main__.py").write_text(program + "\n")


async def test_release_comes_back_with_the_settings_it_was_staged_with(area: TestArea) -> None:
    """A release that dies after somebody edited its settings by hand comes back with those it was staged with."""
    await area.live(R1)
    settings = area.path / "releases" / R1 / "settings.json"
    staged = settings.read_bytes()
    settings.write_text(json.dumps({**json.loads(staged), "BEHAVIOUR": "crash on start"}))
    died = (await area.status())["serving"][0]["pid"]
    os.kill(died, signal.SIGKILL)

    async def came_back() -> bool:
        return any(one["pid"] != died and one["release"] == R1 for one in (await area.status())["serving"])

    await until(came_back)
    assert settings.read_bytes() == staged
    assert settings.stat().st_mode & 0o777 == 0o600


async def test_release_that_dies_again_and_again_is_given_up(tmp_path: Path) -> None:
    """A release that keeps dying is given up and the service closes; a good release opens it again."""
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area")
        await area.live(R1)
        _break(area, R1)
        os.kill((await area.status())["serving"][0]["pid"], signal.SIGKILL)

        async def given_up() -> bool:
            status = await area.status()
            return bool(status["gave_up"] == R1 and status["serving"])

        await until(given_up)
        assert (await area.target.traffic.live(), (await area.ask()).status_code) == (None, 503)
        await area.live(R2)
        assert (await area.ask()).json()["release"] == R2


async def test_release_that_dies_right_after_it_was_ready_leaves_the_old_one(area: TestArea) -> None:
    """A release that says it is ready and dies is refused, and link and traffic are as they were before."""
    bad = await area.stage(R1, "dies when ready")
    with pytest.raises(ReleaseNotReady):
        await area.target.traffic.activate(bad)
    assert (await area.target.traffic.live(), (await area.ask()).status_code) == (None, 503)
    await area.live(R2)
    bad = await area.stage(R3, "dies when ready")
    with pytest.raises(ReleaseNotReady):
        await area.target.traffic.activate(bad)
    assert (await area.ask()).json()["release"] == await area.target.traffic.live() == R2


async def test_order_does_not_wait_for_a_dead_release(tmp_path: Path) -> None:
    """While a dead release is being brought back and does not get ready, another one can take its place at once."""
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area", ready_within=600.0)
        await area.live(R1)
        await area.stage(R2)
        _break(area, R1, "import time; time.sleep(600)")
        os.kill((await area.status())["serving"][0]["pid"], signal.SIGKILL)

        async def tried_again() -> bool:
            return bool((await area.status())["starting"])

        await until(tried_again)
        await area.target.traffic.activate(R2)
        assert (await area.ask()).json()["release"] == await area.target.traffic.live() == R2
        assert (await area.status())["starting"] == []


async def test_interrupted_switch_leaves_no_candidate(tmp_path: Path) -> None:
    """When a run is interrupted while a release starts, that release is ended and the old one serves on."""
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area", ready_within=600.0)
        await area.live(R1)
        switch = asyncio.ensure_future(area.target.traffic.activate(await area.stage(R2, "never ready")))

        async def starting() -> bool:
            return bool((await area.status())["starting"])

        async def alone() -> bool:
            status = await area.status()
            return [len(status[kind]) for kind in ("serving", "starting", "draining")] == [1, 0, 0]

        await until(starting)
        switch.cancel()
        await until(alone)
        assert (await area.ask()).json()["release"] == await area.target.traffic.live() == R1


async def test_killed_supervisor_takes_nothing_down(area: TestArea) -> None:
    """When the supervisor is killed its release serves on, and the next change brings a supervisor up beside it."""
    await area.live(R1)
    address = await service_address(area.path)
    state = json.loads((area.path / "run" / "supervisor.json").read_text())
    os.kill(state["pid"], signal.SIGKILL)

    async def gone() -> bool:
        return not started(state["pid"])

    await until(gone)
    assert not (await status_local(area.path))["up"]
    await area.target.traffic.activate(R1)
    assert await service_address(area.path) == address
    assert await area.target.traffic.live() == R1
    orphan = state["children"][0][0]

    async def drained() -> bool:
        return not started(orphan)

    await until(drained)
    assert (await area.ask()).json()["release"] == R1


async def test_release_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    """A release that ignores the request to stop is killed once its time to drain is over."""
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area", drain_within=0.5)
        await area.live(R1, "never stops")
        (old,) = (await area.status())["serving"]
        await area.live(R2)

        async def killed() -> bool:
            return not started(old["pid"])

        await until(killed)
        assert await area.target.traffic.live() == R2


async def test_restart_comes_up_with_the_linked_release_on_the_old_port(area: TestArea) -> None:
    """After a stop, the supervisor comes up with the release `current` names, on the address it had."""
    await area.live(R1)
    address = await service_address(area.path)
    await stop_local(area.path)
    assert await up_local(area.target) == address
    assert (await area.ask()).json()["release"] == R1


async def test_unused_supervisor_ends(tmp_path: Path) -> None:
    """A supervisor nobody uses for its idle time ends with its release, and leaves no process behind."""
    async with stopped_after(tmp_path / "area"):
        area = await opened(tmp_path / "area", idle=0.5)
        await area.live(R1)
        state = json.loads((area.path / "run" / "supervisor.json").read_text())
        pids = [state["pid"], *(pid for pid, _ in state["children"])]

        async def ended() -> bool:
            return not any(started(pid) for pid in pids)

        await until(ended)


async def test_control_is_private(area: TestArea) -> None:
    """Only the owner can reach the control socket, and a command nobody knows is refused."""
    await up_local(area.target)
    control = Path(json.loads((area.path / "run" / "supervisor.json").read_text())["control"])
    assert control.parent.stat().st_mode & 0o777 == 0o700
    assert (area.path / "run" / "supervisor.json").stat().st_mode & 0o777 == 0o600


# ---- pruning -----------------------------------------------------------------------------------------------


async def test_prune_keeps_what_can_be_gone_back_to(area: TestArea) -> None:
    """Pruning removes bad, stale and surplus releases; the live, the newest verified and newer staged ones stay."""
    names = [ReleaseId(f"2026010{day}T000000-{day}") for day in range(1, 8)]
    for name in names:
        await area.stage(name)
    for name in (names[0], names[1], names[3], names[4]):
        await area.target.releases.mark(name, ReleaseState.VERIFIED, "proven")
    await area.target.releases.mark(names[2], ReleaseState.BAD, "was bad")
    await area.target.traffic.activate(names[4])
    removed = await area.target.releases.prune(2)
    assert set(removed) == {names[0], names[1], names[2]}
    assert [r.id for r in await area.target.releases.all()] == [names[6], names[5], names[4], names[3]]
    assert {p.name for p in (area.path / "settings").iterdir()} == {f"{n}.json" for n in names[3:]}
    assert {p.name for p in (area.path / "states").iterdir()} == {f"{n}.json" for n in names[3:]}


async def test_prune_never_removes_the_last_verified(area: TestArea) -> None:
    """The last verified release stays although a newer one serves that is not verified yet."""
    await area.stage(R1)
    await area.target.releases.mark(R1, ReleaseState.VERIFIED, "proven")
    await area.stage(R2)
    await area.target.traffic.activate(R2)
    assert await area.target.releases.prune(0) == []


# ---- switches ----------------------------------------------------------------------------------------------


async def test_switch_that_cannot_be_read_is_on(area: TestArea) -> None:
    """A torn switch file counts as on: a door is never opened by an accident."""
    on = SwitchOn("a test", "why", "2026-01-01T00:00:00Z", "ab" * 32)
    await area.target.switches.write(SwitchName.PAYMENTS_OFF, on)
    assert await area.target.switches.read(SwitchName.PAYMENTS_OFF) == on
    (area.path / "shared" / "payments-off").write_text('{"who": ')
    assert await area.target.switches.read(SwitchName.PAYMENTS_OFF) is not None
    await area.target.switches.write(SwitchName.PAYMENTS_OFF, None)
    assert await area.target.switches.read(SwitchName.PAYMENTS_OFF) is None
