"""Where client code reads public variables: JavaScript, TypeScript and the frameworks' files, read as text. Pure.

Comments do not count. What stands in strings and templates does, for bundlers replace there, too. This is no parser: a
comment sign in a template inside a template, or in a regular expression after a word, may be taken wrongly.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from enum import StrEnum

PREFIXES = ("VITE_", "NEXT_PUBLIC_", "REACT_APP_", "NUXT_PUBLIC_", "GATSBY_", "EXPO_PUBLIC_", "PUBLIC_")
"""What bundlers put into public JavaScript by the name alone."""
SUFFIXES = (".js", ".jsx", ".ts", ".tsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".svelte", ".astro", ".html")
_MARKUP = (".vue", ".svelte", ".astro", ".html")
_CONFIG = re.compile(r"(?:^|/)(?:[\w-]+\.)?(?:vite|vitest|astro|nuxt|svelte)\.config(?:\.[\w-]+)?\.[mc]?[jt]s$")

_STRING = r""""(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|`(?:[^`\\]|\\[\s\S])*`"""
_REGEX = r"[(,=:\[!&|?{};]\s*/(?![*/])(?:[^\\/\[\n]|\\.|\[(?:[^\]\\\n]|\\.)*\])+/"
_COMMENT = r"(?<!:)//[^\n]*|/\*[\s\S]*?\*/"
_UNCLOSED = r"(?P<unclosed>(?:/\*|<!--)[\s\S]*)"
"""A comment that does not end, or what was taken for one: the rest counts as code, and is read once only."""
_SCRIPT = re.compile(rf"(?P<kept>{_STRING}|{_REGEX})|{_COMMENT}|{_UNCLOSED.replace('|<!--', '')}")
_PAGE = re.compile(rf"(?P<kept>{_STRING}|{_REGEX})|{_COMMENT}|<!--[\s\S]*?-->|{_UNCLOSED}")

_ENV = r"(?:import\s*\.\s*meta\s*\.\s*env|process\s*\.\s*env)"
_META = r"import\s*\.\s*meta\s*\.\s*env\b"
_MEMBER = re.compile(rf"{_ENV}\s*(?:(?:\?\s*)?\.\s*(\w+)|(?:\?\s*\.\s*)?\[\s*[\"'`](\w+)[\"'`]\s*\])")
_COMPUTED = re.compile(rf"{_META}\s*(?:\?\s*\.\s*)?\[(?!\s*[\"'`]\w+[\"'`]\s*\])")
_WHOLE = re.compile(rf"{_META}(?!\s*(?:\?\s*)?[.\[])(?!\s*\??\s*:)")
_TAKEN_APART = re.compile(rf"\{{([^{{}}]*)\}}\s*=\s*{_ENV}\b(?!\s*(?:\?\s*)?[.\[])")
_IMPORTED = re.compile(r"import\s*\{([^{}]*)\}\s*from\s*[\"']\$env/static/public[\"']")
_DYNAMIC_SVELTE = re.compile(r"\$env/dynamic/public[\"']")
_IN_PAGE = re.compile(r"%(\w+)%")
_NAME = re.compile(r"\w+")

_LOAD_ALL = re.compile(r"\bloadEnv\s*\([^;{}]*,\s*(?:\"\"|''|``)\s*,?\s*\)")
_DEFINE = re.compile(r"\bdefine\s*:\s*")
_DEFINE_ALL = re.compile(
    r"[\"'`](?:process|import\.meta|globalThis\.process)\.env[\"'`]\s*:"
    r"(?!\s*(?:\{\s*\}|[\"'`]\{\s*\}[\"'`]|JSON\s*\.\s*stringify\s*\(\s*\{\s*\}))"
)
_PREFIX_OPTION = re.compile(r"\benvPrefix\s*:\s*(\[[^\]]*\]|\"[^\"]*\"|'[^']*'|`[^`]*`)")
_QUOTED = re.compile(r"\"([^\"]*)\"|'([^']*)'|`([^`]*)`")
_MAPS = re.compile(r"\bsourcemap\s*:\s*(?:true\b|[\"'`]inline[\"'`])")


class Trap(StrEnum):
    """What was found, as it is printed."""

    READ = "reads a secret"
    COMPUTED = "takes a variable by a computed name, which puts every public variable into the bundle"
    WHOLE = "takes import.meta.env as a whole, which puts every public variable into the bundle"
    DEFINE_ALL = "defines process.env as a whole, which puts the build's environment into the bundle"
    DEFINE_SECRET = "puts a secret into the bundle by `define`"
    NO_PREFIX = "makes every variable public: envPrefix is empty"
    LOAD_ALL = "loads every variable, whatever its prefix; nothing of it may reach `define`"
    MAPS = "makes source maps that browsers load; 'hidden' makes them for error reports only"


