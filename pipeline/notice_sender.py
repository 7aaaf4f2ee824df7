"""The process that speaks to Apprise, by itself: one file, run by its path, so that what it loads, logs or hangs in
stays in here.

Each line of its input is a JSON object {id, address, title, body, kind}; it answers each with a line {id, error}, ''
when the notice was taken. The end of its input ends it at once, whatever is still under way.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from typing import Any, TextIO

_LINES = 2
"""What Apprise said last is enough to tell what is wrong."""
_LONGEST = 2_000


def main() -> None:
    os.nice(10)  # the run comes first
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    import apprise

    logging.getLogger("apprise").propagate = False
    logging.getLogger("apprise").addHandler(logging.NullHandler())
    asset = apprise.AppriseAsset(
        app_id="Tollgate",
        app_desc="Tollgate",
        app_url="",
        secure_logging=True,
        pgp_autogen=False,
        pem_autogen=False,
        storage_mode=apprise.PersistentStoreMode.MEMORY,
    )
    lock = threading.Lock()
    for line in sys.stdin:
        notice = json.loads(line)
        threading.Thread(target=_serve, args=(apprise, asset, notice, answers, lock), daemon=True).start()
    os._exit(0)


def _serve(apprise: Any, asset: Any, notice: dict[str, str], answers: TextIO, lock: threading.Lock) -> None:
    try:
        error = _send(apprise, asset, notice)
    except Exception as failure:
        error = f"{type(failure).__name__}: {failure}"
    with lock:
        answers.write(json.dumps({"id": notice["id"], "error": error[:_LONGEST]}) + "\n")
        answers.flush()


def _send(apprise: Any, asset: Any, notice: dict[str, str]) -> str:
    said: list[str] = []

    def hear(entry: Any, _service: Any) -> None:
        said.append(str(entry.message))

    carrier = apprise.Apprise(asset=asset)
    if not carrier.add(notice["address"]):
        return "it is no address that Apprise understands"
    sent = carrier.notify(
        notice["body"],
        title=notice["title"],
        notify_type=notice["kind"],
        body_format=apprise.NotifyFormat.TEXT,
        log_callback=hear,
        log_level=logging.WARNING,
    )
    return "" if sent else " ".join(said[-_LINES:]) or "it was not taken"


if __name__ == "__main__":
    main()
