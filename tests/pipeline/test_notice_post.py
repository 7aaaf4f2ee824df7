"""The process that carries notices, whatever the program in it does."""

from __future__ import annotations

import os
from pathlib import Path
from random import SystemRandom

import pytest

from pipeline.notice_post import Post
from pipeline.secrets import Secret
from tests.pipeline.rooms import StubbornClock

ADDRESS = Secret("json://ops:pw12@shop.test/T0pS3cretKey")
EACH = "import json, os, sys\nfor line in sys.stdin:\n    notice = json.loads(line)\n    "
ANSWER = "print(json.dumps({'id': notice['id'], 'error': %s}), flush=True)\n"


async def sent(tmp_path: Path, program: str, limit: float = 60.0, **environment: str) -> tuple[str, int]:
    """What came of a notice, and how often it was tried."""
    (tmp_path / "sender.py").write_text(program, "utf-8")
    post = Post(
        {**os.environ, **environment, "TRIES": str(tmp_path / "tries")},
        SystemRandom(),
        StubbornClock().sleep,
        sender=tmp_path / "sender.py",
        limit=limit,
    )
    try:
        error = await post.send(ADDRESS, "a title", "a body", kind="info")
    finally:
        await post.close()
    tries = tmp_path / "tries"
    return error, len(tries.read_text()) if tries.exists() else 0


def counting(tmp_path: Path) -> str:
    """Lines of a program that leave a mark for each notice."""
    return EACH + f"open({str(tmp_path / 'tries')!r}, 'a').write('x')\n    "


async def test_what_failed_is_tried_once_more(tmp_path: Path) -> None:
    """A receiver that stumbles once gets the notice, and one that goes on refusing gets no third."""
    count = f"len(open({str(tmp_path / 'tries')!r}).read())"
    stumbles = counting(tmp_path) + ANSWER % f"'' if {count} == 2 else 'busy'"
    assert await sent(tmp_path, stumbles) == ("", 2)
    (tmp_path / "tries").unlink()
    assert await sent(tmp_path, counting(tmp_path) + ANSWER % "'busy'") == ("busy", 2)


async def test_what_may_have_arrived_is_not_repeated(tmp_path: Path) -> None:
    """A notice without an answer in time is given up: a pager does not ring twice for one thing."""
    silent = counting(tmp_path) + "pass\n"
    assert await sent(tmp_path, silent, limit=2.0) == ("no answer within 2 s", 1)


async def test_no_part_of_an_address_is_in_what_is_told(tmp_path: Path) -> None:
    """However chatty an error is, it holds neither key nor password, and is short."""
    error, _ = await sent(tmp_path, EACH + ANSWER % "'cannot reach ' + notice['address'] + 'x' * 5000")
    assert error.startswith("cannot reach json://")
    assert not [part for part in ("pw12", "T0pS3cretKey") if part in error]
    assert len(error) <= 300


@pytest.mark.parametrize(
    "program",
    [
        "raise SystemExit(1)\n",
        EACH + "os._exit(3)\n",
        EACH + "print('x' * 200_000, flush=True)\n",
        "this is no program",
    ],
    ids=["ends at once", "dies of it", "floods", "broken"],
)
async def test_a_program_that_fails_is_an_error_and_no_more(tmp_path: Path, program: str) -> None:
    """Whatever becomes of the process, the sender gets an answer."""
    error, _ = await sent(tmp_path, program)
    assert error.startswith("the process that sends notices")


async def test_lines_that_are_no_answers_are_passed_over(tmp_path: Path) -> None:
    """Noise on its output is not taken for an answer."""
    noise = "".join(
        f"print({line!r}, flush=True)\n    " for line in ("", "hello", "[]", '{"id": 99, "error": ""}', "{}")
    )
    assert await sent(tmp_path, EACH + noise + ANSWER % "''") == ("", 0)


async def test_the_process_sees_a_proxy_and_nothing_else_of_ours(tmp_path: Path) -> None:
    """No credential of the operator reaches what speaks to strangers."""
    asks = EACH + ANSWER % "' '.join(sorted(n for n in os.environ if n.isupper()))"
    error, _ = await sent(tmp_path, asks, HTTPS_PROXY="http://127.0.0.1:1", VITE_IKHOKHA_API_SECRET="hush")
    assert "HTTPS_PROXY" in error and "PATH" in error
    assert "VITE" not in error
