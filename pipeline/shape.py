"""Does data have the shape of a model? Pydantic decides; what is told of it is made from the model's JSON Schema.

So an editor that follows the schema and the loader say the same, and the noise pydantic makes of unions (every
branch's complaints) becomes one sentence.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel, ValidationError

from pipeline.mistakes import Mistakes
from pipeline.names import listed, nearest
from pipeline.yaml_strict import YamlPath, shown

Schema = Mapping[str, Any]

DURATION = r"^\d+(\.\d+)? ?(ms|s|min|h|d)$"
SHARE = r"^\d+(\.\d+)? ?%$"
PATTERNS = {
    DURATION: "a duration with its unit: 500 ms, 20 s, 5 min, 1 h, 90 d",
    SHARE: "a percentage: 95%, 0.5%",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$": "a name: a letter or digit, then up to 63 letters, digits, `.`, `_`, `-`",
    r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}(:[A-Za-z0-9][A-Za-z0-9._-]{0,63})?$": (
        "a kind of checkpoint, or `kind:which`: release, command:cdn"
    ),
    r"^[A-Za-z0-9._-]{1,64}$": "1 to 64 letters, digits, `.`, `_`, `-`",
    r"^[^\x00]+$": "a path",
    r"^/[^\s?#]*$": "a URL path that begins with `/`, without `?` and `#`",
    r"^127\.0\.0\.1:\d{1,5}$": "an address of this machine with a port: 127.0.0.1:8443",
    r"^[A-Za-z_][A-Za-z0-9_]*$": "the name of a variable, never its value: letters, digits and `_`, no digit first",
    r"^\d{4}-\d{2}-\d{2}$": "a day: 2027-01-31",
    r"^(built|sha(256|384|512)-[A-Za-z0-9+/]+={0,2})$": "`built`, or a hash as in SRI: sha384-...",
    r"^[0-9a-fA-F:.]+(/\d{1,3})?$": "an address or network: 192.0.2.7, 198.51.100.0/24",
}
"""What each pattern of the spec means in words."""

_PRIVATE = re.compile(
    r"settings\.[^.]+\.default|environments\.[^.]+\.((process|allowed)(\..*)?|notices\.\d+\.(to|address_from))"
)
"""Where somebody may have put a secret by mistake: what stands there is not printed."""
_CREDENTIALS = re.compile(r"//[^/\s]*@")


def judge(model: type[BaseModel], data: object, at: YamlPath, mistakes: Mistakes) -> BaseModel | None:
    """`data` (JSON values, standing at `at` in the file) as a `model`; None, with every mistake told, if it is none."""
    tree = _Tree(_schema(model))
    unfit = False
    for path, number in _floats(data, ()):
        members = tree.members(data, path)
        if members and all(member.get("type") == "string" for member in members):
            unfit = True  # a number is no duration: it has no unit
            mistakes.add(at + path, f"the number {number:g}", described(members))
    try:
        value = model.model_validate_json(json.dumps(data))
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            _tell(tree, data, detail, at, mistakes)
        return None
    return None if unfit else value


@functools.cache
def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


def _floats(data: object, path: YamlPath) -> Iterator[tuple[YamlPath, float]]:
    if isinstance(data, float):
        yield path, data
    elif isinstance(data, Mapping):
        for key, value in data.items():
            yield from _floats(value, (*path, key))
    elif isinstance(data, Sequence) and not isinstance(data, str):
        for index, value in enumerate(data):
            yield from _floats(value, (*path, index))


# ---- the schema beside the data -----------------------------------------------------------------------------


class _Union(NamedTuple):
    """A place where the data chose none of the branches, or more than one."""

    path: YamlPath
    members: Sequence[Schema]


class _Place(NamedTuple):
    path: YamlPath
    members: Sequence[Schema]
    key: bool


class _Tree:
    """Walks a JSON Schema along a way through the data."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def members(self, data: object, path: YamlPath) -> Sequence[Schema]:
        """The schemas that stand for the value at `path`; none where the schema says nothing."""
        members: Sequence[Schema] = self._expand(self._root)
        for part in path:
            chosen = _chosen(members, data)
            members = [child for member in chosen for child in self._descend(member, part)]
            data = _child(data, part)
        return members

    def place(self, data: object, loc: Sequence[str | int]) -> _Place | _Union | None:
        """What a `loc` of pydantic means in the data. None when it speaks of a union's branch that was not meant."""
        members: Sequence[Schema] = self._expand(self._root)
        path: YamlPath = ()
        for part in loc:
            if part == "[key]":
                return _Place(path, members, key=True)
            if len(members) > 1:
                chosen = _chosen(members, data)
                if len(chosen) != 1:
                    return _Union(path, members)
                if not re.search(rf"\b{re.escape(str(chosen[0].get('title', '')))}\b", str(part)):
                    return None
                members = chosen
                continue
            members = [child for member in members for child in self._descend(member, part)]
            data = _child(data, part)
            path = (*path, part)
        return _Place(path, members, key=False)

    def _expand(self, node: Schema) -> list[Schema]:
        """The node without references, its alternatives side by side, null left out."""
        if "$ref" in node:
            return self._expand(self._root["$defs"][node["$ref"].rpartition("/")[2]])
        if "anyOf" in node:
            return [member for option in node["anyOf"] for member in self._expand(option)]
        return [] if node.get("type") == "null" else [node]

    def _descend(self, node: Schema, part: str | int) -> list[Schema]:
        if isinstance(part, int):
            items = node.get("prefixItems", ())
            below = items[part] if part < len(items) else node.get("items")
        else:
            below = node.get("properties", {}).get(part)
            if below is None:
                below = next((s for p, s in node.get("patternProperties", {}).items() if re.search(p, part)), None)
            if below is None:
                below = node.get("additionalProperties")
        return self._expand(below) if isinstance(below, Mapping) else []


