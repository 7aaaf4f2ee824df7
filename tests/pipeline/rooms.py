"""Small rooms in memory for the engine: a target, a service, a till, and checks that say what they are told.

The engine, its journal, its lease and the checkpoints are the real ones.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sqlite3
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from random import SystemRandom
from secrets import token_hex
from typing import Any

import httpx

from pipeline import plan as plans
from pipeline import rolling_back, runner
from pipeline.contracts import (
    Addresses,
    Catalogue,
    Check,
    Completed,
    GatewayPayment,
    ReleaseId,
    ReleaseRecord,
    ReleaseState,
    RunInfo,
    SignedWebhook,
    Started,
    SwitchName,
    SwitchOn,
    Target,
    World,
)
from pipeline.errors import ReleaseNotReady, TargetError
from pipeline.events import Entry, Kind, Listener, Output
from pipeline.facts import Facts
from pipeline.journal import Journal
from pipeline.lease import Owner
from pipeline.plan import Plan
from pipeline.run_record import Outcome
from pipeline.secrets import Redactor, Secret
from pipeline.service import Service
from pipeline.session import LeaseSlot, Recorder, Session
from pipeline.settings import Settings, SettingValue
from pipeline.spec import STAGES, NoParams, Spec
from pipeline.standing import open_runs
from pipeline.verdict import Finding, passed
from rollback import CHECKPOINTS
from targets.fencing import LocalFencing
from targets.weights import AllToOne

OLD, NEW, NEXT = ReleaseId("1-old"), ReleaseId("2-new"), ReleaseId("3-next")
ALL = ["release", "settings", "maintenance", "payments", "test-mode"]
STORY: Mapping[str, Any] = {
    "gates": [{"check": "gate.one"}, {"check": "gate.two"}],
    "deploy": [
        {"act": "release.stage"},
        {"act": "release.switch", "needs": ["release.stage"], "checkpoints": ALL},
    ],
    "prove": [{"check": "proof.one"}, {"check": "proof.two"}],
    "watch": [{"check": "watch.one"}],
}
_AT_WORK: ContextVar[tuple[LeaseSlot, Journal, str]] = ContextVar("at_work")
Says = Finding | Callable[[World], Awaitable[Any]]


def spec_of(stages: Mapping[str, Any] = STORY) -> Spec:
    return Spec.model_validate_json(
        json.dumps(
            {
                "version": 1,
                "service": "shop",
                "gateway": "till",
                "settings": {"API_SECRET": {"type": "secret"}},
                "release": {"start": ["true"]},
                "stages": stages,
                "environments": {
                    name: {
                        "url": "https://shop.test",
                        "target": {"kind": "local", "path": "area"},
                        "settings_from": ["environment"],
                    }
                    for name in ("staging", "production")
                },
            }
        )
    )


class StubbornClock:
    """Real instants; a short sleep passes at once and moves the monotonic time on by all of it."""

    def __init__(self) -> None:
        self._slept = 0.0

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic() + self._slept

    async def sleep(self, seconds: float) -> None:
        task = asyncio.current_task()
        if task is not None and task.get_name() == "lease heartbeats":
            await asyncio.sleep(seconds)
            return
        self._slept += seconds
        await asyncio.sleep(0)


@dataclass
class Change:
    """Something that was changed at the target, and the last entry that was on record by then."""

    what: str
    after: Entry


@dataclass
class Ground:
    """What the target holds. `broken`: what raises instead of being done, by the name of the change."""

    live: ReleaseId | None = None
    records: dict[ReleaseId, ReleaseRecord] = field(default_factory=dict)
    switches: dict[SwitchName, SwitchOn] = field(default_factory=dict)
    settings: dict[ReleaseId, str] = field(default_factory=dict)
    in_force: dict[ReleaseId, str] = field(default_factory=dict)
    broken: dict[str, BaseException] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)
    before_change: Callable[[str], Awaitable[Entry]] | None = None

    async def change(self, what: str) -> None:
        """Asks the run whether it may, as every real target does."""
        if self.before_change is None:
            raise AssertionError("a change without a run")
        self.changes.append(Change(what, await self.before_change(what)))
        await asyncio.sleep(0)
        for broken, error in self.broken.items():
            if what.startswith(broken):
                raise error

    def state(self, release: ReleaseId) -> str:
        return self.records[release].state.value

    @property
    def done(self) -> list[str]:
        return [change.what for change in self.changes]

    # -- contracts.Releases

    async def stage(self, release: ReleaseId, artifact: Path, settings: Mapping[str, Secret | str]) -> ReleaseRecord:
        await self.change(f"stage {release}")
        values = {name: value.reveal() if isinstance(value, Secret) else value for name, value in settings.items()}
        self.settings[release] = self.in_force[release] = json.dumps(values)
        manifest = hashlib.sha256(release.encode()).hexdigest()
        self.records[release] = ReleaseRecord(release, ReleaseState.STAGED, datetime.now(UTC), "", manifest, "")
        return self.records[release]

    async def all(self) -> Sequence[ReleaseRecord]:
        return [self.records[release] for release in sorted(self.records, reverse=True)]

    async def mark(self, release: ReleaseId, state: ReleaseState, why: str) -> None:
        await self.change(f"mark {release} {state.value}")
        if release not in self.records:
            raise TargetError(f"{release} has no record")
        self.records[release] = replace(self.records[release], state=state, why=why, since=datetime.now(UTC))

    async def prune(self, keep: int) -> Sequence[ReleaseId]:
        await self.change("prune")
        return []

    async def reread(self, release: ReleaseId) -> str:
        return self.records[release].manifest

    # -- contracts.Commands

    async def run(self, release: ReleaseId, argv: Sequence[str], *, timeout: float) -> Completed:
        """Whatever is run, it says that the schema is at version 1."""
        await self.change(f"run {' '.join(argv)}")
        return Completed(tuple(argv), 0, "1\n", "")

    # -- contracts.Traffic; `live` is a value here, so the method stands in `_Traffic`

    async def activate(self, release: ReleaseId) -> None:
        await self.change(f"activate {release}")
        if self.records[release].state is ReleaseState.BAD:
            raise ReleaseNotReady(f"{release} is bad")
        self.live = release

    async def close(self) -> None:
        await self.change("close")
        self.live = None

    async def rehearse(self, release: ReleaseId) -> Started:
        return Started(release, 0.1, {"release": release})


@dataclass
class _Traffic:
    ground: Ground

    async def live(self) -> ReleaseId | None:
        if "live" in self.ground.broken:
            raise self.ground.broken["live"]
        return self.ground.live

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ground, name)


@dataclass
class _Switches:
    ground: Ground

    async def read(self, name: SwitchName) -> SwitchOn | None:
        return self.ground.switches.get(name)

    async def write(self, name: SwitchName, value: SwitchOn | None) -> None:
        await self.ground.change(f"switch {name.value} {'off' if value is None else 'on'}")
        if value is None:
            self.ground.switches.pop(name, None)
        else:
            self.ground.switches[name] = value


@dataclass
class _Vault:
    ground: Ground

    async def in_force(self, release: ReleaseId) -> str:
        return _digest(self.ground.in_force.get(release, ""))

    async def kept(self, release: ReleaseId) -> str:
        return _digest(self.ground.settings.get(release, ""))

    async def values(self, release: ReleaseId) -> Mapping[str, str]:
        if release not in self.ground.settings:
            raise TargetError(f"{release}: no settings were kept")
        values: Mapping[str, str] = json.loads(self.ground.settings[release])
        return values

    async def put_back(self, release: ReleaseId) -> None:
        await self.ground.change(f"settings {release}")
        self.ground.in_force[release] = self.ground.settings[release]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


@dataclass
class Shop:
    """The service as its visitors see it, and its gateway. `deaf`: it does not honour the switches.

    `unwell`: not ready. `stuck`: takes no payment whatever the switches say. `locks_webhooks`: out, with visitors.
    `tests`: in test mode, whatever they say.
    """

    ground: Ground
    deaf: bool = False
    away: bool = False
    unwell: bool = False
    stuck: bool = False
    locks_webhooks: bool = False
    tests: bool = False
    payments: dict[str, GatewayPayment] = field(default_factory=dict)
    activations: dict[str, int] = field(default_factory=dict)
    amounts: dict[str, int] = field(default_factory=dict)
    webhooks: list[str] = field(default_factory=list)
    tills: list[Settings] = field(default_factory=list)

    def paid(self, reference: str, *, activations: int, cents: int = 100) -> None:
        """A payment of a customer, and how often the service activated it."""
        created = datetime.now(UTC).isoformat()
        self.payments[reference] = GatewayPayment(f"link-{reference}", reference, cents, "PAID", True, created)  # type: ignore[arg-type]
        self.activations[reference] = activations
        self.amounts[reference] = 100

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.away:
            raise httpx.ConnectError("refused", request=request)
        if self.ground.live is None:
            return httpx.Response(503)
        path = request.url.path
        reference = path.rpartition("/")[2]
        if path == "/":
            shut = SwitchName.MAINTENANCE in self.ground.switches and not self.deaf
            return httpx.Response(503 if shut else 200)
        if path == "/health/ready":
            tests = self.tests or SwitchName.TEST_MODE in self.ground.switches
            said = {} if self.deaf else {"test_mode": "on" if tests else "off"}
            return httpx.Response(503 if self.unwell else 200, json={"release": self.ground.live, **said})
        if path == "/api/payments":
            shut = (
                bool({SwitchName.MAINTENANCE, SwitchName.PAYMENTS_OFF} & self.ground.switches.keys()) and not self.deaf
            )
            return httpx.Response(503 if shut or self.stuck else 422)
        if path.startswith("/api/webhooks") and request.content == b"{}":
            return httpx.Response(503 if self.locks_webhooks else 401)
        if path.startswith("/api/webhooks"):
            self.webhooks.append(request.content.decode())
            self.activations[request.content.decode()] += 1
            return httpx.Response(200)
        if reference not in self.activations:
            return httpx.Response(404)
        if path.startswith("/api/enrolments/"):
            return httpx.Response(200, json={"activations": self.activations[reference]})
        return httpx.Response(200, json={"amount": self.amounts[reference]})

    def client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(transport=httpx.MockTransport(self.answer))

    # -- contracts.Gateway

    def till(self, *, settings: Settings, http: object, clock: object, contract: object, **_more: object) -> Any:
        self.tills.append(settings)
        return self

    async def history(self, since: datetime, until: datetime) -> Sequence[GatewayPayment]:
        return tuple(self.payments.values())

    def webhook(self, path: str, link_id: str, reference: str, status: str) -> SignedWebhook:
        return SignedWebhook(reference.encode(), {})


class Yard:
    """One environment over several runs: what it holds stays, each run opens it anew.

    `says`: what a check finds, by its name; by default it passes.
    """

    def __init__(self, folder: Path, stages: Mapping[str, Any] = STORY) -> None:
        self.folder = folder
        self.ground = Ground()
        self.shop = Shop(self.ground)
        self.spec = spec_of(stages)
        self.says: dict[str, Says] = {}
        self.asked: list[str] = []
        self.output: list[str] = []
        self.checkpoints = dict(CHECKPOINTS)
        self.secret = Secret(token_hex(18))
        self.clock = StubbornClock()
        self.around: Callable[[str, int], None] | None = None
        self.carrier: Target | None = None
        """A real target in place of the one in memory, with the address of what it serves."""
        self.address = "https://shop.test"
        self._runs = 0
        self._dead = False
        (folder / "dist").mkdir(parents=True, exist_ok=True)
        names = {item["check"] for stage in stages.values() for item in stage if "check" in item}
        self.checks = {name: self._check(name) for name in sorted(names)}

    def _check(self, name: str) -> Check:
        return Check(name, "It holds.", ("T1",), self.saying(name), lambda fact, _: fact, NoParams)

    def saying(self, name: str) -> Callable[[World, Any], Awaitable[Any]]:
        """The gatherer of a check that says what `says` has under its name."""

        async def gather(world: World, _params: object) -> Any:
            self.asked.append(name)
            said = self.says.get(name, passed("as it should be"))
            return said if isinstance(said, Finding) else await said(world)

        return gather

    def verified(self, release: ReleaseId, *, live: bool = True) -> None:
        """A release of an earlier day."""
        since = datetime.now(UTC) - timedelta(days=1)
        manifest = hashlib.sha256(release.encode()).hexdigest()
        self.ground.records[release] = ReleaseRecord(release, ReleaseState.VERIFIED, since, "", manifest, "")
        self.ground.settings[release] = self.ground.in_force[release] = json.dumps({"API_SECRET": "of " + release})
        if live:
            self.ground.live = release

    def plan(self, verb: str = "deploy", stages: Sequence[str] = STAGES) -> Plan:
        return plans.make(self.spec, "staging", self.checks, verb=verb, stages=stages)

    @contextmanager
    def opened(
        self, *, release: ReleaseId | None = None, run: str = "", listeners: Sequence[Listener] = ()
    ) -> Iterator[Session]:
        self._runs += 1
        run = run or f"run-{self._runs}"
        slot, token = LeaseSlot(), Secret(token_hex(18))
        redactor = Redactor([self.secret, token])
        value = SettingValue("API_SECRET", self.secret, "environment")
        settings = Settings({"API_SECRET": value}, (), ("environment",))
        path = self.folder / "journal.sqlite"
        with Journal.open(path, clock=self.clock, redactor=redactor, around=self.around) as journal:
            ground: Any = self.ground

            _AT_WORK.set((slot, journal, run))  # two runs may be at work, each a task of its own

            async def before_change(_what: str) -> Entry:
                if self._dead:
                    raise Killed
                slot, journal, run = _AT_WORK.get()
                await slot.guard()
                return journal.entries(run)[-1]

            self.ground.before_change = before_change
            target = self.carrier or Target(
                "local",
                ground,
                PurePosixPath("/area"),
                ground,
                _Traffic(ground),
                _Switches(ground),
                _Vault(ground),
                LocalFencing(PurePosixPath(self.folder / "fence"), slot.guard),
                ground,
                AllToOne(_Traffic(ground)),
            )
            gateways: Any = {"till": self.shop.till}
            world = World(
                spec=self.spec,
                environment=self.spec.environments["staging"],
                environment_name="staging",
                root=self.folder,
                addresses=Addresses("https://shop.test", "https://till.test"),
                settings=settings,
                target=target,
                gateway=self.shop.till(settings=settings, http=None, clock=None, contract=None),
                service=Service(self.address, self.spec.contract, self.shop.client),
                http=self.shop.client,
                clock=self.clock,
                random=SystemRandom(),
                run=RunInfo(run, self.clock.now(), release, None, self.folder / "dist", token, 1.0),
                facts=Facts(),
            )
            yield Session(
                spec=self.spec,
                spec_digest="spec",
                environment="staging",
                state=self.folder,
                lease_file=self.folder / "lease.sqlite",
                who="thandi",
                machine="test",
                catalogue=Catalogue(self.checks, self.checkpoints, {}, gateways),
                world=world,
                journal=journal,
                recorder=Recorder(journal, run, [self._hear, *listeners], redactor),
                redactor=redactor,
                slot=slot,
                command_environment={"PATH": "/usr/bin:/bin"},
            )

    def _hear(self, event: Entry | Output) -> None:
        if isinstance(event, Output):
            self.output.append(event.line)

    async def deploy(self, release: ReleaseId = NEW, **opening: Any) -> Outcome:
        with self.opened(release=release, **opening) as session:
            return await runner.deploy(session, self.plan(), Owner.this_process(session.recorder.run))

    async def resume(self) -> Outcome:
        unfinished = next(one for one in open_runs(self.entries()) if one.verb == "deploy")
        with self.opened(release=unfinished.release, run=unfinished.run) as session:
            owner = Owner.this_process(unfinished.run)
            return await runner.resume(session, self.plan(), owner, unfinished)

    async def rollback(self, to: str | None = None, reason: str = "", *, test_mode: bool = False) -> Outcome:
        with self.opened() as session:
            owner = Owner.this_process(session.recorder.run)
            plan = self.plan("rollback", ("prove",))
            return await rolling_back.rollback(session, plan, owner, to=to, reason=reason, test_mode=test_mode)

    async def killed_at(self, kind: Kind, nth: int = 1, release: ReleaseId = NEW, **having: Any) -> None:
        """A deploy that ends without a word right after its n-th entry of `kind` whose data has `having`."""
        await self._killed(lambda: self.deploy(release), kind, nth, having)

    async def rollback_killed_at(self, kind: Kind, nth: int = 1, **having: Any) -> None:
        await self._killed(self.rollback, kind, nth, having)

    async def _killed(
        self, verb: Callable[[], Awaitable[Outcome]], kind: Kind, nth: int, having: Mapping[str, Any]
    ) -> None:
        begun = len(self.entries())

        def around(when: str, _n: int) -> None:
            fitting = [one for one in self.entries()[begun:] if one.kind is kind and having.items() <= one.data.items()]
            if self._dead or (when == "after" and len(fitting) == nth):
                self._dead = True
                raise Killed

        self.around = around
        try:
            await verb()
        except Killed:
            return
        finally:
            self.around, self._dead = None, False
        raise AssertionError(f"the run ended before entry {nth} of {kind}")

    def entries(self) -> Sequence[Entry]:
        path = self.folder / "journal.sqlite"
        if not path.exists():
            return ()
        with Journal.read(path) as journal:
            return journal.entries()

    def told(self, kind: Kind) -> list[Mapping[str, Any]]:
        return [entry.data for entry in self.entries() if entry.kind is kind]

    def lease_is_taken_by_another(self) -> None:
        with sqlite3.connect(self.folder / "lease.sqlite") as lease:
            lease.execute("UPDATE lease SET token = token + 1")

    def maintenance(self) -> SwitchOn:
        """Switched on by an operator."""
        value = SwitchOn("sipho", "stock-taking", "2026-01-01T00:00:00+00:00")
        self.ground.switches[SwitchName.MAINTENANCE] = value
        return value


class Killed(BaseException):
    """Ends a run where it stands: nothing after it is recorded or changed."""
