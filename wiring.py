"""Wires the rooms to the engine: the tables, and one environment opened for one command."""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import os
import platform
import random
import re
import secrets as tokens
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.contracts import (
    Addresses,
    Catalogue,
    Clock,
    GatewayControl,
    NoPast,
    OnlyWhereNamed,
    Past,
    ReleaseId,
    ReleaseRecord,
    RunInfo,
    SecurityEvent,
    Switches,
    Target,
    World,
)
from pipeline.errors import CommandFailed, LeaseHeld, TollgateError, Usage
from pipeline.events import Entry, Kind, Listener
from pipeline.facts import Facts
from pipeline.notice_addresses import secrets_in
from pipeline.notices import Notices, Recipient
from pipeline.secrets import Redactor, Secret
from pipeline.session import LeaseSlot, Recorder, Session
from pipeline.telling import Manner

if TYPE_CHECKING:
    import httpx

    from pipeline.journal import JournalReader
    from pipeline.names import Names
    from pipeline.settings import Settings
    from pipeline.spec import Environment, Spec
    from pipeline.standing import Open
    from sandbox.host import HostAddresses

HOME = Path(__file__).resolve().parent
IDLE_S = 1800
_STAMP = re.compile(r"\d{8}T\d{9}Z")
_NETWORK = re.compile(r"[0-9a-fA-F:.]+/\d{1,3}(,|\s|$)")


def catalogue() -> Catalogue:
    """The tables of all rooms."""
    from checks import CHECKS
    from gateways import GATEWAYS
    from rollback import CHECKPOINTS
    from targets import TARGETS

    return Catalogue(CHECKS, CHECKPOINTS, TARGETS, GATEWAYS)


def names(tables: Catalogue) -> Names:
    """What a pipeline.yaml may say."""
    from pipeline.acts import ACTS
    from pipeline.names import Names

    return Names(
        checks={name: check.params for name, check in tables.checks.items()},
        check_when={name: check.when for name, check in tables.checks.items()},
        acts={name: act.params for name, act in ACTS.items() if act.offered},
        checkpoints=frozenset(tables.checkpoints),
        gateways=frozenset(tables.gateways),
        sections={
            name: checkpoint.section
            for name, checkpoint in tables.checkpoints.items()
            if isinstance(checkpoint, OnlyWhereNamed) and checkpoint.section
        },
        unacceptable=frozenset(name for name, check in tables.checks.items() if not check.acceptable),
    )


@dataclass(frozen=True)
class Chosen:
    """A spec that was read and one of its environments. `root` is the folder of pipeline.yaml, `text` its bytes."""

    spec: Spec
    digest: str
    name: str
    environment: Environment
    root: Path
    tables: Catalogue
    text: bytes

    @property
    def state(self) -> Path:
        """The environment's folder beside pipeline.yaml: journal and reports."""
        return self.root / ".tollgate" / self.name

    @property
    def journal(self) -> Path:
        return self.state / "journal.sqlite"

    @property
    def area(self) -> Path:
        return self.root / self.environment.target.path

    @property
    def lease_file(self) -> Path:
        """At the target: two checkouts that deploy to one target exclude each other."""
        return self.area / "lease.sqlite"

    @property
    def in_sandbox(self) -> bool:
        return self.environment.url == "sandbox"


def choose(spec_path: str, environment: str, kept: Path | None = None) -> Chosen:
    """Reads a spec and picks an environment. Raises Usage with every mistake, or the names that exist.

    `kept`: a copy that is read in its place.
    """
    from pipeline.loader import load
    from pipeline.names import nearest

    tables, path = catalogue(), Path(spec_path)
    spec = load(kept or path, names(tables))
    if environment not in spec.environments:
        guess = nearest(environment, spec.environments)
        raise Usage(
            f"--env {environment}: {path} has no such environment; it has {', '.join(spec.environments)}",
            f"Did you mean {guess}?" if guess else "",
        )
    text = (kept or path).read_bytes()
    digest = hashlib.sha256(text).hexdigest()
    return Chosen(spec, digest, environment, spec.environments[environment], path.resolve().parent, tables, text)


