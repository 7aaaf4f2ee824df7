"""The shop, wired: every part gets what it works with, every path its handler."""

from __future__ import annotations

import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from aiohttp import ClientSession, web, web_response, web_urldispatcher
from aiohttp.typedefs import Handler, Middleware

from . import logs
from .answers import busy, problem, source
from .audit import Audit
from .clock import Clock
from .config import WEBHOOK_PATH, Config, Course
from .drain import KEEPALIVE_S, Connections
from .events import Desk
from .gateway import GatewayClient
from .health import Health
from .limits import RateLimit
from .metrics import Metrics
from .pages import CSP, Pages, maintenance, notice
from .payments import Payments
from .seams import Seams
from .security import Security
from .settling import Settler
from .store import Store
from .switches import MAINTENANCE, PROOF_HEADER, Switches
from .webhooks import Webhooks

_HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cache-Control": "no-store",
}
_HSTS = "max-age=31536000; includeSubDomains"
vars(web_response)["SERVER_SOFTWARE"] = "shop"  # what aiohttp cannot parse it answers itself, with its version


async def _expect(request: web.Request) -> None:
    """`Expect: 100-continue` is answered; what else is expected is refused, and not repeated."""
    if request.headers.get("Expect", "").lower() != "100-continue":
        raise web.HTTPExpectationFailed
    await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    request.writer.output_size = 0


vars(web_urldispatcher)["_default_expect_handler"] = _expect  # aiohttp's own answers 500 to bytes that are no text
_OPEN = ("/api/", "/health/", "/metrics", "/assets/")
"""What maintenance leaves open; new payments are refused where they are made."""


@dataclass(frozen=True)
class Shop:
    """A shop ready to be served. `background` are the loops that run beside the requests."""

    app: web.Application
    seams: Seams
    payments: Payments
    webhooks: Webhooks
    settler: Settler
    background: Mapping[str, Callable[[], Awaitable[None]]]


def build(
    config: Config,
    seams: Seams,
    courses: Mapping[str, Course],
    pages: Pages,
    store: Store,
    http: ClientSession,
    connections: Connections,
    clock: Clock,
) -> Shop:
    """Wires the shop; nothing runs yet."""

    def limit() -> RateLimit:
        return RateLimit(clock.monotonic, seams.limits.burst, seams.limits.per_second)

    metrics = Metrics()
    switches = Switches(config.shared_dir)
    gateway = GatewayClient(config, http)
    settler = Settler(config, store, gateway, metrics, seams.same_cents)
    payments = Payments(config, seams, courses, store, gateway, metrics, switches, limit(), clock)
    webhooks = Webhooks(config, seams, Desk(store, settler, clock.monotonic), metrics, limit(), clock)
    health = Health(config, store, gateway, connections, seams.says_ready, switches, clock)

    async def scrape(_request: web.Request) -> web.Response:
        return web.Response(body=metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})

    inner = [made(clock.monotonic) for made in seams.middlewares]
    security = Security(metrics, clock.now, (config.app_id, config.api_secret, config.webhook_secret))
    app = web.Application(
        middlewares=[_guard(connections, clock), security.middleware(), _doors(switches, config), *inner]
    )
    app.on_response_prepare.append(_finish(config, connections))
    app.add_routes(
        [
            web.post("/api/payments", payments.create),
            web.get("/api/payments/{reference}", payments.read),
            web.get("/api/enrolments/{reference}", payments.enrolment),
            web.post(WEBHOOK_PATH, webhooks.receive),
            web.get("/health/live", health.live),
            web.get("/health/ready", health.ready),
            web.get("/metrics", scrape),
            *(web.get(address, pages.get) for address in pages.addresses),
            *seams.routes({"webhook": webhooks.receive, "create": payments.create}),
        ]
    )
    audit = Audit(store, gateway, security, lambda: clock.now().timestamp())
    return Shop(app, seams, payments, webhooks, settler, {"settler": settler.run, "audit": audit.run})


def runner(shop: Shop, shutdown_timeout_s: float = 1.0) -> web.AppRunner:
    """Serves the shop once it is set up and something listens."""
    return web.AppRunner(
        shop.app,
        access_log=None,
        handle_signals=False,
        auto_decompress=False,
        keepalive_timeout=KEEPALIVE_S,
        lingering_time=2.0,
        shutdown_timeout=shutdown_timeout_s,
    )


def _guard(connections: Connections, clock: Clock) -> Middleware:
    """Outermost: whatever goes wrong inside becomes an answer that tells a stranger nothing, and one log line."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        connections.spoke(request)
        began = clock.monotonic()
        try:
            response = await handler(request)
        except web.HTTPException as error:
            response = _plain(request, error)
        except sqlite3.OperationalError as error:
            logs.error("store.busy", exception=type(error).__name__)
            response = busy("the shop is busy", 2)
        except Exception:  # nothing a request does may take the process with it
            logs.error("request.crashed", exc_info=True, path=request.path[:200])
            response = problem(500, "something went wrong")
        took_ms = round((clock.monotonic() - began) * 1000, 1)
        logs.info(
            "request",
            method=request.method[:20],
            path=request.path[:200],
            status=response.status,
            took_ms=took_ms,
            source=source(request),
        )
        return response

    return guard


def _doors(switches: Switches, config: Config) -> Middleware:
    @web.middleware
    async def doors(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith(_OPEN) and switches.closed(MAINTENANCE, request.headers.get(PROOF_HEADER)):
            return maintenance(config.shared_dir / "maintenance.html")
        return await handler(request)

    return doors


def _finish(config: Config, connections: Connections) -> Callable[[web.Request, web.StreamResponse], Awaitable[None]]:
    """Puts the security headers on every response, and says goodbye while this release ends."""
    headers = dict(_HEADERS)
    if config.tls_cert is not None:
        headers["Strict-Transport-Security"] = _HSTS

    async def finish(_request: web.Request, response: web.StreamResponse) -> None:
        for name, value in headers.items():
            response.headers.setdefault(name, value)
        response.headers["Server"] = "shop"
        if connections.draining:
            response.headers["Connection"] = "close"
            response.force_close()

    return finish


def _plain(request: web.Request, error: web.HTTPException) -> web.Response:
    """A 404, 405 or the like without aiohttp's own wording; `Allow` goes with a 405."""
    if request.path.startswith("/api/") or error.status == 405:
        response = problem(error.status, error.reason.lower())
    else:
        response = notice(error.status, error.reason, "The courses are on the first page of this site.")
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response
