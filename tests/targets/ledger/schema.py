"""`python -m ledger.schema up`, `down VERSION` and `version`. A schema half-way to version 2 is at -2 on disk.

TRAITS: `migration` is `adds` or `renames`; `stops` waits for a file half-way; `revert` `fails`; `version` `fails`.
"""

from __future__ import annotations

import os
import sys
import time

from ledger import DATA, TRAITS, opened  # type: ignore[import-not-found]

UP = {"adds": "ALTER TABLE orders ADD COLUMN note TEXT", "renames": "ALTER TABLE orders RENAME COLUMN price TO cents"}
DOWN = {"adds": "ALTER TABLE orders DROP COLUMN note", "renames": "ALTER TABLE orders RENAME COLUMN cents TO price"}


def main(verb: str, to: str = "2") -> int:
    database = opened()
    (at,) = database.execute("PRAGMA user_version").fetchone()
    if verb == "version":
        if TRAITS.get("version") == "fails" and at != 1:
            sys.stderr.write("no such table: versions\n")
            return 3
        sys.stdout.write(f"{at}\n" if at >= 0 else f"{-at} half-done\n")
    elif verb == "up" and at != 2:
        if at == 1:
            database.execute("PRAGMA user_version = -2")
            database.execute(UP[TRAITS["migration"]])
        (DATA / "half-way").write_text(str(os.getpid()))
        while TRAITS.get("stops") and not (DATA / "go-on").exists():
            time.sleep(0.02)
        database.execute("PRAGMA user_version = 2")
        sys.stdout.write(f"{os.environ['RELEASE_ID']} migrated with {os.environ['API_SECRET']}\n")
    elif verb == "down" and at != int(to):
        if TRAITS.get("revert") == "fails":
            sys.stderr.write("cannot drop what customers filled in\n")
            return 4
        database.execute(DOWN[TRAITS["migration"]])
        database.execute(f"PRAGMA user_version = {int(to)}")
    return 0


sys.exit(main(*sys.argv[1:]))
