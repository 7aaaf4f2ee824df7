"""QR codes of links, for a terminal and for the report. Pure; needs `segno`."""

from __future__ import annotations

from collections.abc import Sequence

QUIET = 4
"""The light margin, in modules, that ISO/IEC 18004 asks for."""
_LONGEST = 1000
_HALVES = {(True, True): "█", (True, False): "▀", (False, True): "▄", (False, False): " "}


def modules(link: str) -> tuple[tuple[bool, ...], ...]:
    """The rows of the code with its quiet margin, True for dark; none where the link is too long to be scanned."""
    import segno

    if not link or len(link.encode()) > _LONGEST:
        return ()
    code = segno.make_qr(link, error="m", boost_error=False)
    return tuple(tuple(bool(module) for module in row) for row in code.matrix_iter(border=QUIET))


def as_lines(rows: Sequence[Sequence[bool]]) -> list[str]:
    """The code as text of half blocks, two rows in a line: what is drawn is dark, what is blank is light."""
    if not rows:
        return []
    blank = [False] * len(rows[0])
    padded = [*rows, blank] if len(rows) % 2 else list(rows)
    return [
        "".join(_HALVES[upper, lower] for upper, lower in zip(padded[at], padded[at + 1], strict=True))
        for at in range(0, len(padded), 2)
    ]


def as_path(rows: Sequence[Sequence[bool]]) -> str:
    """The dark modules as the data of one SVG path, in units of a module."""
    parts = []
    for y, row in enumerate(rows):
        x = 0
        while x < len(row):
            length = next((at for at in range(x, len(row)) if row[at] != row[x]), len(row)) - x
            if row[x]:
                parts.append(f"M{x} {y}h{length}v1h-{length}z")
            x += length
    return "".join(parts)
