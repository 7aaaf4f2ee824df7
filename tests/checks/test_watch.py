"""The watch: its arithmetic, its decisions, and its reading of a real service."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from checks import CHECKS
from checks.facts.metrics import Scrape, Times, Watch, grown, parse, series, times
from checks.watch import Validation, share_under, success, unread, validated
from checks.watch_suspicious_activity import CHECK as SUSPICIOUS
from checks.watch_suspicious_activity import Seen, Suspicion, judged
from pipeline.contracts import SwitchName, SwitchOn, World
from pipeline.spec import NoParams, SuccessRate, Thresholds
from pipeline.verdict import Verdict
from tests.checks.worlds import Doors, Merchant, Till, ask, at

Shopping = tuple[Merchant, Till, World]
ALL = ("watch.payment_success", "watch.initialisation_time", "watch.webhook_time", "watch.webhook_validation")


def page(good: int, bad: int = 0, *, errors: int = 0, slow: int = 0, refused: int = 0) -> bytes:
    """What a service with these counts would show."""
    total = good + bad + errors
    lines = [
        "# TYPE payments_total counter",
        f'payments_total{{outcome="success"}} {good}',
        f'payments_total{{outcome="failure"}} {bad}',
        f'payments_total{{outcome="error"}} {errors}',
        "# TYPE webhooks_total counter",
        f'webhooks_total{{result="accepted"}} {total}',
        f'webhooks_total{{result="refused"}} {refused}',
    ]
    for name, limit in (("payment_initialisation_seconds", 5), ("webhook_processing_seconds", 2)):
        lines += [
            f"# TYPE {name} histogram",
            f'{name}_bucket{{le="0.5"}} {total - slow}',
            f'{name}_bucket{{le="{limit}.0"}} {total - slow}',
            f'{name}_bucket{{le="10.0"}} {total}',
            f'{name}_bucket{{le="+Inf"}} {total}',
            f"{name}_count {total}",
            f"{name}_sum {total}",
        ]
    return "\n".join([*lines, ""]).encode()


def watched(*pages: bytes | str, at_least: int = 20) -> Watch:
    """A watch that read these pages, one a second; a str is a reading that failed."""
    scrapes = tuple(
        Scrape(float(t), {}, p) if isinstance(p, str) else Scrape(float(t), parse(p.decode()))
        for t, p in enumerate(pages)
    )
    return Watch(scrapes, "/metrics", at_least, Thresholds())


def verdict_of(name: str, fact: Watch) -> Verdict:
    params = Validation() if name == "watch.webhook_validation" else NoParams()
    finding = CHECKS[name].judge(fact, params)
    assert finding.verdict is Verdict.PASS or finding.remedy
    return finding.verdict


@pytest.mark.parametrize(
    ("pages", "verdicts"),
    [
        ([page(0), page(50)], ["PASS", "PASS", "PASS", "PASS"]),
        ([page(1000, 900), page(1050, 900)], ["PASS", "PASS", "PASS", "PASS"]),
        ([page(0), page(46, 4)], ["ADVICE", "PASS", "PASS", "PASS"]),
        ([page(0), page(30, 5, errors=15)], ["FAIL", "PASS", "PASS", "PASS"]),
        ([page(0), page(50, slow=10)], ["PASS", "FAIL", "FAIL", "PASS"]),
        ([page(0), page(50, slow=2)], ["PASS", "PASS", "PASS", "PASS"]),
        ([page(0), page(50, refused=1)], ["PASS", "PASS", "PASS", "FAIL"]),
        ([page(0), page(500, refused=1)], ["PASS", "PASS", "PASS", "PASS"]),
        ([page(0), page(19)], ["INCONCLUSIVE"] * 4),
        ([page(500)], ["INCONCLUSIVE"] * 4),
        ([page(500), page(500)], ["INCONCLUSIVE"] * 4),
        ([b"", b""], ["INCONCLUSIVE"] * 4),
        (["no answer", "no answer"], ["ERROR"] * 4),
        ([page(0), page(50), "no answer"], ["FAIL"] * 4),
        ([page(0), "no answer", page(50)], ["INCONCLUSIVE"] * 4),
        ([page(0), "late", *([page(50)] * 8)], ["PASS"] * 4),
        ([page(100), page(110), page(5), page(25)], ["PASS", "PASS", "PASS", "PASS"]),
    ],
)
def test_the_watch_decides(pages: list[bytes | str], verdicts: list[str]) -> None:
    """Good traffic passes, bad traffic fails, and too little, none or unread traffic promotes nothing."""
    fact = watched(*pages)
    assert [verdict_of(name, fact).value for name in ALL] == verdicts


def test_a_restarted_service_loses_no_payment_from_the_count() -> None:
    """Counters that fell began again at 0: what they show since is added."""
    total = grown(watched(page(100, 3), page(110, 3), page(5), page(25, 1)).read)
    assert (total["payments_total", "success"], total["payments_total", "failure"]) == (35, 1)


def test_the_series_of_the_chart_counts_from_the_start_of_the_watch() -> None:
    """The report's chart begins at 0 and ends at the judged counts."""
    fact = watched(page(7, 1), page(10, 1), page(15, 2, errors=1))
    assert series(fact.read) == [
        {"t_s": 0.0, "success": 0, "failure": 0, "error": 0},
        {"t_s": 1.0, "success": 3, "failure": 0, "error": 0},
        {"t_s": 2.0, "success": 8, "failure": 1, "error": 1},
    ]


