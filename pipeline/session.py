"""One environment, opened for one command: everything the engine works with, handed over by the wiring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pipeline import command
from pipeline.contracts import Catalogue, Completed, ReleaseId, World
from pipeline.events import Entry, Kind, Listener, Output
from pipeline.facts import Facts
from pipeline.journal import Journal
from pipeline.lease import Lease
from pipeline.notices import Notices
from pipeline.salvage import Believed, believed
from pipeline.secrets import Redactor, Secret
from pipeline.settings import Settings, SettingValue
from pipeline.spec import Spec
from pipeline.telling import Manner


class Recorder:
    """Puts entries on record, then tells the listeners. A listener that fails is told of once and left out."""

    def __init__(self, journal: Journal, run: str, listeners: Sequence[Listener], redactor: Redactor) -> None:
        self.run = run
        self.journal = journal
        self.changed = False
        """Whether this run may have changed the environment: known here even when the journal cannot be read."""
        self._listeners = list(listeners)
        self._redactor = redactor

    def record(self, kind: Kind, /, **data: Any) -> Entry:
        """Durable when it returns. Raises TollgateError when the journal cannot be written."""
        entry = self.journal.append(self.run, kind, data)
        self.changed = self.changed or kind in (Kind.CHECKPOINT_ARMED, Kind.WAYBACK_STARTED)
        self._tell(entry)
        return entry

    def show(self, stage: str, step: str, line: str, manner: Manner | None = None) -> None:
        self._tell(Output(stage, step, self._redactor.text(line), manner))

    def _tell(self, event: Entry | Output) -> None:
        lost: list[Output] = []
        for listener in list(self._listeners):
            try:
                listener(event)
            except Exception as error:  # showing a run never decides it
                self._listeners.remove(listener)
                lost.append(Output("", "", self._redactor.text(f"output lost: {type(error).__name__}: {error}")))
        for output in lost:
            self._tell(output)


class LeaseSlot:
    """Holds the run's lease once it is taken; the target's guard asks it before every change."""

    def __init__(self) -> None:
        self.lease: Lease | None = None

    async def guard(self) -> int:
        """The token to make a change under. Raises LeaseLost when this run may change nothing any more; a run without
        a lease never may.
        """
        if self.lease is None:
            raise RuntimeError("a change was tried without a lease")
        await self.lease.check()
        return self.lease.token


@dataclass(frozen=True)
class Session:
    """`state` is the environment's folder here (journal, reports); `lease_file` lies at the target, for all who deploy
    to it. `world` belongs to no phase of the run.
    """

    spec: Spec
    spec_digest: str
    environment: str
    state: Path
    lease_file: Path
    who: str
    machine: str
    catalogue: Catalogue
    world: World
    journal: Journal
    recorder: Recorder
    redactor: Redactor
    slot: LeaseSlot
    command_environment: dict[str, str]
    gateway_at: Callable[[Settings], str] = lambda _settings: ""
    """Where the gateway of a release with these settings answers; '' where that is the run's own."""
    set_aside: Believed = field(default_factory=Believed)
    """What was found in a journal that was damaged and set aside when this one was opened."""
    notices: Notices | None = None
    """Who is told how the run goes. None: nobody, and nobody asks."""

    def on_record(self) -> Believed:
        """What of the record may be acted on, where it is broken too."""
        return self.set_aside if self.set_aside.breaks else believed(self.journal)

    def to_be_told(self) -> tuple[Entry, ...]:
        """The same with what this run has put on record itself."""
        own = {entry.seq: entry for entry in self.journal.entries(self.recorder.run)}
        known = {} if self.set_aside.breaks else {entry.seq: entry for entry in self.on_record().entries}
        return tuple(entry for _, entry in sorted({**known, **own}.items()))

    @property
    def record(self) -> str:
        """The journal, as the lease names it: a rollback takes over only what it can read the record of."""
        return str(self.journal.path.absolute())

    async def of_release(self, release: ReleaseId, **run: Any) -> World:
        """The world as the proofs of `release` need it: with the settings it was staged with, not those of today."""
        kept = await self.world.target.settings.values(release)
        values = {
            name: SettingValue(name, Secret(value) if self._is_secret(name) else value, f"kept with {release}")
            for name, value in kept.items()
        }
        settings = Settings(values, (), (f"kept with {release}",))
        self.redactor.add(settings.secrets())
        make = self.catalogue.gateways[self.spec.gateway]
        gateway = make(
            settings=settings,
            http=self.world.http,
            clock=self.world.clock,
            contract=self.spec.contract,
            random=self.world.random,
            tell=self.world.tell,
        )
        at = self.gateway_at(settings) or self.world.addresses.gateway
        addresses = replace(self.world.addresses, gateway=at)
        return replace(self.phase(release=release, **run), settings=settings, gateway=gateway, addresses=addresses)

    async def here(self, argv: Sequence[str], /, *, timeout: float, stdin: bytes = b"") -> Completed:
        """Runs a command of the operator's as a `run` step runs: here, without the service's settings, redacted."""
        env, root = self.command_environment, self.world.root
        return await command.run(argv, timeout=timeout, stdin=stdin, cwd=root, env=env, redactor=self.redactor)

    def _is_secret(self, name: str) -> bool:
        """A name the spec does not know any more is taken for a secret."""
        known = self.spec.settings.get(name)
        return known is None or known.type == "secret"

    def phase(self, **run: Any) -> World:
        """The world with facts of its own and the given members of `run` changed."""
        return replace(self.world, facts=Facts(), run=replace(self.world.run, **run))
