"""What people answer for: signed records in `attestations/ENVIRONMENT/`, and what each is worth now.

A record counts while its signature is genuine, its time has not run out, and what it was signed for is what stands
here: service, environment, the words of the item, a revision of our own history, and what the item is bound to.
Reading is total: whatever bytes lie in the files, the answer is a state.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, StringConstraints

from pipeline import ssh_signatures
from pipeline.errors import CommandFailed
from pipeline.revisions import Checkout, checkout
from pipeline.spec import Frozen, Name, Sentence, Spec
from pipeline.ssh_signatures import Judged

FOLDER = "attestations"
SIGNERS = f"{FOLDER}/allowed_signers"
AHEAD = timedelta(minutes=5)
"""How far ahead of ours the signer's clock may go."""

_LARGEST = 65_536
_AT_ONCE = 8
_WRITTEN = "%Y-%m-%dT%H:%M:%SZ"


# ---- what can be signed ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Item:
    """A line that a person signs. `valid_for` (s) is the longest a signature may last."""

    name: str
    kind: Literal["sign-off", "duty"]
    title: str
    valid_for: float
    bound_to: Literal["time", "spec", "revision"] = "time"


def items(spec: Spec) -> Mapping[str, Item]:
    """Every item of a spec by its name. A name that is both is a sign-off."""
    duties = {name: Item(name, "duty", duty.title, duty.every) for name, duty in spec.duties.items()}
    signed = {
        name: Item(name, "sign-off", one.title, one.valid_for, one.bound_to) for name, one in spec.sign_offs.items()
    }
    return {**duties, **signed}


# ---- the record --------------------------------------------------------------------------------------------


def written(at: datetime) -> str:
    """An instant as records hold it: UTC, to the second."""
    return at.astimezone(UTC).strftime(_WRITTEN)


def read_instant(text: str) -> datetime:
    return datetime.strptime(text, _WRITTEN).replace(tzinfo=UTC)


def after(at: datetime, seconds: float) -> datetime:
    """The instant so much later; the last one there is where that would be beyond it."""
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(microsecond=0, tzinfo=UTC)


def _is_instant(text: str) -> str:
    if written(read_instant(text)) != text:
        raise ValueError("an instant like 2026-11-22T06:00:00Z is allowed")
    return text


Instant = Annotated[str, StringConstraints(max_length=20), AfterValidator(_is_instant)]
Principal = Annotated[str, StringConstraints(pattern=r"^[!-~]{1,128}$")]
Revision = Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")]
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class TextEvidence(Frozen):
    text: Sentence


DocumentName = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class KeptEvidence(Frozen):
    """A document of the repository; its path is relative to the folder of pipeline.yaml."""

    path: DocumentName
    sha256: Digest


class FileEvidence(Frozen):
    """A document that is kept elsewhere, by its name."""

    file: DocumentName
    sha256: Digest


Evidence = TextEvidence | KeptEvidence | FileEvidence


