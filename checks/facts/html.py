"""What a page of a shop is made of: scripts, styles, forms, links, policies in meta elements. Read, never run."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass, field
from urllib.parse import urljoin, urlsplit

from checks.facts.markup import BrowserParser

INLINE = "inline"

_NOT_RUN = ("application/json", "application/ld+json", "text/template", "text/x-template", "text/html", "text/plain")
"""Types of script elements that are data. `importmap` and `speculationrules` steer what loads, so they count."""

_SPEAKS = ("http", "https")
_JAVASCRIPT = re.compile(r"[\s\0-\x20]*javascript:", re.IGNORECASE)


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
        joined = urljoin(base, _without_breaks(address.strip()))
        parts = urlsplit(joined)
        _ = parts.port
        return parts._replace(fragment="").geturl() if parts.scheme in _SPEAKS and parts.hostname else ""
    except ValueError:
        return ""


def _without_breaks(address: str) -> str:
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


_IMPORT = re.compile(
    rb"(?:\bimport\s{0,20}\(?\s{0,20}|\bfrom\s{0,20}|\bimportScripts\s{0,9}\(\s{0,20})"
    rb"[\"'`]((?:https?:|\.{0,2}/)[^\"'`\\\s$]{1,300})[\"'`]"
)


def imported(script: bytes, url: str) -> tuple[str, ...]:
    """The absolute addresses that a script served from `url` imports by literals; it may hold text that looks so."""
    found = (absolute(url, each.decode("latin-1")) for each in _IMPORT.findall(script))
    return tuple(dict.fromkeys(address for address in found if address))


def sha384(hashes: tuple[str, ...]) -> str:
    return next((value for value in hashes if value.startswith("sha384-")), "")


def read(html: str, url: str) -> Document:
    """Reads a page served from `url`. Never raises: what the parser cannot read is told in `problem`.

    A script that the page's end cuts off is left out, as browsers do not run it.
    """
    reader, problem = _Reader(url), ""
    try:
        reader.feed(html)
        reader.close()
    except (AssertionError, ValueError) as error:
        problem = f"the HTML cannot be read beyond line {reader.getpos()[0]} ({type(error).__name__})"
    return Document(
        tuple(reader.scripts),
        tuple(reader.styles),
        tuple(reader.forms),
        tuple(dict.fromkeys(reader.links)),
        tuple(reader.policies),
        problem,
    )


@dataclass
class _Open:
    line: int
    text: list[str] = field(default_factory=list)


class _Reader(BrowserParser):
    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.base = url
        self._based = False
        self.scripts: list[ScriptElement] = []
        self.styles: list[str] = []
        self.forms: list[FormElement] = []
        self.links: list[str] = []
        self.policies: list[str] = []
        self._open: _Open | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: dict[str, str] = {}
        for name, value in attrs:
            given.setdefault(name, value or "")  # of two attributes of one name the first counts
        for name, value in given.items():
            if name.startswith("on") or _JAVASCRIPT.match(_without_breaks(value)):
                self._inline(value, self.getpos()[0])
        match tag:
            case "base" if "href" in given and not self._based:
                self.base, self._based = absolute(self.base, given["href"]) or self.base, True
            case "script":
                self._script(given)
            case "link":
                self._link(given)
            case "form":
                self._form(given.get("action", ""), given.get("method", ""))
            case "button" | "input" if "formaction" in given:
                self._form(given["formaction"], given.get("formmethod", ""))
            case "a" | "area" if "href" in given:
                self._add(self.links, given["href"])
            case "meta" if given.get("http-equiv", "").strip().lower() == "content-security-policy":
                self.policies.append(given.get("content", ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag in self.CDATA_CONTENT_ELEMENTS:
            self.set_cdata_mode(tag)  # HTML knows no empty script: what follows is its text

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._end_script()

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._open.text.append(data)

    def _end_script(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            self._inline("".join(opened.text), opened.line)

    def _inline(self, text: str, line: int) -> None:
        if text.strip():
            content = text.encode("utf-8", "replace")
            self.scripts.append(ScriptElement(INLINE, "", "", line, hashes(content), imported(content, self.base)))

    def _script(self, given: dict[str, str]) -> None:
        self._end_script()
        line = self.getpos()[0]
        source = next((given[name] for name in ("src", "href", "xlink:href") if name in given), None)
        if source is not None:
            self._loaded(source, given, line)
        elif given.get("type", "").strip().lower() not in _NOT_RUN:
            self._open = _Open(line)

    def _link(self, given: dict[str, str]) -> None:
        kinds = given.get("rel", "").lower().split()
        if "stylesheet" in kinds:
            self._add(self.styles, given.get("href", ""))
        elif "modulepreload" in kinds or ("preload" in kinds and given.get("as", "").lower() == "script"):
            self._loaded(given.get("href", ""), given, self.getpos()[0])

    def _loaded(self, src: str, given: dict[str, str], line: int) -> None:
        url = absolute(self.base, src)
        self.scripts.append(ScriptElement(src.strip(), url, given.get("integrity", "").strip(), line))

    def _form(self, action: str, method: str) -> None:
        self.forms.append(FormElement(absolute(self.base, action) if action else self.base, method.lower() or "get"))

    def _add(self, found: list[str], address: str) -> None:
        if made := absolute(self.base, address):
            found.append(made)
