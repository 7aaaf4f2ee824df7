"""Settings resolved from their declared sources."""

from __future__ import annotations

import asyncio
import re
import secrets
import sys
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline import dotenv_file
from pipeline.errors import CommandFailed
from pipeline.loader import load
from pipeline.secrets import Secret
from pipeline.settings import SettingMistake, Settings, SettingValue
from pipeline.sources import resolve
from pipeline.spec import FromCommand, FromDotenv, Setting, Spec
from tests.pipeline.standin import EXAMPLE, FUZZ, NAMES

SPEC = load(EXAMPLE, NAMES)
GATEWAY = "https://127.0.0.1:4433"
NO_CHANGE: Mapping[str, str] = {}


def good() -> dict[str, str]:
    """Settings as production wants them, with credentials of this run."""
    secret = secrets.token_hex(16)
    return {
        "VITE_NODE_ENV": "production",
        "VITE_IKHOKHA_API_URL": "https://api.ikhokha.com",
        "VITE_IKHOKHA_API_KEY": secrets.token_hex(16),
        "VITE_IKHOKHA_API_SECRET": secret,
        "VITE_IKHOKHA_WEBHOOK_SECRET": secret,
        "VITE_IKHOKHA_TEST_MODE": "false",
    }


async def run(argv: Sequence[str], timeout: float) -> str:
    """Runs a real command; raises as the contract of `Run` says."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        stdout, stderr = await asyncio.wait_for(process.communicate(), timeout)
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise CommandFailed("too late") from None
    if process.returncode:
        raise CommandFailed(stderr.decode(), returncode=process.returncode)
    return stdout.decode()


async def resolved(
    root: Path,
    lines: Mapping[str, str] | str | None = None,
    *,
    environment: str = "production",
    process: Mapping[str, str] = NO_CHANGE,
    spec: Spec = SPEC,
    gateway: str | None = None,
    mode: int = 0o600,
) -> Settings:
    """Resolves with `.env.production` or the sandbox's file holding `lines`; None: there is no file."""
    file = root / (".env.production" if environment == "production" else ".tollgate/sandbox/settings.env")
    if lines is not None:
        text = lines if isinstance(lines, str) else "".join(f"{name}='{value}'\n" for name, value in lines.items())
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
    return await resolve(spec, environment, root=root, process_environment=process, gateway_address=gateway, run=run)


def only(settings: Settings) -> SettingMistake:
    assert len(settings.mistakes) == 1, settings.mistakes
    return settings.mistakes[0]


def with_sources(*sources: Any) -> Spec:
    production = SPEC.environments["production"].model_copy(update={"settings_from": sources})
    return SPEC.model_copy(update={"environments": {**SPEC.environments, "production": production}})


def with_setting(name: str, **changes: Any) -> Spec:
    settings = {**SPEC.settings, name: Setting.model_validate({"type": "text", **changes})}
    return SPEC.model_copy(update={"settings": settings})


def reads(settings: Settings) -> str:
    """Everything an operator may be shown of settings."""
    return repr(settings)


async def test_good_settings_have_no_mistake(tmp_path: Path) -> None:
    """Settings that fit production are resolved with their sources, defaults as the service reads them."""
    lines = good()
    settings = await resolved(tmp_path, lines)
    assert settings.mistakes == ()
    assert settings.sources == ("environment", "dotenv .env.production")
    assert {name: settings.text(name) for name in lines} == lines
    assert settings.text("VITE_IKHOKHA_TIMEOUT") == "45000"
    assert settings.values["VITE_IKHOKHA_TIMEOUT"].source == "default"
    assert settings.values["VITE_NODE_ENV"].source == "dotenv .env.production:1"
    assert len(settings.secrets()) == 3


async def test_a_boolean_default_is_lower_case(tmp_path: Path) -> None:
    """A default of false reaches the service as `false`, not as Python spells it."""
    lines = good()
    del lines["VITE_IKHOKHA_TEST_MODE"]
    assert (await resolved(tmp_path, lines)).text("VITE_IKHOKHA_TEST_MODE") == "false"


