"""The contracts between the engine and the rooms: everything a plug-in offers and may use, on one page.

A check is `gather` (asks the world, once) and `judge` (pure). A checkpoint is capture / restore / confirm.
A target carries releases; a gateway takes money; a host runs commands and keeps files. All times are seconds
as floats unless a name says otherwise, all money is integer cents, all instants are aware UTC datetimes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from pathlib import Path, PurePosixPath
from random import Random
from typing import TYPE_CHECKING, Any, NewType, Protocol, runtime_checkable

from pipeline.errors import CapReached, TargetError
from pipeline.telling import Manner, silent
from pipeline.verdict import Finding, Verdict

if TYPE_CHECKING:
    import httpx
    from pydantic import BaseModel

    from pipeline.facts import Facts
    from pipeline.secrets import Secret
    from pipeline.service import Service
    from pipeline.settings import Settings
    from pipeline.spec import Environment, Spec

Cents = NewType("Cents", int)
ReleaseId = NewType("ReleaseId", str)
Captured = Mapping[str, Any]
"""What a checkpoint saw, as JSON values without any secret: it goes into the journal."""


class Clock(Protocol):
    """Time is an argument."""

    def now(self) -> datetime: ...
    def monotonic(self) -> float: ...
    async def sleep(self, seconds: float) -> None: ...


# ---- hosts: where files lie and commands run ---------------------------------------------------------------


@dataclass(frozen=True)
class Completed:
    """A command that ran to its end. `stdout` and `stderr` are bounded and redacted."""

    argv: tuple[str, ...]
    returncode: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class Fence:
    """What a change is made under: the file that keeps the highest token a host was shown, and this run's token."""

    path: PurePosixPath
    token: int


class Host(Protocol):
    """A machine. Raises TargetError when the machine is out of reach, FileNotFoundError where a path is missing.

    With a `fence` the call is a change, made under a lock that is held until all of it has ended, its command too:
    a token lower than the fence's raises LeaseLost and changes nothing. None: it only looks.
    """

    async def run(
        self, argv: Sequence[str], *, timeout: float, stdin: bytes = b"", fence: Fence | None = None
    ) -> Completed:
        """Runs an argv list, never a shell. Raises CommandFailed when `timeout` (s) runs out."""

    async def put(self, path: PurePosixPath, content: bytes, *, mode: int = 0o644, fence: Fence | None = None) -> None:
        """Writes a whole file so that readers see the old bytes or the new ones, durable on return."""

    async def rename(self, old: PurePosixPath, new: PurePosixPath, *, fence: Fence | None = None) -> None:
        """Replaces `new` by `old` in one step, durable on return."""

    async def read(self, path: PurePosixPath) -> bytes: ...


class Fencing(Protocol):
    """The fence of a target, as one run uses it."""

    async def ours(self) -> Fence | None:
        """What a change of this run is made under. Raises LeaseLost when it may change nothing any more.

        None where nobody needs a lease: a service that went down is only brought up again.
        """

    async def highest(self) -> int:
        """The highest token the target was shown; 0 where it was shown none."""

    async def advance(self, token: int) -> None:
        """From here on lower tokens change nothing. Waits for a change in progress.

        Raises LeaseLost where the target knows a higher one, LeaseHeld when a change does not come to its end.
        """


# ---- targets: where releases run ---------------------------------------------------------------------------


class ReleaseState(StrEnum):
    BUILDING = "building"
    STAGED = "staged"
    LIVE = "live"
    VERIFIED = "verified"
    BAD = "bad"


@dataclass(frozen=True)
class ReleaseRecord:
    """One release as the target knows it. `manifest` and `settings` are SHA-256 digests (settings: salted)."""

    id: ReleaseId
    state: ReleaseState
    since: datetime
    why: str
    manifest: str
    settings: str


