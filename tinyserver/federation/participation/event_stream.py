"""Big answers full of events taken apart while they arrive: the events come out one by one, nothing is held whole."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from tinyserver.outgoing.errors import AnswerMalformed, AnswerTooLarge

MAX_EVENT = 512 * 1024
"""Bytes of one event as it comes, with whatever spaces and unsigned data."""

# A whole string, a bracket, or a quotation mark whose string is not complete yet.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|["{}\[\]]', re.DOTALL)
_OPENING = (b"{", b"[")


class EventStream:
    """One JSON object on its way.

    Args:
        lists: the names of its members that are lists of events.
        values: the names of its members that are given out whole: single events, other objects, lists, numbers, true,
            false and null.
    """

    def __init__(self, lists: Collection[str], values: Collection[str] = ()) -> None:
        self._lists = {name.encode() for name in lists}
        self._values = {name.encode() for name in values}
        self._value_from: int | None = None
        self._buffer = bytearray()
        self._scanned = 0
        self._open = bytearray()
        self._name = b""
        self._begin: int | None = None
        self._is_complete = False

    def feed(self, piece: bytes) -> Iterator[tuple[str, bytes]]:
        """Take the next bytes; gives (member name, JSON text) of the events and values that are complete now.

        Raises:
            AnswerMalformed: the brackets do not match.
            AnswerTooLarge: an event is larger than `MAX_EVENT`.
        """
        self._buffer += piece
        while (match := _TOKEN.search(self._buffer, self._scanned)) is not None:
            token = match.group()
            if token == b'"':
                self._scanned = match.start()
                break
            self._scanned = match.end()
            if self._value_from is not None:
                value = bytes(self._buffer[self._value_from : match.start()]).strip(b" \t\r\n:,")
                self._value_from = None
                if value:
                    yield self._name.decode(), value
            if token[0] == ord('"'):
                if len(self._open) == 1:
                    self._name = token[1:-1]
                    self._value_from = match.end() if self._name in self._values else None
            elif token in _OPENING:
                self._enter(token, match.start())
            elif self._leave(token) and self._begin is not None:
                raw = bytes(self._buffer[self._begin : self._scanned])
                self._begin = None
                yield self._name.decode(), raw
        else:
            self._scanned = len(self._buffer)
        kept = min(at for at in (self._scanned, self._begin, self._value_from) if at is not None)
        del self._buffer[:kept]
        self._scanned -= kept
        self._begin = None if self._begin is None else self._begin - kept
        self._value_from = None if self._value_from is None else self._value_from - kept
        if len(self._buffer) > MAX_EVENT:
            raise AnswerTooLarge(f"an event is larger than {MAX_EVENT} bytes")

    def finish(self) -> None:
        """The text has ended. Raises AnswerMalformed if it is not complete."""
        if not self._is_complete:
            raise AnswerMalformed("the answer breaks off")

    def _enter(self, bracket: bytes, at: int) -> None:
        if self._is_complete or (not self._open and bracket != b"{"):
            raise AnswerMalformed("the answer is not one JSON object")
        depth = len(self._open)
        is_value = depth == 1 and self._name in self._values
        is_event = depth == 2 and bracket == b"{" and self._open[1] == ord("[") and self._name in self._lists
        if self._begin is None and (is_value or is_event):
            self._begin = at
        self._open += bracket
        if len(self._open) > 1000:
            raise AnswerMalformed("the answer is nested too deeply")

    def _leave(self, bracket: bytes) -> bool:
        """Whether the event that has begun ends with this bracket."""
        expected = b"{" if bracket == b"}" else b"["
        if not self._open or self._open[-1:] != expected:
            raise AnswerMalformed("the brackets of the answer do not match")
        self._open.pop()
        depth = len(self._open)
        self._is_complete = depth == 0
        return (depth == 1 and self._name in self._values) or (depth == 2 and self._name in self._lists)