async def test_the_first_source_that_has_a_name_wins(tmp_path: Path) -> None:
    """The declared order decides, not the order in which sources are usually looked at."""
    lines = good()
    here = {"VITE_IKHOKHA_TIMEOUT": "2000"}
    settings = await resolved(tmp_path, {**lines, "VITE_IKHOKHA_TIMEOUT": "3000"}, process=here)
    value = settings.values["VITE_IKHOKHA_TIMEOUT"]
    assert value.source == "environment (another value in dotenv .env.production:7 is not used)"
    assert value.over == ("dotenv .env.production:7",)
    turned = with_sources(FromDotenv(dotenv=".env.production"), "environment")
    settings = await resolved(tmp_path, {**lines, "VITE_IKHOKHA_TIMEOUT": "3000"}, process=here, spec=turned)
    assert settings.text("VITE_IKHOKHA_TIMEOUT") == "3000"


async def test_sources_that_agree_are_not_told_apart(tmp_path: Path) -> None:
    """A value that a later source repeats is no other value; a secret that is overridden is not shown."""
    lines = good()
    settings = await resolved(tmp_path, lines, process={"VITE_NODE_ENV": "production"})
    assert settings.values["VITE_NODE_ENV"] == SettingValue("VITE_NODE_ENV", "production", "environment")
    settings = await resolved(tmp_path, lines, process={"VITE_IKHOKHA_API_KEY": secrets.token_hex(16)})
    assert settings.values["VITE_IKHOKHA_API_KEY"].over == ("dotenv .env.production:3",)
    assert lines["VITE_IKHOKHA_API_KEY"] not in reads(settings)


async def test_a_name_that_says_secret_is_one(tmp_path: Path) -> None:
    """A setting called a secret and declared as text is a mistake, and its value is shown nowhere all the same."""
    value = secrets.token_hex(12)
    for name in ("DB_PASSWORD", "STRIPE_WEBHOOK_SECRET", "STRIPE_SECRET_KEY", "PASSWORD", "cms_access_token"):
        settings = await resolved(tmp_path, process={**good(), name: value}, spec=with_setting(name))
        mistake = only(settings)
        assert (mistake.name, mistake.found) == (name, "type: text")
        assert settings.values[name].value == Secret(value)
        assert value not in reads(settings)
    public = with_setting("VITE_MAPS_API_KEY")
    assert (await resolved(tmp_path, process={**good(), "VITE_MAPS_API_KEY": value}, spec=public)).mistakes == ()


async def test_an_address_with_a_password_in_it_is_a_secret(tmp_path: Path) -> None:
    """The address of a database that is declared as text is a mistake, and is shown nowhere all the same."""
    value = f"postgres://shop:{secrets.token_hex(6)}@db.internal/shop"
    settings = await resolved(tmp_path, process={**good(), "DATABASE": value}, spec=with_setting("DATABASE"))
    mistake = only(settings)
    assert (mistake.name, mistake.allowed) == ("DATABASE", "type: secret, for an address with a password")
    assert settings.values["DATABASE"].value == Secret(value)
    assert value not in reads(settings)
    for open_one in ("postgres://shop@db.internal/shop", "https://x.y:8080/a@b", "12:30 @ noon"):
        public = await resolved(tmp_path, process={**good(), "DATABASE": open_one}, spec=with_setting("DATABASE"))
        assert public.mistakes == ()


async def test_an_environment_that_is_not_declared_is_not_read(tmp_path: Path) -> None:
    """A variable of the operator's shell reaches no service whose sources do not name the environment."""
    settings = await resolved(
        tmp_path, {**good(), "VITE_IKHOKHA_API_URL": GATEWAY}, environment="sandbox", gateway=GATEWAY,
        process={"VITE_IKHOKHA_TIMEOUT": "2000"},
    )  # fmt: skip
    assert settings.mistakes == ()
    assert settings.text("VITE_IKHOKHA_TIMEOUT") == "45000"


async def test_an_empty_value_is_no_value_and_is_told(tmp_path: Path) -> None:
    """A variable left empty by a job falls through to the next source, and its source tells so."""
    lines = good()
    settings = await resolved(tmp_path, lines, process={"VITE_IKHOKHA_API_KEY": " "})
    assert settings.mistakes == ()
    assert settings.values["VITE_IKHOKHA_API_KEY"].source == "dotenv .env.production:3 (empty in environment)"
    del lines["VITE_IKHOKHA_API_KEY"]
    mistake = only(await resolved(tmp_path, lines, process={"VITE_IKHOKHA_API_KEY": ""}))
    assert mistake.found == "API key invalid or missing: an empty value in environment"


