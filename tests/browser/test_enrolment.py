"""A real browser walks the sandbox shop and the gateway's pay page, as a customer does."""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sandbox.shoppers import DECLINED_CARD, GOOD_CARD
from tests.sandbox.shops import Area, Running, sandbox_gateway

if TYPE_CHECKING:
    from playwright.sync_api import Page

CHROMIUM = shutil.which("chromium")
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of requirements-dev.txt")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium, a Debian package")


@dataclass
class Customer:
    """One browser tab, and everything that went wrong in it."""

    page: Page
    shop: Running
    wrong: list[str] = field(default_factory=list)

    def heard(self, said: Any) -> None:
        """What the console says, e.g. of a broken policy; answers are kept by `got`."""
        if said.type == "error" and not said.text.startswith("Failed to load resource"):
            self.wrong.append(said.text)

    def got(self, answer: Any) -> None:
        """A browser asks for an icon by itself, and neither page has one."""
        if answer.status >= 400 and not answer.url.endswith("/favicon.ico"):
            self.wrong.append(f"{answer.status} {answer.request.method} {answer.url.rpartition('/pay/')[0]}")

    def picks(self, course: str) -> str:
        """From the first page of the shop to the gateway's pay page; the reference shown there."""
        self.page.goto(self.shop.url)
        self.page.get_by_role("link", name=course).click()
        self.page.get_by_role("button", name="Buy this course").click()
        self.page.wait_for_url(f"{self.shop.area.gateway.addresses.gateway}/pay/*")
        return self.page.locator(".reference").inner_text()

    def types(self, card: str, expiry: str = "12/34") -> None:
        self.page.get_by_label("Card number").fill(card)
        self.page.get_by_label("Expiry").fill(expiry)
        self.page.get_by_label("Security code").fill("123")
        self.page.get_by_role("button", name="Pay R").click()

    def is_at(self, path: str, heading: str) -> None:
        """Waits until the tab shows that page of the shop."""
        self.page.wait_for_url(lambda url: url.partition("?")[0] == self.shop.url + path)
        assert self.page.get_by_role("heading", level=1).inner_text() == heading

    def sees(self, text: str) -> None:
        """Waits until the text can be seen."""
        self.page.get_by_text(text).wait_for(state="visible")


@contextmanager
def a_shop(folder: Path) -> Iterator[Running]:
    with ExitStack() as stack:
        gateway = stack.enter_context(sandbox_gateway(folder / "sandbox"))
        area = Area(folder / "area", gateway)
        stack.callback(area.close)
        yield stack.enter_context(area.running(area.build("release-1")))


def key_pin(certificate: Path) -> str:
    """What Chromium calls a certificate's key: its authority is this sandbox's own, which no browser knows."""
    key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    return base64.b64encode(
        hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    ).decode()


@contextmanager
def a_customer(shop: Running) -> Iterator[Customer]:
    pin = key_pin(shop.area.gateway.addresses.ca.parent / "server.pem")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--no-proxy-server", f"--ignore-certificate-errors-spki-list={pin}"],
        )
        try:
            page: Any = browser.new_page(viewport={"width": 900, "height": 900}, locale="en-ZA")
            page.set_default_timeout(30_000)
            customer = Customer(page, shop)
            page.on("pageerror", lambda error: customer.wrong.append(f"{page.url}: {error}"))
            page.on("console", customer.heard)
            page.on("response", customer.got)
            yield customer
        finally:
            browser.close()


def test_a_customer_buys_a_course_is_declined_and_changes_their_mind(tmp_path: Path) -> None:
    """A paid course is active on the success page; a declined card and a cancelled payment end on pages that say so."""
    with a_shop(tmp_path) as shop, a_customer(shop) as customer:
        bought = customer.picks("Python")
        customer.types("1234", expiry="01/20")
        customer.sees("Nothing was charged.")
        customer.sees("This date is past")
        customer.types(GOOD_CARD)
        customer.is_at("/success", "Thank you")
        customer.sees("Your course is active.")
        assert (shop.status(bought), shop.activations(bought)) == ("paid", 1)

        customer.page.get_by_role("link", name="Back to the courses").click()
        declined = customer.picks("Python")
        customer.types(DECLINED_CARD)
        customer.is_at("/failure", "The payment did not go through")
        assert (shop.status(declined) == "paid", shop.activations(declined)) == (False, 0)

        cancelled = customer.picks("Python")
        customer.page.get_by_role("button", name="Cancel").click()
        customer.is_at("/cancel", "You cancelled the payment")
        assert (shop.status(cancelled) == "paid", shop.activations(cancelled)) == (False, 0)
        assert len({bought, declined, cancelled}) == 3
        assert customer.wrong == [f"422 POST {shop.area.gateway.addresses.gateway}"]  # the form not filled in right