def _chosen(members: Sequence[Schema], value: object) -> Sequence[Schema]:
    """Of several branches the one the data means: a mapping means the branch whose required keys it has."""
    if len(members) < 2 or not isinstance(value, Mapping):
        return members
    return [member for member in members if any(key in value for key in member.get("required", ()))]


def _child(data: object, part: str | int) -> object:
    if isinstance(data, Mapping):
        return data.get(part)
    if isinstance(data, Sequence) and isinstance(part, int) and part < len(data):
        return data[part]
    return None


# ---- what is told -------------------------------------------------------------------------------------------


def _tell(tree: _Tree, data: object, detail: Any, at: YamlPath, mistakes: Mistakes) -> None:
    place = tree.place(data, detail["loc"])
    if place is None:
        return
    value = functools.reduce(_child, place.path, data)
    path = at + place.path
    found = _kind(value) if _PRIVATE.fullmatch(_plain(path)) else told(value)
    if isinstance(place, _Union):
        _tell_union(place.members, value, found, path, mistakes)
        return
    if place.key:
        pattern = detail.get("ctx", {}).get("pattern", "")
        mistakes.add(path, f"the key `{shown(str(path[-1]))}`", PATTERNS.get(pattern, "text as a key"), key=True)
        return
    match detail["type"]:
        case "missing":
            key = str(path[-1])
            mistakes.add(path, f"no key `{key}`", f"`{key}:` with {described(place.members)}")
        case "extra_forbidden":
            parents = tree.members(data, place.path[:-1])
            parents = _chosen(parents, functools.reduce(_child, place.path[:-1], data))
            keys = {key for parent in parents for key in parent.get("properties", {})}
            key = str(path[-1])
            mistakes.add(path, f"the unknown key `{shown(key)}`", listed(keys), nearest(key, keys), key=True)
        case "too_short" if isinstance(value, Sequence) and len(value) >= detail["ctx"]["min_length"]:
            pass  # pydantic counts only the items that were right; those that were not are told already
        case "value_error":
            found, allowed = _in_words(str(detail["ctx"]["error"]), found)
            mistakes.add(path, found, allowed)
        case _:
            mistakes.add(path, found, described(place.members, value))


