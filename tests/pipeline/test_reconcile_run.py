"""The verb reconcile as a run: what is on record before anything is sent, and what a run that was killed leaves."""

from __future__ import annotations

import os
import signal
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline import reconciling
from pipeline.contracts import GatewayPayment
from pipeline.errors import Exit, LeaseHeld, PersonNeeded, Refused, TollgateError
from pipeline.events import Entry, Kind
from pipeline.lease import Lease, Owner
from pipeline.reconciling import Books
from pipeline.run_record import Outcome
from pipeline.session import Session
from tests.pipeline.rooms import OLD, Killed, Shop, Yard


@dataclass
class Counter(Shop):
    """A shop that activates once more for each webhook it accepts; a gateway that is asked about one payment."""

    webhook_status: int = 200
    said: dict[str, str] = field(default_factory=dict)
    got: list[str] = field(default_factory=list)
    on_webhook: Any = None

    async def status(self, link_id: str) -> GatewayPayment:
        found = next(one for one in self.payments.values() if one.link_id == link_id)
        word = self.said.get(found.reference, found.status)
        return replace(found, status=word, paid=word == "PAID")

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.method != "POST":
            return super().answer(request)
        reference = request.content.decode()
        self.got.append(reference)
        if self.on_webhook is not None:
            self.on_webhook()
        if self.webhook_status == 200:
            self.activations[reference] += 1
        return httpx.Response(self.webhook_status)


@pytest.fixture
def yard(tmp_path: Path) -> Yard:
    yard = Yard(tmp_path)
    yard.verified(OLD)
    yard.shop = Counter(yard.ground)
    return yard


def shop_of(yard: Yard) -> Counter:
    assert isinstance(yard.shop, Counter)
    return yard.shop


async def ran(yard: Yard, *, apply: bool = True) -> Outcome:
    with yard.opened() as session:
        plan = reconciling.planned(session.spec, session.environment, apply=apply)
        owner = Owner.this_process(session.recorder.run)
        if apply:
            return await reconciling.apply(session, plan, owner, None, Books())
        return await reconciling.look(session, plan, None, Books())


def last_run(yard: Yard) -> list[Entry]:
    entries = yard.entries()
    return [entry for entry in entries if entry.run == entries[-1].run]


async def test_a_delivery_is_on_record_before_it_is_sent(yard: Yard) -> None:
    """When the webhook arrives the journal names it already, as the last entry; what came of it follows."""
    seen: list[Any] = []
    shop = shop_of(yard)
    shop.paid("order-1", activations=0)
    shop.on_webhook = lambda: seen.append(yard.entries()[-1])
    assert (await ran(yard)).exit is Exit.DONE
    ((kind, step),) = [(one.kind, one.data["step"]) for one in seen]
    assert (kind, step, shop.got) == (Kind.STEP_STARTED, "webhook of order-1", ["order-1"])
    kinds = [entry.kind.value for entry in last_run(yard)]
    assert kinds == [
        "run.started",
        "lease.taken",
        "stage.started",
        "step.started",
        "step.started",
        "step.finished",
        "step.finished",
        "stage.finished",
        "reconciled",
        "run.finished",
    ]


async def test_looking_takes_no_lease_and_sends_nothing(yard: Yard) -> None:
    """Without --apply a lost webhook stays lost, the run says so, and nobody's lease is in its way."""
    shop = shop_of(yard)
    shop.paid("order-1", activations=0)
    outcome = await ran(yard, apply=False)
    assert (outcome.exit, shop.got) == (Exit.REFUSED, [])
    assert "./inv reconcile --env staging --since" in outcome.remedy
    assert Kind.LEASE_TAKEN not in {entry.kind for entry in last_run(yard)}
    (compared,) = yard.told(Kind.STEP_FINISHED)
    assert compared["error"] == "order-1: paid, not activated, 100 cents, found 0 activations"


