"""Customers for the watch: they buy courses at a service on this machine, as a browser would, for a while.

    TOLLGATE_URL=https://127.0.0.1:PORT TOLLGATE_CA_FILE=ca.pem python -m sandbox.shoppers [--declined 10%]

Each one creates a payment, fills in the pay page's form and follows the way back to the shop. They are customers and
not judges: what went wrong for them is counted in the last line, and the exit code is 0 all the same.
"""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import re
import ssl
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from random import Random
from urllib.parse import urljoin, urlsplit

import httpx

COURSES: Mapping[str, int] = {"python-101": 49900, "payments-201": 129900}
GOOD_CARD = "4242 4242 4242 4242"
"""Assumption: the sandbox gateway's test cards."""
DECLINED_CARD = "4000 0000 0000 0002"
PER_SECOND = 8.0
MOST_SHOPPERS = 20_000
LONGEST_S = 3600.0
PATIENCE_S = 15.0
"""A customer who has waited this long for one answer gives up."""
_REDIRECTS = 5


class GaveUp(Exception):
    """One customer did not get through; the message is one of a few fixed words, so that they can be counted."""


@dataclass
class Form:
    action: str
    fields: dict[str, str] = field(default_factory=dict)


class PayPage(HTMLParser):
    """Reads the first form of a page: its address and its inputs, hidden ones with their values."""

    def __init__(self) -> None:
        super().__init__()
        self.form: Form | None = None
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form" and self.form is None:
            self.form = Form(given.get("action", ""))
            self._inside = True
        elif tag == "input" and self._inside and self.form is not None and given.get("name"):
            self.form.fields[given["name"]] = given.get("value", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._inside = False


def filled(page: str, card: str) -> Form:
    """The form of a pay page with a card typed in. Raises GaveUp where there is none to fill."""
    reader = PayPage()
    reader.feed(page)
    if reader.form is None:
        raise GaveUp("no form on the pay page")
    typed = {"card": card, "expiry": "12/34", "cvc": "123"}
    for name in reader.form.fields:
        for part, value in typed.items():
            if part in name.lower():
                reader.form.fields[name] = value
    reader.form.fields["action"] = "pay"
    return reader.form


async def shop_once(client: httpx.AsyncClient, service: str, random: Random, declined: float) -> str:
    """One customer from the course to the page after the payment: `bought` or `declined`. Raises GaveUp."""
    course, cents = random.choice(sorted(COURSES.items()))
    reference = f"order-{random.getrandbits(80):020x}"
    wanted = {"reference": reference, "amount": cents, "currency": "ZAR", "course": course}
    created = await client.post(f"{service}/api/payments", json=wanted)
    if created.status_code not in (200, 201):
        raise GaveUp(f"payment answered {created.status_code}")
    link = created.json().get("paylinkUrl")
    page = await client.get(_on_loopback(link))
    if page.status_code != 200:
        raise GaveUp(f"pay page answered {page.status_code}")
    unlucky = random.random() < declined
    form = filled(page.text, DECLINED_CARD if unlucky else GOOD_CARD)
    sent = await client.post(_on_loopback(urljoin(str(page.url), form.action)), data=form.fields)
    for _ in range(_REDIRECTS):
        if not sent.is_redirect:
            break
        sent = await client.get(_on_loopback(urljoin(str(sent.url), sent.headers["location"])))
    if sent.status_code != 200:
        raise GaveUp(f"the way back answered {sent.status_code}")
    return "declined" if unlucky else "bought"


async def shop_for(
    seconds: float, service: str, *, tls: ssl.SSLContext, random: Random, declined: float, per_second: float
) -> Counter[str]:
    """Customers arrive evenly for `seconds`; returns once each has got through or given up. How each one ended."""
    seen: Counter[str] = Counter()
    count = min(MOST_SHOPPERS, max(1, round(seconds * per_second)))
    async with (
        httpx.AsyncClient(verify=tls, timeout=PATIENCE_S, trust_env=False, follow_redirects=False) as client,
        asyncio.TaskGroup() as customers,
    ):
        for _ in range(count):
            customers.create_task(_counted(client, service, random, declined, seen))
            await asyncio.sleep(1 / per_second)
    return seen


async def _counted(
    client: httpx.AsyncClient, service: str, random: Random, declined: float, seen: Counter[str]
) -> None:
    try:
        async with asyncio.timeout(2 * PATIENCE_S):
            seen[await shop_once(client, service, random, declined)] += 1
    except GaveUp as error:
        seen[str(error)] += 1
    except (httpx.HTTPError, TimeoutError) as error:
        seen[f"no answer ({type(error).__name__})"] += 1
    except (ValueError, TypeError, AttributeError, KeyError, httpx.InvalidURL):
        seen["an answer that makes no sense"] += 1


def _on_loopback(url: object) -> str:
    """The address itself. Raises GaveUp for any machine but this one: made-up customers never leave it."""
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        inside = parts is not None and ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        inside = False
    if not inside:
        raise GaveUp("sent to another machine")
    return str(url)


def _share(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?) ?%", text)
    if match is None or float(match[1]) > 100:
        raise argparse.ArgumentTypeError(f"found {text!r}; a percentage is allowed: 0%, 10%")
    return float(match[1]) / 100


def _number(name: str, text: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 < number <= most:
        raise ValueError(f"{name}: found {text[:40]!r}; more than 0 and at most {most:g} is allowed")
    return number


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    """Exit 0, or 2 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.shoppers", description=__doc__.split("\n")[0])
    parser.add_argument("--declined", type=_share, default=0.0, help="share of cards that are declined (default: 0%%)")
    parser.add_argument("--per-second", default=str(PER_SECOND), help="customers a second (default: 8)")
    arguments = parser.parse_args(argv)
    service = env.get("TOLLGATE_URL", "").rstrip("/")
    try:
        seconds = _number("TOLLGATE_WATCH_SECONDS", env.get("TOLLGATE_WATCH_SECONDS") or "10", LONGEST_S)
        per_second = _number("--per-second", arguments.per_second, 100)
        _on_loopback(service)
        tls = ssl.create_default_context(cafile=env.get("TOLLGATE_CA_FILE") or None)
    except GaveUp:
        sys.stderr.write(f"TOLLGATE_URL: found {service!r}; an address on 127.0.0.1 is allowed\n")
        return 2
    except (ValueError, OSError) as error:
        sys.stderr.write(f"shoppers cannot start: {error}\n")
        return 2
    random = Random()  # noqa: S311 - customers need no cryptography
    shopping = shop_for(seconds, service, tls=tls, random=random, declined=arguments.declined, per_second=per_second)
    sys.stdout.write(f"{summary(asyncio.run(shopping))}\n")
    return 0


def summary(seen: Mapping[str, int]) -> str:
    """One line: how many customers there were, and how each kind of them ended."""
    wrong = {what: n for what, n in seen.items() if what not in ("bought", "declined")}
    line = f"{sum(seen.values())} shoppers: {seen.get('bought', 0)} bought, {seen.get('declined', 0)} declined"
    line += f", {sum(wrong.values())} met errors"
    return line + (": " + ", ".join(f"{what} x{n}" for what, n in sorted(wrong.items())) if wrong else "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
