"""What one unharmed run of each verb writes, learnt from it: `python -m tests.crash.matrix --learn` writes the file.

A test holds the file against real runs, so an engine that writes more or less is noticed, and learnt anew.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("learned.json")
SIDE_BY_SIDE = frozenset({"gates", "prove"})
"""Where steps run side by side, what one of them does happens before and after the entries of the others: the moments
before an entry are all there are."""
BOOKKEEPING = "journal head in place"
"""It follows every entry, and is no act between two."""
OF_PRUNING = frozenset({"removal", "sync", "fence"})
DELIVERED = "step.finished webhook"
"""What was sent over the network alone, before this entry."""


@dataclass(frozen=True)
class Learned:
    """`entries`: what each is about. `acts`: the numbers of those before which something is changed; one past the last
    is what follows them. `writes`: which writes of each row of the table of writes these are, counted from 1.
    """

    entries: tuple[str, ...]
    acts: tuple[int, ...]
    writes: Mapping[str, tuple[int, ...]]

    @property
    def steady(self) -> tuple[object, ...]:
        """What is the same in every such run. How much is pruned is not: what still drains stays until the next."""
        rows = {row: numbers for row, numbers in self.writes.items() if row not in OF_PRUNING}
        return self.entries, self.acts, rows, set(self.writes)

    def as_data(self) -> dict[str, Any]:
        writes = {row: list(numbers) for row, numbers in self.writes.items()}
        return {"entries": list(self.entries), "acts": list(self.acts), "writes": writes}


def from_run(entries: Sequence[str], trace: Sequence[Mapping[str, Any]], *, first: int) -> Learned:
    """`first`: how many entries are left out at the beginning, with what was written before them."""
    acts, writes, count, n = set[int](), dict[str, tuple[int, ...]](), Counter[str](), -first
    for line in trace:
        if "entry" in line:
            n = line["entry"] - first
        elif "write" in line:
            count[line["write"]] += 1
            if n >= 0 and line["write"] != BOOKKEEPING:
                writes[line["write"]] = (*writes.get(line["write"], ()), count[line["write"]])
                acts.add(n + 1)
    kept = tuple(entries[first:])
    acts |= {n for n, what in enumerate(kept, 1) if what == DELIVERED}
    acts -= {n for n, what in enumerate(kept, 1) if what in SIDE_BY_SIDE and kept[n - 2] == what}
    return Learned(kept, tuple(sorted(acts)), dict(sorted(writes.items())))


def read() -> dict[str, Learned]:
    found = json.loads(FILE.read_text()) if FILE.exists() else {}
    return {name: _of(one) for name, one in found.items()}


def _of(data: Any) -> Learned:
    writes = {row: tuple(numbers) for row, numbers in data["writes"].items()}
    return Learned(tuple(data["entries"]), tuple(data["acts"]), writes)


def write(found: Mapping[str, Learned]) -> None:
    rows = {name: {key: json.dumps(value) for key, value in one.as_data().items()} for name, one in found.items()}
    text = ",\n".join(
        f'"{name}": {{\n' + ",\n".join(f' "{key}": {value}' for key, value in row.items()) + "\n}"
        for name, row in rows.items()
    )
    FILE.write_text(f"{{\n{text}\n}}\n")


LEARNED = read()
