"""pages.csp_strict: every page on the way to a payment is under an enforced Content-Security-Policy that holds."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from checks.csp.evaluator import Evaluation, evaluate
from checks.csp.policy import Policy, missing, policies
from checks.csp.verdicts import counting
from checks.facts.page_problems import Problem, shown, verdict_of
from checks.facts.pages import Page, pages
from checks.facts.recorded import Recorded, change, recorded
from checks.facts.web import visiting
from checks.judging import or_finding, unless_finding
from pipeline.contracts import Check, When, World
from pipeline.spec import NoParams
from pipeline.verdict import Finding, Verdict

_NAME = "pages.csp_strict"
_HEADER = "content-security-policy"


@dataclass(frozen=True)
class Guarded:
    """A page and the policies its headers enforce, each with its evaluation. The other two protect less or nothing."""

    path: str
    policies: tuple[Policy, ...]
    evaluations: tuple[Evaluation, ...]
    report_only: int
    meta: int
    stale: int = 0
    """How many nonces came twice: the page was asked for again, and a nonce is for one answer."""


@dataclass(frozen=True)
class Policies:
    pages: tuple[Guarded, ...]
    unread: tuple[str, ...]
    told: str = ""
    recorded: Recorded | None = None
    asked: str = ""


@or_finding
async def gather(world: World, _params: NoParams) -> Policies:
    found = await pages(world)
    judged = await asyncio.to_thread(evaluated, found.pages, found.unread)
    with_nonces = [page for page in found.pages if _nonces(policies(page.served.all(_HEADER)))]
    async with visiting(world) as visitor:
        again = await asyncio.gather(*(visitor.ask(page.served.url, largest=_NO_BODY) for page in with_nonces))
    stale = {
        page.path: len(_nonces(policies(page.served.all(_HEADER))) & _nonces(policies(second.all(_HEADER))))
        for page, second in zip(with_nonces, again, strict=True)
    }
    guarded = tuple(replace(page, stale=stale.get(page.path, 0)) for page in judged.pages)
    lost = [
        f"{page.path}: whether its nonce is another each time, for a second look met this: {second}"
        for page, second in zip(with_nonces, again, strict=True)
        if second.status != page.served.status
    ]
    unread = (*judged.unread, *lost)
    recalled = recorded(world, _NAME)
    return replace(judged, pages=guarded, unread=unread, told=found.told, recorded=recalled, asked=found.asked)


_NO_BODY = 0


def _nonces(enforced: Iterable[Policy]) -> set[str]:
    values = (value for policy in enforced for sources in policy.directives.values() for value in sources)
    return {value for value in values if value.lower().startswith("'nonce-")}


def evaluated(found: tuple[Page, ...], unread: tuple[str, ...]) -> Policies:
    """Runs the evaluator over what the pages' headers enforce. Blocking; whatever the headers hold, it answers."""
    enforced = [policies(page.served.all(_HEADER)) for page in found]
    texts = [policy.text for page in enforced for policy in page]
    known = dict(zip(texts, evaluate(texts), strict=True))
    return Policies(
        tuple(
            Guarded(
                page.path,
                mine,
                tuple(known[policy.text] for policy in mine),
                len(page.served.all(f"{_HEADER}-report-only")),
                len(page.document.meta_policies),
            )
            for page, mine in zip(found, enforced, strict=True)
        ),
        unread,
    )


@unless_finding
def judge(fact: Policies, _params: NoParams) -> Finding:
    policies_now = {page.path: ", ".join(without_nonces(p.text) for p in page.policies) for page in fact.pages}
    changed = change(policies_now, fact.recorded, "policies")
    measured: dict[str, object] = {"policies": policies_now, "changed": dict(changed.keys)}
    problems = [problem for page in fact.pages for problem in _problems(page)]
    fine = f"{fact.told} under an enforced Content-Security-Policy without a known way around it{changed}"
    return verdict_of(problems, fact.unread, fine, measured, fact.asked)


def without_nonces(policy: str) -> str:
    """A policy as it stays the same from answer to answer."""
    return re.sub(r"'nonce-[^']*'", "'nonce-...'", policy, flags=re.IGNORECASE)


