"""A small service whose orders lie in SQLite. `release.json` beside this file says how this release of it behaves."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

TRAITS = json.loads((Path(__file__).with_name("release.json")).read_text())
DATA = Path(os.environ["DATA_DIR"])


def opened() -> sqlite3.Connection:
    return sqlite3.connect(DATA / "ledger.sqlite", isolation_level=None, timeout=10)