async def test_white_space_around_a_secret_is_trimmed(tmp_path: Path) -> None:
    """A pasted key works with the blanks that were pasted along."""
    lines = good()
    settings = await resolved(tmp_path, {**lines, "VITE_IKHOKHA_API_KEY": f"  {lines['VITE_IKHOKHA_API_KEY']} \t"})
    assert settings.values["VITE_IKHOKHA_API_KEY"].value == Secret(lines["VITE_IKHOKHA_API_KEY"])


async def test_a_missing_file_is_told_with_what_is_missing(tmp_path: Path) -> None:
    """A file that is not there is no mistake by itself; the names it does not give are, each with its fix."""
    settings = await resolved(tmp_path)
    assert settings.sources == ("environment", "dotenv .env.production (missing)")
    assert [mistake.name for mistake in settings.mistakes] == list(good())[:5]
    by_name = {mistake.name: mistake for mistake in settings.mistakes}
    assert by_name["VITE_IKHOKHA_API_KEY"].found == "API key invalid or missing: no value in any source"
    assert (
        by_name["VITE_IKHOKHA_API_URL"].remedy == "set VITE_IKHOKHA_API_URL=https://api.ikhokha.com in the environment"
    )
    assert (await resolved(tmp_path, process=good())).mistakes == ()
    in_sandbox = await resolved(tmp_path, environment="sandbox")
    assert {mistake.remedy.rpartition(": ")[2] for mistake in in_sandbox.mistakes} == {"./inv sandbox.up"}


async def test_an_optional_setting_may_be_missing(tmp_path: Path) -> None:
    """What is not required and not set is not handed to the service at all."""
    settings = await resolved(tmp_path, good(), spec=with_setting("SENTRY_DSN", required=False))
    assert settings.mistakes == ()
    assert "SENTRY_DSN" not in settings.values


async def test_test_mode_in_production_is_refused_in_the_words_of_the_guide(tmp_path: Path) -> None:
    """Test mode left on in production is told as the troubleshooting guide tells it."""
    mistake = only(await resolved(tmp_path, {**good(), "VITE_IKHOKHA_TEST_MODE": "true"}))
    assert "Test mode must be disabled in production" in mistake.allowed
    assert mistake.remedy == "set VITE_IKHOKHA_TEST_MODE=false"
    assert (mistake.found, mistake.where) == ("'true'", "dotenv .env.production:6")


