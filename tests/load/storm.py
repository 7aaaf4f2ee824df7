"""A storm: payments arrive all the time while releases are deployed, taken back and killed in the middle.

    python -m tests.load.storm --rate 50 --changes 20 --seed 7

Everything is real: the sandbox's gateway and shop over TLS, the command line, SIGKILL. At the end the gateway's list
is held against the shop's database, and every request against the record of when the shop was closed. Exit 0 only if
no paid order was lost or doubled, nothing was activated unpaid, amounts agree to the cent, and no request failed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random

from sandbox.drills import judge
from sandbox.drills.run import stage
from sandbox.drills.scene import HOME
from tests.load import changes, found
from tests.load.changes import Change, Made
from tests.load.customers import Crowd, Request, crowd

FAULTS = ("ignores-amount", "accepts-unsigned-webhook", "webhook-500", "never-ready", "crash-on-start")
"""Bad releases. None of them harms a customer who pays: what such a one does wrong is not the pipeline's failure."""
ENTRIES = 130
"""About as many entries as a deploy of the shipped pipeline writes."""
VISITORS = 0.2
"""Pages beside the payments, as a share of the rate."""
_TOLD = 12


@dataclass(frozen=True)
class Storm:
    """What came of it."""

    made: tuple[Made, ...]
    crowd: Crowd
    books: found.Books
    windows: tuple[found.Window, ...]
    problems: tuple[str, ...]

    def told(self) -> str:
        """A page for a person."""
        requests, purchases = self.crowd.requests, self.crowd.purchases
        rate = len(purchases) / self.crowd.arrived_for_s
        of = Counter(one.what for one in requests)
        created = [one.took_s for one in requests if one.what == "create" and one.status in (200, 201)]
        active = [one.active - one.came for one in purchases if one.active is not None]
        refused = sum(found.refused_rightly(one, self.windows) for one in requests)
        failed = found.failed(requests, self.windows)
        ways = Counter(f"{one.what} {one.status or 'no answer'} {one.told[:60]}".strip() for one in failed)
        shut = [end - begin for begin, end in self.windows]
        declined = sum(bool(one.link) and not one.paid for one in purchases)
        return "\n".join(
            [
                *(f"{n:3} {_ended(made)}  {made.took_s:5.1f} s  {made.change}" for n, made in enumerate(self.made, 1)),
                "",
                f"payments   {len(purchases)} in {self.crowd.arrived_for_s:.1f} s: {rate:.1f} a second reached; "
                f"the crowd came at most {self.crowd.late_s:.2f} s late",
                f"of these   {len(created)} created, {sum(one.paid for one in purchases)} paid, {declined} declined",
                f"requests   {len(requests)}: {', '.join(f'{n} {what}' for what, n in of.items())}",
                f"failed     {len(failed)}; {refused} told to come again while payments were off",
                *(f"           {n} times {way}" for way, n in ways.most_common(_TOLD)),
                f"closed     {len(shut)} times, {sum(shut):.1f} s in all" + f", {max(shut, default=0.0):.1f} s at most",
                f"created    {found.spread(created)}",
                f"active     {found.spread(active)} after the customer came",
                f"the books  {self.books.counts()}, amounts to the cent",
                *(f"otherwise than planned: {one.surprise}" for one in self.made if one.surprise),
                *(f"WRONG: {problem}" for problem in self.problems[:_TOLD]),
                f"{len(self.problems)} wrong" if self.problems else "I1 and I2 hold.",
            ]
        )


def _ended(made: Made) -> str:
    return f"exit {changes.told(made.codes)}"


async def storm(spec: Path, wanted: Sequence[Change], *, rate: float, seed: int) -> Storm:
    """On a stage of its own: a healthy release is live, then customers come, then the changes are made."""
    async with stage(spec) as scene:
        before = await judge.standing(scene)
        address = (await scene.status())["address"]
        tls = ssl.create_default_context(cafile=str(scene.state / "tls" / "ca.pem"))
        made, over = list[Made](), asyncio.Event()
        async with crowd(address, tls, Random(seed)) as people:  # noqa: S311 - customers need no cryptography
            arriving = asyncio.create_task(people.arrive(rate, rate * VISITORS, over))
            try:
                for number, change in enumerate(wanted, 1):
                    made.append(await changes.make(scene.folder, change))
                    sys.stderr.write(f"{number} of {len(wanted)}: {change}: {made[-1].codes}\n")
            finally:
                over.set()
                await arriving
        books = await found.books(scene)
        after = await judge.standing(scene)
        windows = found.closed(scene.entries())
        problems = [one.problem for one in made if one.problem]  # exit 1 changed nothing, 0 and 3 are known good
        problems += [] if after.known_good else [f"I2: {before} before, {after} after"]
        problems += books.problems() + found.told_otherwise(people.purchases, books)
        problems += [f"failed: {_request(one)}" for one in found.failed(people.requests, windows)]
        return Storm(tuple(made), people, books, tuple(windows), tuple(problems))


def _request(one: Request) -> str:
    at = datetime.fromtimestamp(one.began, UTC).isoformat(timespec="milliseconds")
    return f"{one.what} at {at} after {one.took_s:.3f} s: {one.status or 'no answer'} {one.told[:300]}"


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.load.storm", description=__doc__.split("\n")[0])
    parser.add_argument("--rate", type=float, default=50.0, help="payments a second (default: 50)")
    parser.add_argument("--changes", type=int, default=20, help="how many (default: 20)")
    parser.add_argument("--seed", type=int, default=7, help="decides what is done in which order (default: 7)")
    parser.add_argument("--spec", type=Path, default=HOME / "pipeline.yaml", help="default: the shipped pipeline")
    wanted = parser.parse_args(argv)
    planned = changes.planned(wanted.seed, wanted.changes, FAULTS, ENTRIES)
    begun, load = time.monotonic(), os.getloadavg()[0]
    result = asyncio.run(storm(wanted.spec, planned, rate=wanted.rate, seed=wanted.seed))
    sys.stdout.write(f"{result.told()}\n")
    sys.stdout.write(
        f"{time.monotonic() - begun:.0f} s in all; load average {load:.1f} before, {os.getloadavg()[0]:.1f} after\n"
    )
    return 1 if result.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
