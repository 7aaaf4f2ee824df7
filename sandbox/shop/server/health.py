"""Whether the process lives, and whether the release may take traffic."""

from __future__ import annotations

import asyncio
import sqlite3

from aiohttp import web

from .answers import answer
from .clock import Clock
from .config import Config
from .drain import Connections
from .gateway import GatewayClient, GatewayError
from .schemes import working
from .store import Store
from .switches import TEST_MODE, Switches

_REMEMBERED_S = 2.0
_ASK_WITHIN_S = 1.5


class Health:
    """The gateway is asked when somebody asks us, at most every 2 s: a quiet shop is quiet."""

    def __init__(
        self,
        config: Config,
        store: Store,
        gateway: GatewayClient,
        connections: Connections,
        says_ready: bool,
        switches: Switches,
        clock: Clock,
    ) -> None:
        self._config = config
        self._store = store
        self._gateway = gateway
        self._connections = connections
        self._says_ready = says_ready
        self._switches = switches
        self._clock = clock
        self._asking = asyncio.Lock()
        self._gateway_said = ("", float("-inf"))

    async def live(self, _request: web.Request) -> web.Response:
        return answer(200, {"release": self._config.release})

    async def ready(self, _request: web.Request) -> web.Response:
        """A gateway outage shows in the body and not in the status: it is no reason to take a release back.

        `test_mode` says whether the switch of that name is obeyed, so that whoever turned it can tell.
        """
        webhook = working(self._config, self._clock.now().timestamp())
        parts = {"database": await self._database(), "webhook": webhook, "configuration": self._own()}
        status = 200 if all(said == "ok" for said in parts.values()) else 503
        said = {**parts, "gateway": await self._gateway_answers(), "test_mode": "on" if self._tests() else "off"}
        return answer(status, {"release": self._config.release, **said})

    def _tests(self) -> bool:
        return self._switches.closed(TEST_MODE, None)

    def _own(self) -> str:
        """Settings are judged before the process listens; what is left is whether it still takes requests."""
        if self._connections.draining:
            return "this release is ending"
        return "ok" if self._says_ready else "this release never becomes ready"

    async def _database(self) -> str:
        try:
            await self._store.run(self._store.ping)
        except sqlite3.Error as error:
            return f"the orders cannot be written to ({type(error).__name__})"
        return "ok"

    async def _gateway_answers(self) -> str:
        async with self._asking:
            said, at = self._gateway_said
            if self._clock.monotonic() - at < _REMEMBERED_S:
                return said
            try:
                await self._gateway.answers(_ASK_WITHIN_S)
                said = "ok"
            except GatewayError as error:
                said = str(error)
            self._gateway_said = (said, self._clock.monotonic())
            return said
