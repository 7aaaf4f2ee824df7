"""What gives the inside of a service away in its answers: one row a kind, each pattern bounded."""

from __future__ import annotations

import re

_FOLDERS = "home|var|usr|srv|opt|app|root|etc|tmp|mnt|workspace|builds?"
_SOURCES = "py|js|mjs|cjs|ts|php|rb|go|rs|java|jar|so|conf|ya?ml|json|db|sqlite3?"
_SOFTWARE = (
    "nginx|Apache|Apache Tomcat|Jetty|Werkzeug|gunicorn|uvicorn|aiohttp|Python|PHP|OpenSSL|Express|Kestrel|openresty|"
    r"Microsoft-IIS|Caddy|Django|Laravel|Rails|ASP\.NET|LiteSpeed|Phusion Passenger"
)

_ROWS = (
    ("a Python traceback", r"Traceback \(most recent call last\)|^ {0,40}File \"[^\"\n]{1,300}\", line \d"),
    ("a Java stack trace", r"\bat [\w$.]{1,200}\([\w$]{1,80}\.(?:java|kt|scala):\d"),
    ("a Java exception", r"\bjava\.(?:lang|sql|io|util)\.\w{1,60}(?:Exception|Error)\b"),
    (
        "a JavaScript stack trace",
        r"\bat (?:[^\n()]{1,200} \()?(?:file:|node:|/|[A-Z]:\\)[^\n()]{0,300}:\d{1,7}:\d{1,7}",
    ),
    ("a .NET stack trace", r"\bat (?:System|Microsoft)\.[\w.]{1,200}\(|Server Error in '"),
    ("a PHP error", r"(?:Fatal error|Parse error|Warning|Notice)(?:</b>)?: [^\n]{1,300} on line (?:<b>)?\d"),
    ("a Ruby stack trace", r"\.rb:\d{1,7}:in [`']"),
    ("a Go stack trace", r"^goroutine \d{1,9} \[|^panic: "),
    ("a Rust panic", r"thread '[^'\n]{1,80}' panicked at"),
    ("a stack in JSON", r"\"(?:stack|stacktrace|stack_trace|backtrace|traceback)\"\s{0,9}:\s{0,9}[\[{\"]"),
    (
        "a debugger's page",
        r"Werkzeug Debugger|You're seeing this error because you have|Whoops\\|Symfony Exception|Django Version:",
    ),
    ("an error of MySQL", r"You have an error in your SQL syntax|SQLSTATE\["),
    ("an error of PostgreSQL", r"PSQLException|psycopg2?\.|syntax error at or near|PG::\w{1,40}Error"),
    ("an error of SQLite", r"sqlite3?\.\w{0,20}Error|SQLITE_[A-Z]{3,20}|near \"[^\"\n]{0,80}\": syntax error"),
    (
        "an error of a database",
        r"\bORA-\d{5}|Unclosed quotation mark|MongoServerError|Sequelize\w{1,40}Error|Prisma\w{1,40}Error",
    ),
    (
        "a path of a file",
        rf"(?<![\w.:/=\"'(-])/(?:{_FOLDERS})/[\w./@+-]{{1,300}}\.(?:{_SOURCES})\b|"
        r"\b[A-Z]:\\(?:[\w .-]{1,80}\\){1,20}[\w.-]{1,80}\.\w{1,6}\b",
    ),
    ("a version of the software", rf"\b(?:{_SOFTWARE})(?:/| v?| Version:? )\d{{1,5}}(?:\.\d{{1,5}}){{0,3}}"),
)

TELLING: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (what, re.compile(pattern, re.IGNORECASE | re.MULTILINE)) for what, pattern in _ROWS
)


def told(text: str) -> tuple[str, ...]:
    """The kinds of what a text gives away; () when it gives nothing away. Pure, and never the text itself."""
    return tuple(what for what, pattern in TELLING if pattern.search(text))
