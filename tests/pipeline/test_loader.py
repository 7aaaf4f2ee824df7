"""pipeline.yaml read into a spec, or refused with all of its mistakes."""

from __future__ import annotations

import graphlib
import json
import os
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import wiring
from pipeline.errors import Exit, Usage
from pipeline.loader import Mistake, SpecInvalid, load, step_name
from pipeline.shape import PATTERNS
from pipeline.spec import ActStep, CheckStep, RunStep, Spec
from tests.pipeline.standin import EXAMPLE, FUZZ, NAMES

TEXT = EXAMPLE.read_text()

GATE = "    - check: settings.valid\n"
STAGE = "    - act: release.stage\n"
STAGES = "stages:\n"
PROCESS = "    ca_file: .tollgate/sandbox/tls/ca.pem\n    process:\n"
"""Only the environment sandbox has it."""
LINE = re.compile(r"[^\n]+:[1-9][0-9]*:[1-9][0-9]*: [^\n]+: found [^\n]+; allowed [^\n]+")


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.sampled_from(["target.has_room", "2026-02-30"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def noticed(*entries: str) -> str:
    """`notices:` of an environment, as lines of the file."""
    return "    notices:\n" + "".join(f"      - {entry}\n" for entry in entries)


def accepted(**members: str) -> str:
    """`accepted:` with one entry, as lines of the file."""
    said = {"check": "target.has_room", "reason": "The disk comes", "by": "Thandi", "until": "2026-04-30", **members}
    first, *more = (f"{key}: {value}\n" for key, value in said.items())
    return f"accepted:\n  - {first}" + "".join(f"    {line}" for line in more)


def mistakes(folder: Path, *changes: tuple[str, str]) -> tuple[Mistake, ...]:
    """What the loader says of the example after each change, once, of a text that is in it."""
    text = TEXT
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    path = folder / "pipeline.yaml"
    path.write_text(text)
    with pytest.raises(SpecInvalid) as refused:
        load(path, NAMES)
    assert str(refused.value) == "\n".join(map(str, refused.value.mistakes))
    assert all(LINE.fullmatch(str(mistake)) for mistake in refused.value.mistakes)
    return refused.value.mistakes


def test_an_address_in_the_file_is_not_shown(tmp_path: Path) -> None:
    """Whoever puts an address where its variable belongs does not find it in a log."""
    for key in ("to: ops, address_from", "address_from: A, to"):
        told = mistakes(tmp_path, (PROCESS, noticed("{" + key + ": 'slack://T0kenT0kenT0ken/x'}") + PROCESS))
        assert told and "T0ken" not in "".join(map(str, told))


def test_the_shipped_file_is_valid() -> None:
    """The pipeline.yaml that ships has no mistake in the names that exist."""
    assert load(wiring.HOME / "pipeline.yaml", wiring.names(wiring.catalogue())).service


def test_the_parts_of_a_file_arrive_typed() -> None:
    """Durations are seconds, shares are numbers, and each step is of its kind."""
    spec = load(EXAMPLE, NAMES)
    assert spec.environments["sandbox"].watch_for == 5.0
    assert spec.thresholds.payment_success.alert == 0.9
    assert [step_name(step) for step in spec.stages.deploy] == ["release.stage", "rollback.rehearsed", "release.switch"]
    assert isinstance(spec.stages.build[0], RunStep)


def test_a_step_is_called_by_its_name_or_by_what_it_does() -> None:
    """A step without a name is called by its check, its act or its command."""
    assert step_name(CheckStep(check="a.b", name="mine")) == "mine"
    assert step_name(CheckStep(check="a.b")) == "a.b"
    assert step_name(ActStep(act="c.d")) == "c.d"
    assert step_name(RunStep(run=("npm", "ci"))) == "npm"


@pytest.mark.parametrize(
    ("old", "new", "path", "found", "allowed", "suggestion"),
    [
        # names
        ("gateway: ikhokha", "gateway: ikoka", "gateway", "'ikoka'", "ikhokha", "ikhokha"),
        ("check: settings.test_mode_off", "check: settings.testmode_off", "stages.gates[1].check",
         "'settings.testmode_off'", "see `./inv checks`", "settings.test_mode_off"),
        ("act: release.stage", "act: release.stge", "stages.deploy[0].act", "'release.stge'",
         "release.stage, release.switch", "release.stage"),
        ("[release, settings, maintenance", "[release, setings, maintenance", "stages.deploy[2].checkpoints[1]",
         "'setings'", "maintenance, payments, release, settings", "settings"),
        ("only: [sandbox]", "only: [sandbx]", "stages.build[0].only[0]", "'sandbx'",
         "production, sandbox, staging", "sandbox"),
        ("needs: [install]", "needs: [instal]", "stages.build[2].needs[0]", "'instal' (in staging, production)",
         "other steps of stage build", "install"),
        ("VITE_NODE_ENV: [production]", "VITE_NOD_ENV: [production]", "environments.sandbox.allowed.VITE_NOD_ENV",
         "'VITE_NOD_ENV'", "VITE_NODE_ENV", "VITE_NODE_ENV"),
        ("  smoke_course", "  payment: /pay/{ref}\n  smoke_course", "contract.payment", "the placeholder {ref}",
         "{reference} exactly once", "{reference}"),
        ("  smoke_course", "  payment: /pay\n  smoke_course", "contract.payment", "{reference} 0 times",
         "exactly once", ""),
        ("  smoke_course", "  create: /pay/{reference}\n  smoke_course", "contract.create",
         "the placeholder {reference}", "without placeholders", ""),
        # accepted findings and duties
        (STAGES, accepted(check="settings.test_mod_off") + STAGES, "accepted[0].check", "'settings.test_mod_off'",
         "see `./inv checks`", "settings.test_mode_off"),
        (STAGES, accepted(check="leaks.none_in_source") + STAGES, "accepted[0].check",
         "refused: leaks, signatures and what keeps orders whole", "says that its finding may be accepted", ""),
        (STAGES, accepted(check="webhook.refuses_unsigned") + STAGES, "accepted[0].check",
         "refused: leaks, signatures and what keeps orders whole", "says that its finding may be accepted", ""),
        (STAGES, accepted(until="2026-02-30") + STAGES, "accepted[0].until", "2026-02-30, which no calendar has",
         "a day that exists", ""),
        (STAGES, accepted(until="28.02.2026") + STAGES, "accepted[0].until", "'28.02.2026'", "", ""),
        (STAGES, accepted(only="[sandbx]") + STAGES, "accepted[0].only[0]", "'sandbx'", "production, sandbox, staging",
         "sandbox"),
        (STAGES, accepted(only="[sandbox, staging]") + accepted(only="[staging]").removeprefix("accepted:\n") + STAGES,
         "accepted[1].check", "'target.has_room', which is accepted above already (in staging)", "each check once", ""),
        (STAGES, accepted() + accepted().removeprefix("accepted:\n") + STAGES,
         "accepted[1].check", "'target.has_room', which is accepted above already", "each check once", ""),
        (STAGES, accepted(check="webhook.arrives", only="[production]") + STAGES, "accepted[0].check",
         "'webhook.arrives', which no step of production asks", "a check that stands under `stages`", ""),
        (STAGES, "duties:\n  hooks: {title: Webhooks, every: 30 d, proven_by: health.redy}\n" + STAGES,
         "duties.hooks.proven_by", "'health.redy'", "see `./inv checks`", "health.ready"),
        (STAGES, "sign_offs: {logs: {title: Read}}\nduties: {logs: {title: Logs, every: 7 d}}\n" + STAGES,
         "duties.logs", "'logs', which is a sign-off too", "a name of its own", ""),
        # keys
        ("\nservice: betaskill-courses", "", "service", "no key `service`", "`service:` with a name", ""),
        ("thresholds:", "treshold:", "treshold", "the unknown key `treshold`", "stages", "thresholds"),
        ("start: [python", "strat: [python", "release.strat", "the unknown key `strat`", "start", "start"),
        ("      name: install", "      nam: install", "stages.build[1].nam", "the unknown key `nam`", "name", "name"),
        ("mode: card", "mod: card", "stages.prove[1].with.mod", "the unknown key `mod`", "cap, mode, within", "mode"),
        ("dotenv: .tollgate", "dotnev: .tollgate", "environments.sandbox.settings_from[0].dotnev",
         "none of them among `dotnev`", "exactly one of `dotenv`, `command`", "dotenv"),
        # types
        ("version: 1", "version: 2", "version", "the number 2", "`1`", ""),
        ("type: text", "type: txt", "settings.VITE_NODE_ENV.type", "'txt'", "url, secret, text", ""),
        ("keep: 5", "keep: 1", "release.keep", "the number 1", "a whole number from 2 to 100", ""),
        ("keep: 5", "keep: NO", "release.keep", "'NO'", "a whole number from 2 to 100", ""),
        ("keep: 5", "keep: 5.5", "release.keep", "the number 5.5", "a whole number from 2 to 100", ""),
        ("timeout: 10 min", "timeout: 10", "stages.build[1].timeout", "the number 10", "a duration with its unit", ""),
        ("timeout: 10 min", "timeout: 1.5", "stages.build[1].timeout", "the number 1.5", "a duration with its", ""),
        ("under: 5%", "under: 0.05", "thresholds.payment_failures.under", "the number 0.05", "a percentage", ""),
        ("under: 5%", "under: 150%", "thresholds.payment_failures.under", "'150%'", "a percentage: 95%", ""),
        ("alert: 90%", "alert: 99%", "thresholds.payment_success", "alert is above target", "the lower line", ""),
        ("between: [0, 10]", "between: [0, 10, 20]", "settings.VITE_IKHOKHA_RETRY_ATTEMPTS.between", "a list of 3",
         "a list of exactly 2", ""),
        ("between: [0, 10]", "between: [10, 0]", "settings.VITE_IKHOKHA_RETRY_ATTEMPTS",
         "between: 10 is larger than 0", "the smaller one first", ""),
        ("cap: 100", "cap: lots", "stages.prove[1].with.cap", "'lots'", "a whole number of at least 1", ""),
        ("{mode: card, cap: 100}", "{mode: card}", "stages.prove[1].with.cap", "no key `cap`", "`cap:` with a", ""),
        ("{mode: card, cap: 100}", "{mode: card, cap: 1, within: 0.5}", "stages.prove[1].with.within",
         "the number 0.5", "a duration with its unit", ""),
        ('["false"]', "[false]", "environments.sandbox.allowed.VITE_IKHOKHA_TEST_MODE[0]", "`false`",
         'text, in quotes: "false"', ""),
        ("url: https://app", "url: http://app", "environments.production.url", "'http://app.betaskill.com'",
         "`sandbox` or an https address", ""),
        ("settings_from: [environment,", "settings_from: [env,", "environments.staging.settings_from[0]", "'env'",
         "`environment` or a mapping with `dotenv` or a mapping with `command`", "environment"),
        ("  sandbox:\n    url", "  'sand box':\n    url", "environments.sand box", "the key `sand box`", "a name", ""),
        # steps
        (GATE, "    - chekc: settings.valid\n", "stages.gates[0].chekc", "none of them among `chekc`",
         "exactly one of `check`, `run`, `act`", "check"),
        (GATE, "    - {check: settings.valid, run: [a]}\n", "stages.gates[0]", "`check` and `run` side by side",
         "exactly one of", ""),
        (GATE, "    - settings.valid\n", "stages.gates[0]", "'settings.valid'", "a mapping with `check` or", ""),
        (GATE, GATE + "    - run: []\n", "stages.gates[1].run", "an empty list", "a list of at least 1", ""),
        (GATE, GATE + "    - {run: [a, b], shell: true}\n", "stages.gates[1]", "a mapping of run, shell",
         "shell: true takes one line", ""),
        # order
        (GATE, GATE + "    - check: health.ready\n", "stages.gates[1].check", "it asks the running release",
         "stage prove or watch", ""),
        (GATE, GATE + "    - check: leaks.none_in_bundle\n", "stages.gates[1].check", "it reads what the build leaves",
         "stage build or a later one", ""),
        (GATE, GATE + "    - {act: release.switch, checkpoints: [release]}\n", "stages.gates[1].act",
         "in stage gates", "gates change nothing", ""),
        (GATE, GATE + GATE, "stages.gates[1].check", "a second step named 'settings.valid'", "names of their own", ""),
        ("      needs: [build]\n", "", "stages.build[3].check", "beside the build", "the step that builds", ""),
        (STAGE, STAGE + "      needs: [release.switch]\n", "stages.deploy[0].needs",
         "a circle: release.stage needs release.switch needs release.stage", "needs that come to an end", ""),
        (STAGE, STAGE + "      needs: [release.stage]\n", "stages.deploy[0].needs",
         "a circle: release.stage needs release.stage", "needs that come to an end", ""),
        (STAGE, STAGE + "    - {act: release.stage, name: again}\n", "stages.deploy[1].act",
         "`act: release.stage` again", "exactly once", ""),
        (STAGE, STAGE + "      only: [sandbox]\n", "stages.deploy",
         "no step `act: release.stage` (in staging, production)", "exactly once", ""),
        (STAGE, STAGE + "    - check: health.ready\n", "stages.deploy[1].check", "beside release.switch",
         "needs: [release.switch]", ""),
        ("needs: [release.stage, rollback.rehearsed]", "needs: [rollback.rehearsed]", "stages.deploy[2].needs",
         "release.switch beside release.stage", "needs: [release.stage]", ""),
        ("checkpoints: [release, settings", "checkpoints: [settings", "stages.deploy[2].checkpoints",
         "without the checkpoint release", "at least release", ""),
        ("      checkpoints: [release, settings, maintenance, payments]\n", "", "stages.deploy[2].act",
         "there would be no way back", "at least release", ""),
        ("name: install\n      only: [staging, production]", "name: install\n      only: [staging]",
         "stages.build[2].needs[0]", "'install', which `only` leaves out (in production)", "other steps", ""),
        # settings
        ("default: 45000", "default: 450000", "settings.VITE_IKHOKHA_TIMEOUT.default", "the number 450000",
         "a whole number from 1000 to 120000", ""),
        ("default: false", "default: 0", "settings.VITE_IKHOKHA_TEST_MODE.default", "the number 0",
         "exactly true or false", ""),
        ('["false"]', '["no"]', "environments.sandbox.allowed.VITE_IKHOKHA_TEST_MODE[0]", "'no'",
         "exactly true or false", ""),
        ("      VITE_NODE_ENV: [production]", "      VITE_NODE_ENV: []", "environments.sandbox.allowed.VITE_NODE_ENV",
         "an empty list", "at least one value", ""),
        ("  VITE_NODE_ENV: {type", "  VITE-NODE: {type: text}\n  VITE_NODE_ENV: {type", "settings.VITE-NODE",
         "'VITE-NODE'", "the name of an environment variable", ""),
        ("      TLS_CERT:", "      PORT: x\n      TLS_CERT:", "environments.sandbox.process.PORT",
         "which the target sets itself", "another name", ""),
        ("      TLS_CERT:", "      VITE_NODE_ENV: x\n      TLS_CERT:", "environments.sandbox.process.VITE_NODE_ENV",
         "the setting 'VITE_NODE_ENV'", "variables that are no settings", ""),
        # notices and the maintenance page
        (PROCESS, noticed("{to: ops}") + PROCESS, "environments.sandbox.notices[0].address_from",
         "no key `address_from`", "the name of a variable, never its value", ""),
        (PROCESS, noticed("{to: ops, address_from: 'slack://T0ken/T0ken/T0ken'}") + PROCESS,
         "environments.sandbox.notices[0].address_from", "text of 25 characters", "the name of a variable", ""),
        (PROCESS, noticed("{to: 'slack://T0ken/T0ken', address_from: A}") + PROCESS,
         "environments.sandbox.notices[0].to", "text of 19 characters", "a name", ""),
        (PROCESS, noticed("{to: ops, address_from: VITE_NODE_ENV}") + PROCESS,
         "environments.sandbox.notices[0].address_from", "which the service's process is given", "of its own", ""),
        (PROCESS, noticed("{to: ops, address_from: TLS_CERT}") + PROCESS,
         "environments.sandbox.notices[0].address_from", "which the service's process is given", "of its own", ""),
        (PROCESS, noticed("{to: ops, address_from: A}", "{to: ops, address_from: B}") + PROCESS,
         "environments.sandbox.notices[1].to", "'ops' again", "a name of its own", ""),
        (PROCESS, noticed("{to: ops, address_from: A, on: [rolledback]}") + PROCESS,
         "environments.sandbox.notices[0].on[0]", "'rolledback'", "rolled back, person needed", ""),
        (PROCESS, noticed("{to: ops, address_from: A, on: []}") + PROCESS,
         "environments.sandbox.notices[0].on", "an empty list", "a list of at least 1", ""),
        (STAGES, "maintenance: {retry_after: 2 d}\n" + STAGES, "maintenance.retry_after", "'2 d'",
         "a duration from 1 s to 24 h", ""),
        (STAGES, "maintenance: {mesage: closed}\n" + STAGES, "maintenance.mesage", "the unknown key `mesage`",
         "contact, message, retry_after", "message"),
    ],
)  # fmt: skip
def test_one_mistake_is_told_with_its_fix(
    tmp_path: Path, old: str, new: str, path: str, found: str, allowed: str, suggestion: str
) -> None:
    """A single mistake gives a line with its place, what was found, what is allowed and the nearest valid name."""
    told = [mistake for mistake in mistakes(tmp_path, (old, new)) if mistake.path == path and found in mistake.found]
    assert len(told) == 1, mistakes(tmp_path, (old, new))
    (mistake,) = told
    assert allowed in mistake.allowed
    assert mistake.suggestion == suggestion


def test_all_mistakes_are_told_at_once_in_the_order_of_their_lines(tmp_path: Path) -> None:
    """A wrong type, a wrong name, a duplicate key and an unknown key are told in one go; none hides another."""
    told = mistakes(
        tmp_path,
        ("gateway: ikhokha", "gateway: ikoka"),
        ("keep: 5", "keep: 5\n  keep: 6"),
        ("check: settings.valid", "check: settings.vald"),
        ("timeout: 10 min", "timeout: 10"),
        ("      only: [sandbox]\n    - check: enrolment.needs", "      ony: [sandbox]\n    - check: enrolment.needs"),
    )
    assert [(mistake.line, mistake.column, mistake.path) for mistake in told] == [
        (5, 10, "gateway"),
        (23, 3, "release.keep"),
        (40, 14, "stages.gates[0].check"),
        (56, 16, "stages.build[1].timeout"),
        (87, 7, "stages.prove[4].ony"),
    ]
    assert str(told[0]) == (
        f"{tmp_path}/pipeline.yaml:5:10: gateway: found 'ikoka'; allowed ikhokha; did you mean ikhokha?"
    )


_GRAPHS = st.dictionaries(st.sampled_from("abcd"), st.lists(st.sampled_from("abcd"), max_size=3), max_size=4)


@settings(FUZZ, max_examples=60)
@given(_GRAPHS)
@example({"a": ["b"], "b": ["c", "a"], "c": ["b"]})
def test_a_circle_of_needs_is_told_and_nothing_else_is_taken_for_one(
    tmp_path: Path, needs: dict[str, list[str]]
) -> None:
    """Steps that wait for each other are refused in the loader, not found by a run that never ends."""
    steps = "".join(f"    - {{run: [x], name: {name}, needs: {json.dumps(needs.get(name, []))}}}\n" for name in "abcd")
    path = tmp_path / "pipeline.yaml"
    path.write_text(TEXT.replace(GATE, GATE + steps, 1))
    try:
        tuple(graphlib.TopologicalSorter(needs).static_order())
    except graphlib.CycleError:
        with pytest.raises(SpecInvalid, match="found a circle: ") as refused:
            load(path, NAMES)
        assert len(refused.value.mistakes) == 1
    else:
        load(path, NAMES)


def test_an_alias_is_one_mistake_and_its_hole_none(tmp_path: Path) -> None:
    """What could not be read is told of once, not again as a value of the wrong type."""
    told = mistakes(tmp_path, ("ready_within: 20 s", "ready_within: *other"))
    assert [(mistake.path, mistake.found) for mistake in told] == [("release.ready_within", "the alias *other")]


def test_a_secret_in_the_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    """A value that may be a secret stands in no mistake, wherever in the file somebody put it."""
    secret = "s3cr3t-" + os.urandom(6).hex()
    for old, new in (
        ("API_KEY: {type: secret,", f"API_KEY: {{type: secret, default: {secret},"),
        ("API_KEY: {type: secret,", f"API_KEY: {{type: secret, default: [{secret}],"),
        ("VITE_NODE_ENV: {type: text}", f"VITE_NODE_ENV: {{type: boolean, default: {secret}}}"),
        ("      VITE_NODE_ENV: [production]", f"      VITE_IKHOKHA_API_SECRET: [{secret}]"),
        ("      VITE_NODE_ENV: [production]", f"      VITE_IKHOKHA_TIMEOUT: [{secret}]"),
        ("      VITE_NODE_ENV: [production]", f"      VITE_NODE_ENV: {secret}"),
        ("      TLS_CERT:", f"      TOKEN: [{secret}]\n      TLS_CERT:"),
        ("url: https://app", f"url: https://me:{secret}@app"),
    ):
        told = mistakes(tmp_path, (old, new))
        assert secret not in "\n".join(map(str, told))


def test_a_file_that_cannot_be_read_is_bad_usage(tmp_path: Path) -> None:
    """A missing file, a folder and an unreadable encoding are told like any mistake: exit code 2, with a fix."""
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"service: caf\xe9\n")
    for path, found in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "no ordinary file"),
        (latin, "the byte 0xe9"),
    ):
        with pytest.raises(Usage) as refused:
            load(path, NAMES)
        assert isinstance(refused.value, SpecInvalid)
        assert found in refused.value.mistakes[0].found
        assert refused.value.exit_code is Exit.USAGE
        assert refused.value.remedy