class Releases(Protocol):
    """The release folders of a target and their states."""

    async def stage(self, release: ReleaseId, artifact: Path, settings: Mapping[str, Secret | str]) -> ReleaseRecord:
        """Copies the artifact and its settings under `release`, checks every byte, ends `staged`. Repeatable."""

    async def all(self) -> Sequence[ReleaseRecord]:
        """Newest first. A folder without a readable record is `building`."""

    async def mark(self, release: ReleaseId, state: ReleaseState, why: str) -> None: ...

    async def prune(self, keep: int) -> Sequence[ReleaseId]:
        """Removes what nothing can go back to; never the live one, never the last `keep` verified."""


@runtime_checkable
class Rereads(Protocol):
    """What releases must offer beside `Releases`, so that a way back to one can be confirmed."""

    async def reread(self, release: ReleaseId) -> str:
        """Reads every byte of a release again, returns its manifest's SHA-256. Raises TargetError where it differs."""


@dataclass(frozen=True)
class Started:
    """A release that answered as ready. `took` in s; `body` is what `/health/ready` said."""

    release: ReleaseId
    took: float
    body: Mapping[str, Any]


class Traffic(Protocol):
    """Which release gets the connections."""

    async def live(self) -> ReleaseId | None:
        """The release that serves now: what the link says *and* what runs. None: closed."""

    async def activate(self, release: ReleaseId) -> None:
        """New beside old, link by rename, old drains. Idempotent. Raises ReleaseNotReady; then the old one serves."""

    async def close(self) -> None:
        """No release serves: the target itself answers 503 with Retry-After to everything."""

    async def rehearse(self, release: ReleaseId) -> Started:
        """Starts a release on a spare port with its own settings, asks whether it is ready, stops it."""


class SwitchName(StrEnum):
    MAINTENANCE = "maintenance"
    PAYMENTS_OFF = "payments-off"
    TEST_MODE = "test-mode"


@dataclass(frozen=True)
class SwitchOn:
    """A switch that is on: who, why, since; `proof` is the hex SHA-256 of the token that may pass it, or ''.

    `run` is the run that closed the door; '' means a person did, and then only a person opens it.
    """

    who: str
    why: str
    since: str
    proof: str = ""
    run: str = ""


class Switches(Protocol):
    """The files a service reads on each request."""

    async def read(self, name: SwitchName) -> SwitchOn | None: ...
    async def write(self, name: SwitchName, value: SwitchOn | None) -> None:
        """None switches it off."""


class SettingsVault(Protocol):
    """The settings a release was staged with, kept beside it."""

    async def in_force(self, release: ReleaseId) -> str:
        """Salted digest of the settings file the release starts with, or '' when there is none."""

    async def kept(self, release: ReleaseId) -> str:
        """The same of the copy kept when it was staged."""

    async def values(self, release: ReleaseId) -> Mapping[str, str]:
        """The kept settings themselves, secrets included: what the proofs of that release sign with."""

    async def put_back(self, release: ReleaseId) -> None:
        """Makes the file in force equal to the kept copy, mode 0600. Raises TargetError when it cannot."""


class Commands(Protocol):
    """Commands that a release brings with it, run at the target as its process is."""

    async def run(self, release: ReleaseId, argv: Sequence[str], *, timeout: float) -> Completed:
        """Runs `argv` in the release's folder with the settings it was staged with; any exit code is an outcome.

        Every byte of the release is read first, and one command runs at a time: what an owner that was killed left
        running is waited for. Raises ReleaseNotReady where a byte differs, CommandFailed when `timeout` (s) runs out.
        """


class Weights(Protocol):
    """How the traffic is shared among releases."""

    async def shares(self) -> Mapping[ReleaseId, int]:
        """Percent by release, 100 in all; empty: the service is closed."""

    async def share(self, shares: Mapping[ReleaseId, int]) -> None:
        """Makes it so. Idempotent. Raises TargetError for shares that this target cannot give."""


