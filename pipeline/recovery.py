"""The classes of errors: which errors each is, what the engine does about it, what a person does. One table, T11.

`asking_again.py` asks again what `does` says here. Nothing that may create money is ever sent twice.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from pipeline import errors
from pipeline.errors import disk_error


class Does(StrEnum):
    """What the engine does about an error."""

    RETRY = "asks again"
    WAIT = "waits"
    REFUSE = "refuses"
    RESTORE = "takes back"
    ASK = "asks a person"


@dataclass(frozen=True)
class ErrorClass:
    """`name` stands in the record (`error_class` of `run.failed`), in reports and in docs/errors.md."""

    name: str
    what: str
    is_a: tuple[type[BaseException], ...]
    does: tuple[Does, ...]
    engine: str
    person: str
    when: Callable[[BaseException], bool] = lambda _error: True
    """Which of the errors in `is_a`; all of them where it is left out."""


_FORWARD = (Does.REFUSE, Does.RESTORE)
_NEEDS_BOTH = "Before the first change it refuses; after it everything is taken back."


def _late(error: BaseException) -> bool:
    return any(isinstance(one, TimeoutError) for one in _chain(error))


def _limited(error: BaseException) -> bool:
    return getattr(error, "status", 0) == 429


def _named_as(text: str) -> Callable[[BaseException], bool]:
    """A command of a host tells a disk only in its own words, in the C locale."""
    return lambda error: bool(re.search(text, str(error), re.IGNORECASE))


def _of_network(error: BaseException) -> bool:
    libraries = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    known = isinstance(error, ConnectionError | ssl.SSLError | socket.gaierror)
    return known or bool(libraries & {"httpx", "httpcore", "aiohttp"})


CLASSES: tuple[ErrorClass, ...] = (
    ErrorClass(
        "disk-full",
        "The disk, its inodes or the owner's quota are used up: of this machine or of the target.",
        (errors.DiskFull,),
        _FORWARD,
        f"Nothing is written half: a file is replaced whole or not at all. {_NEEDS_BOTH} Where not even the journal "
        "can be written, the environment is closed first.",
        "`df -h` and `df -i` on the machine that is named; free some space, then repeat the command.",
    ),
    ErrorClass(
        "disk-full",
        "",
        (errors.TargetError, errors.CommandFailed),
        _FORWARD,
        "",
        "",
        _named_as(r"no space left on device|disk quota exceeded"),
    ),
    ErrorClass(
        "disk-read-only",
        "The file system is mounted read-only, as a system does when its disk reports errors.",
        (errors.DiskReadOnly,),
        _FORWARD,
        f"{_NEEDS_BOTH} Where not even the journal can be written, the environment is closed first.",
        "`dmesg` says why; mend or replace the disk, mount it for writing, then repeat the command.",
    ),
    ErrorClass(
        "disk-read-only",
        "",
        (errors.TargetError, errors.CommandFailed),
        _FORWARD,
        "",
        "",
        _named_as(r"read-only file system"),
    ),
    ErrorClass(
        "outcome-unknown",
        "A payment was to be created, and no answer came: it may exist.",
        (errors.OutcomeUnknown,),
        (Does.ASK,),
        "It is never sent again. What became of it is asked by its reference first; what is still unknown proves "
        "nothing.",
        "Look the reference up in the gateway's dashboard before anything is paid again.",
    ),
    ErrorClass(
        "gateway-down",
        "The gateway gives no answer, or something before it says 502, 503 or 504.",
        (errors.GatewayUnreachable,),
        (Does.RETRY, *_FORWARD),
        "Readings are asked again with growing pauses, as often as VITE_IKHOKHA_RETRY_ATTEMPTS says, after "
        "`Retry-After` where it is told. What stays unanswered is inconclusive, never a pass. A way back restores all "
        "the same, and stays closed until the proofs can be asked.",
        "The gateway's status page, then `VITE_IKHOKHA_API_URL` and the network; repeat when it answers.",
    ),
    ErrorClass(
        "gateway-refuses-credentials",
        "The gateway does not accept the account or its signature.",
        (errors.CredentialsRefused,),
        _FORWARD,
        f"Never asked again: the answer would be the same. {_NEEDS_BOTH}",
        "Compare `VITE_IKHOKHA_API_KEY` and `VITE_IKHOKHA_API_SECRET` with the dashboard: both are of one account.",
    ),
    ErrorClass(
        "gateway-limits",
        "The gateway answers 429: too many requests.",
        (errors.GatewayRefused,),
        (Does.WAIT, *_FORWARD),
        "With `Retry-After` of a minute at most a reading waits and is asked again; else it ends.",
        "Find who else uses the account; wait, then repeat.",
        _limited,
    ),
    ErrorClass(
        "gateway-refuses",
        "The gateway says no.",
        (errors.GatewayRefused,),
        _FORWARD,
        f"Never asked again. {_NEEDS_BOTH}",
        "Its answer is printed: compare the request with the gateway's documentation.",
    ),
    ErrorClass(
        "gateway-garbled",
        "What came from the gateway is not its protocol.",
        (errors.GatewayGarbled,),
        _FORWARD,
        "Inconclusive, never a pass; of a creation nothing is known then, and it is not sent again.",
        "See what stands between: a proxy, a login page, another address in `VITE_IKHOKHA_API_URL`.",
    ),
    ErrorClass(
        "service-out-of-reach",
        "The service gives no answer.",
        (errors.ServiceUnreachable,),
        (Does.RETRY, *_FORWARD),
        "Readings in proofs and in reconciling are asked again twice with growing pauses. Where the first answer is "
        f"what is proven (ready, refusals, limits, probes), nothing is. {_NEEDS_BOTH}",
        "`./inv status` shows what runs; the release's own log lies in `run/` of the target's folder.",
    ),
    ErrorClass(
        "service-garbled",
        "The service's answer does not follow its contract.",
        (errors.ServiceError,),
        _FORWARD,
        _NEEDS_BOTH,
        "Compare the answer with [service.md](service.md), and the paths under `contract:` in pipeline.yaml.",
    ),
    ErrorClass(
        "service-not-ready",
        "A release did not become ready; the old one still serves.",
        (errors.ReleaseNotReady,),
        (Does.WAIT, *_FORWARD),
        "Waited for as long as `release.ready_within` says; then the release is stopped and marked bad.",
        "The release's log in `run/` of the target's folder says why it did not start.",
    ),
    ErrorClass(
        "host-lost",
        "The machine that carries the releases is out of reach, or refuses a command.",
        (errors.TargetError,),
        (*_FORWARD, Does.ASK),
        f"{_NEEDS_BOTH} What cannot be restored there is told to a person, exit 4.",
        "Make the machine reachable and its folder writable; then `./inv status`, and `./inv rollback` after exit 4.",
    ),
    ErrorClass(
        "time-out",
        "A step, a command or a restore did not end within its limit.",
        (TimeoutError,),
        _FORWARD,
        f"It is stopped, with all that it started. {_NEEDS_BOTH}",
        "Look at what it waited for in its output; raise `timeout` only if that is healthy.",
    ),
    ErrorClass("time-out", "", (errors.CommandFailed,), _FORWARD, "", "", _late),
    ErrorClass(
        "command-failed",
        "A command of a step ended badly, or could not be started.",
        (errors.CommandFailed,),
        _FORWARD,
        f"Tried again only as often as the step's `retries` say. {_NEEDS_BOTH}",
        "Run it by hand in the same folder to see all that it prints.",
    ),
    ErrorClass(
        "network",
        "One connection failed on its way.",
        (Exception,),
        (Does.RETRY, *_FORWARD),
        "A reading is asked again with growing pauses. What lasts is told as gateway-down or service-out-of-reach.",
        "DNS, routes and firewalls between this machine and the address that is named.",
        _of_network,
    ),
    ErrorClass(
        "cap-reached",
        "A smoke payment would cost more than this run may spend.",
        (errors.CapReached,),
        (Does.REFUSE,),
        "Nothing is paid.",
        "Start a new run, or raise `cap` if you mean one run to spend that much.",
    ),
    ErrorClass(
        "settings-wrong",
        "The command line, pipeline.yaml or a setting is wrong.",
        (errors.Usage,),
        (Does.REFUSE,),
        "Every mistake is told at once, before anything is touched.",
        "Each is printed with its place, what was found and what is allowed.",
    ),
    ErrorClass(
        "lease-held",
        "Another run may change this environment now.",
        (errors.LeaseHeld,),
        (Does.REFUSE,),
        "Nothing is changed. A dead owner is taken over; a rollback takes a running deploy over.",
        "`./inv status` shows who it is; wait for it, or end it. Delete nothing.",
    ),
    ErrorClass(
        "taken-over",
        "A rollback took this run over.",
        (errors.TakenOver,),
        (Does.REFUSE,),
        "This run stops and changes nothing more; the rollback takes back what it changed. Exit 5.",
        "See how the rollback ended: `./inv status`, `./inv history`.",
    ),
    ErrorClass(
        "lease-lost",
        "This run was away too long, and another may own the environment now.",
        (errors.LeaseLost,),
        (Does.ASK,),
        "Nothing more is changed, not even back: the other run decides.",
        "See how the other run ended (`./inv history`) before you do anything.",
    ),
    ErrorClass(
        "record-damaged",
        "The journal or the lease is not the file that was written.",
        (errors.RecordDamaged,),
        (Does.REFUSE, Does.ASK),
        "Nothing is done by what was altered. A rollback goes on: it decides by what the target says, and sets a "
        "damaged file aside.",
        "`./inv audit` names every break. Keep the file, and find out who had access to it.",
    ),
    ErrorClass(
        "record-unusable",
        "The journal or the lease cannot be read or written: locked, forbidden, or the disk reports errors.",
        (errors.RecordUnusable,),
        (Does.WAIT, Does.REFUSE, Does.ASK),
        "A lock is waited for, some seconds. Nothing is changed that cannot be put on record; what was changed is "
        "closed, exit 4.",
        "The message names the file: see who holds it (`fuser`), its owner and its mode; then repeat.",
    ),
    ErrorClass(
        "interrupted",
        "Ctrl-C, SIGTERM or SIGHUP.",
        (KeyboardInterrupt, asyncio.CancelledError),
        _FORWARD,
        "Before the first change it ends, exit 130; after it everything is taken back, and no signal stops that.",
        "Start again when you are ready.",
    ),
    ErrorClass(
        "interrupted", "", (errors.TollgateError,), _FORWARD, "", "", lambda e: _exit_of(e) is errors.Exit.INTERRUPTED
    ),
    ErrorClass(
        "nothing-to-restore",
        "There is no verified release to go back to.",
        (errors.NothingToRestore,),
        (Does.REFUSE,),
        "Nothing is changed.",
        "The releases there are, with their states, are listed; a deploy makes a new one.",
    ),
    ErrorClass(
        "person-needed",
        "The way back could not be confirmed, or an unfinished run must be put right first.",
        (errors.PersonNeeded,),
        (Does.ASK,),
        "The environment is closed, or is left as it stood; exit 4.",
        "[incident.md](incident.md), after exit 4.",
    ),
    ErrorClass(
        "refused",
        "A gate, a proof or a watch does not promote, or what was asked for cannot be.",
        (errors.TollgateError,),
        _FORWARD,
        f"Nothing measured is not a pass. {_NEEDS_BOTH}",
        "The finding says what was found, what is allowed and the fix.",
    ),
    ErrorClass(
        "books-disagree",
        "The gateway was paid for something else than the service activated.",
        (),
        (Does.ASK,),
        "Each payment is named with what was found and expected. A webhook that was lost is delivered again by "
        "`./inv reconcile --apply` and by every way back; nothing else is repaired.",
        "[reconcile.md](reconcile.md): settle the rest by hand with the gateway's dashboard.",
    ),
    ErrorClass(
        "bug",
        "A fault of Tollgate itself.",
        (BaseException,),
        _FORWARD,
        f"{_NEEDS_BOTH} The traceback is kept, redacted; exit 70 where nothing was changed.",
        "`./inv status`; report the file that is named.",
    ),
)
"""The first row that fits decides. A row without `what` is another way to meet the class of its name."""

BY_NAME = {one.name: one for one in reversed(CLASSES) if one.what}


def classify(error: BaseException) -> ErrorClass:
    """The class of an error. Total: what is in no other row is a bug.

    Of an error that only passes another on, it is that of the other; what a check found says its class itself.
    """
    if (named := BY_NAME.get(getattr(error, "error_class", ""))) is not None:
        return named
    for one in _chain(error):
        if (disk := disk_error(one)) is not None:
            return _row(disk)
    found = _row(error)
    if found.name in ("refused", "person-needed") and error.__cause__ is not None:
        return classify(error.__cause__)
    return found


def _row(error: BaseException) -> ErrorClass:
    fitting = (one for one in CLASSES if isinstance(error, one.is_a) and one.when(error))
    return BY_NAME[next(fitting).name]


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and what was being handled then."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [other for other in (one.__context__, one.__cause__) if other is not None]


def _exit_of(error: BaseException) -> errors.Exit | None:
    return getattr(error, "exit_code", None)


_HEAD = """\
# Errors

What Tollgate does about each class of errors, and what you do. This page is written from the table in
`pipeline/recovery.py`; `./inv docs` writes it again. The class of a run's first error stands in its report, in
`incident.md` and in the journal (`error_class` of `run.failed`); the [exit code](exit-codes.md) says how the run ended.

- A reading that got no answer is asked again: with pauses that double and differ by chance, after `Retry-After` where
  it is told and is a minute at most, within the step's own time limit. The console says so each time.
- Nothing that may create money is sent twice: after no answer its status is asked first.
- An outage that lasts is never a pass.
"""


def _item(text: str) -> str:
    return textwrap.fill(text, 120, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)


def page() -> str:
    """docs/errors.md."""
    parts = [_HEAD, "| class | what it is | Tollgate |", "|---|---|---|"]
    told = [one for one in CLASSES if one.what]
    parts += [f"| [{one.name}](#{one.name}) | {one.what} | {', '.join(one.does)} |" for one in told]
    for one in told:
        parts += ["", f"## {one.name}", "", one.what, ""]
        parts += [_item(f"- Tollgate: {one.engine}"), _item(f"- You: {one.person}")]
    return "\n".join(parts) + "\n"
