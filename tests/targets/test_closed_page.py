"""What visitors get from a target where no release serves."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path

import pytest

from pipeline.maintenance_page import render
from pipeline.spec import Maintenance
from targets import supervisor, up_local
from tests.targets.areas import opened, stopped_after

PAGE = render(Maintenance(contact="help@shop.test", retry_after=300.0))


async def test_a_closed_target_shows_the_page_of_its_service(tmp_path: Path) -> None:
    """The page that a deploy wrote is what visitors read, with its own Retry-After and a policy for its style."""
    path = tmp_path / "area"
    async with stopped_after(path):
        area = await opened(path, closed_page=PAGE)
        await up_local(area.target)
        answer = await area.ask("/courses")
        assert (answer.status_code, answer.headers["Retry-After"], answer.content) == (503, "300", PAGE)
        style = PAGE.partition(b"<style>")[2].partition(b"</style>")[0]
        hashed = base64.b64encode(hashlib.sha256(style).digest()).decode()
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith(f"default-src 'none'; style-src 'sha256-{hashed}';")
        (path / "shared" / "maintenance.html").unlink()
        built_in = await area.ask("/courses")
        assert (built_in.status_code, built_in.headers["Retry-After"]) == (503, "60")
        assert "Payments you have already made are safe." in built_in.text
        again = await opened(path, closed_page=PAGE)
        await again.stage("20260101T000000-aaaaaaa")
        assert (await again.ask()).content == PAGE


@pytest.mark.parametrize("kept", [b"", PAGE[:-20], PAGE + b"x" * 200_000 + b"</html>"], ids=["empty", "torn", "huge"])
def test_a_page_that_is_not_whole_is_not_shown(tmp_path: Path, kept: bytes) -> None:
    """Half a page, or one that nobody wrote for this, is left out: the built-in words need no file."""
    path = tmp_path / "maintenance.html"
    path.write_bytes(kept)
    assert supervisor.kept_page(path) == b""
    path.unlink()
    assert supervisor.kept_page(path) == b""
    path.mkdir()
    assert supervisor.kept_page(path) == b""


@pytest.mark.parametrize("page", [PAGE, b""])
@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\n\r\n", b"POST /api/payments HTTP/1.1\r\n\r\n", b"\xff /api/\r\n\r\n"]
)
def test_every_answer_is_a_503_that_says_when_to_come_back(head: bytes, page: bytes) -> None:
    """Whatever is asked, and whatever page there is, the answer is whole and asks for another try."""
    headers, _, body = supervisor.closed_answer(head, page).partition(b"\r\n\r\n")
    lines = headers.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 503 Service Unavailable"
    assert f"Content-Length: {len(body)}".encode() in lines
    assert (b"Retry-After: 300" if page else b"Retry-After: 60") in lines
    assert body
    assert supervisor.closed_answer(b"HEAD / HTTP/1.1\r\n\r\n", page).endswith(b"\r\n\r\n")
