"""iKhokha's wire format, held against the published vectors and against JavaScript itself."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateways import ikhokha_wire as wire

SECRET = "sandbox-secret-0123456789abcdef"
WEBHOOK_PATH = "/api/ikhokha/webhook"
WEBHOOK = b'{"paylinkID":"2zh1zj6y8xpb0g3","status":"SUCCESS","externalTransactionID":"T1","responseCode":"00"}'
WEBHOOK_SIGNATURE = "d0687a232fa6716991c269f4d105c16bc4b70905feb6d601ff44868383a2969d"

VECTORS = [
    (
        wire.PAYMENT_PATH,
        '{"entityID":"E1","amount":10000,"currency":"ZAR","externalTransactionID":"T1",'
        '"urls":{"callbackUrl":"https://ex.test/cb"}}',
        "3b96bfb23e1eaf1b7908ef5bb0a633418d72cbd51cbc45067ab6df726e4844fd",
    ),
    (
        wire.PAYMENT_PATH,
        r"""{"description":"Thabo's \"café\" \\ <a&b>"}""",
        "3dd219e5d7424efcbeeef8aeb9c767fad4d16f255126c986c71aa2db3a750c53",
    ),
    (f"{wire.STATUS_PATH}/2zh1zj6y8xpb0g3", "", "081ac198038ff317b609f659b2c44127814c9c95d104c997dc326d5efae679c0"),
    (wire.HISTORY_PATH, "", "7d20d3084e1d718713faa4d4658718c8a4844ae3c85a91755d6f59049396c314"),
    (WEBHOOK_PATH, WEBHOOK.decode(), WEBHOOK_SIGNATURE),
    (
        wire.PAYMENT_PATH,
        r'{"callbackUrl":"https:\/\/ex.test\/cb"}',
        "7fba395f25c6d3dbf9fcf5377e93c5093a9ecfe7d7ad55c77b0a790412658c0e",
    ),
    (
        wire.PAYMENT_PATH,
        '{"callbackUrl":"https://ex.test/cb"}',
        "4f30be5777101815125498d9d9848936d78c10e3d1c8549cdb35539e120cb892",
    ),
]
CASES = json.loads(Path(__file__).with_name("canonical_cases.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize(("path", "body", "signature"), VECTORS)
def test_the_published_vectors_are_signed_and_verified(path: str, body: str, signature: str) -> None:
    """A request is signed exactly as the published algorithm signs it."""
    assert wire.sign(SECRET, path, body) == signature
    assert wire.sign(f"\n {SECRET} ", path, body) == signature
    is_canonical = wire.canonical(body.encode()) in (body.encode(), None)
    assert wire.verify_request(SECRET, path, body.encode(), signature).accepted is is_canonical


def test_a_body_that_is_not_canonical_is_verified_over_its_canonical_form() -> None:
    """The signature of the canonical form is accepted for other bytes of the same value, and said to differ."""
    verified = wire.verify_request(SECRET, wire.PAYMENT_PATH, VECTORS[5][1].encode(), VECTORS[6][2])
    assert verified == wire.Verified(True, "the signature fits", VECTORS[6][1].encode(), raw_differs=True)


def test_a_webhook_member_text_is_not_signed() -> None:
    """A webhook with a member `text` has the signature it has without, and what was verified leaves it out."""
    body = WEBHOOK[:-1] + b',"text":"x"}'
    verified = wire.verify(SECRET, WEBHOOK_PATH, body, WEBHOOK_SIGNATURE)
    assert verified.accepted
    assert verified.body == WEBHOOK
    assert not wire.verify_request(SECRET, WEBHOOK_PATH, body, WEBHOOK_SIGNATURE).accepted


@pytest.mark.parametrize(
    "signature",
    [
        None,
        "",
        b"",
        WEBHOOK_SIGNATURE.upper(),
        f"{WEBHOOK_SIGNATURE}\n",
        f" {WEBHOOK_SIGNATURE}",
        WEBHOOK_SIGNATURE[:-1],
        WEBHOOK_SIGNATURE + "0",
        "0" * 64,
        "\u0661" * 64,
        "\ud800" * 64,
        b"\xff" * 64,
        f"sha256={WEBHOOK_SIGNATURE}",
    ],
)
def test_only_the_exact_signature_is_accepted(signature: str | bytes | None) -> None:
    """Anything but the 64 lower-case hex characters of the right signature is refused."""
    assert not wire.verify(SECRET, WEBHOOK_PATH, WEBHOOK, signature).accepted
    assert wire.verify(SECRET, WEBHOOK_PATH, WEBHOOK, WEBHOOK_SIGNATURE.encode()).accepted


@pytest.mark.parametrize("change", ["secret", "path", "amount", "empty", "order"])
def test_whatever_is_signed_cannot_be_changed(change: str) -> None:
    """Another secret, path, value or order of members is refused, and so is an empty webhook."""
    secret = "another-secret-0123456789" if change == "secret" else SECRET
    path = "/api/other" if change == "path" else WEBHOOK_PATH
    body = {
        "amount": WEBHOOK.replace(b"SUCCESS", b"FAILURE"),
        "empty": b"",
        "order": json.dumps(dict(reversed(json.loads(WEBHOOK).items()))).encode(),
    }.get(change, WEBHOOK)
    signature = wire.sign(SECRET, WEBHOOK_PATH) if change == "empty" else WEBHOOK_SIGNATURE
    verified = wire.verify(secret, path, body, signature)
    assert not verified.accepted
    assert verified.body == b""


def test_without_a_secret_nothing_is_signed_or_accepted() -> None:
    """An empty secret never verifies, not even what was signed with an empty key."""
    with pytest.raises(ValueError, match="empty secret"):
        wire.sign("  ", WEBHOOK_PATH, "{}")
    assert not wire.verify("", WEBHOOK_PATH, WEBHOOK, WEBHOOK_SIGNATURE).accepted


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_canonical_prints_what_javascript_prints(text: str, expected: str | None) -> None:
    """`canonical` is JSON.stringify(JSON.parse(text)); the table was made by node."""
    found = wire.canonical(text.encode())
    assert found == (None if expected is None else expected.encode())


@pytest.mark.parametrize(
    "body",
    [
        b"\xef\xbb\xbf{}",
        b"\xff",
        b'"\xc3"',
        b'"\xed\xa0\x80"',
        b"[" * 66 + b"]" * 66,
        b"[" * 100_000,
        b"1" * 5000 + b"x",
    ],
)
def test_what_has_no_canonical_form_is_refused_without_an_error(body: bytes) -> None:
    """A byte order mark, broken UTF-8 and bodies nested without end have no canonical form."""
    assert wire.canonical(body) is None
    assert not wire.verify(SECRET, WEBHOOK_PATH, body, WEBHOOK_SIGNATURE).accepted


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec="utf-16", categories=None)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.just("7"), inner, max_size=4),
    max_leaves=12,
)


@given(st.binary() | json_values.map(lambda v: json.dumps(v).encode()))
def test_canonical_is_total_and_settles_at_once(body: bytes) -> None:
    """Any bytes give a canonical form or none, and the canonical form of a canonical form is itself."""
    once = wire.canonical(body)
    if once is not None:
        assert wire.canonical(once) == once
        json.loads(once)


@given(st.text(), st.text(st.characters(categories=None)), st.binary(), st.none() | st.text() | st.binary())
def test_verification_is_total(secret: str, path: str, body: bytes, signature: str | bytes | None) -> None:
    """Nothing that arrives makes verification raise, and none of it is accepted by chance."""
    assert not wire.verify(secret, path, body, signature).accepted
    assert not wire.verify_request(secret, path, body, signature).accepted


@given(
    st.dictionaries(st.text(max_size=8), st.text(st.characters(categories=None)) | st.integers(-(2**53) + 1, 2**53 - 1))
)
def test_what_is_serialised_is_canonical_already(value: dict[str, object]) -> None:
    """A client that signs what `serialise` prints is verified by raw bytes and by canonical form alike."""
    text = wire.serialise(value)
    assert wire.canonical(text.encode()) == text.encode()
    verified = wire.verify_request(SECRET, wire.PAYMENT_PATH, text.encode(), wire.sign(SECRET, wire.PAYMENT_PATH, text))
    assert verified.accepted
    assert not verified.raw_differs


pieces = st.sampled_from(
    ['"a"', '"b":', '"a":', '"text":', '"7":', '"_":"x",', ":", ",", "{", "}", "0", "-1", "-0", "1.0", "1e2", " ", '"',
     "123456789012345", "9007199254740993", "true", "null", '"\u00e9"', '"\\u0061"', '"\x7f"', '"\u2028"', '"\t"', "\\",
     '"a,"', '","', '":"', "[]"]
)  # fmt: skip
member_names = st.sampled_from(["a", "b", "_b9", "text", "7", "a:", "", "__proto__"])
member_values = (
    st.text(max_size=6)
    | st.sampled_from(['","a":"', ",", '"', "{", "\\"])
    | st.integers()
    | st.booleans()
    | st.none()
    | st.floats()
)


def as_object(members: list[tuple[str, object]]) -> str:
    """JSON as a sender may print it, a name twice included."""
    return "{" + ",".join(f"{json.dumps(k)}:{json.dumps(v, ensure_ascii=False)}" for k, v in members) + "}"


@settings(max_examples=300)
@given(
    st.lists(pieces, max_size=12).map("".join)
    | st.lists(st.tuples(member_names, member_values), max_size=5).map(as_object)
)
@example('{"a":-0}')
@example('{"a":999999999999999,"b":-999999999999999}')
@example('{"a":90071992547409931}')
def test_what_is_seen_to_be_canonical_at_a_glance_is(text: str) -> None:
    """The short way and the whole way, which white space at the front enforces, agree: form, verdict and `text`."""
    body = text.encode("utf-8", "surrogatepass")
    assert wire.canonical(body) == wire.canonical(b" " + body)
    for verify in (wire.verify, wire.verify_request):
        canonical = wire.canonical(body) or b"{}"
        signature = wire.sign(SECRET, WEBHOOK_PATH, canonical)
        short, whole = (verify(SECRET, WEBHOOK_PATH, b, signature) for b in (body, b" " + body))
        assert (short.accepted, short.body) == (whole.accepted, whole.body)


@given(st.text(st.characters(codec="utf-8")), st.binary())
def test_every_byte_counts(path: str, body: bytes) -> None:
    """The signature is plain HMAC over the escaped path and body, for any bytes, as the protocol's page says it."""
    escaped = re.sub(rb"[\\\"']", lambda found: b"\\" + found[0], path.encode() + body)
    assert wire.sign(SECRET, path, body) == hmac.new(SECRET.encode(), escaped, hashlib.sha256).hexdigest()
