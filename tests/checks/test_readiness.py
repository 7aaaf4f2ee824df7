"""drill.recent, clock.agrees and artifact.as_built."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from checks.artifact_as_built import CHECK as AS_BUILT
from checks.artifact_as_built import files_of
from checks.clock_agrees import CHECK as CLOCK
from checks.clock_agrees import compare, seconds
from checks.drill_recent import CHECK as DRILL
from pipeline.contracts import Addresses, Past, PastFinding, PastRun, ReleaseId, World
from pipeline.retry_after import http_date
from pipeline.verdict import Verdict
from tests.checks.worlds import ask, at, random_text, world
from tests.targets import areas

NOW = datetime.now(UTC)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.sampled_from(["files", "version", "x"]), inner, max_size=3) | st.lists(inner, max_size=2)


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()


class Kept:
    """What one journal remembers."""

    def __init__(self, *runs: PastRun) -> None:
        self._runs = runs

    def findings(self, check: str) -> Sequence[PastFinding]:
        return ()

    def runs(self, verb: str) -> Sequence[PastRun]:
        return [run for run in self._runs if run.verb == verb]


def ran(verb: str, days_ago: float, outcome: str = "done") -> PastRun:
    return PastRun(NOW - timedelta(days=days_ago), f"{verb}-{days_ago:g}", verb, outcome)


def remembering(root: Path, sandbox: Sequence[PastRun] = (), production: Sequence[PastRun] = ()) -> World:
    known: dict[str, Past] = {"sandbox": Kept(*sandbox), "production": Kept(*production)}
    return replace(world(root, environment="production"), past=lambda name: known.get(name, Kept()))


# ---- drills --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sandbox", "production", "verdict", "word"),
    [
        ([ran("drill", 3)], [], Verdict.PASS, "drill-3"),
        ([ran("drill", 89)], [], Verdict.PASS, "89 days old"),
        ([ran("drill", 91)], [], Verdict.FAIL, "at most 90 days"),
        ([ran("drill", 3), ran("drill", 40, "refused")], [], Verdict.PASS, "drill-3"),
        ([ran("drill", 3, "refused"), ran("drill", 40)], [], Verdict.FAIL, "a fault was not caught"),
        ([ran("drill", 3, "refused")], [ran("rollback", 2)], Verdict.FAIL, "a fault was not caught"),
        ([ran("drill", 3, "interrupted"), ran("drill", 40)], [], Verdict.PASS, "drill-40"),
        ([ran("drill", 3, "interrupted")], [], Verdict.FAIL, "no drill of every fault"),
        ([ran("drill.one", 3)], [], Verdict.FAIL, "(1 drill of one fault only)"),
        ([ran("drill", -2)], [], Verdict.FAIL, "no drill of every fault"),
        ([ran("drill", 95)], [ran("rollback", 5)], Verdict.PASS, "rollback-5"),
        ([], [ran("rollback", 5, "person needed")], Verdict.FAIL, "no drill of every fault"),
        ([ran("rollback", 5)], [], Verdict.FAIL, "no drill of every fault"),
        ([], [], Verdict.FAIL, "no drill of every fault"),
    ],
)
async def test_a_drill_not_long_ago(
    tmp_path: Path, sandbox: list[PastRun], production: list[PastRun], verdict: Verdict, word: str
) -> None:
    """Only a drill of every fault, or a rollback of this environment, that ended well and is young enough counts."""
    finding = await ask(DRILL, remembering(tmp_path, sandbox, production))
    assert (finding.verdict, word in finding.reason) == (verdict, True), finding
    assert verdict is Verdict.PASS or "./inv drill --all" in finding.remedy


async def test_where_no_journal_is_nothing_was_drilled(tmp_path: Path) -> None:
    """A folder without a record has no drill; the age that is allowed can be set."""
    assert (await ask(DRILL, world(tmp_path))).verdict is Verdict.FAIL
    assert (await ask(DRILL, remembering(tmp_path, [ran("drill", 8)]), within="7 d")).verdict is Verdict.FAIL


# ---- clocks --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def telling(
    ahead_s: float | None, headers: dict[str, str] | None = None, status: int = 404
) -> AsyncIterator[str]:
    """A server whose clock is `ahead_s` seconds ahead of ours; None: it tells no time."""

    async def answer(_request: web.Request) -> web.StreamResponse:
        told = web.Response(status=status, text="nothing here")
        told.headers["Date"] = "soon" if ahead_s is None else format_datetime(_later(ahead_s), usegmt=True)
        told.headers.update(headers or {})
        return told

    app = web.Application()
    app.router.add_get("/{anything:.*}", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def _later(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def addressed(root: Path, gateway: str, service: str = "https://127.0.0.1:9") -> World:
    return replace(world(root), addresses=Addresses(service, gateway))


@pytest.mark.parametrize(
    ("gateway", "service", "verdict"),
    [
        (0, 0, Verdict.PASS),
        (0, "away", Verdict.PASS),
        (15, 0, Verdict.ADVICE),
        (-15, 0, Verdict.ADVICE),
        (600, 0, Verdict.FAIL),
        (-600, "away", Verdict.FAIL),
        (0, 600, Verdict.FAIL),
        ("away", 600, Verdict.FAIL),
        ("away", 0, Verdict.INCONCLUSIVE),
        ("away", "away", Verdict.INCONCLUSIVE),
        (None, 0, Verdict.INCONCLUSIVE),
    ],
)
async def test_clocks_are_compared(tmp_path: Path, gateway: Any, service: Any, verdict: Verdict) -> None:
    """A clock beside the gateway's passes, one apart is advised or fails; with no time from the gateway nothing is."""
    nobody = "https://127.0.0.1:9"
    async with (
        telling(0 if gateway == "away" else gateway) as first,
        telling(0 if service == "away" else service) as second,
    ):
        made = addressed(tmp_path, nobody if gateway == "away" else first, nobody if service == "away" else second)
        finding = await ask(CLOCK, made)
    assert finding.verdict is verdict, finding


