"""pipeline.yaml as frozen, typed values. The JSON Schema of the file is generated from these types.

Reading a file, and saying where in it a mistake stands, is `pipeline.loader`'s work.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    WithJsonSchema,
    model_validator,
)

STAGES = ("gates", "build", "deploy", "prove", "watch")
"""The stages of a run, in their order. All but `gates` may change or touch the environment."""

_UNITS = {"ms": 0.001, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?) ?(ms|s|min|h|d)")
_PERCENT = re.compile(r"([0-9]{1,3}(?:\.[0-9]{1,9})?) ?%")


def _seconds(value: object) -> object:
    if isinstance(value, float):
        return value
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("a duration with its unit is allowed: 500 ms, 20 s, 5 min, 1 h, 90 d")
    return float(match[1]) * _UNITS[match[2]]


def _share(value: object) -> object:
    if isinstance(value, float):
        return value
    match = _PERCENT.fullmatch(value) if isinstance(value, str) else None
    if match is None or float(match[1]) > 100:
        raise ValueError("a percentage is allowed: 95%, 0.5%")
    return float(match[1]) / 100


def _tolerable(seconds: float) -> float:
    if not 1 <= seconds <= 86_400:
        raise ValueError("a duration from 1 s to 24 h is allowed")
    return seconds


Duration = Annotated[
    float,
    BeforeValidator(_seconds),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)? ?(ms|s|min|h|d)$", "examples": ["20 s", "5 min"]}),
]
Share = Annotated[
    float,
    BeforeValidator(_share),
    WithJsonSchema({"type": "string", "pattern": r"^\d+(\.\d+)? ?%$", "examples": ["95%"]}),
]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Checkpoint = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$")
]
Reference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Argv = Annotated[tuple[Annotated[str, StringConstraints(min_length=1)], ...], Field(min_length=1)]
Path = Annotated[str, StringConstraints(pattern=r"^[^\x00]+$")]
UrlPath = Annotated[str, StringConstraints(pattern=r"^/[^\s?#]*$")]


def _https(value: str) -> str:
    if value != "sandbox" and not re.fullmatch(r"https://[^\s/?#@]+", value):
        raise ValueError("`sandbox` or an https address without path is allowed: https://app.example.com")
    return value


ServiceUrl = Annotated[str, AfterValidator(_https)]


class Frozen(BaseModel):
    """The base of every value of the spec: unknown keys are mistakes, nothing is converted silently."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class NoParams(Frozen):
    """For checks that take nothing under `with:`."""


# ---- settings ----------------------------------------------------------------------------------------------


class Setting(Frozen):
    """One variable the service runs on."""

    type: Literal["url", "secret", "text", "boolean", "integer", "milliseconds"]
    default: str | int | bool | None = Field(None, description="Used where no source has it. Secrets have none.")
    between: tuple[int, int] | None = Field(None, description="Smallest and largest allowed number.")
    required: bool = True
    about: str = ""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.type == "secret" and self.default is not None:
            raise ValueError(
                "a secret with a default in a file; leave `default` out and name a source in settings_from"
            )
        if self.between and self.type not in ("integer", "milliseconds"):
            raise ValueError(f"`between` on a {self.type}; it is for integer and milliseconds")
        if self.between and self.between[0] > self.between[1]:
            raise ValueError(f"between: {self.between[0]} is larger than {self.between[1]}; the smaller one first")
        return self


class FromDotenv(Frozen):
    dotenv: Path


class FromCommand(Frozen):
    """A command that prints dotenv lines, e.g. a secret manager's."""

    command: Argv
    timeout: Duration = 20.0


Source = Literal["environment"] | FromDotenv | FromCommand


# ---- people and scripts --------------------------------------------------------------------------------------

Day = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}$")]
Sentence = Annotated[str, StringConstraints(min_length=3, max_length=500)]


