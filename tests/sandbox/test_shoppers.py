"""The watch's customers, at a real shop and the real sandbox gateway."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from sandbox.shoppers import GaveUp, filled, summary
from tests.sandbox.shops import ROOT, Area, SandboxGateway, eventually, sandbox_gateway


@pytest.fixture(scope="module")
def area(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Area]:
    with sandbox_gateway(tmp_path_factory.mktemp("sandbox")) as gateway:
        area = Area(tmp_path_factory.mktemp("area"), gateway)
        yield area
        area.close()


def shoppers(
    url: str, gateway: SandboxGateway, *arguments: str, seconds: str = "1"
) -> subprocess.CompletedProcess[str]:
    env = {
        "PATH": os.environ["PATH"],
        "TOLLGATE_URL": url,
        "TOLLGATE_CA_FILE": str(gateway.addresses.ca),
        "TOLLGATE_WATCH_SECONDS": seconds,
    }
    argv = [sys.executable, "-m", "sandbox.shoppers", *arguments]
    return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60)


def test_customers_buy_courses(area: Area) -> None:
    """Every customer of a healthy shop gets through, and the shop counts as many successes."""
    with area.running(area.build("good")) as shop:
        done = shoppers(area.url, area.gateway)
        assert (done.returncode, done.stdout) == (0, "8 shoppers: 8 bought, 0 declined, 0 met errors\n")
        assert eventually(lambda: shop.metric('payments_total{outcome="success"}') == 8)


def test_some_cards_are_declined_when_asked_for(area: Area) -> None:
    """A share of the customers has a card that is declined, and is told so."""
    with area.running(area.build("declined")):
        done = shoppers(area.url, area.gateway, "--declined", "100%", seconds="0.5")
        assert (done.returncode, done.stdout) == (0, "4 shoppers: 0 bought, 4 declined, 0 met errors\n")


def test_customers_of_a_broken_shop_say_so_and_do_not_judge(area: Area) -> None:
    """Customers who met errors are counted, and the exit code stays 0."""
    with area.running(area.build("faulty", fault="error-rate-30")):
        done = shoppers(area.url, area.gateway, "--per-second", "40", seconds="0.6")
    assert done.returncode == 0
    assert "met errors: payment answered 500 x" in done.stdout


@pytest.mark.parametrize("url", ["", "https://example.com", "https://127.0.0.1.example.com", "nonsense"])
def test_customers_never_leave_this_machine(area: Area, url: str) -> None:
    """Made-up customers are only let loose on loopback."""
    done = shoppers(url, area.gateway)
    assert (done.returncode, done.stdout) == (2, "")
    assert "127.0.0.1" in done.stderr


@pytest.mark.parametrize("seconds", ["0", "-1", "nan", "soon", "1e9"])
def test_customers_shop_for_a_bounded_time(area: Area, seconds: str) -> None:
    """A watch length that makes no sense is refused with what is allowed."""
    done = shoppers(area.url, area.gateway, seconds=seconds)
    assert done.returncode == 2
    assert "TOLLGATE_WATCH_SECONDS" in done.stderr


def test_a_form_is_filled_in_by_the_names_of_its_fields() -> None:
    """Hidden fields go back as they came, and card fields are recognised by their names."""
    form = filled('<form action="/x"><input type=hidden name=t value=1><input name="cardNumber"></form>', "42")
    assert (form.action, form.fields) == ("/x", {"t": "1", "cardNumber": "42", "action": "pay"})
    with pytest.raises(GaveUp):
        filled("<p>no form</p>", "42")


def test_the_last_line_says_how_everyone_fared() -> None:
    """One line sums all customers up."""
    seen = {"bought": 3, "declined": 1, "no answer (ReadError)": 2}
    assert summary(seen) == "6 shoppers: 3 bought, 1 declined, 2 met errors: no answer (ReadError) x2"
