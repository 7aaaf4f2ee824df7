"""pages.errors_tell_nothing: an error page tells a stranger that something is wrong, and nothing about the inside."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from checks.facts.page_problems import Problem, shown, verdict_of
from checks.facts.telling import told
from checks.facts.web import Served, visiting
from checks.judging import counted, or_finding, unless_finding
from pipeline.contracts import Check, SecurityEvent, When, World
from pipeline.errors import ServiceUnreachable
from pipeline.spec import NoParams
from pipeline.verdict import Finding, Verdict

_LARGEST = 256 * 1024
_LONG = 3000


@dataclass(frozen=True)
class Probe:
    """A request that no service can take. None can change anything: there is no order in any of them.

    `may_succeed`: a service that answers unknown addresses with its first page is not at fault.
    """

    label: str
    method: str
    path: str
    may_succeed: bool = True
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes | None = None


def probes(world: World) -> tuple[Probe, ...]:
    contract, chance = world.spec.contract, f"{world.random.getrandbits(64):016x}"
    json_type = {"Content-Type": "application/json"}
    return (
        Probe("an address that is not there", "GET", f"/nothing-{chance}"),
        Probe("an address of broken characters", "GET", "/%ff%fe%00"),
        Probe("an over-long address", "GET", f"/{'x' * _LONG}"),
        Probe("an over-long query", "GET", f"/?q={'x' * _LONG}"),
        Probe("a method that is not there", "TOLLGATE", "/"),
        Probe("JSON that breaks off", "POST", contract.create, False, json_type, b'{"reference": '),
        Probe("JSON that is no object", "POST", contract.create, False, json_type, b"[[[[]]]]"),
        Probe("a body that is not UTF-8", "POST", contract.create, False, json_type, b"\xff\xfe\x00"),
        Probe("a reference with a quote", "GET", contract.payment.replace("{reference}", f"x%27%22{chance}")),
        Probe("a GET where webhooks arrive", "GET", contract.webhook),
    )


@dataclass(frozen=True)
class Answered:
    probe: Probe
    served: Served
    tells: tuple[str, ...]


@dataclass(frozen=True)
class Answers:
    answers: tuple[Answered, ...]


@or_finding
async def gather(world: World, _params: NoParams) -> Answers:
    sent, base = probes(world), world.addresses.service.rstrip("/")
    said = f"{len(sent)} requests that no service can take"
    world.security(SecurityEvent(world.clock.now(), "probe.sent", "pages.errors_tell_nothing", said))
    async with visiting(world) as visitor:
        served = await asyncio.gather(
            *(
                visitor.ask(base + p.path, largest=_LARGEST, method=p.method, headers=p.headers, content=p.content)
                for p in sent
            )
        )
    if all(answer.status == 0 for answer in served):
        raise ServiceUnreachable(str(served[0]), "Look at the service's own log; `./inv status` shows what runs.")
    given_away = await asyncio.to_thread(lambda: [tells(answer) for answer in served])
    return Answers(tuple(Answered(*row) for row in zip(sent, served, given_away, strict=True)))


_SPEAKING = ("server", "x-powered-by", "x-aspnet-version", "x-generator", "x-debug-exception", "x-debug-token")


def tells(served: Served) -> tuple[str, ...]:
    """What an answer gives away, each as the kind and where it stands; never the text itself. Pure."""
    texts = [("the body", served.body.decode("utf-8", "replace"))]
    texts += [(f"the header {name}", value) for name, value in served.headers if name in _SPEAKING]
    return tuple(f"{what} in {where}" for where, text in texts for what in told(text))


@unless_finding
def judge(fact: Answers, _params: NoParams) -> Finding:
    measured: dict[str, object] = {
        "answers": [
            {
                "sent": one.probe.label,
                "status": one.served.status,
                "took_ms": one.served.took_ms,
                "tells": list(one.tells),
            }
            for one in fact.answers
        ]
    }
    problems = [problem for one in fact.answers for problem in _problems(one)]
    statuses = ", ".join(f"{one.probe.label}: {one.served.status} in {one.served.took_ms} ms" for one in fact.answers)
    fine = (
        f"{counted(len(fact.answers), 'request')} that no service can take told nothing about the inside ({statuses})"
    )
    return verdict_of(problems, (), fine, measured)


def _problems(one: Answered) -> Iterator[Problem]:
    probe, status = one.probe, one.served.status
    where = f"{probe.method} {shown(probe.path, 60)[1:-1]} ({probe.label}, {one.served.took_ms} ms)"
    for given_away in one.tells:
        what = f"the answer {status} tells {given_away}; nothing about the inside may be told"
        yield Problem(Verdict.FAIL, where, what, _TELL_LESS)
    if status == 0:
        yield Problem(Verdict.INCONCLUSIVE, where, one.served.problem, "Answer with a status of 4xx before closing.")
    elif status == 429 or (status == 503 and one.served.all("retry-after")):
        yield Problem(
            Verdict.INCONCLUSIVE,
            where,
            f"answered {status}, so the error was not shown",
            "Wait a minute and run again.",
        )
    elif status >= 500 and status not in (501, 505):  # what they say of a method or version is right
        what = f"answered {status}; no bytes of a stranger may break the service, 4xx is expected"
        yield Problem(Verdict.FAIL, where, what, "Catch what cannot be read and answer 400; see the service's log.")
    elif status >= 400 and one.served.cut:
        what = f"the answer {status} is longer than {_LARGEST // 1024} KiB; what follows was not searched"
        yield Problem(Verdict.INCONCLUSIVE, where, what, "Answer errors with a short page.")
    elif status < 300 and not probe.may_succeed:
        yield Problem(
            Verdict.FAIL, where, f"answered {status}; 400 or 422 is expected", "Refuse a body that cannot be read."
        )


_TELL_LESS = "Switch debug mode off and answer errors with a page of your own; keep the details in the service's log."

CHECK = Check(
    name="pages.errors_tell_nothing",
    promise="An error page tells a stranger nothing about the inside of the service.",
    rows=("G3", "G13", "T7", "T11"),
    gather=gather,
    judge=judge,
    params=NoParams,
    network=True,
    when=When.LIVE,
    why="A stack trace or a version tells an attacker which hole to try.",
    looks_at="The answers to ten requests that no service can take: unknown, broken and over-long addresses, an "
    "unknown method, bodies that are no JSON, a quote in a reference. They are searched for stack traces, database "
    "errors, paths and versions, and none may be a 5xx. None of them can create or change anything.",
    fix="Switch debug mode off, answer errors with a page of your own, and refuse what cannot be read with 4xx.",
    see_it_fail="Run the service with its framework's debug mode on.",
)
