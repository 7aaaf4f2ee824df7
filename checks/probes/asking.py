"""What the two checks over the probes share: their parameters, and which probes they choose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from checks.facts.smoke import on_loopback
from checks.judging import Unjudged
from checks.probes.playing import Run, Settings
from checks.probes.probe import Probe
from checks.probes.table import PROBES
from checks.probes.theatre import played
from pipeline.contracts import World
from pipeline.names import nearest
from pipeline.spec import Frozen
from pipeline.verdict import failed


def _known(prefix: str) -> AfterValidator:
    def judge(name: str) -> str:
        names = [one for one in PROBES if one.startswith(prefix)]
        if name not in names:
            guess = nearest(name, names)
            raise ValueError(
                f"{name[:80]!r} is none of the {len(names)} probes {prefix}*, see docs/probes.md"
                + (f"; did you mean {guess}?" if guess else "")
            )
        return name

    return AfterValidator(judge)


class Probing(Frozen):
    """How far the prober may go. Mode `card` pays smoke payments by test card: in the sandbox or in test mode alone."""

    mode: Literal["initialise", "card"] = "initialise"
    cap: int = Field(1000, ge=0, description="In cents; what all smoke payments of the prober may cost in a run.")


class WebhookProbing(Probing):
    only: tuple[Annotated[str, _known("webhook.")], ...] = Field((), description="Names of probes; all by default.")


class PaymentProbing(Probing):
    only: tuple[Annotated[str, _known("payment.")], ...] = Field((), description="Names of probes; all by default.")


def chosen(prefix: str, only: Sequence[str], table: Mapping[str, Probe] = PROBES) -> Sequence[Probe]:
    return [probe for name, probe in table.items() if name.startswith(prefix) and (not only or name in only)]


async def run(world: World, prefix: str, params: WebhookProbing | PaymentProbing) -> Run:
    """Plays the chosen probes. Raises Unjudged where mode card would spend real money; then nothing was sent."""
    testing = world.settings.text("VITE_IKHOKHA_TEST_MODE") == "true"
    if params.mode == "card" and not testing and not on_loopback(world.addresses.gateway):
        raise Unjudged(
            failed(
                f"mode card is for the sandbox and for test mode; {world.addresses.gateway} takes real money, so "
                "nothing was sent",
                "Use `with: {mode: initialise}`: what needs a paid payment is skipped then, and said.",
            )
        )
    settings = Settings(params.mode, params.cap, lag_s=world.spec.contract.enrolment_within)
    return await played(world, chosen(prefix, params.only), settings)
