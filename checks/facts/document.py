"""Reads a page: its scripts, styles, forms and links, as a browser would find them. Nothing is run."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from checks.facts.html import (
    IMPORT,
    INLINE,
    Document,
    FormElement,
    ScriptElement,
    absolute,
    hashes,
    imported,
    without_breaks,
)
from checks.facts.markup import BrowserParser

_NOT_RUN = ("application/json", "application/ld+json", "text/template", "text/x-template", "text/html", "text/plain")
"""Types of script elements that are data. `importmap` and `speculationrules` steer what loads, so they count."""

_JAVASCRIPT = re.compile(r"[\s\0-\x20]*javascript:", re.IGNORECASE)
_MAPPED = re.compile(rb"\"((?:https?:|\.{0,2}/)[^\"\\\s]{1,300})\"")
"""An address in an import map, where modules get their bare names from."""


def read(html: str, url: str) -> Document:
    """Reads a page served from `url`. Never raises: what the parser cannot read is told in `problem`.

    A script that the page's end cuts off is left out, as browsers do not run it.
    """
    reader = _Reader(url)
    reader.read(html)
    return Document(
        tuple(reader.scripts),
        tuple(reader.styles),
        tuple(reader.forms),
        tuple(dict.fromkeys(reader.links)),
        tuple(reader.policies),
        reader.problem,
    )


_DEEPEST = 4
_MOST_WITHIN = 4 * 1024 * 1024
_REFRESH = re.compile(r"[^;,]*[;,]\s*(?:url\s*=\s*)?[\"']?([^\"']+)", re.IGNORECASE)


@dataclass
class _Open:
    """An element whose content is text: a script, or one that may hide one. `kind` is a script's type."""

    tag: str
    line: int
    kind: str = ""
    text: list[str] = field(default_factory=list)


class _Reader(BrowserParser):
    """What stands within texts and attributes is read by readers of their own, so deep and so much of it at most.

    `outer` is the reader of what this one stands in. `_left` is shared: how many characters may still be read so.
    """

    def __init__(self, url: str, outer: _Reader | None = None) -> None:
        super().__init__(convert_charrefs=True)
        self.base = url
        self.problem = ""
        self._depth: int = outer._depth + 1 if outer else 0
        self._before: int = outer._line - 1 if outer else 0
        self._left: list[int] = outer._left if outer else [_MOST_WITHIN]
        self._based = False
        self.scripts: list[ScriptElement] = []
        self.styles: list[str] = []
        self.forms: list[FormElement] = []
        self.links: list[str] = []
        self.policies: list[str] = []
        self._open: _Open | None = None

    def read(self, html: str) -> None:
        try:
            self.feed(html[: html.rfind(">") + 1])  # of a tag without end a browser makes nothing
            self.close()
        except (AssertionError, ValueError) as error:
            self.problem = f"the HTML cannot be read beyond line {self._line} ({type(error).__name__})"
        if self._open is not None and self._open.tag != "script":
            self._open.text.append(self.rawdata)  # what the parser keeps back for want of an end tag
            self._end()

    @property
    def _line(self) -> int:
        return self._before + self.getpos()[0]

    def otherwise(self, begin: int) -> None:
        self._within(self.rawdata, begin)

    def _within(self, text: str, begin: int = 0) -> None:
        """It is better to see a script that no browser runs than to miss one that some do."""
        if text.find("<", begin) < 0:
            return
        self._left[0] -= len(text) - begin
        if self._depth >= _DEEPEST or self._left[0] < 0:
            self.problem = "it holds more markup within texts, or deeper, than is read"
            return
        inner = _Reader(self.base, self)
        inner.read(text[begin:])
        self.problem = self.problem or inner.problem
        self.scripts += inner.scripts
        self.forms += inner.forms
        self.links += inner.links

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given: dict[str, str] = {}
        for name, value in attrs:
            given.setdefault(name, value or "")  # of two attributes of one name the first counts
        for name, value in given.items():
            if name.startswith("on") or _JAVASCRIPT.match(without_breaks(value)):
                self._inline(value, self._line)
        if tag in self.CDATA_CONTENT_ELEMENTS:
            self._end()
            self._open = _Open(tag, self._line)
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
            case "iframe" | "frame" | "embed" | "object":
                self._add(self.links, given.get("data" if tag == "object" else "src", ""))
                self._within(given.get("srcdoc", "") if tag == "iframe" else "")
            case "meta":
                self._meta(given.get("http-equiv", "").strip().lower(), given.get("content", ""))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag in self.CDATA_CONTENT_ELEMENTS:
            self.set_cdata_mode(tag)  # HTML knows no empty script: what follows is its text

    def handle_endtag(self, tag: str) -> None:
        if self._open is not None and tag == self._open.tag:
            self._end()

    def handle_data(self, data: str) -> None:
        if self._open is not None:
            self._open.text.append(data)

    def _end(self) -> None:
        opened, self._open = self._open, None
        if opened is None:
            return
        text = "".join(opened.text)
        if opened.tag != "script":
            self._within(text)
        elif opened.kind not in _NOT_RUN:
            self._inline(text, opened.line, _MAPPED if opened.kind == "importmap" else IMPORT)

    def _inline(self, text: str, line: int, imports: re.Pattern[bytes] = IMPORT) -> None:
        if text.strip():
            content = text.encode("utf-8", "replace")
            found = imported(content, self.base, imports)
            self.scripts.append(ScriptElement(INLINE, "", "", line, hashes(content), found))

    def _script(self, given: dict[str, str]) -> None:
        source = next((given[name] for name in ("src", "href", "xlink:href") if name in given), None)
        if source is not None:
            self._loaded(source, given, self._line)
            self._open = None
        elif self._open is not None:
            self._open.kind = given.get("type", "").strip().lower()

    def _meta(self, kind: str, content: str) -> None:
        if kind == "content-security-policy":
            self.policies.append(content)
        elif kind == "refresh" and (leads := _REFRESH.match(content)):
            self._add(self.links, leads[1])

    def _link(self, given: dict[str, str]) -> None:
        kinds = given.get("rel", "").lower().split()
        if "stylesheet" in kinds:
            self._add(self.styles, given.get("href", ""))
        elif "modulepreload" in kinds or ("preload" in kinds and given.get("as", "").lower() == "script"):
            self._loaded(given.get("href", ""), given, self._line)

    def _loaded(self, src: str, given: dict[str, str], line: int) -> None:
        url = absolute(self.base, src)
        self.scripts.append(ScriptElement(src.strip(), url, given.get("integrity", "").strip(), line))

    def _form(self, action: str, method: str) -> None:
        self.forms.append(FormElement(absolute(self.base, action) if action else self.base, method.lower() or "get"))

    def _add(self, found: list[str], address: str) -> None:
        if made := absolute(self.base, address):
            found.append(made)
