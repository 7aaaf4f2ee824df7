"""What the text of a setting may be, by its type in pipeline.yaml. Pure; for defaults, allowed values and sources."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from pipeline.spec import Setting

SANDBOX = "sandbox"
"""Among the allowed values of a url: the address of the environment's own sandbox gateway."""

_NUMBER = re.compile(r"0|[1-9][0-9]{0,17}")
_ADDRESS = re.compile(r"https://[\x21-\x7e]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029]")


def as_text(value: str | int | bool) -> str:
    """A default of pipeline.yaml as the service gets it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def allowed_text(setting: Setting) -> str:
    """What a value of this type looks like."""
    match setting.type:
        case "url":
            return "an https address without credentials and fragment, such as https://api.example.com"
        case "boolean":
            return "exactly true or false"
        case "integer" | "milliseconds":
            unit = " (milliseconds)" if setting.type == "milliseconds" else ""
            span = f" from {setting.between[0]} to {setting.between[1]}" if setting.between else ""
            return f"a whole number{span} in plain digits{unit}"
        case "secret":
            return "printable ASCII characters on one line"
        case "text":
            return "text on one line, without control characters"


def fits(setting: Setting, text: str) -> bool:
    """Whether a text that is not empty is a value of this type."""
    if _CONTROL.search(text):
        return False
    match setting.type:
        case "url":
            return _is_address(text)
        case "boolean":
            return text in ("true", "false")
        case "integer" | "milliseconds":
            if not _NUMBER.fullmatch(text):
                return False
            return setting.between is None or setting.between[0] <= int(text) <= setting.between[1]
        case "secret":
            return text.isascii()  # it travels in HTTP headers; pasted zero-width spaces and typographic quotes do not
        case "text":
            return True


def _is_address(text: str) -> bool:
    if not _ADDRESS.fullmatch(text) or any(character in text for character in "#@\\<>\"'`{}|^"):
        return False
    try:
        parts = urlsplit(text)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
