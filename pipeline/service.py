"""The deployed service as the pipeline speaks to it, by the contract in the spec."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from pipeline.errors import ServiceGarbled, ServiceUnreachable
from pipeline.secrets import Secret

if TYPE_CHECKING:
    from pipeline.spec import Contract

PROOF_HEADER = "X-Tollgate-Proof"


@dataclass(frozen=True)
class Answer:
    """What the service answered. `took_ms` is the whole exchange, in milliseconds."""

    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    took_ms: float

    def json(self) -> Any:
        """Raises ServiceGarbled when the body is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            found = self.body[:80].decode("utf-8", "replace")
            raise ServiceGarbled(
                f"{self.method} {self.path}: answered {self.status} in {self.took_ms:g} ms with {found!r}, "
                "JSON is expected",
                "Check that the path under `contract:` is the service's own.",
            ) from None

    def member(self, name: str) -> Any:
        """A member of the JSON object answered. Raises ServiceGarbled when it is missing."""
        value = self.json()
        if not isinstance(value, dict) or name not in value:
            raise ServiceGarbled(
                f"{self.method} {self.path}: the answer {self.status}, after {self.took_ms:g} ms, "
                f"has no member `{name}`",
                "See docs/service.md for the contract.",
            )
        return value[name]


class Service:
    """Reads and writes through the service's own HTTP interface; it raises ServiceUnreachable and never retries.

    `client` makes an httpx client whose base is not set; `base` is the service's address without a trailing slash.
    """

    def __init__(self, base: str, contract: Contract, client: Callable[[], httpx.AsyncClient]) -> None:
        self.base = base.rstrip("/")
        self.contract = contract
        self._client = client

    async def request(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
    ) -> Answer:
        """One request on a connection of its own, so that the release that takes new connections answers."""
        begun = time.perf_counter()
        try:
            async with self._client() as client:
                response = await client.request(
                    method, self.base + path, content=content, headers=headers, timeout=timeout
                )
        except httpx.HTTPError as error:
            raise self.unreachable(method, path, begun, error) from error
        took_ms = since_ms(begun)
        return Answer(method, path, response.status_code, dict(response.headers), response.content, took_ms)

    def unreachable(self, method: str, path: str, begun: float, error: Exception) -> ServiceUnreachable:
        """`begun`: when it was asked, by `time.perf_counter`."""
        return ServiceUnreachable(
            f"{method} {self.base}{path}: no answer after {since_ms(begun):g} ms ({type(error).__name__}: {error})",
            "Look at the service's own log; `./inv status` shows what runs.",
        )

    async def create_payment(
        self, reference: str, amount: int, course: str, *, currency: str = "ZAR", proof: Secret | None = None
    ) -> Answer:
        """Asks for a payment of `amount` cents. `proof` opens the door of a service whose payments are switched off."""
        body = {"reference": reference, "amount": amount, "currency": currency, "course": course}
        headers = {"Content-Type": "application/json"}
        if proof is not None:
            headers[PROOF_HEADER] = proof.reveal()
        return await self.request("POST", self.contract.create, content=json.dumps(body).encode(), headers=headers)

    async def payment(self, reference: str) -> Answer:
        return await self.request("GET", self.contract.payment.replace("{reference}", quote(reference, safe="")))

    async def enrolment(self, reference: str) -> Answer:
        return await self.request("GET", self.contract.enrolment.replace("{reference}", quote(reference, safe="")))

    async def activations(self, reference: str) -> int:
        """How often the enrolment of `reference` was activated; 0 when the service never saw it."""
        answer = await self.enrolment(reference)
        if answer.status == 404:
            return 0
        count = answer.member("activations")
        if answer.status != 200 or not isinstance(count, int):
            raise ServiceGarbled(
                f"GET {answer.path}: answered {answer.status}, activations {count!r}; a count is expected"
            )
        return count

    async def post_webhook(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        return await self.request(
            "POST",
            self.contract.webhook,
            content=body,
            headers={"Content-Type": "application/json", **headers},
        )


def since_ms(begun: float) -> float:
    return round((time.perf_counter() - begun) * 1000, 1)