def choose_to_go_back(spec_path: str, environment: str, tell: Callable[[str], object]) -> Chosen:
    """As `choose`; for a pipeline.yaml that cannot be used, or has lost the environment, stands in what the last run
    there went by, and it is told.
    """
    from pipeline.kept_spec import last
    from pipeline.mistakes import SpecInvalid
    from pipeline.words import count

    try:
        return choose(spec_path, environment)
    except Usage as invalid:
        state = Path(spec_path).resolve().parent / ".tollgate" / environment
        kept = last(state, _entries_in(state))
        mistakes = len(invalid.mistakes) if isinstance(invalid, SpecInvalid) else 0
        if kept is None and mistakes:
            invalid.remedy += (
                f" A copy of the one that a deploy went by is not kept in {state}; git may have it: "
                f"`git checkout HEAD~1 -- {Path(spec_path).name}`."
            )
        if kept is None:
            raise
        wrong = f"{count(mistakes, 'mistake')}; `./inv plan` tells them" if mistakes else f"it has no {environment}"
        tell(
            f"{spec_path} cannot be used: {wrong}.\n"
            f"In its place stands, byte for byte, what run {kept.run} went by ({kept.at:%Y-%m-%d %H:%M} UTC):\n"
            f"{kept.path}\n\n"
        )
        return choose(spec_path, environment, kept.path)


def _entries_in(state: Path) -> Sequence[Entry]:
    from pipeline.salvage import believed_of

    try:
        return believed_of(state / "journal.sqlite").entries
    except TollgateError:
        return ()  # what is wrong with pipeline.yaml must be told


# ---- an environment, opened --------------------------------------------------------------------------------


@asynccontextmanager
async def opened(
    chosen: Chosen,
    listeners: Callable[[Redactor], Sequence[Listener]],
    *,
    changes: bool = False,
    release: bool = False,
    continues: Open | None = None,
    watch: float | None = None,
    around: Callable[[str, int], None] | None = None,
    goes_back: bool = False,
    asks: bool = True,
    clock: Clock | None = None,
) -> AsyncIterator[Session]:
    """Everything a run works with. `release`: the run makes a new one; `continues`: it goes on with an unfinished run.

    `goes_back`: no secret manager is asked, for what is gone back to has its settings kept beside it, and a damaged
    journal is set aside. `asks` False: no secret manager is asked, and nothing else is different.

    `changes`: the run may change the environment, so a release that was live is brought up first, as after a reboot.
    `around` is the journal's: called before and after each entry.
    """
    from pipeline.clock import SystemClock
    from pipeline.journal import Journal
    from pipeline.kept_spec import keep, prune
    from pipeline.salvage import Believed, believed, open_or_begin_anew

    clock, chance = clock or SystemClock(), random.SystemRandom()
    ours = await _sandbox_gateway(chosen) if chosen.in_sandbox else None
    gateway_address = ours.gateway if ours else None
    settings = await _settings(chosen, gateway_address, ask=asks and not goes_back)

    def gateway_at(given: Settings) -> str:
        return gateway_address or given.text("VITE_IKHOKHA_API_URL")

    token = Secret(tokens.token_urlsafe(24))
    redactor = Redactor([*settings.secrets(), token])
    slot = LeaseSlot()
    target = await open_target(chosen, slot.guard, redactor.text, clock)
    redactor.add(await _kept_secrets(chosen, target))
    went_down = changes and (chosen.area / "current").is_symlink()
    carrier = await _service_up(chosen) if chosen.in_sandbox or went_down else None
    addresses = Addresses(
        service=carrier if carrier and chosen.in_sandbox else chosen.environment.url,
        gateway=gateway_at(settings),
        ca_file=chosen.root / chosen.environment.ca_file if chosen.environment.ca_file else None,
    )
    started = clock.now()
    stamp = _stamp(started, await target.releases.all())
    new_release = _release_id(chosen.root, stamp) if release and continues is None else None  # it asks git, which waits
    run = RunInfo(
        id=continues.run if continues else f"{started:%Y%m%d-%H%M%S}-{chance.randrange(16**4):04x}",
        started=started,
        release=continues.release if continues else new_release,
        previous=None,
        artifact=chosen.root / chosen.spec.release.produces,
        proof_token=token,
        watch_for=watch if watch is not None else chosen.environment.watch_for,
    )
    http, tls = _http(addresses.ca_file)
    chosen.state.mkdir(parents=True, exist_ok=True)
    if changes:
        keep(chosen.state, chosen.text)
    file, kept = chosen.journal, Believed()
    if goes_back and not at_work(chosen):
        opening, kept = open_or_begin_anew(file, clock=clock, redactor=redactor, around=around)
    else:
        opening = Journal.open(file, clock=clock, redactor=redactor, around=around)
    with opening as journal:
        from pipeline import security_log
        from pipeline.asking import TrustingService
        from pipeline.purse import RecordedPurse

        if changes:
            prune(chosen.state, lambda: believed(journal).entries)
        notices = _notices(chosen, settings, redactor, clock, asked=asks and not goes_back)
        recorder = Recorder(journal, run.id, [*listeners(redactor), notices], redactor)
        notices.begin(recorder.record, journal.entries)

        def of_this_run() -> Sequence[Entry]:
            return journal.entries(run.id)

        def on_record(event: SecurityEvent) -> None:
            recorder.record(Kind.SECURITY_EVENT, **security_log.as_data(event))

        def tell(line: str, manner: Manner = Manner.SAID, /) -> None:
            recorder.show("run", "waits", line, manner)

        world = World(
            spec=chosen.spec,
            environment=chosen.environment,
            environment_name=chosen.name,
            root=chosen.root,
            addresses=addresses,
            settings=settings,
            target=target,
            gateway=chosen.tables.gateways[chosen.spec.gateway](
                settings=settings, http=http, clock=clock, contract=chosen.spec.contract, random=chance, tell=tell
            ),
            service=TrustingService(addresses.service, chosen.spec.contract, http, tls),
            http=http,
            clock=clock,
            random=chance,
            run=run,
            facts=Facts(),
            past=_past(chosen),
            spec_digest=chosen.digest,
            control=_control(ours) if ours else None,
            purse=RecordedPurse(of_this_run, recorder.record),
            security=on_record,
            tell=tell,
        )
        session = Session(
            spec=chosen.spec,
            spec_digest=chosen.digest,
            environment=chosen.name,
            state=chosen.state,
            lease_file=chosen.lease_file,
            who=who(),
            machine=platform.node(),
            catalogue=chosen.tables,
            world=world,
            journal=journal,
            recorder=recorder,
            redactor=redactor,
            slot=slot,
            command_environment=_command_environment(chosen, world),
            gateway_at=gateway_at,
            set_aside=kept,
            notices=notices,
        )
        try:
            yield session
        finally:
            await notices.close()


