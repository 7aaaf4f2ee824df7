"""How long it takes to reconcile 10,000 payments, and what the books of thousands of mismatches cost.

Run: `.venv/bin/python benchmarks/reconcile.py [PAYMENTS [RUNS]]` (10,000 and 3). It makes a sandbox of its own in a
temporary folder, puts a release of the shop live, and writes the payments straight into the databases of gateway and
shop, for making them takes longer than comparing them. Printed for each run: wall time of `./inv reconcile` from start
to end, of the comparison in it, and the processor time of client and shop.

1. Every payment is paid and activated: two questions for each, the most there can be.
2. Half of them were left by their customers: one question for each of those.
3. The first again, one connection for each question (as without kept connections), over a tenth of the payments.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

HOME = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(HOME))

import wiring  # noqa: E402
from pipeline.contracts import ReleaseId, ReleaseState  # noqa: E402
from pipeline.reconcile import reconcile  # noqa: E402
from pipeline.service import Service  # noqa: E402
from sandbox import host  # noqa: E402
from targets import stop_local  # noqa: E402

RELEASE = ReleaseId("20260101T000000000Z-0000000")
CENTS = 49900


@dataclass(frozen=True)
class Sandbox:
    root: Path

    @property
    def spec(self) -> str:
        return str(self.root / "pipeline.yaml")

    @property
    def state(self) -> Path:
        return self.root / ".tollgate" / "sandbox"

    @property
    def shop(self) -> Path:
        return self.state / "target" / "shared" / "data" / "orders.sqlite"

    @property
    def gateway(self) -> Path:
        return self.state / "gateway" / "gateway.sqlite"


def main() -> None:
    payments = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory(prefix="tollgate-books-") as folder:
        sandbox = Sandbox(Path(folder))
        try:
            build(sandbox)
            asyncio.run(prepare(sandbox))
            fill(sandbox, payments, paid=payments)
            for _ in range(runs):
                verb(sandbox, f"{payments:,} payments, all paid")
            asyncio.run(one_connection_each(sandbox, payments // 10))
            fill(sandbox, payments, paid=payments // 2)
            for _ in range(runs):
                verb(sandbox, f"{payments:,} payments, half of them paid")
        finally:
            chosen = wiring.choose(sandbox.spec, "sandbox")
            asyncio.run(stop_local(chosen.area))
            host.down(chosen.state)


def build(sandbox: Sandbox) -> None:
    Path(sandbox.spec).write_text((HOME / "pipeline.yaml").read_text("utf-8"), "utf-8")
    argv = [sys.executable, str(HOME / "sandbox" / "shop" / "build.py"), "--out", str(sandbox.root / "dist")]
    subprocess.run(argv, check=True, capture_output=True, env={"PATH": os.environ["PATH"]})


async def prepare(sandbox: Sandbox) -> None:
    """A release of the shop, live and verified in a sandbox that was just made."""
    chosen = wiring.choose(sandbox.spec, "sandbox")
    settings = await wiring.settings_of(chosen)

    async def anyone() -> None:
        return None

    target = await wiring.open_target(chosen, anyone)
    values = {name: found.value for name, found in settings.values.items()}
    await target.releases.stage(RELEASE, sandbox.root / "dist", values)
    await target.traffic.activate(RELEASE)
    await target.releases.mark(RELEASE, ReleaseState.VERIFIED, "made for a benchmark")
    shutil.rmtree(sandbox.root / "dist")


def fill(sandbox: Sandbox, payments: int, *, paid: int) -> None:
    """Replaces all payments; the first `paid` are paid and activated."""
    now = datetime.now(UTC) - timedelta(hours=2)
    made = [(f"order-{n:06d}", f"link{n:011d}", n < paid) for n in range(payments)]
    with closing(sqlite3.connect(sandbox.gateway, timeout=20)) as gateway, gateway:
        gateway.execute("DELETE FROM payments")
        gateway.executemany(
            "INSERT INTO payments VALUES (?, ?, ?, '', 'https://127.0.0.1/', '', '', '', ?, ?)",
            [(link, ref, CENTS, "PAID" if ok else "CANCELLED", now.isoformat()) for ref, link, ok in made],
        )
    with closing(sqlite3.connect(sandbox.shop, timeout=20)) as shop, shop:
        shop.execute("DELETE FROM orders")
        shop.execute("DELETE FROM activations")
        shop.executemany(
            "INSERT INTO orders (reference, course, amount, currency, status, paylink_id, created_at, outcome)"
            " VALUES (?, 'python-101', ?, 'ZAR', ?, ?, ?, ?)",
            [
                (ref, CENTS, "paid" if ok else "failed", link, now.timestamp(), "success" if ok else "failure")
                for ref, link, ok in made
            ],
        )
        shop.executemany(
            "INSERT INTO activations (paylink_id, reference, activated_at) VALUES (?, ?, ?)",
            [(link, ref, now.timestamp()) for ref, link, ok in made if ok],
        )


def verb(sandbox: Sandbox, what: str) -> None:
    """`./inv reconcile` from start to end, in a process of its own."""
    argv = [sys.executable, "-P", "-m", "invoke", "--search-root", str(HOME), "reconcile", "--json"]
    argv += ["--since", "1d", "--spec", sandbox.spec]
    before, begun, ours = shop_cpu_s(sandbox), time.perf_counter(), os.times()
    done = subprocess.run(argv, cwd=sandbox.root, capture_output=True, text=True, check=False)
    wall, spent = time.perf_counter() - begun, os.times()
    if done.returncode != 0:
        raise SystemExit(f"{what}: exit {done.returncode}: {done.stdout}{done.stderr}")
    said = json.loads(done.stdout)
    client = spent.children_user + spent.children_system - ours.children_user - ours.children_system
    sys.stdout.write(
        f"{what}: {said['paid']} paid, {said['activated']} activated, agree {said['agree']}; {wall:.1f} s from start "
        f"to end, of which comparing {took(sandbox, said['run']):.1f} s; processor: client {client:.1f} s, "
        f"shop {shop_cpu_s(sandbox) - before:.1f} s\n"
    )


def took(sandbox: Sandbox, run: str) -> float:
    from pipeline.events import Kind
    from pipeline.journal import Journal

    with Journal.read(sandbox.state / "journal.sqlite") as journal:
        return next(float(e.data["took_s"]) for e in journal.entries(run) if e.kind is Kind.STEP_FINISHED)


async def one_connection_each(sandbox: Sandbox, payments: int) -> None:
    """The same comparison by a service of which nothing is known that would let it keep connections."""
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        chosen = wiring.choose(sandbox.spec, "sandbox")
        async with wiring.opened(chosen, lambda _: []) as session:
            world = await session.of_release(RELEASE)
            since = datetime.now(UTC) - timedelta(days=1)
            every = await world.gateway.history(since, world.clock.now())

            class Some:
                async def history(self, *_: datetime) -> object:
                    return every[:payments]

            begun = time.perf_counter()
            some = Some()
            result = await reconcile(
                some,  # type: ignore[arg-type]
                Service(world.service.base, world.spec.contract, world.http),
                world.clock,
                since=since,
                settle=0,
                repair=False,
            )
            wall = time.perf_counter() - begun
    sys.stdout.write(
        f"{payments:,} payments, all paid, a connection for each question: comparing {wall:.1f} s, "
        f"agree {result.ok}; {2 * payments / wall:,.0f} questions/s\n"
    )


def shop_cpu_s(sandbox: Sandbox) -> float:
    """What the shop's process has used; found by the folder that it runs in."""
    for process in Path("/proc").iterdir():
        try:
            argv = (process / "cmdline").read_bytes().split(b"\0")
            if b"shop" in argv and str(sandbox.root) in str((process / "cwd").readlink()):
                fields = (process / "stat").read_text().rpartition(")")[2].split()
                return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except OSError:
            continue
    return 0.0


if __name__ == "__main__":
    main()
