"""Builds the shop into a folder that runs by itself: `python sandbox/shop/build.py [--out dist]`.

The same sources and settings give the same bytes. Run as a script from anywhere, with the standard library only.
Like Vite, it puts the value of every `import.meta.env.VITE_X` that the script reads into the public bundle.
`SANDBOX_FAULT=name[,name]` builds a release that is faulty on purpose.
"""

from __future__ import annotations

import argparse
import hashlib
import html
import json
import os
import re
import runpy
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
GATEWAYS = HERE.parent.parent / "gateways"
VENDORED = ("ikhokha_wire.py", "standard_webhooks.py")
"""Copied from GATEWAYS in place of the server's own files of these names."""
EVENTS = HERE.parent.parent / "pipeline" / "security_events.py"
PAGES = ("success", "failure", "cancel")

_ENV = re.compile(r"\bimport\.meta\.env\.(VITE_[A-Z0-9_]+)\b")
_LEAK = "\nvoid import.meta.env.VITE_IKHOKHA_API_SECRET;\n"


class BuildFailed(Exception):
    pass


def build(out: Path, env: Mapping[str, str]) -> None:
    """Removes `out` and makes it anew. Raises BuildFailed."""
    faults = _faults(env.get("SANDBOX_FAULT", ""))
    if out.resolve() in (HERE, *HERE.parents):
        raise BuildFailed(f"--out {out}: holds the sources; name a folder of its own")
    shutil.rmtree(out, ignore_errors=True)
    _server(out / "shop")
    courses = json.loads((HERE / "site" / "courses.json").read_text("utf-8"))
    _site(out / "public", courses, faults, env)
    _write(out / "courses.json", json.dumps(courses, indent=1) + "\n")
    _write(out / "faults.json", json.dumps(faults) + "\n")


def _faults(wanted: str) -> list[str]:
    known = runpy.run_path(str(HERE / "server" / "faults.py"))["FAULTS"]
    names = sorted({name.strip() for name in wanted.split(",") if name.strip()})
    if unknown := [name for name in names if name not in known]:
        raise BuildFailed(f"SANDBOX_FAULT: found {', '.join(unknown)}; allowed is {', '.join(known)}")
    return names


def _server(package: Path) -> None:
    sources = HERE / "server"
    for file in sorted(sources.rglob("*.py")):
        _write(package / file.relative_to(sources), file.read_text("utf-8"))
    for name in VENDORED:
        _write(package / name, (GATEWAYS / name).read_text("utf-8"))
    _write(package / EVENTS.name, EVENTS.read_text("utf-8"))


def _site(public: Path, courses: Sequence[Mapping[str, Any]], faults: Sequence[str], env: Mapping[str, str]) -> None:
    script = _source("shop.js") + (_LEAK if "secret-in-bundle" in faults else "")
    assets = {
        "shop.js": _asset(public, "shop", ".js", _with_env(script, env)),
        "shop.css": _asset(public, "shop", ".css", _source("shop.css")),
    }
    listed = [course for course in courses if course["listed"]]
    items = "\n".join(_item(course) for course in listed)
    _page(public / "index.html", "Courses", _fill(_source("index.html"), {"courses": items}), assets)
    for course in listed:
        title = html.escape(course["title"])
        values = {"id": course["id"], "title": title, "cents": str(course["cents"]), "price": _rand(course["cents"])}
        main = _fill(_source("course.html"), values)
        _page(public / "courses" / f"{course['id']}.html", title, main, assets)
    for name in PAGES:
        _page(public / f"{name}.html", name.capitalize(), _source(f"{name}.html"), assets)


def _item(course: Mapping[str, Any]) -> str:
    link = f'<a href="/courses/{course["id"]}">{html.escape(course["title"])}</a>'
    return f"<li>{link} <span>{_rand(course['cents'])}</span></li>"


def _with_env(script: str, env: Mapping[str, str]) -> str:
    """Replaces what the script reads by the value's literal; an unset variable is `undefined`."""
    return _ENV.sub(lambda read: json.dumps(env[read[1]]) if read[1] in env else "undefined", script)


def _asset(public: Path, stem: str, suffix: str, text: str) -> str:
    """Writes an asset under a name that changes with its content; returns its address."""
    name = f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:10]}{suffix}"
    _write(public / "assets" / name, text)
    return f"/assets/{name}"


def _page(path: Path, title: str, main: str, assets: Mapping[str, str]) -> None:
    _write(path, _fill(_source("layout.html"), {**assets, "title": title, "main": main.strip()}))


def _fill(template: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{\{([a-z.]+)\}\}", lambda hole: values[hole[1]], template)


def _rand(cents: int) -> str:
    return f"R {cents // 100}.{cents % 100:02d}"


def _source(name: str) -> str:
    return (HERE / "site" / name).read_text("utf-8")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def main(argv: Sequence[str], env: Mapping[str, str]) -> int:
    parser = argparse.ArgumentParser(prog="build.py", description="Builds the sandbox shop into a folder.")
    parser.add_argument("--out", type=Path, default=Path("dist"), help="the folder to remake (default: dist)")
    out = parser.parse_args(argv).out
    try:
        build(out, env)
    except (BuildFailed, OSError) as error:
        sys.stderr.write(f"build: {error}\n")
        return 1
    files = [file for file in out.rglob("*") if file.is_file()]
    sys.stdout.write(f"built {out}: {len(files)} files, {sum(file.stat().st_size for file in files)} bytes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
