"""What nobody would write on purpose, thrown at every reader of settings and of pipeline.yaml: no traceback, ever."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from checks import CHECKS
from pipeline import dotenv_file, exposed
from pipeline.loader import SpecInvalid, load
from pipeline.secrets import Secret
from pipeline.setting_types import allowed_text, as_text, fits
from pipeline.settings import Settings
from pipeline.sources import resolve
from pipeline.spec import Duration, FromCommand, FromDotenv, Setting, Share, Spec
from tests.pipeline.standin import EXAMPLE, FUZZ, NAMES

ANYTHING = st.text(st.characters(categories=None), max_size=40)
"""Every code point, halves of pairs and controls included."""
MISTAKE = re.compile(r"[^\n]+:\d+:\d+: .+", re.DOTALL)


@cache
def a_spec() -> Spec:
    return load(EXAMPLE, NAMES)


# ---- values -------------------------------------------------------------------------------------------------

_SETTINGS = st.builds(
    lambda kind, between: Setting(type=kind, between=between if kind in ("integer", "milliseconds") else None),
    st.sampled_from(["url", "secret", "text", "boolean", "integer", "milliseconds"]),
    st.none() | st.tuples(st.integers(-5, 5), st.integers(6, 10**18)),
)
_NEARLY = st.sampled_from(
    [
        "true",
        "TRUE",
        "0",
        "-0",
        "1e3",
        "٣",
        "9" * 5000,
        "https://",
        "https://[",
        "https://a:99999",
        "https://a:b",
        "http://\udcff",
    ]
)


@settings(FUZZ, max_examples=200)
@given(_SETTINGS, ANYTHING | _NEARLY)
def test_any_text_fits_a_setting_or_does_not(setting: Setting, text: str) -> None:
    """Every type answers yes or no to every text, and what it takes can be handed to a process."""
    fit = fits(setting, text)
    assert fit in (True, False)
    assert allowed_text(setting)
    if fit:
        assert "\0" not in text
        text.encode()
        assert setting.type not in ("integer", "milliseconds") or as_text(int(text)) == text


_UNITS = st.builds(
    "{}{}{}".format,
    ANYTHING | st.sampled_from(["1", "0", "95", "1.5", "1e9", "-1", "1_000", "9" * 400, "٣", ".", "nan", "inf"]),
    st.sampled_from(["", " ", "  ", "\n", "\u00a0"]),
    st.sampled_from(["s", "ms", "min", "h", "d", "%", "", "S", "weeks"]),
)


@settings(FUZZ, max_examples=200)
@given(_UNITS | st.none() | st.booleans() | st.integers() | st.lists(st.integers(), max_size=2))
@example("9" * 400 + " d")
@example("101%")
def test_any_duration_and_percentage_is_read_or_refused(value: object) -> None:
    """What stands where a duration or a percentage belongs is a number that is not negative, or a mistake."""
    for kind, largest in ((Duration, float("inf")), (Share, 1.0)):
        try:
            read = TypeAdapter(kind).validate_python(value)
        except ValidationError as refused:
            assert refused.errors()
        else:
            assert 0 <= read <= largest


# ---- settings -----------------------------------------------------------------------------------------------

_NAMES = st.sampled_from([*a_spec().settings, "VITE_IKHOKHA_TIMOUT", "OTHER", "A-B", "", "export X"])
_LINE = st.builds(
    "{}{}{}{}".format,
    _NAMES,
    st.sampled_from(["=", " = ", "='", '="', ":", ""]),
    ANYTHING,
    st.sampled_from(["\n", "'\n", '"\n', "\r", "", " # c\n"]),
)
_CONTENT = st.lists(_LINE, max_size=8).map("".join).map(lambda text: text.encode("utf-8", "surrogatepass"))


def resolved(root: Path, content: bytes, environment: Mapping[str, str], printed: str) -> Settings:
    """Production from all three kinds of source: the process, a file with `content`, a command that `printed`."""

    async def run(_argv: Sequence[str], _timeout: float) -> str:
        return printed

    (root / ".env.any").write_bytes(content)
    (root / ".env.any").chmod(0o600)
    sources = ("environment", FromDotenv(dotenv=".env.any"), FromCommand(command=("vault",)))
    production = a_spec().environments["production"].model_copy(update={"settings_from": sources})
    spec = a_spec().model_copy(update={"environments": {"production": production}})
    return asyncio.run(
        resolve(spec, "production", root=root, process_environment=environment, gateway_address=None, run=run)
    )


@settings(FUZZ, max_examples=120)
@given(_CONTENT | st.binary(max_size=120), st.dictionaries(_NAMES, ANYTHING, max_size=4), _CONTENT)
@example(b"VITE_IKHOKHA_API_KEY='\xed\xb3\x8e'\n", {"VITE_IKHOKHA_API_SECRET": "\udcff"}, b"\xff")
def test_any_sources_are_settings_or_mistakes(
    tmp_path: Path, content: bytes, environment: Mapping[str, str], printed: bytes
) -> None:
    """Whatever the sources hold, settings come of it, each mistake has its fix, and a secret is kept as one."""
    found = resolved(tmp_path, content, environment, printed.decode("utf-8", "replace"))
    assert found.mistakes or set(found.values) >= {n for n, setting in a_spec().settings.items() if setting.required}
    for mistake in found.mistakes:
        assert mistake.where
        assert mistake.found
        assert mistake.allowed
        assert mistake.remedy
    for name, setting in a_spec().settings.items():
        assert setting.type != "secret" or name not in found.values or isinstance(found.values[name].value, Secret)


@settings(FUZZ, max_examples=60)
@given(st.binary(max_size=60), st.sampled_from([0o000, 0o200, 0o400, 0o600, 0o644, 0o777]))
def test_any_file_of_any_mode_is_read_or_refused(tmp_path: Path, content: bytes, mode: int) -> None:
    """Reading a file adds what its mode says to what its lines say, and never raises."""
    path = tmp_path / "any.env"
    path.unlink(missing_ok=True)
    path.write_bytes(content)
    path.chmod(mode)
    lines = dotenv_file.read(path, "any.env")
    assert not lines.missing
    assert bool(lines.mistakes) or not mode & 0o177
    assert lines.whole or lines.mistakes


@settings(FUZZ, max_examples=100)
@given(st.lists(ANYTHING | st.just("a" * 64) | st.just("# c"), max_size=5))
def test_any_list_of_exposed_credentials_is_read(lines: Sequence[str]) -> None:
    """Every line is a hash, a comment or a broken one with its number."""
    text = "\n".join(lines)
    listed = exposed.parse(text)
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in listed.hashes)
    assert all(text.split("\n")[number - 1].strip() for number in listed.broken)


# ---- pipeline.yaml ------------------------------------------------------------------------------------------

_SIZE = EXAMPLE.stat().st_size
_INSERTED = st.binary(max_size=12) | st.sampled_from(
    [
        b"\n",
        b": ",
        b"- ",
        b"{",
        b"}",
        b"[",
        b"&a ",
        b"*a",
        b"!!python/object:os.system ",
        b"<<: ",
        b"\t",
        b"'",
        b"|\n",
        b"\xc2\x85",
    ]
)


@settings(FUZZ, max_examples=80)
@given(st.lists(st.tuples(st.integers(0, _SIZE), st.integers(0, 40), _INSERTED), min_size=1, max_size=3))
def test_any_damage_to_a_spec_is_told_with_its_place(tmp_path: Path, damages: Sequence[tuple[int, int, bytes]]) -> None:
    """A pipeline.yaml with bytes cut out and put in is still a spec, or is refused with line and column."""
    content = EXAMPLE.read_bytes()
    for at, cut, put in damages:
        content = content[:at] + put + content[at + cut :]
    path = tmp_path / "pipeline.yaml"
    path.write_bytes(content)
    try:
        load(path, NAMES)
    except SpecInvalid as refused:
        assert refused.mistakes
        assert all(MISTAKE.fullmatch(str(mistake)) for mistake in refused.mistakes)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.floats(-1e9, 1e9) | st.text(max_size=6) | _UNITS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize("name", sorted(CHECKS))
@settings(FUZZ, max_examples=15)
@given(data=st.data())
def test_any_parameters_of_a_check_are_taken_or_refused(name: str, data: st.DataObject) -> None:
    """Under `with:` of any check anything may stand: its model takes it, or says what is wrong with it."""
    model = CHECKS[name].params
    keys = st.sampled_from([*model.model_fields, "other"])
    params = data.draw(st.dictionaries(keys, _JSON, max_size=3) | _JSON)
    try:
        text = json.dumps(params)
        model.model_validate_json(text)
    except ValidationError as refused:
        assert refused.errors()
