"""Canonical JSON: the one encoding that signatures and hashes are made over, and JSON parsing to go with it.

:func:`encode` is strict and fast; :func:`encode_lenient` is for room versions 1 to 5, whose events may hold numbers
which canonical JSON forbids. The parsers keep every integer exact, however large, since a hash depends on it.

spec: appendices#canonical-json, rooms/v6#canonical-json
"""

import json
import re
from typing import Any, Final, NamedTuple

import msgspec
import orjson

MAX_INTEGER = 2**53 - 1
MIN_INTEGER = -MAX_INTEGER

MAX_NESTING = 100
"""How deep the objects and lists of an event may be nested. The specification has no limit, but JSON libraries do:
some stop at 128 levels, ours at 254, and an event is sent inside a few levels of other objects."""

_PLAIN_TYPES = orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_DATETIME | orjson.OPT_PASSTHROUGH_SUBCLASS
_LENIENT = orjson.OPT_SORT_KEYS | _PLAIN_TYPES
_STRICT = _LENIENT | orjson.OPT_STRICT_INTEGER

_NEGATIVE_ZERO = re.compile(rb"(?:^|[:\[,\s])-0(?:[,\]}\s]|$)")


class CanonicalJsonError(ValueError):
    """The value, or the number in the text, has no canonical JSON form."""


class JsonSyntaxError(ValueError):
    """The text is not JSON."""


def encode(value: Any) -> bytes:
    """The canonical JSON of a value of dicts with string keys, lists, strings, integers, booleans and ``None``.

    :raises CanonicalJsonError: a float, an integer outside -(2**53)+1 ... 2**53-1, a lone surrogate, anything that is
        not JSON, or more than 254 levels of nesting.
    """
    encoded = encode_checked(value)
    if _has_float(value):
        raise CanonicalJsonError("numbers must be integers")
    return encoded


def encode_checked(value: Any) -> bytes:
    """Like :func:`encode` for a value that is known to hold no floats: from an event that has been checked before.

    :raises CanonicalJsonError: as :func:`encode` does, except for floats.
    """
    try:
        return orjson.dumps(value, option=_STRICT)
    except TypeError as error:
        raise CanonicalJsonError(f"no canonical JSON: {error}") from error


def encode_lenient(value: Any) -> bytes:
    """Canonical JSON in which integers of any size, and finite floats as Python writes them, are allowed.

    :raises CanonicalJsonError: NaN, an infinity, a lone surrogate, anything that is not JSON, or too much nesting.
    """
    try:
        encoded = orjson.dumps(value, option=_LENIENT)
    except TypeError:
        return _encode_slowly(value)  # an integer beyond 64 bits, for one
    return _encode_slowly(value) if _has_float(value) else encoded


def _encode_slowly(value: Any) -> bytes:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), sort_keys=True)
        return text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise CanonicalJsonError("no canonical JSON: a value, or its nesting, is not possible in JSON") from error


def _has_float(value: Any) -> bool:
    """Whether there is a float in a value that orjson has encoded.

    MessagePack marks a float with the byte CB, which hardly ever occurs otherwise in the messages of ordinary events:
    where it is not found, no float is there. Making the message takes a third of the time of a walk in Python.
    """
    return b"\xcb" in _MESSAGE_PACK.encode(value) and survey(value).has_float


def is_nested_deeper(value: Any, encoded: bytes, levels: int) -> bool:
    """Whether a value has more than so many levels of objects and lists; ``encoded`` is its JSON.

    Usually counting the brackets answers that.
    """
    return encoded.count(b"{") + encoded.count(b"[") > levels and survey(value).depth > levels


class Survey(NamedTuple):
    """What :func:`survey` finds."""

    depth: int
    """How many levels of objects and lists there are: 0 for ``"a"``, 1 for ``{}``, 2 for ``{"a": []}``."""
    has_float: bool
    """Whether a float occurs anywhere."""


def survey(value: Any) -> Survey:
    """Walk once through a JSON value, which must not contain itself, without recursion."""
    kind = type(value)
    if kind is not dict and kind is not list and kind is not tuple:
        return Survey(0, kind is float)
    depth = 0
    has_float = False
    level = [value]
    while level:
        depth += 1
        below: list[Any] = []
        for container in level:
            for item in container.values() if type(container) is dict else container:
                kind = type(item)
                if kind is str or kind is int:
                    continue
                if kind is dict or kind is list or kind is tuple:
                    below.append(item)
                elif kind is float:
                    has_float = True
        level = below
    return Survey(depth, has_float)


def check_strict(value: Any, max_depth: int = MAX_NESTING) -> None:
    """Check that a parsed JSON value holds only what canonical JSON allows.

    :raises CanonicalJsonError: a float, an integer outside -(2**53)+1 ... 2**53-1, or more than ``max_depth`` levels
        of nesting.
    """
    level = [value]
    for _ in range(max_depth + 1):
        below: list[Any] = []
        for item in level:
            kind = type(item)
            if kind is str:
                continue
            if kind is dict:
                below += item.values()
            elif kind is list:
                below += item
            elif kind is int:
                if not MIN_INTEGER <= item <= MAX_INTEGER:
                    raise CanonicalJsonError("integers must be between -(2^53)+1 and 2^53-1")
            elif kind is float:
                raise CanonicalJsonError("numbers must be integers")
        if not below:
            return
        level = below
    raise CanonicalJsonError(f"more than {max_depth} levels of nesting")


def loads(data: bytes | str) -> Any:
    """Parse JSON. Integers are exact, however large.

    :raises JsonSyntaxError: not JSON, not UTF-8, a lone surrogate, a number beyond a double's range, or nested deeper
        than the parser can follow.
    """
    try:
        return _DECODER.decode(data)
    except UnicodeError as error:
        raise JsonSyntaxError("not valid JSON: the text is not UTF-8") from error
    except (msgspec.MsgspecError, RecursionError) as error:
        raise JsonSyntaxError(f"not valid JSON: {error}") from error


def loads_strict(data: bytes | str) -> Any:
    """Parse JSON whose numbers must all be as canonical JSON wants them: no ``1.0``, ``1e10`` or ``-0``.

    :raises JsonSyntaxError: as :func:`loads` does.
    :raises CanonicalJsonError: a number that is not an integer, is ``-0`` or is outside -(2**53)+1 ... 2**53-1; or more
        than 100 levels of nesting.
    """
    value = loads(data)
    check_strict(value)
    raw = data.encode() if isinstance(data, str) else data
    if b"-0" in raw and _NEGATIVE_ZERO.search(raw):
        # What looks like a number may also stand inside a string: the slow parser knows.
        json.loads(raw, parse_int=_check_integer_text)
    return value


def _check_integer_text(text: str) -> int:
    if text == "-0":
        raise CanonicalJsonError("-0 is not allowed")
    return int(text)


_MESSAGE_PACK: Final = msgspec.msgpack.Encoder()
_DECODER: Final = msgspec.json.Decoder()
