"""A small service that keeps the process contract of a release; `BEHAVIOUR` among its settings spoils it."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys

from aiohttp import web

BEHAVIOUR = os.environ.get("BEHAVIOUR", "good")


def notify(message: str) -> None:
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message.encode(), path)


def log(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


async def main() -> int:
    draining = False
    log(f"starts with the greeting {os.environ['GREETING']!r}")
    if BEHAVIOUR == "crash on start":
        log("cannot open the till")
        return 7

    async def answer(request: web.Request) -> web.Response:
        response = web.json_response(
            {
                "release": os.environ["RELEASE_ID"],
                "greeting": os.environ["GREETING"],
                "public_url": os.environ["PUBLIC_URL"],
                "variables": sorted(os.environ),
            }
        )
        if draining:
            response.force_close()
        return response

    async def ready(request: web.Request) -> web.Response:
        status = 503 if BEHAVIOUR == "never ready" else 200
        return web.json_response({"release": os.environ["RELEASE_ID"], "database": "ok"}, status=status)

    async def die(request: web.Request) -> web.Response:
        os._exit(3)

    app = web.Application()
    app.router.add_get("/health/ready", ready)
    app.router.add_get("/die", die)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, keepalive_timeout=5)
    await runner.setup()

    context = None
    if "TLS_CERT" in os.environ:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(os.environ["TLS_CERT"], os.environ["TLS_KEY"])
    if os.environ.get("LISTEN_PID") == str(os.getpid()):
        listening = socket.socket(fileno=3)
    else:
        listening = socket.create_server(("127.0.0.1", int(os.environ["PORT"])))
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    site = web.SockSite(runner, listening, ssl_context=context, backlog=4096)
    await site.start()
    if BEHAVIOUR != "never ready":
        notify("READY=1")
    if BEHAVIOUR == "dies when ready":
        return 5
    await told.wait()
    if BEHAVIOUR == "never stops":
        await asyncio.Event().wait()
    await site.stop()
    draining = True
    notify("STOPPING=1")
    # A connection in its TLS handshake is not among the server's yet.
    await asyncio.sleep(float(os.environ.get("HANDSHAKE_GRACE", "0.2")))
    while True:
        if runner.server is None or not runner.server.connections:
            break
        await asyncio.sleep(0.02)
    await runner.cleanup()
    return 0


sys.exit(asyncio.run(main()))
