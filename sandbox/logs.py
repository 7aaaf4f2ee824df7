"""Structured logs: one JSON object a line, with nothing in it that a stranger may not read."""

from __future__ import annotations

import json
import logging
import re
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

LARGEST_FILE = 10_000_000
_CARD_LIKE = re.compile(r"\d(?:[ -]?\d){11,18}")


class JsonLines(logging.Formatter):
    """`at`, `level`, `event`, the fields of the record, and the traceback of an error."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {"at": at, "level": record.levelname.lower(), "event": record.getMessage()}
        line.update(getattr(record, "fields", {}))
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class AccessLog(AbstractAccessLogger):
    """Method, path, status and time of each request; never a query, a header or a body."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        say(
            self.logger,
            "request",
            method=request.method[:16],
            path=hide_cards(request.path[:200]),
            status=response.status,
            took_ms=round(time * 1000, 1),
        )


def say(logger: logging.Logger, event: str, **fields: object) -> None:
    logger.info(event, extra={"fields": fields})


def hide_cards(text: str) -> str:
    """Anything of the shape of a card number is replaced."""
    return _CARD_LIKE.sub("[number]", text)


def to_file(path: Path) -> logging.Handler:
    """A handler of JSON lines, kept to two files of LARGEST_FILE bytes. The caller adds and closes it."""
    handler = RotatingFileHandler(path, maxBytes=LARGEST_FILE, backupCount=1, encoding="utf-8", delay=True)
    handler.setFormatter(JsonLines())
    return handler
