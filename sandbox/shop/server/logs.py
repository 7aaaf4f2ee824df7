"""Structured logs: one JSON object a line on stdout, without bodies, query strings, card data or secrets."""

from __future__ import annotations

import json
import logging
import sys
import traceback
from datetime import UTC, datetime

from .security_events import without_cards

_LOGGER = logging.getLogger("shop")


class JsonLines(logging.Formatter):
    """An exception is logged by its type and place only: its text may quote what a stranger sent."""

    def __init__(self, release: str) -> None:
        super().__init__()
        self._release = release

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "release": self._release,
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, dict):
            line |= {name: _shown(name, value) for name, value in fields.items()}
        else:  # a library's own message
            line |= {"event": "library", "logger": record.name, "message": str(record.msg)[:200]}
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = record.exc_info[0].__name__
            frames = traceback.extract_tb(record.exc_info[2])
            if frames:
                line["where"] = f"{frames[-1].filename}:{frames[-1].lineno}"
        return json.dumps(line, default=str)


def _shown(name: str, value: object) -> object:
    """A path or a reference is a stranger's text; a paylink's number is the gateway's, and may look like a card's."""
    return without_cards(value) if isinstance(value, str) and name != "paylink_id" else value


def start(release: str) -> None:
    """Sends everything that is logged in this process to stdout as JSON lines."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines(release))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    for noisy in ("asyncio", "aiohttp.access"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def info(event: str, **fields: object) -> None:
    _LOGGER.info(event, extra={"fields": {"event": event, **fields}})


def warn(event: str, **fields: object) -> None:
    """Something a person should read: a security event, a mismatch, a gateway that does not answer."""
    _LOGGER.warning(event, extra={"fields": {"event": event, **fields}})


def error(event: str, *, exc_info: bool = False, **fields: object) -> None:
    _LOGGER.error(event, exc_info=exc_info, extra={"fields": {"event": event, **fields}})
