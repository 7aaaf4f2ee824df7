"""The hosted pay page: plain HTML without script, under a strict content security policy."""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import jinja2
from aiohttp import web
from markupsafe import Markup

from sandbox.gateway.assumptions import Card
from sandbox.gateway.store import Payment

_TEMPLATES = Path(__file__).parent / "templates"
_STYLE = (_TEMPLATES / "style.css").read_text(encoding="utf-8")
_STYLE_HASH = b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_JINJA = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_TEMPLATES), autoescape=True, undefined=jinja2.StrictUndefined
)
_EXPIRY = re.compile(r"(0[1-9]|1[0-2]) ?/? ?((?:20)?[0-9]{2})")
_CVC = re.compile(r"[0-9]{3,4}")
_NUMBER = re.compile(r"[0-9]{12,19}")


@dataclass(frozen=True)
class CardForm:
    """What the buyer typed. It is judged and forgotten: nothing of it is stored or logged."""

    card: str
    expiry: str
    cvc: str

    def __repr__(self) -> str:
        return "CardForm(...)"


def judge(form: CardForm, cards: tuple[Card, ...], now: datetime) -> tuple[Card | None, dict[str, str]]:
    """The test card that was entered, and what is wrong with each field; a card only when nothing is."""
    number = re.sub(r"[ -]", "", form.card.strip())
    card = next((c for c in cards if c.number == number), None)
    wrong = {}
    if not _NUMBER.fullmatch(number):
        wrong["card"] = "Enter the 12 to 19 digits of the card number."
    elif card is None:
        wrong["card"] = "This is no test card. The list below has those that work here."
    expiry = _EXPIRY.fullmatch(form.expiry.strip())
    if expiry is None:
        wrong["expiry"] = "Enter month and year, like 12/34."
    elif (2000 + int(expiry[2]) % 100, int(expiry[1])) < (now.year, now.month):
        wrong["expiry"] = "This date is past; enter one to come."
    if not _CVC.fullmatch(form.cvc.strip()):
        wrong["cvc"] = "Enter the 3 or 4 digits of the security code."
    return (None if wrong else card), wrong


def pay_page(payment: Payment, cards: tuple[Card, ...], wrong: Mapping[str, str] | None = None) -> web.Response:
    """The form for one payment, with what is wrong by field name. 422 when something is."""
    html = _render(
        "pay.html.j2", payment=payment, cards=cards, wrong=_OrEmpty(wrong or {}), amount=rand(payment.amount)
    )
    leads_to = (payment.success_url, payment.failure_url, payment.cancel_url)
    return _html(html, 422 if wrong else 200, form_leads_to=leads_to)


def message_page(status: int, title: str, text: str, link: str = "") -> web.Response:
    return _html(_render("message.html.j2", title=title, text=text, link=link), status)


def rand(cents: int) -> str:
    """`R 1 299.00`, with spaces that do not break."""
    return f"R {cents // 100:,}.{cents % 100:02d}".replace(",", " ").replace(" ", "\u00a0")


class _OrEmpty(dict[str, str]):
    """The template asks for every field; those without a mistake have none."""

    def __missing__(self, _: str) -> str:
        return ""


def _render(template: str, **values: object) -> str:
    return _JINJA.get_template(template).render(style=Markup(_STYLE), **values)  # noqa: S704 - our own stylesheet


def _html(html: str, status: int, *, form_leads_to: tuple[str, ...] = ()) -> web.Response:
    # Browsers hold the redirect that follows a form against form-action too, so the shop's origins stand there.
    origins = " ".join(["'self'", *sorted({_origin(url) for url in form_leads_to if url})])
    policy = (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action {origins}"
    )
    headers = {
        "Content-Security-Policy": policy,
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    }
    return web.Response(text=html, status=status, content_type="text/html", headers=headers)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
