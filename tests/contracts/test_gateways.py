"""What every signing scheme of the table promises; see contracts.SigningScheme."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateways import GATEWAYS, SCHEMES
from pipeline.clock import SystemClock
from pipeline.contracts import SigningScheme
from pipeline.spec import Contract
from tests.sandbox.gateway_rig import settings

AT = datetime(2025, 3, 1, 12, tzinfo=UTC)
PATH = "/api/webhooks/ikhokha"
BODY = b'{"paylinkID":"2zh1zj6y8xpb0g3","status":"SUCCESS","externalTransactionID":"T1","responseCode":"00"}'
SECRET, OTHER = "made-up-secret-0123456789abcdef", "another-made-up-secret-0123456789"
TOLERANCE_S = 300.0
LEAVES_THE_PATH_OUT = {"standard-webhooks"}
"""Schemes of others, whose definition does not sign the path."""

schemes = pytest.mark.parametrize("name", sorted(SCHEMES))


def scheme(name: str, secret: str = SECRET, tolerance_s: float = TOLERANCE_S) -> SigningScheme:
    values = settings("https://127.0.0.1:1", VITE_IKHOKHA_API_SECRET=secret, VITE_IKHOKHA_WEBHOOK_SECRET=secret)
    return SCHEMES[name](values, tolerance_s)


def accepts(judge: SigningScheme, headers: Mapping[str, str], *, path: str = PATH, body: bytes = BODY) -> bool:
    found = judge.verify(path, body, headers, at=AT)
    assert found.reason
    assert found.accepted or found.body == b""
    return found.accepted


@schemes
def test_what_is_signed_is_accepted(name: str) -> None:
    """The signed bytes come back to act on, whatever the case of the header names, and with a query the same."""
    one = scheme(name)
    signed = one.sign(PATH, BODY, at=AT)
    assert signed == one.sign(f"{PATH}?x=1", BODY, at=AT)
    assert signed.body == BODY
    for headers in (signed.headers, {k.upper(): v for k, v in signed.headers.items()}, {**signed.headers, "x": "y"}):
        found = one.verify(PATH, signed.body, headers, at=AT)
        assert (found.accepted, found.body) == (True, BODY)


@schemes
def test_the_headers_of_a_scheme_are_the_ones_it_sends(name: str) -> None:
    """Signature, sender and time stand in lower-case headers of these names, and nothing is sent beside an ID."""
    one = scheme(name)
    named = {part for part in dataclasses.astuple(one.headers) if part}
    sent = set(one.sign(PATH, BODY, at=AT).headers)
    assert one.headers.signature in sent
    assert named <= sent <= named | {"webhook-id"}
    assert all(part == part.lower() for part in named)


@schemes
def test_nothing_that_is_signed_can_be_changed(name: str) -> None:
    """Another path, one other byte of the body, another secret or header value is refused, and so is its absence."""
    one = scheme(name)
    headers = one.sign(PATH, BODY, at=AT).headers
    assert accepts(one, headers, path="/another") is (name in LEAVES_THE_PATH_OUT)
    for at in range(len(BODY)):
        assert not accepts(one, headers, body=BODY[:at] + bytes([BODY[at] ^ 1]) + BODY[at + 1 :])
    assert not accepts(one, headers, body=b"")
    assert not accepts(scheme(name, OTHER), headers)
    assert not accepts(one, {})
    for header, value in headers.items():
        for changed in ("", value + "x", value[:-1], f"{value}, {value}", value.swapcase() + "0", "\u0661", "\ud800"):
            assert not accepts(one, {**headers, header: changed}), (header, changed)
        assert not accepts(one, {**headers, header.upper(): value}), "a header twice"
        # The sender's name is not signed: without it nothing is claimed.
        gone = {k: v for k, v in headers.items() if k != header}
        assert accepts(one, gone) is (header == one.headers.sender)


@schemes
def test_a_time_stamp_is_good_within_the_tolerance_it_was_given(name: str) -> None:
    """A scheme with a time stamp refuses what is older or further ahead than its tolerance; another looks at none."""
    for tolerance in (TOLERANCE_S, 10.0):
        one = scheme(name, tolerance_s=tolerance)
        signed = one.sign(PATH, BODY, at=AT)
        for off, within in ((tolerance, True), (-tolerance, True), (tolerance + 2, False), (-tolerance - 2, False)):
            at = AT + timedelta(seconds=off)
            found = one.verify(PATH, signed.body, signed.headers, at=at)
            assert found.accepted is (within or not one.headers.time), off
    later = one.sign(PATH, BODY, at=AT + timedelta(days=1))
    assert (later.headers != signed.headers) is bool(one.headers.time)


@schemes
def test_a_scheme_with_another_secret_is_the_same_scheme(name: str) -> None:
    """`with_secret` signs and verifies with the other secret alone; an empty one is an error."""
    one = scheme(name)
    other = one.with_secret(OTHER)
    assert type(other) is type(one)
    assert other.headers == one.headers
    signed = other.sign(PATH, BODY, at=AT)
    assert signed == scheme(name, OTHER).sign(PATH, BODY, at=AT)
    assert accepts(other, signed.headers)
    assert not accepts(one, signed.headers)
    assert not accepts(other, one.sign(PATH, BODY, at=AT).headers)
    for empty in ("", " \n"):
        with pytest.raises(ValueError, match=r"secret|signs nothing"):
            one.with_secret(empty)


@schemes
def test_without_a_secret_nothing_is_signed_or_accepted(name: str) -> None:
    """A scheme made from empty settings is made, refuses everything and signs nothing."""
    empty = scheme(name, " ")
    assert not accepts(empty, scheme(name).sign(PATH, BODY, at=AT).headers)
    with pytest.raises(ValueError, match=r"secret"):
        empty.sign(PATH, BODY, at=AT)


@schemes
def test_nothing_secret_is_shown(name: str) -> None:
    """Neither the scheme, what it signs nor a refusal repeats the secret."""
    one = scheme(name).with_secret(f"whsec_{'QUJDREVG' * 4}")
    signed = one.sign(PATH, BODY, at=AT)
    shown = repr((one, signed, one.verify("/x", BODY[1:], signed.headers, at=AT)))
    for spelling in ("QUJDREVG", "ABCDEF", "whsec_"):
        assert spelling not in shown


anything = st.text(st.characters(categories=None), max_size=20)


@schemes
@given(data=st.data())
def test_verification_is_total(name: str, data: st.DataObject) -> None:
    """Any path, bytes and headers give a verdict, and none is accepted by chance."""
    one = scheme(name)
    good = one.sign(PATH, BODY, at=AT).headers
    headers = data.draw(
        st.dictionaries(st.sampled_from([*good, *(k.title() for k in good)]) | anything, anything, max_size=5)
        | st.dictionaries(st.sampled_from(sorted(good)), anything, min_size=1).map(lambda some: {**good, **some})
    )
    path, body = data.draw(anything), data.draw(st.binary() | st.just(BODY))
    changed = {k.lower(): v for k, v in headers.items() if k.lower() in good} != good
    assert not one.verify(path, body, headers, at=AT).accepted or not changed


@schemes
@given(body=st.binary(), path=anything)
def test_any_bytes_can_be_signed(name: str, body: bytes, path: str) -> None:
    """The prober signs what no gateway would; whether a receiver takes it is the receiver's to say."""
    signed = scheme(name).sign(path, body, at=AT)
    assert signed.body == body
    assert signed.headers


def test_every_scheme_a_spec_may_name_is_in_the_table() -> None:
    """`contract.webhook_scheme` allows exactly the schemes there are, and a gateway verifies by the one named."""
    allowed = Contract.model_json_schema()["properties"]["webhook_scheme"]["enum"]
    assert sorted(allowed) == sorted(SCHEMES)
    for name in allowed:
        contract = Contract(webhook_scheme=name)
        for make in GATEWAYS.values():
            values = settings("https://127.0.0.1:1", VITE_IKHOKHA_WEBHOOK_SECRET=SECRET)
            gateway = make(values, lambda: None, SystemClock(), contract)
            assert type(gateway.scheme) is type(scheme(name))