class SignOff(Frozen):
    """What only a person can answer; `./inv attest` records it, signed with the person's key."""

    title: Sentence
    valid_for: Duration = Field(365 * 86400.0, description="Counted from the signature; `attest` may say less.")
    bound_to: Literal["time", "spec", "revision"] = Field(
        "time",
        description="`spec`: void when pipeline.yaml changes; `revision`: when a file outside attestations/ does.",
    )


class Duty(Frozen):
    """Recurring work (row G16)."""

    title: Sentence
    every: Duration
    proven_by: Name | None = Field(
        None, description="A check whose last PASS on record is the proof; without it a signed record is."
    )


class Accepted(Frozen):
    """A finding that somebody answers for, until a day. It is shown in every report."""

    check: Name
    reason: Sentence
    by: Sentence
    until: Day
    only: tuple[Name, ...] | None = Field(None, min_length=1, description="Environments; all by default.")


class Script(Frozen):
    """A script that a page of the payment path may load."""

    src: Annotated[str, StringConstraints(min_length=1)] = Field(
        description="As in the page, `*` for any run of characters but `/`; `inline` for one in the page itself."
    )
    owner: Sentence
    reason: Sentence
    integrity: Annotated[str, StringConstraints(pattern=r"^(built|sha(256|384|512)-[A-Za-z0-9+/]+={0,2})$")] = Field(
        description="`built`: equal to the file the build made; else the hash it must have, as in SRI."
    )


# ---- thresholds --------------------------------------------------------------------------------------------


class SuccessRate(Frozen):
    target: Share
    alert: Share

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.alert > self.target:
            raise ValueError("alert is above target; it is the lower line")
        return self


class UnderTime(Frozen):
    under: Duration


class UnderShare(Frozen):
    under: Share


class Thresholds(Frozen):
    """Row G15."""

    payment_success: SuccessRate = SuccessRate(target=0.95, alert=0.90)
    initialisation: UnderTime = UnderTime(under=5.0)
    webhook: UnderTime = UnderTime(under=2.0)
    payment_failures: UnderShare = UnderShare(under=0.05)
    webhook_validation_failures: UnderShare = UnderShare(under=0.01)


# ---- what the service offers -------------------------------------------------------------------------------


class Course(Frozen):
    id: Reference
    cents: Annotated[int, Field(ge=1)]


class RateLimits(Frozen):
    """What one source may send of payments, and likewise of refused webhooks; the prober paces itself by it."""

    burst: Annotated[int, Field(ge=1, le=100_000)] = 60
    per_second: Annotated[int, Field(ge=1, le=100_000)] = 10


class Contract(Frozen):
    """Where the service offers what `docs/service.md` asks of it. The defaults are the contract's own."""

    smoke_course: Course = Course(id="smoke-001", cents=100)
    courses: tuple[Course, ...] = ()
    smoke_prefix: Reference = "smoke-"
    create: UrlPath = "/api/payments"
    payment: UrlPath = "/api/payments/{reference}"
    enrolment: UrlPath = "/api/enrolments/{reference}"
    webhook: UrlPath = "/api/webhooks/ikhokha"
    live: UrlPath = "/health/live"
    ready: UrlPath = "/health/ready"
    metrics: UrlPath = "/metrics"
    success_page: UrlPath = "/success"
    failure_page: UrlPath = "/failure"
    cancel_page: UrlPath = "/cancel"
    pages: tuple[UrlPath, ...] = Field(
        ("/",), description="Pages on the way to a payment; what they link to is followed a little."
    )
    webhook_sources: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F:.]+(/\d{1,3})?$")], ...] = Field(
        (), description="The gateway's addresses, where the service accepts webhooks from these alone."
    )
    webhook_scheme: Literal["ikhokha", "standard-webhooks"] = Field(
        "ikhokha",
        description="How webhooks are signed: the gateway's own way, or Standard Webhooks (with a time stamp).",
    )
    webhook_tolerance: Annotated[Duration, AfterValidator(_tolerable)] = Field(
        300.0, description="How far a webhook's time stamp may be from now, where the scheme has one."
    )
    limits: RateLimits = RateLimits()
    answers_within: Duration = 5.0
    enrolment_within: Duration = 10.0


