"""Sends what a curl configuration on stdin says, from an address of this machine: `sender.py ADDRESS CA_FILE`.

It prints the HTTP status. It stands for a curl on another host, which a test cannot have.
"""

from __future__ import annotations

import http.client
import re
import ssl
import sys
from urllib.parse import urlsplit


def main(address: str, ca_file: str, config: str) -> int:
    given = [(name, _plain(value)) for name, value in re.findall(r'^([a-z-]+) = "(.*)"$', config, re.MULTILINE)]
    one = dict(given)
    headers = dict(value.split(": ", 1) for name, value in given if name == "header")
    url = urlsplit(one["url"])
    connection = http.client.HTTPSConnection(
        url.hostname or "",
        url.port,
        timeout=15,
        source_address=(address, 0),
        context=ssl.create_default_context(cafile=ca_file),
    )
    connection.request(one["request"], url.path, one["data-binary"].encode(), headers)
    status = connection.getresponse().status
    connection.close()
    return status


def _plain(value: str) -> str:
    return re.sub(r"\\(.)", lambda escape: {"n": "\n", "r": "\r", "t": "\t"}.get(escape[1], escape[1]), value)


if __name__ == "__main__":
    sys.stdout.write(f"{main(sys.argv[1], sys.argv[2], sys.stdin.read())}\n")