@pytest.mark.parametrize("word", ["PENDING", "REFUNDED"])
async def test_what_the_gateway_no_longer_calls_paid_is_not_delivered(yard: Yard, word: str) -> None:
    """The gateway is asked about the payment itself just before; its history alone delivers nothing."""
    shop = shop_of(yard)
    shop.paid("order-1", activations=0)
    shop.said["order-1"] = word
    outcome = await ran(yard)
    assert (outcome.exit, shop.got) == (Exit.REFUSED, [])
    assert word in outcome.remedy


@pytest.mark.parametrize("status", [401, 500])
async def test_a_delivery_that_is_refused_is_for_a_person(yard: Yard, status: int) -> None:
    """It is on record as failed, is not repeated in this run, and the answer is told."""
    shop = shop_of(yard)
    shop.paid("order-1", activations=0)
    shop.webhook_status = status
    outcome = await ran(yard)
    assert (outcome.exit, shop.got) == (Exit.REFUSED, ["order-1"])
    assert f"order-1: the service answered {status}" in outcome.remedy
    (told,) = [entry.data for entry in last_run(yard) if entry.data.get("step") == "webhook of order-1"][1:]
    assert (told["outcome"], told["error"]) == ("failed", f"the service answered {status}")
    assert yard.told(Kind.RECONCILED)[-1]["repaired"] == []


async def test_a_delivery_without_effect_is_not_repeated(yard: Yard) -> None:
    """A service that accepts the webhook and activates nothing gets it once in a run; a person is told."""
    shop = shop_of(yard)
    shop.paid("order-1", activations=0)
    shop.webhook_status = 202
    outcome = await ran(yard)
    assert (outcome.exit, shop.got) == (Exit.REFUSED, ["order-1"])
    assert "not activated all the same" in outcome.remedy


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("n", [5, 6])
async def test_a_repair_killed_at_any_entry_is_repeated_to_its_end(yard: Yard, when: str, n: int) -> None:
    """Wherever it was killed, one more run ends with 0, the webhook was sent once in all, and no run is left open."""
    shop = shop_of(yard)
    shop.paid("order-1", activations=0)

    def around(at: str, written: int) -> None:
        if (at, written) == (when, n):
            raise Killed

    yard.around = around
    with pytest.raises(Killed):
        await ran(yard)
    yard.around = None
    assert (await ran(yard)).exit is Exit.DONE
    assert (shop.activations, shop.got) == ({"order-1": 1}, ["order-1"])
    assert (await yard.deploy()).exit is Exit.DONE


async def test_a_lost_lease_delivers_nothing(yard: Yard) -> None:
    """Another run owns the environment by now: exit 4, and nothing is sent."""
    shop = shop_of(yard)
    shop.paid("order-1", activations=0)
    asked = shop.status

    async def status(link_id: str) -> GatewayPayment:
        yard.lease_is_taken_by_another()
        return await asked(link_id)

    shop.status = status  # type: ignore[method-assign]
    assert ((await ran(yard)).exit, shop.got) == (Exit.PERSON_NEEDED, [])


async def test_an_unfinished_run_comes_first(yard: Yard) -> None:
    """What a deploy left half done is taken back by a rollback, which repairs as well; nothing is on record here."""
    await yard.killed_at(Kind.CHECKPOINT_ARMED)
    before = len(yard.entries())
    with pytest.raises(PersonNeeded) as error:
        await ran(yard)
    assert "./inv rollback --env staging" in error.value.remedy
    assert len(yard.entries()) == before


async def test_a_rival_is_not_disturbed(yard: Yard) -> None:
    """While somebody else may change the environment nothing is repaired."""
    with yard.opened() as session:
        lease = Lease.take(session.lease_file, owner=Owner.this_process("rival"), clock=session.world.clock)
    try:
        with pytest.raises(LeaseHeld):
            await ran(yard)
    finally:
        lease.release()


@pytest.mark.parametrize("apply", [False, True])
async def test_without_a_live_release_nobody_can_be_asked(yard: Yard, apply: bool) -> None:
    """It is refused before anything is on record."""
    yard.ground.live = None
    with pytest.raises(Refused, match="nothing is live"):
        await ran(yard, apply=apply)
    assert yard.entries() == ()


