"""Signing for an item: what is said, with whose key, and how both files are put in place together."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from pipeline import ssh_signatures
from pipeline.attestations import (
    FOLDER,
    SIGNERS,
    Evidence,
    FileEvidence,
    Item,
    KeptEvidence,
    Record,
    Shelf,
    TextEvidence,
    after,
    digest_of,
    parse,
    written,
)
from pipeline.errors import Refused, Usage
from pipeline.spec import Duration
from pipeline.ssh_signatures import NAMESPACE, Judged, Key
from pipeline.whole_file import beside

_LIMIT_S = 20.0
_FILE_LIKE = re.compile(r"(?!https?://)\S*[\w-]\.(?:pdf|md|txt|docx?|odt|html?|png|jpe?g|csv|json|eml|zip)")


def lasting(item: Item, valid_for: str) -> float:
    """How long (s) a signature lasts: as asked, at most what the item allows, which is also the default."""
    if not valid_for:
        return item.valid_for
    try:
        asked = TypeAdapter(Duration).validate_python(valid_for.strip() if valid_for.isascii() else "")
    except ValidationError:
        raise Usage(
            f"--valid-for {valid_for}: a duration with its unit is allowed", "For example 90d or 12h."
        ) from None
    if not 60 <= asked <= item.valid_for:
        raise Usage(
            f"--valid-for {valid_for}: {item.name} allows 1 min to {item.valid_for / 86_400:g} d",
            f"Ask for less, or change `{'every' if item.kind == 'duty' else 'valid_for'}` of it in pipeline.yaml.",
        )
    return asked


# ---- evidence ----------------------------------------------------------------------------------------------


def evidence(root: Path, text: str) -> Evidence:
    """A file's name and digest where `text` is one, else the text. Raises Usage for neither."""
    text = text.strip()
    for path in (Path(text), root / text):
        if text and _is_file(path):
            return _document(root, path.resolve())
    if _FILE_LIKE.fullmatch(text):
        raise Usage(f"--evidence {text}: there is no such file", "Correct the path, or write a sentence.")
    if not 3 <= len(text) <= 500:
        raise Usage(
            f"--evidence has {len(text)} characters; a sentence of 3 to 500, or the path of a file, is allowed",
            "Say what you looked at, and where it is kept.",
        )
    return TextEvidence(text=text)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:
        return False  # a sentence may be longer than a name can be


def _document(root: Path, path: Path) -> Evidence:
    digest = digest_of(path)
    if not digest:
        raise Usage(f"--evidence {path} cannot be read", "Make it readable, or write a sentence.")
    kept = path.is_relative_to(root.resolve()) and _git(root, "check-ignore", "--quiet", str(path)) is None
    if kept:
        return KeptEvidence(path=path.relative_to(root.resolve()).as_posix(), sha256=digest)
    return FileEvidence(file=path.name, sha256=digest)


# ---- whose key ---------------------------------------------------------------------------------------------


@contextmanager
def chosen_key(root: Path, given: str) -> Iterator[Key]:
    """The key of `--key`, else the one git signs with, else the usual one. Raises Refused when there is none."""
    if given:
        yield ssh_signatures.read_key(Path(given).expanduser())
        return
    configured = _git(root, "config", "--type=path", "user.signingkey")
    if configured is None or _git(root, "config", "gpg.format") != "ssh":
        yield ssh_signatures.read_key(_usual())
        return
    literal = configured.removeprefix("key::")
    if not re.match(r"(?:sk-)?(?:ssh|ecdsa)-\S+ ", literal):
        yield ssh_signatures.read_key(Path(configured).expanduser())
        return
    with tempfile.TemporaryDirectory(prefix="tollgate-") as folder:
        public = Path(folder) / "key.pub"
        public.write_text(literal + "\n", "utf-8")
        yield ssh_signatures.read_key(public)


def _usual() -> Path:
    private = Path.home() / ".ssh" / "id_ed25519"
    public = private.with_name("id_ed25519.pub")
    return public if public.is_file() and not private.exists() else private


def signer(shelf: Shelf, key: Key) -> str:
    """The name under which the list of signers has this key. Raises Refused, with the line to add, when it has not."""
    try:
        listed = ssh_signatures.principals(shelf.signers.read_text("utf-8", "replace"), key)
    except OSError:
        listed = ()
    email = _git(shelf.root, "config", "user.email") or ""
    named = [one for one in listed if not set("*?!") & set(one)]
    if email and (email in named or (listed and not named)):
        return email
    if named:
        return named[0]
    raise Refused(
        f"the key {key.file} is not in {SIGNERS}, so its signature would count for nothing",
        f"Have this line added there, reviewed and committed:\n"
        f'  {email or "you@example.com"} namespaces="{NAMESPACE}" {key.line}',
    )


def _git(root: Path, *args: str) -> str | None:
    """What git prints, without the line's end; None when it ends badly or is not there."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


# ---- record and files --------------------------------------------------------------------------------------


def record(shelf: Shelf, item: Item, *, by: str, revision: str, shown: Evidence, lasts: float) -> Record:
    """What is going to be signed. `since` is the revision of the record that it replaces."""
    try:
        before = parse(shelf.record(item.name).read_bytes())
    except OSError:
        before = None
    return Record(
        service=shelf.service,
        environment=shelf.environment,
        item=item.name,
        statement=item.title,
        by=by,
        at=written(shelf.now),
        valid_until=written(after(shelf.now, lasts)),
        evidence=shown,
        revision=revision,
        since=before.revision if before and before.revision != revision else "",
        spec_digest=shelf.spec_digest,
    )


async def tried(shelf: Shelf, made: Record, signature: bytes) -> None:
    """Raises Refused when the signature would not be accepted by those who verify it."""
    found = await ssh_signatures.trial(made.as_bytes(), signature, shelf.signers, made.by, shelf.now)
    if found.judged is not Judged.GENUINE:
        raise Refused(
            f"the signature would not be accepted: {found.why}",
            f"Look at your line in {SIGNERS}: its dates, its namespaces, and the name {made.by}.",
        )


def keep(shelf: Shelf, made: Record, signature: bytes) -> None:
    """Puts both files in place. The old ones stay until both new ones are on disk; half a pair never counts.

    Of two that sign for an item at once the later one's pair stays whole.
    """
    places = {shelf.record(made.item): made.as_bytes(), shelf.signature(made.item): signature}
    folder = shelf.record(made.item).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder) as descriptor:
            new = {beside(path, content, mode=0o644): path for path, content in places.items()}
            for temporary, path in new.items():
                temporary.replace(path)
            os.fsync(descriptor)
    except OSError as error:
        raise Refused(
            f"{FOLDER}/{shelf.environment} cannot be written: {error.strerror}", "Make the folder writable, sign again."
        ) from error


@contextmanager
def _alone(folder: Path) -> Iterator[int]:
    """The folder's descriptor, while nobody else writes a pair into it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)