@pytest.mark.parametrize(
    ("good", "total", "verdict"),
    [
        (100, 100, "PASS"),
        (96, 100, "PASS"),
        (95, 100, "ADVICE"),
        (90, 100, "ADVICE"),
        (89, 100, "FAIL"),
        (0, 1, "FAIL"),
    ],
)
def test_success_lines(good: int, total: int, verdict: str) -> None:
    """Below the alert line the release fails; failures of 5 % and more are advised against."""
    assert success(good, total, SuccessRate(target=0.95, alert=0.90), 0.05).verdict.value == verdict


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (Times(100, 0, 0), "PASS"),
        (Times(100, 5, 5), "PASS"),
        (Times(100, 6, 6), "FAIL"),
        (Times(100, 2, 40), "INCONCLUSIVE"),
    ],
)
def test_time_lines(seen: Times, verdict: str) -> None:
    """95 % must be in time; a histogram that cannot tell is inconclusive."""
    assert share_under(seen, "webhooks", 2.0).verdict.value == verdict


def test_a_limit_between_two_buckets_is_bounded_from_both_sides() -> None:
    """Buckets at 1 s and 3 s cannot place a limit of 2 s: some of those between may be over it."""
    growth = {("w_bucket", "1.0"): 10.0, ("w_bucket", "3.0"): 15.0, ("w_bucket", "+Inf"): 16.0, ("w_count", ""): 16.0}
    assert times(growth, "w", 2.0) == Times(16, 1, 6)
    assert times({}, "w", 2.0) == Times(0, 0, 0)


@pytest.mark.parametrize(("refused", "verdict"), [(0, "PASS"), (9, "PASS"), (10, "FAIL")])
def test_validation_lines(refused: int, verdict: str) -> None:
    """One per cent of webhooks failing validation is too much."""
    assert validated(refused, 1000, 0.01).verdict.value == verdict


@pytest.mark.parametrize(
    "text", ['payments_total{outcome="success"} NaN\n', 'payments_total{outcome="success"} -1\n', "%%\n"]
)
def test_nonsense_is_not_read_as_metrics(text: str) -> None:
    """A count that is none, or a page that is no metrics, is a reading that failed."""
    with pytest.raises(ValueError, match=r"."):
        parse(text)


def test_an_empty_watch_is_an_error() -> None:
    """A watch without a reading says so."""
    finding = unread(watched())
    assert finding is not None
    assert finding.verdict is Verdict.ERROR


async def test_a_service_is_watched_once_for_all_checks(shopping: Shopping) -> None:
    """The four checks share one watch of one reading a second, and chart it."""
    merchant, _, world = shopping
    merchant.pages = iter([page(n * 12) for n in range(20)])
    world = at(world, watch_for=4.0)
    for name in ALL:
        finding = await ask(CHECKS[name], world)
        assert finding.verdict is Verdict.PASS, finding
    finding = await ask(CHECKS[ALL[0]], world)
    readings = finding.evidence["series"]
    assert isinstance(readings, list)
    assert 4 <= len(readings) <= 6
    assert readings[-1]["success"] == finding.evidence["payments"]


