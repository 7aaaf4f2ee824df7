"""What a page of a shop is made of: scripts, styles, forms, links, policies in meta elements. Read, never run."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

INLINE = "inline"

_SPEAKS = ("http", "https")


@dataclass(frozen=True)
class ScriptElement:
    """A script element. `src` is as in the page, or `inline`; `url` is absolute, '' for an inline one.

    `hashes` holds sha256, sha384 and sha512 of an inline one, as in SRI, over the text as UTF-8; a handler like
    `onclick` and a `javascript:` link are inline ones, too, and `imports` what such a one imports by a literal.
    `line` counts from 1.
    """

    src: str
    url: str
    integrity: str
    line: int
    hashes: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()


@dataclass(frozen=True)
class FormElement:
    """`action` is absolute; `method` is lower case."""

    action: str
    method: str


@dataclass(frozen=True)
class Document:
    """What was read of one page. `problem` says why some of it could not be read; it is '' when all was."""

    scripts: tuple[ScriptElement, ...] = ()
    styles: tuple[str, ...] = ()
    forms: tuple[FormElement, ...] = ()
    links: tuple[str, ...] = ()
    meta_policies: tuple[str, ...] = ()
    problem: str = ""


def absolute(base: str, address: str) -> str:
    """The http(s) address that a browser makes of it, without fragment; '' for anything else. Never raises."""
    try:
        joined = urljoin(base, without_breaks(address.strip()))
        parts = urlsplit(joined)
        _ = parts.port
        return parts._replace(fragment="").geturl() if parts.scheme in _SPEAKS and parts.hostname else ""
    except ValueError:
        return ""


def without_breaks(address: str) -> str:
    """As browsers read an address: tabs and line breaks anywhere in it do not count."""
    return "".join(c for c in address if c not in "\t\r\n")


def origin(address: str) -> tuple[str, str, int]:
    """Scheme, host and port; ('', '', 0) for what is no address."""
    try:
        parts = urlsplit(address)
        default = 443 if parts.scheme == "https" else 80
        return (parts.scheme, (parts.hostname or "").lower(), parts.port or default)
    except ValueError:
        return ("", "", 0)


ALGORITHMS = ("sha256", "sha384", "sha512")


def hashes(content: bytes) -> tuple[str, ...]:
    """The hashes of `ALGORITHMS`, each as in SRI: `sha384-BASE64`."""
    return tuple(f"{a}-{base64.b64encode(hashlib.new(a, content).digest()).decode()}" for a in ALGORITHMS)


IMPORT = re.compile(
    rb"(?:\bimport\s{0,20}\(?\s{0,20}|\bfrom\s{0,20}|\bimportScripts\s{0,9}\(\s{0,20})"
    rb"[\"'`]((?:https?:|\.{0,2}/)[^\"'`\\\s$]{1,300})[\"'`]"
)


def imported(script: bytes, url: str, pattern: re.Pattern[bytes] = IMPORT) -> tuple[str, ...]:
    """The absolute addresses that a script served from `url` imports by literals; it may hold text that looks so."""
    found = (absolute(url, each.decode("latin-1")) for each in pattern.findall(script))
    return tuple(dict.fromkeys(address for address in found if address))


def sha384(hashes: tuple[str, ...]) -> str:
    return next((value for value in hashes if value.startswith("sha384-")), "")
