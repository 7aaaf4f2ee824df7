"""Single handshakes: each tells how it ended and never raises for what the other side does.

Connections are asyncio's own and not threads: a check that runs out of time leaves nothing behind.
"""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from pathlib import Path

from checks.facts.tls_hello import Attempt, Outcome, answer, hello
from checks.judging import Unjudged
from pipeline.verdict import inconclusive

_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME, which the ssl module does not name
_ANY_CIPHER = "ALL:!aNULL:!eNULL:@SECLEVEL=0"  # without a certificate there would be nothing to see
_LONGEST_ANSWER = 16 * 1024


@dataclass(frozen=True)
class Verified:
    """How a handshake that verifies ended. `code` is OpenSSL's number for the mistake, 0 when it has none.

    `unsent` are certificates (DER) that this machine put between those sent and the authority they end at.
    """

    ok: bool
    code: int
    said: str
    unsent: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Shaken:
    """`sent` is the chain as sent (DER), leaf first; the leaf alone where this Python has no way to see the rest."""

    attempt: Attempt
    verified: Verified
    sent: tuple[bytes, ...] = ()


def trusting(ca_file: Path | None, *, lenient: bool = False) -> ssl.SSLContext:
    """Verifies as every client here does: by the system's authorities and the environment's own. Raises Unjudged.

    `lenient`: whatever the host name, the time and the strength of keys and hashes.
    """
    context = ssl.create_default_context()
    if ca_file is not None:
        try:
            context.load_verify_locations(cafile=ca_file)
        except (OSError, ssl.SSLError) as error:
            raise Unjudged(
                inconclusive(
                    f"the authorities in {ca_file} cannot be read ({error}), so no certificate can be verified",
                    "Put the authority's certificate there, as PEM, or correct `ca_file` of the environment.",
                )
            ) from error
    elif not context.cert_store_stats()["x509_ca"] and not _has_files(ssl.get_default_verify_paths().capath):
        raise Unjudged(
            inconclusive(
                "this machine trusts no certificate authority at all, so no certificate can be verified",
                "Install the system's authorities (Debian: the package ca-certificates), or name a `ca_file`.",
            )
        )
    if lenient:
        context.check_hostname = False
        context.verify_flags |= _NO_CHECK_TIME
        context.set_ciphers(_ANY_CIPHER)
    return context


def _has_files(folder: str | None) -> bool:
    return folder is not None and Path(folder).is_dir() and any(Path(folder).iterdir())


def accepting(version: ssl.TLSVersion) -> ssl.SSLContext:
    """Speaks one version with anybody: what is sent is to be seen, whatever it is worth."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = version
    context.maximum_version = version
    context.set_ciphers(_ANY_CIPHER)
    return context


async def shake(host: str, port: int, context: ssl.SSLContext, within: float, at: str = "") -> Shaken:
    """One whole handshake, within so many seconds; `at` is the address to connect to in place of looking it up."""
    try:
        async with asyncio.timeout(within):
            _, writer = await asyncio.open_connection(at or host, port, ssl=context, server_hostname=host)
    except ssl.SSLCertVerificationError as error:
        return _not(Outcome.OFFERED, error.verify_message, error.verify_code)
    except ssl.SSLError as error:
        refused = "ALERT" in (error.reason or "") or error.reason == "UNSUPPORTED_PROTOCOL"
        return _not(Outcome.REFUSED if refused else Outcome.UNCLEAR, f"the handshake failed: {error.reason or error}")
    except (OSError, UnicodeError) as error:
        return _not(*_without(error, within))
    try:
        tls = writer.get_extra_info("ssl_object")
        sent = _chain(tls, "get_unverified_chain") or (tls.getpeercert(binary_form=True) or b"",)
        used = _chain(tls, "get_verified_chain") if context.verify_mode is ssl.CERT_REQUIRED else ()
        said = f"a handshake came about with {tls.cipher()[0]}"
        unsent = tuple(der for der in used[:-1] if der not in sent)
        return Shaken(Attempt(Outcome.OFFERED, said), Verified(True, 0, said, unsent), sent)
    finally:
        writer.transport.abort()


def _not(outcome: Outcome, said: str, code: int = 0) -> Shaken:
    return Shaken(Attempt(outcome, said), Verified(False, code, said))


def _without(error: OSError | UnicodeError, within: float) -> tuple[Outcome, str]:
    if isinstance(error, TimeoutError):
        return Outcome.UNCLEAR, f"it gave no answer within {within:g} s"
    if isinstance(error, ConnectionRefusedError):
        return Outcome.AWAY, "the connection was refused"
    if isinstance(error, ConnectionError):
        return Outcome.CLOSED, "it closed the connection without an answer"
    return Outcome.AWAY, f"no connection ({error})"


def _chain(tls: ssl.SSLObject, method: str) -> tuple[bytes, ...]:
    """A chain in DER; () where this Python cannot tell. Public since 3.13, and there all the same since 3.10."""
    public = getattr(tls, method, None)
    if public is not None:
        return tuple(public())
    inner = getattr(getattr(tls, "_sslobj", None), method, None)
    return tuple(ssl.PEM_cert_to_DER_cert(c.public_bytes()) for c in inner() or ()) if inner is not None else ()


async def knock(host: str, port: int, version: int, random: bytes, within: float, at: str = "") -> Attempt:
    """Whether the server would speak an old version: one ClientHello, and what comes back within so many seconds."""
    try:
        async with asyncio.timeout(within):
            reader, writer = await asyncio.open_connection(at or host, port)
            try:
                writer.write(hello(version, host, random))
                return await _answered(reader, version)
            finally:
                writer.transport.abort()
    except (OSError, UnicodeError) as error:
        return Attempt(*_without(error, within))


async def _answered(reader: asyncio.StreamReader, version: int) -> Attempt:
    data = b""
    while len(data) < _LONGEST_ANSWER:
        found = answer(data, version)
        if found is not None:
            return found
        more = await reader.read(4096)
        if not more:
            said = "it closed the connection in the middle of its answer" if data else "it closed the connection"
            return Attempt(
                Outcome.UNCLEAR if data else Outcome.CLOSED, f"{said} without an answer" if not data else said
            )
        data += more
    return Attempt(Outcome.UNCLEAR, f"it answered with more than {_LONGEST_ANSWER} bytes before any ServerHello")
