"""The static site: read once at start, served from memory, so that no request can reach any other file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self';"
    " base-uri 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
)
_NOTICE_STYLE = (
    "body{font:1.1rem/1.5 system-ui,sans-serif;max-width:34rem;margin:15vh auto;padding:0 1rem;"
    "color:#1b1b1b;background:#fff}h1{font-size:1.6rem}"
)


def _csp(style: bytes) -> str:
    """For a page whose only style is `style`, in the page itself."""
    digest = base64.b64encode(hashlib.sha256(style).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )


_NOTICE_CSP = _csp(_NOTICE_STYLE.encode())
RETRY_AFTER_S = 120


@dataclass(frozen=True)
class Page:
    content: bytes
    content_type: str
    cache_control: str


class Pages:
    def __init__(self, public: Path) -> None:
        self._pages: Mapping[str, Page] = dict(_read(public))

    @property
    def addresses(self) -> list[str]:
        return list(self._pages)

    async def get(self, request: web.Request) -> web.Response:
        """The page at one of `addresses`."""
        page = self._pages[request.path]
        headers = {"Content-Type": page.content_type, "Cache-Control": page.cache_control}
        return web.Response(body=page.content, headers=headers)


def notice(status: int, title: str, text: str, **headers: str) -> web.Response:
    """A page that needs no other file. `title` and `text` are ours, never a visitor's."""
    content = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{_NOTICE_STYLE}</style></head>'
        f"<body><main><h1>{title}</h1><p>{text}</p></main></body></html>"
    )
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    named |= {"Content-Security-Policy": _NOTICE_CSP, "Cache-Control": "no-store"}
    return web.Response(status=status, text=content, content_type="text/html", headers=named)


def maintenance(kept: Path) -> web.Response:
    """The page that the pipeline keeps at `kept`, else the shop's own."""
    page = _kept(kept)
    if style := re.search(rb"<style>(.*?)</style>", page, re.DOTALL):
        retry = re.search(rb'<meta name="retry-after" content="([0-9]{1,6})">', page)
        headers = {
            "Content-Type": "text/html; charset=utf-8",
            "Content-Security-Policy": _csp(style[1]),
            "Retry-After": str(int(retry[1]) if retry else RETRY_AFTER_S),
            "Cache-Control": "no-store",
        }
        return web.Response(status=503, body=page, headers=headers)
    return notice(
        503,
        "We will be back shortly",
        "The shop is closed for maintenance. Payments that were made are safe, and their courses will be active.",
        Retry_After=str(RETRY_AFTER_S),
    )


def _kept(path: Path) -> bytes:
    """A whole page, or nothing."""
    try:
        page = path.read_bytes()
    except OSError:
        return b""
    return page if page.rstrip().endswith(b"</html>") else b""


def _read(public: Path) -> list[tuple[str, Page]]:
    pages = []
    for file in sorted(public.rglob("*")):
        content_type = _TYPES.get(file.suffix)
        if not file.is_file() or content_type is None:
            continue
        path = "/" + file.relative_to(public).as_posix()
        hashed = path.startswith("/assets/")
        cache = "public, max-age=31536000, immutable" if hashed else "no-cache"
        address = "/" if path == "/index.html" else path.removesuffix(".html")
        pages.append((address, Page(file.read_bytes(), content_type, cache)))
    return pages