def test_a_mistake_names_the_file_as_the_operator_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path given relative is printed relative."""
    (tmp_path / "mine.yaml").write_text("version: 1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecInvalid) as refused:
        load(Path("mine.yaml"), NAMES)
    assert {mistake.file for mistake in refused.value.mistakes} == {"mine.yaml"}


def test_every_pattern_of_the_spec_has_words() -> None:
    """An operator never reads a regular expression in place of what is allowed."""
    patterns = set(re.findall(r"'(?:pattern)': '((?:[^'\\]|\\.)*)'", str(Spec.model_json_schema())))
    assert patterns
    assert {pattern.encode().decode("unicode_escape") for pattern in patterns} <= PATTERNS.keys()


@FUZZ
@given(st.one_of(st.binary(max_size=60), st.text(max_size=60).map(lambda text: text.encode("utf-8", "surrogatepass"))))
@example(b"version: 1\nstages: {gates: [{check: [a]}, {run: {}}, 3, null], deploy: 7}\nenvironments: [a]\n")
@example(b"settings: {A: 1, B: {type: secret, default: 1}}\nenvironments: {x: {allowed: {A: 3}, process: [1]}}\n")
def test_any_content_is_a_spec_or_refused(tmp_path: Path, content: bytes) -> None:
    """No content of a file ends in anything but a spec or mistakes with their places."""
    path = tmp_path / "any.yaml"
    path.write_bytes(content)
    try:
        load(path, NAMES)
    except SpecInvalid as refused:
        assert refused.mistakes
        assert all(LINE.fullmatch(str(mistake)) for mistake in refused.mistakes)


_KEYS = [
    "check",
    "run",
    "act",
    "with",
    "name",
    "needs",
    "only",
    "checkpoints",
    "type",
    "default",
    "between",
    "gates",
    "deploy",
    "url",
    "target",
    "kind",
    "allowed",
    "process",
    "settings_from",
    "dotenv",
    "command",
    "smoke_course",
    "create",
    "payment",
]
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-9, 9), st.floats(-1e9, 1e9, allow_nan=False), st.text(max_size=5)
)
_JSON = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4)),
    max_leaves=8,
)


@settings(FUZZ, max_examples=120)
@given(st.sampled_from(["settings", "release", "contract", "thresholds", "stages", "environments", "service"]), _JSON)
def test_any_value_in_any_part_is_judged(tmp_path: Path, part: str, value: object) -> None:
    """Whatever stands where a part of the spec belongs is judged, never a crash."""
    path = tmp_path / "part.yaml"
    path.write_text(re.sub(rf"(?ms)^{part}:.*?(?=^\w|\Z)", lambda _: f"{part}: {json.dumps(value)}\n", TEXT))
    try:
        load(path, NAMES)
    except SpecInvalid as refused:
        assert all(LINE.fullmatch(str(mistake)) for mistake in refused.mistakes)


def test_accepted_findings_arrive_typed(tmp_path: Path) -> None:
    """An entry that says everything is read as it is written, and the same check twice where nothing overlaps."""
    text = accepted(only="[sandbox]") + accepted(only="[staging]").removeprefix("accepted:\n") + STAGES
    path = tmp_path / "pipeline.yaml"
    path.write_text(TEXT.replace(STAGES, text, 1))
    first, second = load(path, NAMES).accepted
    assert (first.check, first.by, first.until, first.only) == ("target.has_room", "Thandi", "2026-04-30", ("sandbox",))
    assert second.only == ("staging",)


@settings(parent=FUZZ, max_examples=100)
@given(
    st.lists(
        st.fixed_dictionaries({}, optional=dict.fromkeys(("check", "until", "only", "more"), ANYTHING)) | ANYTHING,
        max_size=3,
    )
    | ANYTHING
)
def test_whatever_stands_under_accepted_is_told_as_a_mistake(data: object) -> None:
    """No entry under `accepted` or `duties` breaks the loader; what is missing beside it is told as well."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pipeline.yaml"
        environments: dict[str, object] = {"sandbox": {}, "staging": {}}
        path.write_text(json.dumps({"accepted": data, "duties": data, "environments": environments}))
        with pytest.raises(SpecInvalid) as refused:
            load(path, NAMES)
    assert any("no key `stages`" in str(mistake) for mistake in refused.value.mistakes)