class Maintenance(Frozen):
    """What customers read while the service is closed; who closed it and why is never shown."""

    message: Sentence = Field(
        "We are looking after the shop. No payment can be made at the moment.", description="One or two sentences."
    )
    contact: Annotated[str, StringConstraints(min_length=3, max_length=200)] | None = Field(
        None, description="Where customers can ask: an e-mail address, a telephone number, an https address."
    )
    retry_after: Annotated[Duration, AfterValidator(_tolerable)] = Field(120.0, description="When to try again.")


class Release(Frozen):
    """How a release is built into a folder and started from it."""

    produces: Path = Field("dist", description="The folder a build leaves; it becomes the release.")
    start: Argv = Field(description="Started in the release's folder with its settings as environment variables.")
    ready_within: Duration = 20.0
    drain_within: Duration = 30.0
    keep: Annotated[int, Field(ge=2, le=100)] = Field(5, description="How many verified releases are kept.")


# ---- what a step may change beside the release -------------------------------------------------------------


class Database(Frozen):
    """How the schema of the service's database goes forward with a release, and back.

    The commands are argv lists, run at the target in the folder of the release that is being deployed, with the
    settings it was staged with. `{version}` in `revert` is the version that it goes back to.
    """

    migrate: Argv = Field(description="Brings the schema to what the release needs; may be run again.")
    revert: Argv | None = Field(None, description="Brings it back; may be run again.")
    irreversible: Sentence | None = Field(None, description="In place of `revert`: why there is no way back.")
    version: Argv = Field(description="Prints the version of the schema: one line, never a secret.")
    timeout: Duration = Field(300.0, description="What each of the commands may take.")

    @model_validator(mode="after")
    def _goes_back_or_says_why_not(self) -> Self:
        if (self.revert is None) == (self.irreversible is None):
            found = "neither `revert` nor `irreversible`" if self.revert is None else "`revert` and `irreversible`"
            raise ValueError(f'{found}; exactly one of them: `revert: [...]`, or `irreversible: "why"`')
        return self


class CommandCheckpoint(Frozen):
    """Something that three commands of the operator's can put back; they run here, in the folder of this file."""

    capture: Argv = Field(description="Prints what there is to put back: UTF-8, at most 64 kB, never a secret.")
    restore: Argv = Field(description="Gets that on its input and puts it back; may be run again.")
    confirm: Argv = Field(description="Gets it too, reads the world again, and ends with 0 where it is so.")
    timeout: Duration = Field(30.0, description="What each of the commands may take.")


# ---- steps -------------------------------------------------------------------------------------------------


class StepBase(Frozen):
    """Keys common to all steps."""

    name: Name | None = Field(None, description="Defaults to what the step does; `needs` refers to it.")
    needs: tuple[Name, ...] = Field((), description="Steps of the same stage that must be done first.")
    timeout: Duration = Field(60.0, description="In `watch`: beyond the watch itself.")
    retries: Annotated[int, Field(ge=0, le=10)] = 0
    only: tuple[Name, ...] | None = Field(
        None, min_length=1, description="Environments this step is for; all by default."
    )


class CheckStep(StepBase):
    """A judgement over facts."""

    check: Name
    params: Mapping[str, Any] = Field(default_factory=dict, alias="with")


class RunStep(StepBase):
    """A command: an argv list, no shell unless `shell: true`."""

    run: Argv
    shell: bool = False
    cwd: Path = "."
    pass_settings: bool = Field(False, description="Give the command the service's settings as environment variables.")

    @model_validator(mode="after")
    def _shell_takes_one_line(self) -> Self:
        if self.shell and len(self.run) != 1:
            raise ValueError('shell: true takes one line, `run: ["a | b"]`')
        return self