def _notices(chosen: Chosen, settings: Settings, redactor: Redactor, clock: Clock, *, asked: bool) -> Notices:
    """Those whom pipeline.yaml names for the environment, each with its address.

    `asked` False: a secret manager was not asked for it yet; then it is when somebody has to be told, beside the run.
    """
    from pipeline.notice_post import Post
    from pipeline.notice_words import Writer

    asking: list[asyncio.Task[Settings]] = []

    async def late(variable: str) -> Secret | None:
        if not asking:
            asking.append(asyncio.create_task(_settings(chosen, None)))
        found = _address_in(await asyncio.shield(asking[0]), variable)
        redactor.add(secrets_in(found) if found is not None else ())
        return found

    recipients = [
        Recipient(
            name=one.to,
            address=_address_in(settings, one.address_from),
            on=frozenset(one.on),
            unknown=f"{one.address_from} has no value",
            late=None if asked else partial(late, one.address_from),
        )
        for one in chosen.environment.notices
    ]
    writer = Writer(chosen.spec.service, chosen.name, who(), redactor.text)
    post = Post(os.environ, random.SystemRandom(), clock.sleep)
    return Notices(chosen.name, recipients, post, writer.words)


def _address_in(settings: Settings, variable: str) -> Secret | None:
    found = settings.addresses.get(variable)
    return found.value if found is not None and isinstance(found.value, Secret) else None


async def open_target(
    chosen: Chosen,
    guard: Callable[[], Awaitable[int | None]],
    redact: Callable[[str], str] = str,
    clock: Clock | None = None,
) -> Target:
    """The environment's target. `guard` gives the token for every change, `redact` sees all its commands print."""
    from pipeline.clock import SystemClock

    environment, spec = chosen.environment, chosen.spec
    process = {name: _absolute(chosen.root, value) for name, value in environment.process.items()}
    if chosen.in_sandbox:  # our own shop is told how its gateway signs
        process = {
            "WEBHOOK_SCHEME": spec.contract.webhook_scheme,
            "WEBHOOK_TOLERANCE": f"{spec.contract.webhook_tolerance:.0f}",
            **process,
        }
    return await chosen.tables.targets[environment.target.kind](
        area=chosen.area,
        start=spec.release.start,
        process=process,
        public_url=None if chosen.in_sandbox else environment.url,
        ready_within=spec.release.ready_within,
        drain_within=spec.release.drain_within,
        idle=IDLE_S if chosen.in_sandbox else 0,
        activity=chosen.state / "activity",
        guard=guard,
        listen=environment.target.listen,
        ready_path=spec.contract.ready,
        redact=redact,
        now=(clock or SystemClock()).now,
        closed_page=lambda: _closed_page(chosen),
    )


