"""settings.env of the sandbox: the nine settings of the service, whose credentials are the gateway's one account."""

from __future__ import annotations

import os
import re
import string
from dataclasses import dataclass
from pathlib import Path
from random import Random

from dotenv import dotenv_values

from pipeline.errors import TollgateError
from pipeline.secrets import Secret

_URL_LINE = re.compile(r"^VITE_IKHOKHA_API_URL=.*$", re.MULTILINE)
_HEAD = "# The sandbox's settings, made at its first start. The secrets are random and good for nothing else.\n"


@dataclass(frozen=True)
class Account:
    """The gateway's one account: what IK-APPID names, and what signs."""

    app_id: str
    secret: Secret


def ensure(path: Path, address: str, random: Random) -> Account:
    """Makes the file (0600) unless it is there, keeps its gateway address right, and returns the account in it.

    Of a file that is there only the address' line changes. Raises TollgateError when the credentials are missing.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        text = _new(address, random)
        _write(path, text)
    except (OSError, UnicodeDecodeError) as error:
        raise TollgateError(f"{path}: cannot be read ({error})", "Remove it; the next start makes a new one.") from None
    if f"VITE_IKHOKHA_API_URL={address}\n" not in text:
        _write(path, _with_address(text, address))
    values = dotenv_values(path, interpolate=False)
    app_id, secret = ((values.get(f"VITE_IKHOKHA_API_{name}") or "").strip() for name in ("KEY", "SECRET"))
    if not app_id or not secret:
        raise TollgateError(
            f"{path}: VITE_IKHOKHA_API_KEY or VITE_IKHOKHA_API_SECRET is missing; the gateway needs both",
            "Put them back, or remove the file: the next start makes a new one.",
        )
    return Account(app_id, Secret(secret))


def _new(address: str, random: Random) -> str:
    app_id = "IK" + _characters(random, string.ascii_uppercase + string.digits, 30)
    secret = _characters(random, string.ascii_letters + string.digits, 40)
    settings = {
        "VITE_NODE_ENV": "production",
        "VITE_IKHOKHA_API_URL": address,
        "VITE_IKHOKHA_API_KEY": app_id,
        "VITE_IKHOKHA_API_SECRET": secret,
        "VITE_IKHOKHA_WEBHOOK_SECRET": secret,
        "VITE_IKHOKHA_TEST_MODE": "false",
        "VITE_IKHOKHA_TIMEOUT": "45000",
        "VITE_IKHOKHA_RETRY_ATTEMPTS": "3",
        "VITE_IKHOKHA_RETRY_DELAY": "2000",
    }
    return _HEAD + "".join(f"{name}={value}\n" for name, value in settings.items())


def _with_address(text: str, address: str) -> str:
    line = f"VITE_IKHOKHA_API_URL={address}"
    if _URL_LINE.search(text):
        return _URL_LINE.sub(line, text)
    return text + ("" if text.endswith("\n") else "\n") + line + "\n"


def _characters(random: Random, alphabet: str, count: int) -> str:
    return "".join(random.choice(alphabet) for _ in range(count))


def _write(path: Path, text: str) -> None:
    """Whole or not at all, and never readable by others, not even for an instant."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