async def test_what_a_cache_kept_is_as_old_as_it_says(tmp_path: Path) -> None:
    """An answer kept for ten minutes by a cache that says so is no wrong clock."""
    async with telling(-600, {"Age": "600"}, status=200) as gateway:
        assert (await ask(CLOCK, addressed(tmp_path, gateway))).verdict is Verdict.PASS


async def test_a_login_in_the_gateway_s_address_is_not_repeated(tmp_path: Path) -> None:
    """Whoever wrote a password into an address finds it in no finding."""
    login = f"{random_text()}:{random_text()}"
    finding = await ask(CLOCK, addressed(tmp_path, f"https://{login}@127.0.0.1:9/?key={login}"))
    assert finding.verdict is Verdict.INCONCLUSIVE
    assert not any(part in f"{finding}" for part in login.split(":"))


@pytest.mark.parametrize("address", ["", "no address", "https://[::1", "ftp://127.0.0.1", "http://127.0.0.1:99999"])
async def test_an_address_that_is_none_tells_no_time(tmp_path: Path, address: str) -> None:
    """Whatever stands in the setting of the gateway's address, the check says that nothing is known."""
    assert (await ask(CLOCK, addressed(tmp_path, address, address))).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("Sun, 06 Nov 1994 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Sunday, 06-Nov-94 08:49:37 GMT", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Sun Nov  6 08:49:37 1994", datetime(1994, 11, 6, 8, 49, 37, tzinfo=UTC)),
        ("Sat, 31 Dec 2016 23:59:60 GMT", datetime(2016, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("Sun, 06 Nov 1994 08:49:37 +0200", None),
        ("Sun, 31 Feb 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 1994 25:49:37 GMT", None),
        ("Sun, 06 Now 1994 08:49:37 GMT", None),
        ("Sun, 06 Nov 0000 08:49:37 GMT", None),
        ("Sun, ٠6 Nov 1994 08:49:37 GMT", None),
        ("", None),
    ],
)
def test_dates_of_http(text: str, instant: datetime | None) -> None:
    """The three forms of a date are understood, in GMT and nothing else."""
    assert http_date(text, NOW) == instant


@given(st.text(max_size=60) | st.from_regex(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9:]{8} GMT"))
def test_no_date_makes_the_clock_check_stumble(text: str) -> None:
    """Whatever a stranger sends as Date or Age is read or refused, never an exception."""
    told = http_date(text, NOW)
    assert told is None or told.tzinfo is UTC
    assert seconds(text) >= 0


def test_the_round_trip_is_accounted_for() -> None:
    """Half of the round trip and the fraction of a second that the header lacks are not taken for skew."""
    ahead, within = compare(NOW, 4.0, (NOW + timedelta(seconds=2)).replace(microsecond=0), 0.0)
    assert abs(ahead) <= within == 2.5


# ---- the staged release --------------------------------------------------------------------------------------

RELEASE = ReleaseId("20260102T000000000Z-abcdef0")


@pytest.fixture
async def staged(tmp_path: Path) -> tuple[World, Path, Path]:
    """A world whose release is staged on a real area, its build folder, and its folder on the target."""
    root, built = tmp_path, tmp_path / "dist"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text("<!doctype html>")
    (built / "assets" / "app one.js").write_text("console.log(1)")
    (built / "run").write_bytes(bytes(range(256)))
    (built / "run").chmod(0o755)
    area = await areas.opened(root / "area")
    await area.target.releases.stage(RELEASE, built, {"GREETING": "hello"})
    made = at(replace(world(root), target=area.target), release=RELEASE, artifact=built)
    return made, built, root / "area" / "releases" / RELEASE


async def test_a_release_as_it_was_built_passes(staged: tuple[World, Path, Path]) -> None:
    """The digest over the build folder is the one over what the target holds."""
    finding = await ask(AS_BUILT, staged[0])
    assert finding.verdict is Verdict.PASS, finding
    assert finding.evidence["built_sha256"] == finding.evidence["staged_sha256"]
    assert finding.evidence["files"] == 3


CHANGES = [
    ("built", "index.html", "<!doctype html><p>", "'index.html' was built anew since it was staged"),
    ("built", "late.js", "x", "'late.js' was built but not staged"),
    ("built", "run", None, "'run' was staged but is not in the build any more"),
    ("target", "assets/app one.js", "console.log(2)", "'assets/app one.js' was changed on the target"),
    ("target", "run", None, "'run' was changed on the target"),
    ("target", "assets/skimmer.js", "x", "'assets/skimmer.js' was added on the target"),
    ("target", "manifest.json", "{}", "manifest.json on the target is missing or not the one"),
    ("target", "manifest.json", None, "manifest.json on the target is missing or not the one"),
]


async def test_a_release_that_is_not_what_was_built_fails(staged: tuple[World, Path, Path]) -> None:
    """A file that differs, is missing or was added, here or on the target, fails the release by its name."""
    made, built, folder = staged
    for where, file, content, word in CHANGES:
        path = (built if where == "built" else folder) / file
        before = path.read_bytes() if path.exists() else None
        path.unlink() if content is None else path.write_text(content)
        finding = await ask(AS_BUILT, made)
        assert (finding.verdict, word in finding.reason) == (Verdict.FAIL, True), finding
        path.unlink() if before is None else path.write_bytes(before)
    assert (await ask(AS_BUILT, made)).verdict is Verdict.PASS


async def test_a_link_is_no_file_of_the_release(staged: tuple[World, Path, Path]) -> None:
    """A file on the target that was replaced by a link to the same bytes can change at any time, and fails."""
    made, _, folder = staged
    elsewhere = folder.parent / "elsewhere.html"
    elsewhere.write_text((folder / "index.html").read_text())
    (folder / "index.html").unlink()
    (folder / "index.html").symlink_to(elsewhere)
    finding = await ask(AS_BUILT, made)
    assert (finding.verdict, "index.html (l, no plain file)" in finding.reason) == (Verdict.FAIL, True), finding


async def test_a_manifest_rewritten_to_fit_is_seen_by_its_digest(staged: tuple[World, Path, Path]) -> None:
    """Whoever changes a file, the manifest and the build folder with it has not changed the digest on record."""
    made, built, folder = staged
    manifest, page = folder / "manifest.json", folder / "index.html"
    old = hashlib.sha256(page.read_bytes()).hexdigest()
    for each in (page, built / "index.html"):
        each.write_text("<!doctype html><script src=//evil></script>")
    manifest.write_text(manifest.read_text().replace(old, hashlib.sha256(page.read_bytes()).hexdigest()))
    finding = await ask(AS_BUILT, made)
    assert (finding.verdict, "not the one it was staged with" in finding.reason) == (Verdict.FAIL, True), finding


async def test_without_a_build_or_a_staged_release_nothing_is_compared(staged: tuple[World, Path, Path]) -> None:
    """What is not there does not differ, and does not pass."""
    made, built, _ = staged
    for missing in (
        at(made, artifact=None),
        at(made, artifact=built / "nowhere"),
        at(made, artifact=built.parent / "empty"),
        at(made, release=None),
        at(made, release=ReleaseId("20260102T000000001Z-abcdef0")),
    ):
        (built.parent / "empty").mkdir(exist_ok=True)
        assert (await ask(AS_BUILT, missing)).verdict is Verdict.INCONCLUSIVE


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(max_size=5), _nested).map(_as_json))
def test_no_manifest_makes_the_comparison_stumble(content: bytes) -> None:
    """Whatever lies on the target in place of a manifest is read or refused."""
    files = files_of(content)
    assert files is None or all(isinstance(digest, str) for digest in files.values())
