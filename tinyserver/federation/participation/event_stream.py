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
        objects: the names of its members that are single events.
    """

    def __init__(self, lists: Collection[str], objects: Collection[str] = ()) -> None:
        self._lists = {name.encode() for name in lists}
        self._objects = {name.encode() for name in objects}
        self._buffer = bytearray()
        self._scanned = 0
        self._open = bytearray()
        self._name = b""
        self._begin: int | None = None
        self._is_complete = False

    def feed(self, piece: bytes) -> Iterator[tuple[str, bytes]]:
        """Take the next bytes; gives (member name, JSON text) of the events that are complete now.

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
            if token[0] == ord('"'):
                if len(self._open) == 1:
                    self._name = token[1:-1]
            elif token in _OPENING:
                self._enter(token, match.start())
            elif self._leave(token) and self._begin is not None:
                raw = bytes(self._buffer[self._begin : self._scanned])
                self._begin = None
                yield self._name.decode(), raw
        else:
            self._scanned = len(self._buffer)
        kept = self._scanned if self._begin is None else self._begin
        del self._buffer[:kept]
        self._scanned -= kept
        if self._begin is not None:
            self._begin = 0
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
        is_event = (depth == 1 and self._name in self._objects) or (
            depth == 2 and self._open[1] == ord("[") and self._name in self._lists
        )
        if self._begin is None and bracket == b"{" and is_event:
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
        return (depth == 1 and self._name in self._objects) or (depth == 2 and self._name in self._lists)
