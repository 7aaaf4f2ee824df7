"""The command line as an operator types it, on a copy of the shipped pipeline.yaml in a folder of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from pipeline.events import Entry
from pipeline.journal import Journal
from pipeline.secrets import Redactor, Secret

HOME = Path(__file__).resolve().parents[2]
LIMIT_S = 60.0
WATCH = ("--watch", "4")
_NOT_OURS = ("SANDBOX_FAULT", "GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "INVOKE_RUN_DRY")
_SECRETS_BELONG = ("settings.env", "settings.json")


@dataclass(frozen=True)
class Ended:
    """A command that ran to its end."""

    code: int
    out: str
    err: str

    @property
    def data(self) -> Any:
        """The one JSON document on stdout; ValueError when there is none, or more."""
        return json.loads(self.out)


@dataclass
class Cli:
    """Commands on one folder. `printed` keeps everything they said."""

    folder: Path
    printed: list[str] = field(default_factory=list)

    @property
    def spec(self) -> Path:
        return self.folder / "pipeline.yaml"

    @property
    def state(self) -> Path:
        return self.folder / ".tollgate" / "sandbox"

    def start(
        self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, spec: bool = True
    ) -> subprocess.Popen[str]:
        """`./inv ARGS`; with `spec` on this folder's pipeline.yaml, unless ARGS name another."""
        argv = [sys.executable, "-P", "-m", "invoke", "--search-root", str(HOME), *args]
        if spec and "--spec" not in args:
            argv += ["--spec", str(self.spec)]
        kept = {name: value for name, value in os.environ.items() if name not in _NOT_OURS}
        return subprocess.Popen(
            argv,
            cwd=cwd or self.folder,
            env={**kept, **(env or {})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self, process: subprocess.Popen[str]) -> Ended:
        try:
            out, err = process.communicate(timeout=LIMIT_S)
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
        self.printed += [out, err]
        return Ended(process.returncode, out, err)

    def run(
        self, *args: str, env: Mapping[str, str] | None = None, cwd: Path | None = None, spec: bool = True
    ) -> Ended:
        return self.end(self.start(*args, env=env, cwd=cwd, spec=spec))

    def entries(self) -> tuple[Entry, ...]:
        path = self.state / "journal.sqlite"
        if not path.exists():
            return ()
        with Journal.read(path) as journal:
            return journal.entries()

    def secrets(self) -> Redactor:
        """Knows the sandbox's secrets."""
        values = dotenv_values(self.state / "settings.env", interpolate=False)
        named = {name: Secret(value) for name, value in values.items() if value and ("SECRET" in name or "KEY" in name)}
        assert len(named) == 3
        return Redactor(named)

    def left_behind(self) -> Iterator[Path]:
        """Every file of the folder but those where the secrets belong."""
        for path in sorted(self.folder.rglob("*")):
            kept = path.name in _SECRETS_BELONG or path.parent == self.state / "target" / "settings"
            if path.is_file() and not path.is_symlink() and not kept:
                yield path


def on(folder: Path) -> Cli:
    """The command line on a fresh copy of the shipped spec; nothing is started."""
    text = (HOME / "pipeline.yaml").read_text("utf-8")
    built = text.replace("sandbox/shop/build.py", str(HOME / "sandbox/shop/build.py"))
    (folder / "pipeline.yaml").write_text(built, "utf-8")
    return Cli(folder)


def kept(cli: Cli) -> Cli:
    """The same, its folder a git checkout with one commit: what gates of production ask for."""
    (cli.folder / ".gitignore").write_text(".tollgate/\n", "utf-8")
    for words in (("init", "-q", "-b", "main"), ("add", "-A"), ("commit", "-q", "-m", "first")):
        argv = ["git", "-c", "user.name=T", "-c", "user.email=t@shop.test", *words]
        subprocess.run(argv, cwd=cli.folder, check=True, capture_output=True)
    return cli


def production(**changed: str) -> dict[str, str]:
    """Good settings of production, with made-up credentials."""
    secret = os.urandom(20).hex()
    good = {
        "VITE_NODE_ENV": "production",
        "VITE_IKHOKHA_API_URL": "https://api.ikhokha.com",
        "VITE_IKHOKHA_API_KEY": "IK" + os.urandom(15).hex().upper(),
        "VITE_IKHOKHA_API_SECRET": secret,
        "VITE_IKHOKHA_WEBHOOK_SECRET": secret,
        "VITE_IKHOKHA_TEST_MODE": "false",
        "VITE_IKHOKHA_TIMEOUT": "45000",
        "VITE_IKHOKHA_RETRY_ATTEMPTS": "3",
        "VITE_IKHOKHA_RETRY_DELAY": "2000",
    }
    return {**good, **changed}