@pytest.mark.parametrize(
    ("name", "value", "found", "allowed"),
    [
        ("VITE_NODE_ENV", "development", "'development'", "production in production"),
        ("VITE_IKHOKHA_API_URL", "https://pay.ikhokha.com", "'https://pay.ikhokha.com'", "https://api.ikhokha.com in"),
        ("VITE_IKHOKHA_API_URL", "https://api.ikhokha.com/", "'https://api.ikhokha.com/'", "https://api.ikhokha.com i"),
        ("VITE_IKHOKHA_API_URL", "http://api.ikhokha.com", "'http://api.ikhokha.com'", "an https address"),
        ("VITE_IKHOKHA_API_URL", "https://me:hunter22@api.ikhokha.com", "which are not shown", "without cred"),
        ("VITE_IKHOKHA_API_URL", "https://api.ikhokha.com#x", "which are not shown", "and fragment"),
        ("VITE_IKHOKHA_API_URL", "https://api.ikhokha.com:99999", ":99999'", "an https address"),
        ("VITE_IKHOKHA_API_URL", "https://[::1", "address", "an https address"),
        ("VITE_IKHOKHA_API_URL", "https://", "address", "an https address"),
        ("VITE_IKHOKHA_API_URL", " https://api.ikhokha.com", "' https", "an https address"),
        ("VITE_IKHOKHA_TEST_MODE", "FALSE", "'FALSE'", "Test mode must be disabled in production"),
        ("VITE_IKHOKHA_TIMEOUT", "999", "'999'", "from 1000 to 120000"),
        ("VITE_IKHOKHA_TIMEOUT", "120001", "'120001'", "(milliseconds)"),
        ("VITE_IKHOKHA_TIMEOUT", "45s", "'45s'", "plain digits"),
        ("VITE_IKHOKHA_TIMEOUT", "4.5e4", "'4.5e4'", "plain digits"),
        ("VITE_IKHOKHA_TIMEOUT", "045000", "'045000'", "plain digits"),
        ("VITE_IKHOKHA_TIMEOUT", "+45000", "'+45000'", "plain digits"),
        ("VITE_IKHOKHA_TIMEOUT", "45_000", "'45_000'", "plain digits"),
        ("VITE_IKHOKHA_TIMEOUT", " 45000", "' 45000'", "plain digits"),
        ("VITE_IKHOKHA_TIMEOUT", "٤٥٠٠٠", "'٤٥٠٠٠'", "plain digits"),
        ("VITE_IKHOKHA_TIMEOUT", "9" * 5000, "5000 characters, which are not shown", "plain digits"),
        ("VITE_IKHOKHA_RETRY_ATTEMPTS", "-1", "'-1'", "from 0 to 10"),
        ("VITE_IKHOKHA_API_KEY", "a\nb", "API key invalid or missing: 3 characters", "on one line"),
        ("VITE_IKHOKHA_API_KEY", "a\x00b", "3 characters, which are not shown", "printable ASCII"),
        ("VITE_IKHOKHA_API_KEY", "a\u200bb", "3 characters, which are not shown", "printable ASCII"),
        ("VITE_IKHOKHA_API_KEY", "a\udce9b", "3 characters, which are not shown", "printable ASCII"),
    ],
)  # fmt: skip
async def test_a_value_that_does_not_fit_is_told(
    tmp_path: Path, name: str, value: str, found: str, allowed: str
) -> None:
    """Each type takes exactly its values, and the mistake shows what was found unless it may be a secret."""
    mistake = only(await resolved(tmp_path, process={**good(), name: value}))
    assert (mistake.name, mistake.where) == (name, "environment")
    assert found in mistake.found
    assert allowed in mistake.allowed
    assert mistake.remedy
    assert "hunter22" not in str(mistake)


async def test_the_sandbox_gateway_is_allowed_by_its_address_now(tmp_path: Path) -> None:
    """`sandbox` among the allowed values means the running sandbox gateway and nothing else."""
    lines = {**good(), "VITE_IKHOKHA_API_URL": GATEWAY}
    assert (await resolved(tmp_path, lines, environment="sandbox", gateway=GATEWAY)).mistakes == ()
    other = only(await resolved(tmp_path, lines, environment="sandbox", gateway="https://127.0.0.1:1"))
    assert other.allowed == "https://127.0.0.1:1 in sandbox"
    unknown = only(await resolved(tmp_path, lines, environment="sandbox", gateway=None))
    assert "does not run" in unknown.allowed
    word = only(await resolved(tmp_path, {**lines, "VITE_IKHOKHA_API_URL": "sandbox"}, environment="sandbox"))
    assert "an https address" in word.allowed


# ---- dotenv files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broken", "line"),
    [
        ("no equals sign\n", 7),
        ("JUST_A_NAME\n", 7),
        ("\n\n  \nBROKEN='open\n", 10),
        ('BROKEN="x" y\n', 7),
        ("1NAME=x\n", 7),
        ("A-B=x\n", 7),
        ("=x\n", 7),
    ],
)
async def test_a_broken_line_is_a_mistake_with_its_place(tmp_path: Path, broken: str, line: int) -> None:
    """A line that python-dotenv would only warn about stops the run, and is not printed."""
    lines = "".join(f"{name}={value}\n" for name, value in good().items())
    mistake = only(await resolved(tmp_path, lines + broken))
    assert mistake.where == f".env.production:{line}"
    assert mistake.found == "a broken line, which is not shown"


