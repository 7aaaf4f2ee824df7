"""What is asked again, how often and how soon: real servers on loopback, and a clock that waits for nobody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
import pytest

from pipeline.asking_again import LONGEST_WAIT_S, Patience, may_be_asked_again, retrying, unless_busy
from pipeline.clock import SystemClock
from pipeline.errors import (
    CredentialsRefused,
    GatewayGarbled,
    GatewayRefused,
    GatewayUnreachable,
    OutcomeUnknown,
    ReleaseNotReady,
    ServiceUnreachable,
    TollgateError,
)
from pipeline.service import Answer, Service
from pipeline.spec import Contract

OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 17\r\nConnection: close\r\n\r\n"
OK += b'{"activations":1}'


class Impatient(SystemClock):
    """Keeps what it was asked to sleep, and does not."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@dataclass
class Peer:
    """A service that says what it is told to, in turn; b'' hangs up. Then it goes on saying the last."""

    says: Sequence[bytes]
    asked: list[str] = field(default_factory=list)
    port: int = 0

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await reader.readuntil(b"\r\n\r\n")
        self.asked.append(request.split(b" ", 1)[0].decode())
        writer.write(self.says[min(len(self.asked), len(self.says)) - 1])
        writer.close()

    @property
    def service(self) -> Service:
        return Service(f"http://127.0.0.1:{self.port}", Contract(), lambda: httpx.AsyncClient(trust_env=False))


@asynccontextmanager
async def peer(*says: bytes) -> AsyncIterator[Peer]:
    one = Peer(says)
    server = await asyncio.start_server(one.answer, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    async with server:
        yield one


def patience(told: list[str] | None = None, **changes: Any) -> tuple[Patience, Impatient]:
    clock = Impatient()
    told = told if told is not None else []
    return Patience(clock, Random(1), told.append, **changes), clock  # noqa: S311


async def test_a_reading_that_was_dropped_is_asked_again_and_told() -> None:
    """The first connections are dropped, the third answers: the pauses double, and each is told with its reason."""
    told: list[str] = []
    patient, clock = patience(told, tries=3, first_s=1.0)
    async with peer(b"", b"", OK) as at:
        assert await retrying(lambda: at.service.activations("smoke-1"), patient) == 1
        assert at.asked == ["GET"] * 3
    first, second = clock.slept
    assert 0.5 <= first <= 1.5 and 1.0 <= second <= 3.0
    assert [line.rpartition("; ")[2].partition(" in ")[0] for line in told] == ["asked again"] * 2
    assert "(attempt 2 of 3)" in told[0] and "(attempt 3 of 3)" in told[1] and "no answer" in told[0]


async def test_an_outage_that_lasts_is_never_a_pass() -> None:
    """A service that drops every connection is asked as often as allowed, and its error is what comes of it."""
    patient, clock = patience(tries=4)
    async with peer(b"") as at:
        with pytest.raises(ServiceUnreachable, match="no answer"):
            await retrying(lambda: at.service.activations("smoke-1"), patient)
        assert (len(at.asked), len(clock.slept)) == (4, 3)


async def test_an_answer_at_once_is_asked_once() -> None:
    """What is answered is not asked again, a refusal neither."""
    patient, clock = patience()

    async def asked(service: Service) -> Answer:
        return await service.payment("smoke-1")

    async with peer(OK) as at:
        assert (await retrying(lambda: asked(at.service), patient)).status == 200
        assert at.asked == ["GET"]
    async with peer(OK.replace(b"200 OK", b"503 No")) as at:
        assert (await retrying(lambda: asked(at.service), patient)).status == 503
        assert at.asked == ["GET"]
    assert clock.slept == []


async def test_a_busy_service_is_given_the_time_it_asks_for() -> None:
    """A 503 that says when to come again is no answer yet; one that does not say so is."""
    busy = b"HTTP/1.1 503 No\r\nRetry-After: 4\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    patient, clock = patience()

    async def asked(service: Service) -> Answer:
        return unless_busy(await service.payment("smoke-1"), clock.now())

    async with peer(busy, OK) as at:
        assert (await retrying(lambda: asked(at.service), patient)).status == 200
    assert 4 <= clock.slept[0] < 5 and len(clock.slept) == 1
    async with peer(busy) as at:
        with pytest.raises(ServiceUnreachable, match="answered 503 and asks for 4 s"):
            await retrying(lambda: asked(at.service), patient)
        assert len(at.asked) == 3
    async with peer(busy.replace(b"Retry-After: 4", b"X: y")) as at:
        assert (await retrying(lambda: asked(at.service), patient)).status == 503


async def test_the_time_limit_of_the_step_ends_the_waiting() -> None:
    """A step that runs out of time is not held by a pause."""
    patient = Patience(SystemClock(), Random(1), first_s=3600.0, most_s=3600.0)  # noqa: S311
    async with peer(b"") as at:
        waiting = asyncio.create_task(retrying(lambda: at.service.activations("smoke-1"), patient))
        while not at.asked:
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


def _asks_for(error: TollgateError, seconds: float | None) -> TollgateError:
    error.retry_after_s = seconds  # type: ignore[attr-defined]
    return error


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (GatewayUnreachable("no answer"), True),
        (ServiceUnreachable("no answer"), True),
        (_asks_for(GatewayUnreachable("503"), 5.0), True),
        (_asks_for(GatewayUnreachable("503"), LONGEST_WAIT_S + 1), False),
        (_asks_for(GatewayRefused("429", status=429), 5.0), True),
        (GatewayRefused("429", status=429), False),
        (_asks_for(GatewayRefused("400", status=400), 5.0), False),
        (OutcomeUnknown("a link may exist"), False),
        (CredentialsRefused("no", status=401), False),
        (GatewayGarbled("what?"), False),
        (httpx.ConnectError("reset"), True),
        (ReleaseNotReady("still starting"), False),
        (ValueError("a bug"), False),
    ],
)
async def test_only_what_may_come_through_is_asked_again(error: Exception, again: bool) -> None:
    """No answer and a short wait that was asked for are; a refusal, an unknown outcome and a bug never are."""
    assert may_be_asked_again(error) is again
    patient, clock = patience(tries=2)
    asked: list[None] = []

    async def ask() -> None:
        asked.append(None)
        raise error

    with pytest.raises(type(error)):
        await retrying(ask, patient)
    assert len(asked) == len(clock.slept) + 1 == (2 if again else 1)


@pytest.mark.parametrize("said", [0.0, 7.0, 60.0])
def test_what_was_asked_for_is_kept(said: float) -> None:
    """A `Retry-After` is waited for in full, and not a second longer than by chance."""
    patient, _ = patience(most_s=2.0)
    assert all(said <= patient.pause(failures, said) < said + 1 for failures in range(1, 9))


def test_pauses_grow_to_their_most_and_differ_by_chance() -> None:
    """Two runs that an outage stopped at the same moment do not come back at the same moment."""
    patient, _ = patience(first_s=1.0, most_s=8.0)
    pauses = [[patient.pause(failures, None) for _ in range(50)] for failures in (1, 2, 3, 4, 9)]
    for base, drawn in zip((1.0, 2.0, 4.0, 8.0, 8.0), pauses, strict=True):
        assert min(drawn) >= base / 2 and max(drawn) <= base * 1.5 and len(set(drawn)) == 50