class Record(Frozen):
    """What was signed, exactly: the bytes of the file are `as_bytes`, and the signature is over them."""

    version: Literal[1] = 1
    service: Name
    environment: Name
    item: Name
    statement: Sentence
    by: Principal
    at: Instant
    valid_until: Instant
    evidence: Evidence
    revision: Revision
    since: Revision | Literal[""]
    spec_digest: Digest

    def as_bytes(self) -> bytes:
        document = self.model_dump(mode="json")
        return (json.dumps(document, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def parse(data: bytes) -> Record | None:
    """The record in `data`; None for anything but the very bytes that `as_bytes` gives, so that none reads twofold."""
    try:
        record = Record.model_validate_json(data)
        return record if record.as_bytes() == data else None
    except (ValueError, OverflowError):
        return None


# ---- what it is worth --------------------------------------------------------------------------------------


class State(StrEnum):
    """Best first."""

    VALID = "valid"
    MISSING = "missing"
    UNKNOWN = "not verifiable here"
    EXPIRED = "expired"
    VOID = "void"
    ELSEWHERE = "for something else"
    FUTURE = "from the future"
    FOREIGN = "foreign"
    UNSIGNED = "unsigned"
    ALTERED = "altered"
    UNREADABLE = "unreadable"


@dataclass(frozen=True)
class Attestation:
    """What one item's record is worth. `by`, `at` and `until` are told only where the signature is genuine."""

    item: str
    state: State
    why: str
    by: str = ""
    at: datetime | None = None
    until: datetime | None = None

    @property
    def done(self) -> datetime | None:
        """When somebody who may sign said it was done, though that may have run out since."""
        return self.at if self.state in (State.VALID, State.EXPIRED) else None


@dataclass(frozen=True)
class Shelf:
    """Where the records of one environment lie, and what they are held against."""

    root: Path
    service: str
    environment: str
    spec_digest: str
    now: datetime

    def record(self, item: str) -> Path:
        return self.root / FOLDER / self.environment / f"{item}.json"

    def signature(self, item: str) -> Path:
        return self.root / FOLDER / self.environment / f"{item}.json.sig"

    @property
    def signers(self) -> Path:
        return self.root / SIGNERS


async def standing(shelf: Shelf, wanted: Iterable[Item]) -> Mapping[str, Attestation]:
    """What the record of each item is worth, by its name."""
    asked = list(wanted)
    found = any(shelf.record(item.name).exists() for item in asked)
    tree = await checkout(shelf.root) if found else Checkout(shelf.root, "", problem="not asked for")
    room = asyncio.Semaphore(_AT_ONCE)

    async def one(item: Item) -> Attestation:
        async with room:
            try:
                return await judge(shelf, item, tree)
            except CommandFailed as error:
                return Attestation(item.name, State.UNKNOWN, str(error))

    return {each.item: each for each in await asyncio.gather(*map(one, asked))}


async def judge(shelf: Shelf, item: Item, tree: Checkout) -> Attestation:
    """The first reason against a record decides; content is told only once the signature is genuine."""
    data = _read(shelf.record(item.name))
    if isinstance(data, str):
        return Attestation(item.name, State.UNREADABLE if data else State.MISSING, data or "no record")
    record = parse(data)
    if record is None:
        return Attestation(item.name, State.UNREADABLE, "not a record as `attest` writes one")
    signature = _read(shelf.signature(item.name))
    if isinstance(signature, str) or not signature.strip():
        return Attestation(item.name, State.UNSIGNED, "no signature lies beside the record")
    genuine = await ssh_signatures.verify(data, shelf.signature(item.name), shelf.signers, record.by, shelf.now)
    if genuine.judged is not Judged.GENUINE:
        return Attestation(item.name, _STATES[genuine.judged], genuine.why)
    return await _content(shelf, item, tree, record)


_STATES = {Judged.FOREIGN: State.FOREIGN, Judged.ALTERED: State.ALTERED, Judged.UNKNOWN: State.UNKNOWN}


async def _content(shelf: Shelf, item: Item, tree: Checkout, record: Record) -> Attestation:
    at, until = read_instant(record.at), read_instant(record.valid_until)
    told = Attestation(item.name, State.VALID, "", record.by, at, until)
    if at > shelf.now + AHEAD:
        return replace(told, state=State.FUTURE, why=f"it was signed on {record.at}, which is to come")
    until = min(until, after(at, item.valid_for))
    told = replace(told, until=until)
    if other := _elsewhere(shelf, item, record):
        return replace(told, state=State.ELSEWHERE, why=f"it was signed for {other}")
    if item.title != record.statement:
        return replace(told, state=State.VOID, why="pipeline.yaml words the item differently now")
    if why := await asyncio.to_thread(_changed_evidence, shelf, record):
        return replace(told, state=State.VOID, why=why)
    if not tree.head:
        return replace(told, state=State.UNKNOWN, why=f"its revision cannot be looked up: {tree.problem}")
    if not await tree.committed(SIGNERS):
        return replace(told, state=State.FOREIGN, why=f"{SIGNERS} is not in the last commit as it stands here")
    held = await tree.holds(record.revision)
    if held is None:
        return replace(told, state=State.UNKNOWN, why="its revision cannot be looked up in a shallow clone")
    if not held:
        return replace(told, state=State.VOID, why=f"its revision {record.revision[:12]} is not in our history")
    if item.bound_to == "spec" and record.spec_digest != shelf.spec_digest:
        return replace(told, state=State.VOID, why="pipeline.yaml has changed since")
    if item.bound_to == "revision" and not await tree.same_since(record.revision, FOLDER):
        return replace(
            told, state=State.VOID, why=f"files have changed, or are hidden from git, since {record.revision[:12]}"
        )
    if shelf.now >= until:
        return replace(told, state=State.EXPIRED, why=f"it ran out on {until:%Y-%m-%d}")
    return told


def _elsewhere(shelf: Shelf, item: Item, record: Record) -> str:
    """What the record was signed for when that is not this item here, else ''."""
    if record.service != shelf.service:
        return f"the service {record.service}"
    if record.environment != shelf.environment:
        return f"the environment {record.environment}"
    return f"the item {record.item}" if record.item != item.name else ""


def _changed_evidence(shelf: Shelf, record: Record) -> str:
    """Why the document that was signed is not the one that lies here, else ''. One kept elsewhere is not looked at."""
    if not isinstance(record.evidence, KeptEvidence):
        return ""
    digest = digest_of(shelf.root / record.evidence.path)
    if digest == record.evidence.sha256:
        return ""
    return f"its evidence {record.evidence.path} {'has changed since' if digest else 'cannot be read'}"


def digest_of(path: Path) -> str:
    """Hex SHA-256 of a file; '' when it cannot be read."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, ValueError):
        return ""


def _read(path: Path) -> bytes | str:
    """The file's bytes; '' where there is none, or why it cannot be read."""
    try:
        if not path.exists() and not path.is_symlink():
            return ""
        if not path.is_file():
            return "no ordinary file"
        if path.stat().st_size > _LARGEST:
            return f"larger than {_LARGEST // 1024} KiB"
        return path.read_bytes()
    except OSError as error:
        return error.strerror or type(error).__name__