async def test_ordinary_dotenv_lines_are_read(tmp_path: Path) -> None:
    """Comments, exports, quotes and empty lines are read as everywhere, and `${...}` is text."""
    text = "# c\n\nexport VITE_NODE_ENV=production # why\nVITE_IKHOKHA_API_KEY='${HOME} a#b'\r\n"
    lines = dotenv_file.parse(text.encode(), "x")
    assert {name: (line.value, line.number) for name, line in lines.values.items()} == {
        "VITE_NODE_ENV": ("production", 3),
        "VITE_IKHOKHA_API_KEY": ("${HOME} a#b", 4),
    }
    assert lines.mistakes == ()


async def test_a_name_set_twice_is_a_mistake(tmp_path: Path) -> None:
    """Of two lines for one name no reader picks one in silence."""
    lines = "".join(f"{name}={value}\n" for name, value in good().items())
    mistake = only(await resolved(tmp_path, lines + "VITE_NODE_ENV=production\n"))
    assert (mistake.where, mistake.name) == (".env.production:7", "VITE_NODE_ENV")
    assert "line 1 already" in mistake.found


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o660, 0o700, 0o604])
async def test_a_file_that_others_can_read_is_a_mistake(tmp_path: Path, mode: int) -> None:
    """A settings file is its owner's alone; the fix is the command to type."""
    mistake = only(await resolved(tmp_path, good(), mode=mode))
    assert mistake.remedy == "chmod 600 .env.production"
    assert f"{mode:04o}" in mistake.found


@pytest.mark.parametrize("mode", [0o600, 0o400])
async def test_a_file_of_its_owner_alone_is_right(tmp_path: Path, mode: int) -> None:
    """0600 and 0400 are right."""
    assert (await resolved(tmp_path, good(), mode=mode)).mistakes == ()


