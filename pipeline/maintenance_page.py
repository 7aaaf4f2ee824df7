"""The page customers read while a service is closed: one file without any other, and without who closed it or why."""

from __future__ import annotations

import re
from math import ceil
from typing import TYPE_CHECKING

from pipeline.report import TEMPLATES
from pipeline.words import count, one_line, sentence

if TYPE_CHECKING:
    from pipeline.spec import Maintenance

TEMPLATE = "maintenance.html.j2"


def render(said: Maintenance) -> bytes:
    """The page. Its one style needs its hash in a Content-Security-Policy, its `retry-after` becomes the header."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    contact = one_line(said.contact or "")
    page = templates.get_template(TEMPLATE).render(
        seconds=ceil(said.retry_after),
        wait=_wait(ceil(said.retry_after)),
        message=sentence(one_line(said.message)),
        contact=contact,
        link=_link(contact),
    )
    return page.encode()


def render_or_nothing(said: Maintenance) -> bytes:
    """The page, or nothing where it cannot be made: no way back may depend on a page, and there is a built-in one."""
    try:
        return render(said)
    except Exception:
        return b""


def _wait(seconds: int) -> str:
    if seconds < 120 and seconds % 60:
        return count(seconds, "second")
    minutes = ceil(seconds / 60)
    return count(minutes, "minute") if minutes < 120 else count(ceil(minutes / 60), "hour")


def _link(contact: str) -> str:
    """What a click on it opens; '' for what is no address."""
    if re.fullmatch(r"https://[^\s\"<>]+", contact):
        return contact
    if re.fullmatch(r"[^\s@<>\"?&]+@[^\s@<>\"?&]+\.[^\s@<>\"?&]+", contact):
        return f"mailto:{contact}"
    return f"tel:{re.sub(r'[^+0-9]', '', contact)}" if re.fullmatch(r"\+?[0-9 ()-]{6,}", contact) else ""