@dataclass(frozen=True)
class Sighting:
    """One trap. `name` is the variable, '' where it is not about one."""

    trap: Trap
    file: str
    line: int
    name: str = ""

    def __str__(self) -> str:
        told = f"{self.trap}: {self.name}" if self.name else str(self.trap)
        return f"{self.file}:{self.line} {told}"


def without_comments(source: str, *, markup: bool = False) -> str:
    """The source with blanks in place of comments; every line keeps its number. Total."""

    def blank(match: re.Match[str]) -> str:
        return match[0] if match["kept"] or match["unclosed"] else re.sub(r"[^\n]", " ", match[0])

    return (_PAGE if markup else _SCRIPT).sub(blank, source)


def is_config(file: str) -> bool:
    return _CONFIG.search(file) is not None


def prefixes_of(source: str) -> tuple[str, ...]:
    """The prefixes a configuration sets with envPrefix. Total."""
    options = _PREFIX_OPTION.findall(without_comments(source))
    return tuple("".join(quoted) for option in options for quoted in _QUOTED.findall(option))


def sightings(file: str, source: str, public: Set[str], secret: Set[str]) -> Iterator[Sighting]:
    """Every trap in one file. `public`: names of secrets whose prefix makes them public; `secret`: of all secrets.

    Total: whatever `source` is, nothing is raised.
    """
    text = without_comments(source, markup=file.endswith(_MARKUP))
    found = _in_config(text, secret) if is_config(file) else _in_code(file, text, public)
    for trap, at, name in found:
        yield Sighting(trap, file, 1 + text.count("\n", 0, at), name)


def _in_code(file: str, text: str, public: Set[str]) -> Iterator[tuple[Trap, int, str]]:
    for match in _MEMBER.finditer(text):
        name = match[1] or match[2]
        if name in public:
            yield Trap.READ, match.start(), name
    for pattern in (_TAKEN_APART, _IMPORTED):
        for match in pattern.finditer(text):
            for name in _NAME.findall(match[1]):
                if name in public:
                    yield Trap.READ, match.start(), name
    if file.endswith(".html"):
        for match in _IN_PAGE.finditer(text):
            if match[1] in public:
                yield Trap.READ, match.start(), match[1]
    if _DYNAMIC_SVELTE.search(text):
        for name in sorted(public):
            for match in re.finditer(rf"\benv\s*\.\s*{name}\b", text):
                yield Trap.READ, match.start(), name
    for name in sorted(public):
        if name.startswith("NUXT_PUBLIC_"):
            first, *rest = name.removeprefix("NUXT_PUBLIC_").lower().split("_")
            member = first + "".join(word.capitalize() for word in rest)
            for match in re.finditer(rf"\bpublic\s*(?:\?\s*)?\.\s*{re.escape(member)}\b", text):
                yield Trap.READ, match.start(), name
    yield from ((Trap.COMPUTED, match.start(), "") for match in _COMPUTED.finditer(text))
    yield from ((Trap.WHOLE, match.start(), "") for match in _WHOLE.finditer(text))


def _in_config(text: str, secret: Set[str]) -> Iterator[tuple[Trap, int, str]]:
    for match in _DEFINE_ALL.finditer(text):
        yield Trap.DEFINE_ALL, match.start(), ""
    for match in _DEFINE.finditer(text):
        block = _braced(text, match.end())
        for word in _NAME.finditer(block):
            if word[0] in secret:
                yield Trap.DEFINE_SECRET, match.end() + word.start(), word[0]
        if re.match(r"(?:process\s*\.\s*env|env|loadEnv)\b", block) or re.search(
            r"\.\.\.\s*(?:process\s*\.\s*env|env|loadEnv)\b(?!\s*\.)", block
        ):
            yield Trap.DEFINE_ALL, match.start(), ""
    for match in _PREFIX_OPTION.finditer(text):
        if any(not "".join(quoted) for quoted in _QUOTED.findall(match[1])):
            yield Trap.NO_PREFIX, match.start(), ""
    yield from ((Trap.LOAD_ALL, match.start(), "") for match in _LOAD_ALL.finditer(text))
    yield from ((Trap.MAPS, match.start(), "") for match in _MAPS.finditer(text))


def _braced(text: str, at: int) -> str:
    """The block that begins at `at`, up to its closing brace; without a brace, up to the end of the member."""
    if not text.startswith("{", at):
        end = re.compile(r"[,\n}]").search(text, at)
        return text[at : end.start() if end else len(text)]
    depth = 0
    for index in range(at, len(text)):
        depth += {"{": 1, "}": -1}.get(text[index], 0)
        if depth == 0:
            return text[at : index + 1]
    return text[at:]