async def test_what_is_no_dotenv_file_is_a_mistake(tmp_path: Path) -> None:
    """A folder, bytes that are no text and a file too large are told, not raised."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "binary").write_bytes(b"A=1\nB=\xff\n")
    (tmp_path / "large").write_bytes(b"#" * (dotenv_file.MAX_BYTES + 1))
    for name, found in (("folder", "no ordinary file"), ("binary", "not UTF-8"), ("large", "more than 1 MB")):
        if name != "folder":
            (tmp_path / name).chmod(0o600)
        settings = await resolved(tmp_path, process=good(), spec=with_sources(FromDotenv(dotenv=name), "environment"))
        assert found in only(settings).found


async def test_a_slip_of_the_pen_is_told(tmp_path: Path) -> None:
    """A misspelt name whose right one nobody set is told, for its value would be lost to a default."""
    mistake = only(await resolved(tmp_path, {**good(), "VITE_IKHOKHA_TIMOUT": "5000"}))
    assert (mistake.name, mistake.allowed) == ("VITE_IKHOKHA_TIMOUT", "VITE_IKHOKHA_TIMEOUT")
    assert "did you mean VITE_IKHOKHA_TIMEOUT?" in mistake.remedy
    for near in ("vite_ikhokha_timeout", "VITE-IKHOKHA-TIMEOUT", "VITE_IKHOKHATIMEOUT"):
        assert only(await resolved(tmp_path / "a", process={**good(), near: "5"})).allowed == "VITE_IKHOKHA_TIMEOUT"
    also_set = {**good(), "VITE_IKHOKHA_TIMOUT": "5000", "VITE_IKHOKHA_TIMEOUT": "5000"}
    assert (await resolved(tmp_path, also_set)).mistakes == ()


async def test_other_variables_of_the_app_are_its_own(tmp_path: Path) -> None:
    """A dotenv file may hold what the pipeline does not know."""
    assert (await resolved(tmp_path, {**good(), "VITE_SUPABASE_URL": "https://x.test", "PORT": "1"})).mistakes == ()


# ---- commands -----------------------------------------------------------------------------------------------


def command(script: str, timeout: float = 20.0) -> Spec:
    return with_sources(FromCommand(command=(sys.executable, "-c", script), timeout=timeout))


async def test_a_command_gives_dotenv_lines(tmp_path: Path) -> None:
    """What a secret manager prints is read like a dotenv file; values say which line they came from."""
    script = "".join(f"print({f'{name}={value}'!r})\n" for name, value in good().items())
    spec = with_sources(FromCommand(command=(sys.executable, str(tmp_path / "vault.py"))))
    (tmp_path / "vault.py").write_text(script)
    settings = await resolved(tmp_path, spec=spec)
    assert settings.mistakes == ()
    assert settings.values["VITE_IKHOKHA_API_KEY"].source.endswith(":3")


@pytest.mark.parametrize(
    ("script", "timeout", "found"),
    [
        ("import sys; sys.exit('token=' + '{secret}')", 20.0, "exit code 1"),
        ("import time; print('{secret}', flush=True); time.sleep(60)", 0.3, "no end in time"),
        ("print('{secret}')", 20.0, "a broken line, which is not shown"),
    ],
)
async def test_a_command_that_fails_is_told_without_its_words(
    tmp_path: Path, script: str, timeout: float, found: str
) -> None:
    """A failing secret manager stops the run, and nothing it printed is shown."""
    secret = secrets.token_hex(12)
    (tmp_path / "vault.py").write_text(script.replace("{secret}", secret))
    spec = with_sources(
        "environment", FromCommand(command=(sys.executable, str(tmp_path / "vault.py")), timeout=timeout)
    )
    settings = await resolved(tmp_path, process=good(), spec=spec)
    assert found in only(settings).found
    assert secret not in reads(settings)


async def test_a_command_that_cannot_be_run_is_a_mistake(tmp_path: Path) -> None:
    """A command that is not there, or may not be run here, is told even where other sources have every name."""
    spec = with_sources("environment", FromCommand(command=(str(tmp_path / "nothing"),)))
    assert "No such file" in only(await resolved(tmp_path, process=good(), spec=spec)).found
    settings = await resolve(
        spec, "production", root=tmp_path, process_environment=good(), gateway_address=None, run=None
    )
    assert "commands are not run here" in only(settings).found


async def test_a_runner_that_keeps_no_limit_is_stopped(tmp_path: Path) -> None:
    """The time limit of a command holds even where what runs it forgets it."""

    async def never(_argv: Sequence[str], _timeout: float) -> str:
        await asyncio.Event().wait()
        return ""

    spec = with_sources("environment", FromCommand(command=("x",), timeout=-0.9))
    settings = await resolve(
        spec, "production", root=tmp_path, process_environment=good(), gateway_address=None, run=never
    )
    assert "no end in time" in only(settings).found


# ---- secrets ------------------------------------------------------------------------------------------------


async def test_no_mistake_holds_a_secret(tmp_path: Path) -> None:
    """A secret stands in no mistake: not in its own, and not when it was pasted under another name."""
    lines = good()
    for name in SPEC.settings:
        pasted = {**lines, name: lines["VITE_IKHOKHA_API_SECRET"] + ("\x07" if name.endswith("SECRET") else "")}
        settings = await resolved(tmp_path, process=pasted)
        shown = repr(settings.mistakes)
        assert lines["VITE_IKHOKHA_API_SECRET"] not in shown
        assert lines["VITE_IKHOKHA_API_SECRET"][:10] not in shown


@FUZZ
@given(st.one_of(st.binary(max_size=80), st.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass"))))
@example(b'A="\\ud800"\n')
@example(b"export \n")
@example(b"A='\nB=1\n")
def test_any_bytes_are_lines_or_mistakes(content: bytes) -> None:
    """No content of a dotenv file raises; a value or a mistake stands at a line that exists."""
    lines = dotenv_file.parse(content, "file")
    last = len(re.split(rb"\r\n|\r|\n", content))
    assert all(1 <= line.number <= last for line in lines.values.values())
    for mistake in lines.mistakes:
        assert mistake.where == "file" or 1 <= int(mistake.where.rpartition(":")[2]) <= last
        assert mistake.allowed
        assert mistake.remedy


@FUZZ
@given(st.sampled_from(sorted(SPEC.settings)), st.text(max_size=20))
def test_any_value_is_judged(name: str, value: str) -> None:
    """No text in the environment makes the judgement raise, and what it takes has no control character."""
    settings = asyncio.run(
        resolve(
            SPEC,
            "production",
            root=Path("/nonexistent"),
            process_environment={**good(), name: value},
            gateway_address=None,
            run=None,
        )
    )
    if not settings.mistakes:
        assert {unicodedata.category(character) for character in settings.text(name)}.isdisjoint({"Cc", "Cs"})