def _tell_union(members: Sequence[Schema], value: object, found: str, path: YamlPath, mistakes: Mistakes) -> None:
    if not isinstance(value, Mapping):
        words = [str(member["const"]) for member in members if "const" in member]
        suggestion = nearest(value, words) if isinstance(value, str) else ""
        mistakes.add(path, found, described(members), suggestion)
        return
    kinds = [key for member in members for key in member.get("required", ())]
    present = [key for key in kinds if key in value]
    allowed = "exactly one of " + ", ".join(f"`{kind}`" for kind in kinds)
    if present:
        both = " and ".join(f"`{key}`" for key in present)
        mistakes.add(path, f"{both} side by side", allowed)
        return
    unlike = ((key, nearest(str(key), kinds)) for key in value)
    key, suggestion = next(((key, kind) for key, kind in unlike if kind), ("", ""))
    keys = listed(f"`{shown(str(key))}`" for key in value)
    mistakes.add((*path, key) if key else path, f"none of them among {keys}", allowed, suggestion, key=bool(key))


def _in_words(message: str, found: str) -> tuple[str, str]:
    """Found and allowed, out of a validator's `X is allowed: examples` or `what was found; what is allowed`."""
    if " is allowed" in message:
        return found, message.replace(" is allowed", "", 1)
    before, separator, after = message.partition("; ")
    return (before, after) if separator else (found, message)


def _plain(path: YamlPath) -> str:
    return ".".join(str(part).replace(".", "_") for part in path)


def told(value: object) -> str:
    """A value as an operator reads it, on one line."""
    match value:
        case None:
            return "nothing"
        case bool():
            return f"`{str(value).lower()}`"
        case int() | float():
            return f"the number {value}"
        case str():
            return f"'{shown(_CREDENTIALS.sub('//[redacted]@', value))}'"
        case Mapping():
            keys = ", ".join(shown(str(key)) for key in list(value)[:5])
            return f"a mapping of {keys}" if value else "an empty mapping"
        case _:
            return f"a list of {len(value)}" if isinstance(value, Sequence) and value else "an empty list"


def _kind(value: object) -> str:
    """A value whose text is not printed."""
    if isinstance(value, str):
        return f"text of {len(value)} characters"
    return "a number" if isinstance(value, int | float) and not isinstance(value, bool) else told(value)


def described(members: Sequence[Schema], value: object = None) -> str:
    """What schemas allow, in words. `value` is what was found: text that lacks its quotes is told of them."""
    words = " or ".join(dict.fromkeys(_one(member) for member in members)) or "anything"
    unquoted = isinstance(value, bool | int | float)
    if unquoted and any(member.get("type") == "string" and "pattern" not in member for member in members):
        words += f', in quotes: "{str(value).lower()}"'
    return words


def _one(member: Schema) -> str:
    if "const" in member:
        return f"`{member['const']}`"
    if "enum" in member:
        return "one of " + ", ".join(map(str, member["enum"]))
    match member.get("type"):
        case "string":
            if "pattern" in member:
                return PATTERNS.get(member["pattern"], f"text of the form {member['pattern']}")
            if "maxLength" in member:
                return f"text of {member.get('minLength', 0)} to {member['maxLength']} characters"
            return "text that is not empty" if member.get("minLength") else "text"
        case "integer":
            return "a whole number" + _range(member)
        case "number":
            return "a number" + _range(member)
        case "boolean":
            return "true or false"
        case "array":
            return "a list" + _count(member)
        case "object":
            required = [f"`{key}`" for key in member.get("required", ())]
            if member.get("title") and required:
                return f"a mapping with {', '.join(required)}"
            return "a mapping that is not empty" if member.get("minProperties") else "a mapping, `key: value`"
        case _:
            return "anything"


def _range(member: Schema) -> str:
    low, high = member.get("minimum"), member.get("maximum")
    if low is not None and high is not None:
        return f" from {low} to {high}"
    if low is not None:
        return f" of at least {low}"
    return f" of at most {high}" if high is not None else ""


def _count(member: Schema) -> str:
    low, high = member.get("minItems"), member.get("maxItems")
    if low is not None and low == high:
        return f" of exactly {low}, for example [1, 2]"
    return f" of at least {low}, for example [a, b]" if low else ", for example [a, b]"
