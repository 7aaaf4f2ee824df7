"""HTML cut into tags where browsers cut it: what hides a script from a careless reader hides none from this one.

The parser of the standard library differs between its versions in where a comment, a CDATA section and a script end.
"""

from __future__ import annotations

import re
from html.parser import HTMLParser

_COMMENT_END = re.compile(r"--!?>")
_NAME_END = r"(?=[\t\n\r\f />])"


class BrowserParser(HTMLParser):
    """Must be fed a whole document at once. Source: HTML, 13.2.5, tokenization; scripts are switched on."""

    CDATA_CONTENT_ELEMENTS = (  # type: ignore[misc]  # the parser's own way to say so, final to typeshed alone
        *("script", "style", "title", "textarea"),
        *("xmp", "iframe", "noembed", "noframes", "noscript"),
    )
    """What is text up to its own end tag, so that a comment that seems to begin there is none."""

    _no_more_sections = False

    def otherwise(self, begin: int) -> None:
        """Told where markup goes on within SVG, where other rules hold, and a section here ends earlier."""

    def parse_starttag(self, i: int) -> int:
        """A tag that nothing ends is dropped, and the parser does not look for one at every `<` behind it."""
        end = super().parse_starttag(i)
        if end >= 0:
            return end
        closed = self.rawdata.find(">", i)
        return closed + 1 if closed >= 0 else len(self.rawdata)

    def parse_comment(self, i: int, report: bool = True) -> int:
        """`<!-->` and `<!--->` are empty comments, `--!>` ends one, and without an end it reaches to the last byte."""
        begin = i + len("<!--")
        for empty in (">", "->"):
            if self.rawdata.startswith(empty, begin):
                return begin + len(empty)
        end = _COMMENT_END.search(self.rawdata, begin)
        return end.end() if end else len(self.rawdata)

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """`<![CDATA[` is a comment up to the next `>`, but within SVG and MathML, where scripts are the exception."""
        end = self.rawdata.find(">", i)
        foreign = -1 if self._no_more_sections else self.rawdata.find("]]>", i)
        self._no_more_sections = foreign < 0
        if foreign > end >= 0:
            self.otherwise(foreign + len("]]>"))
        return end + 1 if end >= 0 else len(self.rawdata)

    def set_cdata_mode(self, elem: str, **_newer: object) -> None:
        self.cdata_elem = elem.lower()
        self.interesting = re.compile(rf"</{self.cdata_elem}{_NAME_END}", re.IGNORECASE)

    def parse_endtag(self, i: int) -> int:
        """A script also ends at `</script anything>`."""
        name = self.cdata_elem
        if name is None:
            return super().parse_endtag(i)
        end = self.rawdata.find(">", i)
        if not re.match(rf"</{name}{_NAME_END}", self.rawdata[i : i + len(name) + 3], re.IGNORECASE) or end < 0:
            self.handle_data(self.rawdata[i : i + 2])
            return i + 2
        self.handle_endtag(name)
        self.clear_cdata_mode()
        return end + 1
