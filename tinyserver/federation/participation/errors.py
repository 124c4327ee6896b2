"""What other servers refuse, in the words of the client-server API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from tinyserver.outgoing.errors import HttpError, OutgoingError
from tinyserver.protocol.errors import (
    ERROR_CLASSES,
    BadJson,
    IncompatibleRoomVersion,
    MatrixError,
    NotFound,
    TooLarge,
    Unknown,
    UnsupportedRoomVersion,
)

_PASSED_ON = (
    "M_FORBIDDEN",
    "M_INVITE_BLOCKED",
    "M_UNABLE_TO_GRANT_JOIN",
    "M_UNABLE_TO_AUTHORISE_JOIN",
    "M_RESOURCE_LIMIT_EXCEEDED",
    "M_NOT_FOUND",
)
"""What a user may learn of a server's refusal, the most telling first."""

Result = TypeVar("Result")


def error_for_user(error: OutgoingError, server: str) -> MatrixError:
    """What a user is told when another server refuses or cannot be asked."""
    if isinstance(error, HttpError):
        if error.errcode == "M_INCOMPATIBLE_ROOM_VERSION":
            return UnsupportedRoomVersion("This server does not know the version of that room")
        if error.errcode in _PASSED_ON:
            return ERROR_CLASSES[error.errcode](error.message or f"{server} refuses")
        return Unknown(f"{server} answered with an error: {error}", status=502)
    return Unknown(f"{server} cannot be reached: {error}", status=502)


async def ask_in_turn(servers: Iterable[str], ask: Callable[[str], Awaitable[Result]]) -> Result:
    """The answer of the first server that gives one.

    Raises:
        MatrixError: none does; the most telling refusal.
    """
    failures: list[MatrixError] = []
    for server in servers:
        try:
            return await ask(server)
        except OutgoingError as error:
            failures.append(error_for_user(error, server))
        except (BadJson, TooLarge, IncompatibleRoomVersion) as error:
            failures.append(Unknown(f"{server} answered nonsense: {error.message}", status=502))
    if not failures:
        raise NotFound("This server does not know the room, nor a server that could")
    raise min(failures, key=_rank)


def _rank(error: MatrixError) -> int:
    return _PASSED_ON.index(error.errcode) if error.errcode in _PASSED_ON else len(_PASSED_ON)