@pytest.mark.parametrize(
    "pages", [[404] * 20, [b"<html>not metrics {</html>"] * 20, [page(0), page(50), page(60), 500, 500, 500, 500]]
)
async def test_a_service_without_metrics_is_not_promoted(shopping: Shopping, pages: list[bytes | int]) -> None:
    """No metrics, nonsense, or metrics that stop: nothing passes."""
    merchant, _, world = shopping
    for name in ALL:
        merchant.pages = iter(pages)
        assert not (await ask(CHECKS[name], at(world, watch_for=5.0))).verdict.promotes


@pytest.mark.parametrize("name", ALL)
def test_a_watch_of_a_closed_shop_names_the_door(name: str) -> None:
    """Too few payments while a door is closed is no matter of time: who closed it and what opens it is told."""
    fact = replace(watched(page(0), page(3)), environment="production")
    params = Validation() if name == "watch.webhook_validation" else NoParams()
    assert "Watch longer" in CHECKS[name].judge(fact, params).remedy
    for door in SwitchName:
        closed = replace(fact, doors={door: SwitchOn("anna", "the bank asked", "2026-11-22T10:00:00+00:00")})
        finding = CHECKS[name].judge(closed, params)
        assert finding.verdict is Verdict.INCONCLUSIVE
        assert f"{door} is on since 2026-11-22T10:00:00+00:00 by anna: the bank asked" in finding.reason
        assert "./inv open --env production" in finding.remedy and "Watch longer" not in finding.remedy
    enough = replace(closed, scrapes=watched(page(0), page(50)).scrapes)
    assert CHECKS[name].judge(enough, params).verdict is Verdict.PASS


async def test_the_watch_reads_the_doors_of_the_target(shopping: Shopping) -> None:
    """What stands closed where the release runs is what the finding speaks of."""
    merchant, _, world = shopping
    merchant.pages = iter([page(0)] * 20)
    doors = Doors({SwitchName.PAYMENTS_OFF: SwitchOn("anna", "the bank asked", "2026-11-22T10:00:00+00:00")})
    closed = replace(at(world, watch_for=2.0), target=replace(world.target, switches=doors))
    finding = await ask(CHECKS[ALL[0]], closed)
    assert (finding.verdict, finding.evidence["doors"]) == (Verdict.INCONCLUSIVE, ["payments-off"])


async def test_a_watch_of_no_time_promotes_nothing(shopping: Shopping) -> None:
    """One reading cannot show growth."""
    merchant, _, world = shopping
    merchant.pages = iter([page(500)] * 5)
    for name in ALL:
        world = replace(world)
        assert (await ask(CHECKS[name], at(world, watch_for=0.0))).verdict is Verdict.INCONCLUSIVE


# ---- suspicious activity -----------------------------------------------------------------------------------


def guarded(good: int, **events: int) -> bytes:
    """What a service shows that had so many good webhooks and so many security events of each kind."""
    lines = ["# TYPE security_events counter"]
    lines += [f'security_events_total{{kind="{kind.replace("_", ".")}"}} {n}' for kind, n in events.items()]
    return page(good) + "\n".join([*lines, ""]).encode()


@pytest.mark.parametrize(
    ("events", "webhooks", "seconds", "verdict"),
    [
        (0, 0, 5.0, "PASS"),
        (9, 0, 5.0, "PASS"),
        (10, 0, 5.0, "ADVICE"),
        (10, 10, 5.0, "PASS"),
        (499, 499, 5.0, "PASS"),
        (500, 5000, 5.0, "FAIL"),
        (500, 5000, 60.0, "FAIL"),
        (500, 5000, 61.0, "PASS"),
        (9999, 10000, 1200.0, "PASS"),
        (10000, 10000, 1200.0, "FAIL"),
    ],
)
def test_suspicion_lines(events: int, webhooks: int, seconds: float, verdict: str) -> None:
    """A rate over the limit fails; more events than good webhooks is worth a look; a short burst is no rate."""
    finding = judged(Seen({"webhook.refused": events} if events else {}, webhooks, seconds), Suspicion())
    assert finding.verdict.value == verdict, finding
    assert finding.evidence["events"] == events
    assert finding.verdict is Verdict.PASS or (finding.remedy and "webhook.refused: " in finding.reason)