@dataclass(frozen=True)
class Target:
    """Where releases run: small contracts over one host. What changes it through `host` does so under its `fencing`."""

    kind: str
    host: Host
    area: PurePosixPath
    releases: Releases
    traffic: Traffic
    switches: Switches
    settings: SettingsVault
    fencing: Fencing
    commands: Commands
    weights: Weights


# ---- gateways: who takes the money -------------------------------------------------------------------------


@dataclass(frozen=True)
class PayLink:
    id: str
    url: str


@dataclass(frozen=True)
class PaymentRequest:
    reference: str
    amount: Cents
    description: str
    requester_url: str
    callback_url: str
    success_url: str
    failure_url: str
    cancel_url: str


@dataclass(frozen=True)
class GatewayPayment:
    """A payment as the gateway sees it. `paid` is the gateway's own word for it, nothing else."""

    link_id: str
    reference: str
    amount: Cents
    status: str
    paid: bool
    created: str


@dataclass(frozen=True)
class SignedWebhook:
    """A webhook ready to be posted: exact bytes and headers."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Verified:
    """What verification found. `body` is what was signed, b'' when refused: act on it, not on the raw bytes."""

    accepted: bool
    reason: str
    body: bytes = b""


@dataclass(frozen=True)
class SchemeHeaders:
    """The headers of a signing scheme, in lower case; '' where it has no such header."""

    signature: str
    sender: str = ""
    time: str = ""


class SigningScheme(Protocol):
    """How webhooks are signed and verified."""

    @property
    def headers(self) -> SchemeHeaders: ...

    def sign(self, path: str, body: bytes, *, at: datetime) -> SignedWebhook:
        """`path` is the URL's path without query. A scheme without a time stamp does not look at `at`."""

    def verify(self, path: str, body: bytes, headers: Mapping[str, str], *, at: datetime) -> Verified:
        """In constant time, and total: any bytes in, a verdict out, never an exception."""

    def with_secret(self, secret: str) -> SigningScheme:
        """The same scheme with one other secret. Raises ValueError for one that signs nothing."""


class Gateway(Protocol):
    """Raises GatewayError's children. `create` is never retried: its outcome may be unknown."""

    scheme: SigningScheme

    async def create(self, request: PaymentRequest) -> PayLink: ...
    async def status(self, link_id: str) -> GatewayPayment: ...
    async def history(self, since: datetime, until: datetime) -> Sequence[GatewayPayment]: ...
    def webhook(self, path: str, link_id: str, reference: str, status: str) -> SignedWebhook:
        """What the gateway would send to `path`. `status`: SUCCESS or FAILURE."""


class GatewayControl(Protocol):
    """What may be done to a gateway that is ours: only the sandbox's has one. Faults are `sandbox.gateway.faults`."""

    def holding(self, **members: object) -> AbstractAsyncContextManager[None]:
        """The gateway with these faults for as long as this lasts; they end with the process that holds them."""

    async def payments(self) -> Sequence[Mapping[str, Any]]:
        """Every payment as the gateway keeps it, callback and return addresses included."""


# ---- what is spent -------------------------------------------------------------------------------------------


class Purse(Protocol):
    """What the smoke payments of one run may cost, counted on record: no retry and no resumed run spends it again."""

    async def spend(self, cents: Cents, reference: str, *, cap: Cents) -> None:
        """Durable before it returns. Raises CapReached when this run would have spent more than `cap` in all."""


class EmptyPurse:
    """Nothing may be spent where nothing is on record."""

    async def spend(self, cents: Cents, reference: str, *, cap: Cents) -> None:
        raise CapReached(f"{cents} cents for {reference} were not spent: this command keeps no record of money")


# ---- what is on record ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PastFinding:
    """A finding of an earlier run."""

    at: datetime
    run: str
    check: str
    verdict: Verdict
    evidence: Mapping[str, Any]


@dataclass(frozen=True)
class SecurityEvent:
    """Something a person who looks for attacks wants to count. Never a secret, never card data.

    `kind` is one of docs/security-events.md, `source` who did it (an address, or the check), `reference` '' for none.
    """

    at: datetime
    kind: str
    source: str
    reason: str
    reference: str = ""


