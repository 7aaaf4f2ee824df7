"""The page customers read while a service is closed."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from pipeline.maintenance_page import render
from pipeline.spec import Maintenance


class Parts(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def names(self) -> list[str]:
        return [tag for tag, _ in self.elements]


def test_everybody_can_read_it() -> None:
    """It names its language, has a title and one heading, fits a telephone, and says that what was paid is safe."""
    parts = Parts(render(Maintenance()))
    assert ("html", {"lang": "en"}) in parts.elements
    assert [parts.names().count(tag) for tag in ("title", "h1", "main")] == [1, 1, 1]
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in parts.elements
    assert "Payments you have already made are safe." in parts.text
    assert "try again in 2 minutes" in parts.text


def test_it_needs_no_other_file_and_no_script() -> None:
    """Under `default-src 'none'` and the hash of its one style nothing of it is missing, and no attribute is styled."""
    page = render(Maintenance(contact="https://shop.test/help"))
    parts = Parts(page)
    assert not {"script", "img", "link", "iframe", "form"} & set(parts.names())
    assert parts.names().count("style") == 1
    assert not [name for _, attributes in parts.elements for name in attributes if name in ("style", "src", "onclick")]
    assert not re.search(rb"url\(|@import", page)


@pytest.mark.parametrize(
    ("contact", "link"),
    [
        ("help@shop.test", "mailto:help@shop.test"),
        ("+27 (0)11 555 0100", "tel:+270115550100"),
        ("https://shop.test/help", "https://shop.test/help"),
        ("javascript:alert(1)", None),
        ("the desk in room 3", None),
        ("a@b.test?body=x", None),
    ],
)
def test_a_contact_can_be_clicked_where_it_is_an_address(contact: str, link: str | None) -> None:
    """An e-mail address, a number or an https address is a link; anything else is only words."""
    parts = Parts(render(Maintenance(contact=contact)))
    assert [attributes["href"] for tag, attributes in parts.elements if tag == "a"] == ([link] if link else [])
    assert contact in parts.text


def test_words_of_the_spec_are_only_words() -> None:
    """Whatever an operator writes stays text: no element comes out of it."""
    parts = Parts(render(Maintenance(message="<script>alert(1)</script> & so on", contact='"><img src=x>')))
    assert not {"script", "img"} & set(parts.names())
    assert "<script>alert(1)</script> & so on." in parts.text


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(1.0, "1 second"), (90.0, "90 seconds"), (60.0, "1 minute"), (601.0, "11 minutes"), (7200.0, "2 hours")],
)
def test_the_wait_is_told_in_words_and_for_machines(seconds: float, words: str) -> None:
    """The page and the header that is made from it never say less than the spec."""
    page = render(Maintenance(retry_after=seconds)).decode()
    assert f"try again in {words}." in page
    assert f'<meta name="retry-after" content="{seconds:.0f}">' in page