@pytest.mark.parametrize("apply", [False, True])
async def test_of_a_service_that_is_away_nothing_is_claimed(yard: Yard, apply: bool) -> None:
    """Exit 1 with what went wrong, and no count on record that could be taken for one."""
    shop = shop_of(yard)
    shop.paid("order-1", activations=0)
    shop.away = True
    outcome = await ran(yard, apply=apply)
    assert (outcome.exit, shop.got) == (Exit.REFUSED, [])
    assert "nothing is known of the books" in outcome.summary
    assert "no answer" in yard.told(Kind.RUN_FAILED)[0]["error"]
    assert yard.told(Kind.RECONCILED) == []


async def test_a_signal_ends_it_on_record(yard: Yard) -> None:
    """Ctrl-C while a webhook is on its way: 130, its delivery says so, and the next run finds out what became of it."""
    shop = shop_of(yard)
    shop.paid("order-1", activations=0)
    shop.paid("order-2", activations=0)
    shop.on_webhook = lambda: os.kill(os.getpid(), signal.SIGINT)
    outcome = await ran(yard)
    assert outcome.exit is Exit.INTERRUPTED
    shop.on_webhook = None
    assert (await ran(yard)).exit is Exit.DONE
    assert shop.activations == {"order-1": 1, "order-2": 1}


async def test_the_secrets_of_a_run_stay_out_of_what_it_says(yard: Yard) -> None:
    """A service that tells a secret in its error does not bring it into the outcome on record."""

    def telling(session: Session) -> Session:
        service = session.world.service
        base = f"https://shop.test/{yard.secret.reveal()}"
        return replace(session, world=replace(session.world, service=type(service)(base, service.contract, none)))

    def none() -> httpx.AsyncClient:
        def away(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("refused", request=request)

        return httpx.AsyncClient(transport=httpx.MockTransport(away))

    shop_of(yard).paid("order-1", activations=0)
    with yard.opened() as session:
        plan = reconciling.planned(session.spec, session.environment, apply=False)
        outcome = await reconciling.look(telling(session), plan, None, Books())
    assert yard.secret.reveal() not in f"{outcome}"
    assert all(yard.secret.reveal() not in str(entry.data) for entry in yard.entries())


async def test_an_altered_record_does_not_say_since_when(yard: Yard) -> None:
    """Where the record was changed, its word that older books were whole is not taken; a given --since still works."""
    await ran(yard, apply=False)
    with closing(sqlite3.connect(yard.folder / "journal.sqlite", isolation_level=None)) as journal:
        journal.execute("UPDATE entries SET data = replace(data, 'true', 'false') WHERE kind = 'reconciled'")
    with pytest.raises(TollgateError, match="not what was written"):
        await ran(yard, apply=False)
    with yard.opened() as session:
        plan = reconciling.planned(session.spec, session.environment, apply=False)
        since = session.world.clock.now() - timedelta(hours=1)
        assert (await reconciling.look(session, plan, since, Books())).exit is Exit.DONE


async def test_what_was_unpaid_when_the_books_agreed_is_looked_at_again(yard: Yard) -> None:
    """A link made five days ago, unpaid at yesterday's run, paid today and lost: the next run finds it by itself."""
    shop = shop_of(yard)
    made = (yard.clock.now() - timedelta(days=5)).isoformat()
    shop.paid("order-1", activations=0)
    shop.payments["order-1"] = replace(shop.payments["order-1"], status="PENDING", paid=False, created=made)
    shop.paid("order-0", activations=1)
    assert (await ran(yard, apply=False)).exit is Exit.DONE
    shop.payments["order-1"] = replace(shop.payments["order-1"], status="PAID", paid=True)
    assert (await ran(yard, apply=False)).exit is Exit.REFUSED
    assert [one["reference"] for one in yard.told(Kind.RECONCILED)[-1]["mismatches"]] == ["order-1"]
    assert (await ran(yard)).exit is Exit.DONE
    began = yard.clock.now()
    assert (await ran(yard, apply=False)).exit is Exit.DONE
    last = datetime.fromisoformat(yard.told(Kind.RECONCILED)[-1]["since"])
    assert began - timedelta(minutes=1) < last <= began