@dataclass(frozen=True)
class PastRun:
    """A run that came to its end. `verb` as in `RUN_STARTED`, `outcome` as in `RUN_FINISHED`."""

    at: datetime
    run: str
    verb: str
    outcome: str


class Past(Protocol):
    """What the journal of one environment remembers, newest first; empty where there is no journal."""

    def findings(self, check: str) -> Sequence[PastFinding]: ...
    def runs(self, verb: str) -> Sequence[PastRun]: ...


class Tell(Protocol):
    """Shows a line under the step that a check is asked in."""

    def __call__(self, line: str, manner: Manner = Manner.SAID, /) -> None: ...


@dataclass(frozen=True)
class Proof:
    """What one step of `prove` found of a release."""

    step: str
    finding: Finding


class Prove(Protocol):
    """Asks a release that is live for the proofs of `prove`; what they find is for the asker to put on record."""

    async def __call__(self, release: ReleaseId, /) -> Sequence[Proof]: ...


async def nobody_proves(release: ReleaseId, /) -> Sequence[Proof]:
    """Where no run could put right what the proofs find."""
    raise TargetError(f"{release} was not proven: only a deploy asks for that", "Use `./inv verify` for what is live.")


class NoPast:
    """Nothing is on record."""

    def findings(self, check: str) -> Sequence[PastFinding]:
        return ()

    def runs(self, verb: str) -> Sequence[PastRun]:
        return ()


# ---- what a plug-in may see --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Addresses:
    """Where the service and its gateway answer in this environment, and the CA file their certificates chain to."""

    service: str
    gateway: str
    ca_file: Path | None = None


@dataclass(frozen=True)
class RunInfo:
    """The run a plug-in works for. `release` is what is being deployed or verified, None when nothing is."""

    id: str
    started: datetime
    release: ReleaseId | None
    previous: ReleaseId | None
    """The last verified release before this run; what a rollback would go back to."""
    artifact: Path | None
    proof_token: Secret
    watch_for: float


@dataclass(frozen=True)
class World:
    """Everything a check or a checkpoint may use. Nothing else is ambient."""

    spec: Spec
    environment: Environment
    environment_name: str
    root: Path
    """The folder of pipeline.yaml; relative paths of a spec start here."""
    addresses: Addresses
    settings: Settings
    target: Target
    gateway: Gateway
    service: Service
    http: Callable[[], httpx.AsyncClient]
    """Makes a client that trusts the environment's CA, follows no redirect, and reads no proxy from the environment."""
    clock: Clock
    random: Random
    run: RunInfo
    facts: Facts
    past: Callable[[str], Past] = lambda _environment: NoPast()
    """The record of an environment of the spec, by its name."""
    spec_digest: str = ""
    """Hex SHA-256 of pipeline.yaml."""
    control: GatewayControl | None = None
    """Power over the gateway: in the sandbox alone."""
    purse: Purse = field(default_factory=EmptyPurse)
    security: Callable[[SecurityEvent], None] = lambda _event: None
    """Puts a security event on record."""
    tell: Tell = silent
    """Tells whoever follows the run what a check waits for. Shown, not kept; it decides nothing."""
    prove: Prove = nobody_proves
    """The proofs of `prove`, asked of what is live: for a check that judges before the switch."""


# ---- checks ------------------------------------------------------------------------------------------------


class When(StrEnum):
    """What must exist before a check can be asked; `pipeline.yaml` may only use it in such a stage or later."""

    ANY = "any"
    BUILT = "built"
    LIVE = "live"


