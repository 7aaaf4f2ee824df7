"""Whether the process lives, and whether the release may take traffic."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable

from aiohttp import web

from .answers import answer
from .config import Config
from .drain import Connections
from .faults import Faults
from .gateway import GatewayClient, GatewayError
from .store import Store
from .webhooks import Webhooks

_REMEMBERED_S = 2.0
_ASK_WITHIN_S = 1.5


class Health:
    """The gateway is asked when somebody asks us, at most every 2 s: a quiet shop is quiet."""

    def __init__(
        self,
        config: Config,
        faults: Faults,
        store: Store,
        gateway: GatewayClient,
        webhooks: Webhooks,
        connections: Connections,
        monotonic: Callable[[], float],
    ) -> None:
        self._config = config
        self._faults = faults
        self._store = store
        self._gateway = gateway
        self._webhooks = webhooks
        self._connections = connections
        self._monotonic = monotonic
        self._asking = asyncio.Lock()
        self._gateway_said = ("", float("-inf"))

    async def live(self, _request: web.Request) -> web.Response:
        return answer(200, {"release": self._config.release})

    async def ready(self, _request: web.Request) -> web.Response:
        """A gateway outage shows in the body and not in the status: it is no reason to take a release back."""
        parts = {"database": await self._database(), "webhook": self._webhooks.healthy(), "configuration": self._own()}
        status = 200 if all(said == "ok" for said in parts.values()) else 503
        return answer(status, {"release": self._config.release, **parts, "gateway": await self._gateway_answers()})

    def _own(self) -> str:
        """Settings are judged before the process listens; what is left is whether it still takes requests."""
        if self._connections.draining:
            return "this release is ending"
        return "this release never becomes ready" if self._faults.on("never-ready") else "ok"

    async def _database(self) -> str:
        try:
            await self._store.run(self._store.ping)
        except sqlite3.Error as error:
            return f"the orders cannot be written to ({type(error).__name__})"
        return "ok"

    async def _gateway_answers(self) -> str:
        async with self._asking:
            said, at = self._gateway_said
            if self._monotonic() - at < _REMEMBERED_S:
                return said
            try:
                await self._gateway.answers(_ASK_WITHIN_S)
                said = "ok"
            except GatewayError as error:
                said = str(error)
            self._gateway_said = (said, self._monotonic())
            return said