@pytest.mark.parametrize(
    ("pages", "params", "verdict"),
    [
        ([guarded(0), guarded(50)], {}, "PASS"),
        ([guarded(0, webhook_refused=900), guarded(50, webhook_refused=900)], {}, "PASS"),
        ([guarded(0), guarded(50, webhook_refused=500)], {}, "FAIL"),
        ([guarded(0), guarded(50, webhook_refused=499, rate_limited=1)], {}, "FAIL"),
        ([guarded(0), guarded(50, webhook_refused=500)], {"leave_out": ("webhook.refused",)}, "PASS"),
        ([guarded(0), guarded(50, rate_limited=40)], {"per_minute": 40}, "FAIL"),
        ([guarded(0), guarded(5, payment_refused=20)], {}, "ADVICE"),
        ([guarded(90, rate_limited=90), guarded(5, rate_limited=500)], {}, "FAIL"),
        ([guarded(0), guarded(50, webhook_denied=1)], {}, "ADVICE"),
        ([guarded(0), guarded(500, webhook_denied=1, **{f"kind_{n}": 2 for n in range(20)})], {}, "ADVICE"),
        ([guarded(0), guarded(50, webhook_unknown=1)], {"telling": ()}, "PASS"),
        ([guarded(0, enrolment_revoked=1), guarded(50, enrolment_revoked=1)], {}, "PASS"),
        ([page(0), page(50)], {}, "INCONCLUSIVE"),
        ([page(0), page(50)], {"counted_elsewhere": "the web application firewall"}, "SKIPPED"),
        ([page(0), guarded(50, rate_limited=500)], {"counted_elsewhere": "the firewall"}, "FAIL"),
        ([page(0), page(50) + b"security_events_total 500\n"], {}, "FAIL"),
        ([guarded(50, rate_limited=500)], {}, "INCONCLUSIVE"),
        ([guarded(0), guarded(50), "no answer"], {"counted_elsewhere": "the firewall"}, "FAIL"),
        (["no answer"], {"counted_elsewhere": "the firewall"}, "ERROR"),
    ],
)
def test_suspicion_is_judged_by_growth(pages: list[bytes | str], params: dict[str, Any], verdict: str) -> None:
    """Only what happened during the watch counts; a service that counts nothing passes nothing by itself."""
    finding = SUSPICIOUS.judge(watched(*pages), Suspicion(**params))
    assert finding.verdict.value == verdict, finding
    assert finding.verdict in (Verdict.PASS, Verdict.SKIPPED) or finding.remedy


def test_another_label_does_not_hide_the_kind() -> None:
    """A service may label its events further; they are summed by kind."""
    events = b'security_events_total{result="x",kind="rate.limited"} 2\nsecurity_events_total{kind="rate.limited"} 3\n'
    fact = watched(page(0), page(50) + b"# TYPE security_events_total counter\n" + events)
    assert SUSPICIOUS.judge(fact, Suspicion()).evidence["by_kind"] == {"rate.limited": 5}


def test_a_service_with_kinds_of_its_own_is_told_briefly() -> None:
    """However many kinds a service has, and whatever is in their names, the finding stays short, plain and complete."""
    lines = [f'security_events_total{{kind="k{n}"}} {n}' for n in range(1, 40)]
    lines.append(f'security_events_total{{kind="a\u202e{"4242" * 4}"}} 99')
    fact = watched(page(0), page(50) + "\n".join(["# TYPE security_events_total counter", *lines, ""]).encode())
    finding = SUSPICIOUS.judge(fact, Suspicion())
    by_kind = finding.evidence["by_kind"]
    assert isinstance(by_kind, dict)
    assert (len(by_kind), sum(by_kind.values())) == (11, finding.evidence["events"]) == (11, 99 + sum(range(1, 40)))
    assert next(iter(by_kind)) == "a?" + "*" * 12 + "4242"


@pytest.mark.parametrize(("attack", "verdict"), [(0, Verdict.PASS), (40, Verdict.ADVICE), (900, Verdict.FAIL)])
async def test_an_attack_on_a_service_is_seen(shopping: Shopping, attack: int, verdict: Verdict) -> None:
    """The watch of a real service tells a quiet day from an odd one and from an attack."""
    merchant, _, world = shopping
    merchant.pages = iter([guarded(n, webhook_refused=n * attack) for n in range(20)])
    finding = await ask(SUSPICIOUS, at(world, watch_for=3.0))
    assert finding.verdict is verdict, finding
