"""What answers plain http where the service answers https: nothing, a redirect, or a page."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from checks.facts.tls import origin, place
from checks.judging import Unjudged
from pipeline.contracts import World
from pipeline.verdict import inconclusive

if TYPE_CHECKING:
    import httpx


class Door(StrEnum):
    """How a port answers a connection. `NO_ROUTE`: this machine has no way there, e.g. no IPv6."""

    OPEN = "open"
    REFUSED = "refused"
    SILENT = "silent"
    NO_ROUTE = "no route"


@dataclass(frozen=True)
class Heard:
    """The answer to GET `path` over plain http: a status and the header Location, or status 0 and what happened.

    `unknown`: nothing can be concluded from it. `at` is the address asked, '' where the name leads to one alone.
    """

    path: str
    status: int
    location: str
    said: str
    unknown: bool = False
    at: str = ""

    @property
    def asked(self) -> str:
        return f"GET {self.path}" + (f" at {self.at}" if self.at else "")


@dataclass(frozen=True)
class PlainHttp:
    """Port `port` of `host`, asked without TLS. `doors` by address; `heard` is empty unless one of them is open."""

    host: str
    https_port: int
    port: int
    doors: Mapping[str, Door]
    heard: tuple[Heard, ...]


async def ask(world: World, port: int | None, within: float) -> PlainHttp:
    """Asks for every path of the contract, at most `within` s each. Raises Unjudged when the service itself is away."""
    host, https_port = place(world.addresses.service)
    if Door.OPEN not in (await _doors(host, https_port, within)).values():
        raise Unjudged(
            inconclusive(
                f"{origin(host, https_port)}: nothing answers there, so what plain http does says nothing",
                "Start the service and the proxy in front of it, see that this machine can reach them, then run again.",
            )
        )
    plain = port or plain_port(https_port)
    doors = await _doors(host, plain, within)
    opened = [address for address, door in doors.items() if door is Door.OPEN]
    named = _bracketed(host) if plain == 80 else f"{_bracketed(host)}:{plain}"
    async with world.http() as client:
        heard = await asyncio.gather(
            *(
                _get(client, f"http://{_bracketed(address)}:{plain}", named, path, within)
                for address in opened
                for path in paths(world)
            )
        )
    if len(opened) > 1:
        heard = [replace(one, at=at) for one, at in zip(heard, (a for a in opened for _ in paths(world)), strict=True)]
    return PlainHttp(host, https_port, plain, doors, tuple(heard))


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def plain_port(https_port: int) -> int:
    """Where plain http would be served beside https on this port: 80 beside 443, else the very same port."""
    return 80 if https_port == 443 else https_port


def paths(world: World) -> tuple[str, ...]:
    """The pages on the way to a payment and the endpoints that take part in one; a GET of them changes nothing."""
    contract = world.spec.contract
    returns = (contract.success_page, contract.failure_page, contract.cancel_page)
    return tuple(dict.fromkeys((*contract.pages, contract.create, contract.webhook, *returns)))


async def _doors(host: str, port: int, within: float) -> dict[str, Door]:
    try:
        async with asyncio.timeout(within):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return {}
    addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
    return dict(zip(addresses, await asyncio.gather(*(_door(a, port, within) for a in addresses)), strict=True))


async def _door(address: str, port: int, within: float) -> Door:
    try:
        async with asyncio.timeout(within):
            _, writer = await asyncio.open_connection(address, port)
    except ConnectionRefusedError:
        return Door.REFUSED
    except TimeoutError:
        return Door.SILENT
    except OSError:
        return Door.NO_ROUTE
    writer.transport.abort()
    return Door.OPEN


async def _get(client: httpx.AsyncClient, base: str, named: str, path: str, within: float) -> Heard:
    import httpx

    try:
        async with (
            asyncio.timeout(within),
            client.stream("GET", base + path, headers={"Host": named}, timeout=within) as answer,
        ):
            if "cf-mitigated" in answer.headers:  # Cloudflare asks whether we are a person: a browser may be served
                said = f"answered {answer.status_code} with a challenge in place of what others get"
                return Heard(path, answer.status_code, "", said, unknown=True)
            location = answer.headers.get("location", "")
            return Heard(path, answer.status_code, location, f"answered {answer.status_code}")
    except (TimeoutError, httpx.TimeoutException):
        return Heard(path, 0, "", f"gave no answer within {within:g} s", unknown=True)
    except httpx.RemoteProtocolError as error:
        # no status line, or no byte at all: it speaks no HTTP; a status line with a damaged head may still be a page
        nothing = any(said in str(error) for said in ("status line", "without sending a response"))
        return Heard(path, 0, "", "answered nothing that is HTTP" if nothing else f"answered: {error}", not nothing)
    except (httpx.ReadError, httpx.WriteError) as error:
        return Heard(path, 0, "", f"ended the connection ({type(error).__name__})")
    except httpx.HTTPError as error:
        return Heard(path, 0, "", f"could not be asked ({type(error).__name__}: {error})", unknown=True)
