"""A file of another server as it comes: two parts, of which the second holds it.

spec: server-server-api#get_matrixfederationv1mediadownloadmediaid
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from email.message import Message
from typing import TYPE_CHECKING

from tinyserver.outgoing.errors import AnswerMalformed

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MAX_FIRST = 64 * 1024  # bytes before the second part's content


class PartReader:
    """Reads a multipart/mixed answer of two parts.

    Args:
        content_type: the answer's header.
        pieces: the answer's body.
    """

    def __init__(self, content_type: str, pieces: AsyncIterator[bytes]) -> None:
        # Only files of other servers need it.
        from python_multipart.exceptions import FormParserError
        from python_multipart.multipart import MultipartParser

        self._pieces = pieces
        self._part = 0
        self._headers: dict[str, str] = {}
        self._name = bytearray()
        self._value = bytearray()
        self._headers_read = False
        self._content: list[bytes] = []
        self._ended = False
        self._error = FormParserError
        try:
            self._parser = MultipartParser(_boundary(content_type), self._callbacks())
        except FormParserError as error:
            raise AnswerMalformed(f"the parts of the answer cannot be told apart: {error}") from error

    async def second(self) -> dict[str, str]:
        """The headers of the second part by lower-case name. Raises AnswerMalformed, and what reading raises."""
        size = 0
        while not self._headers_read:
            piece = await anext(self._pieces, None)
            if piece is None:
                raise AnswerMalformed("the answer has no second part")
            size += len(piece)
            if size - len(piece) > _MAX_FIRST:
                raise AnswerMalformed("the first part of the answer is too long")
            self._feed(piece)
        return self._headers

    async def content(self) -> AsyncIterator[bytes]:
        """The second part's content in pieces, after `second`. Raises AnswerMalformed, and what reading raises."""
        while True:
            content, self._content = self._content, []
            for part in content:
                yield part
            if self._ended:
                return
            piece = await anext(self._pieces, None)
            if piece is None:
                raise AnswerMalformed("the answer breaks off")
            self._feed(piece)

    def _feed(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except self._error as error:
            raise AnswerMalformed(f"the parts of the answer are malformed: {error}") from error

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._on_part_begin,
            "on_part_data": self._on_part_data,
            "on_part_end": self._on_part_end,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._on_header_end,
            "on_headers_finished": self._on_headers_finished,
        }

    def _on_part_begin(self) -> None:
        self._part += 1
        self._headers = self._headers if self._part > 2 else {}

    def _on_header_end(self) -> None:
        if self._part == 2:
            self._headers[self._name.decode("latin-1").lower()] = self._value.decode("latin-1")
        self._name.clear()
        self._value.clear()

    def _on_headers_finished(self) -> None:
        self._headers_read = self._headers_read or self._part == 2

    def _on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part == 2:
            self._content.append(data[start:end])

    def _on_part_end(self) -> None:
        self._ended = self._ended or self._part == 2


def _boundary(content_type: str) -> str:
    message = Message()
    message["Content-Type"] = "".join(content_type.splitlines())
    boundary = message.get_boundary()
    if message.get_content_maintype() != "multipart" or not boundary or not boundary.isascii():
        raise AnswerMalformed("the answer does not consist of parts")
    return boundary