@dataclass(frozen=True)
class Check:
    """One property. `name` passing is a true sentence: `webhook.refuses_unsigned`.

    `gather` asks the world and returns a fact; through `world.facts.once` nothing is asked twice. `judge` is pure.
    A crash in either is a finding ERROR. `params` validates `with:`; `rows` are ids of the requirements.
    """

    name: str
    promise: str
    rows: tuple[str, ...]
    gather: Callable[[World, Any], Awaitable[Any]]
    judge: Callable[[Any, Any], Finding]
    params: type[BaseModel]
    network: bool = False
    """True when it talks to anything but files of this machine: `validate --offline` leaves it out."""
    when: When = When.ANY
    why: str = ""
    pci: tuple[str, ...] = ()
    """Requirements of PCI DSS v4.0.1 that its findings are evidence for; never a claim of compliance."""
    acceptable: bool = True
    """Whether `accepted:` in pipeline.yaml may let its finding pass for a time. Never for leaks, signatures
    and what keeps orders whole."""
    looks_at: str = ""
    """What it looks at, in one or two sentences for its page in docs/checks/."""
    fix: str = ""
    """How what it finds is mended, for the same page."""
    see_it_fail: str = ""
    """How to see it fail: a sentence, or a command of this repository."""
    says: tuple[str, ...] = ()
    """Lines of the troubleshooting guide (row G17) that its findings repeat word for word."""


# ---- checkpoints -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Confirmation:
    ok: bool
    found: str
    expected: str


class Here(Protocol):
    """Runs a command of the operator's on this machine, in the folder of pipeline.yaml, without the settings."""

    async def __call__(self, argv: Sequence[str], /, *, timeout: float, stdin: bytes = b"") -> Completed: ...


async def no_commands(argv: Sequence[str], /, *, timeout: float, stdin: bytes = b"") -> Completed:
    """Where one only looks."""
    raise TargetError(f"`{' '.join(argv)}` was not run: this only looks", "A deploy or a rollback runs it.")


@dataclass(frozen=True)
class RestoreContext:
    """What a checkpoint works on when it restores: no spec, no settings, no gateway, so nothing a bad release broke.

    The last two are for `capture` alone; what restoring needs of them is captured.
    """

    target: Target
    clock: Clock
    who: str
    why: str
    goal: ReleaseId | None = None
    """What `capture` aims at: a release to go back to. None: what is live now."""
    here: Here = no_commands
    release: ReleaseId | None = None
    """The release that is being deployed."""
    wanted: Mapping[str, Any] = field(default_factory=dict)
    """What pipeline.yaml says of this checkpoint, as JSON values; empty for a kind it has nothing to say of."""
    of_run: str = ""
    """The run that is taken back: a door that it closed was open before, whatever it could still put on record."""


class Checkpoint(Protocol):
    """What a step may change and how to put it back. `reopens`: restored last, after the proofs.

    A step arms a kind, or `kind:which`. `limit_s` in what was captured: the seconds that restoring it may take, where
    that is longer than what the engine gives any checkpoint.
    """

    name: str
    reopens: bool

    async def capture(self, context: RestoreContext) -> Captured: ...
    async def restore(self, context: RestoreContext, captured: Captured) -> None:
        """Idempotent."""

    async def confirm(self, context: RestoreContext, captured: Captured) -> Confirmation:
        """Reads the world again and compares."""


@runtime_checkable
class OnlyWhereNamed(Protocol):
    """A kind of checkpoint that is captured only where a step names it.

    `section` is the key of pipeline.yaml that says what it has to do, '' for none. Under `checkpoints` several stand,
    each with a name of its own, and a step arms `kind:name`.
    """

    section: str


NAMED = "checkpoints"
"""The section whose kinds a step arms by a name."""


def kind_of(checkpoint: str) -> str:
    """The kind of `kind` or `kind:which`: its name in the table."""
    return checkpoint.partition(":")[0]


@dataclass(frozen=True)
class Catalogue:
    """The tables of all rooms, handed to the engine: what is not in a table does not exist."""

    checks: Mapping[str, Check]
    checkpoints: Mapping[str, Checkpoint]
    targets: Mapping[str, Callable[..., Awaitable[Target]]]
    gateways: Mapping[str, Callable[..., Gateway]]
