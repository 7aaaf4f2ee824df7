"""The gateway's pay page, used as a browser would: its form is read, filled and sent."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import urljoin, urlsplit

from checks.judging import Unjudged
from pipeline.contracts import PayLink, World
from pipeline.verdict import inconclusive


@dataclass(frozen=True)
class Card:
    """A test card; it charges nobody."""

    number: str
    expiry: str
    cvc: str


SANDBOX_CARD = Card("4242424242424242", "12/34", "123")
"""Assumption: the sandbox gateway takes this card. The real gateway publishes no test card."""

_TIME_LIMIT_S = 20.0


@dataclass(frozen=True)
class Form:
    """A form of a page: where it goes, and its fields in their order with the values they came with."""

    action: str
    method: str
    fields: tuple[tuple[str, str], ...]
    buttons: tuple[tuple[str, str], ...]


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self._attributes: dict[str, str] | None = None
        self._fields: list[tuple[str, str]] = []
        self._buttons: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._attributes, self._fields, self._buttons = given, [], []
        elif self._attributes is not None and tag in ("input", "button", "select"):
            kind = given.get("type", "submit" if tag == "button" else "text").lower()
            field = (given.get("name", ""), given.get("value", ""))
            if kind in ("submit", "button", "image"):
                self._buttons.append(field)
            elif field[0] and (kind not in ("checkbox", "radio") or "checked" in given):
                self._fields.append(field)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form" and self._attributes is not None:
            self.forms.append(
                Form(
                    self._attributes.get("action", ""),
                    self._attributes.get("method", "get").lower(),
                    tuple(self._fields),
                    tuple(self._buttons),
                )
            )
            self._attributes = None


def card_form(html: str) -> Form | None:
    """The first form of a page that asks for a card, as far as the page can be read. Pure."""
    parser = _Forms()
    with contextlib.suppress(AssertionError):  # what the parser of the standard library raises for odd declarations
        parser.feed(html)
        parser.close()
    return next((f for f in parser.forms if any(_part(name) == "number" for name, _ in f.fields)), None)


def filled(form: Form, card: Card) -> Mapping[str, str]:
    """What a browser would send after the card was typed in and the paying button pressed. Pure."""
    month, _, year = card.expiry.partition("/")
    typed = {"number": card.number, "expiry": card.expiry, "cvc": card.cvc, "month": month, "year": year}
    typed["holder"] = "SMOKE PAYMENT"
    data = {name: typed.get(_part(name), value) for name, value in form.fields}
    pressed = next((b for b in form.buttons if not _says_cancel(b)), ("", ""))
    return {**data, pressed[0]: pressed[1]} if pressed[0] else data


def _part(name: str) -> str:
    """Which part of a card a field of this name asks for; '' for none."""
    lowered = name.lower()
    hints = (("cvc", "cvc"), ("cvv", "cvc"), ("month", "month"), ("year", "year"), ("exp", "expiry"))
    more = (("holder", "holder"), ("card", "number"))
    return next((part for hint, part in (*hints, *more) if hint in lowered), "")


def _says_cancel(button: tuple[str, str]) -> bool:
    return any("cancel" in text.lower() or "back" in text.lower() for text in button)


async def pay(world: World, link: PayLink, card: Card = SANDBOX_CARD) -> int:
    """Opens the pay link and pays by card. Returns the HTTP status the page answered with.

    The form only ever goes to the host of the pay link. Raises Unjudged when there is no page or no form to fill.
    """
    import httpx

    begun = world.clock.monotonic()

    def after() -> str:
        return f"after {round((world.clock.monotonic() - begun) * 1000)} ms"

    try:
        async with world.http() as client:
            page = await client.get(link.url, timeout=_TIME_LIMIT_S)
            form = card_form(page.text) if page.status_code == 200 else None
            if form is None:
                raise Unjudged(
                    inconclusive(
                        f"GET {link.url}: answered {page.status_code} {after()}, no form that asks for a card was on "
                        "the page",
                        "Open the link in a browser. Without such a form use mode operator or initialise.",
                        page_status=page.status_code,
                    )
                )
            action = _leads_to(link.url, form.action)
            if not action or _host(action) != _host(link.url) or form.method != "post":
                raise Unjudged(
                    inconclusive(
                        f"the pay page {link.url} sends card data by {form.method} to {action or form.action!r}; "
                        f"a POST to its own host is expected ({after()}); nothing was paid",
                        "Do not pay there; find out who serves that page.",
                    )
                )
            answer = await client.post(action, data=dict(filled(form, card)), timeout=_TIME_LIMIT_S)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise Unjudged(
            inconclusive(
                f"the pay page {link.url} gave no answer {after()} ({type(error).__name__}: {error})",
                "The gateway's pay page is away: ask again once it answers.",
            )
        ) from error
    return answer.status_code


def _leads_to(page: str, action: str) -> str:
    """The whole address of a form's action; '' where it is none."""
    try:
        return urljoin(page, action or page)
    except ValueError:
        return ""


def _host(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc
