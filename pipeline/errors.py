"""Every way a run can end, in one tree, with one table of exit codes.

TollgateError
|-- Usage                  2  the command line or pipeline.yaml is wrong
|   `-- SpecInvalid           all mistakes of a spec at once
|-- Refused                1  nothing was changed
|-- NothingToRestore       1  there is no verified release to go back to
|-- PersonNeeded           4  the way back could not be confirmed, or a run was left unfinished
|-- LeaseHeld              5  another run may change this environment now
|-- LeaseLost              4  this run may no longer change it
|   `-- TakenOver          5  a rollback asked for its lease: it stopped, and the rollback puts right what it changed
|-- GatewayError              (what went wrong with the gateway; judged by whoever asked)
|   |-- GatewayUnreachable    no answer: nothing is known about the effect
|   |   `-- OutcomeUnknown    a creation without an answer: ask for its status, never send it again
|   |-- GatewayRefused        it answered with a refusal
|   |   `-- CredentialsRefused
|   `-- GatewayGarbled        it answered something that is not the protocol
|-- CapReached                a smoke payment would cost more than it may
|-- ServiceError              (the deployed service, likewise)
|   |-- ServiceUnreachable
|   `-- ServiceGarbled
|-- TargetError               (the machine or cluster that carries releases)
|   `-- ReleaseNotReady       a release did not become ready; the old one still serves
|-- CommandFailed             a subprocess ended badly or ran out of time
|-- RecordUnusable            the journal or the lease cannot be read or written
|   `-- RecordDamaged           its file is not what was written
`-- DiskError                 nothing more can be written there
    |-- DiskFull
    `-- DiskReadOnly
Anything else              70  a bug of ours
"""

from __future__ import annotations

import errno
from enum import IntEnum


class Exit(IntEnum):
    """The exit codes of every command."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    RESTORED = 3
    PERSON_NEEDED = 4
    LEASE_HELD = 5
    BUG = 70
    INTERRUPTED = 130


class TollgateError(Exception):
    """What happened, and what to do next. `exit_code` is what the command ends with if nothing handles it."""

    exit_code = Exit.REFUSED

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.remedy = remedy


class Usage(TollgateError):
    exit_code = Exit.USAGE


class Refused(TollgateError):
    exit_code = Exit.REFUSED


class NothingToRestore(Refused):
    pass


class PersonNeeded(TollgateError):
    exit_code = Exit.PERSON_NEEDED


class LeaseHeld(TollgateError):
    exit_code = Exit.LEASE_HELD


class LeaseLost(TollgateError):
    exit_code = Exit.PERSON_NEEDED


class TakenOver(LeaseLost):
    exit_code = Exit.LEASE_HELD


class GatewayError(TollgateError):
    """`retry_after_s`: the seconds after which the gateway may be asked again, None where it does not say."""

    retry_after_s: float | None = None


class GatewayUnreachable(GatewayError):
    pass


class OutcomeUnknown(GatewayUnreachable):
    pass


class GatewayRefused(GatewayError):
    """`status` is the HTTP status, `code` the gateway's own (for iKhokha e.g. `IK-001`)."""

    def __init__(self, message: str, remedy: str = "", *, status: int = 0, code: str = "") -> None:
        super().__init__(message, remedy)
        self.status = status
        self.code = code


class CredentialsRefused(GatewayRefused):
    pass


class GatewayGarbled(GatewayError):
    pass


class CapReached(TollgateError):
    pass


class ServiceError(TollgateError):
    """`retry_after_s`: as of GatewayError."""

    retry_after_s: float | None = None


class ServiceUnreachable(ServiceError):
    pass


class ServiceGarbled(ServiceError):
    pass


class TargetError(TollgateError):
    pass


class ReleaseNotReady(TargetError):
    pass


class CommandFailed(TollgateError):
    """`returncode` is None when the time limit ended it."""

    def __init__(self, message: str, remedy: str = "", *, returncode: int | None = None) -> None:
        super().__init__(message, remedy)
        self.returncode = returncode


class RecordUnusable(TollgateError):
    pass


class RecordDamaged(RecordUnusable):
    pass


class DiskError(TollgateError):
    pass


class DiskFull(DiskError):
    pass


class DiskReadOnly(DiskError):
    pass


def disk_error(error: BaseException, what: str = "") -> DiskError | None:
    """What the system said of a disk, as an error that an operator can mend; None for anything else.

    `what` says what was being done, for an error that names no file.
    """
    if not isinstance(error, OSError):
        return None
    where = str(error.filename or what or "a file of Tollgate")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        quota = "the quota of its owner is used up" if error.errno == errno.EDQUOT else "the disk is full"
        return DiskFull(
            f"{where}: {quota}", "Free some space (`df -h`, `df -i`), then repeat; what was recorded is safe."
        )
    if error.errno == errno.EROFS:
        return DiskReadOnly(
            f"{where}: the file system is mounted read-only",
            "Find out why (`dmesg`): a disk that reports errors is often made so. Mount it for writing, then repeat.",
        )
    return None