def _problems(page: Guarded) -> Iterator[Problem]:
    if not page.policies:
        yield Problem(Verdict.FAIL, page.path, *_unguarded(page))
        return
    for evaluation in page.evaluations:
        if evaluation.problem:
            yield Problem(
                Verdict.INCONCLUSIVE, page.path, f"a policy was not evaluated: {evaluation.problem}", _SHORTER
            )
        for directive, source in evaluation.unreadable:
            what = f"Content-Security-Policy {directive}: {shown(source)} is no source that a browser can read"
            yield Problem(Verdict.ADVICE, page.path, what, f"Correct or remove that source of {directive}.")
    for weakness, verdict in counting(page.policies, page.evaluations):
        value = f" {shown(weakness.value)}" if weakness.value else ""
        what = f"Content-Security-Policy {shown(weakness.directive, 40)[1:-1]}{value}: {weakness.description[:240]}"
        yield Problem(verdict, page.path, what, _FIXES.get(weakness.kind, _FIX))
    if page.stale:
        what = "Content-Security-Policy: the nonce is the same in two answers, so whoever reads one page can use it"
        yield Problem(Verdict.FAIL, page.path, what, _FIXES["NONCE_LENGTH"])
    for rule, found in missing(page.policies):
        what = f"Content-Security-Policy {rule.directive}: {found}; {rule.why}"
        yield Problem(Verdict.FAIL, page.path, what, f"Add `{rule.fix}` to the policy.")
    for policy in page.policies:
        for dropped in policy.dropped:
            what = f"Content-Security-Policy: browsers ignore a directive: {dropped}"
            yield Problem(Verdict.ADVICE, page.path, what, "Write each directive once, in ASCII.")


def _unguarded(page: Guarded) -> tuple[str, str]:
    if page.report_only:
        return (
            "only Content-Security-Policy-Report-Only is sent, which stops nothing; an enforced one is required",
            _SEND,
        )
    if page.meta:
        what = (
            "the policy is only in a meta element; it is weaker: frame-ancestors and reporting do not work there, and "
            "what stands above it is not under it; a header is required"
        )
        return what, _SEND
    return "no Content-Security-Policy header; an enforced one is required", _SEND


_SEND = (
    "Send `Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'` with every page, then allow what "
    "the page needs beyond that."
)
_SHORTER = "Shorten the policy and keep it to ASCII; then it can be evaluated."
_FIX = "Correct that directive of the policy."
_FIXES = {
    "MISSING_DIRECTIVES": "Add the directive, or begin the policy with `default-src 'none'`.",
    "SCRIPT_UNSAFE_INLINE": "Move inline scripts into files, or allow each by its hash or a fresh nonce, and remove "
    "'unsafe-inline'.",
    "SCRIPT_UNSAFE_EVAL": "Build without eval (Vite: no `devtool: eval` and no runtime template compiler), and remove "
    "'unsafe-eval'.",
    "SCRIPT_UNSAFE_HASHES": "Use addEventListener in place of onclick attributes, and remove 'unsafe-hashes'.",
    "PLAIN_URL_SCHEMES": "Name the hosts that scripts come from in place of a whole scheme.",
    "PLAIN_WILDCARD": "Name the hosts in place of `*`.",
    "SCRIPT_ALLOWLIST_BYPASS": "Serve that script yourself, or allow it by hash or nonce in place of its host.",
    "OBJECT_ALLOWLIST_BYPASS": "Set `object-src 'none'`.",
    "NONCE_LENGTH": "Make a nonce of at least 128 random bits for every response.",
    "SRC_HTTP": "Use https in place of http in that source.",
    "MISSING_SEMICOLON": "Put a semicolon before the next directive.",
    "INVALID_KEYWORD": "Put single quotes around keywords, nonces and hashes, and spell them as CSP does.",
    "UNKNOWN_DIRECTIVE": "Correct the directive's name, or remove it.",
}

CHECK = Check(
    name=_NAME,
    promise="Every page on the way to a payment is under an enforced Content-Security-Policy that holds.",
    rows=("G3", "G7", "T7"),
    gather=gather,
    judge=judge,
    params=NoParams,
    network=True,
    when=When.LIVE,
    why="A script that somebody else put into the page reads what customers type.",
    pci=("6.4.3", "11.6.1"),
    looks_at="The Content-Security-Policy headers of the pages that `contract:` names and of those they link to that "
    "hold a form or a script. Google's csp_evaluator looks for ways around each policy; form-action, frame-ancestors "
    "and base-uri are required as well. Policies in meta elements and Report-Only ones do not count. "
    "What changed since the last passing run is told.",
    fix="Begin with `default-src 'none'` and allow what the page needs. Use hashes or nonces in place of "
    "'unsafe-inline'. Send the policy as a header, from the service or the proxy in front.",
    see_it_fail="Serve a page with `script-src 'unsafe-inline'`, or with Content-Security-Policy-Report-Only alone.",
)