def _closed_page(chosen: Chosen) -> bytes:
    from pipeline.maintenance_page import render_or_nothing

    return render_or_nothing(chosen.spec.maintenance)


def _absolute(root: Path, value: str) -> str:
    """A variable of the process that names a file below the spec's folder gets its whole path; a network is no file."""
    named = "/" in value and not value.startswith("/") and "://" not in value
    return str(root / value) if named and not _NETWORK.match(value) else value


async def _sandbox_gateway(chosen: Chosen) -> HostAddresses:
    from sandbox import host

    return await asyncio.to_thread(host.up, chosen.state, idle_s=IDLE_S, scheme=chosen.spec.contract.webhook_scheme)


def _control(ours: HostAddresses) -> GatewayControl:
    from sandbox.gateway.remote import Control

    return Control(ours.control, ours.token.reveal())


async def settings_of(chosen: Chosen) -> Settings:
    """The settings as a run would see them; starts the sandbox where the environment is one: it makes its settings."""
    return await _settings(chosen, (await _sandbox_gateway(chosen)).gateway if chosen.in_sandbox else None)


async def _settings(chosen: Chosen, gateway_address: str | None, *, ask: bool = True) -> Settings:
    """`ask` False: the commands of `settings_from` are not run."""
    from pipeline import command
    from pipeline.sources import resolve

    async def run(argv: Sequence[str], timeout: float) -> str:
        finished = await command.run(argv, timeout=timeout, cwd=chosen.root, redactor=Redactor([]))
        if finished.returncode != 0:
            raise CommandFailed(f"it ended with {finished.returncode}", returncode=finished.returncode)
        return finished.stdout

    return await resolve(
        chosen.spec,
        chosen.name,
        root=chosen.root,
        process_environment=os.environ,
        gateway_address=gateway_address,
        run=run if ask else None,
    )


async def _kept_secrets(chosen: Chosen, target: Target) -> list[Secret]:
    """The secrets of all releases on the target: what is rehearsed or put back may print those of before a rotation."""
    found: list[Secret] = []
    for release in await target.releases.all():
        try:
            kept = await target.settings.values(release.id)
        except TollgateError:
            continue  # half-staged: it has none, and nothing starts it
        found += [Secret(value) for name, value in kept.items() if value and _is_secret(chosen, name)]
    return found


def _is_secret(chosen: Chosen, name: str) -> bool:
    known = chosen.spec.settings.get(name)
    return known is not None and known.type == "secret"


async def _service_up(chosen: Chosen) -> str:
    """What carries the releases is running, with the release it had before; needs no lease. Where it listens."""
    from targets import up_local

    async def anyone() -> None:
        return None

    return await up_local(await open_target(chosen, anyone))


# ---- looking without opening -------------------------------------------------------------------------------


def _past(chosen: Chosen) -> Callable[[str], Past]:
    """Reads the journal of an environment when first asked for; an unknown name has no past."""

    @cache
    def past(environment: str) -> Past:
        from pipeline.past import remembered

        if environment not in chosen.spec.environments:
            return NoPast()
        other = replace(chosen, name=environment, environment=chosen.spec.environments[environment])
        with recorded(other) as journal:
            return remembered(journal, environment)

    return past


@contextmanager
def recorded(chosen: Chosen) -> Iterator[JournalReader | None]:
    """The environment's journal, for reading only; None when it has none yet, or a crash left only its name."""
    from pipeline.journal import Journal

    path = chosen.journal
    if not path.exists() or path.stat().st_size == 0:
        yield None
        return
    with Journal.read(path) as journal:
        yield journal


async def looking_at(chosen: Chosen) -> Target:
    """The target, for reading only: its guard refuses every change."""

    async def refuse() -> None:
        raise RuntimeError("a command that only looks tried to change the target")

    return await open_target(chosen, refuse)


async def doors_at(chosen: Chosen, redact: Callable[[str], str]) -> Switches:
    """The doors for whoever closes one: that needs no lease, and waits for no run."""

    async def anyone() -> None:
        return None

    return (await open_target(chosen, anyone, redact)).switches


async def comes_up(chosen: Chosen) -> ReleaseId | None:
    """The release that a run brings up before it looks, where nothing carries the service; else None."""
    from targets import status_local

    status = await status_local(chosen.area)
    return None if status["up"] or not status["link"] else ReleaseId(str(status["link"]))


