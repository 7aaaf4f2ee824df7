"""A shop with Python's standard library alone: makes a link, pays it, takes the webhook. Says name=value."""

import hashlib
import hmac
import json
import os
import re
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

API = "/public-api/v1/api"
env = os.environ
heard: list[dict[str, str]] = []
trust = ssl.create_default_context(cafile=env["CA_FILE"])


def sign(path: str, body: str, secret: str = env["SECRET"]) -> str:
    message = re.sub(r"""([\\"'])""", r"\\\1", path + body)
    return hmac.new(secret.encode(), message.encode(), hashlib.sha256).hexdigest()


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_args: object) -> None:
        return None


opener = urllib.request.build_opener(
    urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust), NoRedirect
)


def fetch(url: str, body: str | None = None, headers: dict[str, str] | None = None) -> tuple[int, str, str]:
    data = None if body is None else body.encode()
    request = urllib.request.Request(url, data, headers or {})  # noqa: S310 - https, made above
    try:
        with opener.open(request, timeout=60) as answer:
            return answer.status, answer.read().decode(), ""
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode(), error.headers.get("Location", "")


def ask(path: str, query: str = "", body: str | None = None, signature: str = "") -> Any:
    headers = {"IK-APPID": env["APP_ID"], "IK-SIGN": signature or sign(path, body or "")}
    if body is not None:
        headers["Content-Type"] = "application/json"
    return json.loads(fetch(env["BASE"] + path + query, body, headers)[1])


class Shop(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        signed = json.dumps(json.loads(body), separators=(",", ":"), ensure_ascii=False)
        said = {}
        for name, text in (("webhook", signed), ("tampered", signed.replace("SUCCESS", "FAILURE"))):
            fits = hmac.compare_digest(sign(self.path.partition("?")[0], text), self.headers["ik-sign"])
            said[name] = "accepted" if fits else "refused"
        said |= {"event": json.loads(body)["status"], "sender": self.headers["ik-appid"]}
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
        tell(**said)
        heard.append(said)

    def log_message(self, *_args: object) -> None:
        pass


def tell(**found: object) -> None:
    sys.stdout.write("".join(f"{name}={value}\n" for name, value in found.items()))


with HTTPServer(("127.0.0.1", 0), Shop) as server:
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(env["CERT_FILE"], env["KEY_FILE"])
    server.socket = served.wrap_socket(server.socket, server_side=True)
    server.timeout = 60
    shop = f"https://127.0.0.1:{server.server_port}"
    order = json.dumps(
        {
            "entityID": env["APP_ID"],
            "amount": 12345,
            "currency": "ZAR",
            "requesterUrl": shop,
            "mode": "live",
            "description": 'Thabo\'s "café" \\ <a&b>',
            "externalTransactionID": env["REFERENCE"],
            "urls": {"callbackUrl": f"{shop}/hook", "successPageUrl": f"{shop}/ok", "failurePageUrl": f"{shop}/no"},
        },
        separators=(",", ":"),
        ensure_ascii=False,
    )
    forged = ask(f"{API}/payment", body=order, signature=sign(f"{API}/payment", order, "wrong"))
    link = ask(f"{API}/payment", body=order)
    status = f"{API}/getStatus/{link['paylinkID']}"
    tell(forged=forged["responseCode"], code=link["responseCode"], id=link["paylinkID"], before=ask(status)["status"])
    tell(page="form" if "<form" in fetch(link["paylinkUrl"])[1] else "none")
    card = urllib.parse.urlencode({"card": "4242 4242 4242 4242", "expiry": "12/34", "cvc": "123", "action": "pay"})
    tell(back=fetch(link["paylinkUrl"], card)[2].removeprefix(shop), after=ask(status)["status"])
    tell(found=ask(f"{API}/getStatus/external", f"?externalReference={env['REFERENCE']}")["paylinkID"])
    days = [f"{datetime.now(UTC) + timedelta(days=off):%Y-%m-%d}" for off in (-1, 1)]
    history = ask(f"{API}/payments/history", "?startDate={}&endDate={}".format(*days))
    tell(listed=sum(payment["paylinkID"] == link["paylinkID"] for payment in history))
    while not heard:
        server.handle_request()