class ActStep(StepBase):
    """A change to the environment. Its checkpoints are captured and on disk before it begins."""

    act: Name
    checkpoints: tuple[Checkpoint, ...] = ()
    params: Mapping[str, Any] = Field(default_factory=dict, alias="with")


Step = CheckStep | RunStep | ActStep


class Stages(Frozen):
    gates: tuple[Step, ...] = Field(min_length=1)
    build: tuple[Step, ...] = ()
    deploy: tuple[Step, ...] = Field(min_length=1)
    prove: tuple[Step, ...] = Field(min_length=1)
    watch: tuple[Step, ...] = ()


# ---- environments ------------------------------------------------------------------------------------------

NoticeEvent = Literal[
    "started", "deployed", "refused", "rolled back", "person needed", "closed", "reopened", "test mode", "taken over"
]


class LocalTarget(Frozen):
    """Releases run on the machine the pipeline runs on."""

    kind: Literal["local"]
    path: Path
    listen: Annotated[str, StringConstraints(pattern=r"^127\.0\.0\.1:\d{1,5}$")] = Field(
        "127.0.0.1:0",
        description="Where the service listens for the proxy in front; port 0 picks a free one and keeps it.",
    )


class Notice(Frozen):
    """Somebody who is told how runs of an environment go."""

    to: Name = Field(description="The name shown in records and messages.")
    address_from: Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")] = Field(
        description="A variable that `settings_from` has: it holds an Apprise address, which is a secret."
    )
    on: tuple[NoticeEvent, ...] = Field(
        ("refused", "rolled back", "person needed", "closed", "reopened", "test mode", "taken over"),
        min_length=1,
        description="What is told.",
    )


class Environment(Frozen):
    """All that differs between environments, and nothing else."""

    url: ServiceUrl
    target: LocalTarget
    settings_from: tuple[Source, ...] = Field(
        min_length=1, description="Looked at in this order; the first that has a name wins."
    )
    allowed: Mapping[str, tuple[str, ...]] = Field(
        default_factory=dict, description="The only values a setting may have here."
    )
    process: Mapping[str, str] = Field(
        default_factory=dict, description="Further variables of the service's process, no secrets."
    )
    watch_for: Duration = 20.0
    watch_at_least: Annotated[int, Field(ge=1)] = Field(20, description="Payments below which a watch is inconclusive.")
    ca_file: Path | None = None
    notices: tuple[Notice, ...] = Field((), description="Who is told; nobody by default.")


class Spec(Frozen):
    """A whole pipeline.yaml."""

    version: Literal[1]
    service: Name
    gateway: Name
    settings: Mapping[str, Setting] = Field(min_length=1)
    release: Release
    contract: Contract = Contract()
    maintenance: Maintenance = Maintenance()
    thresholds: Thresholds = Thresholds()
    database: Database | None = None
    checkpoints: Mapping[Name, CommandCheckpoint] = Field(
        default_factory=dict, description='What `checkpoints: ["command:NAME"]` of a step captures and puts back.'
    )
    stages: Stages
    accepted: tuple[Accepted, ...] = ()
    sign_offs: Mapping[Name, SignOff] = Field(default_factory=dict)
    duties: Mapping[Name, Duty] = Field(default_factory=dict)
    scripts: tuple[Script, ...] = ()
    questionnaire: Literal["SAQ A", "SAQ A-EP", "SAQ D"] | None = Field(
        None, description="The PCI DSS questionnaire the merchant fills in; reports map evidence to its numbers."
    )
    environments: Mapping[Name, Environment] = Field(min_length=1)

    def steps(self, stage: str) -> Sequence[Step]:
        """The steps of one of `STAGES`."""
        return getattr(self.stages, stage)  # type: ignore[no-any-return]
