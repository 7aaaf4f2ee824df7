"""Policies as browsers read them: split at commas and semicolons, the first directive of a name counts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

_SPACE = " \t\n\f\r"
"""ASCII white space as CSP has it; `str.split()` would split at more."""


@dataclass(frozen=True)
class Policy:
    """One enforced policy. `text` is what a browser keeps of it; `dropped` are directives that it ignores."""

    text: str
    directives: Mapping[str, tuple[str, ...]]
    dropped: tuple[str, ...]


def policies(headers: Iterable[str]) -> tuple[Policy, ...]:
    """The policies of several Content-Security-Policy headers; all are enforced, so each can only forbid more.

    Source: CSP Level 3, "parse a serialized CSP" and "parse a response's Content Security Policies". Never raises.
    """
    parts = (part for header in headers for part in header.split(","))
    return tuple(policy for part in parts if (policy := _policy(part)).directives or policy.dropped)


def _policy(serialized: str) -> Policy:
    kept: dict[str, tuple[str, ...]] = {}
    dropped: list[str] = []
    for token in serialized.split(";"):
        words = _words(token)
        if not words:
            continue
        name = words[0].lower()
        if not token.isascii() or "\0" in token:
            dropped.append(f"{_printable(name)}: it holds a character beyond ASCII")
        elif name in kept:
            dropped.append(f"{name}: it is given twice and the first counts")
        else:
            kept[name] = tuple(words[1:])
    text = "; ".join(" ".join((name, *values)) for name, values in kept.items())
    return Policy(text, kept, tuple(dropped))


def _words(token: str) -> list[str]:
    for space in _SPACE[1:]:
        token = token.replace(space, " ")
    return [word for word in token.split(" ") if word]


def _printable(text: str) -> str:
    return text[:40].encode("ascii", "backslashreplace").decode()


@dataclass(frozen=True)
class Rule:
    """A directive that csp_evaluator does not ask for and a payment page needs; `fix` is what to write."""

    directive: str
    why: str
    fix: str


RULES = (
    Rule("form-action", "a form put into the page could send what a customer types anywhere", "form-action 'self'"),
    Rule(
        "frame-ancestors", "another site could show the page in a frame and guide the clicks", "frame-ancestors 'none'"
    ),
    Rule("base-uri", "a base element put into the page would redirect every relative address", "base-uri 'none'"),
)

_ANYWHERE = re.compile(r"(?:https?|data):|(?:https?://)?\*(?::(?:\d+|\*))?/?", re.IGNORECASE)


def missing(policies: Sequence[Policy]) -> Iterable[tuple[Rule, str]]:
    """The rules that no policy keeps, each with what was found. One policy that keeps a rule is enough."""
    for rule in RULES:
        given = [policy.directives[rule.directive] for policy in policies if rule.directive in policy.directives]
        open_to = [" ".join(values) for values in given if any(_ANYWHERE.fullmatch(v) for v in values)]
        if len(open_to) == len(given):
            yield rule, f"`{rule.directive} {open_to[0][:80]}` allows any host" if open_to else "it is missing"
