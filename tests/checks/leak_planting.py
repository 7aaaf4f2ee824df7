"""What the leak tests share: secrets, encoders that are not ours, and a bundle as Vite makes them."""

from __future__ import annotations

import base64
import html
import json
import random
import re
import subprocess
import urllib.parse
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.checks.worlds import random_text

chance = random.SystemRandom()
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def letters(length: int, dice: random.Random = chance) -> str:
    return "".join(dice.choices(_LETTERS, k=length))


def twenty_secrets() -> dict[str, str]:
    """By setting: hex, Base64 with its signs, passwords with everything that is escaped somewhere, short, not ASCII."""
    shapes: tuple[Callable[[], str], ...] = (
        random_text,
        lambda: base64.b64encode(chance.randbytes(33)).decode(),
        lambda: f'{letters(9)}/<{letters(4)}&"{letters(9)}',
        lambda: letters(10),
        lambda: f"{letters(8)}é{letters(9)}€{letters(5)}",
    )
    return {f"SECRET_{number}": shapes[number % len(shapes)]() for number in range(20)}


def pieces(value: str, size: int) -> list[str]:
    return [value[at : at + size] for at in range(0, len(value), size)]


def part(value: str) -> str:
    """Twelve characters of a long value, from its middle."""
    return value[5:17] if len(value) >= 17 else value


ENCODERS: Mapping[str, Callable[[str], bytes]] = {
    "raw": lambda value: value.encode(),
    "hex": lambda value: value.encode().hex().encode(),
    "HEX": lambda value: value.encode().hex().upper().encode(),
    "url": lambda value: urllib.parse.quote(value, safe="").encode(),
    "url, small": lambda value: re.sub("%..", lambda hit: hit[0].lower(), urllib.parse.quote(value)).encode(),
    "url, every byte": lambda value: "".join(f"%{byte:02X}" for byte in value.encode()).encode(),
    "reversed": lambda value: value[::-1].encode(),
    "base64": lambda value: base64.b64encode(value.encode()),
    "base64 after one byte": lambda value: base64.b64encode(b"u" + value.encode() + b"zz"),
    "base64 after two bytes": lambda value: base64.b64encode(b"u:" + value.encode() + b"z"),
    "urlsafe base64": lambda value: base64.urlsafe_b64encode(b"a" + value.encode()),
    "wrapped base64": lambda value: b"\n".join(re.findall(b".{1,9}", base64.b64encode(value.encode()))),
    "utf-16": lambda value: value.encode("utf-16-le"),
    "x escapes": lambda value: "".join(f"\\x{byte:02x}" for byte in value.encode()).encode(),
    "u escapes": lambda value: "".join(f"\\u{ord(char):04X}" for char in value).encode(),
    "json": lambda value: json.dumps(value).encode(),
    "json for a script": lambda value: json.dumps(value).replace("/", r"\/").replace("<", r"\u003C").encode(),
    "js": lambda value: ("'" + value.replace("\\", "\\\\").replace("'", "\\'").replace("</", r"<\/") + "'").encode(),
    "html": lambda value: html.escape(value).encode(),
    "html decimal": lambda value: "".join(f"&#{ord(char)};" for char in value).encode(),
    "html hex": lambda value: "".join(f"&#x{ord(char):x};" for char in value).encode(),
    "string literals": lambda value: " + ".join(json.dumps(piece) for piece in pieces(value, 4)).encode(),
    "single characters": lambda value: ",".join(f"'{char}'" for char in value).encode(),
    "lines": lambda value: "\n".join(pieces(value, 3)).encode(),
    "part": lambda value: part(value).encode(),
    "base64 of a part": lambda value: base64.b64encode(part(value).encode()),
}


def vite_like(folder: Path, kilobytes: int = 400, dice: random.Random = chance) -> None:
    """A bundle as Vite leaves it: a page, hashed chunks of minified script, styles, and maps that carry the sources.

    `dice`: with a seed, the same bundle each time. Patterns are only likely: one bundle in many raises a false alarm.
    """
    assets = folder / "assets"
    assets.mkdir(parents=True)
    for number in range(4):
        name = f"index-{letters(8, dice)}.js"
        sources, script = {}, []
        while sum(map(len, script)) < kilobytes * 1024 // 8:
            source, minified = _module(len(sources), dice)
            sources[f"../../src/module{len(sources)}.ts"] = source
            script.append(minified)
        (assets / name).write_text(f"{''.join(script)}\n//# sourceMappingURL={name}.map\n")
        told = {
            "version": 3, "file": name, "names": [letters(6, dice) for _ in range(200)], "sources": list(sources),
            "sourcesContent": list(sources.values()), "mappings": _mappings(kilobytes * 40, dice),
        }  # fmt: skip
        (assets / f"{name}.map").write_text(json.dumps(told))
        image = base64.b64encode(dice.randbytes(3000)).decode()
        (assets / f"style{number}.css").write_text(f".a{{width:50%;background:url(data:image/png;base64,{image})}}")
    (folder / "index.html").write_text(
        f'<!doctype html><script type="module" src="/assets/{name}"></script><p>Caf&eacute; &#x2F; &amp;</p>'
    )
    (folder / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + dice.randbytes(20_000) + bytes(20_000))


def _module(number: int, dice: random.Random) -> tuple[str, str]:
    words = [letters(dice.randint(1, 9), dice) for _ in range(8)]
    table = ",".join(f"\\u{dice.randrange(65536):04x}-\\x{dice.randrange(256):02x}" for _ in range(20))
    key = "import.meta.env.VITE_IKHOKHA_API_URL"
    source = (
        f"// module {number}\nexport const {words[0]} = (a: string): string => {{\n\tconst b = `${{a}}/{words[1]}`\n"
        f"\treturn fetch({key} + \"/{words[2]}\" +\n\t\t'{words[3]}').then(r => r.json())\n}}\n"
        f"export const re{number} = /[{table}]/u\nexport const sha = '{dice.randbytes(20).hex()}'\n"
    )
    minified = (
        f'const {words[4]}=e=>{{const t=`${{e}}/{words[1]}`;return fetch("https://api.ikhokha.com/{words[2]}"+"{words[3]}")'
        f'.then(n=>n.json())}},re{number}=/[{table}]/u,s="{dice.randbytes(20).hex()}",q=["{words[5]}","{words[6]}"];'
    )
    return source, minified


def _mappings(length: int, dice: random.Random) -> str:
    """Segments of four or five letters, between commas and semicolons, as the format has them."""
    segments = (letters(dice.choice((4, 4, 5)), dice) + dice.choice((",", ",", ",", ";")) for _ in range(length // 5))
    return "".join(segments)


def git(folder: Path, *words: str, stdin: bytes = b"") -> str:
    """A git command in a repository of a test's own, whoever runs the test. What it prints, without the line's end."""
    who = ("-c", "user.name=Tester", "-c", "user.email=tester@example.com", "-c", "commit.gpgsign=false")
    done = subprocess.run(["git", "-C", str(folder), *who, *words], check=True, capture_output=True, input=stdin)
    return done.stdout.decode().strip()