async def address(chosen: Chosen) -> str | None:
    """Where the service answers; None when the sandbox is down."""
    from targets import service_address

    return await service_address(chosen.area) if chosen.in_sandbox else chosen.environment.url


async def sandbox(chosen: Chosen, do: str) -> Mapping[str, object]:
    """`up`, `down` or `status` of the gateway and of the service's supervisor."""
    from sandbox import host
    from targets import status_local, stop_local

    if do == "up":
        await asyncio.to_thread(host.up, chosen.state, idle_s=IDLE_S, scheme=chosen.spec.contract.webhook_scheme)
        await _service_up(chosen)
    elif do == "down":
        _refuse_while_a_run_is_at_work(chosen)
        await stop_local(chosen.area)
        await asyncio.to_thread(host.down, chosen.state)
    running = host.status(chosen.state)
    return {
        "sandbox": "runs" if running else "down",
        "gateway": running.gateway if running else None,
        "service": await address(chosen),
        "supervisor": await status_local(chosen.area),
        "control": running.control if running else None,
        "log": str(running.log) if running else None,
        "stops": f"with `./inv sandbox.down`, or after {IDLE_S // 60} idle minutes" if running else None,
    }


def _refuse_while_a_run_is_at_work(chosen: Chosen) -> None:
    if owner := at_work(chosen):
        raise LeaseHeld(f"a run is at work here: {owner}", "Wait until it ends, or end it with Ctrl-C first.")


def at_work(chosen: Chosen) -> str:
    """The run that may change the environment now, '' for none."""
    from pipeline.lease import holder

    found = holder(chosen.lease_file)
    return str(found.owner) if found is not None else ""


# ---- what opening is made of -------------------------------------------------------------------------------


def _http(ca_file: Path | None) -> tuple[Callable[[], httpx.AsyncClient], ssl.SSLContext]:
    """What makes clients, and what they verify with."""
    import httpx

    context = ssl.create_default_context()
    if ca_file is not None and ca_file.exists():
        context.load_verify_locations(cafile=ca_file)

    def client() -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=context, trust_env=False, follow_redirects=False, timeout=10.0)

    return client, context


def _stamp(at: datetime, releases: Sequence[ReleaseRecord]) -> str:
    """A time that sorts after every release there is: a clock that jumped back must not make a new one the older."""
    newest = max((one.id[:19] for one in releases if _STAMP.match(one.id)), default="")
    stamp = f"{at:%Y%m%dT%H%M%S}{at.microsecond // 1000:03d}Z"
    if stamp > newest:
        return stamp
    try:
        last = datetime.strptime(newest[:15], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        later = last + timedelta(milliseconds=int(newest[15:18]) + 1)
    except (ValueError, OverflowError):  # a name given by hand, which no clock ever told
        return stamp
    return f"{later:%Y%m%dT%H%M%S}{later.microsecond // 1000:03d}Z"


def _release_id(root: Path, stamp: str) -> ReleaseId:
    """Named by time and source revision; `-edited` says that the tree had uncommitted changes."""
    import subprocess

    def git(*args: str) -> str:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *args], capture_output=True, text=True, timeout=20, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.strip() if done.returncode == 0 else ""

    revision = git("rev-parse", "--short=7", "HEAD") or "norev"
    edited = "-edited" if git("status", "--porcelain", "--untracked-files=no") else ""
    return ReleaseId(f"{stamp}-{revision}{edited}")


def _command_environment(chosen: Chosen, world: World) -> dict[str, str]:
    """What a `run` step sees: the operator's environment without settings and addresses, and where things are."""
    ours = {one.address_from for environment in chosen.spec.environments.values() for one in environment.notices}
    kept = {name: value for name, value in os.environ.items() if name not in {*chosen.spec.settings, *ours}}
    kept["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", "")])
    if chosen.in_sandbox:  # the sandbox's own commands live here; an app's commands must not find our packages
        kept["PYTHONPATH"] = str(HOME)
    kept |= {
        "TOLLGATE_ENVIRONMENT": chosen.name,
        "TOLLGATE_RUN": world.run.id,
        "TOLLGATE_URL": world.addresses.service,
        "TOLLGATE_WATCH_SECONDS": f"{world.run.watch_for:g}",
    }
    if world.addresses.ca_file is not None:
        kept["TOLLGATE_CA_FILE"] = str(world.addresses.ca_file)
    return kept


def who() -> str:
    """The person a run is for: the actor of a workflow, else the user of this machine."""
    return os.environ.get("GITHUB_ACTOR") or getpass.getuser()
