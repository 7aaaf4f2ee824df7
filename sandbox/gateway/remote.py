"""The client of the control interface. It loads no server, so that a command which only asks starts quickly."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

LATEST = 1000
"""Deliveries shown unless ?limit= says otherwise."""
_NO_AUTHORITIES = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""The control interface speaks plain HTTP on loopback; httpx would read this machine's authorities for each call."""


class Control:
    """A client of the control interface. Raises httpx.HTTPError when the gateway is away or refuses."""

    def __init__(self, address: str, token: str) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {token}"}

    async def set_faults(self, **members: object) -> Mapping[str, Any]:
        """Switches faults by name, e.g. `outage=True`; the others stay as they are. Returns all of them."""
        faults: Mapping[str, Any] = await self._ask("POST", "/faults", members)
        return faults

    async def clear_faults(self) -> None:
        await self._ask("DELETE", "/faults")

    async def faults(self) -> Mapping[str, Any]:
        faults: Mapping[str, Any] = await self._ask("GET", "/faults")
        return faults

    @asynccontextmanager
    async def holding(self, **members: object) -> AsyncIterator[None]:
        """These faults for as long as this lasts, beside those that are switched on. They end with the connection, so
        whoever holds them takes them along, however it ends.
        """
        async with self._client() as client:
            asked = client.stream("POST", self._address + "/held", json=members)
            async with asked as response:
                if response.is_error:
                    await response.aread()
                response.raise_for_status()
                signs = response.aiter_raw()  # kept: were it collected, the connection would go with it
                await anext(signs)  # they are on
                try:
                    yield
                finally:
                    await self._ask("DELETE", f"/held/{response.headers['X-Held']}")  # they are off

    async def payments(self) -> Sequence[Mapping[str, Any]]:
        payments: Sequence[Mapping[str, Any]] = await self._ask("GET", "/payments")
        return payments

    async def deliveries(self, limit: int = LATEST) -> Sequence[Mapping[str, Any]]:
        deliveries: Sequence[Mapping[str, Any]] = await self._ask("GET", f"/deliveries?limit={limit}")
        return deliveries

    async def _ask(self, method: str, path: str, body: Mapping[str, object] | None = None) -> Any:
        async with self._client() as client:
            response = await client.request(method, self._address + path, json=body)
        response.raise_for_status()
        return response.json()

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(verify=_NO_AUTHORITIES, trust_env=False, timeout=10, headers=self._headers)
