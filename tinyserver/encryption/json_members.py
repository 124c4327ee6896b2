"""Big JSON objects taken apart while they arrive: their small members are handed out one by one, nothing is held whole.

The standard library's decoder, which says where a value ends, reads the members; only the few objects around them are
read here.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

from tinyserver.protocol.errors import BadJson, NotJson, TooLarge

MAX_MEMBER = 256 * 1024
"""Characters of one member, and of its name."""

_SPACE = re.compile(r"[ \t\n\r]*")


class _State(Enum):
    BEGIN = "{"
    FIRST_NAME = "a name or }"
    NAME = "a name"
    COLON = ":"
    VALUE = "a value"
    COMMA = ", or }"
    END = "the end"


class _NeedMore(Exception):
    """What is there of the text ends within something."""


def _refuse(constant: str) -> Any:
    raise NotJson(f"{constant} is not JSON.")


_decode = json.JSONDecoder(parse_constant=_refuse).raw_decode


class JsonMembers:
    """One object on its way.

    Args:
        pattern: the names that lead from the outermost object to the members, None for any name. The values on the way
            must be objects; the other members of these are read and dropped.
    """

    def __init__(self, pattern: tuple[str | None, ...]) -> None:
        self._pattern = pattern
        self._utf8 = codecs.getincrementaldecoder("utf-8")()
        self._text = ""
        self._at = 0
        self._path: list[str] = []
        self._depth = 0
        self._state = _State.BEGIN
        self._found_first = False

    def feed(self, piece: bytes) -> Iterator[tuple[tuple[str, ...], Any]]:
        """Take the next bytes; gives (path, value) of the members that are complete now.

        Raises:
            NotJson, BadJson: the text is not JSON in UTF-8, or an object is missing on the way.
            TooLarge: a member is larger than `MAX_MEMBER`.
        """
        try:
            self._text = self._text[self._at :] + self._utf8.decode(piece)
        except UnicodeDecodeError as error:
            raise NotJson("The body of the request is not UTF-8.") from error
        self._at = 0
        while True:
            self._skip_space()
            try:
                if self._at >= len(self._text):
                    return
                found = self._step(self._text[self._at])
            except _NeedMore:
                if len(self._text) - self._at > MAX_MEMBER:
                    raise TooLarge("A member of the JSON object is too large, or is not valid JSON.") from None
                return
            if found is not None:
                yield found

    def finish(self) -> None:
        """The text has ended. Raises NotJson if it is not complete, BadJson if the way to the members is missing."""
        if self._state is not _State.END or self._utf8.getstate()[0]:
            raise NotJson(f"The body of the request is not valid JSON: {self._state.value} is missing at its end.")
        if not self._found_first:
            raise BadJson(f"The body of the request has no '{self._pattern[0]}'.")

    def _step(self, character: str) -> tuple[tuple[str, ...], Any] | None:
        state = self._state
        if state is _State.VALUE:
            return self._take_value(character)
        if state in (_State.FIRST_NAME, _State.NAME) and character == '"':
            self._path[self._depth - 1 :] = [self._read_value()]
            self._state = _State.COLON
        elif state in (_State.FIRST_NAME, _State.COMMA) and character == "}":
            self._depth -= 1
            self._go_on(_State.COMMA if self._depth else _State.END)
        elif state is _State.COMMA and character == ",":
            self._go_on(_State.NAME)
        elif state is _State.COLON and character == ":":
            self._go_on(_State.VALUE)
        elif state is _State.BEGIN and character == "{":
            self._enter()
        else:
            expected = f"{state.value} was expected, not {character!r}"
            raise NotJson(f"The body of the request is not valid JSON: {expected}.")
        return None

    def _take_value(self, character: str) -> tuple[tuple[str, ...], Any] | None:
        matches = all(wanted is None or wanted == name for wanted, name in zip(self._pattern, self._path, strict=False))
        if matches and len(self._path) == 1:
            self._found_first = True
        if matches and len(self._path) < len(self._pattern):
            if character != "{":
                raise BadJson(f"'{self._path[-1][:300]}' must be an object.")
            self._enter()
            return None
        value = self._read_value()
        self._state = _State.COMMA
        return (tuple(self._path), value) if matches else None

    def _enter(self) -> None:
        self._depth += 1
        self._go_on(_State.FIRST_NAME)

    def _go_on(self, state: _State) -> None:
        self._at += 1
        self._state = state

    def _read_value(self) -> Any:
        try:
            value, end = _decode(self._text, self._at)
        except json.JSONDecodeError:
            raise _NeedMore from None
        except RecursionError as error:
            raise BadJson("The JSON of the request is nested too deeply.") from error
        except ValueError as error:  # a number of thousands of digits
            raise BadJson(f"A number is too long: {error}.") from error
        if end >= len(self._text) or (isinstance(value, int | float) and self._text[end] not in " \t\n\r,}"):
            raise _NeedMore  # a number may be cut in two
        self._at = end
        return value

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._at)
        assert match is not None
        self._at = match.end()
